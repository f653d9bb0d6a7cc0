// Where an image network's parameters lie in a block: for what packs them, and for the code that is emitted to read
// them.
#pragma once

#include <cstddef>
#include <vector>

#include "codegen/image.h"

namespace adapath {

// Bytes from the block's start: two shifts, multipliers, biases, weights.
struct ImageLayerPlace {
    size_t shifts = 0;
    size_t mult = 0;
    size_t bias = 0;
    size_t weights = 0;
    size_t end = 0;
};
std::vector<ImageLayerPlace> image_places(const ImageNetwork& network);

}  // namespace adapath
