// What the app select asks of a network, taken from select.h's constants. No LibTorch.
#pragma once

#include <vector>

#include "codegen/model.h"

namespace adapath {

// Inputs coded as select.h codes them, tanh hidden layers, two identity outputs: worth of the sub stream, gain of main.
[[nodiscard]] Network select_network(const std::vector<uint32_t>& hidden = {32, 16});

}  // namespace adapath
