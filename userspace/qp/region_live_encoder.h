// A camera's encoder that gives each chunk (a group of pictures) regions of two qualities: which, the live selector
// says; how good, the budget of the rate controller and what past chunks cost.
#pragma once

#include <memory>
#include <string>

#include "userspace/qp/program_cache.h"
#include "userspace/video/live_encoder.h"

namespace adapath {

struct RegionLiveOptions {
    std::string directory;  // adapathd's host_directory
    double threshold = 0;   // of the logits: blocks with at least this one are high
    int dilation = 0;       // and those this many blocks away
    int gap = 8;            // quantisers between the qualities
    unsigned group = 10;    // pictures a chunk
};

// For every camera of a process: programs are compiled once.
video::LiveEncoderFactory region_encoders(const RegionLiveOptions& options);

}  // namespace adapath
