// Networks, models and programs for the suites of the kernel module's C (kmod_*_test.cc). Seeded: a failure repeats.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <adapath/layout.h>
#include <adapath/net.h>

#include "codegen/codegen.h"
#include "kmod/userspace/shared.h"
#include "tests/codegen/clang_fixtures.h"

namespace adapath::test {

using Random = std::mt19937_64;

inline std::vector<adp_layer_shape> shapes_of(const Network& network) {
    std::vector<adp_layer_shape> shapes;
    for (const LayerShape& layer : network.layers) {
        adp_layer_shape shape{};
        shape.inputs = static_cast<uint16_t>(layer.inputs);
        shape.outputs = static_cast<uint16_t>(layer.outputs);
        shape.activation = static_cast<uint8_t>(layer.activation);
        shapes.push_back(shape);
    }
    return shapes;
}

inline adp_layout layout_of(const Network& network) {
    const std::vector<adp_layer_shape> shapes = shapes_of(network);
    adp_layout layout;
    adp_complaint why{};
    if (adp_kernel_layout_init(&layout, shapes.data(), static_cast<uint32_t>(shapes.size()), &why) != 0) {
        throw std::logic_error(fmt::format("{}: {} {}", describe(network), why.what, why.value));
    }
    return layout;
}

// Around every size at which something changes: triples, chunks of 63 and 12, steps of 8, groups of 16, the limits.
inline uint32_t edge_width(Random& random) {
    static constexpr uint32_t kEdges[] = {1,  2,  3,  4,   5,   7,   8,   9,   11,  12,  13,  15,  16, 17,
                                          23, 24, 25, 31,  32,  33,  36,  37,  47,  48,  49,  61,  62, 63,
                                          64, 65, 66, 126, 127, 128, 129, 189, 190, 252, 253, 255, 256};
    return kEdges[random() % std::size(kEdges)];
}

// 1..8 layers, 1..256 wide, that fit a slot.
inline Network edge_network(Random& random) {
    for (;;) {
        const size_t layers = 1 + random() % ADP_MAX_LAYERS;
        // Wide layers can't stand side by side in a slot; so that deep networks are found as well, most of some are
        // narrow.
        const uint32_t limit = random() % 2 == 0 ? 256 : 40;
        std::vector<uint32_t> widths;
        std::vector<Activation> activations;
        while (widths.size() < layers) {
            const uint32_t width = random() % 3 == 0 ? static_cast<uint32_t>(1 + random() % 256) : edge_width(random);
            const bool beside_wide = !widths.empty() && widths.back() > 64;
            if (width <= limit && !(beside_wide && width > 64)) {
                widths.push_back(width);
                activations.push_back(static_cast<Activation>(random() % 4));
            }
        }
        widths.push_back(static_cast<uint32_t>(1 + random() % ADP_MAX_OUTPUTS));
        Network network = network_of(widths, activations);
        if (network_layout(network)) {
            return network;
        }
    }
}

// What networks of their own kind are: at the limits in width, depth and bytes.
inline std::vector<Network> limit_networks() {
    const Activation tanh = Activation::tanh;
    const Activation relu = Activation::relu;
    const Activation sigmoid = Activation::sigmoid;
    const Activation identity = Activation::identity;
    return {
        aurora(),
        network_of({1, 1}, {identity}),
        network_of({256, 4}, {tanh}),
        network_of({256, 4}, {identity}),
        network_of({1, 256, 1}, {relu, relu}),
        network_of({256, 80, 4}, {relu, identity}),
        network_of({256, 83, 1}, {relu, identity}),
        network_of({100, 204, 1}, {relu, identity}),
        network_of({78, 256, 1}, {relu, identity}),
        network_of({2, 60, 256, 1}, {identity, relu, relu}),
        network_of({3, 256, 4, 256, 2}, {relu, identity, relu, sigmoid}),
        network_of({16, 16, 16, 16, 16, 16, 16, 16, 4}, {tanh, sigmoid, relu, identity, tanh, sigmoid, relu, tanh}),
        network_of({63, 12, 13, 1}, {sigmoid, relu, relu}),
        network_of({64, 13, 12, 3}, {identity, identity, sigmoid}),
    };
}

// The sums that a row of a layer can have.
struct SumRange {
    int64_t lo = 0;
    int64_t hi = 0;
};
inline SumRange sum_range(const QuantLayer& layer, const LayerShape& shape, uint32_t row, uint32_t input_max) {
    SumRange range;
    for (uint32_t i = 0; i < shape.inputs; ++i) {
        const int64_t w = layer.weights[size_t{row} * shape.inputs + i];
        (w < 0 ? range.lo : range.hi) += w * input_max;
    }
    return range;
}

// random_model(), with some rows at what prove() just lets through: greatest and least multipliers and biases, weights
// all at a corner, and codes at the ends of their range.
inline QuantModel extreme_model(const Network& network, Random& random) {
    constexpr int64_t kLimit = int64_t{1} << 62;
    QuantModel model = random_model(network, random);
    const NetworkLayout layout = network_layout(network).value();
    for (size_t l = 0; l < model.layers.size(); ++l) {
        QuantLayer& layer = model.layers[l];
        const LayerShape& shape = network.layers[l];
        for (uint32_t row = 0; row < shape.outputs; ++row) {
            if (random() % 4 == 0) {
                const auto weight = static_cast<int8_t>(random() % 2 == 0 ? 127 : -127);
                std::fill_n(layer.weights.begin() + row * shape.inputs, shape.inputs, weight);
            }
            if (random() % 4 == 0) {
                layer.mult[row] = random() % 3 == 0 ? 0 : 0xffffffffU >> (random() % 4);
                layer.bias[row] = static_cast<int64_t>(random()) >> (4 + random() % 50);
            }
            const SumRange range = sum_range(layer, shape, row, layout.layers[l].input_max);
            const int64_t mult = layer.mult[row];
            switch (random() % 12) {
                case 0:
                    layer.bias[row] = kLimit - 1 - range.hi * mult;
                    break;
                case 1:
                    layer.bias[row] = -kLimit + 1 - range.lo * mult;
                    break;
                default:
                    break;
            }
        }
    }
    return model;
}

// Random, all least, all greatest, only least and greatest ones, and what drives some rows of the first layer furthest.
inline std::vector<InputCodes> edge_inputs(const QuantModel& model, size_t count, Random& random) {
    const size_t n = model.network.input_count();
    std::vector<InputCodes> inputs{InputCodes(n, 0), InputCodes(n, 255)};
    while (inputs.size() < count) {
        InputCodes codes(n);
        const size_t row = random() % model.network.layers[0].outputs;
        const uint64_t kind = random() % 4;
        for (size_t i = 0; i < n; ++i) {
            const bool negative = model.layers[0].weights[row * n + i] < 0;
            codes[i] = kind == 0   ? (random() % 2 == 0 ? 0 : 255)
                       : kind == 1 ? (negative ? 255 : 0)
                       : kind == 2 ? (negative ? 0 : 255)
                                   : static_cast<uint8_t>(random());
        }
        inputs.push_back(std::move(codes));
    }
    return inputs;
}

// A block as the kernel has it: exactly as long as said, so that a sanitizer sees the byte behind it; aligned to 8 and,
// where that is asked for, no better.
class Block {
public:
    explicit Block(const std::vector<uint8_t>& bytes) : Block(bytes.size(), 8) {
        std::copy(bytes.begin(), bytes.end(), data());
    }
    Block(size_t size, size_t alignment) : size_(size), alignment_(alignment), start_(nullptr, Free{alignment}) {
        start_.reset(static_cast<uint8_t*>(::operator new(std::max<size_t>(size, 1), std::align_val_t{alignment})));
    }

