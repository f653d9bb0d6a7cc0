// The main job from beginning to end: two namespaces with the link emulator between them, the daemon, the trainer, live
// video, and the scenario of switches over it.
#pragma once

#include <cstdint>
#include <string>

#include "codegen/result.h"
#include "userspace/common/stop.h"
#include "userspace/demo/recording.h"

namespace adapath::demo {

struct Options {
    double duration_s = 60;
    std::string trace;  // mahimahi file; empty = generated
    std::string clip;
    uint32_t cameras = 4;
    std::string backend = "bpf";
    std::string size;  // of the video, WIDTHxHEIGHT; empty = the clip's
    double fps = 25;
    unsigned switch_rate = 20;  // forced parameter switches a second
    double patience = 1;        // factor on all waits for the other programs
    uint64_t seed = 0;          // 0 = by chance
    double mean_rate = 8;       // Mbit/s of the generated trace
    double delay_ms = 20;
    double queue_ms = 200;
    std::string out = "out/demo";
    std::string bin;  // directory of the programs
    std::string checkpoint = "models/cc";
    std::string qp_selector = "models/qp/selector.json";
    double qp_s = 12;      // of the part about the app qp; 0: none
    double select_s = 30;  // of the part about the app select, with backend bpf; 0: none
    std::string select_checkpoint = "models/select";
    std::string certificates = "scripts/certificates.sh";
    bool verbose = false;
};

// Runs it and returns what was seen. What went wrong is in the recording; only what kept the demo from starting at all
// is an error. Call from the main thread: the programs end with the thread that started them.
Result<Recording> run_demo(const Options& options, StopToken& stop);

}  // namespace adapath::demo
