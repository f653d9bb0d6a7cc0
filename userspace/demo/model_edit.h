// Models that the demo forces on the kernel, made from the one that is deciding, so that the video is not the worse for
// it.
#pragma once

#include <cstdint>
#include <vector>

#include "codegen/model.h"
#include "codegen/result.h"

namespace adapath::demo {

// The same network with every weight and bias multiplied by 1 + `strength` times a Gaussian: new parameters, and nearly
// the same policy.
[[nodiscard]] FloatModel perturb(FloatModel model, double strength, uint64_t seed);

// Another network that computes the same function: hidden layers of the given widths, where the neurons that are more
// than before repeat the old ones and share their outgoing weights (as in Net2Net's wider operation).
[[nodiscard]] Result<FloatModel> widen(const FloatModel& model, const std::vector<uint32_t>& hidden);

}  // namespace adapath::demo
