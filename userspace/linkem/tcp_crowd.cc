// See tcp_crowd.h.
#include "userspace/linkem/tcp_crowd.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "userspace/common/clock.h"
#include "userspace/common/file.h"
#include "userspace/linkem/realtime.h"

namespace adapath {
namespace {

constexpr int kPollMs = 100;  // how soon a thread sees that it is to end
constexpr uint64_t kConnectNs = 30'000'000'000;
constexpr int kPacketBytes = 1500;

Error failed(const std::string& what) { return Error{errno_text(what)}; }

void set_option(int fd, int level, int option, int value) { setsockopt(fd, level, option, &value, sizeof value); }

sockaddr_in address_of(const TcpCrowdOptions& options, uint16_t port) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = port;
    inet_pton(AF_INET, options.address.c_str(), &address.sin_addr);
    return address;
}

// A packet in a buffer costs its structure too.
int buffer_bytes(const TcpCrowdOptions& options) {
    return std::max(64 * 1024, static_cast<int>(options.window) * kPacketBytes * 4);
}

int not_sent_low(const TcpCrowdOptions& options) {
    return options.window == 0 ? options.not_sent_low
                               : std::max(16 * 1024, static_cast<int>(options.window) * kPacketBytes / 2);
}

void watch(int epoll, int fd, uint32_t events) {
    epoll_event event = {};
    event.events = events;
    event.data.fd = fd;
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
}

}  // namespace

Result<std::unique_ptr<TcpCrowd>> TcpCrowd::start(const Namespace& from, const Namespace& to,
                                                  const TcpCrowdOptions& options, StopToken& stop) {
    std::unique_ptr<TcpCrowd> flows(new TcpCrowd);
    flows->send_epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
    flows->receive_epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
    if (!flows->send_epoll_.valid() || !flows->receive_epoll_.valid()) {
        return failed("epoll");
    }
    if (Status status = flows->listen_at(to, options); !status) {
        return status.error();
    }
    flows->receive_thread_ =
        std::thread([raw = flows.get(), realtime = options.realtime] { raw->receive_loop(realtime); });
    if (Status status = flows->connect_all(from, options, stop); !status) {
        return status.error();
    }
    flows->send_thread_ = std::thread([raw = flows.get(), realtime = options.realtime] { raw->send_loop(realtime); });
    return flows;
}

TcpCrowd::~TcpCrowd() {
    quit_ = true;
    if (send_thread_.joinable()) {
        send_thread_.join();
    }
    if (receive_thread_.joinable()) {
        receive_thread_.join();
    }
    // Reset, not closed: what is still in the buffers would be sent for seconds.
    const linger at_once = {.l_onoff = 1, .l_linger = 0};
    for (const UniqueFd& fd : senders_) {
        setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
}

Status TcpCrowd::listen_at(const Namespace& to, const TcpCrowdOptions& options) {
    return to.run([&]() -> Status {
        listener_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (options.window != 0) {
            set_option(listener_.get(), SOL_SOCKET, SO_RCVBUFFORCE, buffer_bytes(options));
        }
        sockaddr_in address = address_of(options, 0);
        socklen_t length = sizeof address;
        if (bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), length) != 0 ||
            listen(listener_.get(), static_cast<int>(options.count)) != 0) {
            return failed(fmt::format("listening at {}", options.address));
        }
        getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &length);
        port_ = address.sin_port;
        watch(receive_epoll_.get(), listener_.get(), EPOLLIN);
        return {};
    });
}

