// The layout that kernel and codegen share: what it gives any shape that a network may have, and that it refuses every
// other one.
#include <map>
#include <set>

#include <gtest/gtest.h>

#include "tests/codegen/kmod_fixtures.h"

namespace adapath::test {
namespace {

int init(adp_layout& layout, const std::vector<adp_layer_shape>& shapes, adp_complaint& why) {
    why = {"nothing said", 99, 99, 0};
    return adp_kernel_layout_init(&layout, shapes.data(), static_cast<uint32_t>(shapes.size()), &why);
}

struct Part {
    uint32_t bytes = 0;
    size_t users = 0;
};

// Sizes of a layer by counting, not by the formulas of layout.h.
void expect_layer(const adp_layer_shape& shape, const adp_layer_layout& at, bool first, bool last) {
    const uint32_t code_max = first ? 255 : 1376;
    EXPECT_EQ(at.input_max, code_max);
    uint32_t chunks = 0;
    uint32_t triples = 0;
    for (uint32_t input = 0; input < shape.inputs; ++input) {
        const uint32_t in_chunk = input % at.chunk_inputs;
        chunks += in_chunk == 0 ? 1 : 0;
        triples += in_chunk % 3 == 0 ? 1 : 0;
    }
    EXPECT_EQ(at.chunks, chunks);
    EXPECT_EQ(at.triples, triples);
    EXPECT_LE(at.triples, static_cast<uint32_t>(ADP_MAX_TRIPLES));
    EXPECT_EQ(at.row_words, chunks + triples + 2);
    EXPECT_EQ(at.chunk_triples * 3, at.chunk_inputs);
    // As many as the top lane holds, and no fewer than it could.
    EXPECT_LT(uint64_t{at.chunk_inputs} * 127 * code_max, uint64_t{1} << 21);
    EXPECT_GE(uint64_t{at.chunk_inputs + 3} * 127 * code_max, uint64_t{1} << 21);
    const bool curve = shape.activation == ADP_TANH || shape.activation == ADP_SIGMOID;
    EXPECT_EQ(at.table_entries, curve ? 8192U : last ? 0U : 1377U);
    EXPECT_EQ(at.shift, last && !curve ? 20U : 24U);
}

void expect_sound(const adp_layout& layout, const std::vector<adp_layer_shape>& shapes) {
    ASSERT_EQ(layout.layers, shapes.size());
    EXPECT_EQ(layout.inputs, shapes.front().inputs);
    EXPECT_EQ(layout.outputs, shapes.back().outputs);
    EXPECT_LE(layout.bytes, static_cast<uint32_t>(ADP_PARAMS_BYTES));
    std::map<uint32_t, Part> parts;  // by offset
    std::map<uint32_t, uint32_t> table_kind;
    for (size_t l = 0; l < shapes.size(); ++l) {
        const adp_layer_layout& at = layout.layer[l];
        const bool last = l + 1 == shapes.size();
        EXPECT_EQ(std::memcmp(&layout.shape[l], &shapes[l], sizeof(shapes[l])), 0);
        expect_layer(shapes[l], at, l == 0, last);
        EXPECT_TRUE(parts.emplace(at.offset, Part{shapes[l].outputs * at.row_words * 8, 1}).second)
            << "rows of two layers meet";
        if (at.table_entries > 0) {
            Part& table = parts[at.table_offset];
            table.bytes = (2 * at.table_entries + 7) / 8 * 8;
            ++table.users;
            // Shared by hidden layers of the same kind of table, and by nobody else.
            const uint32_t kind = (at.table_entries == 1377 ? 0U : shapes[l].activation) + (last ? 100U : 0U);
            EXPECT_TRUE(table_kind.emplace(at.table_offset, kind).first->second == kind);
        }
    }
    std::set<uint32_t> kinds;
    for (const auto& [offset, kind] : table_kind) {
        EXPECT_TRUE(kinds.insert(kind).second) << "a table is there twice";
    }
    // Side by side from 0 to the end, each at a multiple of 8.
    uint32_t end = 0;
    for (const auto& [offset, part] : parts) {
        EXPECT_EQ(offset, end);
        EXPECT_EQ(offset % 8, 0U);
        end = offset + part.bytes;
    }
    EXPECT_EQ(end, layout.bytes);
}

TEST(Layout, EveryNetworkThatFits) {
    Random random(31);
    std::vector<Network> networks = limit_networks();
    while (networks.size() < 1000) {
        networks.push_back(edge_network(random));
    }
    for (const Network& network : networks) {
        adp_layout layout;
        std::memset(&layout, 0xff, sizeof layout);
        adp_complaint why;
        const std::vector<adp_layer_shape> shapes = shapes_of(network);
        ASSERT_EQ(init(layout, shapes, why), 0) << describe(network) << why.what;
        ASSERT_NO_FATAL_FAILURE(expect_sound(layout, shapes));
        // What the kernel is not told to fill is 0: two layouts of one network are the same bytes.
        adp_layout again;
        std::memset(&again, 0, sizeof again);
        ASSERT_EQ(init(again, shapes, why), 0);
        EXPECT_EQ(std::memcmp(&layout, &again, sizeof layout), 0);
        // codegen's view of it.
        const NetworkLayout cpp = network_layout(network).value();
        EXPECT_EQ(cpp.bytes, layout.bytes);
        ASSERT_EQ(cpp.layers.size(), layout.layers);
        for (size_t l = 0; l < cpp.layers.size(); ++l) {
            EXPECT_EQ(cpp.layers[l].offset, layout.layer[l].offset);
            EXPECT_EQ(cpp.layers[l].row_words, layout.layer[l].row_words);
            EXPECT_EQ(cpp.layers[l].table_offset, layout.layer[l].table_offset);
        }
    }
}

TEST(Layout, RefusesShapesOutOfRangeAndSaysWhich) {
    const std::vector<adp_layer_shape> good = shapes_of(aurora());
    adp_layout layout;
    adp_complaint why;
    ASSERT_EQ(init(layout, good, why), 0);
    const auto refused = [&](size_t layer, auto change) {
        std::vector<adp_layer_shape> shapes = good;
        change(shapes[layer]);
        adp_complaint complaint;
        EXPECT_EQ(init(layout, shapes, complaint), -1);
        EXPECT_EQ(complaint.row, 0U);
        EXPECT_NE(complaint.what, nullptr);
        return complaint;
    };
    EXPECT_EQ(refused(0, [](adp_layer_shape& s) { s.inputs = 0; }).layer, 1U);
    EXPECT_EQ(refused(0, [](adp_layer_shape& s) { s.inputs = 257; }).value, 257);
    EXPECT_EQ(refused(0, [](adp_layer_shape& s) { s.inputs = 65535; }).value, 65535);
    EXPECT_EQ(refused(0, [](adp_layer_shape& s) { s.outputs = 0; }).layer, 1U);
    EXPECT_EQ(refused(0, [](adp_layer_shape& s) { s.outputs = 257; }).layer, 1U);
    EXPECT_EQ(refused(0, [](adp_layer_shape& s) { s.outputs = 31; }).layer, 2U);
    EXPECT_EQ(refused(1, [](adp_layer_shape& s) { s.inputs = 33; }).layer, 2U);
    EXPECT_EQ(refused(2, [](adp_layer_shape& s) { s.outputs = ADP_MAX_OUTPUTS + 1; }).layer, 3U);
    EXPECT_EQ(refused(2, [](adp_layer_shape& s) { s.activation = ADP_ACTIVATIONS; }).value, ADP_ACTIVATIONS);
    EXPECT_EQ(refused(1, [](adp_layer_shape& s) { s.activation = 255; }).layer, 2U);
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(refused(1, [i](adp_layer_shape& s) { s.pad[i] = 1; }).layer, 2U);
    }
    EXPECT_EQ(init(layout, {}, why), -1);
    EXPECT_EQ(why.value, 0);
    // Shapes that chain, one too many of them.
    const std::vector<adp_layer_shape> nine(ADP_MAX_LAYERS + 1, adp_layer_shape{4, 4, ADP_RELU, {0, 0, 0}});
    EXPECT_EQ(init(layout, nine, why), -1);
    EXPECT_EQ(why.value, ADP_MAX_LAYERS + 1);
    EXPECT_EQ(adp_kernel_layout_init(&layout, nine.data(), 0xffffffffU, &why), -1) << "reads no shape";
    // Two wide layers side by side.
    const std::vector<adp_layer_shape> large = {{256, 256, ADP_RELU, {0, 0, 0}}, {256, 4, ADP_RELU, {0, 0, 0}}};
    EXPECT_EQ(init(layout, large, why), -1);
    EXPECT_GT(why.value, ADP_PARAMS_BYTES);
    EXPECT_EQ(why.layer, 0U);
}

TEST(Layout, ASlotIsFilledToItsLastByteAndNotOneWordMore) {
    adp_layout layout;
    adp_complaint why;
    // 204 rows of 100 inputs, one of 204, and ReLU's table.
    const std::vector<adp_layer_shape> full = {{100, 204, ADP_RELU, {0, 0, 0}}, {204, 1, ADP_RELU, {0, 0, 0}}};
    ASSERT_EQ(init(layout, full, why), 0) << why.value;
    EXPECT_EQ(layout.bytes, static_cast<uint32_t>(ADP_PARAMS_BYTES));
    expect_sound(layout, full);
    const std::vector<adp_layer_shape> over = {{181, 118, ADP_RELU, {0, 0, 0}}, {118, 1, ADP_RELU, {0, 0, 0}}};
    EXPECT_EQ(init(layout, over, why), -1);
    EXPECT_EQ(why.value, ADP_PARAMS_BYTES + 8);
}

// Any bytes for shapes: accepted are those that codegen's validate() accepts and that fit, and no others.
TEST(Layout, AgreesWithValidateOnAnyShapes) {
    Random random(32);
    int accepted = 0;
    for (int n = 0; n < 20000; ++n) {
        std::vector<adp_layer_shape> shapes = shapes_of(edge_network(random));
        for (uint64_t changes = random() % 3; changes > 0; --changes) {
            adp_layer_shape& shape = shapes[random() % shapes.size()];
            const auto value = static_cast<uint16_t>(random() % 2 == 0 ? random() : random() % 260);
            switch (random() % 4) {
                case 0:
                    shape.inputs = value;
                    break;
                case 1:
                    shape.outputs = value;
                    break;
                case 2:
                    shape.activation = static_cast<uint8_t>(random() % 6);
                    break;
                default:
                    shapes.push_back(shapes[random() % shapes.size()]);
            }
        }
        Network network = network_of({shapes[0].inputs, 1}, {Activation::relu});
        network.layers.clear();
        for (const adp_layer_shape& shape : shapes) {
            network.layers.push_back({shape.inputs, shape.outputs, static_cast<Activation>(shape.activation)});
        }
        const Result<NetworkLayout> wanted = network_layout(network);
        const bool valid = validate(network).ok();
        adp_layout layout;
        adp_complaint why;
        const bool taken = init(layout, shapes, why) == 0;
        ASSERT_EQ(taken, wanted.ok());
        const bool too_large = !taken && why.layer == 0 && why.value > ADP_PARAMS_BYTES;
        ASSERT_EQ(valid, taken || too_large) << why.what << ": " << why.value;
        accepted += taken ? 1 : 0;
    }
    EXPECT_GT(accepted, 2000);
    EXPECT_LT(accepted, 18000);
}

}  // namespace
}  // namespace adapath::test
