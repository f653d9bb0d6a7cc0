// See block_map.h.
#include "models/detector/block_map.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>

namespace adapath {

namespace {

size_t block_at(const BlockMap& map, int x, int y) {
    return static_cast<size_t>(y / BlockMap::block) * static_cast<size_t>(map.columns) +
           static_cast<size_t>(x / BlockMap::block);
}

}  // namespace

BlockMap empty_block_map(int width, int height) {
    BlockMap map;
    map.columns = (width + BlockMap::block - 1) / BlockMap::block;
    map.rows = (height + BlockMap::block - 1) / BlockMap::block;
    map.values.assign(static_cast<size_t>(map.columns) * static_cast<size_t>(map.rows), 0);
    return map;
}

Result<BlockMap> block_gradients(const PixelGradient& gradient, const Image& low, const Image& high) {
    if (!low.sound() || !high.sound() || low.width != high.width || low.height != high.height ||
        gradient.rgb.size() != low.rgb.size())
        return Error{fmt::format("gradients of {} values, low quality {}x{}, high quality {}x{}: they do not fit",
                                 gradient.rgb.size(), low.width, low.height, high.width, high.height)};
    BlockMap map = empty_block_map(low.width, low.height);
    size_t i = 0;
    for (int y = 0; y < low.height; y++)
        for (int x = 0; x < low.width; x++) {
            float& sum = map.values[block_at(map, x, y)];
            for (int channel = 0; channel < 3; channel++, i++)
                sum += std::abs(gradient.rgb[i]) * static_cast<float>(std::abs(high.rgb[i] - low.rgb[i]));
        }
    return map;
}

Result<BlockMap> accuracy_gradients(Detector& detector, const Image& low, const Image& high, double score) {
    auto reference = detector.detect(high, score);
    if (!reference) return reference.error();
    auto gradient = detector.gradient(low, *reference);
    if (!gradient) return gradient.error();
    return block_gradients(*gradient, low, high);
}

Result<BlockMap> chunk_gradients(Detector& detector, std::span<const Image> low, std::span<const Image> high,
                                 OverChunk how, double score) {
    if (low.empty() || low.size() != high.size())
        return Error{fmt::format("a chunk of {} pictures in low and {} in high quality", low.size(), high.size())};
    BlockMap all;
    for (size_t i = 0; i < low.size(); i++) {
        auto one = accuracy_gradients(detector, low[i], high[i], score);
        if (!one) return one.error();
        if (i == 0) {
            all = std::move(*one);
            continue;
        }
        if (one->columns != all.columns || one->rows != all.rows)
            return Error{
                fmt::format("picture {} of the chunk is {}x{}, unlike the first", i, low[i].width, low[i].height)};
        for (size_t b = 0; b < all.values.size(); b++)
            all.values[b] =
                how == OverChunk::greatest ? std::max(all.values[b], one->values[b]) : all.values[b] + one->values[b];
    }
    if (how == OverChunk::mean)
        for (float& value : all.values) value /= static_cast<float>(low.size());
    return all;
}

std::vector<uint32_t> ranked(const BlockMap& map) {
    std::vector<uint32_t> order(map.values.size());
    std::iota(order.begin(), order.end(), 0U);
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return map.values[a] > map.values[b]; });
    return order;
}

Image paste_blocks(Image onto, const Image& from, const BlockMap& map, std::span<const uint32_t> blocks) {
    std::vector<bool> chosen(map.values.size(), false);
    for (uint32_t b : blocks) chosen.at(b) = true;
    size_t i = 0;
    for (int y = 0; y < onto.height; y++)
        for (int x = 0; x < onto.width; x++, i += 3)
            if (chosen[block_at(map, x, y)])
                std::copy_n(from.rgb.begin() + static_cast<ptrdiff_t>(i), 3,
                            onto.rgb.begin() + static_cast<ptrdiff_t>(i));
    return onto;
}

}  // namespace adapath
