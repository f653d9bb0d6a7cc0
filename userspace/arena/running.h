// A cell while it runs, and what is common to all kinds of traffic.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "userspace/arena/group.h"
#include "userspace/arena/link_recorder.h"
#include "userspace/arena/reward_recorder.h"
#include "userspace/harness/child.h"
#include "userspace/linkem/tcp_crowd.h"
#include "userspace/linkem/tcp_flow.h"
#include "userspace/linkem/uplink.h"

namespace adapath::arena {

struct Running {
    const GroupCell* cell = nullptr;
    std::unique_ptr<LinkRecorder> recorder;
    std::unique_ptr<Uplink> uplink;
    // After the link, so that they end before it.
    std::vector<std::unique_ptr<TcpFlow>> flows;
    std::unique_ptr<TcpCrowd> crowd;
    std::unique_ptr<Child> receiver;
    std::unique_ptr<Child> sender;
    std::vector<PolicyCost> before;           // of each policy
    std::unique_ptr<RewardRecorder> rewards;  // regimes
    std::string error;                        // the first; empty = sound so far

    Running() = default;
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;
    ~Running();
    void fail(const Error& reason);
};
using RunningCells = std::vector<std::unique_ptr<Running>>;

// Links made and waiting, costs noted. `seconds`: how many of the link's are recorded.
RunningCells set_up(const Group& group, const GroupSettings& settings, size_t seconds);
void start_links(const RunningCells& cells);
void check_policies(const RunningCells& cells);
// Adds "cost", what the cell's policy used since set_up(), where it has a cost and one policy only.
void add_cost(Running& running, Json& figures);

Result<std::vector<CellOutcome>> run_flows(const Group& group, const GroupSettings& settings, StopToken& stop,
                                           const std::function<void(double)>& on_progress);
Result<std::vector<CellOutcome>> run_video(const Group& group, const GroupSettings& settings, StopToken& stop,
                                           const std::function<void(double)>& on_progress);

}  // namespace adapath::arena
