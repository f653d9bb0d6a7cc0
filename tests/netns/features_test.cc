// What the cc program measures and does on a real flow over a moving link: the three features, and the rate.
#include <gtest/gtest.h>
#include <iostream>
#include <set>

#include "tests/netns/deciding_flows.h"

namespace adapath::testing {
namespace {

using Features = DecidingFlows;

TEST_F(Features, AllThreeVaryOnAMovingLink) {
    activate();
    TraceGenerator generator;
    generator.seed = 5;
    generator.mean_mbit = 8;
    Result<Trace> trace = Trace::generate(generator);
    ASSERT_TRUE(trace.ok());
    auto uplink = Uplink::create(std::move(*trace));
    ASSERT_TRUE(uplink.ok()) << uplink.error().message;
    auto flow = start_flow(**uplink, options_.congestion_control);
    ASSERT_TRUE(flow.ok()) << flow.error().message;
    ASSERT_TRUE(collect_for(8s));
    std::array<std::set<int>, ADP_CC_FEATURES> values;
    uint64_t decisions = 0;
    for (const adp_cc_sample& sample : samples_) {
        if (sample.generation == 0) continue;
        ++decisions;
        for (size_t feature = 0; feature < values.size(); ++feature)
            values[feature].insert(sample.input[ADP_CC_CONTEXT - ADP_CC_FEATURES + feature]);
        EXPECT_GE(sample.interval.rtt_us, 39'000U) << "less than the emulated path's own delay";
        EXPECT_GE(sample.interval.rtt_us, sample.interval.min_rtt_us);
    }
    EXPECT_GE(decisions, 50U);
    for (int feature = ADP_CC_INFLATION; feature <= ADP_CC_DELIVERY; feature++)
        EXPECT_GE(values[feature].size(), 8U) << "feature " << feature << " hardly varies";
}

TEST_F(Features, ThePolicyFillsASteadyLinkWithoutAStandingQueue) {
    activate();
    Result<Trace> trace = Trace::constant(12);
    ASSERT_TRUE(trace.ok());
    auto uplink = Uplink::create(std::move(*trace), {.delay_ms = 20, .queue_bytes = 300'000});
    ASSERT_TRUE(uplink.ok());
    auto flow = start_flow(**uplink, options_.congestion_control);
    ASSERT_TRUE(flow.ok());
    ASSERT_TRUE(collect_for(2s));
    const uint64_t before = (*flow)->received();
    samples_.clear();
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_TRUE(collect_for(6s));
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    const double mbit = static_cast<double>((*flow)->received() - before) * 8e-6 / seconds;
    std::vector<uint32_t> rtts;
    for (const adp_cc_sample& sample : samples_) rtts.push_back(sample.interval.rtt_us);
    std::sort(rtts.begin(), rtts.end());
    // A full queue would be 200 ms; the path itself is 40 ms. Wide margins: this is about sense, not about scores.
    EXPECT_GT(mbit, 12 * 0.7);
    EXPECT_LT(rtts[rtts.size() / 2], 160'000U);
}

// A policy that starves its flow leaves it at the least rate: packets far apart, each acknowledged late. The next
// policy has to get out of there.
TEST_F(Features, AFlowThatWasStarvedRecovers) {
    Result<FloatModel> starving = read_float_model(ADAPATH_POLICY);
    ASSERT_TRUE(starving.ok());
    for (auto& layer : starving->weights)
        for (float& weight : layer) weight = 0;
    starving->biases.back()[0] = -1;
    Result<std::string> bytes = freeze_bytes(*starving);
    ASSERT_TRUE(bytes.ok()) << bytes.error().message;
    Result<Snapshot> bad = parse_snapshot(*bytes, "starving");
    ASSERT_TRUE(bad.ok());
    activate();
    Result<Trace> trace = Trace::constant(12);
    ASSERT_TRUE(trace.ok());
    auto uplink = Uplink::create(std::move(*trace), {.delay_ms = 20, .queue_bytes = 300'000});
    ASSERT_TRUE(uplink.ok());
    auto flow = start_flow(**uplink, options_.congestion_control);
    ASSERT_TRUE(flow.ok());
    ASSERT_TRUE(collect_for(2s));
    Result<uint32_t> slot = backend_.installer->install(*bad, 2, bad->probes);
    ASSERT_TRUE(slot.ok()) << slot.error().message;
    ASSERT_TRUE(backend_.installer->switch_to(*slot).ok());
    const auto end = std::chrono::steady_clock::now() + 20s;
    constexpr uint32_t least_q8 = ADP_CC_CWND_MIN << ADP_CC_WINDOW_SHIFT;
    while ((samples_.empty() || samples_.back().window_q8 > least_q8) && std::chrono::steady_clock::now() < end)
        collect();
    ASSERT_EQ(samples_.back().window_q8, least_q8) << "the bad policy does not starve: nothing is tested";
    ASSERT_TRUE(backend_.installer->switch_to(backend_.installer->standby_slot()).ok());
    const auto switched = std::chrono::steady_clock::now();
    // The path holds 41 packets.
    constexpr uint32_t enough_q8 = 27 << ADP_CC_WINDOW_SHIFT;
    while (samples_.back().window_q8 < enough_q8 && std::chrono::steady_clock::now() < switched + 20s) collect();
    EXPECT_GE(samples_.back().window_q8, enough_q8)
        << "still at " << samples_.back().window_q8 / 256 << " packets, RTT " << samples_.back().interval.rtt_us
        << " us, least " << samples_.back().interval.min_rtt_us << " us";
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - switched).count();
    RecordProperty("seconds_to_8_mbit", std::to_string(seconds));
    std::cout << "recovered to 8 Mbit/s in " << seconds << " s\n";
}

TEST_F(Features, TheFallbackFillsTheLinkToo) {
    Result<Trace> trace = Trace::constant(12);
    ASSERT_TRUE(trace.ok());
    auto uplink = Uplink::create(std::move(*trace), {.delay_ms = 20, .queue_bytes = 60'000});
    ASSERT_TRUE(uplink.ok());
    auto flow = start_flow(**uplink, options_.congestion_control);
    ASSERT_TRUE(flow.ok());
    ASSERT_TRUE(collect_for(2s));
    const uint64_t before = (*flow)->received();
    const auto begin = std::chrono::steady_clock::now();
    ASSERT_TRUE(collect_for(6s));
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    EXPECT_GT(static_cast<double>((*flow)->received() - before) * 8e-6 / seconds, 12 * 0.7);
    for (const adp_cc_sample& sample : samples_) EXPECT_NE(sample.flags & ADP_CC_FALLBACK_MADE, 0U);
}

}  // namespace
}  // namespace adapath::testing
