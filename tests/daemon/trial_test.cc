// Is what is on trial as good as what it is to replace? Synthetic rewards in, verdicts out, no clock.
#include <gtest/gtest.h>

#include <adapath/abi.h>

#include <cmath>
#include <functional>
#include <memory>
#include <random>
#include <set>

#include "userspace/adapathd/switch_policy.h"
#include "userspace/adapathd/trial.h"

namespace adapath {
namespace {

constexpr uint64_t kStepUs = 50000;  // a decision of a flow every 50 ms
constexpr uint32_t kOld = 1;
constexpr uint32_t kNew = 2;

// Reward of a flow at a time, in seconds since the trial began.
using Rewards = std::function<double(uint64_t flow, bool on_trial, double time_s)>;

struct SideBySide {
    explicit SideBySide(uint64_t flow_count = 8, TrialOptions given = {}) : options(given), trial(given) {
        for (uint64_t flow = 1; flow <= flow_count; flow++) {
            flows.push_back(flow);
            baselines[flow] = 3 + static_cast<double>(flow);  // paths of all speeds
        }
        const Result<uint32_t> chosen = choose_share(flows, options);
        share = chosen ? *chosen : 0;
        begin_us = now_us;
        trial.begin(kNew, kOld, baselines, now_us);
    }
    [[nodiscard]] bool on_trial(uint64_t flow) const { return adp_flow_in_share(flow, share) != 0; }
    // Until a verdict, at most for so long.
    Trial::Verdict feed(double seconds, const Rewards& rewards) {
        const uint64_t end_us = now_us + static_cast<uint64_t>(seconds * 1e6);
        while (now_us < end_us) {
            now_us += kStepUs;
            const double time_s = static_cast<double>(now_us - begin_us) / 1e6;
            for (const uint64_t flow : flows) {
                const bool trial_flow = on_trial(flow);
                trial.add(flow, trial_flow ? kNew : kOld, baselines[flow] + rewards(flow, trial_flow, time_s), now_us);
            }
            if (Trial::Verdict verdict = trial.assess(now_us); verdict.outcome != Trial::Outcome::undecided) {
                return verdict;
            }
        }
        return {};
    }
    [[nodiscard]] double elapsed_s() const { return static_cast<double>(now_us - begin_us) / 1e6; }

