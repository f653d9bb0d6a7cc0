// Image networks: the block of parameters that a program runs on, and back.
#include "codegen/image_pack.h"

#include <fmt/format.h>

#include <adapath/image.h>

#include <algorithm>
#include <cstring>

namespace adapath {

namespace {

constexpr size_t kLine = 64;

uint32_t groups_of(uint32_t channels) { return ADP_IMAGE_GROUPS(channels); }

// As struct adp_image_layer has them, filled up to whole groups.
size_t row_bytes(const ImageLayerShape& layer) {
    return layer.kind == ImageLayerKind::depthwise ? 9
                                                   : size_t{layer.kernel} * layer.kernel * groups_of(layer.inputs) * 4;
}

size_t rows_of(const ImageLayerShape& layer) { return layer.kind == ImageLayerKind::pool ? 0 : layer.outputs; }

size_t weights_of(const ImageLayerShape& layer) {
    const size_t taps = size_t{layer.kernel} * layer.kernel;
    return rows_of(layer) * taps * (layer.kind == ImageLayerKind::depthwise ? 1 : layer.inputs);
}

template <typename T>
void put(std::vector<uint8_t>& block, size_t at, const std::vector<T>& values) {
    if (!values.empty()) memcpy(block.data() + at, values.data(), values.size() * sizeof(T));
}

template <typename T>
std::vector<T> take(std::span<const uint8_t> block, size_t at, size_t count) {
    std::vector<T> values(count);
    if (count != 0) memcpy(values.data(), block.data() + at, count * sizeof(T));
    return values;
}

// Where a weight (row-major by channel, as models have them) is among the layer's groups of four.
template <typename Visit>
void each_weight(const ImageLayerShape& shape, Visit visit) {
    const size_t taps = size_t{shape.kernel} * shape.kernel;
    if (shape.kind == ImageLayerKind::depthwise) {
        for (size_t c = 0; c < shape.outputs; c++) {
            for (size_t tap = 0; tap < taps; tap++) visit(c * taps + tap, (c / 4 * taps + tap) * 4 + c % 4);
        }
        return;
    }
    const size_t groups = groups_of(shape.inputs);
    for (size_t r = 0; r < rows_of(shape); r++) {
        for (size_t c = 0; c < shape.inputs; c++) {
            for (size_t tap = 0; tap < taps; tap++)
                visit((r * shape.inputs + c) * taps + tap, ((r * taps + tap) * groups + c / 4) * 4 + c % 4);
        }
    }
}

}  // namespace

std::vector<ImageLayerPlace> image_places(const ImageNetwork& network) {
    std::vector<ImageLayerPlace> places;
    size_t at = 0;
    for (const ImageLayerShape& layer : network.layers) {
        ImageLayerPlace place;
        const size_t rows = layer.kind == ImageLayerKind::pool ? 0 : size_t{groups_of(layer.outputs)} * 4;
        place.shifts = at;
        place.mult = place.shifts + 8;
        place.bias = place.mult + rows * 4;
        place.weights = place.bias + rows * 4;
        place.end = (place.weights + rows * row_bytes(layer) + kLine - 1) / kLine * kLine;
        at = place.end;
        places.push_back(place);
    }
    return places;
}

size_t params_bytes(const ImageNetwork& network) { return image_places(network).back().end; }

std::vector<uint8_t> pack(const ImageQuantModel& model) {
    const std::vector<ImageLayerPlace> places = image_places(model.network);
    std::vector<uint8_t> block(places.back().end);
    for (size_t i = 0; i < places.size(); i++) {
        const ImageQuantLayer& layer = model.layers[i];
        block[places[i].shifts] = layer.pre;
        block[places[i].shifts + 1] = layer.shift;
        put(block, places[i].mult, layer.mult);
        put(block, places[i].bias, layer.bias);
        if (layer.weights.empty()) continue;
        each_weight(model.network.layers[i], [&](size_t logical, size_t packed) {
            block[places[i].weights + packed] = static_cast<uint8_t>(layer.weights[logical]);
        });
    }
    return block;
}

Result<ImageQuantModel> unpack(const ImageNetwork& network, std::span<const uint8_t> params) {
    if (Status status = validate(network); !status) return status.error();
    const std::vector<ImageLayerPlace> places = image_places(network);
    if (params.size() != places.back().end)
        return Error{
            fmt::format("{} bytes of parameters; {} has {}", params.size(), describe(network), places.back().end)};
    ImageQuantModel model{.network = network, .layers = {}};
    for (size_t i = 0; i < places.size(); i++) {
        const ImageLayerShape& shape = network.layers[i];
        ImageQuantLayer& layer = model.layers.emplace_back();
        layer.pre = params[places[i].shifts];
        layer.shift = params[places[i].shifts + 1];
        layer.mult = take<int32_t>(params, places[i].mult, rows_of(shape));
        layer.bias = take<int32_t>(params, places[i].bias, rows_of(shape));
        layer.weights.resize(weights_of(shape));
        if (layer.weights.empty()) continue;
        each_weight(shape, [&](size_t logical, size_t packed) {
            layer.weights[logical] = static_cast<int8_t>(params[places[i].weights + packed]);
        });
    }
    if (Status status = validate(model); !status) return status.error();
    // What fills up groups is read by the program too: it has to be what pack() wrote.
    if (!std::ranges::equal(pack(model), params))
        return Error{fmt::format("the parameters of {} are not as they were packed", describe(network))};
    return model;
}

}  // namespace adapath
