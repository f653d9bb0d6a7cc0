// What the quality selector learns: which macroblocks of a chunk matter to the server's vision network.
#pragma once

#include <span>
#include <vector>

#include "codegen/result.h"
#include "models/detector/block_map.h"
#include "models/detector/detector.h"

namespace adapath {

// The chunk's accuracy gradients (block_map.h), each picture's times its number of objects: accuracy is a mean over
// objects, but F1 of a camera counts them, so a block is worth as much beside ten objects as alone. Block by block the
// mean over the pictures that are looked at: every `every`-th, the first among them.
Result<BlockMap> object_gradients(Detector& detector, std::span<const Image> low, std::span<const Image> high,
                                  size_t every);

// Each block's mean over itself (weight 4), its side neighbours (2) and its corner neighbours (1). One block's gradient
// is noisy, and an object's surroundings matter as context.
[[nodiscard]] BlockMap smoothed(const BlockMap& map);

// The value that this share of all maps' blocks reaches.
[[nodiscard]] float value_at_share(std::span<const BlockMap> maps, double share);

// How well blocks of one map over its threshold are those of another over its own.
struct Agreement {
    uint64_t both = 0;
    uint64_t only_truth = 0;
    uint64_t only_guess = 0;

    Agreement& operator+=(const Agreement& other);
    [[nodiscard]] double precision() const;  // of the guess's blocks, right; 1 if it has none
    [[nodiscard]] double recall() const;     // of the truth's blocks, found; 1 if it has none
};
// Maps of the same size.
[[nodiscard]] Agreement agreement(const BlockMap& truth, float truth_threshold, const BlockMap& guess,
                                  float guess_threshold);

}  // namespace adapath
