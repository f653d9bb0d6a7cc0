// A TF.js graph model (a JSON file with the nodes, and files of weights beside it) as a list of operations in the order
// of computation, checked as a whole: whoever runs the list meets no missing weight, no wrong shape and no cycle. Only
// the operations that convolutional detectors are made of; any other is an error that names node and file.
//
// Format: https://github.com/tensorflow/tfjs, "graph-model" (nodes of TensorFlow's GraphDef; weights one after the
// other in the order of weightsManifest, fp16 or fp32, little-endian). TensorFlow's pictures are NHWC; here they are
// CHW, and weights lie as LibTorch wants them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codegen/result.h"

namespace adapath {

// What flows between nodes: one picture with channels. Batches are of one.
struct GraphShape {
    int64_t channels = 0;
    int64_t height = 0;
    int64_t width = 0;

    bool operator==(const GraphShape&) const = default;
};

struct GraphNode {
    enum class Kind {
        input,
        convolution,
        depthwise,
        add,
        multiply,
        relu,
        relu6,
        sigmoid,
        mean,
        resize,
        concat,
        identity
    };

    Kind kind = Kind::identity;
    std::string name;              // as the file has it
    std::vector<uint32_t> inputs;  // nodes before this one

    // convolution: [outputs, inputs, height, width]; depthwise: [inputs * multiplier, 1, height, width]
    std::vector<float> weights;
    std::vector<int64_t> kernel;
    std::vector<float> bias;  // one a channel put out, or none
    int64_t stride = 1;
    bool same = false;           // TensorFlow's SAME: where the padding is odd, the larger half is below and right
    Kind then = Kind::identity;  // fused: identity, relu or relu6

    std::vector<float> constant;  // add, multiply with one input: one number, or one a channel
    // resize: whole factor in both directions, bilinear, source position = position / factor (no half-pixel centres)
    int64_t factor = 1;
};

struct Graph {
    std::string file;
    std::vector<GraphNode> nodes;   // every node's inputs come before it; nodes[0] is the picture
    std::vector<uint32_t> outputs;  // as asked for
    GraphShape declared;            // the input's shape in the file
};

// The nodes that `outputs` (names of nodes) need, and no others.
[[nodiscard]] Result<Graph> read_graph(const std::string& path, const std::vector<std::string>& outputs);

// The shape of every node's result for a picture of that size; an error names the node that cannot take it.
[[nodiscard]] Result<std::vector<GraphShape>> infer_shapes(const Graph& graph, int64_t height, int64_t width);

// IEEE 754 half precision.
[[nodiscard]] float float_of_half(uint16_t half);

}  // namespace adapath
