// Quantisation keeps what the float network says, on inputs as the kernel makes them, and what it makes can always be
// proven.
#include <chrono>
#include <cstdio>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "codegen/codegen.h"
#include "tests/codegen/random_models.h"

namespace adapath {
namespace {

using testing_support::cc_network;
using testing_support::kernel_codes;
using testing_support::random_network;
using testing_support::random_weights;
using testing_support::uniform_codes;

// The limit of the freeze pipeline; half of it is the margin asked of random networks.
constexpr double kLimit = 1.0 / 256;

struct Spread {
    double median = 0;
    double worst = 0;
};

Spread p99_over_models(const Network& network, double gain, uint64_t seed, int models, bool held_out_uniform = false) {
    std::mt19937_64 random(seed);
    std::vector<double> p99;
    for (int m = 0; m < models; ++m) {
        const FloatModel model = random_weights(network, random, gain);
        const std::vector<InputCodes> calibration = kernel_codes(2000, random);
        const std::vector<InputCodes> held_out =
            held_out_uniform ? uniform_codes(network.input_count(), 2000, random) : kernel_codes(4000, random);
        const Result<QuantModel> quant = quantise(model, calibration);
        if (!quant) {
            ADD_FAILURE() << quant.error().message;
            return {1, 1};
        }
        p99.push_back(measure_fidelity(model, *quant, held_out).p99_error);
    }
    std::sort(p99.begin(), p99.end());
    std::printf("%s, gain %.2f%s: p99 error as a fraction of the range, over %d models: median 1/%.0f, worst 1/%.0f\n",
                describe(network).c_str(), gain, held_out_uniform ? ", uniform inputs" : "", models,
                1 / p99[p99.size() / 2], 1 / p99.back());
    return {p99[p99.size() / 2], p99.back()};
}

// From weights as they are before training (gain 0.6 is PyTorch's default) to a saturated network.
TEST(Quantise, CcOnKernelLikeInputsIsWithinTheLimit) {
    // Of 48 inputs the worst of 20 random networks may be just over the limit of freezing (measured: 1/221, 1/245 and
    // 1/234 at these gains; with another default objective among the inputs it was 1/247, 1/280 and 1/248), the usual
    // one is well within.
    for (const double gain : {0.6, 1.0, 2.0}) {
        const Spread spread = p99_over_models(cc_network(), gain, 11, 20);
        EXPECT_LT(spread.median, 0.75 * kLimit) << "gain " << gain;
        EXPECT_LT(spread.worst, 1.2 * kLimit) << "gain " << gain;
    }
}

// Where activations use a tenth of their range, their codes' rounding weighs ten times as much: no trained network is
// like this, and freeze refuses what is over the limit, but it must not fall apart.
TEST(Quantise, FaintActivations) {
    const Spread spread = p99_over_models(cc_network(), 0.3, 11, 20);
    EXPECT_LT(spread.median, 1.5 * kLimit);
    EXPECT_LT(spread.worst, 3 * kLimit);
}

TEST(Quantise, EveryActivationHiddenAndLast) {
    using enum Activation;
    for (const Activation activation : {identity, relu, tanh, sigmoid}) {
        EXPECT_LT(
            p99_over_models(cc_network({{ADP_CC_INPUTS, 24, activation}, {24, 12, activation}, {12, 2, identity}}), 1.5,
                            14, 8)
                .worst,
            2 * kLimit);
        EXPECT_LT(p99_over_models(cc_network({{ADP_CC_INPUTS, 24, tanh}, {24, 2, activation}}), 1.5, 15, 8).worst,
                  2 * kLimit);
    }
}

// Only the rounding of a row's weights, with nothing after it that could make up for it.
TEST(Quantise, OneLayer) {
    const Spread spread = p99_over_models(cc_network({{ADP_CC_INPUTS, 1, Activation::identity}}), 1, 16, 10);
    EXPECT_LT(spread.median, kLimit / 2);
    EXPECT_LT(spread.worst, kLimit);
}

TEST(Quantise, IsDeterministic) {
    std::mt19937_64 random(17);
    const FloatModel model = random_weights(cc_network(), random);
    const std::vector<InputCodes> calibration = kernel_codes(300, random);
    const Result<QuantModel> first = quantise(model, calibration);
    const Result<QuantModel> second = quantise(model, calibration);
    ASSERT_TRUE(first.ok() && second.ok());
    for (size_t l = 0; l < first->layers.size(); ++l) {
        EXPECT_EQ(first->layers[l].weights, second->layers[l].weights);
        EXPECT_EQ(first->layers[l].mult, second->layers[l].mult);
        EXPECT_EQ(first->layers[l].bias, second->layers[l].bias);
    }
}

// Inputs that stand still say nothing about weights: what is left is rounding to the nearest, which must still be a
// network.
TEST(Quantise, CalibrationThatStandsStill) {
    std::mt19937_64 random(18);
    const FloatModel model = random_weights(cc_network(), random);
    const std::vector<InputCodes> still(50, kernel_codes(1, random)[0]);
    const Result<QuantModel> quant = quantise(model, still);
    ASSERT_TRUE(quant.ok()) << quant.error().message;
    EXPECT_NEAR(interpret(*quant, still[0])[0] / 65536.0, run_float(model, still[0])[0], 1e-3);
    EXPECT_LT(measure_fidelity(model, *quant, kernel_codes(2000, random)).p99_error, 6 * kLimit);
}

TEST(Quantise, ExtremeWeights) {
    std::mt19937_64 random(19);
    const std::vector<InputCodes> calibration = kernel_codes(200, random);
    FloatModel zero = random_weights(cc_network(), random, 0);
    zero.biases[2][0] = 0.25F;
    const Result<QuantModel> quant = quantise(zero, calibration);
    ASSERT_TRUE(quant.ok()) << quant.error().message;
    EXPECT_NEAR(interpret(*quant, calibration[0])[0], 16384, 1);

    // Relus that never fire in the calibration.
    FloatModel dead =
        random_weights(cc_network({{ADP_CC_INPUTS, 8, Activation::relu}, {8, 1, Activation::identity}}), random);
    std::fill(dead.biases[0].begin(), dead.biases[0].end(), -1000.0F);
    const Result<QuantModel> silent = quantise(dead, calibration);
    ASSERT_TRUE(silent.ok()) << silent.error().message;
    EXPECT_TRUE(prove(*silent).ok());
    EXPECT_NEAR(interpret(*silent, calibration[0])[0] / 65536.0, dead.biases[1][0], 1e-3);

    const Result<QuantModel> huge = quantise(random_weights(cc_network(), random, 1e6), calibration);
    ASSERT_FALSE(huge.ok());
    EXPECT_NE(huge.error().message.find("layer 1 row 0: multiplier"), std::string::npos) << huge.error().message;
}

TEST(Quantise, RefusesCalibrationThatDoesNotFit) {
    std::mt19937_64 random(20);
    const FloatModel model = random_weights(cc_network(), random);
    EXPECT_FALSE(quantise(model, {}).ok());
    const std::vector<InputCodes> wrong(3, InputCodes(ADP_CC_INPUTS - 1));
    const Result<QuantModel> result = quantise(model, wrong);
    ASSERT_FALSE(result.ok());
    EXPECT_NE(result.error().message.find(fmt::format("vector 0 has {} codes", ADP_CC_INPUTS - 1)), std::string::npos)
        << result.error().message;
}

// Against figures worked out by hand: weights, thresholds and rounding of one neuron.
TEST(Interpreter, OneNeuronByHand) {
    QuantModel model;
    model.network.app = "one";
    model.network.inputs = {{0.5F, 10}, {0.25F, 0}};
    model.network.layers = {{2, 1, Activation::identity}};
    QuantLayer layer;
    layer.weights = {3, -2};
    layer.mult = {1U << 20};
    layer.bias = {int64_t{5} << 20};
    layer.shift = 20;
    model.layers = {layer};
    ASSERT_TRUE(prove(model).ok());
    EXPECT_EQ(interpret(model, InputCodes{7, 4})[0], 3 * 7 - 2 * 4 + 5);
    EXPECT_EQ(interpret(model, InputCodes{0, 255})[0], -505);
    model.layers[0].bias[0] -= 1;  // rounds towards minus infinity
    EXPECT_EQ(interpret(model, InputCodes{0, 255})[0], -506);
    model.network.layers[0].activation = Activation::relu;
    EXPECT_EQ(interpret(model, InputCodes{0, 255})[0], 0);
    EXPECT_EQ(decode(model.network, InputCodes{12, 8}), (std::vector<float>{1.0F, 2.0F}));
}

TEST(Fidelity, OfAKnownError) {
    // The float says x, the integers say x, then x + 1/64.
    FloatModel model;
    model.network.app = "one";
    model.network.inputs = {{1.0F / 256, 0}};
    model.network.layers = {{1, 1, Activation::identity}};
    model.weights = {{1.0F}};
    model.biases = {{0.0F}};
    QuantModel quant;
    quant.network = model.network;
    QuantLayer layer;
    layer.weights = {1};
    layer.mult = {256U << 20};
    layer.bias = {0};
    layer.shift = 20;
    quant.layers = {layer};
    std::vector<InputCodes> samples;
    for (int i = 0; i < 200; ++i) {
        samples.push_back({static_cast<uint8_t>(i % 129)});
    }
    Fidelity exact = measure_fidelity(model, quant, samples);
    EXPECT_EQ(exact.samples, 200U);
    EXPECT_DOUBLE_EQ(exact.range, 0.5);
    EXPECT_EQ(exact.max_error, 0);
    quant.layers[0].bias[0] = int64_t{1024} << 20;  // 1/64 everywhere
    const Fidelity shifted = measure_fidelity(model, quant, samples);
    EXPECT_DOUBLE_EQ(shifted.mean_error, 1.0 / 32);
    EXPECT_DOUBLE_EQ(shifted.p99_error, 1.0 / 32);
    EXPECT_DOUBLE_EQ(shifted.max_error, 1.0 / 32);
}

// Freezing has 20 ms in all. The least of several runs, since others use the machine; the limit is several times the
// usual.
TEST(Quantise, TakesMilliseconds) {
    std::mt19937_64 random(13);
    const FloatModel model = random_weights(cc_network(), random);
    const std::vector<InputCodes> calibration = kernel_codes(2000, random);
    double least = INFINITY;
    for (int run = 0; run < 7; ++run) {
        const auto begin = std::chrono::steady_clock::now();
        ASSERT_TRUE(quantise(model, calibration).ok());
        const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
        least = std::min(least, took.count());
    }
    std::printf("quantise %s with 2000 calibration vectors: %.1f ms\n", describe(model.network).c_str(), least);
    EXPECT_LT(least, 30);
}

TEST(Quantise, InputsThatCalibrationNeverSaw) {
    // Uniform codes are far outside what a link gives: a loss of 50 % is 255, at 0.02 each. Measured: 1/116.
    EXPECT_LT(p99_over_models(cc_network(), 1, 12, 10, true).median, 2.5 * kLimit);
}

}  // namespace
}  // namespace adapath
