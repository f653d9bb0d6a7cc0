// Random networks and inputs for the codegen suites. Seeded: a failure repeats.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include <adapath/cc.h>

#include "codegen/codegen.h"
#include "models/cc_model.h"

namespace adapath::testing_support {

// The product's own network: its inputs are coded as the trained policy's are.
inline Network cc_network() { return adapath::cc_network(); }

// The same inputs with other layers behind them.
inline Network cc_network(const std::vector<LayerShape>& layers) {
    Network network = cc_network();
    network.layers = layers;
    return network;
}

// Any network that fits a slot, with every activation at every place.
inline Network random_network(std::mt19937_64& random) {
    auto pick = [&](uint32_t lo, uint32_t hi) { return std::uniform_int_distribution<uint32_t>(lo, hi)(random); };
    for (;;) {
        Network network;
        network.app = "random";
        uint32_t width = pick(1, pick(0, 3) == 0 ? 200 : 40);
        for (uint32_t i = 0; i < width; ++i) {
            network.inputs.push_back(
                {std::ldexp(1.0F, -static_cast<int>(pick(3, 7))), static_cast<int32_t>(pick(0, 255))});
        }
        const uint32_t layers = pick(1, 4);
        for (uint32_t l = 0; l < layers; ++l) {
            const uint32_t outputs = l + 1 == layers ? pick(1, 4) : pick(1, pick(0, 3) == 0 ? 90 : 33);
            network.layers.push_back({width, outputs, static_cast<Activation>(pick(0, 3))});
            width = outputs;
        }
        if (network_layout(network).ok()) {
            return network;
        }
    }
}

// Weights as training leaves them: pre-activations of about 1, `gain` times that.
inline FloatModel random_weights(const Network& network, std::mt19937_64& random, double gain = 1) {
    std::normal_distribution<float> normal;
    FloatModel model;
    model.network = network;
    for (const LayerShape& shape : network.layers) {
        std::vector<float> weights(size_t{shape.inputs} * shape.outputs);
        for (float& w : weights) {
            w = static_cast<float>(gain) * normal(random) / std::sqrt(static_cast<float>(shape.inputs));
        }
        std::vector<float> biases(shape.outputs);
        for (float& b : biases) {
            b = 0.2F * normal(random);
        }
        model.weights.push_back(std::move(weights));
        model.biases.push_back(std::move(biases));
    }
    return model;
}

inline std::vector<InputCodes> uniform_codes(size_t inputs, size_t count, std::mt19937_64& random) {
    std::vector<InputCodes> vectors(count, InputCodes(inputs));
    for (InputCodes& vector : vectors) {
        for (uint8_t& code : vector) {
            code = static_cast<uint8_t>(random());
        }
    }
    return vectors;
}

// Inputs as the kernel makes them: a queue that fills and drains under a rate that wanders, seen through the real
// feature code, so that a vector is its predecessor shifted by one interval and the features hang together. 200
// intervals a flow.
inline std::vector<InputCodes> kernel_codes(size_t count, std::mt19937_64& random) {
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<double> uniform;
    std::vector<InputCodes> vectors;
    while (vectors.size() < count) {
        adp_cc_flow flow{};
        const double base_us = 10000 * std::exp(2.5 * uniform(random));
        const double capacity = 50 * std::exp(4 * uniform(random));  // packets per base RTT
        const double deepest = capacity * (0.5 + 3 * uniform(random));
        double link = 1;    // share of the capacity that is there just now
        double load = 0.5;  // sent, as a share of the capacity
        double queue = 0;
        double rtt_us = base_us;
        adp_cc_init(&flow, 1, 1448, static_cast<adp_u32>(base_us), 10, 0, 0);
        for (int interval = 0; interval < 200 && vectors.size() < count; ++interval) {
            link = std::clamp(link + 0.08 * normal(random), 0.2, 1.2);
            load = std::clamp(load * std::exp(0.15 * normal(random)) + (queue > deepest / 2 ? -0.1 : 0.02), 0.05, 3.0);
            const double sent = load * capacity * (1 + 0.03 * normal(random));
            const double delivered = std::min(queue + sent, link * capacity);
            queue = std::min(queue + sent - delivered, deepest);
            const adp_u32 before = static_cast<adp_u32>(rtt_us);
            rtt_us = base_us * (1 + queue / (link * capacity)) * (1 + 0.01 * std::abs(normal(random)));
            flow.interval.us = static_cast<adp_u32>(rtt_us);
            flow.interval.rtt_us = static_cast<adp_u32>(rtt_us);
            flow.interval.least_us = static_cast<adp_u32>(rtt_us - 0.1 * (rtt_us - base_us));
            flow.interval.min_rtt_us = static_cast<adp_u32>(base_us);
            flow.interval.base_us = static_cast<adp_u32>(base_us);
            flow.interval.mss = 1448;
            flow.interval.lost = normal(random) > 2 ? 1 : 0;
            flow.bandwidth = std::max(flow.bandwidth - flow.bandwidth / 16, adp_cc_delivery_rate(&flow.interval));
            flow.window_q8 = static_cast<adp_u32>(std::clamp(256 * load * capacity, 512.0, 256.0 * 100000));
            flow.age = queue > 0.1 * capacity ? flow.age + 1 : 0;
            flow.interval.sent = static_cast<adp_u32>(std::max(sent, 0.0));
            flow.interval.delivered = static_cast<adp_u32>(std::max(delivered, 0.0));
            adp_cc_push_features(&flow, before);
            adp_cc_fill_context(&flow);
            if (interval >= ADP_CC_HISTORY) {
                vectors.emplace_back(flow.input, flow.input + ADP_CC_INPUTS);
            }
        }
    }
    return vectors;
}

}  // namespace adapath::testing_support
