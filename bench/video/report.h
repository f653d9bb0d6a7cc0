// From the raw results of the experiment `select` to what they say: verdicts, tables, charts.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "codegen/result.h"

namespace adapath::video_bench {

using Json = nlohmann::ordered_json;

inline constexpr const char* learned_policy = "learned";
// Its rivals. The sub stream alone always costs less: what is asked of `learned` there is accuracy only.
inline constexpr const char* sub_policy = "always-sub";
// No rival: the learned one again, under switches.
inline constexpr const char* switched_policy = "switched";

// One trace with a number of cameras, and what each policy made of it.
struct Comparison {
    std::string trace;
    unsigned cameras = 0;
    uint64_t seed = 1;
    std::vector<Json> cells;  // in the order of the results

    [[nodiscard]] const Json* of(const std::string& policy) const;
    // Its F1 is above every rival's, of at least one; false too where it was not measured.
    [[nodiscard]] bool above_all() const;
    // Its bytes are at most every rival's but the sub stream's.
    [[nodiscard]] bool no_more_bytes() const;
};

// The newest result of each cell, grouped.
[[nodiscard]] std::vector<Comparison> compare(const std::vector<Json>& results);

[[nodiscard]] std::string to_html(const std::vector<Comparison>& comparisons, const std::string& more_sections = {});
// For a terminal.
[[nodiscard]] std::string to_table(const std::vector<Comparison>& comparisons);

}  // namespace adapath::video_bench
