// Learning by turns: against made-up rewards, where the truth is known, and on simulated links, where it is not.
#include "models/tuner.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "codegen/codegen.h"
#include "models/float_runner.h"
#include "models/simulator.h"

namespace adapath {
namespace {

// Flows whose rewards are a function of the setting that decides and of the time.
class MadeUp {
public:
    using Rewards = std::function<double(const TunerSetting& setting, uint64_t flow, double time_s)>;

    MadeUp(Tuner& tuner, Rewards rewards, size_t flows = 4)
        : tuner_(tuner), rewards_(std::move(rewards)), flows_(flows) {
        bring();
    }
    void run(double seconds) {
        const double until_s = time_s_ + seconds;
        while (time_s_ < until_s) {
            time_s_ += 0.05;
            for (uint64_t flow = 1; flow <= flows_; flow++) {
                const adp_cc_sample s = sample(flow);
                tuner_.add({&s, 1});
                if (tuner_.wanted() != deciding_) bring();
            }
            const size_t i = static_cast<size_t>(time_s_);
            if (seen_.size() <= i) seen_.push_back(deciding_);
        }
    }
    void bring() {
        deciding_ = tuner_.wanted();
        tuner_.decides(++generation_);
    }
    [[nodiscard]] const std::vector<TunerSetting>& each_second() const { return seen_; }
    double app_limited = 0;  // share of the samples, in turn
    double noise = 0;        // standard deviation of a sample's reward
    std::function<bool(uint64_t flow, double time_s)> silent = [](uint64_t, double) { return false; };

private:
    adp_cc_sample sample(uint64_t flow) {
        adp_cc_sample s = {};
        s.flow = flow;
        s.time_us = static_cast<uint64_t>(time_s_ * 1e6);
        s.generation = generation_;
        s.objective = {.throughput_q16 = 65536, .delay_q16 = 0, .loss_q16 = 0};
        s.interval.us = 1000000;
        s.interval.mss = 1;
        // reward = log2(rate / 16384)
        const double reward = rewards_(deciding_, flow, time_s_) + noise * random_.normal();
        s.interval.delivered = static_cast<uint32_t>(std::lround(std::exp2(reward) * 16384));
        if (silent(flow, time_s_) || random_.uniform() < app_limited) s.flags = ADP_CC_APP_LIMITED;
        return s;
    }

