// Scenarios of select's simulator: drawn at random to train in, and the ones that are judged by.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "models/select/simulator.h"
#include "models/simulator.h"

namespace adapath {

// 1 to 12 cameras of the views that are not held out, their late chunks, with bytes, frame rates, phases, reports'
// delays and losses at random, on a generated uplink that their main streams would fill from a half to eight times.
[[nodiscard]] SelectScenario random_select_scenario(const SelectDataset& dataset, Random& random, double seconds = 60);

// `cameras` cameras on early chunks, held-out views first; their bytes scaled so that their main streams together ask
// for `demand` times what the trace offers on average.
[[nodiscard]] SelectScenario judged_select_scenario(const SelectDataset& dataset, std::shared_ptr<const Trace> trace,
                                                    const std::string& name, uint32_t cameras, double demand = 2);

// Cameras that nobody measured, of plausible sizes and worths: for inputs before there are any, and for tests.
[[nodiscard]] SelectDataset made_up_cameras(uint64_t seed = 1);

struct NamedTrace {
    std::string name;
    std::shared_ptr<const Trace> trace;
};
// The mahimahi files of a folder (none where there is no folder) and three generated ones (mean 2, 6 and 12 Mbit/s).
Result<std::vector<NamedTrace>> judged_traces(const std::string& folder);

}  // namespace adapath
