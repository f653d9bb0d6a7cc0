// What LibTorch computes: each operation of a graph against sums done by hand, and users' TorchScript modules.
#include <torch/script.h>
#include <torch/torch.h>

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "models/detector/detector.h"
#include "models/detector/graph_module.h"
#include "tests/detector/graph_file.h"

namespace adapath {
namespace {

std::vector<float> run(const GraphFile& file, const torch::Tensor& input) {
    ScratchDirectory directory;
    auto graph = read_graph(file.write(directory), {"out"});
    if (!graph) throw std::runtime_error(graph.error().message);
    const auto shapes = infer_shapes(*graph, input.size(2), input.size(3));
    if (!shapes) throw std::runtime_error(shapes.error().message);
    const GraphShape expected = (*shapes)[graph->outputs[0]];
    const torch::Tensor out = GraphModule(std::move(*graph)).forward(input)[0].contiguous();
    EXPECT_EQ(out.sizes(), (torch::IntArrayRef{1, expected.channels, expected.height, expected.width}));
    return {out.data_ptr<float>(), out.data_ptr<float>() + out.numel()};
}

// Channel by channel, as LibTorch has pictures.
torch::Tensor picture(int64_t channels, int64_t height, int64_t width, const std::vector<float>& values) {
    return torch::tensor(values).reshape({1, channels, height, width});
}

torch::Tensor counting(int64_t channels, int64_t height, int64_t width) {
    return torch::arange(channels * height * width, torch::kFloat32).reshape({1, channels, height, width});
}

// Kernel 3, stride 2, length 4: SAME wants 2 results and one row of padding, which goes below (and right). LibTorch's
// own padding of 1 would put it above.
TEST(GraphModule, SamePaddingIsUneven) {
    GraphFile g;
    g.input(4, 4, 1);
    g.floats("w", {3, 3, 1, 1}, {1, 0, 0, 0, 0, 0, 0, 0, 0});  // the window's upper left corner
    g.add("out", "Conv2D", {"picture", "w"}, GraphFile::convolution(2, true));
    EXPECT_EQ(run(g, counting(1, 4, 4)), (std::vector<float>{0, 2, 8, 10}));
    // 5 wants 3 results and padding on both sides: the corner of the first window is outside.
    EXPECT_EQ(run(g, counting(1, 5, 5)), (std::vector<float>{0, 0, 0, 0, 6, 8, 0, 16, 18}));
}

TEST(GraphModule, ValidHasNoPadding) {
    GraphFile g;
    g.input(4, 5, 1);
    g.floats("w", {2, 3, 1, 1}, {1, 1, 1, 1, 1, 1});
    g.floats("b", {1}, {100});
    g.add("out", "_FusedConv2D", {"picture", "w", "b"}, GraphFile::convolution(1, false, {GraphFile::bias_add}));
    EXPECT_EQ(run(g, counting(1, 4, 5)), (std::vector<float>{121 + 0, 127, 133, 151, 157, 163, 181, 187, 193}));
}

TEST(GraphModule, ConvolutionMixesChannelsDepthwiseDoesNot) {
    GraphFile g;
    g.input(1, 2, 2);
    g.floats("w", {1, 1, 2, 3}, {1, 0, 10, 0, 1, 100});  // outputs: first, second, 10 first + 100 second
    g.floats("b", {3}, {0, -3, 0});
    g.add("mixed", "_FusedConv2D", {"picture", "w", "b"},
          GraphFile::convolution(1, true, {GraphFile::bias_add, GraphFile::relu}));
    g.floats("d", {1, 1, 3, 2}, {1, -1, 2, -2, 3, -3});  // two of each, in this order
    g.add("out", "DepthwiseConv2dNative", {"mixed", "d"}, GraphFile::convolution(1, true));
    EXPECT_EQ(run(g, picture(2, 1, 2, {1, 2, 3, 4})),
              (std::vector<float>{1, 2, -1, -2, 0, 2, 0, -2, 930, 1260, -930, -1260}));
}

TEST(GraphModule, BilinearHasNoHalfPixelCentres) {
    GraphFile g;
    g.input(2, 2, 1);
    g.integers("size", {4, 4});
    g.add("out", "ResizeBilinear", {"picture", "size"});
    EXPECT_EQ(run(g, picture(1, 2, 2, {0, 4, 8, 12})),
              (std::vector<float>{0, 2, 4, 4, 4, 6, 8, 8, 8, 10, 12, 12, 8, 10, 12, 12}));
    EXPECT_EQ(run(g, picture(1, 1, 1, {5})), (std::vector<float>{5, 5, 5, 5}));
    g.bytes.clear();
    const std::vector<int32_t> six{6, 6};
    g.append(six);
    const std::vector<float> thrice = run(g, picture(1, 1, 2, {0, 3}));
    for (size_t i = 0; i < 18; i++) EXPECT_NEAR(thrice[i], std::min<float>(3, static_cast<float>(i % 6)), 1e-6) << i;
}

TEST(GraphModule, TheOthers) {
    GraphFile g;
    g.input(1, 2, 2);
    g.integers("axes", {1, 2});
    g.add("mean", "Mean", {"picture", "axes"}, {{"keep_dims", {{"b", true}}}});
    g.floats("by", {2}, {2, -1});
    g.add("scaled", "Mul", {"by", "picture"});
    g.add("sum", "Add", {"mean", "scaled"});
    g.floats("half", {}, {0.5F});
    g.add("more", "AddV2", {"sum", "half"});
    g.add("six", "Relu6", {"more"});
    g.integers("axis", {-1});
    g.add("out", "ConcatV2", {"six", "mean", "axis"});
    g.document["modelTopology"]["node"][2]["attr"]["keep_dims"]["b"] = true;
    // A join wants the same size, so the mean is multiplied out first.
    g.node("out")["input"] = {"six", "picture", "axis"};
    EXPECT_EQ(run(g, picture(2, 1, 2, {1, 3, 5, 9})), (std::vector<float>{4.5F, 6, 2.5F, 0, 1, 3, 5, 9}));
    GraphFile s;
    s.input(1, 1, 1);
    s.add("out", "Sigmoid", {"picture"});
    EXPECT_NEAR(run(s, picture(1, 1, 1, {1}))[0], 1 / (1 + std::exp(-1.0)), 1e-6);
}

// Results are dropped as soon as no node needs them; a skip over many nodes must still find its own.
TEST(GraphModule, EveryOperationTwiceTheSame) {
    ScratchDirectory directory;
    auto graph = read_graph(every_operation().write(directory), {"out", "deep"});
    ASSERT_TRUE(graph.ok()) << graph.error().message;
    const GraphModule module(std::move(*graph));
    torch::manual_seed(1);
    const torch::Tensor input = torch::rand({1, 3, 16, 8}).set_requires_grad(true);
    const auto first = module.forward(input);
    const auto second = module.forward(input);
    ASSERT_EQ(first.size(), 2U);
    EXPECT_TRUE(first[0].equal(second[0]));
    EXPECT_TRUE(first[0].slice(1, 4, 7).equal(input));  // the picture, joined behind the gate's four
    EXPECT_EQ(first[1].sizes(), (torch::IntArrayRef{1, 4, 8, 4}));
    first[0].sum().backward();
    EXPECT_TRUE(input.grad().isfinite().all().item<bool>());
    EXPECT_GT(input.grad().sub(1).abs().max().item<float>(), 1e-4);  // more than the joined picture's own share
}

// Without gradients operations overwrite what nobody needs any more; never the caller's picture, nor what another node
// still reads.
TEST(GraphModule, OverwritesNothingThatIsNeeded) {
    GraphFile g;
    g.input(2, 2, 2);
    g.floats("minus", {2}, {-1, -2});
    g.add("first", "Add", {"picture", "minus"});
    g.add("alias", "Identity", {"first"});
    g.add("positive", "Relu", {"first"});  // the last to name it, but the alias is read later
    g.add("twice", "Add", {"positive", "positive"});
    g.add("alone", "Sigmoid", {"twice"});
    g.integers("axes", {1, 2});
    g.add("mean", "Mean", {"alone", "axes"}, {{"keep_dims", {{"b", true}}}});
    g.add("wide", "Mul", {"mean", "alias"});  // larger than its first input
    g.integers("size", {2, 2});
    g.add("same", "ResizeBilinear", {"wide", "size"});  // by a factor of 1
    g.add("clipped", "Relu6", {"same"});
    g.integers("axis", {3});
    g.add("out", "ConcatV2", {"wide", "clipped", "alias", "axis"});
    ScratchDirectory directory;
    auto graph = read_graph(g.write(directory), {"out", "alone", "first"});
    ASSERT_TRUE(graph.ok()) << graph.error().message;
    const GraphModule module(std::move(*graph));
    const torch::Tensor input = counting(2, 2, 2);
    const torch::Tensor before = input.clone();
    const auto with = module.forward(input.detach().clone().set_requires_grad(true));
    torch::NoGradGuard no_gradients;
    const auto without = module.forward(input);
    EXPECT_TRUE(input.equal(before));
    for (size_t i = 0; i < 3; i++) EXPECT_TRUE(with[i].equal(without[i])) << i;
    EXPECT_TRUE(with[2].equal(input + torch::tensor({-1, -2}).reshape({1, 2, 1, 1})));
}

// ---- TorchScript ----

Image flat(int width, int height, uint8_t value) {
    Image image{width, height, {}};
    image.rgb.assign(image.pixels() * 3, value);
    return image;
}

// A bright square is an object: its score is the mean brightness of the middle of the picture.
constexpr const char* bright_middle = R"(
def forward(self, image: Tensor):
    h = image.size(2)
    w = image.size(3)
    middle = image[:, :, h // 4 : h - h // 4, w // 4 : w - w // 4]
    score = middle.mean() / 255.0
    box = torch.tensor([[w / 4, h / 4, w - w / 4, h - h / 4], [0.0, 0.0, 5.0, 5.0]])
    scores = torch.stack([score, score * 0.25])
    return box, scores, torch.tensor([1, 0])
)";

class TorchScript : public testing::Test {
protected:
    Result<std::unique_ptr<Detector>> save_and_open(const std::string& code,
                                                    const std::function<void(torch::jit::Module&)>& more = {}) {
        torch::jit::Module module("detector");
        module.register_attribute("training_", c10::BoolType::get(), false);
        if (more) more(module);
        module.define(code);
        module.save(path_);
        return open_detector(path_);
    }

