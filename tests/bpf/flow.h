// A real TCP flow over loopback with a given congestion control, for as long as the object lives.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <thread>

namespace adapath::testing {

class LoopbackFlow {
public:
    explicit LoopbackFlow(const std::string& congestion_control) {
        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address = {};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof(address);
        if (bind(listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(listener_, 1) != 0) return;
        getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length);
        sender_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (setsockopt(sender_, IPPROTO_TCP, TCP_CONGESTION, congestion_control.data(),
                       static_cast<socklen_t>(congestion_control.size())) != 0)
            return;
        // Loopback has no bottleneck, and four unbounded flows would leave a small machine no time for the test itself.
        // Ethernet's segment size instead of loopback's 64 KiB: a random policy ends at the least rate, which is then still
        // several packets a second.
        const int segment = 1400;
        setsockopt(sender_, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment));
        // Little in the socket, so that the end of the flow does not wait for megabytes at a low rate.
        const int buffer = 64 * 1024;
        setsockopt(sender_, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer));
        const uint64_t bytes_per_s = 10'000'000;
        setsockopt(sender_, SOL_SOCKET, SO_MAX_PACING_RATE, &bytes_per_s, sizeof(bytes_per_s));
        if (connect(sender_, reinterpret_cast<sockaddr*>(&address), length) != 0) return;
        receiver_ = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
        ok_ = receiver_ >= 0;
        read_thread_ = std::thread([this] {
            std::array<char, 65536> buffer;
            ssize_t got = 0;
            while ((got = read(receiver_, buffer.data(), buffer.size())) > 0) received_ += static_cast<size_t>(got);
        });
        write_thread_ = std::thread([this] {
            std::array<char, 65536> buffer = {};
            while (!stop_) {
                const ssize_t put = send(sender_, buffer.data(), buffer.size(), MSG_NOSIGNAL);
                if (put <= 0) break;
                sent_ += static_cast<size_t>(put);
            }
            shutdown(sender_, SHUT_WR);
        });
    }
    LoopbackFlow(const LoopbackFlow&) = delete;
    LoopbackFlow& operator=(const LoopbackFlow&) = delete;
    ~LoopbackFlow() { finish(); }

    // Ends the flow; true if all that was sent has arrived.
    bool finish() {
        stop_ = true;
        if (write_thread_.joinable()) write_thread_.join();
        if (read_thread_.joinable()) read_thread_.join();
        for (int* fd : {&listener_, &sender_, &receiver_}) {
            if (*fd >= 0) close(*fd);
            *fd = -1;
        }
        return ok_ && sent_ == received_;
    }
    [[nodiscard]] bool ok() const { return ok_; }
    [[nodiscard]] size_t received() const { return received_; }

private:
    int listener_ = -1;
    int sender_ = -1;
    int receiver_ = -1;
    bool ok_ = false;
    std::atomic<bool> stop_ = false;
    std::atomic<size_t> sent_ = 0;
    std::atomic<size_t> received_ = 0;
    std::thread read_thread_;
    std::thread write_thread_;
};

}  // namespace adapath::testing
