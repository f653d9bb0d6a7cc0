// See float_runner.h.
#include "models/float_runner.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace adapath {

FloatRunner::FloatRunner(const FloatModel& model) {
    size_t widest = model.network.input_count();
    for (size_t l = 0; l < model.network.layers.size(); l++) {
        const LayerShape& shape = model.network.layers[l];
        Layer layer{shape.inputs, shape.outputs, shape.activation,
                    std::vector<float>(size_t{shape.inputs} * shape.outputs), model.biases[l]};
        for (uint32_t r = 0; r < shape.outputs; r++) {
            for (uint32_t i = 0; i < shape.inputs; i++) {
                float w = model.weights[l][size_t{r} * shape.inputs + i];
                if (l == 0) {
                    // w * scale * (code - zero) = (w * scale) * code - w * scale * zero
                    const InputCode& code = model.network.inputs[i];
                    w *= code.scale;
                    layer.biases[r] -= w * static_cast<float>(code.zero_point);
                }
                layer.weights[size_t{i} * shape.outputs + r] = w;
            }
        }
        widest = std::max<size_t>(widest, shape.outputs);
        layers_.push_back(std::move(layer));
    }
    a_.resize(widest);
    b_.resize(widest);
}

std::span<const float> FloatRunner::run_all(const uint8_t* codes) {
    if (layers_.empty()) return {};
    for (uint32_t i = 0; i < layers_.front().inputs; i++) a_[i] = codes[i];
    for (const Layer& layer : layers_) {
        float* out = b_.data();
        std::copy(layer.biases.begin(), layer.biases.end(), out);
        const float* w = layer.weights.data();
        for (uint32_t i = 0; i < layer.inputs; i++, w += layer.outputs) {
            const float x = a_[i];
            for (uint32_t r = 0; r < layer.outputs; r++) out[r] += x * w[r];
        }
        for (uint32_t r = 0; r < layer.outputs; r++) {
            switch (layer.activation) {
                case Activation::identity:
                    break;
                case Activation::relu:
                    out[r] = std::max(out[r], 0.0F);
                    break;
                case Activation::tanh:
                    out[r] = std::tanh(out[r]);
                    break;
                case Activation::sigmoid:
                    out[r] = 1 / (1 + std::exp(-out[r]));
                    break;
            }
        }
        std::swap(a_, b_);
    }
    return {a_.data(), layers_.back().outputs};
}

float FloatRunner::run(const uint8_t* codes) {
    const std::span<const float> outputs = run_all(codes);
    return outputs.empty() ? 0 : outputs[0];
}

int32_t FloatRunner::run_q16(const uint8_t* codes) {
    const double scaled = std::round(static_cast<double>(run(codes)) * 65536);
    return static_cast<int32_t>(
        std::clamp<double>(scaled, std::numeric_limits<int32_t>::min(), std::numeric_limits<int32_t>::max()));
}

}  // namespace adapath
