// What the app cc asks of a network, taken from cc.h's constants; and the demo's deliberately bad models. No LibTorch.
#pragma once

#include <vector>

#include "codegen/model.h"

namespace adapath {

// Inputs coded as cc.h codes them, tanh hidden layers, one identity output.
[[nodiscard]] Network cc_network(const std::vector<uint32_t>& hidden = {32, 16});
// The same inputs and the same default shape, for what a policy's state is worth. Used in training only.
[[nodiscard]] Network cc_value_network(const std::vector<uint32_t>& hidden = {32, 16});

// A policy whose output is `output` whatever the input is, in the default network's shape, so that it may take the
// place of a good one without a new program. -1 starves its flow down to the floor, +1 fills every queue.
[[nodiscard]] FloatModel adversarial_cc(float output = -1.0F);

}  // namespace adapath
