// CenterNet ("Objects as Points", 2019) on MobileNetV3, as the TF.js model that `make deps` fetches: one network puts
// out a heat map a class, whose local maxima are the objects' centres, and the four distances from a centre to the
// sides of its box.
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>

#include "models/detector/candidates.h"
#include "models/detector/graph_module.h"

namespace adapath {

namespace {

// COCO's classes in the order of the heat map's channels.
constexpr std::array<const char*, 80> coco{
    "person",         "bicycle",    "car",           "motorcycle",    "airplane",     "bus",           "train",
    "truck",          "boat",       "traffic light", "fire hydrant",  "stop sign",    "parking meter", "bench",
    "bird",           "cat",        "dog",           "horse",         "sheep",        "cow",           "elephant",
    "bear",           "zebra",      "giraffe",       "backpack",      "umbrella",     "handbag",       "tie",
    "suitcase",       "frisbee",    "skis",          "snowboard",     "sports ball",  "kite",          "baseball bat",
    "baseball glove", "skateboard", "surfboard",     "tennis racket", "bottle",       "wine glass",    "cup",
    "fork",           "knife",      "spoon",         "bowl",          "banana",       "apple",         "sandwich",
    "orange",         "broccoli",   "carrot",        "hot dog",       "pizza",        "donut",         "cake",
    "chair",          "couch",      "potted plant",  "bed",           "dining table", "toilet",        "tv",
    "laptop",         "mouse",      "remote",        "keyboard",      "cell phone",   "microwave",     "oven",
    "toaster",        "sink",       "refrigerator",  "book",          "clock",        "vase",          "scissors",
    "teddy bear",     "hair drier", "toothbrush"};

// The network halves the picture five times.
constexpr int64_t network_stride = 32;
constexpr int64_t most_candidates = 300;

class CenterNet : public CandidateNetwork {
public:
    CenterNet(Graph graph, int64_t cell) : module_(std::move(graph)), cell_(cell) {}

    Result<Candidates> run(const torch::Tensor& image) override {
        if (auto shapes = infer_shapes(module_.graph(), image.size(2), image.size(3)); !shapes) return shapes.error();
        const std::vector<torch::Tensor> outputs = module_.forward(image);
        const torch::Tensor& heat = outputs[0];
        const torch::Tensor& sides = outputs[1];

        const torch::Tensor peaks = heat == torch::max_pool2d(heat, 3, 1, 1);
        // Which cells are picked has no gradient; what they hold has.
        const torch::Tensor ranked = (heat * peaks).detach().flatten();
        const torch::Tensor index = std::get<1>(ranked.topk(std::min<int64_t>(most_candidates, ranked.numel())));
        const int64_t width = heat.size(3);
        const int64_t area = heat.size(2) * width;
        const torch::Tensor place = index.remainder(area);
        const torch::Tensor x = place.remainder(width) * cell_;
        const torch::Tensor y = place.floor_divide(width) * cell_;
        const torch::Tensor side = sides.flatten(2)[0].index_select(1, place);  // [4, N]
        Candidates found;
        found.scores = heat.flatten().index_select(0, index);
        found.classes = index.floor_divide(area);
        found.boxes = torch::stack({x - side[0], y - side[1], x + side[2], y + side[3]}, 1);
        return found;
    }

    [[nodiscard]] int64_t stride() const override { return network_stride; }
    [[nodiscard]] std::string class_name(int class_id) const override {
        const auto i = static_cast<size_t>(class_id);
        return class_id >= 0 && i < coco.size() ? coco[i] : fmt::format("class {}", class_id);
    }

private:
    GraphModule module_;
    int64_t cell_;  // pixels of the picture a cell of the heat map
};

}  // namespace

Result<std::unique_ptr<CandidateNetwork>> open_centernet(const std::string& path) {
    auto graph = read_graph(path, {"tower_0/keypoints", "tower_0/wh"});
    if (!graph) return graph.error();
    auto shapes = infer_shapes(*graph, graph->declared.height, graph->declared.width);
    if (!shapes) return shapes.error();
    const GraphShape& input = graph->declared;
    const GraphShape& heat = (*shapes)[graph->outputs[0]];
    const GraphShape& sides = (*shapes)[graph->outputs[1]];
    const int64_t cell = input.height / heat.height;
    if (input.channels != 3 || heat.channels != static_cast<int64_t>(coco.size()) ||
        sides != GraphShape{4, heat.height, heat.width} || cell * heat.height != input.height ||
        cell * heat.width != input.width)
        return Error{fmt::format(
            "{}: not the COCO CenterNet: {}x{}x{} in, heat map of {}x{}x{}, sides of {}x{}x{}; expected 3 channels in, "
            "80 and 4 out, and the picture a whole multiple of the heat map",
            path, input.channels, input.height, input.width, heat.channels, heat.height, heat.width, sides.channels,
            sides.height, sides.width)};
    return std::unique_ptr<CandidateNetwork>(std::make_unique<CenterNet>(std::move(*graph), cell));
}

}  // namespace adapath
