// From a recording to the figures that are the demo's claim, and the verdict on each. Pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "userspace/demo/recording.h"

namespace adapath::demo {

// Nearest rank; 0 of nothing. `values` need not be sorted.
[[nodiscard]] double percentile(std::vector<double> values, double percent);

struct Spread {
    uint64_t count = 0;
    double p50 = 0;
    double p99 = 0;
    double max = 0;
};
[[nodiscard]] Spread spread_of(const std::vector<double>& values);

// Time between consecutive decisions of a flow, milliseconds. But for `all`, without the time in which the uplink had
// no room for a single packet (where the recording has the link).
struct Gaps {
    Spread all;
    Spread away;       // no switch within
    Spread at_switch;  // at least one switch within, the earlier decision not by the bad snapshot
    Spread under_bad;  // the earlier decision was by the bad snapshot (or within 2 s of its roll back): its policy sets
                       // these
    uint64_t missing = 0;  // sequence numbers that never came
};
[[nodiscard]] Gaps decision_gaps(const Recording& recording);

struct GenerationReward {
    uint32_t generation = 0;
    uint64_t first_us = 0;  // of its decisions
    uint64_t last_us = 0;
    uint64_t decisions = 0;  // whose outcome is known
    double mean = 0;
};
// Each decision is credited with the interval that followed it. In order of the first decision.
[[nodiscard]] std::vector<GenerationReward> reward_by_generation(const Recording& recording);

struct Criterion {
    std::string name;
    bool passed = false;
    std::string text;  // what was seen, and what was wanted
};

struct Summary {
    Gaps gaps;
    std::vector<GenerationReward> generations;
    uint64_t capacity_bytes = 0;
    uint64_t delivered_bytes = 0;
    uint64_t drops = 0;
    double rtt_p50_ms = 0, rtt_p95_ms = 0, rtt_p99_ms = 0;  // weighted by time
    double frame_delay_p50_ms = 0, frame_delay_p95_ms = 0, frame_delay_p99_ms = 0;
    double frame_delay_max_ms = 0;
    // The same away from the time that the bad snapshot spoiled (until 2 s after its rollback).
    double frame_delay_p95_without_bad_ms = 0;
    double switch_us_p50 = 0, switch_us_max = 0;
    // From one snapshot to another: the first, from the fallback, is none of these. A roll back is one of the first two
    // as well.
    uint64_t switches_parameter = 0, switches_network = 0, switches_trained = 0, rollbacks = 0;
    std::vector<Criterion> criteria;
    bool ok = false;
};
[[nodiscard]] Summary summarise(const Recording& recording);

// summary.json
[[nodiscard]] std::string to_json(const Recording& recording, const Summary& summary);
// For the terminal; `colour` with ANSI colours.
[[nodiscard]] std::string to_table(const Recording& recording, const Summary& summary, bool colour);

// "trained", "rollback"
[[nodiscard]] const char* name_of(SwitchKind kind);

}  // namespace adapath::demo
