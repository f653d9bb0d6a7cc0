// What the emulator adds to a packet's way that the emulated link did not ask for, end to end.
//
// A UDP sender in one namespace stamps each packet; the kernel stamps its arrival at the socket in the other. From the
// send times alone, a second Link (the pure one) computes when each packet would have arrived over an ideal link; the
// difference is the emulator's own delay with everything in it: the device, the loop's wake-up, the link, the write.
// The programs at both ends are not part of it: the sender has the loop's priority, and the receiver's time is the
// kernel's.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstring>
#include <thread>
#include <vector>

#include "userspace/common/clock.h"
#include "userspace/linkem/emulator.h"
#include "userspace/linkem/endpoint.h"

namespace {

using namespace adapath;

constexpr uint64_t ms = 1'000'000;
constexpr uint32_t headers = 28;  // IP and UDP

struct Stamp {
    uint64_t sequence;
    uint64_t sent_ns;
};

struct Options {
    double rate = 200;
    double load = 0.95;
    double seconds = 5;
    double delay_ms = 20;
    std::string log;
    bool no_realtime = false;
};

int fail(const std::string& message) {
    fmt::print(stderr, "linkem_own_delay: {}\n", message);
    return 1;
}

UniqueFd udp_socket(const Namespace& where, const char* local, const char* remote) {
    UniqueFd fd;
    const Status status = where.run([&]() -> Status {
        fd.reset(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        const int buffer = 64 << 20;
        setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &buffer, sizeof buffer);
        const timeval patience{.tv_sec = 1, .tv_usec = 0};
        const int on = 1;
        setsockopt(fd.get(), SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
        setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(4000);
        inet_pton(AF_INET, local, &address.sin_addr);
        if (bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
            return Error{std::string("bind: ") + std::strerror(errno)};
        }
        inet_pton(AF_INET, remote, &address.sin_addr);
        if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
            return Error{std::string("connect: ") + std::strerror(errno)};
        }
        return {};
    });
    if (!status) {
        fmt::print(stderr, "linkem_own_delay: {}\n", status.error().message);
        fd.reset();
    }
    return fd;
}

void sleep_until(uint64_t at_ns) {
    const timespec at{.tv_sec = static_cast<time_t>(at_ns / 1'000'000'000),
                      .tv_nsec = static_cast<long>(at_ns % 1'000'000'000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, nullptr) == EINTR) {
    }
}

// One packet into `buffer`; the kernel's arrival time (CLOCK_REALTIME), or 0 after a second without packets.
uint64_t receive_at(int fd, std::vector<uint8_t>& buffer) {
    iovec part{.iov_base = buffer.data(), .iov_len = buffer.size()};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(timespec))];
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    if (recvmsg(fd, &message, 0) < static_cast<ssize_t>(sizeof(Stamp))) {
        return 0;
    }
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SO_TIMESTAMPNS) {
            timespec at{};
            std::memcpy(&at, CMSG_DATA(header), sizeof at);
            return static_cast<uint64_t>(at.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(at.tv_nsec);
        }
    }
    return 0;
}

void become_realtime() {
    const sched_param parameters{.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_FIFO, &parameters) != 0) {
        fmt::print(stderr,
                   "linkem_own_delay: no real-time scheduling here; the figures contain other programs' time\n");
    }
}

// User and system time of one thread, in nanoseconds.
uint64_t thread_cpu_ns() { return clock_ns(CLOCK_THREAD_CPUTIME_ID); }

