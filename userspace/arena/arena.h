// A whole run: the matrix of traces, seeds, policies and kinds of traffic, group by group, results on disk as they
// come.
#pragma once

#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/arena/cell.h"
#include "userspace/common/stop.h"

namespace adapath::arena {

struct Options {
    std::vector<std::string> traces;    // files and directories
    std::vector<double> generate_mbit;  // mean rates of generated traces
    std::vector<uint64_t> seeds = {1};
    std::vector<std::string> policies;
    std::vector<std::string> traffic = {"bulk", "video", "fairness", "regimes", "crowd"};
    unsigned seconds = 60;
    LinkSettings link;
    VideoSettings video;
    RegimeSettings regimes;
    CrowdSettings crowd;
    std::vector<double> crowd_mbit = {200};    // constant links
    unsigned busy = 0;                         // threads that compute all the while
    unsigned bulk_flows = 1;                   // bulk: so many flows of a policy share its link
    unsigned daemon_stops_s = 0;               // bulk: for so long the policies' daemons stand still
    std::vector<double> fairness_mbit = {12};  // constant links
    std::vector<std::string> fairness_traces;
    std::vector<std::string> pairs;
    double fairness_queue_ms = 0;  // 0 = as for the others
    double second_flow_after_s = 5;
    std::string out = "out/arena";
    bool fresh = false;
    std::string bin;
    std::string checkpoint = "models/cc";
    std::vector<std::string> trainer_arguments;
    std::string daemon_config;
};

struct RunSummary {
    size_t measured = 0;
    size_t there_already = 0;
    std::vector<std::string> failures;  // "bulk, trace, seed 1, bbr: why"
};

[[nodiscard]] std::string results_path(const std::string& out);
// Says on standard error how far it is. An error: nothing could begin. A stop ends it after the cells in hand were
// cleaned up; what was finished is on disk.
Result<RunSummary> run_arena(const Options& options, StopToken& stop);

}  // namespace adapath::arena