    ScratchDirectory directory_;
    std::string path_ = directory_.file("own.pt");
};

TEST_F(TorchScript, BoxesScoresAndClasses) {
    auto detector = save_and_open(bright_middle, [](torch::jit::Module& module) {
        const c10::List<std::string> names({"dark", "bright"});
        module.register_attribute("class_names", c10::ListType::ofStrings(), names);
    });
    ASSERT_TRUE(detector.ok()) << detector.error().message;
    auto boxes = (*detector)->detect(flat(40, 20, 204));
    ASSERT_TRUE(boxes.ok()) << boxes.error().message;
    ASSERT_EQ(boxes->size(), 1U);  // the other is below the score
    EXPECT_NEAR(boxes->at(0).score, 0.8, 1e-5);
    EXPECT_EQ(boxes->at(0).x0, 10);
    EXPECT_EQ(boxes->at(0).y1, 15);
    EXPECT_EQ((*detector)->class_name(boxes->at(0).class_id), "bright");
    EXPECT_EQ((*detector)->class_name(7), "class 7");
    EXPECT_EQ((*detector)->detect(flat(40, 20, 204), 0.1)->size(), 2U);
    EXPECT_EQ((*detector)->detect(flat(40, 20, 0))->size(), 0U);
}

TEST_F(TorchScript, GradientByHand) {
    auto detector = save_and_open(bright_middle);
    ASSERT_TRUE(detector.ok()) << detector.error().message;
    // The reference's box is the upper half of what the network gives: overlap 0.5.
    const std::vector<Box> reference{{10, 5, 30, 10, 0.9F, 1}};
    const Image image = flat(40, 20, 100);
    auto gradient = (*detector)->gradient(image, reference);
    ASSERT_TRUE(gradient.ok()) << gradient.error().message;
    EXPECT_NEAR(gradient->accuracy, 0.5 * 100 / 255, 1e-5);
    EXPECT_NEAR(*(*detector)->soft_accuracy(image, reference), gradient->accuracy, 1e-7);
    const double slope = 0.5 / 255 / (20 * 10 * 3);
    for (int y = 0; y < 20; y++)
        for (int x = 0; x < 40; x++) {
            const bool inside = x >= 10 && x < 30 && y >= 5 && y < 15;
            EXPECT_NEAR(gradient->rgb[static_cast<size_t>(3 * (y * 40 + x) + 1)], inside ? slope : 0, 1e-9);
        }
    // Nothing to look for, or nothing of that class: no pixel matters.
    EXPECT_EQ((*detector)->gradient(image, {})->accuracy, 1);
    const std::vector<Box> other{{10, 5, 30, 15, 0.9F, 5}};
    auto none = (*detector)->gradient(image, other);
    ASSERT_TRUE(none.ok()) << none.error().message;
    EXPECT_EQ(none->accuracy, 0);
    EXPECT_TRUE(std::all_of(none->rgb.begin(), none->rgb.end(), [](float g) { return g == 0; }));
}

TEST_F(TorchScript, PicturesArePaddedToItsStride) {
    auto detector =
        save_and_open(R"(
def forward(self, image: Tensor):
    assert image.size(2) % 32 == 0 and image.size(3) % 32 == 0
    corner = image[0, 0, -1, -1] / 255.0
    return torch.stack([torch.zeros(1)[0], torch.zeros(1)[0], 0 * corner + image.size(3), 0 * corner + image.size(2), corner, torch.zeros(1)[0]]).unsqueeze(0)
)",
                      [](torch::jit::Module& module) { module.register_attribute("stride", c10::IntType::get(), 32); });
    ASSERT_TRUE(detector.ok()) << detector.error().message;
    Image image = flat(70, 33, 0);
    image.rgb[image.rgb.size() - 3] = 255;  // the last pixel's red goes on to the padding's corner
    auto boxes = (*detector)->detect(image);
    ASSERT_TRUE(boxes.ok()) << boxes.error().message;
    ASSERT_EQ(boxes->size(), 1U);
    EXPECT_EQ(boxes->at(0), (Box{0, 0, 70, 33, 1, 0}));  // cut to the picture
    auto gradient = (*detector)->gradient(image, *boxes);
    ASSERT_TRUE(gradient.ok()) << gradient.error().message;
    EXPECT_EQ(gradient->rgb.size(), image.rgb.size());
    EXPECT_GT(gradient->rgb[image.rgb.size() - 3], 0);
    EXPECT_EQ(gradient->rgb[0], 0);
}

TEST_F(TorchScript, WhatIsNoBoxIsLeftOut) {
    auto detector = save_and_open(R"(
def forward(self, image: Tensor):
    n = float('nan')
    i = float('inf')
    return torch.tensor([
        [1.0, 1.0, 5.0, 5.0, 0.9, 0.0],
        [n, 1.0, 5.0, 5.0, 0.9, 0.0],
        [1.0, 1.0, i, 5.0, 0.9, 0.0],
        [5.0, 1.0, 1.0, 5.0, 0.9, 0.0],
        [100.0, 100.0, 200.0, 200.0, 0.9, 0.0],
        [1.0, 1.0, 5.0, 5.0, n, 0.0],
        [1.0, 1.0, 5.0, 5.0, 1.5, 0.0],
        [1.0, 1.0, 5.0, 5.0, -1.0, 0.0],
        [-9.0, -9.0, 99.0, 99.0, 0.95, 2.0]])
)");
    ASSERT_TRUE(detector.ok()) << detector.error().message;
    auto boxes = (*detector)->detect(flat(16, 16, 0), 0);
    ASSERT_TRUE(boxes.ok()) << boxes.error().message;
    ASSERT_EQ(boxes->size(), 2U);
    EXPECT_EQ(boxes->at(0), (Box{0, 0, 16, 16, 0.95F, 2}));
    EXPECT_EQ(boxes->at(1), (Box{1, 1, 5, 5, 0.9F, 0}));
    // These come from nowhere: no gradient can be had.
    auto gradient = (*detector)->gradient(flat(16, 16, 0), *boxes);
    ASSERT_FALSE(gradient.ok());
    EXPECT_NE(gradient.error().message.find(path_ + ": no gradient leads"), std::string::npos);
}

TEST_F(TorchScript, NoMoreBoxesThanTheLimit) {
    auto detector = save_and_open(R"(
def forward(self, image: Tensor):
    n = 5000
    x = torch.zeros([n, 6])
    x[:, 2:4] = 8
    x[:, 4] = torch.linspace(0.1, 1.0, n)
    return x
)");
    ASSERT_TRUE(detector.ok()) << detector.error().message;
    auto boxes = (*detector)->detect(flat(16, 16, 0), 0);
    ASSERT_TRUE(boxes.ok()) << boxes.error().message;
    EXPECT_EQ(boxes->size(), Detector::most_boxes);
    EXPECT_EQ(boxes->at(0).score, 1);
    EXPECT_TRUE(std::is_sorted(boxes->begin(), boxes->end(), [](auto& a, auto& b) { return a.score > b.score; }));
}

TEST_F(TorchScript, BrokenContractsAreErrors) {
    for (const char* body : {
             "return image",                                                               // four dimensions
             "return torch.zeros([3, 5])",                                                 // not six columns
             "return 7",                                                                   // no tensor
             "return torch.zeros([3, 4]), torch.zeros([2]), torch.zeros([3])",             // not as many scores
             "return torch.zeros([3, 4]), torch.zeros([3])",                               // no classes
             "return torch.zeros([3, 4]), torch.zeros([3]), 'cat'",                        // no tensor
             "return torch.zeros([1, 4]), torch.ones([1]), torch.tensor([-1])",            // no class
             "return torch.zeros([1, 4]), torch.ones([1]), torch.tensor([float('nan')])",  // no number
             "assert image.size(0) == 7\n    return image",
         }) {
        auto detector = save_and_open("def forward(self, image: Tensor):\n    " + std::string(body) + "\n");
        ASSERT_TRUE(detector.ok()) << detector.error().message;
        auto boxes = (*detector)->detect(flat(16, 16, 0));
        ASSERT_FALSE(boxes.ok()) << body;
        EXPECT_NE(boxes.error().message.find(path_), std::string::npos) << boxes.error().message;
        EXPECT_EQ(boxes.error().message.find('\n'), std::string::npos) << boxes.error().message;
        EXPECT_FALSE((*detector)->gradient(flat(16, 16, 0), {}).ok()) << body;
    }
}

TEST_F(TorchScript, NoBoxesAreFine) {
    auto detector = save_and_open(
        "def forward(self, image: Tensor):\n    return torch.zeros([0, 4]), torch.zeros([0]), torch.zeros([0])\n");
    ASSERT_TRUE(detector.ok()) << detector.error().message;
    EXPECT_TRUE((*detector)->detect(flat(16, 16, 0))->empty());
    const std::vector<Box> reference{{0, 0, 5, 5, 1, 0}};
    auto gradient = (*detector)->gradient(flat(16, 16, 0), reference);
    ASSERT_TRUE(gradient.ok()) << gradient.error().message;
    EXPECT_EQ(gradient->accuracy, 0);
}

TEST_F(TorchScript, BadAttributesAreErrors) {
    auto with_stride = [&](int64_t stride) {
        return save_and_open(bright_middle, [stride](torch::jit::Module& module) {
            module.register_attribute("stride", c10::IntType::get(), stride);
        });
    };
    EXPECT_FALSE(with_stride(0).ok());
    EXPECT_FALSE(with_stride(-32).ok());
    EXPECT_FALSE(with_stride(100'000).ok());
    EXPECT_TRUE(with_stride(32).ok());
    auto named = save_and_open(bright_middle, [](torch::jit::Module& module) {
        module.register_attribute("class_names", c10::StringType::get(), std::string("cat"));
    });
    EXPECT_FALSE(named.ok());
}

TEST_F(TorchScript, BrokenFilesAreErrors) {
    auto sound = save_and_open(bright_middle);
    ASSERT_TRUE(sound.ok());
    std::ifstream in(path_, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    for (size_t size = 0; size < bytes.size(); size += bytes.size() / 37 + 1) {
        write_text(path_, bytes.substr(0, size));
        auto detector = open_detector(path_);
        ASSERT_FALSE(detector.ok()) << size;
        EXPECT_NE(detector.error().message.find(path_), std::string::npos);
        EXPECT_EQ(detector.error().message.find('\n'), std::string::npos);
    }
    EXPECT_FALSE(open_detector(directory_.file("nothing.pt")).ok());
    EXPECT_FALSE(open_detector(directory_.file("model.onnx")).ok());
}

TEST_F(TorchScript, WithoutForwardItIsNoDetector) {
    auto detector = save_and_open("def backward(self, image: Tensor):\n    return image\n");
    // LibTorch notices when it is called.
    if (detector.ok()) {
        EXPECT_FALSE((*detector)->detect(flat(16, 16, 0)).ok());
    }
}

}  // namespace
}  // namespace adapath
