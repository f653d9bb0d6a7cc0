// A selector's parameters as LibTorch's tensors, and what it computes of codes: what offline and online training share.
// For their two files alone: it includes LibTorch.
#pragma once

#include <torch/torch.h>

#include <vector>

#include "codegen/image.h"

namespace adapath {

[[nodiscard]] inline std::vector<int64_t> weight_shape(const ImageLayerShape& layer) {
    const int64_t inputs = layer.kind == ImageLayerKind::depthwise ? 1 : layer.inputs;
    return {layer.outputs, inputs, layer.kernel, layer.kernel};
}

[[nodiscard]] inline std::vector<float> numbers_of(const torch::Tensor& tensor) {
    const torch::Tensor flat = tensor.detach().contiguous();
    return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

// Codes as real numbers, [planes, height, width].
[[nodiscard]] inline torch::Tensor real_codes(const ImageNetwork& network, const ImageCodes& codes) {
    const auto planes = static_cast<int64_t>(network.inputs.size());
    torch::Tensor x = torch::empty({planes, codes.size.height, codes.size.width});
    auto* to = x.data_ptr<float>();
    const size_t count = size_t{codes.size.width} * codes.size.height;
    for (size_t c = 0; c < network.inputs.size(); c++)
        for (size_t i = 0; i < count; i++)
            to[c * count + i] =
                network.inputs[c].scale * static_cast<float>(codes.codes[c * count + i] - network.inputs[c].zero_point);
    return x;
}

// Each layer's weights and biases, in the order of the network's layers; pools have none.
struct SelectorTensors {
    ImageNetwork network;
    std::vector<torch::Tensor> weights;
    std::vector<torch::Tensor> biases;

    // `learn`: gradients are wanted.
    static SelectorTensors of(const ImageFloatModel& model, bool learn) {
        SelectorTensors t;
        t.network = model.network;
        for (size_t i = 0; i < model.network.layers.size(); i++) {
            const ImageLayerShape& layer = model.network.layers[i];
            torch::Tensor w;
            torch::Tensor b;
            if (layer.kind != ImageLayerKind::pool) {
                w = torch::tensor(model.weights[i]).reshape(weight_shape(layer)).clone().requires_grad_(learn);
                b = torch::tensor(model.biases[i]).requires_grad_(learn);
            }
            t.weights.push_back(w);
            t.biases.push_back(b);
        }
        return t;
    }

    [[nodiscard]] ImageFloatModel model() const {
        ImageFloatModel m;
        m.network = network;
        for (size_t i = 0; i < weights.size(); i++) {
            const bool has = weights[i].defined();
            m.weights.push_back(has ? numbers_of(weights[i]) : std::vector<float>{});
            m.biases.push_back(has ? numbers_of(biases[i]) : std::vector<float>{});
        }
        return m;
    }

    [[nodiscard]] std::vector<torch::Tensor> parameters() const {
        std::vector<torch::Tensor> all;
        for (size_t i = 0; i < weights.size(); i++) {
            if (!weights[i].defined()) continue;
            all.push_back(weights[i]);
            all.push_back(biases[i]);
        }
        return all;
    }

    // [batch, planes, height, width] to [batch, 1, rows, columns].
    [[nodiscard]] torch::Tensor run(torch::Tensor x) const {
        for (size_t i = 0; i < network.layers.size(); i++) {
            const ImageLayerShape& layer = network.layers[i];
            if (layer.kind == ImageLayerKind::pool) {
                x = torch::avg_pool2d(x, 2, 2, 0, true, false);
                continue;
            }
            const int64_t groups = layer.kind == ImageLayerKind::depthwise ? layer.inputs : 1;
            x = torch::conv2d(x, weights[i], biases[i], layer.stride, layer.kernel / 2, 1, groups);
            if (i + 1 < network.layers.size()) x = torch::relu(x);
        }
        return x;
    }
};

}  // namespace adapath
