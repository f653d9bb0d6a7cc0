// Result lines as the arena writes them, with invented figures.
#pragma once

#include <string>

#include "userspace/arena/cell.h"
#include "userspace/arena/results.h"

namespace adapath::arena {

inline CellInputs inputs_of(Traffic traffic, const std::string& trace, uint64_t seed, const std::string& policy) {
    CellInputs inputs;
    inputs.traffic = traffic;
    inputs.trace = trace;
    inputs.trace_hash = "hash of " + trace;
    inputs.seed = seed;
    inputs.policy = policy;
    inputs.kernel = "Linux 6.1";
    return inputs;
}

inline Json line_of(const CellInputs& inputs, const Json& figures, const std::string& run = "run") {
    return {{"key", cell_key(inputs)},
            {"inputs", inputs_json(inputs)},
            {"run", {{"id", run}, {"started_unix_s", 1}, {"version", "test"}, {"cpus", 2}}},
            {"figures", figures},
            {"series", Json::object()}};
}

inline Json bulk_line(const std::string& trace, uint64_t seed, const std::string& policy, uint64_t delivered,
                      double p95_ms) {
    return line_of(inputs_of(Traffic::bulk, trace, seed, policy),
                   {{"capacity_bytes", 1000},
                    {"delivered_bytes", delivered},
                    {"received_bytes", delivered},
                    {"delay_ms", {{"p50", p95_ms / 2}, {"p95", p95_ms}, {"p99", p95_ms * 2}, {"mean", p95_ms / 2}}},
                    {"bound", {{"delivered_bytes", 990}, {"delay_ms", 20}}}});
}

inline Json fairness_line(const std::string& pair, double jain) {
    return line_of(inputs_of(Traffic::fairness, "constant", 1, pair),
                   {{"jain", jain}, {"flows", Json::array({{{"received_bytes", 5}}, {{"received_bytes", 7}}})}});
}

// Rewards by second, three phases alike.
inline Json regimes_line(const std::string& policy, double phase_s, const std::vector<double>& rewards) {
    CellInputs inputs = inputs_of(Traffic::regimes, "changed twice", 1, policy);
    inputs.regimes = RegimeSettings{.phase_s = phase_s};
    Json line = line_of(inputs, {{"capacity_bytes", 1000},
                                 {"delivered_bytes", 900},
                                 {"delay_ms", {{"p95", 50}}},
                                 {"cost", {{"switches", 7}, {"rollbacks", 1}}}});
    line["series"]["reward"] = rewards;
    return line;
}

}  // namespace adapath::arena
