// The packed arithmetic of include/adapath/net.h, done here from the packed bytes and the layout alone, agrees with the
// reference interpreter bit for bit: on random networks, on random inputs and on the inputs that drive the lanes
// furthest.
#include <cstring>
#include <limits>

#include <gtest/gtest.h>

#include <adapath/fixed.h>
#include <adapath/net.h>

#include "codegen/codegen.h"
#include "tests/codegen/random_models.h"

namespace adapath {
namespace {

using testing_support::cc_network;
using testing_support::random_network;
using testing_support::random_weights;
using testing_support::uniform_codes;

// What a generated program does, shape by shape; also watches that nothing wraps that should not.
class PackedProgram {
public:
    PackedProgram(const Network& network, std::vector<uint8_t> params)
        : network_(network), layout_(*network_layout(network)), params_(std::move(params)) {}

    std::vector<int32_t> run(const InputCodes& codes) {
        std::vector<uint64_t> x(codes.begin(), codes.end());
        std::vector<int32_t> out;
        for (size_t l = 0; l < network_.layers.size(); ++l) {
            const LayerShape& shape = network_.layers[l];
            const bool last = l + 1 == network_.layers.size();
            out.clear();
            for (uint32_t row = 0; row < shape.outputs; ++row) {
                out.push_back(finish(l, last, index(l, row, x)));
            }
            x.assign(out.begin(), out.end());
        }
        return out;
    }

private:
    template <typename T>
    T load(size_t offset) const {
        T value;
        EXPECT_LE(offset + sizeof value, params_.size());
        std::memcpy(&value, params_.data() + offset, sizeof value);
        return value;
    }

    int64_t index(size_t l, uint32_t row, const std::vector<uint64_t>& x) const {
        const LayerLayout& layout = layout_.layers[l];
        size_t at = layout.offset + size_t{row} * layout.row_words * 8;
        const auto word = [&] {
            at += 8;
            return load<uint64_t>(at - 8);
        };
        uint64_t acc = 0;
        for (uint32_t c = 0; c < layout.chunks; ++c) {
            const uint32_t first = c * layout.chunk_inputs;
            const uint32_t count = layout.inputs_of_chunk(c, network_.layers[l].inputs);
            const auto code = [&](uint32_t i) { return i < count ? x[first + i] : 0; };
            uint64_t sum = word();
            for (uint32_t i = 0; i < count; i += 3) {
                sum += adp_pack3(code(i), code(i + 1), code(i + 2)) * word();
            }
            acc += sum >> ADP_TOP_SHIFT;
        }
        const uint64_t bias = word();
        const uint64_t mult = word();
        return static_cast<int64_t>(acc * mult + bias) >> layout.shift;
    }

    int32_t finish(size_t l, bool last, int64_t t) const {
        const LayerLayout& layout = layout_.layers[l];
        if (layout.table_entries > 0) {
            const auto entry = static_cast<size_t>(adp_clamp(t, 0, layout.table_entries - 1));
            return last ? 2 * load<int16_t>(layout.table_offset + 2 * entry)
                        : load<uint16_t>(layout.table_offset + 2 * entry);
        }
        const int64_t lowest =
            network_.layers[l].activation == Activation::relu ? 0 : std::numeric_limits<int32_t>::min();
        return static_cast<int32_t>(adp_clamp(t, lowest, std::numeric_limits<int32_t>::max()));
    }

