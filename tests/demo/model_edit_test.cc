// Models that the demo forces: a widened network computes the same function, a perturbed one nearly the same.
#include "userspace/demo/model_edit.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace adapath::demo {
namespace {

FloatModel random_model(const std::vector<uint32_t>& widths, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> noise(0, 0.5F);
    FloatModel model;
    model.network.app = "cc";
    model.network.inputs.assign(widths[0], {1.0F / 32, 128});
    for (size_t l = 0; l + 1 < widths.size(); l++) {
        model.network.layers.push_back(
            {widths[l], widths[l + 1], l + 2 == widths.size() ? Activation::identity : Activation::tanh});
        model.weights.emplace_back(size_t{widths[l]} * widths[l + 1]);
        model.biases.emplace_back(widths[l + 1]);
        for (float& w : model.weights.back()) {
            w = noise(random);
        }
        for (float& b : model.biases.back()) {
            b = noise(random);
        }
    }
    return model;
}

double largest_difference(const FloatModel& a, const FloatModel& b) {
    std::mt19937_64 random(99);
    double largest = 0;
    for (int i = 0; i < 200; i++) {
        InputCodes codes(a.network.input_count());
        for (uint8_t& code : codes) {
            code = static_cast<uint8_t>(random());
        }
        const auto x = run_float(a, codes), y = run_float(b, codes);
        for (size_t k = 0; k < x.size(); k++) {
            largest = std::max(largest, std::abs(static_cast<double>(x[k]) - y[k]));
        }
    }
    return largest;
}

TEST(Widen, ComputesTheSameFunction) {
    const FloatModel model = random_model({30, 32, 16, 1}, 1);
    // Twice as many, one and a half times, the same, and a width that is no multiple.
    for (const std::vector<uint32_t>& hidden : {std::vector<uint32_t>{64, 32}, {48, 24}, {32, 16}, {33, 47}}) {
        const auto wide = widen(model, hidden);
        ASSERT_TRUE(wide.ok()) << wide.error().message;
        EXPECT_EQ(wide->network.layers[0].outputs, hidden[0]);
        EXPECT_EQ(wide->network.layers[1].inputs, hidden[0]);
        EXPECT_EQ(wide->network.layers[2].inputs, hidden[1]);
        EXPECT_EQ(wide->network.layers[2].outputs, 1U);
        EXPECT_EQ(wide->network.inputs, model.network.inputs);
        EXPECT_LT(largest_difference(model, *wide), 1e-5) << hidden[0] << " " << hidden[1];
    }
}

TEST(Widen, RefusesWhatItCannot) {
    const FloatModel model = random_model({30, 32, 16, 1}, 1);
    EXPECT_FALSE(widen(model, {16, 16}).ok());
    EXPECT_FALSE(widen(model, {64}).ok());
    EXPECT_FALSE(widen(model, {64, 32, 16}).ok());
}

TEST(Perturb, ChangesWeightsALittleAndNothingElse) {
    const FloatModel model = random_model({30, 32, 16, 1}, 2);
    const FloatModel a = perturb(model, 0.005, 1), again = perturb(model, 0.005, 1), b = perturb(model, 0.005, 2);
    EXPECT_EQ(a.network, model.network);
    EXPECT_EQ(a.weights, again.weights);
    EXPECT_NE(a.weights, b.weights);
    EXPECT_NE(a.weights, model.weights);
    EXPECT_GT(largest_difference(model, a), 0);
    EXPECT_LT(largest_difference(model, a), 0.3);
}

}  // namespace
}  // namespace adapath::demo
