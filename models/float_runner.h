// Runs a float model many thousand times a second without LibTorch: simulations, evaluations, the demo's bad snapshot.
// Input codes are folded into the first layer, so a run is a few small matrix products over contiguous floats.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "codegen/model.h"

namespace adapath {

class FloatRunner {
public:
    explicit FloatRunner(const FloatModel& model);

    // The first output for input_count() codes, in real units.
    float run(const uint8_t* codes);
    // The same in Q16 as a snapshot would give it, saturated to 32 bits.
    int32_t run_q16(const uint8_t* codes);
    // All outputs, in real units; valid until the next call.
    std::span<const float> run_all(const uint8_t* codes);

private:
    struct Layer {
        uint32_t inputs;
        uint32_t outputs;
        Activation activation;
        std::vector<float> weights;  // [inputs][outputs]: the inner loop runs over outputs and vectorises
        std::vector<float> biases;
    };
    std::vector<Layer> layers_;
    std::vector<float> a_;
    std::vector<float> b_;
};

}  // namespace adapath
