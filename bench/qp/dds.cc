// See dds.h.
#include "bench/qp/dds.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "models/detector/accuracy.h"
#include "userspace/qp/cameras.h"

namespace adapath {
namespace {

using video::BlockMask;
using video::Clip;
using video::Size;

constexpr uint8_t kBlack = 16;  // luma, limited range
constexpr uint8_t kGrey = 128;  // chroma

// One plane of a picture, a macroblock being `block` of its samples wide: calls edit(row's begin, samples) for each row
// of each macroblock that is, or is not, in the mask.
template <typename Edit>
void for_each_block_row(const BlockMask& mask, bool high, size_t width, size_t height, size_t block, const Edit& edit) {
    for (size_t y = 0; y < height; y++) {
        for (size_t x = 0; x < width; x += block) {
            const size_t at = y / block * static_cast<size_t>(mask.columns) + x / block;
            if ((mask.high[at] != 0) == high) {
                edit(y * width + x, std::min(block, width - x));
            }
        }
    }
}

struct Plane {
    size_t offset;
    size_t width;
    size_t height;
    size_t block;
    uint8_t blank;
};

std::vector<Plane> planes(Size size) {
    const auto width = static_cast<size_t>(size.width);
    const auto height = static_cast<size_t>(size.height);
    constexpr size_t block = BlockMask::block;
    const size_t luma = width * height;
    return {{0, width, height, block, kBlack},
            {luma, width / 2, height / 2, block / 2, kGrey},
            {luma + luma / 4, width / 2, height / 2, block / 2, kGrey}};
}

// The pictures with everything outside of the mask blank.
std::vector<uint8_t> only(const Clip& clip, uint64_t first, uint64_t count, const BlockMask& mask) {
    const size_t bytes = video::picture_bytes(clip.size());
    std::vector<uint8_t> pictures(bytes * count);
    for (uint64_t i = 0; i < count; i++) {
        uint8_t* picture = pictures.data() + bytes * i;
        std::memcpy(picture, clip.picture(first + i).y, bytes);  // the planes lie one behind the other
        for (const Plane& plane : planes(clip.size())) {
            for_each_block_row(mask, false, plane.width, plane.height, plane.block, [&](size_t at, size_t samples) {
                std::memset(picture + plane.offset + at, plane.blank, samples);
            });
        }
    }
    return pictures;
}

// The mask's macroblocks of `from` into `to`, picture by picture.
void paste(std::vector<uint8_t>& to, const std::vector<uint8_t>& from, Size size, const BlockMask& mask) {
    const size_t bytes = video::picture_bytes(size);
    for (size_t picture = 0; picture + bytes <= to.size(); picture += bytes) {
        for (const Plane& plane : planes(size)) {
            for_each_block_row(mask, true, plane.width, plane.height, plane.block, [&](size_t at, size_t samples) {
                std::memcpy(to.data() + picture + plane.offset + at, from.data() + picture + plane.offset + at,
                            samples);
            });
        }
    }
}

Result<video::CodedChunk> coded(const Clip& clip, uint64_t first, uint64_t count, int qp) {
    auto encoder = video::RegionEncoder::open(clip.size());
    if (!encoder) {
        return encoder.error();
    }
    if (Status begun = encoder->begin_chunk(qp); !begun) {
        return begun.error();
    }
    return video::code_chunk(*encoder, clip, first, count);
}

Result<std::vector<std::vector<Box>>> look(Detector& detector, const Clip& clip, uint64_t count, uint64_t step,
                                           double score) {
    std::vector<std::vector<Box>> seen;
    for (uint64_t i = 0; i < count; i += step) {
        auto image = images(clip, i, 1);
        if (!image) {
            return image.error();
        }
        auto boxes = detector.detect(image->front(), score);
        if (!boxes) {
            return boxes.error();
        }
        seen.push_back(std::move(*boxes));
    }
    return seen;
}

}  // namespace

std::vector<Box> doubtful(std::span<const Box> boxes, Size size, const DdsOptions& options) {
    std::vector<Box> regions;
    for (const Box& box : boxes) {
        const double area = double{box.x1 - box.x0} * (box.y1 - box.y0);
        if (box.score < options.unsure || box.score >= options.sure ||
            area > options.largest * size.width * size.height) {
            continue;
        }
        const bool known = std::ranges::any_of(boxes, [&](const Box& other) {
            return other.score >= options.sure && intersection_over_union(box, other) >= options.overlap;
        });
        if (!known) {
            regions.push_back(box);
        }
    }
    return regions;
}

void cover(BlockMask& mask, const Box& box) {
    constexpr int side = BlockMask::block;
    const int x0 = std::max(0, static_cast<int>(std::floor(box.x0)) / side);
    const int y0 = std::max(0, static_cast<int>(std::floor(box.y0)) / side);
    const int x1 = std::min(mask.columns - 1, static_cast<int>(box.x1) / side);
    const int y1 = std::min(mask.rows - 1, static_cast<int>(box.y1) / side);
    for (int y = y0; y <= y1; y++) {
        for (int x = x0; x <= x1; x++) {
            mask.high[static_cast<size_t>(y * mask.columns + x)] = 1;
        }
    }
}

Result<DdsResult> dds_chunk(Detector& detector, const Clip& clip, uint64_t first, uint64_t count, uint64_t step,
                            const video::QualityPair& quality, const DdsOptions& options) {
    const Size size = clip.size();
    auto low = coded(clip, first, count, quality.low);
    if (!low) {
        return low.error();
    }
    DdsResult result{.bytes = low->bytes, .share = 0, .seen = {}};
    auto first_pass = Clip::from_i420(low->i420, size);
    if (!first_pass) {
        return first_pass.error();
    }
    auto seen = look(detector, *first_pass, count, step, options.unsure);
    if (!seen) {
        return seen.error();
    }
    BlockMask mask = video::empty_block_mask(size);
    bool any = false;
    for (const std::vector<Box>& boxes : *seen) {
        for (const Box& region : doubtful(boxes, size, options)) {
            cover(mask, region);
            any = true;
        }
    }
    if (!any) {
        result.seen = std::move(*seen);
        return result;
    }
    mask = video::dilated(mask, options.dilation);
    result.share = mask.share();
    auto regions = Clip::from_i420(only(clip, first, count, mask), size);
    if (!regions) {
        return regions.error();
    }
    auto high = coded(*regions, 0, count, quality.high);
    if (!high) {
        return high.error();
    }
    result.bytes += high->bytes;
    paste(low->i420, high->i420, size, mask);
    auto both = Clip::from_i420(std::move(low->i420), size);
    if (!both) {
        return both.error();
    }
    auto again = look(detector, *both, count, step, options.unsure);
    if (!again) {
        return again.error();
    }
    result.seen = std::move(*again);
    return result;
}

}  // namespace adapath
