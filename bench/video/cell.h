// Runs a group of the experiment `select`: the same cameras on the same link, once for each policy, all at the same
// time, each on a stage of its own.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "bench/video/pictures.h"
#include "codegen/result.h"
#include "codegen/trace/trace.h"
#include "userspace/common/stop.h"
#include "userspace/stage/video_stage.h"

namespace adapath::video_bench {

using Json = nlohmann::ordered_json;

struct SelectCell {
    std::string policy;
    Json inputs;              // for the result
    VideoStageOptions stage;  // all but the link's recording
    // Every so many seconds another snapshot is installed and switched to, of the same network with weights that differ
    // a little; 0: never. What is proved is that nothing is lost or torn by it.
    double switch_every_s = 0;
};

struct SelectGroup {
    const Trace* trace = nullptr;
    std::span<const MeasuredCamera> cameras;
    double warm_up_s = 10;  // before anything counts: the kernel has to have seen a chunk of everything
    double seconds = 60;
    double late_s = 1;
    std::vector<SelectCell> cells;
};

struct CellOutcome {
    std::string error;  // why there are no figures; empty = there are
    Json figures = Json::object();
    Json series = Json::object();
};

// In the order of the cells. An error: interrupted. Call from the main thread: programs end with the thread that
// started them.
Result<std::vector<CellOutcome>> run_select_group(const SelectGroup& group, StopToken& stop,
                                                  const std::function<void(double, double)>& on_progress);

}  // namespace adapath::video_bench
