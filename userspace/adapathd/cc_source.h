// Simulated flows of the app `cc` for the local backend: models/simulator.h over a generated LTE-like uplink, in real
// time.
#pragma once

#include <memory>

#include "codegen/result.h"
#include "userspace/adapathd/local_backend.h"

namespace adapath {

struct CcSourceOptions {
    uint32_t flows = 4;
    double mean_mbit = 8;
    uint64_t seed = 1;
    double rtt_ms = 40;
    double queue_ms = 500;
    uint32_t speed = 1;  // simulated seconds per real one
};
Result<std::unique_ptr<DecisionSource>> make_cc_source(const CcSourceOptions& options);

}  // namespace adapath
