// See emulator.h.
#include "userspace/linkem/emulator.h"

#include <fmt/compile.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#include <cerrno>
#include <cstring>

#include "userspace/common/clock.h"

namespace adapath {

namespace {

// Packets of one direction before the other one and the clock get their turn: about 100 microseconds of work.
constexpr size_t batch_packets = 32;

// A wake-up later than this says more about the machine than about the next packet's lag.
constexpr uint64_t wake_lag_max_ns = 200'000;
constexpr uint64_t wake_lag_samples = 16;  // of the moving average

enum EventSource : uint32_t { from_up = 0, from_down = 1, from_timer = 2, from_stop = 3 };

LinkCounters difference(const LinkCounters& now, const LinkCounters& before) {
    return {
        .arrived_packets = now.arrived_packets - before.arrived_packets,
        .arrived_bytes = now.arrived_bytes - before.arrived_bytes,
        .dropped_packets = now.dropped_packets - before.dropped_packets,
        .dropped_bytes = now.dropped_bytes - before.dropped_bytes,
        .lost_packets = now.lost_packets - before.lost_packets,
        .lost_bytes = now.lost_bytes - before.lost_bytes,
        .delivered_packets = now.delivered_packets - before.delivered_packets,
        .delivered_bytes = now.delivered_bytes - before.delivered_bytes,
    };
}

Status watch(int epoll, int fd, uint32_t events, EventSource source) {
    epoll_event event{};
    event.events = events;
    event.data.u32 = source;
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) {
        return Error{std::string("link emulator: epoll_ctl: ") + std::strerror(errno)};
    }
    return {};
}

}  // namespace

StopEvent::StopEvent() : fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

void StopEvent::request() {
    requested_.store(true, std::memory_order_release);
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = write(fd_.get(), &one, sizeof one);
}

Emulator::Emulator(Link up, Link down, StopEvent& stop, EmulatorOptions options)
    : directions_{Direction{.link = std::move(up),
                            .in = {},
                            .letter = 'u',
                            .late = {},
                            .total_late = {},
                            .delay = {},
                            .total_delay = {},
                            .last_counters = {}},
                  Direction{.link = std::move(down),
                            .in = {},
                            .letter = 'd',
                            .late = {},
                            .total_late = {},
                            .delay = {},
                            .total_delay = {},
                            .last_counters = {}}},
      stop_(stop),
      options_(std::move(options)) {}

