// What an image network computes, in float and in integers, in plain loops. Shares nothing with what is emitted.
#include <algorithm>
#include <cstdint>

#include "codegen/image.h"

namespace adapath {

namespace {

template <typename T>
struct Planes {
    uint32_t channels = 0;
    ImageSize size;
    std::vector<T> values;

    Planes(uint32_t n, ImageSize s) : channels(n), size(s), values(size_t{n} * s.width * s.height) {}
    T& at(uint32_t c, uint32_t y, uint32_t x) { return values[(size_t{c} * size.height + y) * size.width + x]; }
    // Beyond the edges there is `outside`.
    [[nodiscard]] T at(uint32_t c, int64_t y, int64_t x, T outside) const {
        if (y < 0 || x < 0 || y >= size.height || x >= size.width) return outside;
        return values[(size_t{c} * size.height + static_cast<size_t>(y)) * size.width + static_cast<size_t>(x)];
    }
};

ImageSize size_after(const ImageLayerShape& layer, ImageSize size) {
    return {(size.width + layer.stride - 1) / layer.stride, (size.height + layer.stride - 1) / layer.stride};
}

// Sum over the taps of one place of weight(tap) * value(tap); `Sum` is wide enough for all of it.
template <typename Sum, typename T, typename W>
Sum taps(const ImageLayerShape& layer, const Planes<T>& in, const std::vector<W>& weights, uint32_t row, uint32_t y,
         uint32_t x, const std::vector<T>& outside) {
    Sum sum = 0;
    const int64_t half = layer.kernel / 2;
    const uint32_t first = layer.kind == ImageLayerKind::depthwise ? row : 0;
    const uint32_t count = layer.kind == ImageLayerKind::depthwise ? 1 : layer.inputs;
    for (uint32_t c = 0; c < count; c++) {
        for (int64_t ky = 0; ky < layer.kernel; ky++) {
            for (int64_t kx = 0; kx < layer.kernel; kx++) {
                const size_t tap = ((size_t{row} * count + c) * layer.kernel + static_cast<size_t>(ky)) * layer.kernel +
                                   static_cast<size_t>(kx);
                sum += static_cast<Sum>(weights[tap]) *
                       static_cast<Sum>(in.at(first + c, int64_t{y} * layer.stride + ky - half,
                                              int64_t{x} * layer.stride + kx - half, outside[first + c]));
            }
        }
    }
    return sum;
}

template <typename T, typename Mean>
Planes<T> pooled(const Planes<T>& in, const ImageLayerShape& layer, Mean mean) {
    Planes<T> out(layer.outputs, size_after(layer, in.size));
    for (uint32_t c = 0; c < out.channels; c++) {
        for (uint32_t y = 0; y < out.size.height; y++) {
            for (uint32_t x = 0; x < out.size.width; x++) {
                // An odd last row or column is taken twice.
                const int64_t y1 = std::min(2 * y + 1, in.size.height - 1);
                const int64_t x1 = std::min(2 * x + 1, in.size.width - 1);
                out.at(c, y, x) = mean(in.at(c, int64_t{2} * y, int64_t{2} * x, 0), in.at(c, int64_t{2} * y, x1, 0),
                                       in.at(c, y1, int64_t{2} * x, 0), in.at(c, y1, x1, 0));
            }
        }
    }
    return out;
}

}  // namespace

std::vector<float> run_float(const ImageFloatModel& model, const ImageCodes& picture) {
    const ImageNetwork& network = model.network;
    Planes<float> planes(static_cast<uint32_t>(network.inputs.size()), picture.size);
    const size_t pixels = size_t{picture.size.width} * picture.size.height;
    for (size_t i = 0; i < planes.values.size(); i++) {
        const InputCode& code = network.inputs[i / pixels];
        planes.values[i] = code.scale * static_cast<float>(picture.codes[i] - code.zero_point);
    }
    for (size_t i = 0; i < network.layers.size(); i++) {
        const ImageLayerShape& layer = network.layers[i];
        if (layer.kind == ImageLayerKind::pool) {
            planes = pooled(planes, layer, [](float a, float b, float c, float d) { return (a + b + c + d) / 4; });
            continue;
        }
        Planes<float> out(layer.outputs, size_after(layer, planes.size));
        const std::vector<float> zero(layer.inputs, 0.0F);
        for (uint32_t r = 0; r < layer.outputs; r++) {
            for (uint32_t y = 0; y < out.size.height; y++) {
                for (uint32_t x = 0; x < out.size.width; x++) {
                    const auto v = static_cast<float>(taps<double>(layer, planes, model.weights[i], r, y, x, zero)) +
                                   model.biases[i][r];
                    out.at(r, y, x) = i + 1 < network.layers.size() ? std::max(v, 0.0F) : v;
                }
            }
        }
        planes = std::move(out);
    }
    return planes.values;
}

std::vector<int32_t> interpret(const ImageQuantModel& model, const ImageCodes& picture) {
    const ImageNetwork& network = model.network;
    Planes<uint8_t> planes(static_cast<uint32_t>(network.inputs.size()), picture.size);
    planes.values = picture.codes;
    std::vector<uint8_t> zero;
    for (const InputCode& input : network.inputs) zero.push_back(static_cast<uint8_t>(input.zero_point));
    for (size_t i = 0; i < network.layers.size(); i++) {
        const ImageLayerShape& layer = network.layers[i];
        const ImageQuantLayer& numbers = model.layers[i];
        if (layer.kind == ImageLayerKind::pool) {
            planes = pooled(planes, layer, [](uint8_t a, uint8_t b, uint8_t c, uint8_t d) {
                return static_cast<uint8_t>((a + b + c + d + 2) >> 2);
            });
            continue;
        }
        const bool last = i + 1 == network.layers.size();
        Planes<uint8_t> out(layer.outputs, size_after(layer, planes.size));
        std::vector<int32_t> result(last ? out.values.size() : 0);
        for (uint32_t r = 0; r < layer.outputs; r++) {
            for (uint32_t y = 0; y < out.size.height; y++) {
                for (uint32_t x = 0; x < out.size.width; x++) {
                    const int64_t acc = taps<int64_t>(layer, planes, numbers.weights, r, y, x, zero) + numbers.bias[r];
                    if (last) {
                        const int64_t v = (acc * numbers.mult[r]) >> numbers.shift;
                        result[(size_t{r} * out.size.height + y) * out.size.width + x] =
                            static_cast<int32_t>(std::clamp<int64_t>(v, -INT32_MAX, INT32_MAX));
                    } else {
                        const int64_t v =
                            ((acc >> numbers.pre) * numbers.mult[r] + (int64_t{1} << (numbers.shift - 1))) >>
                            numbers.shift;
                        out.at(r, y, x) = static_cast<uint8_t>(std::clamp<int64_t>(v, 0, 255));
                    }
                }
            }
        }
        if (last) return result;
        planes = std::move(out);
        zero.assign(layer.outputs, 0);
    }
    return {};
}

}  // namespace adapath
