// What a server could know of its cameras, second by second: which pictures came in time, in which rendition, and how
// accurate the vision network's boxes in them are. Pure: no sockets, no detector.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "codegen/result.h"
#include "models/detector/accuracy.h"
#include "models/detector/box.h"

namespace adapath::video_bench {

// One camera, which plays a loop of pictures in two renditions.
struct CameraPictures {
    double fps = 10;
    // Boxes by the picture's place in the loop, both in the main picture's pixels. Main's are the truth.
    std::vector<std::vector<Box>> main;
    std::vector<std::vector<Box>> sub;

    [[nodiscard]] size_t loop() const { return main.size(); }
};

// A picture that was decoded at the server.
struct Delivery {
    uint32_t rendition = 0;    // enum adp_select_rendition
    uint32_t place = 0;        // in the loop
    uint64_t captured_us = 0;  // when its first packet came to the gateway
    uint64_t received_us = 0;  // when the server had it; the same clock
};

struct ScoreOptions {
    uint64_t begin_us = 0;         // pictures captured from here ...
    uint64_t end_us = 0;           // ... to here count
    uint64_t late_us = 1'000'000;  // later than that after its capture a picture is worth nothing
};

struct CameraScore {
    MeanF1 f1;              // over all pictures; in one that did not come in time everything is missed
    Matches matches;        // the same pictures, added up
    uint64_t pictures = 0;  // that the camera took
    uint64_t by_main = 0;   // of them, seen in time in that rendition (main where both came)
    uint64_t by_sub = 0;
    uint64_t late = 0;            // came, but not in time
    std::vector<MeanF1> seconds;  // since begin_us
};

// `deliveries` in any order. A place beyond the loop, or a sub picture without a main one, is an error.
[[nodiscard]] Result<CameraScore> score(const CameraPictures& camera, std::span<const Delivery> deliveries,
                                        const ScoreOptions& options);

// Mean over the cameras: each weighs alike. That of their pictures' F1, and that of the F1 of their sums, which makes
// less of pictures that never came.
[[nodiscard]] double mean_f1(std::span<const CameraScore> cameras);
[[nodiscard]] double mean_pooled_f1(std::span<const CameraScore> cameras);

}  // namespace adapath::video_bench
