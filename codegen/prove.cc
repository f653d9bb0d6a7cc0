// Interval arithmetic over one row after the other: can any input, not only the ones seen, drive a lane of the packed
// convolution out of its bits, or a 64-bit product over? The bounds of the lanes are exact: a linear form has its
// extremes at corners of the inputs' box.
#include <cstdint>

#include <fmt/format.h>

#include <adapath/net.h>

#include "codegen/codegen.h"

namespace adapath {

namespace {

constexpr int kTopBits = 64 - ADP_TOP_SHIFT;
// Of the signed 64-bit sum, leaving a bit spare.
constexpr int kSumBits = 62;

struct Interval {
    int64_t lo = 0;
    int64_t hi = 0;

    [[nodiscard]] int64_t range() const { return hi - lo; }
    // Adds weight * x for any x in 0..max.
    void add(int64_t weight, int64_t max) { (weight < 0 ? lo : hi) += weight * max; }
};

int bits(uint64_t value) {
    int n = 0;
    for (; value != 0; value >>= 1) {
        ++n;
    }
    return n;
}

Error range_error(size_t l, uint32_t row, const char* what, const Interval& found, uint32_t first, uint32_t count,
                  int available) {
    return Error{
        fmt::format("layer {} row {}: {} range {}..{} of inputs {}..{} needs {} bits, {} available; reduce the weights "
                    "or the inputs of a chunk",
                    l + 1, row, what, found.lo, found.hi, first, first + count - 1,
                    bits(static_cast<uint64_t>(found.range())), available)};
}

Status prove_row(const QuantLayer& layer, const LayerShape& shape, const LayerLayout& layout, size_t l, uint32_t row) {
    const int8_t* weights = layer.weights.data() + size_t{row} * shape.inputs;
    const int64_t max = layout.input_max;
    Interval acc;
    for (uint32_t c = 0; c < layout.chunks; ++c) {
        const uint32_t first = c * layout.chunk_inputs;
        const uint32_t count = layout.inputs_of_chunk(c, shape.inputs);
        const auto weight = [&](uint32_t i) { return i < count ? int64_t{weights[first + i]} : 0; };
        Interval top;    // x0 w0 + x1 w1 + x2 w2
        Interval below;  // x0 (w1 2^22 + w2) + x1 w2 2^21
        for (uint32_t i = 0; i < count; i += 3) {
            for (const int64_t w : {weight(i), weight(i + 1), weight(i + 2)}) {
                top.add(w, max);
            }
            below.add(weight(i + 1) * (1 << ADP_W1_SHIFT) + weight(i + 2), max);
            below.add(weight(i + 2) * (1 << ADP_X1_SHIFT), max);
        }
        if (top.range() >= int64_t{1} << kTopBits) {
            return range_error(l, row, "accumulator", top, first, count, kTopBits);
        }
        if (below.range() >= int64_t{1} << ADP_TOP_SHIFT) {
            return range_error(l, row, "lower lanes'", below, first, count, ADP_TOP_SHIFT);
        }
        acc.lo += top.lo;
        acc.hi += top.hi;
    }

    // acc is below 2^27 in size and mult below 2^32, so the products are exact here; the bias is checked before it is
    // added.
    const int64_t limit = int64_t{1} << kSumBits;
    const int64_t mult = layer.mult[row];
    const int64_t bias = layer.bias[row];
    // The programs first have the lifted (non-negative) accumulator, whose lifts sum to -acc.lo: its product and the
    // folded bias are sums of these same terms and stay below 2^63.
    if (bias <= -limit || bias >= limit || acc.lo * mult + bias <= -limit || acc.hi * mult + bias >= limit) {
        return Error{
            fmt::format("layer {} row {}: accumulator range {}..{} times multiplier {} plus bias {} needs more than "
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