    TrialOptions options;
    Trial trial;
    std::vector<uint64_t> flows;
    Trial::Baselines baselines;
    uint32_t share = 0;
    uint64_t now_us = 1000000;
    uint64_t begin_us = 0;
};

Rewards with_noise(const Rewards& rewards, double deviation, uint32_t seed) {
    auto random = std::make_shared<std::mt19937>(seed);
    auto noise = std::make_shared<std::normal_distribution<double>>(0, deviation);
    return [=](uint64_t flow, bool on_trial, double t) { return rewards(flow, on_trial, t) + (*noise)(*random); };
}

TEST(TrialShareTest, SomeFlowsAreOnTrialAndSomeAreNot) {
    std::mt19937_64 random(1);
    for (int round = 0; round < 2000; round++) {
        TrialOptions options;
        options.share = std::uniform_real_distribution<double>(0.001, 0.999)(random);
        std::set<uint64_t> flows;
        const size_t count = 4 + random() % 30;
        while (flows.size() < count) {
            flows.insert(round % 2 == 0 ? 1 + random() % 1000 : random());
        }
        const std::vector<uint64_t> list(flows.begin(), flows.end());
        const Result<uint32_t> share = choose_share(list, options);
        ASSERT_TRUE(share) << share.error().message;
        size_t in = 0;
        for (const uint64_t flow : list) {
            in += adp_flow_in_share(flow, *share) != 0 ? 1 : 0;
        }
        ASSERT_GE(in, 1U);
        ASSERT_LT(in, list.size());
    }
}

TEST(TrialShareTest, FlowsInARowGiveJustAboutTheShare) {
    std::vector<uint64_t> flows;
    for (uint64_t flow = 1000; flow < 1100; flow++) {
        flows.push_back(flow);
    }
    const Result<uint32_t> share = choose_share(flows, {});
    ASSERT_TRUE(share);
    EXPECT_EQ(*share, 16384U);
}

TEST(TrialShareTest, TooFewFlowsAreNone) {
    const std::vector<uint64_t> three{1, 2, 3};
    const Result<uint32_t> share = choose_share(three, {});
    ASSERT_FALSE(share);
    EXPECT_NE(share.error().message.find("3 live flows"), std::string::npos) << share.error().message;
    TrialOptions fewer;
    fewer.min_flows = 0;  // never fewer than one on either side
    EXPECT_FALSE(choose_share(std::vector<uint64_t>{1}, fewer));
    EXPECT_TRUE(choose_share(std::vector<uint64_t>{1, 2}, fewer));
}

TEST(TrialTest, AsGoodPassesAfterItsSeconds) {
    SideBySide run;
    const Trial::Verdict verdict = run.feed(20, with_noise([](uint64_t, bool, double) { return 0.0; }, 0.4, 1));
    EXPECT_EQ(verdict.outcome, Trial::Outcome::passed);
    EXPECT_GE(run.elapsed_s(), run.options.seconds);
    EXPECT_LE(run.elapsed_s(), run.options.seconds + 1);
    EXPECT_FALSE(verdict.text.empty());
}

TEST(TrialTest, BetterPasses) {
    SideBySide run;
    EXPECT_EQ(run.feed(20, [](uint64_t, bool on_trial, double) { return on_trial ? 2.0 : 0.0; }).outcome,
              Trial::Outcome::passed);
    EXPECT_EQ(run.trial.knowledge().shared_loss, 0);
}

TEST(TrialTest, WorseFailsBeforeItsSecondsAreOver) {
    SideBySide run;
    // A fifth of an octave less an interval, down to four below.
    const Trial::Verdict verdict = run.feed(
        20,
        with_noise([](uint64_t, bool on_trial, double t) { return on_trial ? -std::min(4.0, 4 * t) : 0.0; }, 0.4, 2));
    EXPECT_EQ(verdict.outcome, Trial::Outcome::failed);
    EXPECT_LT(run.elapsed_s(), run.options.seconds);
}

TEST(TrialTest, ALinkThatFallsUnderAllIsNobodysFault) {
    for (const double fall : {1.0, 3.0, 8.0}) {
        SideBySide run;
        const Trial::Verdict verdict =
            run.feed(20, with_noise([=](uint64_t, bool, double t) { return t > 1 ? -fall : 0.0; }, 0.3, 3));
        EXPECT_EQ(verdict.outcome, Trial::Outcome::passed) << "fallen by " << fall << ": " << verdict.text;
        EXPECT_NEAR(run.trial.knowledge().shared_loss, fall, 0.3);
    }
}

TEST(TrialTest, ALinkThatRisesHidesNothing) {
    SideBySide run;
    EXPECT_EQ(run.feed(20, [](uint64_t, bool on_trial, double) { return on_trial ? 0.5 : 3.0; }).outcome,
              Trial::Outcome::failed);
}

TEST(TrialTest, WhatFlowsDifferByAmongThemselvesGivesItTime) {
    // The same loss: clear where flows agree; where they do not it may come out of it, and does, or does not.
    const auto rewards = [](double spread, double until_s) {
        return [=](uint64_t flow, bool on_trial, double t) {
            return (flow % 4 < 2 ? spread : -spread) + (on_trial && t < until_s ? -1.6 : 0.0);
        };
    };
    SideBySide clear;
    EXPECT_EQ(clear.feed(60, rewards(0, 60)).outcome, Trial::Outcome::failed);
    EXPECT_LE(clear.elapsed_s(), clear.options.seconds + 0.1);
    SideBySide recovers;
    EXPECT_EQ(recovers.feed(60, rewards(2, 8)).outcome, Trial::Outcome::passed);
    EXPECT_GT(recovers.elapsed_s(), recovers.options.seconds + 1);
    SideBySide stays;
    EXPECT_EQ(stays.feed(60, rewards(2, 60)).outcome, Trial::Outcome::failed);
    EXPECT_GT(stays.elapsed_s(), stays.options.seconds + 1);
}

TEST(TrialTest, ABadOneCantHideBehindItsOwnScatter) {
    SideBySide run;
    EXPECT_EQ(run.feed(60, [](uint64_t flow, bool on_trial,
                              double) { return on_trial ? (flow % 2 == 0 ? -0.2 : -8.0) : 0.0; })
                  .outcome,
              Trial::Outcome::failed);
}

TEST(TrialTest, FalseAlarmsAreRare) {
    int failed = 0;
    for (uint32_t seed = 1; seed <= 100; seed++) {
        auto random = std::make_shared<std::mt19937>(seed);
        std::normal_distribution<double> level(0, 0.5);
        std::vector<double> levels(9);
        for (double& flow : levels) {
            flow = level(*random);  // each flow's own luck, for the whole of the trial
        }
        SideBySide run(4 + seed % 5);
        failed += run.feed(20, with_noise([&](uint64_t flow, bool, double t) { return levels[flow] + std::sin(t); },
                                          0.4, seed))
                              .outcome == Trial::Outcome::failed
                      ? 1
                      : 0;
    }
    EXPECT_LE(failed, 5);
}

TEST(TrialTest, FewDecisionsConcludeNothing) {
    TrialOptions options;
    options.min_decisions = 250;
    SideBySide run(4, options);
    EXPECT_EQ(run.feed(10, [](uint64_t, bool on_trial, double) { return on_trial ? -9.0 : 0.0; }).outcome,
              Trial::Outcome::undecided);
}

TEST(TrialTest, ATrialThatStallsItsFlowsFails) {
    SideBySide run;
    Trial::Verdict verdict;
    while (verdict.outcome == Trial::Outcome::undecided && run.elapsed_s() < 60) {
        run.now_us += kStepUs;
        for (const uint64_t flow : run.flows) {
            if (!run.on_trial(flow)) {
                run.trial.add(flow, kOld, 1, run.now_us);
            }
        }
        verdict = run.trial.assess(run.now_us);
    }
    EXPECT_EQ(verdict.outcome, Trial::Outcome::failed);
}

TEST(TrialTest, WithoutFlowsThereIsNothingToProtect) {
    SideBySide run;
    run.now_us += 600'000'000;
    EXPECT_EQ(run.trial.assess(run.now_us).outcome, Trial::Outcome::passed);
    EXPECT_EQ(run.trial.knowledge().margin_factor, 1) << "it has shown nothing";
}

TEST(TrialTest, FlowsThatBeganMeanwhileSayNothing) {
    SideBySide run;
    for (int i = 0; i < 400; i++) {
        run.now_us += 10000;
        for (uint64_t flow = 100; flow < 110; flow++) {
            run.trial.add(flow, run.on_trial(flow) ? kNew : kOld, run.on_trial(flow) ? -50 : 0, run.now_us);
        }
    }
    EXPECT_EQ(run.trial.assess(run.now_us).outcome, Trial::Outcome::undecided);
    EXPECT_EQ(run.feed(20, [](uint64_t, bool, double) { return 0.0; }).outcome, Trial::Outcome::passed);
}

TEST(TrialTest, OthersGenerationsDoNotCount) {
    SideBySide run;
    for (int i = 0; i < 1000; i++) {
        run.now_us += 1000;
        run.trial.add(1, 77, -50, run.now_us);
        run.trial.add(2, 0, -50, run.now_us);
    }
    EXPECT_EQ(run.trial.describe(), "0 decisions a flow on trial so far, 0 a flow of the others");
    run.trial.end();
    EXPECT_EQ(run.trial.generation(), 0U);
    EXPECT_EQ(run.trial.describe(), "");
}

// ---- the watch after a trial ----

struct Watch {
    Watch() {
        policy.on_switch(kOld, now_us, false);
        feed(kOld, 20, 0);
    }
    // Did it roll back?
    bool feed(uint32_t generation, double seconds, double change) {
        const uint64_t end_us = now_us + static_cast<uint64_t>(seconds * 1e6);
        while (now_us < end_us) {
            now_us += kStepUs;
            for (uint64_t flow = 1; flow <= 8; flow++) {
                policy.add(flow, generation, 3 + static_cast<double>(flow) + change, now_us);
            }
            if (policy.assess(now_us).roll_back) {
                return true;
            }
        }
        return false;
    }
    uint64_t now_us = 1000000;
    SwitchPolicy policy{WatchOptions{}};
};

TEST(WatchAfterATrialTest, WhatTheLinkTookFromBothSidesIsNotHeldAgainstIt) {
    Watch unaware;
    unaware.policy.on_switch(kNew, unaware.now_us, true);
    EXPECT_TRUE(unaware.feed(kNew, 20, -3));
    Watch aware;
    aware.policy.on_switch(kNew, aware.now_us, true, {1.5, 3});
    EXPECT_FALSE(aware.feed(kNew, 31, -3));
    EXPECT_EQ(aware.policy.state(), SwitchPolicy::State::trusted);
}

TEST(WatchAfterATrialTest, WhatATrialCantSeeIsStillCaught) {
    Watch watch;
    watch.policy.on_switch(kNew, watch.now_us, true, {1.5, 0});
    EXPECT_TRUE(watch.feed(kNew, 20, -2));
}

TEST(WatchAfterATrialTest, TheNextSwitchKnowsNothingOfIt) {
    Watch watch;
    watch.policy.on_switch(kNew, watch.now_us, true, {1.5, 10});
    EXPECT_FALSE(watch.feed(kNew, 31, -3));
    watch.policy.on_switch(3, watch.now_us, true);
    EXPECT_TRUE(watch.feed(3, 20, -6));
}

}  // namespace
}  // namespace adapath
