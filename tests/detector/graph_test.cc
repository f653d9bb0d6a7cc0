// The reader of TF.js graph models: what it makes of a sound file, and that no other file brings it down.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <functional>
#include <limits>

#include "models/detector/graph.h"
#include "tests/detector/graph_file.h"

namespace adapath {
namespace {

using nlohmann::json;

const std::vector<std::string> wanted{"out"};

TEST(Graph, HalvesAreIeee) {
    EXPECT_EQ(float_of_half(0x0000), 0.0F);
    EXPECT_TRUE(std::signbit(float_of_half(0x8000)));
    EXPECT_EQ(float_of_half(0x3c00), 1.0F);
    EXPECT_EQ(float_of_half(0xc000), -2.0F);
    EXPECT_EQ(float_of_half(0x3555), 0.333251953125F);
    EXPECT_EQ(float_of_half(0x7bff), 65504.0F);
    EXPECT_EQ(float_of_half(0x0001), std::ldexp(1.0F, -24));
    EXPECT_EQ(float_of_half(0x83ff), -std::ldexp(1023.0F, -24));
    EXPECT_EQ(float_of_half(0x0400), std::ldexp(1.0F, -14));
    EXPECT_EQ(float_of_half(0xfc00), -std::numeric_limits<float>::infinity());
    EXPECT_TRUE(std::isnan(float_of_half(0x7e01)));
}

TEST(Graph, EveryOperationInAnOrderThatCanBeComputed) {
    ScratchDirectory directory;
    auto graph = read_graph(every_operation().write(directory), wanted);
    ASSERT_TRUE(graph.ok()) << graph.error().message;
    EXPECT_EQ(graph->declared, (GraphShape{3, 8, 8}));
    EXPECT_EQ(graph->nodes[0].kind, GraphNode::Kind::input);
    for (size_t i = 0; i < graph->nodes.size(); i++)
        for (uint32_t input : graph->nodes[i].inputs) EXPECT_LT(input, i);
    auto shapes = infer_shapes(*graph, 8, 8);
    ASSERT_TRUE(shapes.ok());
    EXPECT_EQ((*shapes)[graph->outputs[0]], (GraphShape{7, 8, 8}));
    // The size in the file is only that of its own input.
    shapes = infer_shapes(*graph, 16, 40);
    ASSERT_TRUE(shapes.ok());
    EXPECT_EQ((*shapes)[graph->outputs[0]], (GraphShape{7, 16, 40}));
    // 9 is halved to 5 and doubled to 10, which cannot be joined with 9.
    shapes = infer_shapes(*graph, 9, 8);
    ASSERT_FALSE(shapes.ok());
    EXPECT_NE(shapes.error().message.find("node joined"), std::string::npos) << shapes.error().message;
    for (int64_t side : {int64_t{0}, int64_t{-1}, int64_t{1} << 40}) EXPECT_FALSE(infer_shapes(*graph, side, 8).ok());
}

TEST(Graph, WeightsLieAsLibTorchWantsThem) {
    GraphFile g;
    g.input(4, 4, 2);
    // [height 1, width 2, inputs 2, outputs 3], numbered as they lie.
    g.floats("w", {1, 2, 2, 3}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
    g.add("conv", "Conv2D", {"picture", "w"}, GraphFile::convolution(1, false));
    // [height 2, width 1, inputs 3, multiplier 2]
    g.floats("d", {2, 1, 3, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11});
    g.add("out", "DepthwiseConv2dNative", {"conv", "d"}, GraphFile::convolution(1, false));
    ScratchDirectory directory;
    auto graph = read_graph(g.write(directory), wanted);
    ASSERT_TRUE(graph.ok()) << graph.error().message;
    EXPECT_EQ(graph->nodes[1].kernel, (std::vector<int64_t>{3, 2, 1, 2}));
    EXPECT_EQ(graph->nodes[1].weights, (std::vector<float>{0, 6, 3, 9, 1, 7, 4, 10, 2, 8, 5, 11}));
    EXPECT_EQ(graph->nodes[2].kernel, (std::vector<int64_t>{6, 1, 2, 1}));
    EXPECT_EQ(graph->nodes[2].weights, (std::vector<float>{0, 6, 1, 7, 2, 8, 3, 9, 4, 10, 5, 11}));
    EXPECT_EQ((*infer_shapes(*graph, 4, 4))[2], (GraphShape{6, 3, 3}));
}

// Nodes that nothing asked for are not looked at: the file's own decoding uses operations that are not known here.
TEST(Graph, OnlyWhatIsNeededHasToBeKnown) {
    GraphFile g = every_operation();
    g.add("best", "TopKV2", {"out"});
    ScratchDirectory directory;
    const std::string path = g.write(directory);
    EXPECT_TRUE(read_graph(path, wanted).ok());
    auto graph = read_graph(path, {"out", "best"});
    ASSERT_FALSE(graph.ok());
    EXPECT_NE(graph.error().message.find("node best: the operation TopKV2"), std::string::npos);
}

struct Hostile {
    const char* name;
    std::function<void(GraphFile&)> change;
    const char* says;  // besides the file's name
};

class HostileGraph : public testing::TestWithParam<Hostile> {};

TEST_P(HostileGraph, IsAnErrorThatNamesIt) {
    GraphFile g = every_operation();
    GetParam().change(g);
    ScratchDirectory directory;
    const std::string path = g.write(directory);
    auto graph = read_graph(path, wanted);
    ASSERT_FALSE(graph.ok());
    EXPECT_NE(graph.error().message.find(directory.file("")), std::string::npos) << graph.error().message;
    EXPECT_NE(graph.error().message.find(GetParam().says), std::string::npos) << graph.error().message;
}

INSTANTIATE_TEST_SUITE_P(
    Detector, HostileGraph,
    testing::Values(
        Hostile{"truncated", [](GraphFile& g) { g.bytes.resize(100); }, "node conv/w: weights: cut off"},
        Hostile{"empty_weights", [](GraphFile& g) { g.bytes.clear(); }, "node conv/w: weights: cut off"},
        Hostile{"one_byte_short", [](GraphFile& g) { g.bytes.pop_back(); }, "node axis: weights: cut off"},
        Hostile{"too_long", [](GraphFile& g) { g.bytes += "more"; }, "4 bytes of weights beyond"},
        Hostile{"no_weight_file", [](GraphFile& g) { g.document["weightsManifest"][0]["paths"][0] = "other.bin"; },
                "other.bin"},
        Hostile{"weights_elsewhere",
                [](GraphFile& g) { g.document["weightsManifest"][0]["paths"][0] = "../../../etc/hostname"; },
                "is no file name"},
        Hostile{"unknown_operation", [](GraphFile& g) { g.node("six")["op"] = "Erf"; },
                "node six: the operation Erf is not known"},
        Hostile{"cycle", [](GraphFile& g) { g.node("deep")["input"][0] = "large"; }, "it depends on itself"},
        Hostile{"depends_on_itself", [](GraphFile& g) { g.node("six")["input"][0] = "six"; },
                "node six: it depends on itself"},
        Hostile{"no_such_input", [](GraphFile& g) { g.node("six")["input"][0] = "nothing"; },
                "node six: its input nothing does not exist"},
        Hostile{"second_result", [](GraphFile& g) { g.node("six")["input"][0] = "more:1"; },
                "node six: its input more:1 does not exist"},
        Hostile{"no_inputs", [](GraphFile& g) { g.node("six").erase("input"); }, "node six: 0 inputs"},
        Hostile{"no_output", [](GraphFile& g) { g.node("out")["name"] = "elsewhere"; }, "there is no node out"},
        Hostile{"output_is_constant", [](GraphFile& g) { g.node("out")["op"] = "Const"; }, "Const"},
        Hostile{"two_of_a_name", [](GraphFile& g) { g.node("six")["name"] = "mean"; }, "node mean: there are two"},
        Hostile{"missing_weight", [](GraphFile& g) { g.weight("conv/w")["name"] = "gone"; },
                "node conv: the weights have no conv/w"},
        Hostile{"kernel_of_other_channels", [](GraphFile& g) { g.weight("conv/w")["shape"] = {3, 3, 4, 3}; },
                "node conv: 3 channels into weights of shape [3, 3, 4, 3]"},
        Hostile{"depthwise_of_other_channels", [](GraphFile& g) { g.weight("deep/w")["shape"] = {3, 3, 2, 2}; },
                "node deep: 4 channels into weights of shape [3, 3, 2, 2]"},
        Hostile{"kernel_of_three_dimensions", [](GraphFile& g) { g.weight("deep/w")["shape"] = {9, 4, 1}; },
                "node deep: weights of shape [9, 4, 1]"},
        Hostile{"bias_of_other_channels", [](GraphFile& g) { g.weight("conv/b")["shape"] = {2, 2}; },
                "node conv: a bias of shape [2, 2] for 4 channels"},
        Hostile{"impossible_shape",
                [](GraphFile& g) { g.weight("conv/w")["shape"] = {1 << 20, 1 << 20, 1 << 20, 1 << 20}; },
                "node conv/w: weights: impossible shape"},
        Hostile{"negative_shape", [](GraphFile& g) { g.weight("conv/w")["shape"] = {-3, -3, 3, 4}; },
                "node conv/w: weights: impossible shape"},
        Hostile{"not_a_number",
                [](GraphFile& g) {
                    const float nan = std::numeric_limits<float>::quiet_NaN();
                    std::memcpy(g.bytes.data() + 8, &nan, sizeof nan);
                },
                "node conv: conv/w has a weight that is no finite number"},
        Hostile{"other_type", [](GraphFile& g) { g.weight("conv/w")["dtype"] = "int32"; },
                "node conv: conv/w is int32"},
        Hostile{"unknown_type", [](GraphFile& g) { g.weight("conv/w")["dtype"] = "complex64"; },
                "node conv/w: weights: type complex64"},
        Hostile{"quantised_to_bytes", [](GraphFile& g) { g.weight("three")["quantization"]["dtype"] = "uint8"; },
                "node three: weights: quantised otherwise"},
        Hostile{"dilated", [](GraphFile& g) { g.node("conv")["attr"]["dilations"]["list"]["i"][1] = "2"; },
                "node conv: dilated"},
        Hostile{"uneven_strides", [](GraphFile& g) { g.node("conv")["attr"]["strides"]["list"]["i"][1] = "1"; },
                "node conv: its strides"},
        Hostile{"stride_of_zero",
                [](GraphFile& g) { g.node("conv")["attr"]["strides"]["list"]["i"] = {"1", "0", "0", "1"}; },
                "node conv: its strides"},
        Hostile{"explicit_padding", [](GraphFile& g) { g.node("conv")["attr"]["padding"]["s"] = "RVhQTElDSVQ="; },
                "node conv: padding 'EXPLICIT'"},
        Hostile{"channels_first", [](GraphFile& g) { g.node("conv")["attr"]["data_format"]["s"] = "TkNIVw=="; },
                "node conv: its data are NCHW"},
        Hostile{"fused_with_something",
                [](GraphFile& g) { g.node("conv")["attr"]["fused_ops"]["list"]["s"][1] = "RWx1"; },
                "node conv: fused with 'Elu'"},
        Hostile{"fused_without_bias", [](GraphFile& g) { g.node("conv")["input"].erase(2); }, "node conv: 2 inputs"},
        Hostile{"mean_over_channels",
                [](GraphFile& g) {
                    const int32_t three = 3;
                    std::memcpy(g.bytes.data() + 4 * (108 + 4 + 36 + 1), &three, sizeof three);
                },
                "node mean: only means over height and width"},
        Hostile{"half_pixel_centres", [](GraphFile& g) { g.node("large")["attr"]["half_pixel_centers"]["b"] = true; },
                "node large: half_pixel_centers"},
        Hostile{"constant_of_other_channels", [](GraphFile& g) { g.node("more")["input"] = {"picture", "conv/b"}; },
                "node more: 4 numbers for 3 channels"},
        Hostile{"sizes_do_not_fit", [](GraphFile& g) { g.node("scaled")["input"] = {"deep", "picture"}; },
                "node scaled: 4x4x4 and 3x8x8"},
        Hostile{"no_input_picture", [](GraphFile& g) { g.node("picture")["op"] = "Const"; }, "picture"},
        Hostile{"input_without_shape", [](GraphFile& g) { g.node("picture").erase("attr"); },
                "node picture: an input of shape []"},
        Hostile{"input_of_unknown_size",
                [](GraphFile& g) { g.node("picture")["attr"]["shape"]["shape"]["dim"][1]["size"] = "-1"; },
                "node picture: an input of shape [1, -1, 8, 3]"},
        Hostile{"huge_input",
                [](GraphFile& g) { g.node("picture")["attr"]["shape"]["shape"]["dim"][1]["size"] = "99999999999"; },
                "node picture: an input of shape"}),
    [](const auto& info) { return std::string(info.param.name); });

TEST(Graph, NotAModelAtAll) {
    ScratchDirectory directory;
    const std::string path = directory.file("model.json");
    EXPECT_FALSE(read_graph(path, wanted).ok());
    for (const char* text : {"", "{", "[]", "{}", "null", "{\"modelTopology\":{\"node\":7},\"weightsManifest\":[]}",
                             "{\"modelTopology\":{\"node\":[7]},\"weightsManifest\":[]}", "\xff\xfe"}) {
        write_text(path, text);
        auto graph = read_graph(path, wanted);
        ASSERT_FALSE(graph.ok()) << text;
        EXPECT_NE(graph.error().message.find(path), std::string::npos);
    }
    EXPECT_FALSE(read_graph(directory.file(""), wanted).ok());  // a directory
}

// No recursion over the nodes: a chain as long as a file may be.
TEST(Graph, ALongChainIsNoProblem) {
    GraphFile g;
    g.input(2, 2, 1);
    std::string last = "picture";
    for (int i = 0; i < 50'000; i++) {
        const std::string name = i == 49'999 ? "out" : "n" + std::to_string(i);
        g.add(name, "Relu", {last});
        last = name;
    }
    ScratchDirectory directory;
    auto graph = read_graph(g.write(directory), wanted);
    ASSERT_TRUE(graph.ok()) << graph.error().message;
    EXPECT_EQ(graph->nodes.size(), 50'001U);
}

// Every value of a sound file in turn replaced by every kind of wrong one. What comes back is a graph or an error that
// names the file; sanitizers and the shapes see to the rest.
TEST(Graph, AnyValueMayBeWrong) {
    const GraphFile sound = every_operation();
    const std::vector<json> wrong{nullptr,
                                  true,
                                  -1,
                                  0,
                                  1,
                                  1e300,
                                  "",
                                  "x",
                                  "-9223372036854775808",
                                  json::array(),
                                  json::object(),
                                  json::array({1, 2}),
                                  uint64_t{1} << 63};
    ScratchDirectory directory;
    const std::string path = sound.write(directory);
    size_t refused = 0;
    size_t taken = 0;
    const json flat = sound.document.flatten();
    // The containers too, not only the leaves.
    std::vector<std::string> places;
    for (const auto& [place, value] : flat.items()) {
        for (std::string at = place; !at.empty(); at.resize(at.rfind('/')))
            if (std::find(places.begin(), places.end(), at) == places.end()) places.push_back(at);
    }
    for (const std::string& place : places) {
        for (const json& value : wrong) {
            json changed = sound.document;
            changed[json::json_pointer(place)] = value;
            write_text(path, changed.dump());
            auto graph = read_graph(path, wanted);
            if (graph.ok()) {
                taken++;
                EXPECT_TRUE(infer_shapes(*graph, graph->declared.height, graph->declared.width).ok()) << place;
            } else {
                refused++;
                EXPECT_NE(graph.error().message.find(directory.file("")), std::string::npos) << graph.error().message;
            }
        }
    }
    EXPECT_GT(refused, places.size() * wrong.size() / 3);
    EXPECT_GT(taken, 0U);  // of attributes that do not count
}

}  // namespace
}  // namespace adapath
