// Where everything lies in a slot's parameters. A function of the network alone, so that retraining never changes a program.
#include <array>

#include <fmt/format.h>

#include <adapath/abi.h>
#include <adapath/net.h>

#include "codegen/codegen.h"

namespace adapath {

namespace {

// Table steps of 8/8192 for tanh over [-4, 4]: below one hidden code (2/1376), so that neither rounding dominates. The table has
// 16 KiB, but a decision touches at most one cache line of it per neuron, mostly in its middle.
constexpr uint32_t kCurveEntries = 8192;
// relu and identity: the index is the code itself and the table clamps it.
constexpr uint32_t kLinearEntries = ADP_HIDDEN_CODE_MAX + 1;

// A multiplier is u32 and may shrink as far as its weights do: 24 fraction bits keep 12 significant ones for weights a
// thousand times smaller than usual, and leave room for ones a hundred times larger. An output in Q16 has larger multipliers.
constexpr uint8_t kIndexShift = 24;
constexpr uint8_t kOutputShift = 20;

bool is_curve(Activation a) { return a == Activation::tanh || a == Activation::sigmoid; }

uint32_t align8(uint32_t bytes) { return (bytes + 7) & ~7U; }

}  // namespace

Result<NetworkLayout> network_layout(const Network& network) {
    if (Status valid = validate(network); !valid) {
        return valid.error();
    }
    NetworkLayout layout;
    uint32_t offset = 0;
    for (size_t l = 0; l < network.layers.size(); ++l) {
        const LayerShape& shape = network.layers[l];
        LayerLayout out;
        out.input_max = l == 0 ? ADP_INPUT_CODE_MAX : ADP_HIDDEN_CODE_MAX;
        out.chunk_inputs = ADP_CHUNK_INPUTS(out.input_max);
        out.chunks = (shape.inputs + out.chunk_inputs - 1) / out.chunk_inputs;
        for (uint32_t c = 0; c < out.chunks; ++c) {
            out.triples += (out.inputs_of_chunk(c, shape.inputs) + 2) / 3;
        }
        out.row_words = out.chunks + out.triples + 2;
        out.offset = offset;
        offset += shape.outputs * out.row_words * 8;
        layout.layers.push_back(out);
    }

    // Hidden layers of one kind share a table; the last layer's has another type and stands alone.
    enum Kind { curve_tanh, curve_sigmoid, linear, kinds };
    std::array<uint32_t, kinds> shared{};
    for (size_t l = 0; l < network.layers.size(); ++l) {
        const Activation activation = network.layers[l].activation;
        const bool last = l + 1 == network.layers.size();
        LayerLayout& out = layout.layers[l];
        out.shift = last && !is_curve(activation) ? kOutputShift : kIndexShift;
        if (last && !is_curve(activation)) {
            continue;
        }
        out.table_entries = is_curve(activation) ? kCurveEntries : kLinearEntries;
        const Kind kind = activation == Activation::tanh      ? curve_tanh
                          : activation == Activation::sigmoid ? curve_sigmoid
                                                              : linear;
        if (!last && shared[kind] != 0) {
            out.table_offset = shared[kind];
            continue;
        }
        out.table_offset = offset;
        offset += align8(2 * out.table_entries);
        if (!last) {
            shared[kind] = out.table_offset;
        }
    }
    if (offset > ADP_PARAMS_BYTES) {
        return Error{fmt::format("network {}: {} bytes of parameters, a slot holds {}; use fewer or narrower layers",
                                 describe(network), offset, ADP_PARAMS_BYTES)};
    }
    layout.bytes = offset;
    return layout;
}

}  // namespace adapath
