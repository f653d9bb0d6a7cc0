// See group.h.
#include "userspace/arena/group.h"

#include <algorithm>

#include "userspace/arena/running.h"

namespace adapath::arena {

uint64_t queue_bytes_of(const Trace& trace, const LinkSettings& link) {
    constexpr uint64_t two_packets = 3000;
    return std::max(two_packets, static_cast<uint64_t>(trace.mean_bytes_per_s() * link.queue_ms / 1000));
}

Result<std::vector<CellOutcome>> run_group(const Group& group, const GroupSettings& settings, StopToken& stop,
                                           const std::function<void(double)>& on_progress) {
    for (const GroupCell& cell : group.cells) {
        for (Policy* policy : cell.policies) {
            if (Status ready = policy->prepare(); !ready) {
                return ready.error();
            }
        }
    }
    return group.traffic == Traffic::video ? run_video(group, settings, stop, on_progress)
                                           : run_flows(group, settings, stop, on_progress);
}

}  // namespace adapath::arena
