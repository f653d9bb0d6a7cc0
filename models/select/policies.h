// What decides in select's simulator: a network, and everything that it is held against.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "codegen/model.h"
#include "models/select/simulator.h"

namespace adapath {

// A snapshot's float model.
[[nodiscard]] SelectPolicy network_policy(const FloatModel& model);
// Knows what each chunk is worth.
[[nodiscard]] SelectPolicy oracle_policy();
// Each camera's rendition, for ever: ADP_SELECT_NONE, _ONLY_SUB or _ONLY_MAIN.
[[nodiscard]] SelectPolicy fixed_policy(std::vector<uint32_t> renditions);
// Reducto's idea, by what the datapath knows: main while the pictures of the last chunk were larger than usual, in
// codes of ADP_SELECT_MOTION of the sub stream; else sub.
[[nodiscard]] SelectPolicy threshold_policy(uint32_t code);

struct Baseline {
    std::string name;
    std::string how;  // with what was found offline
    SelectScore score;
};
// Always-sub, always-main, the best fixed mix and the best threshold for this very scenario, each with the relay's
// queue of the scenario and with shorter ones (what is best of 1, 0.5 and 0.25 s counts): they have no price to keep
// the queue short.
[[nodiscard]] std::vector<Baseline> baselines(const SelectScenario& scenario);

}  // namespace adapath
