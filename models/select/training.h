// Supervised training of select's network; what goes in and comes out has no LibTorch.
#pragma once

#include <adapath/select.h>

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "codegen/model.h"

namespace adapath {

using SelectCodes = std::array<uint8_t, ADP_SELECT_INPUTS>;

// A decision's input, and what both renditions of the chunk then turned out to be worth.
struct SelectExample {
    SelectCodes codes = {};
    float sub = 0;  // accuracy, 0..1
    float main = 0;
};

struct SelectTraining {
    uint64_t seed = 1;
    uint32_t epochs = 30;
    uint32_t batch = 1024;
    double rate = 3e-3;   // Adam's, falling to a hundredth as a cosine
    double decay = 1e-4;  // of weights
    int threads = 1;
    std::function<bool(uint32_t epoch, double loss)> progress{};  // false: stop there
};

// Goes on from `start`'s weights where it has any. The loss is the squared error of both worths, as the datapath makes
// them of the outputs (without its clamps, which have no gradient).
[[nodiscard]] FloatModel train_select(const FloatModel& start, std::span<const SelectExample> examples,
                                      const SelectTraining& training);

struct SelectError {
    double sub = 0;  // mean absolute error of the worth, after the datapath's clamps
    double main = 0;
    double gain = 0;  // of the difference, which is what a main stream's bytes are paid for
};
[[nodiscard]] SelectError select_error(const FloatModel& model, std::span<const SelectExample> examples);

}  // namespace adapath