    Tuner& tuner_;
    Rewards rewards_;
    size_t flows_;
    Random random_{5};
    double time_s_ = 1;
    uint32_t generation_ = 0;
    TunerSetting deciding_;
    std::vector<TunerSetting> seen_;
};

double distance(const TunerSetting& s, double bias, double gain) {
    return std::abs(s.bias - bias) + std::abs(std::log(s.gain / gain));
}
MadeUp::Rewards best_at(double bias, double gain) {
    return [=](const TunerSetting& s, uint64_t flow, double) {
        const double b = s.bias - bias;
        const double g = std::log(s.gain / gain);
        return 1.0 + static_cast<double>(flow) - 8 * b * b - g * g;
    };
}

TEST(Tuner, AppliesToTheLastLayerOnly) {
    Random random(3);
    const FloatModel model = read_float_model(ADAPATH_CC_MODELS "/policy.model").value();
    const FloatModel tuned = apply_setting(model, {.bias = -0.2, .gain = 1.5});
    EXPECT_EQ(tuned.network, model.network);
    for (int i = 0; i < 100; i++) {
        InputCodes codes(model.network.input_count());
        for (uint8_t& code : codes) code = static_cast<uint8_t>(random.bits32());
        EXPECT_NEAR(run_float(tuned, codes)[0], 1.5 * run_float(model, codes)[0] - 0.2, 1e-4);
    }
}

TEST(Tuner, FindsTheBestSettingWhereverItIs) {
    for (const auto& [bias, gain] :
         std::vector<std::pair<double, double>>{{-0.3, 1}, {0.25, 1}, {0, 1.8}, {-0.2, 0.6}}) {
        SCOPED_TRACE(testing::Message() << bias << " " << gain);
        Tuner tuner;
        MadeUp flows(tuner, best_at(bias, gain));
        flows.noise = 0.2;
        flows.run(1500);
        EXPECT_LT(distance(tuner.best(), bias, gain), 0.3) << describe(tuner.best());
        EXPECT_GT(tuner.counters().improvements, 0U);
    }
}

TEST(Tuner, WhereTheCheckpointIsBestItStaysAndRests) {
    Tuner tuner;
    MadeUp flows(tuner, best_at(0, 1));
    flows.noise = 0.3;
    flows.run(600);
    EXPECT_EQ(tuner.best(), TunerSetting{}) << describe(tuner.best());
    const uint64_t comparisons = tuner.counters().comparisons;
    flows.run(3600);
    // Eight comparisons before each rest, and the rests double.
    EXPECT_LT(tuner.counters().comparisons, comparisons + 60);
    size_t others = 0;
    for (size_t i = 1200; i < flows.each_second().size(); i++)
        others += flows.each_second()[i] != TunerSetting{} ? 1 : 0;
    EXPECT_LT(others, 600U) << "of 3000 s";
}

TEST(Tuner, NoiseAloneSeldomPassesForAGain) {
    uint64_t improvements = 0;
    uint64_t comparisons = 0;
    for (int round = 0; round < 20; round++) {
        Tuner tuner;
        Random random(static_cast<uint64_t>(round));
        double level = 0;
        uint64_t second = 0;
        // A link that moves by itself from second to second.
        MadeUp flows(tuner, [&](const TunerSetting&, uint64_t, double time_s) {
            if (static_cast<uint64_t>(time_s) != second) {
                second = static_cast<uint64_t>(time_s);
                level = 0.7 * level + 0.3 * random.normal();
            }
            return 2 + level;
        });
        flows.run(600);
        improvements += tuner.counters().improvements;
        comparisons += tuner.counters().comparisons;
    }
    EXPECT_GT(comparisons, 200U);
    // Looking again after every pair makes more than the table's 5 % of each look.
    EXPECT_LT(static_cast<double>(improvements), 0.15 * static_cast<double>(comparisons));
}

TEST(Tuner, WhenTheLinkChangesTheCheckpointDecidesAndWhatWasGoodIsTriedFirst) {
    Tuner tuner;
    // What is right on one link is very wrong on the other.
    MadeUp flows(tuner, [](const TunerSetting& s, uint64_t, double time_s) {
        const bool second = time_s > 1000 && time_s < 2000;
        const double b = s.bias - (second ? 0.3 : -0.3);
        return (second ? 1.0 : 4.0) - 8 * b * b;
    });
    flows.noise = 0.2;
    flows.run(999);
    const TunerSetting first = tuner.best();
    EXPECT_LT(distance(first, -0.3, 1), 0.25) << describe(first);
    flows.run(30);
    EXPECT_EQ(tuner.best(), TunerSetting{}) << describe(tuner.best());
    EXPECT_EQ(tuner.counters().changes_seen, 1U);
    flows.run(970);
    EXPECT_LT(distance(tuner.best(), 0.3, 1), 0.25) << describe(tuner.best());
    // Back: before long what was learned the first time decides again.
    flows.run(150);
    EXPECT_LT(distance(tuner.best(), -0.3, 1), 0.25) << describe(tuner.best());
}

TEST(Tuner, ARefusedChallengerIsNotWantedAgainAtOnce) {
    Tuner tuner;
    MadeUp flows(tuner, best_at(-0.3, 1));
    while (tuner.wanted() == TunerSetting{}) flows.run(0.05);
    const TunerSetting challenger = tuner.wanted();
    const uint64_t comparisons = tuner.counters().comparisons;
    tuner.refused();
    EXPECT_EQ(tuner.wanted(), TunerSetting{});
    EXPECT_EQ(tuner.counters().comparisons, comparisons + 1);
    flows.bring();
    while (tuner.wanted() == TunerSetting{}) flows.run(0.05);
    EXPECT_NE(tuner.wanted(), challenger);
}

TEST(Tuner, WhenTheBestIsRefusedTheCheckpointIsWanted) {
    Tuner tuner;
    MadeUp flows(tuner, best_at(-0.3, 1));
    flows.run(300);
    ASSERT_NE(tuner.best(), TunerSetting{});
    while (tuner.wanted() != tuner.best()) flows.run(0.05);
    tuner.refused();
    EXPECT_EQ(tuner.wanted(), TunerSetting{});
    flows.bring();
    flows.run(600);
    EXPECT_LT(distance(tuner.best(), -0.3, 1), 0.25) << describe(tuner.best());
}

TEST(Tuner, APauseLeavesTheBestInPlace) {
    Tuner tuner;
    MadeUp flows(tuner, best_at(-0.3, 1));
    while (tuner.wanted() == TunerSetting{}) flows.run(0.05);
    tuner.pause();
    EXPECT_EQ(tuner.wanted(), TunerSetting{});
    EXPECT_EQ(tuner.counters().comparisons, 0U);
    flows.bring();
    flows.run(300);
    EXPECT_GT(tuner.counters().improvements, 0U);
}

TEST(Tuner, IdleApplicationsTeachNothing) {
    Tuner tuner;
    MadeUp flows(tuner, best_at(-0.3, 1));
    flows.app_limited = 1;
    flows.run(300);
    EXPECT_EQ(tuner.counters().comparisons, 0U);
    EXPECT_GT(tuner.counters().wasted_turns, 10U);
    // Flows that come and go: only those that both turns know are compared.
    flows.app_limited = 0;
    flows.silent = [](uint64_t flow, double time_s) {
        return flow != 1 && (static_cast<uint64_t>(time_s) / 3 + flow) % 4 != 0;
    };
    flows.run(900);
    EXPECT_LT(distance(tuner.best(), -0.3, 1), 0.3) << describe(tuner.best());
}

TEST(Tuner, GoesOnFromWhatWasSaved) {
    Tuner tuner;
    tuner.resume({.bias = -0.2, .gain = 1.2}, {{}, {.bias = 0.3, .gain = 1}});
    EXPECT_EQ(tuner.wanted(), (TunerSetting{.bias = -0.2, .gain = 1.2}));
    EXPECT_EQ(tuner.good_before().size(), 2U);
    tuner.restart();
    EXPECT_EQ(tuner.best(), TunerSetting{});
}

// On simulated links, with the committed checkpoint: the link changes twice.
class TunerOnLinks : public ::testing::Test {
protected:
    struct Rewards {
        std::vector<double> second_half;  // of each phase
        TunerCounters counters;
    };
    static std::vector<Capacity::Step> link(double phase_s) {
        std::vector<Capacity::Step> steps = {{phase_s, 1.5e6}};
        for (double t = 0; t < phase_s - 1e-9; t += 0.3) {  // 100 ms of every 300, three times as fast
            steps.push_back({0.1, 4.5e6});
            steps.push_back({0.2, 1.0});
        }
        steps.push_back({phase_s, 1.5e6});
        return steps;
    }
    static adp_u32 to_weight(double weight) { return static_cast<adp_u32>(weight * ADP_Q16_ONE); }
    static Rewards run(bool learning, double phase_s, uint64_t seed, double delay_weight) {
        Result<FloatModel> policy = read_float_model(ADAPATH_CC_MODELS "/policy.model");
        EXPECT_TRUE(policy) << policy.error().message;
        LinkOptions options;
        options.capacity = Capacity::steps(link(phase_s));
        options.queue_bytes = 900000;
        std::vector<FlowOptions> flows(4);
        for (size_t i = 0; i < flows.size(); i++) flows[i].start_s = 0.2 * static_cast<double>(i);
        Simulator simulator(options, flows, seed);
        simulator.set_objective({ADP_Q16_ONE, to_weight(delay_weight), ADP_CC_LOSS_DEFAULT_Q16});
        Tuner tuner;
        uint32_t generation = 0;
        TunerSetting deciding;
        const auto bring = [&] {
            deciding = tuner.wanted();
            auto runner = std::make_shared<FloatRunner>(apply_setting(*policy, deciding));
            simulator.set_policy([runner](const uint8_t* input) { return runner->run_q16(input); }, ++generation, 0);
            tuner.decides(generation);
        };
        bring();
        std::vector<adp_cc_sample> batch;
        double reward = 0;
        double us = 0;
        simulator.set_samples([&](const adp_cc_sample& s) {
            batch.push_back(s);
            reward += s.interval.us * (adp_cc_reward(&s.interval, &s.objective) / 65536.0);
            us += s.interval.us;
        });
        Rewards rewards;
        double now_s = 0;
        for (int phase = 0; phase < 3; phase++) {
            for (int half = 0; half < 2; half++) {
                reward = us = 0;
                for (int i = 0; i < static_cast<int>(phase_s * 5); i++) {
                    simulator.run_until(now_s += 0.1);
                    if (learning) {
                        tuner.add(batch);
                        if (tuner.wanted() != deciding) bring();
                    }
                    batch.clear();
                }
                if (half == 1) rewards.second_half.push_back(reward / us);
            }
        }
        rewards.counters = tuner.counters();
        return rewards;
    }
};

TEST_F(TunerOnLinks, LearnsEachRegimeAndForgetsNothing) {
    for (uint64_t seed : {1, 2}) {
        SCOPED_TRACE(seed);
        const Rewards frozen = run(false, 240, seed, 1);
        const Rewards learned = run(true, 240, seed, 1);
        for (int phase = 0; phase < 3; phase++) {
            EXPECT_GT(learned.second_half[phase], frozen.second_half[phase] + 0.1) << phase;
        }
        EXPECT_GT(learned.second_half[2], 0.95 * learned.second_half[0]);
        EXPECT_GT(learned.counters.changes_seen, 0U);
    }
}

// With the default objective there is nothing to be had here: looking for it costs the turns of the worse settings, and
// no more than that.
TEST_F(TunerOnLinks, LookingInVainCostsLittle) {
    for (uint64_t seed : {1, 2}) {
        SCOPED_TRACE(seed);
        const double weight = ADP_CC_DELAY_DEFAULT_Q16 / 65536.0;
        const Rewards frozen = run(false, 240, seed, weight);
        const Rewards learned = run(true, 240, seed, weight);
        for (int phase = 0; phase < 3; phase++) {
            EXPECT_GT(learned.second_half[phase], frozen.second_half[phase] - 0.1) << phase;
        }
    }
}

}  // namespace
}  // namespace adapath
