// Training of the quality selector in LibTorch; what goes in and comes out has none.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "codegen/image.h"
#include "models/detector/block_map.h"

namespace adapath {

struct SelectorSample {
    ImageCodes codes;
    BlockMap truth;  // 1: the block is worth the high quality, 0: it is not
};

struct SelectorTraining {
    uint64_t seed = 1;
    uint32_t steps = 3000;  // batches
    uint32_t batch = 8;     // chunks of one picture size each
    double rate = 3e-3;     // Adam's, falling to a hundredth as a cosine
    int threads = 2;
    // Called now and then with the step and the mean loss since the last call; false stops training there.
    std::function<bool(uint32_t step, double loss)> progress;
};

// Of selector_network(), from nothing; the same seed, samples and threads give the same numbers. Chunks are mirrored
// and their brightness changed at random. Samples may have different sizes; at least one.
[[nodiscard]] ImageFloatModel train_selector(const std::vector<SelectorSample>& samples,
                                             const SelectorTraining& training);

// The network as LibTorch computes it: the peer that run_float() is tested against.
[[nodiscard]] std::vector<float> selector_torch(const ImageFloatModel& model, const ImageCodes& codes);

}  // namespace adapath
