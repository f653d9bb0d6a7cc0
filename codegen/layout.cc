// Where everything lies in a slot's parameters, for C++. The definition is include/adapath/layout.h, which the kernel
// module uses as well; here are only its types and its errors as codegen's users see them.
#include <array>

#include <fmt/format.h>

#include <adapath/abi.h>
#include <adapath/layout.h>

#include "codegen/codegen.h"

namespace adapath {

static_assert(static_cast<int>(Activation::identity) == ADP_IDENTITY);
static_assert(static_cast<int>(Activation::relu) == ADP_RELU);
static_assert(static_cast<int>(Activation::tanh) == ADP_TANH);
static_assert(static_cast<int>(Activation::sigmoid) == ADP_SIGMOID);
static_assert(static_cast<int>(Activation::sigmoid) + 1 == ADP_ACTIVATIONS);

Result<NetworkLayout> network_layout(const Network& network) {
    // Says more about a bad shape than a kernel's complaint can.
    if (Status valid = validate(network); !valid) {
        return valid.error();
    }
    std::array<adp_layer_shape, ADP_MAX_LAYERS> shapes{};
    const auto layers = static_cast<uint32_t>(network.layers.size());
    for (uint32_t l = 0; l < layers; ++l) {
        shapes.at(l).inputs = static_cast<uint16_t>(network.layers[l].inputs);
        shapes.at(l).outputs = static_cast<uint16_t>(network.layers[l].outputs);
        shapes.at(l).activation = static_cast<uint8_t>(network.layers[l].activation);
    }
    adp_layout packed;
    adp_complaint why;
    if (adp_layout_init(&packed, shapes.data(), layers, &why) != 0) {
        if (why.layer != 0) {
            return Error{
                fmt::format("network {}: layer {}: {}: {}", describe(network), why.layer, why.what, why.value)};
        }
        return Error{fmt::format("network {}: {} bytes of parameters, a slot holds {}; use fewer or narrower layers",
                                 describe(network), why.value, ADP_PARAMS_BYTES)};
    }
    NetworkLayout layout;
    for (uint32_t l = 0; l < layers; ++l) {
        const adp_layer_layout& at = packed.layer[l];
        LayerLayout out;
        out.input_max = at.input_max;
        out.chunk_inputs = at.chunk_inputs;
        out.chunks = at.chunks;
        out.triples = at.triples;
        out.row_words = at.row_words;
        out.offset = at.offset;
        out.table_offset = at.table_offset;
        out.table_entries = at.table_entries;
        out.shift = static_cast<uint8_t>(at.shift);
        layout.layers.push_back(out);
    }
    layout.bytes = packed.bytes;
    return layout;
}

}  // namespace adapath
