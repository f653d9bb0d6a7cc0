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

// `stopped_*`: of the time in which the daemons stood still.
inline Json stopped_line(const std::string& trace, const std::string& policy, uint64_t delivered, double p95_ms,
                         uint64_t stopped_delivered, double stopped_p95_ms) {
    CellInputs inputs = inputs_of(Traffic::bulk, trace, 1, policy);
    inputs.daemon_stops_s = 20;
    Json figures = bulk_line(trace, 1, policy, delivered, p95_ms)["figures"];
    figures["daemon_stopped"] = {{"from_s", 20},
                                 {"to_s", 40},
                                 {"capacity_bytes", 500},
                                 {"delivered_bytes", stopped_delivered},
                                 {"delay_ms", {{"p50", stopped_p95_ms / 2}, {"p95", stopped_p95_ms}}}};
    return line_of(inputs, figures);
}

inline Json crowd_line(uint64_t seed, const std::string& policy, uint64_t delivered, double cpu_us_per_mb) {
    CellInputs inputs = inputs_of(Traffic::crowd, "constant", seed, policy);
    inputs.crowd_flows = 100;
    Json figures = bulk_line("constant", seed, policy, delivered, 60)["figures"];
    figures["jain"] = 0.9;
    figures["machine_busy_share"] = 0.4;
    figures["flows"] = Json::array({{{"retransmitted_segments", 12}}});
    figures["cost"] = {{"decisions", 5000},
                       {"cpu_us_per_mb", cpu_us_per_mb},
                       {"asking",
                        {{"questions", 5000},
                         {"applied", 4990},
                         {"overtaken", 3},
                         {"answer_p50_us", 70},
                         {"answer_p99_us", 300},
                         {"apply_p50_us", 3000},
                         {"apply_p99_us", 9000}}}};
    return line_of(inputs, figures);
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
