// The reference interpreter: the definition of what a snapshot computes (model.h). Plain loops, no packing, and nothing
// shared with emit or pack, so that an error there can't hide here.
#include "codegen/interpreter.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include <fmt/format.h>

#include "codegen/codegen.h"

namespace adapath {

namespace {

int64_t clamp_index(int64_t t, size_t entries) { return std::clamp<int64_t>(t, 0, static_cast<int64_t>(entries) - 1); }

int32_t finish_last(Activation activation, const QuantLayer& layer, int64_t t) {
    constexpr int64_t lowest = std::numeric_limits<int32_t>::min();
    constexpr int64_t highest = std::numeric_limits<int32_t>::max();
    switch (activation) {
        case Activation::identity:
            return static_cast<int32_t>(std::clamp(t, lowest, highest));
        case Activation::relu:
            return static_cast<int32_t>(std::clamp<int64_t>(t, 0, highest));
        case Activation::tanh:
        case Activation::sigmoid:
            return 2 * layer.output_table[clamp_index(t, layer.output_table.size())];
    }
    throw std::logic_error("activation outside its enum: the model was not validated");
}

}  // namespace

void interpret_layer(const LayerShape& shape, const QuantLayer& layer, bool last, std::span<const int32_t> in,
                     std::span<int32_t> out) {
    for (uint32_t row = 0; row < shape.outputs; ++row) {
        // |acc| <= 127 * 1376 * 256 < 2^26
        int64_t acc = 0;
        for (uint32_t i = 0; i < shape.inputs; ++i) {
            acc += int64_t{layer.weights[size_t{row} * shape.inputs + i]} * in[i];
        }
        // Unsigned, so that a model that nobody proved wraps as the programs do instead of being undefined.
        const uint64_t sum = static_cast<uint64_t>(acc) * layer.mult[row] + static_cast<uint64_t>(layer.bias[row]);
        const int64_t t = static_cast<int64_t>(sum) >> layer.shift;
        out[row] =
            last ? finish_last(shape.activation, layer, t) : layer.code_table[clamp_index(t, layer.code_table.size())];
    }
}

std::vector<int32_t> interpret(const QuantModel& model, std::span<const uint8_t> codes) {
    if (codes.size() != model.network.input_count()) {
        throw std::invalid_argument(
            fmt::format("interpret: {} codes for a network of {} inputs", codes.size(), model.network.input_count()));
    }
    std::vector<int32_t> in(codes.begin(), codes.end());
    std::vector<int32_t> out;
    for (size_t l = 0; l < model.layers.size(); ++l) {
        const LayerShape& shape = model.network.layers[l];
        out.resize(shape.outputs);
        interpret_layer(shape, model.layers[l], l + 1 == model.layers.size(), in, out);
        in.swap(out);
    }
    return in;
}

}  // namespace adapath
