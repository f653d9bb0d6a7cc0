// See tcp_flow.h.
#include "userspace/linkem/tcp_flow.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fmt/format.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>

#include "userspace/linkem/realtime.h"

namespace adapath {
namespace {

Status run_in(const Namespace* where, const std::function<Status()>& work) {
    return where != nullptr ? where->run(work) : work();
}

constexpr std::chrono::milliseconds application_tick{20};

Error failed(const char* what) { return Error{fmt::format("{}: {}", what, std::strerror(errno))}; }

template <typename T>
void set_unless_zero(int fd, int level, int option, T value) {
    if (value != 0) setsockopt(fd, level, option, &value, sizeof(value));
}

}  // namespace

TcpFlowOptions over_loopback(const std::string& congestion_control) {
    TcpFlowOptions options;
    options.congestion_control = congestion_control;
    options.segment = 1400;
    options.send_buffer = 64 * 1024;
    options.most_bytes_per_s = 10'000'000;
    return options;
}

Result<std::unique_ptr<TcpFlow>> TcpFlow::start(const TcpFlowOptions& options) {
    std::unique_ptr<TcpFlow> flow(new TcpFlow);
    if (Status status = flow->connect(options); !status) return status.error();
    flow->run(options.realtime);
    return flow;
}

Status TcpFlow::connect(const TcpFlowOptions& options) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    inet_pton(AF_INET, options.address.c_str(), &address.sin_addr);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    Status status = run_in(options.to, [&]() -> Status {
        listener_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        socklen_t length = sizeof(address);
        if (bind(listener_.get(), generic, length) != 0 || listen(listener_.get(), 1) != 0) return failed("listen");
        getsockname(listener_.get(), generic, &length);
        return {};
    });
    if (!status) return status;
    status = run_in(options.from, [&]() -> Status {
        sender_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const int fd = sender_.get();
        if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, options.congestion_control.data(),
                       static_cast<socklen_t>(options.congestion_control.size())) != 0)
            return failed(("congestion control " + options.congestion_control).c_str());
        set_unless_zero(fd, IPPROTO_TCP, TCP_MAXSEG, options.segment);
        set_unless_zero(fd, SOL_SOCKET, SO_SNDBUF, options.send_buffer);
        set_unless_zero(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, options.not_sent_low);
        set_unless_zero(fd, SOL_SOCKET, SO_MAX_PACING_RATE, options.most_bytes_per_s);
        return ::connect(fd, generic, sizeof(address)) == 0 ? Status() : failed("connect");
    });
    if (!status) return status;
    receiver_ = UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    return receiver_.valid() ? Status() : failed("accept");
}

void TcpFlow::run(bool realtime) {
    read_thread_ = std::thread([this, realtime] {
        if (realtime) (void)become_realtime();
        std::array<char, 65536> buffer;
        ssize_t got = 0;
        while ((got = read(receiver_.get(), buffer.data(), buffer.size())) > 0) received_ += static_cast<uint64_t>(got);
    });
    write_thread_ = std::thread([this, realtime] {
        if (realtime) (void)become_realtime();
        std::array<char, 16384> buffer = {};
        using Clock = std::chrono::steady_clock;
        Clock::time_point next = Clock::now();
        while (!stop_) {
            size_t want = buffer.size();
            if (const uint64_t most = application_bytes_per_s_; most != 0) {
                // A little every 20 ms, as an application that has little to say; what it could not write it forgets.
                next = std::max(next + application_tick, Clock::now());
                std::this_thread::sleep_until(next);
                want = std::clamp<uint64_t>(most * application_tick / std::chrono::seconds(1), 1, buffer.size());
            }
            const ssize_t put = send(sender_.get(), buffer.data(), want, MSG_NOSIGNAL);
            if (put <= 0) break;
            sent_ += static_cast<uint64_t>(put);
        }
        shutdown(sender_.get(), SHUT_WR);
    });
}

void TcpFlow::join() {
    stop_ = true;
    if (write_thread_.joinable()) write_thread_.join();
    if (read_thread_.joinable()) read_thread_.join();
    listener_.reset();
    sender_.reset();
    receiver_.reset();
}

bool TcpFlow::finish() {
    join();
    return sent_ == received_;
}

void TcpFlow::cancel() {
    stop_ = true;
    // Wakes both threads, whatever they wait for, without a word to the other side: the link may be gone.
    const linger none{.l_onoff = 1, .l_linger = 0};
    setsockopt(sender_.get(), SOL_SOCKET, SO_LINGER, &none, sizeof(none));
    shutdown(sender_.get(), SHUT_RDWR);
    shutdown(receiver_.get(), SHUT_RDWR);
    join();
}

TcpFlowState tcp_flow_state(int fd) {
    tcp_info info = {};
    socklen_t bytes = sizeof(info);
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0) return {};
    return {.retransmitted_segments = info.tcpi_total_retrans,
            .retransmitted_bytes = info.tcpi_bytes_retrans,
            .acked_bytes = info.tcpi_bytes_acked,
            .min_rtt_us = info.tcpi_min_rtt,
            .rtt_us = info.tcpi_rtt};
}

TcpFlow::~TcpFlow() { finish(); }

}  // namespace adapath
