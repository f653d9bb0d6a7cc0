// The event loop that moves packets between two TUN devices through one Link each way. One thread; epoll and a timer of
// nanosecond resolution; packets are read straight into the link's ring and written straight from it.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>

#include "codegen/result.h"
#include "userspace/common/unique_fd.h"
#include "userspace/linkem/background_writer.h"
#include "userspace/linkem/histogram.h"
#include "userspace/linkem/link.h"

namespace adapath {

// Asks an emulator to stop, from any thread.
class StopEvent {
public:
    StopEvent();
    void request();
    [[nodiscard]] bool requested() const { return requested_.load(std::memory_order_acquire); }
    [[nodiscard]] int fd() const { return fd_.get(); }

private:
    UniqueFd fd_;
    std::atomic<bool> requested_{false};
};

// What happened in one direction between two times.
struct DirectionStats {
    uint64_t capacity_bytes = 0;  // that the trace offered
    LinkCounters counters;
    uint64_t queue_bytes = 0;    // at the end
    uint64_t queue_packets = 0;  // at the end
    uint64_t write_errors = 0;   // the device refused the packet
    Histogram late;  // microseconds from a packet's due time to the end of its write: the emulator's own delay
    // Microseconds from a delivered packet's arrival at the queue to its due time at the far end: waiting, service and
    // propagation, without the emulator's own delay.
    DelayHistogram delay;
};

struct EmulatorStats {
    uint64_t from_ns = 0;  // since the emulator's start
    uint64_t to_ns = 0;
    DirectionStats up;  // from a (gateway) to b (server)
    DirectionStats down;
};

struct EmulatorOptions {
    uint32_t mtu = 1500;
    uint64_t duration_ns = 0;        // 0 = until stopped
    uint64_t stats_interval_ns = 0;  // 0 = no on_stats
    std::function<void(const EmulatorStats&)> on_stats;
    BackgroundWriter* log = nullptr;  // a line a packet, as log_header() says; not owned
};

class Emulator {
public:
    // tun_a and tun_b must not block. The trace of both links begins at the first step.
    static Result<std::unique_ptr<Emulator>> create(UniqueFd tun_a, UniqueFd tun_b, Link up, Link down, StopEvent& stop,
                                                    EmulatorOptions options);
    Emulator(const Emulator&) = delete;
    Emulator& operator=(const Emulator&) = delete;

    // Waits for the next thing to do and does it. False: stopped, or the duration is over.
    Result<bool> step();
    // Steps until the end.
    Status run();
    // Since the start.
    [[nodiscard]] EmulatorStats totals();
    // CLOCK_MONOTONIC at the start; 0 before.
    [[nodiscard]] uint64_t start_ns() const { return start_ns_; }

private:
    struct Direction {
        Link link;
        UniqueFd in;  // `out` is the other direction's `in`
        int out = -1;
        char letter = '?';
        uint64_t write_errors = 0;
        Histogram late;  // of the present interval; older ones are in total_late
        Histogram total_late;
        DelayHistogram delay;  // the same
        DelayHistogram total_delay;
        uint64_t arrived_until_ns = 0;  // whatever is read next arrived after this
        LinkCounters last_counters;
        uint64_t last_write_errors = 0;
    };

    Emulator(Link up, Link down, StopEvent& stop, EmulatorOptions options);
    [[nodiscard]] uint64_t now_ns() const;
    void start();
    Status arm(uint64_t deadline_ns);
    void deliver(Direction& direction, uint64_t now_ns);
    Status receive(Direction& direction);
    void report(uint64_t now_ns);
    void log_packet(const Direction& direction, char event, uint64_t time_ns, uint32_t size, uint64_t queue_ns,
                    uint64_t late_ns);

    std::array<Direction, 2> directions_;  // up, down
    StopEvent& stop_;
    EmulatorOptions options_;
    UniqueFd epoll_;
    UniqueFd timer_;
    uint64_t armed_ns_ = Link::never;
    // How late the timer woke us, on average: taken off the arrival times, which suffer from the same lateness. Without
    // this every packet that comes shortly before an opportunity would miss it and leave a millisecond late.
    uint64_t wake_lag_ns_ = 0;
    uint64_t start_ns_ = 0;
    uint64_t report_from_ns_ = 0;
    uint64_t next_report_ns_ = Link::never;
    uint64_t end_ns_ = Link::never;
};

}  // namespace adapath
