// Runs a group: the cells of one trace, seed and kind of traffic, one for each policy, all at the same time, each on a
// link of its own whose trace begins at the same moment.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/arena/cell.h"
#include "userspace/arena/policy.h"
#include "userspace/common/stop.h"

namespace adapath::arena {

struct GroupCell {
    CellInputs inputs;
    // One a flow; fairness has two.
    std::vector<Policy*> policies;
};

struct Group {
    Traffic traffic = Traffic::bulk;
    const SeededTrace* trace = nullptr;
    std::vector<GroupCell> cells;
};

struct GroupSettings {
    std::string bin;
    std::string work;  // for the programs' logs
    uint64_t tcp_buffer_bytes = 64 << 20;
    int not_sent_low = 256 * 1024;
};

struct CellOutcome {
    std::string error;  // why there are no figures; empty = there are
    Json figures = Json::object();
    Json series = Json::object();
};

// Prepares the policies, runs, and gives the outcomes in the order of the cells. `on_progress` is called some times a
// second with the time since the links began. An error: nothing could be measured at all, or the stop was requested.
// Call from the main thread: programs end with the thread that started them.
Result<std::vector<CellOutcome>> run_group(const Group& group, const GroupSettings& settings, StopToken& stop,
                                           const std::function<void(double)>& on_progress);

// The droptail queue of a link with this trace; at least two packets.
uint64_t queue_bytes_of(const Trace& trace, const LinkSettings& link);

}  // namespace adapath::arena
