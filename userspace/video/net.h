// Sockets for sender and receiver: owned descriptors, addresses, what TCP knows of a connection, and a wake-up that
// makes a stop token end a poll().
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <utility>

#include <sys/socket.h>

#include "codegen/result.h"

namespace adapath::video {

// Owns a file descriptor.
class Fd {
public:
    Fd() = default;
    explicit Fd(int fd) : fd_(fd) {}
    Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd& operator=(Fd&& other) noexcept {
        if (this != &other) {
            reset();
            fd_ = std::exchange(other.fd_, -1);
        }
        return *this;
    }
    ~Fd() { reset(); }

    void reset();
    [[nodiscard]] int get() const { return fd_; }
    [[nodiscard]] bool valid() const { return fd_ >= 0; }

private:
    int fd_ = -1;
};

// Readable as soon as the token is stopped, so that loops wait in poll() without a timeout to look at the token.
class StopWake {
public:
    explicit StopWake(const std::stop_token& stop);
    [[nodiscard]] int fd() const { return event_.get(); }

private:
    struct Wake {
        int fd;
        void operator()() const;
    };
    Fd event_;
    std::stop_callback<Wake> callback_;
};

// "host:port", "[v6]:port"; `what` is the option's name, for errors.
struct HostPort {
    std::string host;
    std::string port;
};
Result<HostPort> parse_host_port(const std::string& text, const std::string& what);

struct ConnectOptions {
    std::string congestion_control;  // empty: the kernel's default
    int notsent_lowat = 16 * 1024;   // bytes
    int timeout_ms = 10'000;
};
// A connected, non-blocking TCP socket. Stops early with an error when the token is stopped.
Result<Fd> connect_tcp(const HostPort& to, const ConnectOptions& options, const std::stop_token& stop);

struct SocketAddress {
    sockaddr_storage address{};
    socklen_t length = 0;
};
// A non-blocking TCP socket that connects to that address: done, or failed (socket_error()), once it can be written to.
// The options' timeout is the caller's.
Result<Fd> begin_connect(const SocketAddress& to, const ConnectOptions& options);
// What went wrong since this was last asked, an errno; 0: nothing.
[[nodiscard]] int socket_error(int fd);
// Whether sockets may have it. An empty name: the kernel's default, always.
Status check_congestion_control(const std::string& name);

// A listening, non-blocking TCP socket; port 0 lets the kernel choose.
Result<Fd> listen_tcp(const HostPort& at);

[[nodiscard]] uint16_t local_port(int fd);
[[nodiscard]] std::string congestion_control_of(int fd);
[[nodiscard]] std::string peer_of(int fd);  // "10.0.0.2:41234"

// What TCP knows of a connection; 0 where this kernel does not tell.
struct TcpState {
    uint64_t delivery_rate = 0;  // bytes/s
    bool app_limited = false;    // the rate above was the application's, not the link's
    uint32_t srtt_us = 0;
    uint32_t min_rtt_us = 0;
    uint32_t retransmits = 0;    // segments, since the connection began
    uint32_t cwnd = 0;           // segments
    uint64_t pacing_rate = 0;    // bytes/s
    uint64_t notsent_bytes = 0;  // in the socket, not on the wire yet
    uint64_t backlog_bytes = 0;  // in the socket, not acknowledged yet (SIOCOUTQ): includes notsent_bytes
};
[[nodiscard]] TcpState tcp_state(int fd);

[[nodiscard]] uint64_t now_ns();  // CLOCK_MONOTONIC

// "File not found"-style text of errno, thread-safe.
[[nodiscard]] std::string errno_text(int error);

}  // namespace adapath::video
