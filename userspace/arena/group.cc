// See group.h.
#include "userspace/arena/group.h"

#include <algorithm>
#include <map>

#include "userspace/arena/machine.h"
#include "userspace/arena/running.h"

namespace adapath::arena {

uint64_t queue_bytes_of(const Trace& trace, const LinkSettings& link) {
    constexpr uint64_t two_packets = 3000;
    return std::max(two_packets, static_cast<uint64_t>(trace.mean_bytes_per_s() * link.queue_ms / 1000));
}

Result<std::vector<CellOutcome>> run_group(const Group& group, const GroupSettings& settings, StopToken& stop,
                                           const std::function<void(double)>& on_progress) {
    std::map<Policy*, std::string> errors;  // of each policy, once
    std::vector<CellOutcome> outcomes(group.cells.size());
    Group ready{.traffic = group.traffic, .trace = group.trace, .cells = {}};
    std::vector<size_t> places;
    for (size_t i = 0; i < group.cells.size(); i++) {
        for (Policy* policy : group.cells[i].policies) {
            if (!errors.contains(policy)) {
                const Status prepared = policy->prepare();
                errors[policy] = prepared ? "" : prepared.error().message;
            }
            if (outcomes[i].error.empty()) {
                outcomes[i].error = errors[policy];
            }
        }
        if (stop.requested()) {
            return Error{"interrupted"};
        }
        if (outcomes[i].error.empty()) {
            ready.cells.push_back(group.cells[i]);
            places.push_back(i);
        }
    }
    if (ready.cells.empty()) {
        return outcomes;
    }
    // From here on: starting a policy is no part of what is measured.
    const BusyWorkers others(group.cells.front().inputs.busy);
    auto measured = group.traffic == Traffic::video ? run_video(ready, settings, stop, on_progress)
                                                    : run_flows(ready, settings, stop, on_progress);
    if (!measured) {
        return measured.error();
    }
    for (size_t i = 0; i < places.size(); i++) {
        outcomes[places[i]] = std::move((*measured)[i]);
    }
    return outcomes;
}

}  // namespace adapath::arena
