// Quantisation keeps what the float network says, on inputs as the kernel makes them, and what it makes can always be proven.
#include <chrono>
#include <cstdio>

#include <gtest/gtest.h>

#include "codegen/codegen.h"
#include "tests/codegen/random_models.h"

namespace adapath {
namespace {

using testing_support::aurora_network;
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

TEST(Quantise, AuroraOnKernelLikeInputsIsWithinTheLimit) {
    // Gains from a barely trained network (activations in the middle of tanh, where rounding weighs most) to a saturated one.
    for (const double gain : {0.3, 0.6, 1.0, 2.0}) {
        EXPECT_LT(p99_over_models(aurora_network(), gain, 11, 20).worst, kLimit) << "gain " << gain;
    }
}

// Freezing has 20 ms in all. The least of several runs, since others use the machine; the limit is several times the usual.
TEST(Quantise, TakesMilliseconds) {
    std::mt19937_64 random(13);
    const FloatModel model = random_weights(aurora_network(), random);
    const std::vector<InputCodes> calibration = kernel_codes(2000, random);
    double least = INFINITY;
    for (int run = 0; run < 7; ++run) {
        const auto begin = std::chrono::steady_clock::now();
        ASSERT_TRUE(quantise(model, calibration).ok());
        const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
        least = std::min(least, took.count());
    }
    std::printf("quantise 30-32-16-1 with 2000 calibration vectors: %.1f ms\n", least);
    EXPECT_LT(least, 30);
}

TEST(Quantise, InputsThatCalibrationNeverSaw) {
    EXPECT_LT(p99_over_models(aurora_network(), 1, 12, 10, true).median, 2 * kLimit);
}

}  // namespace
}  // namespace adapath
