// PPO on problems small enough to know the answer of.
#include "models/ppo.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "models/cc_model.h"
#include "models/cc_training.h"
#include "models/float_runner.h"
#include "models/simulator.h"

namespace adapath {
namespace {

// A point on a line, pushed by the action; the reward is nearness to the middle. To do well a policy must push against
// the offset that it sees now, for rewards that come later: the shape of a queue and a rate.
class Line {
public:
    explicit Line(uint64_t seed) : random_(seed) { reset(); }

    void reset() {
        x_ = random_.uniform(-1, 1);
        left_ = 40;
    }
    [[nodiscard]] CcCodes see() const {
        CcCodes codes;
        codes.fill(ADP_CC_INFLATION_ZERO);
        codes[ADP_CC_CONTEXT - ADP_CC_FEATURES + ADP_CC_INFLATION] =
            static_cast<uint8_t>(std::clamp(128 + 60 * x_, 0.0, 255.0));
        return codes;
    }
    // Returns the reward that follows.
    float push(double action) {
        x_ = std::clamp(x_ + 0.3 * std::clamp(action, -1.0, 1.0), -2.0, 2.0);
        left_--;
        return static_cast<float>(-x_ * x_);
    }
    [[nodiscard]] bool over() const { return left_ == 0; }
    Random& random() { return random_; }

private:
    Random random_;
    double x_ = 0;
    int left_ = 0;
};

std::vector<Segment> play(const FloatModel& policy, double sd, int episodes, uint64_t seed, double* mean_reward) {
    FloatRunner runner(policy);
    Line line(seed);
    std::vector<Segment> segments;
    double sum = 0;
    int n = 0;
    for (int e = 0; e < episodes; e++) {
        Segment segment;
        line.reset();
        while (!line.over()) {
            Step step;
            step.codes = line.see();
            step.output = runner.run(step.codes.data());
            step.sd = static_cast<float>(sd);
            step.taken = step.output + static_cast<float>(sd * line.random().normal());
            step.reward = line.push(step.taken);
            sum += step.reward;
            n++;
            segment.steps.push_back(step);
        }
        segment.next_codes = line.see();
        segments.push_back(std::move(segment));
    }
    if (mean_reward) *mean_reward = sum / n;
    return segments;
}

double train(Ppo& ppo, int updates, bool learned_sd) {
    for (int i = 0; i < updates; i++) ppo.update(play(ppo.policy(), learned_sd ? ppo.sd() : 0.3, 40, 100 + i, nullptr));
    double reward = 0;
    (void)play(ppo.policy(), 0, 40, 7, &reward);
    return reward;
}

PpoOptions toy_options() {
    PpoOptions o;
    o.policy_rate = 2e-3;
    o.value_rate = 3e-3;
    o.minibatch = 400;
    o.gamma = 0.9;
    o.seed = 5;
    return o;
}

TEST(Ppo, LearnsToHoldAPoint) {
    Ppo ppo({cc_network(), {}, {}}, {cc_value_network(), {}, {}}, toy_options());
    double before = 0;
    (void)play(ppo.policy(), 0, 40, 7, &before);
    const double after = train(ppo, 50, false);
    EXPECT_LT(before, -0.15);
    EXPECT_GT(after, -0.06) << "before: " << before;
}

TEST(Ppo, EqualSeedsGiveEqualModels) {
    std::vector<std::vector<float>> weights[3];
    for (int run = 0; run < 3; run++) {
        PpoOptions o = toy_options();
        if (run == 2) o.seed = 6;
        Ppo ppo({cc_network(), {}, {}}, {cc_value_network(), {}, {}}, o);
        train(ppo, 3, false);
        weights[run] = ppo.policy().weights;
    }
    EXPECT_EQ(weights[0], weights[1]);
    EXPECT_NE(weights[0], weights[2]);
}

TEST(Ppo, LearnsItsOwnDeviation) {
    PpoOptions o = toy_options();
    o.learn_sd = true;
    o.initial_sd = 0.5;
    o.entropy = 1e-4;
    Ppo ppo({cc_network(), {}, {}}, {cc_value_network(), {}, {}}, o);
    EXPECT_NEAR(ppo.sd(), 0.5, 1e-6);
    EXPECT_GT(train(ppo, 50, true), -0.08);
    EXPECT_LT(ppo.sd(), 0.45);  // holding a point still wants little noise

    o.entropy = 10;
    Ppo wild({cc_network(), {}, {}}, {cc_value_network(), {}, {}}, o);
    train(wild, 10, true);
    EXPECT_GT(wild.sd(), 0.5);
}

TEST(Ppo, DecisionsWithoutNoiseDoNotMoveThePolicy) {
    Ppo ppo({cc_network(), {}, {}}, {cc_value_network(), {}, {}}, toy_options());
    const FloatModel policy = ppo.policy();
    const FloatModel value = ppo.value();
    const PpoStats stats = ppo.update(play(policy, 0, 10, 1, nullptr));
    EXPECT_EQ(stats.steps, 400U);
    EXPECT_EQ(stats.explored, 0U);
    EXPECT_EQ(ppo.policy().weights, policy.weights);
    EXPECT_NE(ppo.value().weights, value.weights);
    (void)ppo.update(play(policy, 0.3, 10, 1, nullptr), false);
    EXPECT_EQ(ppo.policy().weights, policy.weights);
    const PpoStats moved = ppo.update(play(policy, 0.3, 10, 1, nullptr));
    EXPECT_EQ(moved.explored, 400U);
    EXPECT_GT(moved.kl, 0);
    EXPECT_NE(ppo.policy().weights, policy.weights);
}

TEST(Ppo, NothingToLearnFromIsNotAnError) {
    Ppo ppo({cc_network(), {}, {}}, {cc_value_network(), {}, {}}, toy_options());
    EXPECT_EQ(ppo.update({}).steps, 0U);
    const std::vector<Segment> empty(2);
    EXPECT_EQ(ppo.update(empty).steps, 0U);
}

TEST(Ppo, ImitatesARule) {
    CcEnvironments environments(8, 3);
    std::vector<CcCodes> codes;
    std::vector<float> targets;
    for (const Segment& segment : environments.collect_teacher(0.3, 200))
        for (const Step& step : segment.steps) {
            codes.push_back(step.codes);
            targets.push_back(teacher_action(step.codes));
        }
    ASSERT_GT(codes.size(), 1000U);
    Ppo ppo({cc_network(), {}, {}}, {cc_value_network(), {}, {}}, toy_options());
    const double first = ppo.imitate(codes, targets, 1);
    EXPECT_LT(ppo.imitate(codes, targets, 40, 3e-3), first / 4);
    EXPECT_LT(ppo.imitate(codes, targets, 1, 1e-5), 0.05);
}

TEST(Ppo, ModelsGoInAndOutUnchanged) {
    const FloatModel first = Ppo({cc_network({24, 8}), {}, {}}, {cc_value_network(), {}, {}}, toy_options()).policy();
    ASSERT_EQ(first.network, cc_network({24, 8}));
    Ppo ppo(first, {cc_value_network(), {}, {}}, toy_options());
    EXPECT_EQ(ppo.policy().weights, first.weights);
    EXPECT_EQ(ppo.policy().biases, first.biases);
    FloatModel other = first;
    other.biases.back()[0] = 0.25F;
    ppo.assign_policy(other);
    EXPECT_EQ(ppo.policy().biases, other.biases);
}

}  // namespace
}  // namespace adapath
