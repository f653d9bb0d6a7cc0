// See graph_module.h.
#include "models/detector/graph_module.h"

#include <algorithm>
#include <stdexcept>
#include <utility>

namespace adapath {

namespace {

using Kind = GraphNode::Kind;

// `in_place`: x is nobody else's and may be overwritten, which saves memory traffic on tensors of megabytes.
torch::Tensor activated(torch::Tensor x, Kind kind, bool in_place) {
    switch (kind) {
        case Kind::relu:
            return in_place ? x.relu_() : torch::relu(x);
        case Kind::relu6:
            return in_place ? x.clamp_(0, 6) : torch::clamp(x, 0, 6);
        case Kind::sigmoid:
            return in_place ? x.sigmoid_() : torch::sigmoid(x);
        default:
            return x;
    }
}

// TensorFlow's SAME: just as much padding as gives ceil(length / stride) results, the odd one at the end.
struct Padding {
    int64_t before;
    int64_t after;
};
Padding same_padding(int64_t length, int64_t kernel, int64_t stride) {
    const int64_t results = (length + stride - 1) / stride;
    const int64_t all = std::max<int64_t>((results - 1) * stride + kernel - length, 0);
    return {all / 2, all - all / 2};
}

torch::Tensor convolve(const GraphNode& node, const torch::Tensor& x, const torch::Tensor& weights,
                       const torch::Tensor& bias) {
    const int64_t groups = node.kind == Kind::depthwise ? x.size(1) : 1;
    Padding rows{0, 0};
    Padding columns{0, 0};
    if (node.same) {
        rows = same_padding(x.size(2), node.kernel[2], node.stride);
        columns = same_padding(x.size(3), node.kernel[3], node.stride);
    }
    // conv2d() pads both ends alike.
    const bool even = rows.before == rows.after && columns.before == columns.after;
    const torch::Tensor padded =
        even ? x : torch::constant_pad_nd(x, {columns.before, columns.after, rows.before, rows.after}, 0);
    const std::vector<int64_t> padding{even ? rows.before : 0, even ? columns.before : 0};
    return torch::conv2d(padded, weights, bias, node.stride, padding, 1, groups);
}

// Along one dimension: result [factor * i + k] lies k / factor of the way from x[i] to x[i + 1]; the last one has no
// next and is repeated. TensorFlow's ResizeBilinear without half-pixel centres; LibTorch's own has them.
torch::Tensor stretch(const torch::Tensor& x, int64_t dimension, int64_t factor) {
    if (factor == 1) return x;
    const int64_t length = x.size(dimension);
    const torch::Tensor next =
        torch::cat({x.narrow(dimension, 1, length - 1), x.narrow(dimension, length - 1, 1)}, dimension);
    std::vector<torch::Tensor> phases{x};
    for (int64_t k = 1; k < factor; k++)
        phases.push_back(torch::lerp(x, next, static_cast<double>(k) / static_cast<double>(factor)));
    return torch::stack(phases, dimension + 1).flatten(dimension, dimension + 1);
}

torch::Tensor tensor_of(const std::vector<float>& values, const std::vector<int64_t>& shape) {
    return torch::from_blob(const_cast<float*>(values.data()), shape, torch::kFloat32).clone();
}

}  // namespace

GraphModule::GraphModule(Graph graph)
    : graph_(std::move(graph)),
      weights_(graph_.nodes.size()),
      biases_(graph_.nodes.size()),
      constants_(graph_.nodes.size()),
      last_use_(graph_.nodes.size(), 0),
      owned_(graph_.nodes.size(), true) {
    for (size_t i = 0; i < graph_.nodes.size(); i++) {
        GraphNode& node = graph_.nodes[i];
        // Names in a module have no dots and are one of a kind; the nodes' own may be anything.
        const std::string number = std::to_string(i);
        if (!node.weights.empty())
            weights_[i] = register_buffer("weights" + number, tensor_of(node.weights, node.kernel));
        if (!node.bias.empty())
            biases_[i] =
                register_buffer("bias" + number, tensor_of(node.bias, {static_cast<int64_t>(node.bias.size())}));
        if (!node.constant.empty())
            constants_[i] = register_buffer(
                "constant" + number, tensor_of(node.constant, {1, static_cast<int64_t>(node.constant.size()), 1, 1}));
        std::vector<float>().swap(node.weights);
        for (uint32_t input : node.inputs) last_use_[input] = i;
        // The picture is the caller's; what these give may be what they took.
        if (node.kind == Kind::input) owned_[i] = false;
        if (node.kind == Kind::identity || node.kind == Kind::resize) owned_[i] = owned_[node.inputs[0]] = false;
    }
    for (uint32_t output : graph_.outputs) last_use_[output] = graph_.nodes.size();
    eval();
}

torch::Tensor GraphModule::run(size_t index, const std::vector<torch::Tensor>& values) const {
    const GraphNode& node = graph_.nodes[index];
    auto in = [&](size_t i) -> const torch::Tensor& { return values[node.inputs[i]]; };
    // Gradients may need what an operation would overwrite.
    const bool free = !torch::GradMode::is_enabled();
    const bool in_place = free && !node.inputs.empty() && owned_[node.inputs[0]] && last_use_[node.inputs[0]] == index;
    switch (node.kind) {
        case Kind::convolution:
        case Kind::depthwise:
            return activated(convolve(node, in(0), weights_[index], biases_[index]), node.then, free);
        case Kind::add:
        case Kind::multiply: {
            const torch::Tensor& other = node.inputs.size() == 2 ? in(1) : constants_[index];
            const torch::Tensor& x = in(0);
            if (in_place && at::infer_size(x.sizes(), other.sizes()) == x.sizes())
                return node.kind == Kind::add ? x.add_(other) : x.mul_(other);
            return node.kind == Kind::add ? x + other : x * other;
        }
        case Kind::mean:
            return in(0).mean({2, 3}, true);
        case Kind::resize:
            return stretch(stretch(in(0), 2, node.factor), 3, node.factor);
        case Kind::concat: {
            std::vector<torch::Tensor> parts;
            for (uint32_t input : node.inputs) parts.push_back(values[input]);
            return torch::cat(parts, 1);
        }
        case Kind::relu:
        case Kind::relu6:
        case Kind::sigmoid:
        case Kind::identity:
            return activated(in(0), node.kind, in_place);
        case Kind::input:
            break;
    }
    throw std::logic_error("GraphModule: a second input");  // read_graph() lets none through
}

std::vector<torch::Tensor> GraphModule::forward(const torch::Tensor& input) const {
    std::vector<torch::Tensor> values(graph_.nodes.size());
    values[0] = input;
    for (size_t i = 1; i < graph_.nodes.size(); i++) {
        values[i] = run(i, values);
        // Where gradients are wanted, they hold on to what they need themselves.
        for (uint32_t used : graph_.nodes[i].inputs)
            if (last_use_[used] == i) values[used].reset();
    }
    std::vector<torch::Tensor> outputs;
    for (uint32_t output : graph_.outputs) outputs.push_back(values[output]);
    return outputs;
}

}  // namespace adapath
