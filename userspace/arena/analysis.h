// What the raw results come to: which lines belong together, medians and ratios, and the verdicts.
#pragma once

#include <array>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "userspace/arena/cell.h"

namespace adapath::arena {

// A line of bulk, video or crowd, as far as it is compared.
struct Point {
    std::string trace;
    std::string trace_hash;
    uint64_t seed = 1;
    std::string policy;
    double capacity_bytes = 0;
    double delivered_bytes = 0;
    double received_bytes = 0;
    double share = 0;  // delivered of capacity
    double p50_ms = 0, p95_ms = 0, p99_ms = 0, mean_ms = 0;
    double queue_drops = 0;
    double retransmits = 0;
    double late_p99_us = 0;  // the emulator's
    double bound_share = 1;
    double bound_ms = 0;
    std::optional<double> cpu_us_per_mb;
    std::optional<double> bpf_ns_per_ack;
    std::optional<double> decisions;
    std::optional<double> daemon_s;
    std::optional<double> trainer_s;
    double busy_share = 0;  // of the machine's processors while it was measured
    std::string run;        // cells of one run and start were measured side by side
    // Of video only.
    double frame_p50_ms = 0, frame_p95_ms = 0;
    double stalls = 0, stall_ms = 0, skipped = 0, late_frames = 0, overrun = 0, frames = 0, kbps = 0, qp = 0;
    std::string broke;  // why the connection ended early; empty = it did not
    // Of crowd only.
    double flows = 0, jain = 0;
    const Json* line = nullptr;
};

struct FairnessPoint {
    std::string trace;
    std::string pair;
    double jain = 0;
    std::vector<double> received_bytes;  // by flow
    double p95_ms = 0;
    const Json* line = nullptr;
};

// What a policy earned on a link that changed twice: mean rewards.
struct RegimePoint {
    std::string trace;
    std::string policy;
    double phase_s = 0;
    // Of each third of the time: all of it, the first minute (or all, where that is shorter), the last third.
    struct Phase {
        double mean = 0, first = 0, last = 0;
    };
    std::array<Phase, 3> phases;
    std::vector<std::optional<double>> rewards;  // by second
    // Of a policy that learns, after the change: seconds until its reward was above the frozen one's for good (half a
    // minute at once, and the rest of the phase on the whole).
    std::optional<double> above_after_s;
    double p95_ms = 0;
    double share = 0;
    double switches = 0, rollbacks = 0;
    const Json* line = nullptr;
};

// Medians over the traces of the medians over their seeds.
struct PolicyMedians {
    std::string policy;
    size_t cells = 0;
    size_t traces = 0;
    double share = 0, received_share = 0, p50_ms = 0, p95_ms = 0, p99_ms = 0, mean_ms = 0, queue_drops = 0,
           retransmits = 0;
    std::optional<double> cpu_us_per_mb, bpf_ns_per_ack;
};

// One policy against another: medians over the traces of what each trace's median over seeds of the ratio is.
struct Ratio {
    std::string policy;
    std::string against;
    size_t traces = 0;
    double delivered = 0;
    double p95 = 0;
    double mean_delay = 0;
    std::optional<double> cpu_per_byte;
};

struct Verdict {
    std::string policy;
    std::string name;      // "p95 delay against bbr"
    std::string required;  // "at most 0.70"
    std::optional<double> value;
    bool met = false;  // false where there is no value
};

struct Analysis {
    std::vector<Point> bulk;
    std::vector<Point> video;
    std::vector<FairnessPoint> fairness;
    std::vector<RegimePoint> regimes;
    std::vector<Point> crowd;
    // Of bulk lines whose daemons stood still for a while: bytes and delays of that time, and of all other figures only
    // those that have a time of their own.
    std::vector<Point> stopped;
    std::vector<std::string> policies;  // of bulk and video, in a fixed order
    std::vector<std::string> traces;    // as they were measured
    std::vector<PolicyMedians> medians;
    std::vector<Ratio> ratios;
    std::vector<Ratio> crowd_ratios;
    std::vector<Ratio> stopped_ratios;
    std::vector<Verdict> verdicts;
    size_t left_out = 0;       // lines measured with other settings than the newest, or again since
    bool side_by_side = true;  // every trace and seed's bulk cells are of one run
};

// `lines` must outlive it.
Analysis analyse(const std::vector<Json>& lines);
Json summary_json(const Analysis& analysis);

}  // namespace adapath::arena