    [[nodiscard]] uint8_t* data() { return start_.get(); }
    [[nodiscard]] const uint8_t* data() const { return start_.get(); }
    [[nodiscard]] size_t size() const { return size_; }

private:
    struct Free {
        size_t alignment;
        void operator()(uint8_t* bytes) const { ::operator delete(bytes, std::align_val_t{alignment}); }
    };
    size_t size_;
    size_t alignment_;
    std::unique_ptr<uint8_t, Free> start_;
};

inline bool cpu_has_avx2() { return __builtin_cpu_supports("avx2") != 0; }
inline bool cpu_has_vnni() {
    return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
           __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vnni") != 0;
}

enum class Program { generic, avx2, vnni };
inline const char* name_of(Program program) {
    switch (program) {
        case Program::generic:
            return "generic";
        case Program::avx2:
            return "AVX2";
        case Program::vnni:
            return "AVX-512 VNNI";
    }
    return "?";
}
inline bool cpu_runs(Program program) {
    return program == Program::generic || (program == Program::avx2 ? cpu_has_avx2() : cpu_has_vnni());
}

// A block with what is prepared from it, to be run by any of the programs.
class Installed {
public:
    Installed(const Network& network, const std::vector<uint8_t>& params)
        : layout_(layout_of(network)), params_(params), simd_(adp_kernel_simd_bytes(&layout_), ADP_SIMD_ALIGN) {
        adp_kernel_simd_prepare(&layout_, params_.data(), simd_.data());
    }

    [[nodiscard]] std::vector<int32_t> run(Program program, const InputCodes& in) const {
        // Inputs and outputs are exactly as many as the network's: a program must not touch one more.
        Block codes(in.size(), 1);
        std::copy(in.begin(), in.end(), codes.data());
        std::vector<int32_t> out(layout_.outputs, 0x5a5a5a5a);
        out.shrink_to_fit();
        switch (program) {
            case Program::generic:
                adp_kernel_generic_forward(&layout_, params_.data(), codes.data(), out.data());
                break;
            case Program::avx2:
                adp_simd_avx2_forward(&layout_, params_.data(), simd_.data(), codes.data(), out.data());
                break;
            case Program::vnni:
                adp_simd_vnni_forward(&layout_, params_.data(), simd_.data(), codes.data(), out.data());
                break;
        }
        return out;
    }

private:
    adp_layout layout_;
    Block params_;
    Block simd_;
};

}  // namespace adapath::test
