// Image networks: random ones, frozen and emitted, must give the reference interpreter's bits, in scalar code and in
// this processor's vectors; and the integers must be near the floats.
#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <cmath>

#include "codegen/image.h"
#include "tests/codegen/random_images.h"

namespace adapath {
namespace {

using namespace testing_support::images;

TEST(ImageNetworks, ProgramsGiveTheInterpretersBits) {
    Random random(1);
    for (int round = 0; round < 25; round++) {
        const ImageNetwork network = random_network(random);
        SCOPED_TRACE(describe(network));
        Result<ImageProgram> scalar = ImageProgram::load(network, false);
        ASSERT_TRUE(scalar) << scalar.error().message;
        Result<ImageProgram> simd = ImageProgram::load(network, true);
        ASSERT_TRUE(simd) << simd.error().message;
        for (int which = 0; which < 4; which++) {
            const ImageSize size{random.pick(1, 70), random.pick(1, 40)};
            std::vector<ImageCodes> pictures = extremes(network, size, random);
            pictures.push_back(random_picture(network, size, random));
            ImageQuantModel model = wild_model(network, random);
            if (which % 2 == 0) {
                Result<ImageQuantModel> quantised = quantise(random_model(network, random), pictures);
                ASSERT_TRUE(quantised) << quantised.error().message;
                model = *quantised;
            }
            const Status valid = validate(model);
            ASSERT_TRUE(valid) << valid.error().message;
            const std::vector<uint8_t> params = pack(model);
            for (const ImageCodes& picture : pictures) {
                const std::vector<int32_t> expected = interpret(model, picture);
                ASSERT_EQ(expected.size(), size_t{output_size(network, size).width} *
                                               output_size(network, size).height * network.layers.back().outputs);
                for (ImageProgram* program : {&*scalar, &*simd}) {
                    std::vector<int32_t> out;
                    ASSERT_TRUE(program->run(params, picture, out).ok());
                    ASSERT_EQ(out, expected) << size.width << "x" << size.height;
                }
            }
        }
    }
}

TEST(ImageNetworks, IntegersAreNearTheFloats) {
    Random random(2);
    std::vector<double> errors;
    for (int round = 0; round < 30; round++) {
        const ImageNetwork network = random_network(random);
        SCOPED_TRACE(describe(network));
        const ImageFloatModel model = random_model(network, random);
        std::vector<ImageCodes> calibration;
        for (int i = 0; i < 4; i++) calibration.push_back(random_picture(network, {48, 32}, random));
        Result<ImageQuantModel> quantised = quantise(model, calibration);
        ASSERT_TRUE(quantised) << quantised.error().message;
        const ImageCodes held_out = random_picture(network, {48, 32}, random);
        const std::vector<float> floats = run_float(model, held_out);
        const std::vector<int32_t> integers = interpret(*quantised, held_out);
        ASSERT_EQ(floats.size(), integers.size());
        double square = 0;
        double mean = 0;
        double spread = 0;
        for (float v : floats) mean += v / static_cast<double>(floats.size());
        for (size_t i = 0; i < floats.size(); i++) {
            square += std::pow(floats[i] - integers[i] / 65536.0, 2);
            spread += std::pow(floats[i] - mean, 2);
        }
        // Outputs that are nearly constant have no range to be compared with.
        if (spread > 1e-3 * static_cast<double>(floats.size())) errors.push_back(std::sqrt(square / spread));
    }
    ASSERT_GT(errors.size(), 15U);
    std::sort(errors.begin(), errors.end());
    EXPECT_LT(errors[errors.size() / 2], 0.05) << "median of rms error over standard deviation";
    EXPECT_LT(errors.back(), 0.5);
}

TEST(ImageNetworks, AKnownNetworkGivesItsKnownNumbers) {
    // A 3x3 mean of one channel, stride 2, and a 1x1 that doubles it.
    ImageNetwork network{.app = "test", .inputs = {{1.0F, 0}}, .layers = {}};
    network.layers = {{.kind = ImageLayerKind::depthwise, .inputs = 1, .outputs = 1, .kernel = 3, .stride = 2},
                      {.kind = ImageLayerKind::convolution, .inputs = 1, .outputs = 1, .kernel = 1, .stride = 1}};
    const ImageFloatModel model{network, {std::vector<float>(9, 1.0F), {2.0F}}, {{0.0F}, {1.0F}}};
    ImageCodes picture{{4, 4}, std::vector<uint8_t>(16, 9)};
    // Corner: 4 of 9 taps inside; edges: 6; the middle: all.
    const std::vector<float> floats = run_float(model, picture);
    EXPECT_EQ(floats, (std::vector<float>{73, 109, 109, 163}));
    Result<ImageQuantModel> quantised = quantise(model, {{picture}});
    ASSERT_TRUE(quantised);
    const std::vector<int32_t> integers = interpret(*quantised, picture);
    for (size_t i = 0; i < 4; i++) EXPECT_NEAR(integers[i] / 65536.0, floats[i], 1.0);
}

TEST(ImageNetworks, WhatDoesNotFitIsNamed) {
    Random random(3);
    ImageNetwork network{.app = "test", .inputs = {{1.0F, 0}}, .layers = {}};
    network.layers = {{.kind = ImageLayerKind::convolution, .inputs = 1, .outputs = 2, .kernel = 3, .stride = 1}};
    ASSERT_TRUE(validate(network).ok());
    const auto refused = [](const ImageNetwork& of, const std::string& word) {
        const Status status = validate(of);
        ASSERT_FALSE(status.ok());
        EXPECT_NE(status.error().message.find(word), std::string::npos) << status.error().message;
    };
    ImageNetwork bad = network;
    bad.layers[0].kernel = 5;
    refused(bad, "kernel 5");
    bad = network;
    bad.layers[0].inputs = 3;
    refused(bad, "3 input channels");
    bad = network;
    bad.layers.push_back({.kind = ImageLayerKind::pool, .inputs = 2, .outputs = 2, .kernel = 2, .stride = 2});
    refused(bad, "last layer");
    bad = network;
    bad.layers[0].outputs = 65;
    refused(bad, "65 output channels");

    ImageFloatModel model = random_model(network, random);
    model.weights[0][3] = std::nanf("");
    EXPECT_FALSE(quantise(model, {{random_picture(network, {8, 8}, random)}}));
    EXPECT_FALSE(quantise(random_model(network, random), {}));

    ImageQuantModel quant = wild_model(network, random);
    ASSERT_TRUE(validate(quant).ok());
    quant.layers[0].bias[0] = INT_MAX;
    std::fill(quant.layers[0].weights.begin(), quant.layers[0].weights.end(), int8_t{127});
    const Status overflow = validate(quant);
    ASSERT_FALSE(overflow.ok());
    EXPECT_NE(overflow.error().message.find("32 bits"), std::string::npos) << overflow.error().message;

    Result<ImageProgram> program = ImageProgram::load(network, false);
    ASSERT_TRUE(program);
    const std::vector<uint8_t> params = pack(wild_model(network, random));
    std::vector<int32_t> out;
    EXPECT_FALSE(program->run(params, {{8, 8}, std::vector<uint8_t>(63)}, out).ok());
    EXPECT_FALSE(program->run(params, {{0, 8}, {}}, out).ok());
    EXPECT_FALSE(program->run(params, {{4000, 1}, std::vector<uint8_t>(4000)}, out).ok());
    EXPECT_FALSE(program->run(std::span(params).first(8), {{8, 8}, std::vector<uint8_t>(64)}, out).ok());
}

}  // namespace
}  // namespace adapath
