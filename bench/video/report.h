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
// The same, with a budget: the bytes that the rival took.
inline constexpr const char* mix_bytes_policy = "mix-bytes";
inline constexpr const char* threshold_bytes_policy = "threshold-bytes";
inline constexpr std::array<const char*, 3> budgets = {learned_policy, mix_bytes_policy, threshold_bytes_policy};
// Under switches.
inline constexpr const char* switched_policy = "switched";
// Shown for what the learned one owes to the relay alone: the best fixed mix in which sub may come beside main, and
// both renditions of all cameras, of which the relay drops what does not fit.
inline constexpr const char* insured_policy = "insured-mix";
inline constexpr const char* both_policy = "always-both";
// Its rivals: everything else is the learned one in some way. The sub stream alone always costs less: what is asked of
// `learned` there is accuracy only.
inline constexpr const char* sub_policy = "always-sub";
inline constexpr const char* mix_policy = "fixed-mix";
inline constexpr const char* threshold_policy = "threshold";
inline constexpr std::array<const char*, 4> rivals = {sub_policy, "always-main", mix_policy, threshold_policy};

// One trace with a number of cameras, and what each policy made of it.
struct Comparison {
    std::string trace;
    unsigned cameras = 0;
    uint64_t seed = 1;
    unsigned seeds = 1;       // of how many the figures are the mean
    std::vector<Json> cells;  // in the order of the results

    [[nodiscard]] const Json* of(const std::string& policy) const;
    // The learned one's F1 is above every rival's, of at least one; false too where it was not measured. A rival that
    // is not here says nothing: see lacks().
    [[nodiscard]] bool above_all() const;
    // To each rival that sends main, of at least one, there is a budget of the learned one (or none) with
    // which it is above it and takes no more bytes.
    [[nodiscard]] bool above_at_its_bytes() const;
};

// The newest result of each cell, grouped; of cells with these settings only, or those of the newest one.
[[nodiscard]] std::vector<Comparison> compare(const std::vector<Json>& results, const Json& settings = nullptr);

// Rivals that were measured elsewhere with as many cameras, and not here: nobody knows who is above whom.
[[nodiscard]] std::vector<std::string> lacks(const Comparison& comparison, const std::vector<Comparison>& all);

// One comparison for each trace and number of cameras: figures are means over its seeds, since a single run's luck is
// some 0.01 of F1. A policy that was not measured with each of them is left out; curves are gone where there are
// several.
[[nodiscard]] std::vector<Comparison> over_seeds(const std::vector<Comparison>& comparisons);

// Verdicts are over the means of seeds.
[[nodiscard]] std::string to_html(const std::vector<Comparison>& comparisons, const std::string& more_sections = {});
// For a terminal.
[[nodiscard]] std::string to_table(const std::vector<Comparison>& comparisons);

}  // namespace adapath::video_bench
