// A network with its numbers, in float (as trained) and quantised (as decided by). Passive data; the passes that make
// one from the other are in files of their own.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace adapath {

enum class Activation : uint8_t { identity = 0, relu = 1, tanh = 2, sigmoid = 3 };

// A dense layer: out = activation(weights * in + bias).
struct LayerShape {
    uint32_t inputs = 0;
    uint32_t outputs = 0;
    Activation activation = Activation::identity;

    bool operator==(const LayerShape&) const = default;
};

// How a code (0..255) at the network's input reads as a real number: real = scale * (code - zero_point).
struct InputCode {
    float scale = 1.0F;
    int32_t zero_point = 0;

    bool operator==(const InputCode&) const = default;
};

// Layers with their shapes and activations; no weights.
struct Network {
    std::string app;              // "cc"
    uint32_t feature_schema = 0;  // the app's, e.g. ADP_CC_SCHEMA
    std::vector<InputCode> inputs;
    std::vector<LayerShape> layers;

    [[nodiscard]] size_t input_count() const { return inputs.size(); }
    [[nodiscard]] size_t output_count() const { return layers.empty() ? 0 : layers.back().outputs; }
    bool operator==(const Network&) const = default;
};

struct FloatModel {
    Network network;
    std::vector<std::vector<float>> weights;  // per layer, row-major [outputs][inputs]
    std::vector<std::vector<float>> biases;   // per layer, [outputs]
};

// One quantised layer. What it computes is defined by the reference interpreter (interpreter.cc):
//   acc_r = sum_i weights[r][i] * x[i]            x: codes, 0..255 into the first layer, 0..ADP_HIDDEN_CODE_MAX after
//   t_r   = (acc_r * mult[r] + bias[r]) >> shift  signed 64-bit, arithmetic shift
//   hidden layer: y_r = code_table[clamp(t_r, 0, code_table.size() - 1)]            a code; real = scale * (y -
//   zero_point) last layer, identity: y_r = clamp(t_r, INT32_MIN, INT32_MAX); relu: that, at least 0           real = y
//   / 65536 last layer, tanh or sigmoid: y_r = 2 * output_table[clamp(t_r, 0, output_table.size() - 1)]    real = y /
//   65536
struct QuantLayer {
    std::vector<int8_t> weights;  // row-major [outputs][inputs], -127..127
    std::vector<uint32_t> mult;   // [outputs]
    std::vector<int64_t> bias;    // [outputs]
    uint8_t shift = 0;  // 0..40, one a layer: part of the parameters' format, fixed by the network (see network_layout)
    std::vector<uint16_t> code_table;   // hidden layers: codes 0..ADP_HIDDEN_CODE_MAX
    std::vector<int16_t> output_table;  // last layer with tanh or sigmoid
    float scale = 1.0F;                 // of the hidden codes
    int32_t zero_point = 0;
};

struct QuantModel {
    Network network;
    std::vector<QuantLayer> layers;
};

// One vector of codes at the network's input; size() == network.input_count().
using InputCodes = std::vector<uint8_t>;

// The value in real units that a code vector stands for.
[[nodiscard]] std::vector<float> decode(const Network& network, const InputCodes& codes);

// The float model's output for a code vector (real units): the peer that fidelity is measured against.
[[nodiscard]] std::vector<float> run_float(const FloatModel& model, const InputCodes& codes);

// "30-32-16-1 tanh,tanh,identity"
[[nodiscard]] std::string describe(const Network& network);

}  // namespace adapath
