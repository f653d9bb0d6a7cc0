// Traces: reading, refusing, counting opportunities, generating.
#include "codegen/trace/trace.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <vector>

namespace adapath {
namespace {

constexpr uint64_t ms = 1'000'000;

Trace trace_of(const std::string& text) {
    auto trace = Trace::parse(text, "test");
    EXPECT_TRUE(trace) << trace.error().message;
    return *trace;
}

std::string text_of(const Trace& trace) {
    std::ostringstream out;
    trace.write(out);
    return out.str();
}

// Rates in Mbit/s over whole windows of one period.
std::vector<double> rates(const Trace& trace, uint64_t window_ms) {
    std::vector<double> out;
    for (uint64_t at = 0; at + window_ms * ms <= trace.period_ns(); at += window_ms * ms) {
        out.push_back(static_cast<double>(trace.capacity_bytes(at, at + window_ms * ms)) * 0.008 /
                      static_cast<double>(window_ms));
    }
    return out;
}

double mean(const std::vector<double>& values) {
    double sum = 0;
    for (const double value : values) {
        sum += value;
    }
    return sum / static_cast<double>(values.size());
}

double relative_sd(const std::vector<double>& values) {
    const double centre = mean(values);
    double sum = 0;
    for (const double value : values) {
        sum += (value - centre) * (value - centre);
    }
    return std::sqrt(sum / static_cast<double>(values.size())) / centre;
}

TEST(trace, loops_at_its_last_timestamp) {
    const Trace trace = trace_of("3\n3\n10\n");
    EXPECT_EQ(trace.period_ns(), 10 * ms);
    EXPECT_EQ(trace.opportunities_per_period(), 3U);
    const uint64_t expected[] = {3, 3, 10, 13, 13, 20, 23};
    for (size_t i = 0; i < std::size(expected); i++) {
        EXPECT_EQ(trace.opportunity_ns(i), expected[i] * ms) << i;
    }
    EXPECT_DOUBLE_EQ(trace.mean_bytes_per_s(), 450'000);
}

TEST(trace, counts_an_opportunity_from_its_own_time_on) {
    const Trace trace = trace_of("3\n3\n10\n");
    EXPECT_EQ(trace.count_until(0), 0U);
    EXPECT_EQ(trace.count_until(3 * ms - 1), 0U);
    EXPECT_EQ(trace.count_until(3 * ms), 2U);
    EXPECT_EQ(trace.count_until(10 * ms - 1), 2U);
    EXPECT_EQ(trace.count_until(10 * ms), 3U);
    EXPECT_EQ(trace.count_until(13 * ms), 5U);
    EXPECT_EQ(trace.count_until(1'000'010 * ms), 300'003U);
}

TEST(trace, a_first_opportunity_at_zero_falls_on_the_end_of_the_period_before) {
    const Trace trace = trace_of("0\n5\n");
    EXPECT_EQ(trace.opportunity_ns(0), 0U);
    EXPECT_EQ(trace.opportunity_ns(1), 5 * ms);
    EXPECT_EQ(trace.opportunity_ns(2), 5 * ms);
    EXPECT_EQ(trace.count_until(0), 1U);
    EXPECT_EQ(trace.count_until(5 * ms), 3U);
}

TEST(trace, windows_of_capacity_add_up) {
    const auto trace = Trace::generate({.seed = 7, .duration_ms = 5'000});
    ASSERT_TRUE(trace);
    uint64_t sum = 0;
    for (uint64_t at = 0; at < 12'000 * ms; at += 777'777) {
        sum += trace->capacity_bytes(at, std::min<uint64_t>(at + 777'777, 12'000 * ms));
    }
    EXPECT_EQ(sum, trace->capacity_bytes(0, 12'000 * ms));
    EXPECT_GT(sum, 0U);
    EXPECT_EQ(trace->capacity_bytes(5 * ms, 5 * ms), 0U);
    EXPECT_EQ(trace->capacity_bytes(6 * ms, 5 * ms), 0U);
}

TEST(trace, count_is_the_inverse_of_time) {
    const auto trace = Trace::generate({.seed = 3, .duration_ms = 3'000});
    ASSERT_TRUE(trace);
    for (uint64_t i = 0; i < 3 * trace->opportunities_per_period(); i++) {
        const uint64_t at = trace->opportunity_ns(i);
        ASSERT_GT(trace->count_until(at), i);
        ASSERT_LE(trace->count_until(at - 1), i);
    }
}

TEST(trace, refuses_bad_traces_with_file_line_and_value) {
    const struct {
        const char* text;
        std::vector<const char*> words;
    } cases[] = {
        {"", {"test", "empty"}},
        {"0\n0\n", {"test", "line 2", "0"}},
        {"1\n2\nx7\n", {"test", "line 3", "'x7'"}},
        {"1\n2 3\n", {"test", "line 2", "'2 3'"}},
        {"1\n\n2\n", {"test", "line 2", "''"}},
        {"1\n-2\n", {"test", "line 2", "'-2'"}},
        {"1\n2.5\n", {"test", "line 2", "'2.5'"}},
        {"7\n5\n", {"test", "line 2", "'5'", "7"}},
        {"7\n6\n", {"test", "line 2", "'6'", "7"}},
        {"1\n86400001\n", {"test", "line 2", "86400001", "24 h"}},
        {"99999999999999999999999\n", {"test", "line 1", "24 h"}},
    };
    for (const auto& bad : cases) {
        const auto trace = Trace::parse(bad.text, "test");
        ASSERT_FALSE(trace) << bad.text;
        for (const char* word : bad.words) {
            EXPECT_NE(trace.error().message.find(word), std::string::npos) << word << " in: " << trace.error().message;
        }
    }
    const auto missing = Trace::load("/nonexistent/uplink.up");
    ASSERT_FALSE(missing);
    EXPECT_NE(missing.error().message.find("/nonexistent/uplink.up"), std::string::npos);
}

TEST(trace, reads_lines_with_any_end) {
    EXPECT_EQ(text_of(trace_of("1\r\n2\r\n")), "1\n2\n");
    EXPECT_EQ(text_of(trace_of("1\n2")), "1\n2\n");
}

TEST(trace, constant_rates_are_exact) {
    for (const double mbit : {0.012, 0.1, 1.0, 7.3, 50.0, 200.0, 999.0, 10'000.0}) {
        const auto trace = Trace::constant(mbit);
        ASSERT_TRUE(trace) << trace.error().message;
        EXPECT_NEAR(trace->mean_bytes_per_s() * 8e-6, mbit, 0.0011 * mbit);
        // Even: no second differs from another by more than one opportunity.
        const uint64_t first = trace->capacity_bytes(0, 1000 * ms);
        const uint64_t later = trace->capacity_bytes(7'300 * ms, 8'300 * ms);
        EXPECT_LE(std::max(first, later) - std::min(first, later), 2 * trace_opportunity_bytes) << mbit;
    }
    EXPECT_FALSE(Trace::constant(0));
    EXPECT_FALSE(Trace::constant(std::nan("")));
    EXPECT_FALSE(Trace::constant(20'000));
}

TEST(trace, a_seed_is_one_trace) {
    const TraceGenerator options{.seed = 42, .duration_ms = 20'000};
    TraceGenerator other = options;
    other.seed = 43;
    const auto first = Trace::generate(options);
    const auto again = Trace::generate(options);
    const auto different = Trace::generate(other);
    ASSERT_TRUE(first && again && different);
    EXPECT_EQ(text_of(*first), text_of(*again));
    EXPECT_NE(text_of(*first), text_of(*different));
    EXPECT_EQ(text_of(trace_of(text_of(*first))), text_of(*first));
}

TEST(trace, generated_traces_move_like_lte) {
    for (const uint64_t seed : {1, 2, 3}) {
        const auto trace = Trace::generate({.seed = seed});
        ASSERT_TRUE(trace);
        EXPECT_EQ(trace->period_ns(), 600'000 * ms);
        EXPECT_NEAR(trace->mean_bytes_per_s() * 8e-6, 8.0, 0.01);
        const double spread = relative_sd(rates(*trace, 1000));
        EXPECT_GT(spread, 0.35) << seed;
        EXPECT_LT(spread, 0.65) << seed;
        // Slow moves: between 2 and 20 Mbit/s for nearly all windows of 2 s.
        size_t inside = 0;
        const auto slow = rates(*trace, 2000);
        for (const double rate : slow) {
            inside += rate > 1.7 && rate < 22 ? 1 : 0;
        }
        EXPECT_GT(inside, slow.size() * 97 / 100) << seed;
        // Outages exist and end.
        uint64_t gap = 0;
        for (uint64_t i = 1; i < trace->opportunities_per_period(); i++) {
            gap = std::max(gap, trace->opportunity_ns(i) - trace->opportunity_ns(i - 1));
        }
        EXPECT_GT(gap, 200 * ms) << seed;
        EXPECT_LT(gap, 2'200 * ms) << seed;
    }
}

TEST(trace, flutter_is_that_of_100_ms) {
    const auto trace =
        Trace::generate({.seed = 5, .mean_mbit = 100, .duration_ms = 60'000, .walk_sd = 0, .outage_every_s = 0});
    ASSERT_TRUE(trace);
    EXPECT_NEAR(relative_sd(rates(*trace, 100)), 0.2, 0.03);
    EXPECT_NEAR(relative_sd(rates(*trace, 1000)), 0.2 / std::sqrt(10.0), 0.02);
}

TEST(trace, the_generator_refuses_what_it_cannot_make) {
    EXPECT_FALSE(Trace::generate({.mean_mbit = 0}));
    EXPECT_FALSE(Trace::generate({.mean_mbit = std::nan("")}));
    EXPECT_FALSE(Trace::generate({.duration_ms = 10}));
    const auto big = Trace::generate({.mean_mbit = 10'000, .duration_ms = trace_max_ms});
    ASSERT_FALSE(big);
    EXPECT_NE(big.error().message.find("10000"), std::string::npos);
}

TEST(trace, recorded_traces_load) {
    const char* shared = std::getenv("ADAPATH_SHARED");
    const std::filesystem::path folder = std::filesystem::path(shared ? shared : ADAPATH_SHARED_DEFAULT) / "traces";
    if (!std::filesystem::is_directory(folder)) {
        GTEST_SKIP() << "no recorded traces at " << folder << "; set ADAPATH_SHARED to the folder that holds traces/";
    }
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        const auto trace = Trace::load(entry.path());
        ASSERT_TRUE(trace) << trace.error().message;
        const double mbit = trace->mean_bytes_per_s() * 8e-6;
        EXPECT_GT(mbit, 0.1) << entry.path();
        EXPECT_LT(mbit, 200) << entry.path();
        EXPECT_EQ(trace->capacity_bytes(0, trace->period_ns()),
                  trace->opportunities_per_period() * trace_opportunity_bytes);
        count++;
    }
    EXPECT_GT(count, 0U) << folder;
}

TEST(trace, begun_elsewhere_is_the_same_link_later) {
    const Trace trace = trace_of("10\n20\n20\n35\n100\n");
    EXPECT_EQ(text_of(trace.begun_at(0)), text_of(trace));
    EXPECT_EQ(text_of(trace.begun_at(1)), text_of(trace));
    // Cut at 20: the next opportunity comes 15 ms later, and the two at 20 end the period.
    const Trace moved = trace.begun_at(0.15);
    EXPECT_EQ(text_of(moved), "15\n80\n90\n100\n100\n");
    for (const double share : {0.01, 0.2, 0.34, 0.36, 0.99}) {
        const Trace other = trace.begun_at(share);
        EXPECT_EQ(other.period_ns(), trace.period_ns());
        EXPECT_EQ(other.capacity_bytes(0, 3 * trace.period_ns()), trace.capacity_bytes(0, 3 * trace.period_ns()));
    }
}

}  // namespace
}  // namespace adapath
