// The quality of a chunk's macroblocks: which get the high one, or a quantiser for each; one for all of its pictures.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "codegen/result.h"
#include "userspace/video/clip.h"

namespace adapath::video {

// Row by row; blocks at the right and lower edges may be cut off by the picture's edge.
struct BlockMask {
    static constexpr int block = 16;

    int columns = 0;
    int rows = 0;
    std::vector<uint8_t> high;  // 1: high quality, 0: low

    [[nodiscard]] double share() const;  // of the blocks that are high, 0 to 1

    bool operator==(const BlockMask&) const = default;
};

// All low, of the size that such a picture needs.
[[nodiscard]] BlockMask empty_block_mask(Size size);

struct MaskOptions {
    float threshold = 0;  // a block with at least this value is high
    int dilation = 0;     // and so is every block this many blocks away or nearer, diagonals included
};

// `values`: one a block, row by row (accuracy gradients, a selector's logits). A value that is no number is low.
Result<BlockMask> choose_blocks(std::span<const float> values, Size size, const MaskOptions& options);

// Every block that many blocks away from a high one, or nearer, becomes high; 0 changes nothing.
[[nodiscard]] BlockMask dilated(const BlockMask& mask, int blocks);

// A quantiser a macroblock, row by row: H.264's, 1 to 51, the lower the better.
struct QuantiserMap {
    int columns = 0;
    int rows = 0;
    std::vector<uint8_t> qp;

    bool operator==(const QuantiserMap&) const = default;
};

// `high` where the mask is high, `low` elsewhere.
[[nodiscard]] QuantiserMap quantisers(const BlockMask& mask, int high, int low);

// Values (one a block, row by row) as quantisers: rounded, and brought into 1 to 51. A value that is no number is 51.
Result<QuantiserMap> quantisers(std::span<const float> values, Size size);

}  // namespace adapath::video