Result<std::unique_ptr<Emulator>> Emulator::create(UniqueFd tun_a, UniqueFd tun_b, Link up, Link down, StopEvent& stop,
                                                   EmulatorOptions options) {
    std::unique_ptr<Emulator> emulator(new Emulator(std::move(up), std::move(down), stop, std::move(options)));
    auto& [to_b, to_a] = emulator->directions_;
    to_b.in = std::move(tun_a);
    to_a.in = std::move(tun_b);
    to_b.out = to_a.in.get();
    to_a.out = to_b.in.get();
    emulator->epoll_.reset(epoll_create1(EPOLL_CLOEXEC));
    emulator->timer_.reset(timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    if (!emulator->epoll_.valid() || !emulator->timer_.valid() || stop.fd() < 0) {
        return Error{std::string("link emulator: can't make epoll, timer or event: ") + std::strerror(errno)};
    }
    const int epoll = emulator->epoll_.get();
    // The timer is edge-triggered, so that it need not be read; the stop is never read either: it stays.
    const Status watched[] = {
        watch(epoll, to_b.in.get(), EPOLLIN, from_up),
        watch(epoll, to_a.in.get(), EPOLLIN, from_down),
        watch(epoll, emulator->timer_.get(), EPOLLIN | EPOLLET, from_timer),
        watch(epoll, stop.fd(), EPOLLIN, from_stop),
    };
    for (const Status& status : watched) {
        if (!status) {
            return status.error();
        }
    }
    return emulator;
}

uint64_t Emulator::now_ns() const { return monotonic_ns() - start_ns_; }

void Emulator::start() {
    start_ns_ = monotonic_ns();
    if (options_.stats_interval_ns > 0 && options_.on_stats) {
        next_report_ns_ = options_.stats_interval_ns;
    }
    if (options_.duration_ns > 0) {
        end_ns_ = options_.duration_ns;
    }
    if (options_.log != nullptr) {
        // Both clocks, so that lines can be put beside the samples of the cc app (CLOCK_MONOTONIC).
        options_.log->append(
            "# adapath-linkem packet log, version 1; times in ns; time 0 is CLOCK_MONOTONIC " +
            std::to_string(start_ns_) + " ns\n" +
            "# direction: u = a to b, d = b to a; event: r = received at the far end, q = dropped, the queue "
            "was full, l = lost on the air\n" +
            "# queue: time in the queue; late: the emulator's own delay past the due time\n"
            "time,direction,event,bytes,queue,late\n");
    }
}

Status Emulator::arm(uint64_t deadline_ns) {
    if (deadline_ns == armed_ns_) {
        return {};
    }
    itimerspec when{};
    if (deadline_ns != Link::never) {
        const uint64_t at = start_ns_ + deadline_ns;
        when.it_value.tv_sec = static_cast<time_t>(at / 1'000'000'000);
        when.it_value.tv_nsec = static_cast<long>(at % 1'000'000'000);
    }
    if (timerfd_settime(timer_.get(), TFD_TIMER_ABSTIME, &when, nullptr) != 0) {
        return Error{std::string("link emulator: timerfd_settime: ") + std::strerror(errno)};
    }
    armed_ns_ = deadline_ns;
    return {};
}

Result<bool> Emulator::step() {
    if (start_ns_ == 0) {
        start();
    }
    const uint64_t before_ns = now_ns();
    const uint64_t deadline_ns = std::min(
        {directions_[0].link.next_deadline_ns(), directions_[1].link.next_deadline_ns(), next_report_ns_, end_ns_});
    const bool due = deadline_ns <= before_ns;
    if (!due) {
        if (Status status = arm(deadline_ns); !status) {
            return status.error();
        }
    }
    epoll_event events[4];
    int count = epoll_wait(epoll_.get(), events, 4, due ? 0 : -1);
    if (count < 0) {
        if (errno != EINTR) {
            return Error{std::string("link emulator: epoll_wait: ") + std::strerror(errno)};
        }
        count = 0;
    }
    const uint64_t now = now_ns();
    for (int i = 0; i < count; i++) {
        switch (events[i].data.u32) {
            case from_stop:
                return false;
            case from_timer:
                if (now > armed_ns_) {
                    const uint64_t lag_ns = std::min(now - armed_ns_, wake_lag_max_ns);
                    wake_lag_ns_ = (wake_lag_ns_ * (wake_lag_samples - 1) + lag_ns) / wake_lag_samples;
                }
                armed_ns_ = Link::never;  // it has fired
                break;
            default:
                if (Status status = receive(directions_[events[i].data.u32]); !status) {
                    return status.error();
                }
        }
    }
    // After the reads: those are few each time, while writing a millisecond's worth of packets would make what waits in
    // the device look later than it was.
    for (Direction& direction : directions_) {
        deliver(direction, now_ns());
    }
    if (now >= next_report_ns_) {
        report(now);
        next_report_ns_ += (now - next_report_ns_) / options_.stats_interval_ns * options_.stats_interval_ns +
                           options_.stats_interval_ns;
    }
    return now < end_ns_;
}

Status Emulator::run() {
    for (;;) {
        const Result<bool> more = step();
        if (!more) {
            return more.error();
        }
        if (!*more) {
            return {};
        }
    }
}

void Emulator::deliver(Direction& direction, uint64_t now) {
    direction.link.poll(
        now,
        [&](const LinkPacket& packet) {
            const uint64_t queue_ns = packet.left_ns - packet.arrived_ns;
            if (packet.lost) {
                log_packet(direction, 'l', packet.due_ns, packet.size, queue_ns, 0);
                return;
            }
            if (write(direction.out, packet.data, packet.size) < 0) {
                // The device is down or knows no such packet; a real link would not notice either.
                direction.write_errors++;
                return;
            }
            const uint64_t done_ns = now_ns();
            const uint64_t late_ns = done_ns - packet.due_ns;
            direction.late.add(late_ns / 1000);
            direction.delay.add((packet.due_ns - packet.arrived_ns) / 1000);
            log_packet(direction, 'r', done_ns, packet.size, queue_ns, late_ns);
        },
        batch_packets);
}

Status Emulator::receive(Direction& direction) {
    for (size_t i = 0; i < batch_packets; i++) {
        const uint64_t before_ns = now_ns();
        uint8_t* room = direction.link.reserve(options_.mtu);
        const ssize_t size = read(direction.in.get(), room, options_.mtu);
        if (size <= 0) {
            if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
                direction.arrived_until_ns = std::max(direction.arrived_until_ns, before_ns);
                return {};
            }
            return Error{std::string("link emulator: can't read from the TUN device of side ") +
                         (direction.letter == 'u' ? "a" : "b") + ": " +
                         (size == 0 ? "it is gone" : std::strerror(errno))};
        }
        const uint64_t arrived_ns =
            std::max(direction.arrived_until_ns, before_ns > wake_lag_ns_ ? before_ns - wake_lag_ns_ : 0);
        direction.arrived_until_ns = arrived_ns;
        if (!direction.link.commit(static_cast<uint32_t>(size), arrived_ns)) {
            log_packet(direction, 'q', arrived_ns, static_cast<uint32_t>(size), 0, 0);
        }
    }
    return {};
}

void Emulator::report(uint64_t now) {
    EmulatorStats stats;
    stats.from_ns = report_from_ns_;
    stats.to_ns = now;
    for (Direction& direction : directions_) {
        DirectionStats& out = &direction == directions_.data() ? stats.up : stats.down;
        direction.link.serve(now);
        out = {
            .capacity_bytes = direction.link.trace().capacity_bytes(report_from_ns_, now),
            .counters = difference(direction.link.counters(), direction.last_counters),
            .queue_bytes = direction.link.queue_bytes(),
            .queue_packets = direction.link.queue_packets(),
            .write_errors = direction.write_errors - direction.last_write_errors,
            .late = direction.late,
            .delay = direction.delay,
        };
        direction.last_counters = direction.link.counters();
        direction.last_write_errors = direction.write_errors;
        direction.total_late += direction.late;
        direction.late.clear();
        direction.total_delay += direction.delay;
        direction.delay.clear();
    }
    report_from_ns_ = now;
    options_.on_stats(stats);
    if (options_.log != nullptr) {
        options_.log->flush();
    }
}

EmulatorStats Emulator::totals() {
    EmulatorStats stats;
    if (start_ns_ == 0) {
        return stats;
    }
    stats.to_ns = now_ns();
    for (Direction& direction : directions_) {
        DirectionStats& out = &direction == directions_.data() ? stats.up : stats.down;
        direction.link.serve(stats.to_ns);
        out = {
            .capacity_bytes = direction.link.trace().capacity_bytes(0, stats.to_ns),
            .counters = direction.link.counters(),
            .queue_bytes = direction.link.queue_bytes(),
            .queue_packets = direction.link.queue_packets(),
            .write_errors = direction.write_errors,
            .late = direction.total_late,
            .delay = direction.total_delay,
        };
        out.late += direction.late;
        out.delay += direction.delay;
    }
    return stats;
}

void Emulator::log_packet(const Direction& direction, char event, uint64_t time_ns, uint32_t size, uint64_t queue_ns,
                          uint64_t late_ns) {
    if (options_.log == nullptr) {
        return;
    }
    fmt::memory_buffer line;  // on the stack at this size
    fmt::format_to(fmt::appender(line), FMT_COMPILE("{},{},{},{},{},{}\n"), time_ns, direction.letter, event, size,
                   queue_ns, late_ns);
    options_.log->append({line.data(), line.size()});
}

}  // namespace adapath
