// What was measured at each number of flows, and how it is shown: a table for the terminal, JSON, and a page with
// charts.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/scale/programs.h"

namespace adapath::scale {

// One of the three congestion controls, over all rounds.
struct Measured {
    RunTimes times;     // of all its programs
    uint64_t acks = 0;  // runs of the program that is called once per ACK
    double seconds = 0;
    uint64_t received_bytes = 0;
    uint64_t dropped_packets = 0;  // by the emulated link

    // Per ACK: all programs together.
    [[nodiscard]] double ns_per_ack() const {
        return acks != 0 ? static_cast<double>(total(times).ns) / static_cast<double>(acks) : 0;
    }
};

// How much time the programs took, how many ACKs there were and how many intervals ended, in many short windows: fitted
// by time = ns_per_ack * ACKs + ns_per_decision * intervals.
struct Windows {
    void add(double ns, double acks, double due);
    // An interval's part is told from the ACKs' only where a good part of the windows had none.
    [[nodiscard]] bool conclusive() const { return count >= 100 && without >= count / 3 && without < count; }
    [[nodiscard]] double ns_per_decision() const;

    uint64_t count = 0;
    uint64_t without = 0;                           // of them, windows in which no interval ended
    double aa = 0, ad = 0, dd = 0, an = 0, dn = 0;  // sums of products: ACKs, due, ns
};

struct Point {
    uint64_t flows = 0;
    double packets_per_s_asked = 0;
    Measured adapath;    // decides
    Measured never_due;  // the same program, no decision falls due
    Measured cubic;
    Windows windows;
    RunTime empty;  // a program that does nothing, at the same ACKs: what counting a run takes by itself

    // While adapath ran, from its counters.
    uint64_t decisions = 0;  // by the network; the rest of `due` were slow start, drains, waits for the application
    uint64_t due = 0;        // intervals that ended
    uint64_t fallbacks = 0;
    uint64_t samples = 0;
    uint64_t samples_lost = 0;
    uint64_t sequence_gaps = 0;
    uint64_t unexplained = 0;
    double daemon_cpu_percent = 0;  // of one core
    uint64_t daemon_rss_bytes = 0;
    uint64_t daemon_peak_bytes = 0;
    uint64_t status_bytes = 0;  // of the reply to GetStatus
    double status_ms = 0;
    std::string asking;      // backend userspace: what the daemon says of questions and answers, JSON
    double late_p99_us = 0;  // the emulator's own delay

    double option_memory_bytes = 0;  // a flow, charged to its socket for the daemon's kernel side alone
    std::vector<MapCost> maps;
    struct Slab {
        std::string name;
        double objects_per_flow = 0;
        uint64_t object_bytes = 0;
    };
    std::vector<Slab> slabs;  // caches that grew with the flows
    double busy_percent = 0;  // of all cores, by everything on the machine

    // An ACK at which nothing is due.
    [[nodiscard]] double ns_per_ack() const { return never_due.ns_per_ack(); }
    // What a decision adds to the ACK at which it falls due. By the windows where they are conclusive (few flows, so
    // few decisions among many ACKs); else the time that the deciding program took beyond ns_per_ack() for each of its
    // ACKs, over the intervals that ended.
    [[nodiscard]] double ns_per_decision() const;
    [[nodiscard]] double ns_per_decision_by_difference() const;
    [[nodiscard]] double ratio_to_cubic() const {
        return cubic.ns_per_ack() > 0 ? ns_per_ack() / cubic.ns_per_ack() : 0;
    }
    [[nodiscard]] double empty_ns() const {
        return empty.runs != 0 ? static_cast<double>(empty.ns) / static_cast<double>(empty.runs) : 0;
    }
    // Per ACK, without what the counting took.
    [[nodiscard]] double net_ns_per_ack(const Measured& measured) const;
    [[nodiscard]] double net_ratio_to_cubic() const {
        const double yardstick = net_ns_per_ack(cubic);
        return yardstick > 0 ? net_ns_per_ack(never_due) / yardstick : 0;
    }
    [[nodiscard]] double per_second(uint64_t count) const {
        return adapath.seconds > 0 ? static_cast<double>(count) / adapath.seconds : 0;
    }
};

struct Settings {
    double rtt_ms = 0;
    double packets_per_s = 0;
    double seconds = 0;
    uint32_t rounds = 0;
    uint32_t ring_bytes = 0;
    uint32_t interval_ms = 0;
    std::string backend;
    std::string kernel;
    std::string machine;
    std::string load;  // averages, at the start
};

[[nodiscard]] std::string to_table(const std::vector<Point>& points);
[[nodiscard]] std::string to_json(const Settings& settings, const std::vector<Point>& points);
[[nodiscard]] std::string to_page(const Settings& settings, const std::vector<Point>& points);

}  // namespace adapath::scale
