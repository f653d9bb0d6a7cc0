// Image networks, models and pictures at random.
#pragma once

#include <algorithm>
#include <climits>
#include <cmath>
#include <random>

#include "codegen/image.h"

namespace adapath::testing_support::images {

class Random {
public:
    explicit Random(uint64_t seed) : engine_(seed) {}
    uint32_t pick(uint32_t low, uint32_t high) { return std::uniform_int_distribution<uint32_t>(low, high)(engine_); }
    float normal() { return std::normal_distribution<float>()(engine_); }

private:
    std::mt19937_64 engine_;
};

inline ImageNetwork random_network(Random& random) {
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

inline size_t weight_count(const ImageLayerShape& layer) {
    if (layer.kind == ImageLayerKind::pool) return 0;
    return size_t{layer.outputs} * (layer.kind == ImageLayerKind::depthwise ? 1 : layer.inputs) * layer.kernel *
           layer.kernel;
}

inline ImageFloatModel random_model(const ImageNetwork& network, Random& random) {
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

inline ImageCodes random_picture(const ImageNetwork& network, ImageSize size, Random& random) {
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

inline std::vector<ImageCodes> extremes(const ImageNetwork& network, ImageSize size, Random& random) {
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
inline ImageQuantModel wild_model(const ImageNetwork& network, Random& random) {
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

}  // namespace adapath::testing_support::images
