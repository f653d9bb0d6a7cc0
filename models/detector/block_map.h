// Accuracy gradients of macroblocks: how much each block's encoding quality matters to the server's vision network.
//
// As AccMPEG (MLSys 2022, section 4) defines them: for a block, the sum over its pixels (and their channels) of
// |d accuracy / d pixel| at the low quality, times |high - low|. To first order that is the most that accuracy can move
// when the block alone is sent in high quality.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "codegen/result.h"
#include "models/detector/detector.h"
#include "models/detector/image.h"

namespace adapath {

// A number a macroblock of H.264, row by row; blocks at the right and lower edges may be cut off.
struct BlockMap {
    static constexpr int block = 16;

    int columns = 0;
    int rows = 0;
    std::vector<float> values;

    [[nodiscard]] float at(int column, int row) const {
        return values[static_cast<size_t>(row) * static_cast<size_t>(columns) + static_cast<size_t>(column)];
    }
};

// All zeros, of the size that such a picture needs.
[[nodiscard]] BlockMap empty_block_map(int width, int height);

// The definition above, from the gradient at `low`.
Result<BlockMap> block_gradients(const PixelGradient& gradient, const Image& low, const Image& high);

// The same from pictures: what the detector finds in `high` with at least `score` is the reference.
Result<BlockMap> accuracy_gradients(Detector& detector, const Image& low, const Image& high, double score = 0.3);

// One map for a chunk, since the encoder takes one map for all of its pictures: block by block the greatest, or the
// mean, of the pictures' gradients.
enum class OverChunk { greatest, mean };
Result<BlockMap> chunk_gradients(Detector& detector, std::span<const Image> low, std::span<const Image> high,
                                 OverChunk how, double score = 0.3);

// Blocks' indices, the greatest value first; ties by index.
[[nodiscard]] std::vector<uint32_t> ranked(const BlockMap& map);

// `onto` with the named blocks taken from `from` (both of the map's size).
[[nodiscard]] Image paste_blocks(Image onto, const Image& from, const BlockMap& map, std::span<const uint32_t> blocks);

}  // namespace adapath
