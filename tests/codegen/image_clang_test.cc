// Image networks: random ones, frozen and emitted, must give the reference interpreter's bits, in scalar code and in
// this processor's vectors; and the integers must be near the floats.
#include <gtest/gtest.h>

#include <algorithm>
#include <climits>
#include <cmath>
#include <random>

#include "codegen/image.h"

namespace adapath {
namespace {

class Random {
public:
    explicit Random(uint64_t seed) : engine_(seed) {}
    uint32_t pick(uint32_t low, uint32_t high) { return std::uniform_int_distribution<uint32_t>(low, high)(engine_); }
    float normal() { return std::normal_distribution<float>()(engine_); }

private:
    std::mt19937_64 engine_;
};

ImageNetwork random_network(Random& random) {
    ImageNetwork network;
    network.app = "test";
    const uint32_t inputs = random.pick(1, 4);
    for (uint32_t c = 0; c < inputs; c++)
        network.inputs.push_back({std::ldexp(1.0F, -static_cast<int>(random.pick(4, 8))),
                                  static_cast<int32_t>(random.pick(0, 2) == 0 ? 0 : random.pick(0, 255))});
    uint32_t channels = inputs;
    const uint32_t layers = random.pick(1, 6);
    for (uint32_t i = 0; i < layers; i++) {
        const bool last = i + 1 == layers;
        ImageLayerShape layer{.inputs = channels, .outputs = channels};
        const uint32_t kind = random.pick(0, last ? 2 : 3);
        if (kind == 3) {
            layer.kind = ImageLayerKind::pool;
            layer.kernel = layer.stride = 2;
        } else {
            layer.kind = kind == 2 ? ImageLayerKind::depthwise : ImageLayerKind::convolution;
            layer.kernel = kind == 0 ? 1 : 3;
            layer.stride = random.pick(1, 2);
            if (layer.kind == ImageLayerKind::convolution)
                layer.outputs = random.pick(1, random.pick(0, 5) == 0 ? 40 : 9);
        }
        channels = layer.outputs;
        network.layers.push_back(layer);
    }
    return network;
}

size_t weight_count(const ImageLayerShape& layer) {
    if (layer.kind == ImageLayerKind::pool) return 0;
    return size_t{layer.outputs} * (layer.kind == ImageLayerKind::depthwise ? 1 : layer.inputs) * layer.kernel *
           layer.kernel;
}

ImageFloatModel random_model(const ImageNetwork& network, Random& random) {
    ImageFloatModel model{.network = network, .weights = {}, .biases = {}};
    for (const ImageLayerShape& layer : network.layers) {
        std::vector<float>& weights = model.weights.emplace_back(weight_count(layer));
        std::vector<float>& biases = model.biases.emplace_back(weights.empty() ? 0 : layer.outputs);
        const float spread = weights.empty() ? 1.0F : std::sqrt(static_cast<float>(weights.size() / layer.outputs));
        for (float& w : weights) w = 1.4F * random.normal() / spread;
        for (float& b : biases) b = 0.2F * random.normal();
    }
    return model;
}

ImageCodes random_picture(const ImageNetwork& network, ImageSize size, Random& random) {
    ImageCodes picture{.size = size, .codes = {}};
    for (size_t c = 0; c < network.inputs.size(); c++) {
        // Smooth, as pictures are, with an edge.
        const uint32_t a = random.pick(0, 40), b = random.pick(0, 9), edge = random.pick(0, size.width);
        for (uint32_t y = 0; y < size.height; y++) {
            for (uint32_t x = 0; x < size.width; x++)
                picture.codes.push_back(
                    static_cast<uint8_t>(std::min(255U, a + b * x + 3 * y + (x > edge ? 60 : 0) + random.pick(0, 8))));
        }
    }
    return picture;
}

std::vector<ImageCodes> extremes(const ImageNetwork& network, ImageSize size, Random& random) {
    const size_t codes = size_t{size.width} * size.height * network.inputs.size();
    std::vector<ImageCodes> pictures;
    for (const uint8_t code : {uint8_t{0}, uint8_t{255}, uint8_t{128}})
        pictures.push_back({size, std::vector<uint8_t>(codes, code)});
    ImageCodes corners{size, std::vector<uint8_t>(codes)};
    ImageCodes noise = corners;
    for (size_t i = 0; i < codes; i++) {
        corners.codes[i] = random.pick(0, 1) == 0 ? 0 : 255;
        noise.codes[i] = static_cast<uint8_t>(random.pick(0, 255));
    }
    pictures.push_back(corners);
    pictures.push_back(noise);
    return pictures;
}

// Numbers that no quantiser made: anything that validate() lets pass.
ImageQuantModel wild_model(const ImageNetwork& network, Random& random) {
    ImageQuantModel model{.network = network, .layers = {}};
    for (size_t i = 0; i < network.layers.size(); i++) {
        const ImageLayerShape& shape = network.layers[i];
        ImageQuantLayer& layer = model.layers.emplace_back();
        layer.weights.resize(weight_count(shape));
        if (layer.weights.empty()) continue;
        const bool last = i + 1 == network.layers.size();
        const uint32_t most = random.pick(1, 127);
        for (int8_t& w : layer.weights)
            w = static_cast<int8_t>(static_cast<int>(random.pick(0, 2 * most)) - static_cast<int>(most));
        for (uint32_t row = 0; row < shape.outputs; row++) {
            layer.bias.push_back(static_cast<int32_t>(random.pick(0, 1 << 20)) - (1 << 19));
            layer.mult.push_back(static_cast<int32_t>(last ? random.pick(0, INT_MAX) : random.pick(0, 32767)));
            if (last && random.pick(0, 1) == 0) layer.mult.back() = -layer.mult.back();
        }
        layer.shift = static_cast<uint8_t>(last ? random.pick(0, 40) : random.pick(1, 30));
        const int64_t widest = 255 * 127 * static_cast<int64_t>(layer.weights.size() / shape.outputs) + (1 << 20);
        while ((widest >> layer.pre) >= 32767) layer.pre++;
    }
    return model;
}

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