Status TcpCrowd::connect_all(const Namespace& from, const TcpCrowdOptions& options, StopToken& stop) {
    Status connecting = from.run([&]() -> Status {
        const sockaddr_in address = address_of(options, port_);
        for (size_t i = 0; i < options.count; i++) {
            UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
            if (!fd.valid()) {
                return failed(fmt::format("socket {} of {}", i + 1, options.count));
            }
            if (setsockopt(fd.get(), IPPROTO_TCP, TCP_CONGESTION, options.congestion_control.data(),
                           static_cast<socklen_t>(options.congestion_control.size())) != 0) {
                return failed("congestion control " + options.congestion_control);
            }
            if (options.window != 0) {
                set_option(fd.get(), SOL_SOCKET, SO_SNDBUFFORCE, buffer_bytes(options));
            }
            if (const int low = not_sent_low(options); low != 0) {
                set_option(fd.get(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, low);
            }
            if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
                errno != EINPROGRESS) {
                return failed(fmt::format("connecting flow {} of {}", i + 1, options.count));
            }
            senders_.push_back(std::move(fd));
        }
        return {};
    });
    if (!connecting) {
        return connecting;
    }
    const uint64_t begin_ns = monotonic_ns();
    while (accepted_ < options.count) {
        if (stop.wait_for(std::chrono::milliseconds(20))) {
            return Error{"interrupted"};
        }
        if (monotonic_ns() - begin_ns > kConnectNs) {
            return Error{
                fmt::format("only {} of {} flows were connected within 30 s", accepted_.load(), options.count)};
        }
    }
    for (const UniqueFd& fd : senders_) {
        watch(send_epoll_.get(), fd.get(), EPOLLOUT);
    }
    return {};
}

void TcpCrowd::send_loop(bool realtime) {
    if (realtime) {
        (void)become_realtime();
    }
    std::array<epoll_event, 256> events = {};
    static constexpr std::array<char, 16384> nothing = {};
    while (!quit_) {
        const int ready = epoll_wait(send_epoll_.get(), events.data(), events.size(), kPollMs);
        for (int i = 0; i < ready; i++) {
            const int fd = events[static_cast<size_t>(i)].data.fd;
            if (send(fd, nothing.data(), nothing.size(), MSG_NOSIGNAL | MSG_DONTWAIT) < 0 && errno != EAGAIN) {
                epoll_ctl(send_epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
            }
        }
    }
}

void TcpCrowd::receive_loop(bool realtime) {
    if (realtime) {
        (void)become_realtime();
    }
    std::array<epoll_event, 256> events = {};
    while (!quit_) {
        const int ready = epoll_wait(receive_epoll_.get(), events.data(), events.size(), kPollMs);
        for (int i = 0; i < ready; i++) {
            const int fd = events[static_cast<size_t>(i)].data.fd;
            if (fd == listener_.get()) {
                UniqueFd accepted(accept4(fd, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
                if (accepted.valid()) {
                    watch(receive_epoll_.get(), accepted.get(), EPOLLIN);
                    receivers_.push_back(std::move(accepted));
                    accepted_++;
                }
                continue;
            }
            // MSG_TRUNC: thrown away by the kernel, not copied here.
            const ssize_t got = recv(fd, nullptr, 1 << 20, MSG_TRUNC | MSG_DONTWAIT);
            if (got > 0) {
                received_ += static_cast<uint64_t>(got);
            } else if (got == 0 || errno != EAGAIN) {
                epoll_ctl(receive_epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
            }
        }
    }
}

Status TcpCrowd::use(const std::string& congestion_control) {
    for (const UniqueFd& fd : senders_) {
        if (setsockopt(fd.get(), IPPROTO_TCP, TCP_CONGESTION, congestion_control.data(),
                       static_cast<socklen_t>(congestion_control.size())) != 0) {
            return failed("congestion control " + congestion_control);
        }
    }
    return {};
}

std::vector<TcpFlowState> TcpCrowd::states() const {
    std::vector<TcpFlowState> states;
    states.reserve(senders_.size());
    for (const UniqueFd& fd : senders_) {
        states.push_back(tcp_flow_state(fd.get()));
    }
    return states;
}

double TcpCrowd::option_memory() const {
    uint64_t sum = 0;
    for (const UniqueFd& fd : senders_) {
        std::array<uint32_t, SK_MEMINFO_VARS> info = {};
        socklen_t length = sizeof info;
        if (getsockopt(fd.get(), SOL_SOCKET, SO_MEMINFO, info.data(), &length) == 0) {
            sum += info[SK_MEMINFO_OPTMEM];
        }
    }
    return senders_.empty() ? 0 : static_cast<double>(sum) / static_cast<double>(senders_.size());
}

}  // namespace adapath
