// Interval arithmetic over one row after the other: can any input, not only the ones seen, drive a lane of the packed
// convolution out of its bits, or a 64-bit product over? The bounds are exact for the top lane (a dot product's extremes
// are at the corners of the input's box) and safe for the rest.
#include <cstdint>

#include <fmt/format.h>

#include <adapath/net.h>

#include "codegen/codegen.h"

namespace adapath {

namespace {

constexpr int kTopBits = 64 - ADP_TOP_SHIFT;
constexpr int64_t kHalfTopUnit = int64_t{1} << (ADP_TOP_SHIFT - 1);
// The sum is a signed 64-bit number whose lower half-range is spare: one bit for the lifts that pack() folds in.
constexpr int kSumBits = 62;

struct Interval {
    int64_t lo = 0;
    int64_t hi = 0;

    // Adds weight * x for every x in 0..max.
    void add(int weight, int64_t max) {
        (weight < 0 ? lo : hi) += weight * max;
    }
};

int bits(uint64_t value) {
    int n = 0;
    for (; value != 0; value >>= 1) {
        ++n;
    }
    return n;
}

Status prove_row(const QuantLayer& layer, const LayerShape& shape, const LayerLayout& layout, size_t l, uint32_t row) {
    const int8_t* weights = layer.weights.data() + size_t{row} * shape.inputs;
    const int64_t max = layout.input_max;
    Interval acc;
    for (uint32_t c = 0; c < layout.chunks; ++c) {
        const uint32_t first = c * layout.chunk_inputs;
        const uint32_t count = layout.inputs_of_chunk(c, shape.inputs);
        Interval top;     // x0 w0 + x1 w1 + x2 w2
        Interval middle;  // x0 w1 + x1 w2
        Interval bottom;  // x0 w2
        for (uint32_t i = 0; i < count; i += 3) {
            const int w0 = weights[first + i];
            const int w1 = i + 1 < count ? weights[first + i + 1] : 0;
            const int w2 = i + 2 < count ? weights[first + i + 2] : 0;
            top.add(w0, max);
            top.add(w1, max);
            top.add(w2, max);
            middle.add(w1, max);
            middle.add(w2, i + 1 < count ? max : 0);
            bottom.add(w2, max);
        }
        if (top.hi - top.lo >= int64_t{1} << kTopBits) {
            return Error{fmt::format(
                "layer {} row {}: accumulator range {}..{} of inputs {}..{} needs {} bits, {} available; reduce the weights "
                "or the inputs of a chunk",
                l + 1, row, top.lo, top.hi, first, first + count - 1, bits(static_cast<uint64_t>(top.hi - top.lo)),
                kTopBits)};
        }
        const int64_t unit = int64_t{1} << ADP_LANE_BITS;
        const int64_t low = middle.lo * unit + bottom.lo;
        const int64_t high = middle.hi * unit + bottom.hi;
        if (low < -kHalfTopUnit || high >= kHalfTopUnit) {
            return Error{fmt::format("layer {} row {}: lower lanes' range {}..{} of inputs {}..{} leaves -2^{}..2^{}; reduce "
                                     "the weights or the inputs of a chunk",
                                     l + 1, row, low, high, first, first + count - 1, ADP_TOP_SHIFT - 1,
                                     ADP_TOP_SHIFT - 1)};
        }
        acc.lo += top.lo;
        acc.hi += top.hi;
    }

    // acc is below 2^25 in size and mult below 2^32, so the products are exact here; the bias is checked before it is added.
    const int64_t limit = int64_t{1} << kSumBits;
    const int64_t mult = layer.mult[row];
    const int64_t bias = layer.bias[row];
    // The programs first have the lifted (non-negative) accumulator, whose lifts sum to -acc.lo: its product and the folded
    // bias are sums of these same terms and stay below 2^63.
    if (bias <= -limit || bias >= limit || acc.lo * mult + bias <= -limit || acc.hi * mult + bias >= limit) {
        return Error{fmt::format("layer {} row {}: accumulator range {}..{} times multiplier {} plus bias {} needs more than "
                                 "{} bits; reduce the bias or the weights",
                                 l + 1, row, acc.lo, acc.hi, mult, bias, kSumBits)};
    }
    return {};
}

}  // namespace

Status prove(const QuantModel& model) {
    if (Status valid = validate(model); !valid) {
        return valid;
    }
    const Result<NetworkLayout> layout = network_layout(model.network);
    if (!layout) {
        return layout.error();
    }
    for (size_t l = 0; l < model.layers.size(); ++l) {
        const LayerShape& shape = model.network.layers[l];
        for (uint32_t row = 0; row < shape.outputs; ++row) {
            if (Status s = prove_row(model.layers[l], shape, layout->layers[l], l, row); !s) {
                return s;
            }
        }
    }
    return {};
}

}  // namespace adapath
