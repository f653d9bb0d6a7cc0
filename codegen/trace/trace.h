// A link's capacity over time, in the trace format of mahimahi: one line a delivery opportunity of 1500 bytes, its
// number the millisecond at which it comes; several equal lines are several opportunities; the trace starts again at
// its last timestamp. Shared by the link emulator and by the simulator that policies are trained in, so that both mean
// the same link.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/result.h"

namespace adapath {

// Bytes that one opportunity can carry; fixed by the format.
inline constexpr uint64_t trace_opportunity_bytes = 1500;
// Longer traces are refused: a slipped digit in a timestamp must not become a link that is dead for weeks.
inline constexpr uint32_t trace_max_ms = 24 * 60 * 60 * 1000;
// Enough for 10 Gbit/s over a minute; bounds the memory that a trace can ask for (4 bytes each).
inline constexpr uint64_t trace_max_opportunities = 64'000'000;

// An LTE-like uplink: log-rate as a mean-reverting random walk (moves of seconds), a 20 % fluctuation every 100 ms,
// rare outages, and service in bursts, since a scheduler serves a cell's users in turns. Figures of the defaults follow
// public LTE uplink traces (standard deviation of the 1 s rate about half its mean; a change of about a third from
// second to second).
struct TraceGenerator {
    uint64_t seed = 1;
    double mean_mbit = 8;  // of the trace as a whole; the rate moves between a quarter and 2.5 times this
    uint32_t duration_ms = 600'000;
    double walk_sd = 0.55;        // of the natural logarithm of the slow rate
    double walk_s = 4;            // its time of reversion, seconds
    double flutter = 0.2;         // standard deviation of the 100 ms fluctuation, fraction of the rate
    double outage_every_s = 40;   // mean time between outages, seconds; 0 = none
    double outage_mean_ms = 300;  // mean length; at most 2 s each
    double service_share = 0.3;   // share of milliseconds in which this user is served
};

class Trace {
public:
    // Errors name file, line and value.
    static Result<Trace> load(const std::string& path);
    static Result<Trace> parse(std::string_view text, std::string_view name_for_errors);
    // The same options always give the same trace.
    static Result<Trace> generate(const TraceGenerator& options);
    // An even link; within 0.1 % of the rate from 0.012 Mbit/s up to 10 Gbit/s.
    static Result<Trace> constant(double mbit);

    // The same link, begun elsewhere: at the first opportunity at or after this share (0 to 1) of the period, which
    // becomes the last of the new period. 0 gives the trace as it is.
    [[nodiscard]] Trace begun_at(double share) const;

    // One line an opportunity.
    void write(std::ostream& out) const;

    [[nodiscard]] uint64_t period_ns() const { return uint64_t{opportunity_ms_.back()} * 1'000'000; }
    [[nodiscard]] uint64_t opportunities_per_period() const { return opportunity_ms_.size(); }
    [[nodiscard]] double mean_bytes_per_s() const;

    // Time of opportunity number `index` (0, 1, 2 ... for ever) since the trace began; never decreases with the index.
    [[nodiscard]] uint64_t opportunity_ns(uint64_t index) const {
        return (index / opportunity_ms_.size() * opportunity_ms_.back() +
                opportunity_ms_[index % opportunity_ms_.size()]) *
               1'000'000;
    }
    // How many opportunities came at or before `ns`; so it is also the index of the first one after it.
    [[nodiscard]] uint64_t count_until(uint64_t ns) const;
    // Bytes offered in (from_ns, to_ns]: neighbouring windows add up to the whole. 0 where to_ns <= from_ns.
    [[nodiscard]] uint64_t capacity_bytes(uint64_t from_ns, uint64_t to_ns) const;

private:
    explicit Trace(std::vector<uint32_t> opportunity_ms) : opportunity_ms_(std::move(opportunity_ms)) {}
    // What every trace must hold, whatever made it: at least one opportunity, the last after 0.
    static Result<Trace> check(std::vector<uint32_t> opportunity_ms, std::string_view name_for_errors);

    std::vector<uint32_t> opportunity_ms_;  // never decreasing; the last is the period
};

}  // namespace adapath