int run(const Options& options) {
    auto a = Namespace::create(Namespace::unique_name("lkbencha"));
    auto b = Namespace::create(Namespace::unique_name("lkbenchb"));
    if (!a || !b) {
        return fail((a ? b : a).error().message);
    }
    auto tun_a = open_endpoint(*a, {.device = "uplink0", .address = "10.77.0.1/30", .routes = {}});
    auto tun_b = open_endpoint(*b, {.device = "uplink1", .address = "10.77.0.2/30", .routes = {}});
    if (!tun_a || !tun_b) {
        return fail((tun_a ? tun_b : tun_a).error().message);
    }
    const UniqueFd sender = udp_socket(*a, "10.77.0.1", "10.77.0.2");
    const UniqueFd receiver = udp_socket(*b, "10.77.0.2", "10.77.0.1");
    auto trace = Trace::constant(options.rate);
    if (!sender.valid() || !receiver.valid() || !trace) {
        return fail(trace ? "no sockets" : trace.error().message);
    }
    std::unique_ptr<BackgroundWriter> log;
    if (!options.log.empty()) {
        auto opened = BackgroundWriter::open(options.log);
        if (!opened) {
            return fail(opened.error().message);
        }
        log = std::move(*opened);
    }
    const LinkOptions link_options{.delay_ns = static_cast<uint64_t>(options.delay_ms * 1e6), .queue_bytes = 64 << 20};
    StopEvent stop;
    auto emulator = Emulator::create(std::move(*tun_a), std::move(*tun_b), Link(*trace, link_options),
                                     Link(*trace, link_options), stop, {.on_stats = {}, .log = log.get()});
    if (!emulator) {
        return fail(emulator.error().message);
    }
    Status ended;
    uint64_t cpu_ns = 0;
    std::thread loop([&] {
        if (!options.no_realtime) {
            become_realtime();
        }
        ended = (*emulator)->run();
        cpu_ns = thread_cpu_ns();
    });

    constexpr uint32_t packet_bytes = 1500;
    const double bytes_per_ns = options.rate * options.load / 8000;
    const auto count = static_cast<uint64_t>(options.seconds * 1e9 * bytes_per_ns / packet_bytes);
    std::vector<uint64_t> sent(count), received(count, 0);
    uint64_t got = 0;
    const uint64_t wall_ns = clock_ns(CLOCK_REALTIME) - monotonic_ns();  // the two run alike over a few seconds
    std::thread receiving([&] {
        std::vector<uint8_t> buffer(packet_bytes);
        while (got < count) {
            const uint64_t at_ns = receive_at(receiver.get(), buffer);
            if (at_ns == 0) {
                return;  // the rest is lost
            }
            Stamp stamp{};
            std::memcpy(&stamp, buffer.data(), sizeof stamp);
            received.at(stamp.sequence) = at_ns - wall_ns;
            got++;
        }
    });
    become_realtime();  // after the other threads began: they must not inherit it
    std::vector<uint8_t> buffer(packet_bytes - headers);
    const uint64_t begin_ns = monotonic_ns() + ms;
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t at_ns = begin_ns + static_cast<uint64_t>(static_cast<double>(i) * packet_bytes / bytes_per_ns);
        if (monotonic_ns() < at_ns) {
            sleep_until(at_ns);
        }
        sent[i] = monotonic_ns();
        const Stamp stamp{i, sent[i]};
        std::memcpy(buffer.data(), &stamp, sizeof stamp);
        if (send(sender.get(), buffer.data(), buffer.size(), 0) < 0) {
            return fail(std::string("send: ") + std::strerror(errno));
        }
    }
    const double seconds = static_cast<double>(monotonic_ns() - begin_ns) / 1e9;
    receiving.join();
    stop.request();
    loop.join();
    if (!ended) {
        return fail(ended.error().message);
    }
    EmulatorStats totals = (*emulator)->totals();

    // The ideal link, fed with the times at which the packets were sent.
    Link ideal(*trace, link_options);
    std::vector<uint64_t> due;
    const auto collect = [&](const LinkPacket& out) { due.push_back(out.due_ns + (*emulator)->start_ns()); };
    const std::vector<uint8_t> packet(packet_bytes);
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t now_ns = sent[i] - (*emulator)->start_ns();
        ideal.poll(now_ns, collect);
        ideal.push(packet, now_ns);
    }
    ideal.poll(Link::never - 1 - link_options.delay_ns, collect);

    // A packet sent within microseconds of an opportunity may get it or the next one: a millisecond early or late.
    // Those that came early are shown too, so that being early can't hide being late.
    Histogram own;
    Histogram early;
    for (uint64_t i = 0; i < count; i++) {
        if (received[i] != 0) {
            own.add(received[i] > due[i] ? (received[i] - due[i]) / 1000 : 0);
            early.add(received[i] < due[i] ? (due[i] - received[i]) / 1000 : 0);
        }
    }
    fmt::print("sent {} packets of {} bytes in {:.2f} s: {:.1f} Mbit/s over a link of {:.1f} Mbit/s\n", count,
               packet_bytes, seconds, static_cast<double>(count) * packet_bytes * 8e-6 / seconds, options.rate);
    fmt::print("received {} packets, lost {}\n", got, count - got);
    fmt::print("own delay, end to end: p50 {} us, p99 {} us, p99.9 {} us, max {} us\n", own.quantile(0.5),
               own.quantile(0.99), own.quantile(0.999), own.max());
    fmt::print("too early: p99 {} us, p99.9 {} us, max {} us\n", early.quantile(0.99), early.quantile(0.999),
               early.max());
    fmt::print("of it past the due time in the loop: p50 {} us, p99 {} us, max {} us\n", totals.up.late.quantile(0.5),
               totals.up.late.quantile(0.99), totals.up.late.max());
    fmt::print("loop's CPU: {:.1f} % of one core, {:.2f} us a packet\n", static_cast<double>(cpu_ns) / seconds * 1e-7,
               static_cast<double>(cpu_ns) / 1e3 / static_cast<double>(got));
    return got == count ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    CLI::App app{
        "Measures what the link emulator adds to a packet's way. Needs root. Exit codes: 0 all packets came, 1 not"};
    app.add_option("--rate", options.rate, "Of the constant link, Mbit/s")
        ->capture_default_str()
        ->check(CLI::Range(1.0, 10000.0));
    app.add_option("--load", options.load, "Sent share of the rate, 0 to 1")
        ->capture_default_str()
        ->check(CLI::Range(0.01, 1.0));
    app.add_option("--seconds", options.seconds, "Length")->capture_default_str()->check(CLI::Range(0.1, 3600.0));
    app.add_option("--delay", options.delay_ms, "Propagation delay, ms")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 10000.0));
    app.add_option("--log", options.log, "Also write the emulator's packet log to this file");
    app.add_flag("--no-realtime", options.no_realtime, "Without real-time scheduling");
    CLI11_PARSE(app, argc, argv);
    return run(options);
}
