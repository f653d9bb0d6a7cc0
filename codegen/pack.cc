// The bytes that go into a slot, as include/adapath/net.h lays them out.
#include <algorithm>
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
uint64_t pack_weights(int64_t w0, int64_t w1, int64_t w2) {
    return static_cast<uint64_t>(w2) + (static_cast<uint64_t>(w1) << ADP_W1_SHIFT) +
           (static_cast<uint64_t>(w0) << ADP_TOP_SHIFT);
}

void pack_row(const QuantLayer& layer, const LayerShape& shape, const LayerLayout& layout, uint32_t row, Writer& out) {
    const int8_t* weights = layer.weights.data() + size_t{row} * shape.inputs;
    uint64_t lifts = 0;
    for (uint32_t c = 0; c < layout.chunks; ++c) {
        const int8_t* chunk = weights + c * layout.chunk_inputs;
        const uint32_t count = layout.inputs_of_chunk(c, shape.inputs);
        const auto weight = [&](uint32_t i) { return i < count ? int64_t{chunk[i]} : 0; };
        // By how much the top lane, and the lanes below it as one number, can go below 0: the lifts that keep them from
        // it.
        int64_t top = 0;
        int64_t below = 0;
        for (uint32_t i = 0; i < count; i += 3) {
            for (const int64_t w : {weight(i), weight(i + 1), weight(i + 2)}) {
                top += std::max<int64_t>(-w, 0) * layout.input_max;
            }
            // x0 (w1 2^22 + w2) + x1 w2 2^21
            below += std::max<int64_t>(-(weight(i + 1) * (1 << ADP_W1_SHIFT) + weight(i + 2)), 0) * layout.input_max;
            below += std::max<int64_t>(-weight(i + 2) * (1 << ADP_X1_SHIFT), 0) * layout.input_max;
        }
        lifts += static_cast<uint64_t>(top);
        out.word((static_cast<uint64_t>(top) << ADP_TOP_SHIFT) + static_cast<uint64_t>(below));
        for (uint32_t i = 0; i < count; i += 3) {
            out.word(pack_weights(weight(i), weight(i + 1), weight(i + 2)));
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