    const Network& network_;
    NetworkLayout layout_;
    std::vector<uint8_t> params_;
};

// All 0, all 255, and for some rows of the first layer the inputs that make it least and greatest.
std::vector<InputCodes> extremes(const QuantModel& model) {
    const size_t n = model.network.input_count();
    std::vector<InputCodes> vectors{InputCodes(n, 0), InputCodes(n, 255)};
    for (size_t row = 0; row < model.network.layers[0].outputs; ++row) {
        InputCodes least(n);
        InputCodes greatest(n);
        for (size_t i = 0; i < n; ++i) {
            const bool negative = model.layers[0].weights[row * n + i] < 0;
            least[i] = negative ? 255 : 0;
            greatest[i] = negative ? 0 : 255;
        }
        vectors.push_back(least);
        vectors.push_back(greatest);
    }
    return vectors;
}

void expect_equal_programs(const QuantModel& model, const std::vector<InputCodes>& inputs) {
    const Result<std::vector<uint8_t>> packed = pack(model);
    ASSERT_TRUE(packed.ok()) << packed.error().message;
    ASSERT_EQ(packed->size(), network_layout(model.network)->bytes);
    PackedProgram program(model.network, *packed);
    for (const InputCodes& codes : inputs) {
        ASSERT_EQ(program.run(codes), interpret(model, codes)) << describe(model.network);
    }
}

#define ASSERT_EQUAL_PROGRAMS(model, inputs) ASSERT_NO_FATAL_FAILURE(expect_equal_programs(model, inputs))

// A model of the widest ranges that validate() lets through: random, or all weights at a corner.
QuantModel wild_model(const Network& network, std::mt19937_64& random, int weight) {
    const NetworkLayout layout = *network_layout(network);
    QuantModel model;
    model.network = network;
    for (size_t l = 0; l < network.layers.size(); ++l) {
        const LayerShape& shape = network.layers[l];
        const bool last = l + 1 == network.layers.size();
        QuantLayer layer;
        layer.shift = layout.layers[l].shift;
        for (size_t i = 0; i < size_t{shape.inputs} * shape.outputs; ++i) {
            layer.weights.push_back(static_cast<int8_t>(weight != 0 ? weight : static_cast<int>(random() % 255) - 127));
        }
        for (uint32_t row = 0; row < shape.outputs; ++row) {
            layer.mult.push_back(static_cast<uint32_t>(random()) >> (random() % 32));
            layer.bias.push_back(static_cast<int64_t>(random()) >> (3 + random() % 40));
        }
        for (uint32_t e = 0; e < layout.layers[l].table_entries; ++e) {
            // The same for every hidden layer, as sharing wants it; not monotonic, so that every index shows.
            if (last) {
                layer.output_table.push_back(static_cast<int16_t>(random()));
            } else {
                layer.code_table.push_back(static_cast<uint16_t>(e * 2654435761U % (ADP_HIDDEN_CODE_MAX + 1)));
            }
        }
        model.layers.push_back(std::move(layer));
    }
    return model;
}

TEST(Pack, QuantisedRandomNetworks) {
    std::mt19937_64 random(1);
    for (int m = 0; m < 60; ++m) {
        const Network network = random_network(random);
        const FloatModel model = random_weights(network, random, 0.5 + static_cast<double>(random() % 4));
        const std::vector<InputCodes> inputs = uniform_codes(network.input_count(), 100, random);
        const Result<QuantModel> quant = quantise(model, inputs);
        ASSERT_TRUE(quant.ok()) << quant.error().message;
        ASSERT_EQUAL_PROGRAMS(*quant, inputs);
        ASSERT_EQUAL_PROGRAMS(*quant, extremes(*quant));
    }
}

TEST(Pack, WildParameters) {
    std::mt19937_64 random(2);
    for (int m = 0; m < 60; ++m) {
        const Network network = random_network(random);
        const QuantModel model = wild_model(network, random, 0);
        ASSERT_EQUAL_PROGRAMS(model, uniform_codes(network.input_count(), 100, random));
        ASSERT_EQUAL_PROGRAMS(model, extremes(model));
    }
}

TEST(Pack, EveryWeightAtACornerOfItsRange) {
    std::mt19937_64 random(3);
    for (const int weight : {-127, 127}) {
        for (int m = 0; m < 20; ++m) {
            const Network network = random_network(random);
            const QuantModel model = wild_model(network, random, weight);
            ASSERT_EQUAL_PROGRAMS(model, extremes(model));
            ASSERT_EQUAL_PROGRAMS(model, uniform_codes(network.input_count(), 20, random));
        }
    }
}

// The lanes hold a chunk of the greatest codes and weights, and would not hold one triple more: the bound is no
// accident.
TEST(Pack, ChunksFillTheirLanes) {
    for (const int64_t code_max : {ADP_INPUT_CODE_MAX, ADP_HIDDEN_CODE_MAX}) {
        const int64_t inputs = ADP_CHUNK_INPUTS(code_max);
        const int64_t below_a_triple = 127 * code_max * ((1 << ADP_W1_SHIFT) + (1 << ADP_X1_SHIFT) + 1);
        EXPECT_EQ(inputs % 3, 0);
        EXPECT_LT(inputs * 127 * code_max, int64_t{1} << (64 - ADP_TOP_SHIFT));
        EXPECT_GE((inputs + 3) * 127 * code_max, int64_t{1} << (64 - ADP_TOP_SHIFT));
        EXPECT_LT(inputs / 3 * below_a_triple, int64_t{1} << ADP_TOP_SHIFT);
    }
}

TEST(Pack, CcFitsASlotAndKeepsItsShape) {
    const Result<NetworkLayout> layout = network_layout(cc_network());
    ASSERT_TRUE(layout.ok());
    EXPECT_EQ(layout->layers[0].row_words, 1U + ADP_CC_INPUTS / 3 + 2);
    EXPECT_EQ(layout->layers[1].row_words, 3U + 11 + 2);
    EXPECT_EQ(layout->layers[2].row_words, 2U + 6 + 2);
    EXPECT_EQ(layout->layers[0].table_offset, layout->layers[1].table_offset) << "tanh twice, one table";
    EXPECT_LT(layout->bytes, 24U * 1024);
}

}  // namespace
}  // namespace adapath
