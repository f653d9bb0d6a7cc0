// Shapes of image networks: what is allowed, and what the outputs' size is.
#include <fmt/format.h>

#include <adapath/image.h>

#include <cmath>

#include "codegen/image.h"

namespace adapath {

namespace {

std::string layer_name(size_t index, const ImageLayerShape& layer) {
    switch (layer.kind) {
        case ImageLayerKind::convolution:
            return fmt::format("layer {} (convolution)", index);
        case ImageLayerKind::depthwise:
            return fmt::format("layer {} (depthwise)", index);
        case ImageLayerKind::pool:
            break;
    }
    return fmt::format("layer {} (pool)", index);
}

Status check_layer(size_t index, const ImageLayerShape& layer, uint32_t channels) {
    const std::string name = layer_name(index, layer);
    if (layer.inputs != channels)
        return Error{fmt::format("{}: {} input channels, but {} come in", name, layer.inputs, channels)};
    if (layer.outputs == 0 || layer.outputs > ADP_IMAGE_CHANNELS_MAX)
        return Error{
            fmt::format("{}: {} output channels; 1 to {} are possible", name, layer.outputs, ADP_IMAGE_CHANNELS_MAX)};
    if (layer.kind != ImageLayerKind::convolution && layer.outputs != layer.inputs)
        return Error{
            fmt::format("{}: {} output channels for {} inputs; it has as many", name, layer.outputs, layer.inputs)};
    const bool fits = layer.kind == ImageLayerKind::pool        ? layer.kernel == 2 && layer.stride == 2
                      : layer.kind == ImageLayerKind::depthwise ? layer.kernel == 3
                                                                : layer.kernel == 1 || layer.kernel == 3;
    if (!fits)
        return Error{
            fmt::format("{}: kernel {} with stride {} is not supported (convolution 1 or 3, depthwise 3, pool 2 "
                        "with stride 2)",
                        name, layer.kernel, layer.stride)};
    if (layer.stride != 1 && layer.stride != 2)
        return Error{fmt::format("{}: stride {}; 1 and 2 are possible", name, layer.stride)};
    return {};
}

size_t weight_count(const ImageLayerShape& layer) {
    switch (layer.kind) {
        case ImageLayerKind::convolution:
            return size_t{layer.inputs} * layer.outputs * layer.kernel * layer.kernel;
        case ImageLayerKind::depthwise:
            return size_t{layer.outputs} * 9;
        case ImageLayerKind::pool:
            break;
    }
    return 0;
}

size_t row_count(const ImageLayerShape& layer) { return layer.kind == ImageLayerKind::pool ? 0 : layer.outputs; }

template <typename Weights, typename Biases>
Status check_lengths(size_t index, const ImageLayerShape& layer, const Weights& weights, const Biases& biases) {
    if (weights.size() != weight_count(layer) || biases.size() != row_count(layer))
        return Error{fmt::format("{}: {} weights and {} biases; its shape has {} and {}", layer_name(index, layer),
                                 weights.size(), biases.size(), weight_count(layer), row_count(layer))};
    return {};
}

}  // namespace

ImageSize output_size(const ImageNetwork& network, ImageSize size) {
    for (const ImageLayerShape& layer : network.layers)
        size = {(size.width + layer.stride - 1) / layer.stride, (size.height + layer.stride - 1) / layer.stride};
    return size;
}

std::string describe(const ImageNetwork& network) {
    std::string text = fmt::format("{}ch", network.inputs.size());
    for (const ImageLayerShape& layer : network.layers) {
        const std::string stride = layer.stride == 1 ? "" : fmt::format("/{}", layer.stride);
        switch (layer.kind) {
            case ImageLayerKind::convolution:
                text += fmt::format(" conv{0}x{0}{1}-{2}", layer.kernel, stride, layer.outputs);
                break;
            case ImageLayerKind::depthwise:
                text += fmt::format(" dw3x3{}", stride);
                break;
            case ImageLayerKind::pool:
                text += " pool";
                break;
        }
    }
    return text;
}

Status validate(const ImageNetwork& network) {
    if (network.inputs.empty() || network.inputs.size() > ADP_IMAGE_CHANNELS_MAX)
        return Error{fmt::format("an image network has 1 to {} input channels, not {}", ADP_IMAGE_CHANNELS_MAX,
                                 network.inputs.size())};
    for (const InputCode& input : network.inputs) {
        if (!(input.scale > 0) || !std::isfinite(input.scale) || input.zero_point < 0 || input.zero_point > 255)
            return Error{
                fmt::format("an input with scale {} and zero point {}; the scale is positive, the zero point 0 to 255",
                            input.scale, input.zero_point)};
    }
    if (network.layers.empty() || network.layers.size() > ADP_IMAGE_LAYERS_MAX)
        return Error{
            fmt::format("an image network has 1 to {} layers, not {}", ADP_IMAGE_LAYERS_MAX, network.layers.size())};
    auto channels = static_cast<uint32_t>(network.inputs.size());
    for (size_t i = 0; i < network.layers.size(); i++) {
        if (Status status = check_layer(i, network.layers[i], channels); !status) return status;
        channels = network.layers[i].outputs;
    }
    if (network.layers.back().kind == ImageLayerKind::pool)
        return Error{"the last layer gives real numbers: it can't be a pool"};
    return {};
}

Status validate(const ImageFloatModel& model) {
    if (Status status = validate(model.network); !status) return status;
    if (model.weights.size() != model.network.layers.size() || model.biases.size() != model.network.layers.size())
        return Error{fmt::format("{} layers of weights and {} of biases for {} layers", model.weights.size(),
                                 model.biases.size(), model.network.layers.size())};
    for (size_t i = 0; i < model.weights.size(); i++) {
        if (Status status = check_lengths(i, model.network.layers[i], model.weights[i], model.biases[i]); !status)
            return status;
        for (const auto* values : {&model.weights[i], &model.biases[i]}) {
            for (float value : *values) {
                if (!std::isfinite(value))
                    return Error{fmt::format("{}: a parameter is {}", layer_name(i, model.network.layers[i]), value)};
            }
        }
    }
    return {};
}

Status validate(const ImageQuantModel& model) {
    if (Status status = validate(model.network); !status) return status;
    if (model.layers.size() != model.network.layers.size())
        return Error{
            fmt::format("{} layers of parameters for {} layers", model.layers.size(), model.network.layers.size())};
    for (size_t i = 0; i < model.layers.size(); i++) {
        const ImageLayerShape& shape = model.network.layers[i];
        const ImageQuantLayer& layer = model.layers[i];
        const std::string name = layer_name(i, shape);
        if (Status status = check_lengths(i, shape, layer.weights, layer.bias); !status) return status;
        if (layer.mult.size() != layer.bias.size())
            return Error{fmt::format("{}: {} multipliers for {} rows", name, layer.mult.size(), layer.bias.size())};
        if (shape.kind == ImageLayerKind::pool) continue;
        const bool last = i + 1 == model.layers.size();
        if (last ? layer.shift > 40 : layer.shift < 1 || layer.shift > 30 || layer.pre > 30)
            return Error{fmt::format("{}: shifts {} and {} are out of range", name, layer.pre, layer.shift)};
        const size_t row_weights = layer.weights.size() / layer.bias.size();
        for (size_t row = 0; row < layer.bias.size(); row++) {
            // A linear form has its extremes at the corners: every code 0 or 255. Partial sums lie between.
            int64_t low = layer.bias[row];
            int64_t high = low;
            for (size_t k = 0; k < row_weights; k++) {
                const int8_t w = layer.weights[row * row_weights + k];
                if (w == -128) return Error{fmt::format("{}, row {}: a weight of -128", name, row)};
                (w < 0 ? low : high) += 255 * int64_t{w};
            }
            if (low < -INT32_MAX || high > INT32_MAX)
                return Error{
                    fmt::format("{}, row {}: accumulators from {} to {} do not fit 32 bits", name, row, low, high)};
            if (!last && ((low >> layer.pre) < -32768 || (high >> layer.pre) > 32767))
                return Error{
                    fmt::format("{}, row {}: accumulators from {} to {} do not fit 16 bits after a shift by {}", name,
                                row, low, high, layer.pre)};
            if (!last && (layer.mult[row] < 0 || layer.mult[row] > 32767))
                return Error{fmt::format("{}, row {}: multiplier {} is not 0 to 32767", name, row, layer.mult[row])};
        }
    }
    return {};
}

}  // namespace adapath
