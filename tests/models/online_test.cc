// The online trainer: when it trains, when it calls itself stable, when it calls a switch necessary, and that what it
// learns from a running flow is worth having.
#include "models/online.h"

#include <gtest/gtest.h>

#include <cmath>

#include "models/cc_model.h"
#include "models/float_runner.h"
#include "models/ppo.h"
#include "models/scenario.h"

namespace adapath {
namespace {

FloatModel fresh_policy(uint64_t seed = 1) {
    PpoOptions o;
    o.seed = seed;
    return Ppo({cc_network(), {}, {}}, {cc_value_network(), {}, {}}, o).policy();
}

FloatModel no_value() { return {cc_value_network(), {}, {}}; }

LinkOptions link_10mbit() {
    LinkOptions link;
    link.rtt_s = 0.03;
    link.queue_bytes = 250'000;
    return link;
}

// Samples of a flow under `policy`, until `decisions` have been made.
class Gateway {
public:
    explicit Gateway(uint64_t seed) : simulator_(link_10mbit(), {FlowOptions{}}, seed) {
        simulator_.set_samples([this](const adp_cc_sample& s) { samples_.push_back(s); });
    }
    std::vector<adp_cc_sample> run(const FloatModel& policy, uint32_t generation, double sd, uint64_t decisions) {
        auto runner = std::make_shared<FloatRunner>(policy);
        simulator_.set_policy([runner](const uint8_t* in) { return runner->run_q16(in); }, generation,
                              static_cast<uint32_t>(sd * 65536));
        samples_.clear();
        simulator_.run_decisions(decisions, simulator_.now_s() + 1000);
        return samples_;
    }

private:
    Simulator simulator_;
    std::vector<adp_cc_sample> samples_;
};

OnlineOptions small_options() {
    OnlineOptions o;
    o.batch = 256;
    o.minibatch = 128;
    o.recent = 512;
    o.value_first = 1;
    o.stable_batches = 2;
    // A fresh value network explains nothing at first: what is tested with these is what comes after that.
    o.least_explained = -1e9;
    o.anchor = 0;
    return o;
}

TEST(Online, WaitsForABatch) {
    const FloatModel policy = fresh_policy();
    OnlineTrainer trainer(policy, no_value(), small_options());
    EXPECT_FALSE(trainer.step().trained);
    EXPECT_TRUE(trainer.recent_codes().empty());
    Gateway gateway(1);
    trainer.add(gateway.run(policy, 1, 0.2, 200));
    EXPECT_FALSE(trainer.step().trained);
    trainer.add(gateway.run(policy, 1, 0.2, 200));
    const OnlineStats stats = trainer.step();
    EXPECT_TRUE(stats.trained);
    EXPECT_EQ(stats.batch, 1U);
    EXPECT_NEAR(static_cast<double>(stats.samples), 400, 5);
    EXPECT_EQ(stats.explored, stats.samples);
    EXPECT_FALSE(trainer.step().trained);  // used up
    EXPECT_GT(trainer.recent_codes().size(), 390U);
    EXPECT_EQ(trainer.recent_codes().front().size(), static_cast<size_t>(ADP_CC_INPUTS));
}

TEST(Online, RecentInputsAreBounded) {
    OnlineOptions o = small_options();
    o.recent = 100;
    const FloatModel policy = fresh_policy();
    OnlineTrainer trainer(policy, no_value(), o);
    Gateway gateway(1);
    const auto samples = gateway.run(policy, 1, 0.2, 300);
    trainer.add(samples);
    const auto codes = trainer.recent_codes();
    ASSERT_EQ(codes.size(), 100U);
    EXPECT_TRUE(std::equal(codes.back().begin(), codes.back().end(), std::begin(samples.back().input)));
}

TEST(Online, OldStepsAreDroppedNotKept) {
    OnlineOptions o = small_options();
    o.max_pending = 500;
    const FloatModel policy = fresh_policy();
    OnlineTrainer trainer(policy, no_value(), o);
    Gateway gateway(1);
    for (int i = 0; i < 10; i++) trainer.add(gateway.run(policy, 1, 0.2, 300));
    EXPECT_GT(trainer.counters().dropped, 2000U);
    const OnlineStats stats = trainer.step();
    EXPECT_TRUE(stats.trained);
    EXPECT_LE(stats.samples, 800U);
}

TEST(Online, TheValueNetworkLearnsFirst) {
    const FloatModel policy = fresh_policy();
    OnlineTrainer trainer(policy, no_value(), small_options());
    Gateway gateway(1);
    trainer.add(gateway.run(policy, 1, 0.2, 300));
    EXPECT_TRUE(trainer.step().trained);
    EXPECT_EQ(trainer.current().weights, policy.weights);
    trainer.add(gateway.run(policy, 1, 0.2, 300));
    const OnlineStats stats = trainer.step();
    EXPECT_GT(stats.change, 0);
    EXPECT_NE(trainer.current().weights, policy.weights);
}

TEST(Online, ThePolicyWaitsForAValueNetworkThatKnowsTheLink) {
    const FloatModel policy = fresh_policy();
    OnlineOptions o = small_options();
    o.least_explained = 0.999;  // never reached
    OnlineTrainer trainer(policy, no_value(), o);
    Gateway gateway(1);
    for (int i = 0; i < 3; i++) {
        trainer.add(gateway.run(policy, 1, 0.3, 300));
        EXPECT_TRUE(trainer.step().trained);
    }
    EXPECT_EQ(trainer.current().weights, policy.weights);
    EXPECT_NE(trainer.value().weights, no_value().weights);
}

// A strong anchor: whatever the batches say, the policy decides nearly what it decided before.
TEST(Online, TheAnchorHoldsThePolicyNearItsCheckpoint) {
    const FloatModel policy = fresh_policy();
    double moved[2] = {};
    for (int anchored = 0; anchored < 2; anchored++) {
        OnlineOptions o = small_options();
        o.policy_rate = 3e-3;
        o.anchor = anchored ? 30 : 0;
        OnlineTrainer trainer(policy, no_value(), o);
        Gateway gateway(1);
        for (int i = 0; i < 8; i++) {
            trainer.add(gateway.run(trainer.current(), 1 + i, 0.4, 300));
            EXPECT_TRUE(trainer.step().trained);
        }
        const FloatModel now = trainer.current();
        FloatRunner before(policy);
        FloatRunner after(now);
        for (const InputCodes& codes : trainer.recent_codes())
            moved[anchored] += std::abs(before.run(codes.data()) - after.run(codes.data()));
    }
    EXPECT_LT(moved[1], moved[0] / 2);
}

TEST(Online, StableWhenOutputsStopMoving) {
    const FloatModel policy = fresh_policy();
    OnlineOptions o = small_options();
    OnlineTrainer trainer(policy, no_value(), o);
    Gateway gateway(1);
    EXPECT_FALSE(trainer.stable());
    // Without exploration there is nothing to move the policy, so it is as stable as can be: after the batch for the
    // value network alone and two more.
    for (int i = 0; i < 3; i++) {
        EXPECT_FALSE(trainer.stable()) << i;
        trainer.add(gateway.run(policy, 1, 0, 300));
        EXPECT_TRUE(trainer.step().trained);
    }
    EXPECT_TRUE(trainer.stable());
    trainer.restart_from(policy);
    EXPECT_FALSE(trainer.stable());
}

TEST(Online, NotStableWhileOutputsMove) {
    const FloatModel policy = fresh_policy();
    OnlineOptions o = small_options();
    o.stable_change = 0.001;
    o.policy_rate = 0.01;
    o.target_kl = 10;
    OnlineTrainer trainer(policy, no_value(), o);
    Gateway gateway(1);
    for (int i = 0; i < 4; i++) {
        trainer.add(gateway.run(trainer.current(), 1 + i, 0.4, 300));
        const OnlineStats stats = trainer.step();
        ASSERT_TRUE(stats.trained);
        if (i > 0) {
            EXPECT_GT(stats.change, o.stable_change);
        }
        EXPECT_FALSE(trainer.stable());
    }
}

TEST(Online, NecessaryWhenDecisionsDiffer) {
    const FloatModel policy = fresh_policy();
    OnlineTrainer trainer(policy, no_value(), small_options());
    EXPECT_FALSE(trainer.necessary(adversarial_cc(-1)));  // nothing seen: nothing known
    Gateway gateway(1);
    trainer.add(gateway.run(policy, 1, 0.3, 300));
    EXPECT_EQ(trainer.fidelity_loss(policy), 0);
    EXPECT_FALSE(trainer.necessary(policy));
    EXPECT_TRUE(trainer.necessary(adversarial_cc(-1)));
    EXPECT_TRUE(trainer.necessary(adversarial_cc(1)));
    // Outputs beyond the action's range are the same decision.
    OnlineTrainer full(adversarial_cc(1), no_value(), small_options());
    full.add(gateway.run(policy, 1, 0.3, 300));
    EXPECT_FALSE(full.necessary(adversarial_cc(3)));
}

TEST(Online, RestartTakesTheModelAndForgetsSamples) {
    const FloatModel policy = fresh_policy(1);
    const FloatModel other = fresh_policy(2);
    OnlineTrainer trainer(policy, no_value(), small_options());
    Gateway gateway(1);
    trainer.add(gateway.run(policy, 1, 0.3, 300));
    trainer.restart_from(other);
    EXPECT_EQ(trainer.current().weights, other.weights);
    EXPECT_FALSE(trainer.step().trained);
}

TEST(Online, StopEndsAStepEarly) {
    const FloatModel policy = fresh_policy();
    std::atomic<bool> stop{true};
    OnlineOptions o = small_options();
    o.value_first = 0;
    o.stop = &stop;
    OnlineTrainer trainer(policy, no_value(), o);
    Gateway gateway(1);
    trainer.add(gateway.run(policy, 1, 0.3, 300));
    (void)trainer.step();
    EXPECT_EQ(trainer.current().weights, policy.weights);
    stop = false;
    trainer.add(gateway.run(policy, 1, 0.3, 300));
    (void)trainer.step();
    EXPECT_NE(trainer.current().weights, policy.weights);
}

double reward_of(const FloatModel& model) {
    FloatRunner runner(model);
    Scenario scenario;
    scenario.rtt_s = 0.03;
    return score_link(scenario, [&](const uint8_t* in) { return runner.run_q16(in); }, 60).reward;
}

TEST(Online, LearnsFromARunningFlow) {
    // A policy that keeps the queue full, as after a change of the link that it was not trained for.
    FloatModel policy = fresh_policy(3);
    policy.biases.back()[0] = 0.3F;
    const double before = reward_of(policy);
    OnlineOptions o;
    o.batch = 1024;
    o.policy_rate = 5e-4;
    OnlineTrainer trainer(policy, no_value(), o);
    Gateway gateway(2);
    uint64_t trained = 0;
    for (uint32_t generation = 1; generation <= 50; generation++) {
        trainer.add(gateway.run(trainer.current(), generation, 0.25, 1100));
        trained += trainer.step().trained ? 1 : 0;
    }
    EXPECT_EQ(trained, 50U);
    EXPECT_EQ(trainer.counters().gaps, 0U);
    const double after = reward_of(trainer.current());
    EXPECT_GT(after, before + 0.5) << "before " << before;
}

}  // namespace
}  // namespace adapath
