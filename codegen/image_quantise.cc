// Image networks: floats to integers. One step a row of weights, one scale a layer of activations; what rounding shifts
// the mean of a row by is put into its bias.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "codegen/image.h"

namespace adapath {

namespace {

// The network up to and with this layer, which gives real numbers.
template <typename Model>
Model prefix(const Model& model, size_t layers) {
    Model part = model;
    part.network.layers.resize(layers);
    if constexpr (requires { part.weights; }) {
        part.weights.resize(layers);
        part.biases.resize(layers);
    } else {
        part.layers.resize(layers);
    }
    return part;
}

// Largest value, and mean of each channel, over all calibration pictures.
struct Seen {
    double highest = 0;
    std::vector<double> means;
};

template <typename Run>
Seen look(std::span<const ImageCodes> pictures, uint32_t channels, Run run) {
    Seen seen;
    seen.means.resize(channels);
    std::vector<double> tops;
    for (const ImageCodes& picture : pictures) {
        const auto values = run(picture);
        const size_t places = values.size() / channels;
        for (size_t i = 0; i < values.size(); i++)
            seen.means[i / places] += static_cast<double>(values[i]) / static_cast<double>(places * pictures.size());
        // All but one in two thousand: a single spike must not cost every other value its resolution.
        std::vector<double> sorted(values.begin(), values.end());
        const auto nth = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() - 1 - sorted.size() / 2000);
        std::nth_element(sorted.begin(), nth, sorted.end());
        tops.push_back(*nth);
    }
    seen.highest = *std::max_element(tops.begin(), tops.end());
    return seen;
}

// The weights of one row in real units a code: inputs of the first layer have each a scale of their own.
std::vector<double> row_weights(const ImageFloatModel& model, size_t index, uint32_t row,
                                const std::vector<double>& scales) {
    const ImageLayerShape& shape = model.network.layers[index];
    const std::vector<float>& all = model.weights[index];
    const size_t count = all.size() / shape.outputs;
    const size_t taps = size_t{shape.kernel} * shape.kernel;
    std::vector<double> weights(count);
    for (size_t k = 0; k < count; k++) {
        const size_t channel = shape.kind == ImageLayerKind::depthwise ? row : k / taps;
        weights[k] = all[row * count + k] * scales[channel];
    }
    return weights;
}

}  // namespace

Result<ImageQuantModel> quantise(const ImageFloatModel& model, std::span<const ImageCodes> calibration) {
    if (Status status = validate(model); !status) return status.error();
    if (calibration.empty()) return Error{"quantising an image network needs at least one picture to calibrate on"};
    for (const ImageCodes& picture : calibration) {
        const size_t codes = size_t{picture.size.width} * picture.size.height * model.network.inputs.size();
        if (codes == 0 || picture.codes.size() != codes)
            return Error{fmt::format("a calibration picture of {}x{} has {} codes; {} channels of it have {}",
                                     picture.size.width, picture.size.height, picture.codes.size(),
                                     model.network.inputs.size(), codes)};
    }
    ImageQuantModel quant{.network = model.network, .layers = {}};
    std::vector<double> scales;  // of each incoming channel's codes
    std::vector<int32_t> zeros;
    for (const InputCode& input : model.network.inputs) {
        scales.push_back(input.scale);
        zeros.push_back(input.zero_point);
    }
    for (size_t i = 0; i < model.network.layers.size(); i++) {
        const ImageLayerShape& shape = model.network.layers[i];
        ImageQuantLayer& layer = quant.layers.emplace_back();
        if (shape.kind == ImageLayerKind::pool) {
            layer.scale = static_cast<float>(scales[0]);
            continue;
        }
        const bool last = i + 1 == model.network.layers.size();
        const ImageFloatModel float_part = prefix(model, i + 1);
        const Seen floats =
            look(calibration, shape.outputs, [&](const ImageCodes& picture) { return run_float(float_part, picture); });

        const size_t count = model.weights[i].size() / shape.outputs;
        const size_t taps = size_t{shape.kernel} * shape.kernel;
        std::vector<double> steps(shape.outputs);
        int64_t widest = 1;  // |accumulator|
        for (uint32_t row = 0; row < shape.outputs; row++) {
            const std::vector<double> weights = row_weights(model, i, row, scales);
            double most = 0;
            for (double w : weights) most = std::max(most, std::abs(w));
            // A row of next to nothing but its bias: the step must not make the bias overflow.
            steps[row] = std::max({most / 127, std::abs(double{model.biases[i][row]}) / (1 << 22), 1e-20});
            int64_t bias = std::llround(model.biases[i][row] / steps[row]);
            int64_t low = 0;
            int64_t high = 0;
            for (size_t k = 0; k < count; k++) {
                const auto q =
                    static_cast<int8_t>(std::clamp<long long>(std::llround(weights[k] / steps[row]), -127, 127));
                layer.weights.push_back(q);
                bias -= int64_t{q} * zeros[shape.kind == ImageLayerKind::depthwise ? row : k / taps];
                (q < 0 ? low : high) += 255 * int64_t{q};
            }
            layer.bias.push_back(static_cast<int32_t>(bias));
            widest = std::max({widest, std::abs(low + bias), std::abs(high + bias)});
        }
        // As real numbers first, to see what the rounding did to each row's mean.
        const double steepest = *std::max_element(steps.begin(), steps.end());
        layer.shift =
            static_cast<uint8_t>(std::clamp(29 - 16 - static_cast<int>(std::floor(std::log2(steepest))), 0, 40));
        for (uint32_t row = 0; row < shape.outputs; row++)
            layer.mult.push_back(static_cast<int32_t>(
                std::min<long long>(std::llround(std::ldexp(steps[row], 16 + layer.shift)), INT32_MAX)));
        const ImageQuantModel quant_part = prefix(quant, i + 1);
        const Seen integers =
            look(calibration, shape.outputs, [&](const ImageCodes& picture) { return interpret(quant_part, picture); });
        for (uint32_t row = 0; row < shape.outputs; row++) {
            const double shift = (floats.means[row] - integers.means[row] / 65536) / steps[row];
            layer.bias[row] += static_cast<int32_t>(std::clamp(std::round(shift), -1e6, 1e6));
            widest += std::abs(std::llround(std::clamp(shift, -1e6, 1e6)));
        }
        if (!last) {
            layer.scale = static_cast<float>(std::max(floats.highest, 1e-12) / 255);
            while ((widest >> layer.pre) >= 32767) layer.pre++;
            // The largest multiplier takes 15 bits.
            layer.shift = static_cast<uint8_t>(
                std::clamp(14 - static_cast<int>(std::floor(std::log2(steepest / layer.scale))) - layer.pre, 1, 30));
            for (uint32_t row = 0; row < shape.outputs; row++)
                layer.mult[row] = static_cast<int32_t>(std::clamp<long long>(
                    std::llround(std::ldexp(steps[row] / layer.scale, layer.shift + layer.pre)), 0, 32767));
            scales.assign(shape.outputs, layer.scale);
            zeros.assign(shape.outputs, 0);
        }
    }
    if (Status status = validate(quant); !status) return status.error();
    return quant;
}

}  // namespace adapath
