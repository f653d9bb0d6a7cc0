// Holds every program that adapath.ko may run a snapshot with to the reference interpreter. How a program is run is the
// caller's, so that the check can be tested without a kernel.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "codegen/codegen.h"
#include "codegen/result.h"

namespace adapath::kmod {

// Runs all inputs by one implementation (enum adp_implementation): the outputs of the first, then of the second ...
using RunProgram =
    std::function<Result<std::vector<int32_t>>(uint32_t implementation, std::span<const InputCodes> inputs)>;

// The error names the implementation, both outputs and the input. `chosen` is what ADP_RUN_CHOSEN stands for here.
Status check_programs(const QuantModel& model, std::span<const InputCodes> checks, uint32_t chosen,
                      std::span<const uint32_t> others, const RunProgram& run);

}  // namespace adapath::kmod
