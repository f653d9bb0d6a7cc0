// Sockets for sender and receiver.
#include "userspace/video/net.h"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fstream>
#include <memory>
#include <system_error>

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>

namespace adapath::video {

namespace {

// A sender gives up on a link that has been dead this long; longer than any handover or reboot of a modem that one
// would want to ride out.
constexpr int user_timeout_ms = 30'000;

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Result<Addresses> resolve(const HostPort& at, int flags) {
    addrinfo hints{};
    hints.ai_family = AF_UNSPEC;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = flags;
    addrinfo* found = nullptr;
    if (int error = getaddrinfo(at.host.empty() ? nullptr : at.host.c_str(), at.port.c_str(), &hints, &found);
        error != 0) {
        return Error{fmt::format("cannot resolve {}:{}: {}", at.host, at.port, gai_strerror(error))};
    }
    return Addresses(found, &freeaddrinfo);
}

Status set_int(int fd, int level, int option, int value, const char* name) {
    if (setsockopt(fd, level, option, &value, sizeof value) != 0) {
        return Error{fmt::format("setsockopt {} = {}: {}", name, value, errno_text(errno))};
    }
    return {};
}

std::string available_congestion_controls() {
    std::ifstream file("/proc/sys/net/ipv4/tcp_available_congestion_control");
    std::string line;
    std::getline(file, line);
    return line;
}

Status set_congestion_control(int fd, const std::string& name) {
    if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size())) == 0) {
        return {};
    }
    if (errno == EPERM) {
        return Error{
            fmt::format("congestion control '{}' is not allowed to unprivileged users: add it to "
                        "net.ipv4.tcp_allowed_congestion_control, or run with CAP_NET_ADMIN",
                        name)};
    }
    return Error{
        fmt::format("the kernel has no congestion control '{}' ({}); it has: {}. Register it first (adapathd does "
                    "for its own), or load its module",
                    name, errno_text(errno), available_congestion_controls())};
}

std::string address_text(const sockaddr_storage& address) {
    char text[INET6_ADDRSTRLEN] = "?";
    if (address.ss_family == AF_INET) {
        const auto& v4 = reinterpret_cast<const sockaddr_in&>(address);
        inet_ntop(AF_INET, &v4.sin_addr, text, sizeof text);
        return fmt::format("{}:{}", text, ntohs(v4.sin_port));
    }
    const auto& v6 = reinterpret_cast<const sockaddr_in6&>(address);
    inet_ntop(AF_INET6, &v6.sin6_addr, text, sizeof text);
    return fmt::format("[{}]:{}", text, ntohs(v6.sin6_port));
}

// Waits for a connect() under way. 0 or an errno; ECANCELED when stopped.
int wait_connected(int fd, int stop_fd, int timeout_ms) {
    uint64_t end = now_ns() + static_cast<uint64_t>(timeout_ms) * 1'000'000;
    for (;;) {
        uint64_t now = now_ns();
        if (now >= end) {
            return ETIMEDOUT;
        }
        pollfd fds[2] = {{fd, POLLOUT, 0}, {stop_fd, POLLIN, 0}};
        int ready = poll(fds, 2, static_cast<int>((end - now) / 1'000'000) + 1);
        if (ready < 0 && errno != EINTR) {
            return errno;
        }
        if (ready > 0 && fds[1].revents != 0) {
            return ECANCELED;
        }
        if (ready > 0 && fds[0].revents != 0) {
            return socket_error(fd);
        }
    }
}

// Of a socket that is not connected yet.
Status set_options(int fd, const ConnectOptions& options) {
    // Before connecting, so that the whole life of the connection is under one congestion control.
    if (!options.congestion_control.empty()) {
        if (Status set = set_congestion_control(fd, options.congestion_control); !set) {
            return set;
        }
    }
    // Frames are written whole; their last segment must not wait for an ACK (Nagle).
    if (Status set = set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY"); !set) {
        return set;
    }
    if (Status set = set_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, options.notsent_lowat, "TCP_NOTSENT_LOWAT"); !set) {
        return set;
    }
    return set_int(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, user_timeout_ms, "TCP_USER_TIMEOUT");
}

}  // namespace

void Fd::reset() {
    if (fd_ >= 0) {
        ::close(fd_);
        fd_ = -1;
    }
}

void StopWake::Wake::operator()() const {
    uint64_t one = 1;
    // Can only fail when the counter is full, and then it is readable anyway.
    [[maybe_unused]] ssize_t written = write(fd, &one, sizeof one);
}

StopWake::StopWake(const std::stop_token& stop)
    : event_([] {
          int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
          if (fd < 0) {
              throw std::system_error(errno, std::generic_category(), "eventfd");  // out of descriptors at start
          }
          return fd;
      }()),
      callback_(stop, Wake{event_.get()}) {}

Result<HostPort> parse_host_port(const std::string& text, const std::string& what) {
    Error wrong{fmt::format("{} '{}': expected HOST:PORT, such as 10.0.0.2:5600 or [::1]:5600", what, text)};
    HostPort result;
    size_t colon = text.rfind(':');
    if (colon == std::string::npos || colon + 1 == text.size()) {
        return wrong;
    }
    result.port = text.substr(colon + 1);
    result.host = text.substr(0, colon);
    if (!result.host.empty() && result.host.front() == '[') {
        if (result.host.back() != ']') {
            return wrong;
        }
        result.host = result.host.substr(1, result.host.size() - 2);
    } else if (result.host.find(':') != std::string::npos) {
        return wrong;
    }
    bool digits = result.port.size() <= 5 && result.port.find_first_not_of("0123456789") == std::string::npos;
    if (!digits || std::stoul(result.port) > 65535) {
        return Error{fmt::format("{} '{}': the port must be a number from 0 to 65535", what, text)};
    }
    return result;
}

