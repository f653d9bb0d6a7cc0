// What adapath-server wrote down (--results), as deliveries: which picture of the cameras' loops each one is.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bench/video/pictures.h"
#include "bench/video/timeline.h"
#include "codegen/result.h"

namespace adapath::video_bench {

struct ServerResults {
    std::vector<std::vector<Delivery>> cameras;  // by number
    uint64_t incomplete = 0;                     // pictures that lacked something
    uint64_t unknown = 0;                        // decoded pictures that are none of the cameras'
    uint64_t measured = 0;                       // chunks of which both renditions came
    uint64_t bytes = 0;                          // of all chunks, as the server counts them
};

// A picture's place in the loop follows from its RTP timestamp, and where the loop begins from pictures whose pixels
// are to be had at one place only; an error where these contradict each other. The server has to have looked at them
// (--detections).
Result<ServerResults> read_server_results(const std::string& path, const std::vector<MeasuredCamera>& cameras);

}  // namespace adapath::video_bench
