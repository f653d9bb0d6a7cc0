// See block_mask.h.
#include "userspace/video/block_mask.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

namespace adapath::video {

double BlockMask::share() const {
    if (high.empty()) {
        return 0;
    }
    auto count = std::count(high.begin(), high.end(), uint8_t{1});
    return static_cast<double>(count) / static_cast<double>(high.size());
}

BlockMask empty_block_mask(Size size) {
    BlockMask mask;
    mask.columns = (size.width + BlockMask::block - 1) / BlockMask::block;
    mask.rows = (size.height + BlockMask::block - 1) / BlockMask::block;
    mask.high.assign(static_cast<size_t>(mask.columns) * static_cast<size_t>(mask.rows), 0);
    return mask;
}

Result<BlockMask> choose_blocks(std::span<const float> values, Size size, const MaskOptions& options) {
    BlockMask mask = empty_block_mask(size);
    if (values.size() != mask.high.size()) {
        return Error{fmt::format("{} values for the {}x{} macroblocks of a {}x{} picture", values.size(), mask.columns,
                                 mask.rows, size.width, size.height)};
    }
    for (size_t i = 0; i < values.size(); i++) {
        mask.high[i] = values[i] >= options.threshold ? 1 : 0;
    }
    return dilated(mask, options.dilation);
}

BlockMask dilated(const BlockMask& mask, int blocks) {
    if (blocks <= 0) {
        return mask;
    }
    BlockMask wide = mask;
    for (int row = 0; row < mask.rows; row++) {
        for (int column = 0; column < mask.columns; column++) {
            if (mask.high[static_cast<size_t>(row * mask.columns + column)] == 0) {
                continue;
            }
            for (int y = std::max(0, row - blocks); y <= std::min(mask.rows - 1, row + blocks); y++) {
                int first = std::max(0, column - blocks);
                int last = std::min(mask.columns - 1, column + blocks);
                std::fill_n(wide.high.begin() + y * mask.columns + first, last - first + 1, uint8_t{1});
            }
        }
    }
    return wide;
}

QuantiserMap quantisers(const BlockMask& mask, int high, int low) {
    QuantiserMap map{mask.columns, mask.rows, {}};
    map.qp.reserve(mask.high.size());
    for (uint8_t is_high : mask.high) {
        map.qp.push_back(static_cast<uint8_t>(is_high != 0 ? high : low));
    }
    return map;
}

Result<QuantiserMap> quantisers(std::span<const float> values, Size size) {
    BlockMask blocks = empty_block_mask(size);
    if (values.size() != blocks.high.size()) {
        return Error{fmt::format("{} quantisers for the {}x{} macroblocks of a {}x{} picture", values.size(),
                                 blocks.columns, blocks.rows, size.width, size.height)};
    }
    QuantiserMap map{blocks.columns, blocks.rows, {}};
    for (float value : values) {
        map.qp.push_back(value < 51 ? static_cast<uint8_t>(std::lround(std::max(value, 1.0F))) : uint8_t{51});
    }
    return map;
}

}  // namespace adapath::video
