// Models of the apps cc and select and inputs for them, and snapshots made of both. Seeded: the same numbers in every
// run.
#pragma once

#include <cstdint>
#include <vector>

#include "codegen/codegen.h"

namespace adapath::testing {

// Random weights, leaning upwards: a policy that leans down ends at the least rate, where decisions are few and tests
// are slow.
FloatModel random_cc_model(const std::vector<uint32_t>& hidden, Activation activation, uint64_t seed);
// Uniform: corners that no flow brings.
std::vector<InputCodes> random_cc_codes(size_t count, uint64_t seed);
// As flows bring them (tests/codegen/random_models.h).
std::vector<InputCodes> flow_like_codes(size_t count, uint64_t seed);
// Of the app select; with random weights its choices vary.
FloatModel random_select_model(const std::vector<uint32_t>& hidden, uint64_t seed);
std::vector<InputCodes> random_select_codes(size_t count, uint64_t seed);
// Frozen without a limit on fidelity; one freezer for the whole process, so that each network is compiled once.
Result<Snapshot> freeze_for_test(const FloatModel& model, std::span<const InputCodes> calibration,
                                 const FreezeOptions& options = {});

}  // namespace adapath::testing
