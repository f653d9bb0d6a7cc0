// From the raw results of the experiment `select` to what they say: verdicts, tables, charts.
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "codegen/result.h"

namespace adapath::video_bench {

using Json = nlohmann::ordered_json;

inline constexpr const char* learned_policy = "learned";
// The same, with as many bytes for its budget as the thriftier of its tuned rivals has (but for the sub stream alone).
inline constexpr const char* thrifty_policy = "thrifty";
// Under switches.
inline constexpr const char* switched_policy = "switched";
// Its rivals: everything else is the learned one in some way. The sub stream alone always costs less: what is asked of
// `learned` there is accuracy only.
inline constexpr const char* sub_policy = "always-sub";
inline constexpr std::array<const char*, 4> rivals = {sub_policy, "always-main", "fixed-mix", "threshold"};

// One trace with a number of cameras, and what each policy made of it.
struct Comparison {
    std::string trace;
    unsigned cameras = 0;
    uint64_t seed = 1;
    std::vector<Json> cells;  // in the order of the results

    [[nodiscard]] const Json* of(const std::string& policy) const;
    // The policy's F1 is above every rival's, of at least one; false too where it was not measured.
    [[nodiscard]] bool above_all(const std::string& policy = learned_policy) const;
    // Its bytes are at most every rival's but the sub stream's.
    [[nodiscard]] bool no_more_bytes(const std::string& policy = learned_policy) const;
};

// The newest result of each cell, grouped.
[[nodiscard]] std::vector<Comparison> compare(const std::vector<Json>& results);

[[nodiscard]] std::string to_html(const std::vector<Comparison>& comparisons, const std::string& more_sections = {});
// For a terminal.
[[nodiscard]] std::string to_table(const std::vector<Comparison>& comparisons);

}  // namespace adapath::video_bench
