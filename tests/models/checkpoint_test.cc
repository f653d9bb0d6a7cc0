// The committed checkpoint: a sane policy on links that neither trained nor chose it.
#include <gtest/gtest.h>

#include <filesystem>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "codegen/codegen.h"
#include "models/cc_model.h"
#include "models/cc_training.h"
#include "models/float_runner.h"
#include "models/scenario.h"

namespace adapath {
namespace {

const std::string folder = ADAPATH_CC_MODELS;

FloatModel checkpoint() {
    auto model = read_float_model(folder + "/policy.model");
    if (!model) throw std::runtime_error(model.error().message);
    return *model;
}

PolicyFunction runs(const FloatModel& model) {
    auto runner = std::make_shared<FloatRunner>(model);
    return [runner](const uint8_t* in) { return runner->run_q16(in); };
}

TEST(Checkpoint, FilesFitTheApp) {
    for (const char* name : {"/policy.model", "/value.model"}) {
        auto model = read_float_model(folder + name);
        ASSERT_TRUE(model.ok()) << (model.ok() ? "" : model.error().message);
        EXPECT_TRUE(validate(*model).ok());
        EXPECT_EQ(model->network, cc_network());
        EXPECT_LT(std::filesystem::file_size(folder + name), 50'000U);
    }
    EXPECT_TRUE(std::filesystem::exists(folder + "/CARD.md"));
}

TEST(Checkpoint, FillsLteLinksWithFarLessDelayThanCubic) {
    const HeldOut unseen = make_held_out(4242, 20, 0);
    const HeldOutScores scores = score_held_out(unseen, checkpoint());
    const Score policy = mean_score(scores.lte);
    const Score cubic = mean_score(unseen.lte_cubic);
    EXPECT_GE(policy.utilisation, 0.80);
    EXPECT_LT(policy.p95_ms, cubic.p95_ms / 2);
    EXPECT_LT(policy.mean_ms, cubic.mean_ms / 4);
    EXPECT_GT(policy.reward, cubic.reward + 0.5);
    for (size_t i = 0; i < scores.lte.size(); i++) EXPECT_GT(scores.lte[i].utilisation, 0.6) << describe(unseen.lte[i]);
}

TEST(Checkpoint, BeatsDoingNothingAndTheTeacher) {
    const HeldOut unseen = make_held_out(4243, 8, 16);
    const HeldOutScores policy = score_held_out(unseen, checkpoint());
    const HeldOutScores nothing = score_held_out(unseen, adversarial_cc(0));
    EXPECT_GT(mean_score(policy.mixed).reward, mean_score(nothing.mixed).reward + 0.5);
    // What is to be won is delay, whose default weight is 0.5.
    EXPECT_GT(mean_score(policy.lte).reward, mean_score(nothing.lte).reward + 0.25);
    double teacher = 0;
    for (const Scenario& s : unseen.mixed)
        teacher += score_link(s, [](const uint8_t* in) {
                       CcCodes codes;
                       std::copy(in, in + ADP_CC_INPUTS, codes.begin());
                       return static_cast<int32_t>(teacher_action(codes) * ADP_Q16_ONE);
                   }).reward;
    EXPECT_GT(mean_score(policy.mixed).reward, teacher / static_cast<double>(unseen.mixed.size()));
}

// With the default objective; on a queue as short as the RTT it does not (docs/cc.md).
TEST(Checkpoint, SharesWithCubic) {
    for (const double queue_s : {0.3, 1.0}) {
        LinkOptions link;
        link.capacity = Capacity::steps({{1000, 12e6 / 8}});
        link.rtt_s = 0.04;
        link.queue_bytes = static_cast<uint64_t>(12e6 / 8 * queue_s);
        FlowOptions cubic;
        cubic.cubic = true;
        Simulator simulator(std::move(link), {FlowOptions{}, cubic}, 1);
        simulator.set_policy(runs(checkpoint()), 1, 0);
        simulator.run_until(60);
        const auto x = static_cast<double>(simulator.flow_stats(0).delivered);
        const auto y = static_cast<double>(simulator.flow_stats(1).delivered);
        EXPECT_GE((x + y) * (x + y) / (2 * (x * x + y * y)), 0.75) << queue_s << " s: " << x << " and " << y;
    }
}

struct Phase {
    double utilisation;
    double p95_ms;
};

// The link is slow for 10 s, fast for 10 s, and again; the last 3 s of the second slow and fast phase.
std::pair<Phase, Phase> slow_and_fast(double slow_mbit, double fast_mbit, uint64_t queue_bytes) {
    LinkOptions link;
    link.capacity = Capacity::steps({{10, slow_mbit * 1e6 / 8}, {10, fast_mbit * 1e6 / 8}});
    link.rtt_s = 0.04;
    link.queue_bytes = queue_bytes;
    Simulator simulator(std::move(link), {FlowOptions{}}, 1);
    simulator.set_policy(runs(checkpoint()), 1, 0);
    auto measure = [&](double from_s, double to_s) {
        simulator.run_until(from_s);
        simulator.reset_stats();
        simulator.run_until(to_s);
        const LinkStats stats = simulator.link_stats();
        return Phase{stats.utilisation(), stats.sojourn_percentile_ms(0.95)};
    };
    const Phase slow = measure(27, 30);
    const Phase fast = measure(37, 40);
    return {slow, fast};
}

TEST(Checkpoint, FollowsALinkUpAndDown) {
    const auto [slow, fast] = slow_and_fast(2, 12, 300'000);
    EXPECT_GT(slow.utilisation, 0.7);
    EXPECT_LT(slow.p95_ms, 300);  // the queue alone would be 1.2 s
    EXPECT_GT(fast.utilisation, 0.85);
    EXPECT_LT(fast.p95_ms, 60);
}

// In-flight data of four seconds and hundreds of losses: with a stale RTT the flow once stayed at the floor for good.
TEST(Checkpoint, ComesBackFromADeepDrop) {
    const auto [slow, fast] = slow_and_fast(1, 24, 500'000);
    EXPECT_GT(slow.utilisation, 0.7);
    EXPECT_GT(fast.utilisation, 0.85);
    EXPECT_LT(fast.p95_ms, 60);
}

// What the kernel runs is the quantised policy.
TEST(Checkpoint, FrozenItDrivesAsWell) {
    const FloatModel model = checkpoint();
    Random random(77);
    const Scenario scenario = random_lte_scenario(random);
    std::vector<InputCodes> seen;
    FloatRunner runner(model);
    const Score as_float = score_link(scenario, [&](const uint8_t* in) {
        seen.emplace_back(in, in + ADP_CC_INPUTS);
        return runner.run_q16(in);
    });
    const std::vector<InputCodes> held_out(seen.begin() + static_cast<ptrdiff_t>(seen.size() / 2), seen.end());
    seen.resize(seen.size() / 2);
    auto frozen = quantise(model, seen);
    ASSERT_TRUE(frozen.ok()) << (frozen.ok() ? "" : frozen.error().message);
    ASSERT_TRUE(prove(*frozen).ok());
    const Fidelity fidelity = measure_fidelity(model, *frozen, held_out);
    EXPECT_LT(fidelity.p99_error, 1.0 / 64);
    const Score as_integers =
        score_link(scenario, [&](const uint8_t* in) { return interpret(*frozen, {in, ADP_CC_INPUTS}).at(0); });
    EXPECT_NEAR(as_integers.utilisation, as_float.utilisation, 0.03);
    EXPECT_NEAR(as_integers.reward, as_float.reward, 0.2);
    RecordProperty("p99_error_ppm", static_cast<int>(fidelity.p99_error * 1e6));
    std::cout << "p99 error of the frozen policy: " << fidelity.p99_error * 100 << " % of the output's range\n";
}

TEST(Checkpoint, IsSteadyOnASteadyLink) {
    Scenario scenario;
    scenario.mbit = 8;
    const Score score = score_link(scenario, runs(checkpoint()), 60);
    EXPECT_GT(score.utilisation, 0.85);
    EXPECT_LT(score.p95_ms, 40);
    EXPECT_LT(score.loss, 0.001);
}

TEST(Checkpoint, ALatecomerGetsItsShare) {
    LinkOptions link;
    link.rtt_s = 0.03;
    link.queue_bytes = 250'000;
    std::vector<FlowOptions> flows(2);
    flows[1].start_s = 10;
    Simulator simulator(std::move(link), flows, 1);
    simulator.set_policy(runs(checkpoint()), 1, 0);
    simulator.run_until(30);
    const uint64_t first_before = simulator.flow_stats(0).delivered;
    const uint64_t second_before = simulator.flow_stats(1).delivered;
    simulator.reset_stats();
    simulator.run_until(90);
    const auto first = static_cast<double>(simulator.flow_stats(0).delivered - first_before);
    const auto second = static_cast<double>(simulator.flow_stats(1).delivered - second_before);
    EXPECT_GT(second, first * 0.4);
    EXPECT_GT(first, second * 0.4);
    EXPECT_GT(simulator.link_stats().utilisation(), 0.9);
    EXPECT_LT(simulator.link_stats().sojourn_percentile_ms(0.95), 60);
}

TEST(Checkpoint, SurvivesRandomLoss) {
    Scenario scenario;
    scenario.mbit = 8;
    scenario.loss = 0.01;
    EXPECT_GT(score_link(scenario, runs(checkpoint()), 60).utilisation, 0.8);
}

}  // namespace
}  // namespace adapath
