// The pictures that the experiment's cameras play, and what the vision network finds in each rendition of each: worked
// out once, before anything runs, so that a slow machine can play them in real time. The same pictures come to the
// server as these, bit for bit (adapath-camera encodes the same way each time, and TCP loses nothing).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <adapath/select.h>

#include "bench/video/timeline.h"
#include "codegen/result.h"
#include "models/detector/detector.h"
#include "userspace/camera/encoded.h"
#include "userspace/camera/view.h"
#include "userspace/server/detections.h"
#include "userspace/video/clip.h"

namespace adapath::video_bench {

struct MeasuredCamera {
    CameraPictures pictures;
    // By rendition, then by place in the loop.
    std::array<std::vector<std::string>, ADP_SELECT_RENDITIONS> keys;  // PictureKey::text()
    std::array<std::vector<uint32_t>, ADP_SELECT_RENDITIONS> bytes;

    // Mean, bytes/s, without packet headers.
    [[nodiscard]] double rate(uint32_t rendition) const;
};

struct MeasureOptions {
    camera::LayoutOptions layout;
    camera::EncodingOptions encoding;
};

// `progress`: pictures looked at, of all; false stops with an error.
Result<std::vector<MeasuredCamera>> measure_cameras(const std::vector<video::Clip>& clips,
                                                    const MeasureOptions& options, Detector& detector,
                                                    Detections& detections,
                                                    const std::function<bool(uint64_t, uint64_t)>& progress);

// The arguments that make adapath-camera play exactly these.
[[nodiscard]] std::vector<std::string> camera_arguments(const std::vector<std::string>& clips,
                                                        const MeasureOptions& options);

}  // namespace adapath::video_bench
