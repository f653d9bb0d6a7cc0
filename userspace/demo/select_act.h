// The demo's second part: the app select on cameras of its own, after the congestion control's. The whole video path
// (userspace/stage), with the trainer learning from what the server's vision network says.
#pragma once

#include <string>

#include "codegen/result.h"
#include "userspace/common/stop.h"
#include "userspace/demo/recording.h"

namespace adapath::demo {

struct SelectActOptions {
    double duration_s = 30;
    uint32_t cameras = 4;
    std::string clip;
    double mean_rate = 1.2;  // Mbit/s of the generated uplink: too little for every main stream
    double delay_ms = 20;
    double queue_ms = 500;
    uint64_t seed = 1;
    std::string congestion_control = "cubic";
    std::string out;  // directory; what an earlier run left in it goes
    std::string bin;
    std::string checkpoint = "models/select";
    std::string certificates = "scripts/certificates.sh";
    double patience = 1;
};

// What went wrong is in the recording.
SelectRecording run_select_act(const SelectActOptions& options, StopToken& stop);

}  // namespace adapath::demo
