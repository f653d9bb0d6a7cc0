// Random quantised models for the suites that hold programs to the reference interpreter. Made directly, not by
// quantise(), so that weights, multipliers, biases and tables also take values that no training would give. Shared by
// *_clang_test.cc.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include <adapath/net.h>

#include "codegen/codegen.h"

namespace adapath::test {

inline Network network_of(const std::vector<uint32_t>& widths, const std::vector<Activation>& activations) {
    Network network;
    network.app = "cc";
    network.feature_schema = 1;
    network.inputs.assign(widths[0], InputCode{1.0F / 64, 128});
    for (size_t l = 0; l + 1 < widths.size(); l++) network.layers.push_back({widths[l], widths[l + 1], activations[l]});
    return network;
}

inline Network aurora() {
    return network_of({30, 32, 16, 1}, {Activation::tanh, Activation::tanh, Activation::identity});
}

// One that fits a slot.
inline Network random_network(std::mt19937_64& random, uint32_t max_layers, uint32_t max_width) {
    auto below = [&random](uint32_t n) { return static_cast<uint32_t>(random() % n); };
    uint32_t layers = 1 + below(max_layers);
    std::vector<uint32_t> widths;
    std::vector<Activation> activations;
    for (uint32_t l = 0; l < layers; l++) {
        widths.push_back(1 + below(max_width));
        activations.push_back(static_cast<Activation>(below(4)));
    }
    widths.push_back(1 + below(4));
    Network network = network_of(widths, activations);
    return network_layout(network) ? network : random_network(random, max_layers, max_width);
}

// Every third row has weights at the limits, so that lanes are as full as prove() lets them be. Multiplier and bias of
// a row spread t over the table and a little beyond both ends.
inline QuantModel random_model(const Network& network, std::mt19937_64& random) {
    NetworkLayout layout = network_layout(network).value();
    std::vector<std::pair<uint32_t, std::vector<uint16_t>>> shared;  // by table_offset
    QuantModel model;
    model.network = network;
    for (size_t l = 0; l < network.layers.size(); l++) {
        const LayerShape& shape = network.layers[l];
        const LayerLayout& where = layout.layers[l];
        bool last = l + 1 == network.layers.size();
        QuantLayer layer;
        layer.shift = where.shift;
        for (uint32_t r = 0; r < shape.outputs; r++) {
            int64_t lo = 0;
            int64_t hi = 0;
            uint64_t kind = random() % 3;
            for (uint32_t i = 0; i < shape.inputs; i++) {
                int w = kind == 0 ? (random() % 2 ? 127 : -127) : static_cast<int>(random() % 255) - 127;
                if (kind == 0 && r % 2) w = r % 4 == 1 ? 127 : -127;
                layer.weights.push_back(static_cast<int8_t>(w));
                (w < 0 ? lo : hi) += int64_t{w} * where.input_max;
            }
            // Typical sums lie well inside lo..hi, hence the factor.
            double range = static_cast<double>(hi - lo) / (1 + random() % 4);
            double entries = where.table_entries ? where.table_entries : 1 << (8 + random() % 16);
            double unit = static_cast<double>(uint64_t{1} << where.shift);
            double mult = std::min(entries * unit / (range + 1), 4294967295.0);
            layer.mult.push_back(static_cast<uint32_t>(std::max(mult, 1.0)));
            double middle = static_cast<double>(lo + hi) / 2;
            double center = where.table_entries ? entries / 2 : 0;
            layer.bias.push_back(static_cast<int64_t>(center * unit - middle * layer.mult.back()));
        }
        if (where.table_entries > 0 && !last) {
            auto known = std::find_if(shared.begin(), shared.end(),
                                      [&](const auto& s) { return s.first == where.table_offset; });
            if (known == shared.end()) {
                std::vector<uint16_t> table(where.table_entries);
                for (uint16_t& code : table) code = static_cast<uint16_t>(random() % (ADP_HIDDEN_CODE_MAX + 1));
                shared.emplace_back(where.table_offset, table);
                known = shared.end() - 1;
            }
            layer.code_table = known->second;
        } else if (where.table_entries > 0) {
            for (uint32_t e = 0; e < where.table_entries; e++)
                layer.output_table.push_back(static_cast<int16_t>(random()));
        }
        model.layers.push_back(std::move(layer));
    }
    return model;
}

inline uint64_t environment(const char* name, uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

}  // namespace adapath::test
