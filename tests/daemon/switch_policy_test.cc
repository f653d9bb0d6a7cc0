// When to roll back: synthetic rewards in, verdicts out, no clock.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "userspace/adapathd/switch_policy.h"

namespace adapath {
namespace {

constexpr uint64_t kStepUs = 50000;  // a decision of a flow every 50 ms

// Four flows; reward of a flow at a time.
using Rewards = std::function<double(uint64_t flow, double time_s)>;

struct Trial {
    explicit Trial(WatchOptions options = {}) : policy(options) {}
    SwitchPolicy policy;
    uint64_t now_us = 1000000;

    // Seconds until the verdict to roll back; -1 = none within `seconds`.
    double feed(uint32_t generation, double seconds, const Rewards& rewards, uint64_t flows = 4) {
        const uint64_t begin_us = now_us;
        while (now_us < begin_us + static_cast<uint64_t>(seconds * 1e6)) {
            now_us += kStepUs;
            for (uint64_t flow = 1; flow <= flows; flow++) {
                policy.add(flow, generation, rewards(flow, static_cast<double>(now_us) / 1e6), now_us);
            }
            if (policy.assess(now_us).roll_back) {
                return static_cast<double>(now_us - begin_us) / 1e6;
            }
        }
        return -1;
    }
    void switch_to(uint32_t generation, bool watch = true) { policy.on_switch(generation, now_us, watch); }
};

Rewards steady(double level) {
    return [level](uint64_t flow, double) { return level + static_cast<double>(flow); };
}

// A link that moves by itself: slow swings of its log rate, as LTE has, and noise of every interval.
Rewards moving(double level, uint32_t seed = 1) {
    auto random = std::make_shared<std::mt19937>(seed);
    auto noise = std::make_shared<std::normal_distribution<double>>(0, 0.4);
    return [=](uint64_t flow, double t) {
        return level + static_cast<double>(flow) + 0.6 * std::sin(t / 2.7) + 0.4 * std::sin(t / 0.9) +
               (*noise)(*random);
    };
}

TEST(SwitchPolicyTest, GoodSnapshotBecomesTrusted) {
    Trial run;
    run.switch_to(1);
    EXPECT_EQ(run.feed(1, 20, moving(3)), -1);
    run.switch_to(2);
    EXPECT_EQ(run.policy.state(), SwitchPolicy::State::watched);
    EXPECT_EQ(run.feed(2, 29, moving(3)), -1);
    EXPECT_EQ(run.policy.state(), SwitchPolicy::State::watched);
    EXPECT_EQ(run.feed(2, 2, moving(3)), -1);
    EXPECT_EQ(run.policy.state(), SwitchPolicy::State::trusted);
}

TEST(SwitchPolicyTest, TurnsAreHeldAgainstWhatTheOtherJustEarned) {
    WatchOptions options;
    options.margin = 2;
    Trial run(options);
    run.switch_to(1);
    run.feed(1, 20, moving(6));
    const auto turns = [&](int pairs, const Rewards& first, const Rewards& second) {
        for (int i = 0; i < pairs; i++) {
            run.policy.on_switch(1, run.now_us, true, {}, true);
            EXPECT_EQ(run.feed(1, 4, first), -1);
            run.policy.on_switch(2, run.now_us, true, {}, true);
            if (const double caught_s = run.feed(2, 4, second); caught_s >= 0) {
                return caught_s;
            }
        }
        return -1.0;
    };
    EXPECT_EQ(turns(5, moving(6), moving(5.5)), -1);
    // The link gets worse, step by step, for both: nothing to blame either for.
    for (double level : {5.0, 4.0, 3.0, 2.0, 1.0, 0.0}) {
        EXPECT_EQ(turns(2, moving(level), moving(level)), -1) << level;
    }
    // One that is much worse than the other is caught within its turn.
    const double caught_s = turns(1, steady(0), steady(-8));
    EXPECT_GE(caught_s, 1.5);
    EXPECT_LT(caught_s, 4);
}

TEST(SwitchPolicyTest, CollapseIsCaughtWithinSeconds) {
    Trial run;
    run.switch_to(1);
    run.feed(1, 20, moving(3));
    run.switch_to(2);
    const double begin_s = static_cast<double>(run.now_us) / 1e6;
    const Rewards still = moving(3, 2);
    // Output -1: a fifth of an octave less an interval, down to the floor five octaves below.
    const double caught_s = run.feed(
        2, 30, [&](uint64_t flow, double t) { return still(flow, t) - std::min(5.0, 0.29 * (t - begin_s) * 20); });
    EXPECT_GE(caught_s, 1.5);
    EXPECT_LE(caught_s, 4);
}

TEST(SwitchPolicyTest, BloatIsCaughtWithinSeconds) {
    Trial run;
    run.switch_to(1);
    run.feed(1, 20, moving(3));
    run.switch_to(2);
    const double begin_s = static_cast<double>(run.now_us) / 1e6;
    const Rewards still = moving(3, 2);
    // Output +1: the queue fills within a second, delay and losses cost four octaves.
    const double caught_s =
        run.feed(2, 30, [&](uint64_t flow, double t) { return still(flow, t) - std::min(4.0, 4 * (t - begin_s)); });
    EXPECT_GE(caught_s, 1.5);
    EXPECT_LE(caught_s, 4);
}

TEST(SwitchPolicyTest, SmallLossIsPutUpWith) {
    Trial run;
    run.switch_to(1);
    run.feed(1, 20, steady(3));
    run.switch_to(2);
    EXPECT_EQ(run.feed(2, 31, steady(2.2)), -1);
}

TEST(SwitchPolicyTest, NoiseOfTheLinkWidensTheMargin) {
    // The same loss: over the margin on a still link, within the noise of one that swings.
    Trial still;
    still.switch_to(1);
    still.feed(1, 20, steady(3));
    still.switch_to(2);
    EXPECT_GT(still.feed(2, 31, steady(1.7)), 0);

    const auto swinging = [](double level) {
        return [level](uint64_t flow, double t) { return level + static_cast<double>(flow) + 1.2 * std::sin(t / 2); };
    };
    Trial swing;
    swing.switch_to(1);
    swing.feed(1, 20, swinging(3));
    swing.switch_to(2);
    EXPECT_EQ(swing.feed(2, 10, swinging(2.7)), -1);
}

TEST(SwitchPolicyTest, FalseAlarmsAreRare) {
    int alarms = 0;
    for (uint32_t seed = 1; seed <= 50; seed++) {
        Trial run;
        run.now_us = seed * 777777;
        run.switch_to(1);
        run.feed(1, 20, moving(3, seed));
        run.switch_to(2);
        alarms += run.feed(2, 31, moving(3, seed + 100)) > 0 ? 1 : 0;
    }
    EXPECT_LE(alarms, 1);
}

TEST(SwitchPolicyTest, FewDecisionsDecideNothing) {
    Trial run;
    run.switch_to(1);
    run.feed(1, 20, steady(3));
    run.switch_to(2);
    // 19 bad decisions, over more than enough time.
    for (int i = 0; i < 19; i++) {
        run.now_us += 200000;
        run.policy.add(1, 2, -10, run.now_us);
        ASSERT_FALSE(run.policy.assess(run.now_us).roll_back);
    }
    run.now_us += 100000;
    run.policy.add(1, 2, -10, run.now_us);
    EXPECT_TRUE(run.policy.assess(run.now_us).roll_back);
}

TEST(SwitchPolicyTest, ManyDecisionsInAShortTimeDecideNothing) {
    Trial run;
    run.switch_to(1);
    run.feed(1, 20, steady(3));
    run.switch_to(2);
    for (int i = 0; i < 1000; i++) {
        run.now_us += 1000;
        run.policy.add(1, 2, -10, run.now_us);
        ASSERT_FALSE(run.policy.assess(run.now_us).roll_back) << "after " << i << " ms";
    }
}

TEST(SwitchPolicyTest, WithoutABaselineNothingIsJudged) {
    Trial run;
    run.switch_to(1);
    EXPECT_EQ(run.policy.state(), SwitchPolicy::State::trusted);
    EXPECT_EQ(run.feed(1, 10, steady(-20)), -1);
}

TEST(SwitchPolicyTest, FallbackIsABaseline) {
    Trial run;
    run.feed(0, 10, steady(3));
    run.switch_to(1);
    EXPECT_EQ(run.policy.state(), SwitchPolicy::State::watched);
    EXPECT_GT(run.feed(1, 10, steady(-1)), 0);
}

TEST(SwitchPolicyTest, RewardsOfOlderDecisionsDoNotCount) {
    Trial run;
    run.switch_to(1);
    run.feed(1, 20, steady(3));
    run.switch_to(2);
    for (int i = 0; i < 200; i++) {
        run.now_us += kStepUs;
        run.policy.add(1, 1, -30, run.now_us);  // a flow still bound to the old one
        run.policy.add(2, 2, 5, run.now_us);
        ASSERT_FALSE(run.policy.assess(run.now_us).roll_back);
    }
}

TEST(SwitchPolicyTest, EachFlowIsHeldAgainstItself) {
    // The fast flow ends with the switch: the mean of all falls, no flow does worse.
    Trial run;
    run.switch_to(1);
    run.feed(1, 20, [](uint64_t flow, double) { return flow == 1 ? 0.0 : 12.0; }, 2);
    run.switch_to(2);
    EXPECT_EQ(run.feed(2, 31, [](uint64_t, double) { return 0.0; }, 1), -1);
}

TEST(SwitchPolicyTest, UntrustedSnapshotNeverBecomesTheBaseline) {
    // A bad one is replaced by another bad one before it is judged: both are held against the last trusted.
    Trial run;
    run.switch_to(1);
    run.feed(1, 20, steady(3));
    run.switch_to(2);
    EXPECT_EQ(run.feed(2, 1, steady(-2)), -1);
    run.switch_to(3);
    EXPECT_GT(run.feed(3, 5, steady(-2)), 0);
}

TEST(SwitchPolicyTest, TheNextIsHeldAgainstTheBetter) {
    // Worth four more than the fallback, but not trusted yet; what follows falls back to the fallback's level.
    Trial run;
    run.feed(0, 10, steady(0));
    run.switch_to(1);
    EXPECT_EQ(run.feed(1, 6, steady(4)), -1);
    run.switch_to(2);
    EXPECT_GT(run.feed(2, 10, steady(0)), 0);
}

TEST(SwitchPolicyTest, TrustMovesTheBaselineAtOnce) {
    Trial run;
    run.feed(0, 10, steady(0));
    run.switch_to(1);
    EXPECT_EQ(run.feed(1, 31, steady(4)), -1);
    EXPECT_EQ(run.policy.state(), SwitchPolicy::State::trusted);
    run.switch_to(2);
    EXPECT_GT(run.feed(2, 10, steady(0)), 0);
}

TEST(SwitchPolicyTest, RollBackCanBeTurnedOff) {
    WatchOptions options;
    options.rollback = false;
    Trial run(options);
    run.switch_to(1);
    run.feed(1, 20, steady(3));
    run.switch_to(2);
    EXPECT_EQ(run.feed(2, 31, steady(-5)), -1);
}

}  // namespace
}  // namespace adapath
