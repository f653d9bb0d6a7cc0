// The bytes that go into a slot, as include/adapath/net.h lays them out.
#include <cstdint>

#include <adapath/net.h>

#include "codegen/codegen.h"

namespace adapath {

namespace {

// Kernel-side records are in the machine's byte order (abi.h); every target of Adapath is little-endian.
static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);

class Writer {
public:
    Writer(std::vector<uint8_t>& bytes, size_t offset) : bytes_(bytes), at_(offset) {}

    void word(uint64_t value) { put(value, 8); }
    void half(uint16_t value) { put(value, 2); }

private:
    void put(uint64_t value, int count) {
        for (int i = 0; i < count; ++i) {
            bytes_.at(at_++) = static_cast<uint8_t>(value >> (8 * i));
        }
    }

    std::vector<uint8_t>& bytes_;
    size_t at_;
};

// Two's complement on purpose: the arithmetic wraps, and negative weights borrow from the lane above.
uint64_t pack_weights(int w0, int w1, int w2) {
    return static_cast<uint64_t>(int64_t{w2}) + (static_cast<uint64_t>(int64_t{w1}) << ADP_LANE_BITS) +
           (static_cast<uint64_t>(int64_t{w0}) << (2 * ADP_LANE_BITS));
}

void pack_row(const QuantLayer& layer, const LayerShape& shape, const LayerLayout& layout, uint32_t row, Writer& out) {
    const int8_t* weights = layer.weights.data() + size_t{row} * shape.inputs;
    uint64_t lifts = 0;
    for (uint32_t c = 0; c < layout.chunks; ++c) {
        const int8_t* chunk = weights + c * layout.chunk_inputs;
        const uint32_t count = layout.inputs_of_chunk(c, shape.inputs);
        // The least value of the chunk's dot product: lifting by it makes the top lane non-negative for every input.
        uint64_t lift = 0;
        for (uint32_t i = 0; i < count; ++i) {
            lift += chunk[i] < 0 ? static_cast<uint64_t>(-chunk[i]) * layout.input_max : 0;
        }
        lifts += lift;
        out.word((lift << ADP_TOP_SHIFT) + (uint64_t{1} << (ADP_TOP_SHIFT - 1)));
        for (uint32_t i = 0; i < count; i += 3) {
            out.word(pack_weights(chunk[i], i + 1 < count ? chunk[i + 1] : 0, i + 2 < count ? chunk[i + 2] : 0));
        }
    }
    out.word(static_cast<uint64_t>(layer.bias[row]) - layer.mult[row] * lifts);
    out.word(layer.mult[row]);
}

}  // namespace

Result<std::vector<uint8_t>> pack(const QuantModel& model) {
    if (Status proven = prove(model); !proven) {
        return proven.error();
    }
    const Result<NetworkLayout> layout = network_layout(model.network);
    if (!layout) {
        return layout.error();
    }
    std::vector<uint8_t> bytes(layout->bytes, 0);
    for (size_t l = 0; l < model.layers.size(); ++l) {
        const LayerLayout& where = layout->layers[l];
        const LayerShape& shape = model.network.layers[l];
        Writer rows(bytes, where.offset);
        for (uint32_t row = 0; row < shape.outputs; ++row) {
            pack_row(model.layers[l], shape, where, row, rows);
        }
        Writer table(bytes, where.table_offset);
        for (const uint16_t code : model.layers[l].code_table) {
            table.half(code);
        }
        for (const int16_t value : model.layers[l].output_table) {
            table.half(static_cast<uint16_t>(value));
        }
    }
    return bytes;
}

}  // namespace adapath
