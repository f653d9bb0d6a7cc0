// What an app is to aim for, as numbers in the order of the app's own enum (include/adapath/<app>.h).
#pragma once

#include <array>

#include <adapath/abi.h>

namespace adapath {

// All 0: the app's defaults.
using Objective = std::array<double, ADP_OBJECTIVES>;

}  // namespace adapath
