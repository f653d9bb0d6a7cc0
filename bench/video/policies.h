// The selector's competitors, as snapshots: so that what is compared is the decision, in the same kernel program, and
// nothing else.
#pragma once

#include <string>

#include "codegen/codegen.h"
#include "codegen/model.h"
#include "codegen/result.h"

namespace adapath::video_bench {

// The same two outputs whatever it is asked. (1, 0): always the sub stream; (0, 1): always main, at a price of nothing.
[[nodiscard]] FloatModel constant_select(float sub_worth, float gain);

// Reducto's idea (SIGCOMM 2020): a frame's size says how much has changed. Main where the mean size of the last main
// chunk's P pictures is at least that, else sub; at a price of nothing.
[[nodiscard]] FloatModel threshold_select(double picture_bytes);

// A snapshot file's bytes. Fidelity is not judged: these models have no range.
[[nodiscard]] Result<std::string> frozen(Freezer& freezer, const FloatModel& model, const std::string& note);

}  // namespace adapath::video_bench
