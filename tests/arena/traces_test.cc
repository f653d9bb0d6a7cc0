// Which traces a run goes over, where a seed makes them begin, and what nobody can beat on them.
#include "userspace/arena/traces.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <set>

namespace adapath::arena {
namespace {

class TracesTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (std::filesystem::temp_directory_path() / "arena-test-XXXXXX").string();
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
        std::ofstream(directory_ + "/b.up") << "10\n20\n20\n35\n100\n";
        std::ofstream(directory_ + "/a.up") << "1\n2\n";
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }
    std::string directory_;
};

TEST_F(TracesTest, ADirectoryIsAllItsFiles) {
    auto sources = sources_at(directory_);
    ASSERT_TRUE(sources.ok());
    ASSERT_EQ(sources->size(), 2U);
    EXPECT_EQ((*sources)[0].name, "a.up");
    EXPECT_EQ((*sources)[1].name, "b.up");
    auto one = sources_at(directory_ + "/b.up");
    ASSERT_TRUE(one.ok());
    EXPECT_EQ(one->size(), 1U);
    std::filesystem::create_directory(directory_ + "/empty");
    EXPECT_FALSE(sources_at(directory_ + "/empty").ok());
}

TEST_F(TracesTest, ASeedMovesTheBeginningOfARecordedTrace) {
    auto sources = sources_at(directory_ + "/b.up");
    ASSERT_TRUE(sources.ok());
    auto whole = Trace::load(directory_ + "/b.up");
    ASSERT_TRUE(whole.ok());
    std::set<std::string> hashes;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        auto trace = seeded(sources->front(), seed);
        ASSERT_TRUE(trace.ok());
        hashes.insert(trace->hash);
        EXPECT_EQ(trace->trace.period_ns(), whole->period_ns());
        EXPECT_EQ(trace->trace.opportunities_per_period(), whole->opportunities_per_period());
        EXPECT_EQ(seeded(sources->front(), seed)->hash, trace->hash);
    }
    EXPECT_GT(hashes.size(), 1U);
    EXPECT_EQ(seeded(sources->front(), 1)->trace.opportunity_ns(0), whole->opportunity_ns(0));
}

TEST(Seeded, AGeneratedTraceIsMadeFromTheSeed) {
    auto first = seeded(generated_source(5), 1);
    auto second = seeded(generated_source(5), 2);
    ASSERT_TRUE(first.ok() && second.ok());
    EXPECT_EQ(first->name, second->name);
    EXPECT_NE(first->hash, second->hash);
}

TEST(Regimes, HaveOneMeanRateAndOneIsServedInBursts) {
    const RegimeSettings settings{.phase_s = 6, .mbit = 12, .period_ms = 300, .served_ms = 100, .flows = 2};
    Result<SeededTrace> trace = regimes_trace(settings);
    ASSERT_TRUE(trace) << trace.error().message;
    constexpr uint64_t ms = 1'000'000;
    EXPECT_NEAR(static_cast<double>(trace->trace.period_ns()), 18e9, 2e6);
    for (uint64_t phase = 0; phase < 3; phase++) {
        const uint64_t bytes = trace->trace.capacity_bytes(phase * 6000 * ms, (phase + 1) * 6000 * ms);
        EXPECT_NEAR(static_cast<double>(bytes), 9e6, 6000) << phase;
    }
    uint64_t idle = 0;
    for (uint64_t at = 6000; at < 12000; at += 10) {
        idle += trace->trace.capacity_bytes(at * ms, (at + 10) * ms) == 0 ? 1 : 0;
    }
    EXPECT_NEAR(static_cast<double>(idle), 400, 21);
    EXPECT_EQ(trace->hash, regimes_trace(settings)->hash);
    EXPECT_NE(trace->hash, regimes_trace({.phase_s = 6, .served_ms = 150})->hash);
}

TEST(Bound, IsEveryOpportunityThatReachesTheFarEndInTime) {
    // An opportunity each 10 ms, 20 ms of propagation: what leaves at 980 ms arrives at 1000.
    auto trace = Trace::constant(1.2);
    ASSERT_TRUE(trace.ok());
    const Bound bound = omniscient_bound(*trace, {.delay_ms = 20}, 1);
    EXPECT_EQ(bound.delivered_bytes, 98 * trace_opportunity_bytes);
    EXPECT_EQ(bound.delay_ms, 20);
    EXPECT_EQ(omniscient_bound(*trace, {.delay_ms = 2000}, 1).delivered_bytes, 0U);
    EXPECT_EQ(omniscient_bound(*trace, {.delay_ms = 0}, 1).delivered_bytes, trace->capacity_bytes(0, 1'000'000'000));
}

}  // namespace
}  // namespace adapath::arena
