// Inside models/detector: a graph (graph.h) as a LibTorch module.
#pragma once

#include <torch/torch.h>

#include <vector>

#include "models/detector/graph.h"

namespace adapath {

class GraphModule : public torch::nn::Module {
public:
    // Takes the weights out of `graph`. Weights are buffers without gradients: only the picture's are of interest.
    explicit GraphModule(Graph graph);

    // [1, channels, height, width] in, the graph's outputs out. infer_shapes() must have accepted the size.
    std::vector<torch::Tensor> forward(const torch::Tensor& input) const;

    [[nodiscard]] const Graph& graph() const { return graph_; }

private:
    [[nodiscard]] torch::Tensor run(size_t index, const std::vector<torch::Tensor>& values) const;

    Graph graph_;
    // By node, undefined where it has none.
    std::vector<torch::Tensor> weights_;
    std::vector<torch::Tensor> biases_;
    std::vector<torch::Tensor> constants_;
    std::vector<size_t> last_use_;  // the node after which a result is no longer needed
    std::vector<bool> owned_;       // no other node's result, nor the caller's, lies in the same memory
};

}  // namespace adapath
