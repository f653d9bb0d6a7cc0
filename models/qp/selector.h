// The quality selector of the app qp: a small network that says, before a chunk is encoded, how much each of its
// macroblocks deserves the high quality. Its inputs are include/adapath/qp.h's planes. No LibTorch here.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codegen/image.h"
#include "codegen/result.h"
#include "models/detector/block_map.h"

namespace adapath {

// About 5,000 parameters; one logit a macroblock.
[[nodiscard]] ImageNetwork selector_network();

// Luma of a picture, rows `stride` bytes apart.
struct LumaPlane {
    const uint8_t* data = nullptr;
    uint32_t width = 0;
    uint32_t height = 0;
    uint32_t stride = 0;
};

// What the network sees of a chunk that begins with `first`. `before`, of the same size: the picture before it; with a
// null pointer there was none.
[[nodiscard]] ImageCodes selector_codes(const LumaPlane& first, const LumaPlane& before);

// A checkpoint: JSON, a few dozen kilobytes, so that a change of it can be looked at.
Status write_selector(const ImageFloatModel& model, const std::string& path);
// Checked as a whole: layers, numbers and their counts; an error names the file.
Result<ImageFloatModel> read_selector(const std::string& path);

// The logits for the macroblocks of a picture of that size, in float: what fidelity is measured against, and slow
// (docs/qp.md).
Result<BlockMap> selector_logits(const ImageFloatModel& model, const ImageCodes& codes, int width, int height);

}  // namespace adapath
