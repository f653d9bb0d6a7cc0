// Image networks: what one place of the outputs depends on, and what a run costs.
#include <algorithm>

#include "codegen/image.h"

namespace adapath {

namespace {

struct Range {
    int64_t first = 0;
    int64_t last = 0;
};

// The inputs that these outputs are made of; beyond the picture's edges too.
Range field_of(const ImageNetwork& network, uint32_t place) {
    Range range{place, place};
    for (auto layer = network.layers.rbegin(); layer != network.layers.rend(); ++layer) {
        const bool pool = layer->kind == ImageLayerKind::pool;
        const int64_t before = pool ? 0 : layer->kernel / 2;
        const int64_t after = pool ? 1 : layer->kernel / 2;
        range = {range.first * layer->stride - before, range.last * layer->stride + after};
    }
    return range;
}

struct Side {
    uint32_t first = 0;
    uint32_t count = 0;
    uint32_t place = 0;  // within what comes out
};

Side side_of(const ImageNetwork& network, uint32_t length, uint32_t place) {
    const Range field = field_of(network, place);
    const int64_t stride = total_stride(network);
    const int64_t first = std::max<int64_t>(field.first, 0) / stride * stride;
    const int64_t end = std::min<int64_t>(field.last + 1, length);
    return {static_cast<uint32_t>(first), static_cast<uint32_t>(end - first),
            place - static_cast<uint32_t>(first / stride)};
}

}  // namespace

uint32_t total_stride(const ImageNetwork& network) {
    uint32_t stride = 1;
    for (const ImageLayerShape& layer : network.layers) stride *= layer.stride;
    return stride;
}

uint32_t widest_window(const ImageNetwork& network) {
    // A place far from both edges: windows there are all alike.
    const uint32_t middle = 1 << 20;
    const Range field = field_of(network, middle);
    const int64_t stride = total_stride(network);
    return static_cast<uint32_t>(field.last + 1 - field.first / stride * stride);
}

ImageWindow window_of(const ImageNetwork& network, ImageSize picture, uint32_t column, uint32_t row) {
    const Side across = side_of(network, picture.width, column);
    const Side down = side_of(network, picture.height, row);
    return {across.first, down.first, {across.count, down.count}, {across.place, down.place}};
}

ImageCodes cut(const ImageNetwork& network, const ImageCodes& picture, const ImageWindow& window) {
    ImageCodes part{window.size, {}};
    part.codes.reserve(size_t{window.size.width} * window.size.height * network.inputs.size());
    for (size_t channel = 0; channel < network.inputs.size(); channel++) {
        for (uint32_t y = 0; y < window.size.height; y++) {
            const size_t at = (channel * picture.size.height + window.y + y) * picture.size.width + window.x;
            const auto begin = picture.codes.begin() + static_cast<std::ptrdiff_t>(at);
            part.codes.insert(part.codes.end(), begin, begin + window.size.width);
        }
    }
    return part;
}

uint64_t multiply_accumulates(const ImageNetwork& network, ImageSize size) {
    uint64_t count = 0;
    for (const ImageLayerShape& layer : network.layers) {
        size = {(size.width + layer.stride - 1) / layer.stride, (size.height + layer.stride - 1) / layer.stride};
        const uint64_t channels = layer.kind == ImageLayerKind::convolution ? layer.inputs : 1;
        count += uint64_t{size.width} * size.height * layer.outputs * channels * layer.kernel * layer.kernel;
    }
    return count;
}

}  // namespace adapath
