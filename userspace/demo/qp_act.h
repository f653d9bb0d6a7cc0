// The demo's third part: the app qp in an encoder's process under adapathd's switch, and its quality map over a
// picture.
#pragma once

#include <string>

#include "userspace/common/stop.h"
#include "userspace/demo/recording.h"

namespace adapath::demo {

struct QpActOptions {
    double duration_s = 12;
    std::string clip;
    std::string selector = "models/qp/selector.json";
    std::string size = "384x288";
    std::string out;  // directory; what an earlier run left in it goes
    std::string bin;
    double patience = 1;
};

// What went wrong is in the recording.
QpRecording run_qp_act(const QpActOptions& options, StopToken& stop);

// The report's part about it; empty where there is none.
[[nodiscard]] std::string qp_section(const QpRecording& recording);

}  // namespace adapath::demo