Result<Fd> connect_tcp(const HostPort& to, const ConnectOptions& options, const std::stop_token& stop) {
    Result<Addresses> addresses = resolve(to, AI_ADDRCONFIG);
    if (!addresses) {
        return addresses.error();
    }
    StopWake wake(stop);
    std::string last = "no address";
    for (const addrinfo* at = addresses->get(); at != nullptr; at = at->ai_next) {
        Fd fd(socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
        if (!fd.valid()) {
            last = errno_text(errno);
            continue;
        }
        if (Status set = set_options(fd.get(), options); !set) {
            return set.error();
        }
        int error = connect(fd.get(), at->ai_addr, at->ai_addrlen) == 0 ? 0 : errno;
        if (error == EINPROGRESS) {
            error = wait_connected(fd.get(), wake.fd(), options.timeout_ms);
        }
        if (error == 0) {
            return fd;
        }
        last = errno_text(error);
        if (error == ECANCELED) {
            break;
        }
    }
    return Error{fmt::format("cannot connect to {}:{}: {}", to.host, to.port, last)};
}

Result<Fd> begin_connect(const SocketAddress& to, const ConnectOptions& options) {
    Fd fd(socket(to.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
    if (!fd.valid()) {
        return Error{errno_text(errno)};
    }
    if (Status set = set_options(fd.get(), options); !set) {
        return set.error();
    }
    if (connect(fd.get(), reinterpret_cast<const sockaddr*>(&to.address), to.length) != 0 && errno != EINPROGRESS) {
        return Error{errno_text(errno)};
    }
    return fd;
}

int socket_error(int fd) {
    int error = 0;
    socklen_t length = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) == 0 ? error : errno;
}

Status check_congestion_control(const std::string& name) {
    if (name.empty()) {
        return {};
    }
    const Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
    if (!fd.valid()) {
        return Error{fmt::format("a socket: {}", errno_text(errno))};
    }
    return set_congestion_control(fd.get(), name);
}

Result<Fd> listen_tcp(const HostPort& at) {
    Result<Addresses> addresses = resolve(at, AI_PASSIVE);
    if (!addresses) {
        return addresses.error();
    }
    std::string last = "no address";
    for (const addrinfo* address = addresses->get(); address != nullptr; address = address->ai_next) {
        Fd fd(socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
        if (!fd.valid()) {
            last = errno_text(errno);
            continue;
        }
        if (Status set = set_int(fd.get(), SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR"); !set) {
            return set.error();
        }
        // A sender whose machine vanished sends nothing, not even a FIN; inherited by accepted sockets. Dead after 25
        // s.
        (void)set_int(fd.get(), SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE");
        (void)set_int(fd.get(), IPPROTO_TCP, TCP_KEEPIDLE, 10, "TCP_KEEPIDLE");
        (void)set_int(fd.get(), IPPROTO_TCP, TCP_KEEPINTVL, 5, "TCP_KEEPINTVL");
        (void)set_int(fd.get(), IPPROTO_TCP, TCP_KEEPCNT, 3, "TCP_KEEPCNT");
        if (bind(fd.get(), address->ai_addr, address->ai_addrlen) == 0 && listen(fd.get(), 64) == 0) {
            return fd;
        }
        last = errno_text(errno);
    }
    return Error{fmt::format("cannot listen on {}:{}: {}", at.host, at.port, last)};
}

uint16_t local_port(int fd) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
        return 0;
    }
    return address.ss_family == AF_INET ? ntohs(reinterpret_cast<sockaddr_in&>(address).sin_port)
                                        : ntohs(reinterpret_cast<sockaddr_in6&>(address).sin6_port);
}

std::string congestion_control_of(int fd) {
    char name[32] = "";
    socklen_t length = sizeof name - 1;
    if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &length) != 0) {
        return "";
    }
    return name;
}

std::string peer_of(int fd) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    return getpeername(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0 ? address_text(address)
                                                                                : "a closed peer";
}

TcpState tcp_state(int fd) {
    TcpState state;
    tcp_info info{};  // an older kernel fills less; the rest stays 0
    socklen_t length = sizeof info;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0) {
        state.delivery_rate = info.tcpi_delivery_rate;
        state.app_limited = info.tcpi_delivery_rate_app_limited != 0;
        state.srtt_us = info.tcpi_rtt;
        state.min_rtt_us = info.tcpi_min_rtt;
        state.retransmits = info.tcpi_total_retrans;
        state.cwnd = info.tcpi_snd_cwnd;
        state.pacing_rate = info.tcpi_pacing_rate;
        state.notsent_bytes = info.tcpi_notsent_bytes;
    }
    int bytes = 0;
    if (ioctl(fd, SIOCOUTQ, &bytes) == 0 && bytes > 0) {
        state.backlog_bytes = static_cast<uint64_t>(bytes);
    }
    return state;
}

uint64_t now_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

std::string errno_text(int error) { return std::generic_category().message(error); }

}  // namespace adapath::video
