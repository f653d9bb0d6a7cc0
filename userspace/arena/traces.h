// Which traces a run goes over.
#pragma once

#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/arena/cell.h"

namespace adapath::arena {

// A file, or every file of a directory.
Result<std::vector<TraceSource>> sources_at(const std::string& path);
TraceSource generated_source(double mean_mbit);
TraceSource constant_source(double mbit);

// For a recorded trace seed 1 is its own beginning, others begin at places spread over it.
Result<SeededTrace> seeded(const TraceSource& source, uint64_t seed);

Result<SeededTrace> regimes_trace(const RegimeSettings& settings);

// What nobody can beat: a packet waits for every opportunity, so all of them are used, and no packet waits for one.
struct Bound {
    uint64_t delivered_bytes = 0;  // at the far end within the time
    double delay_ms = 0;           // of every packet
};
Bound omniscient_bound(const Trace& trace, const LinkSettings& link, double seconds);

}  // namespace adapath::arena
