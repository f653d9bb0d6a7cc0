// Decisions paired with what followed them, across gaps, changes of phase and flows.
#include "models/segments.h"

#include <gtest/gtest.h>

namespace adapath {
namespace {

// A sample whose interval's reward is told by its delivered packets and whose input by its seq.
adp_cc_sample sample(uint64_t flow, uint32_t seq, uint32_t generation = 1, uint32_t flags = 0) {
    adp_cc_sample s = {};
    s.flow = flow;
    s.seq = seq;
    s.time_us = seq * 50'000ULL;
    s.generation = generation;
    s.flags = flags;
    s.output = 1000 * static_cast<int32_t>(seq);
    s.noise = 16384;
    s.explore_q16 = 32768;
    s.interval.us = 50'000;
    s.interval.delivered = seq;
    s.input[0] = static_cast<uint8_t>(seq);
    return s;
}

SegmentBuilder builder() {
    return SegmentBuilder([](const adp_cc_sample& s) { return static_cast<float>(s.interval.delivered); });
}

TEST(Segments, ADecisionIsPaidByTheNextInterval) {
    SegmentBuilder b = builder();
    for (uint32_t seq = 5; seq <= 8; seq++) b.add(sample(1, seq));
    EXPECT_EQ(b.ready(), 3U);
    const auto segments = b.take();
    ASSERT_EQ(segments.size(), 1U);
    ASSERT_EQ(segments[0].steps.size(), 3U);
    for (uint32_t i = 0; i < 3; i++) {
        const Step& step = segments[0].steps[i];
        EXPECT_EQ(step.codes[0], 5 + i);
        EXPECT_EQ(step.reward, 6 + i);
        EXPECT_FLOAT_EQ(step.output, 1000.0F * (5 + i) / 65536);
        EXPECT_FLOAT_EQ(step.taken - step.output, 0.25F);
        EXPECT_FLOAT_EQ(step.sd, 0.5F);
    }
    EXPECT_EQ(segments[0].next_codes[0], 8);
    // The last decision waits; its outcome comes later and starts a new segment.
    EXPECT_TRUE(b.take().empty());
    b.add(sample(1, 9));
    const auto more = b.take();
    ASSERT_EQ(more.size(), 1U);
    ASSERT_EQ(more[0].steps.size(), 1U);
    EXPECT_EQ(more[0].steps[0].codes[0], 8);
    EXPECT_EQ(more[0].steps[0].reward, 9);
}

TEST(Segments, ALostSampleCutsAndIsCounted) {
    SegmentBuilder b = builder();
    for (uint32_t seq : {1, 2, 3, 5, 6}) b.add(sample(1, seq));
    const auto segments = b.take();
    ASSERT_EQ(segments.size(), 2U);
    EXPECT_EQ(segments[0].steps.size(), 2U);
    EXPECT_EQ(segments[0].next_codes[0], 3);
    ASSERT_EQ(segments[1].steps.size(), 1U);
    EXPECT_EQ(segments[1].steps[0].codes[0], 5);
    EXPECT_EQ(b.stats().gaps, 1U);
}

TEST(Segments, DrainsAndWaitsAreNotTheNetworks) {
    for (uint32_t flag : {ADP_CC_DRAIN_MADE, ADP_CC_HELD | ADP_CC_APP_LIMITED}) {
        SegmentBuilder b = builder();
        b.add(sample(1, 1));
        b.add(sample(1, 2, 0, flag));
        b.add(sample(1, 3));
        b.add(sample(1, 4));
        const auto segments = b.take();
        // A drain begins at the end of an interval that the decision before it made; an idle application's interval is
        // nobody's. What follows either is not a decision's.
        ASSERT_EQ(segments.size(), flag == ADP_CC_DRAIN_MADE ? 2U : 1U);
        EXPECT_EQ(segments.back().steps.size(), 1U);
        EXPECT_EQ(segments.back().steps[0].codes[0], 3);
    }
}

TEST(Segments, FallbackAndSlowStartAreNotTheNetworks) {
    SegmentBuilder b = builder();
    b.add(sample(1, 1, 0, ADP_CC_START_MADE));
    b.add(sample(1, 2, 3));
    b.add(sample(1, 3, 3));
    b.add(sample(1, 4, 0, ADP_CC_FALLBACK_MADE));  // its interval still pays decision 3
    b.add(sample(1, 5, 0, ADP_CC_FALLBACK_MADE));
    b.add(sample(1, 6, 4));
    b.add(sample(1, 7, 4));
    const auto segments = b.take();
    ASSERT_EQ(segments.size(), 2U);
    ASSERT_EQ(segments[0].steps.size(), 2U);
    EXPECT_EQ(segments[0].steps[1].codes[0], 3);
    EXPECT_EQ(segments[0].steps[1].reward, 4);
    EXPECT_EQ(segments[0].steps[1].generation, 3U);
    ASSERT_EQ(segments[1].steps.size(), 1U);
    EXPECT_EQ(segments[1].steps[0].codes[0], 6);
    EXPECT_EQ(segments[1].steps[0].generation, 4U);
}

TEST(Segments, AppLimitedOutcomesTeachNothing) {
    SegmentBuilder b = builder();
    b.add(sample(1, 1));
    b.add(sample(1, 2));
    b.add(sample(1, 3, 1, ADP_CC_APP_LIMITED));
    b.add(sample(1, 4));
    b.add(sample(1, 5));
    const auto segments = b.take();
    ASSERT_EQ(segments.size(), 2U);
    ASSERT_EQ(segments[0].steps.size(), 1U);
    EXPECT_EQ(segments[0].steps[0].codes[0], 1);
    // Decision 3 was made at the end of a limited interval, but its own outcome was not limited.
    ASSERT_EQ(segments[1].steps.size(), 2U);
    EXPECT_EQ(segments[1].steps[0].codes[0], 3);
    EXPECT_EQ(b.stats().app_limited, 1U);
}

TEST(Segments, FlowsAreKeptApart) {
    SegmentBuilder b = builder();
    for (uint32_t seq = 1; seq <= 4; seq++) {
        b.add(sample(7, seq));
        b.add(sample(3, seq + 100));
    }
    const auto segments = b.take();
    ASSERT_EQ(segments.size(), 2U);
    EXPECT_EQ(segments[0].flow, 3U);
    EXPECT_EQ(segments[1].flow, 7U);
    for (const Segment& segment : segments) {
        ASSERT_EQ(segment.steps.size(), 3U);
        for (const Step& step : segment.steps) EXPECT_EQ(step.reward, step.codes[0] + 1);
    }
}

TEST(Segments, DuplicatesAndWrapAround) {
    SegmentBuilder b = builder();
    b.add(sample(1, 0xffffffffU));
    b.add(sample(1, 0xffffffffU));
    b.add(sample(1, 0));
    b.add(sample(1, 1));
    EXPECT_EQ(b.ready(), 2U);
    EXPECT_EQ(b.stats().gaps, 0U);
}

TEST(Segments, DefaultRewardIsTheSharedOne) {
    SegmentBuilder b;
    adp_cc_sample first = sample(1, 1);
    adp_cc_sample second = sample(1, 2);
    second.interval.delivered = 100;
    second.interval.mss = 1448;
    second.interval.rtt_us = 60'000;
    second.interval.min_rtt_us = 40'000;
    second.interval.lost = 3;
    second.objective = {65536, 32768, 655360};
    b.add(first);
    b.add(second);
    const auto segments = b.take();
    ASSERT_EQ(segments.size(), 1U);
    EXPECT_FLOAT_EQ(segments[0].steps.at(0).reward,
                    static_cast<float>(adp_cc_reward(&second.interval, &second.objective)) / 65536.0F);
}

}  // namespace
}  // namespace adapath
