// DDS's two passes (Du et al., SIGCOMM 2020), the competitor of qp that needs no selector: the chunk goes to the server
// in low quality; the server's vision network says where it is not sure; these regions, and nothing else, go again in
// high quality. It costs the bytes of both, and a round trip (which is not counted here).
//
// Kinder to DDS than the paper: the regions of the second pass are pasted into the pictures of the first, where DDS
// looks at regions on black and merges boxes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "codegen/result.h"
#include "models/detector/box.h"
#include "models/detector/detector.h"
#include "userspace/video/block_mask.h"
#include "userspace/video/clip.h"
#include "userspace/video/region_encoder.h"

namespace adapath {

struct DdsOptions {
    double sure = 0.5;     // a box with at least this score is taken as it is
    double unsure = 0.1;   // below this it is none
    double overlap = 0.3;  // a doubtful box that overlaps so far with a sure one (IoU) asks for nothing
    double largest = 0.4;  // of the picture's area; larger regions are not asked for
    int dilation = 1;      // macroblocks around each region
};

// What the server would ask for after the first pass.
[[nodiscard]] std::vector<Box> doubtful(std::span<const Box> boxes, video::Size size, const DdsOptions& options = {});

// The macroblocks that a box touches are high.
void cover(video::BlockMask& mask, const Box& box);

struct DdsResult {
    uint64_t bytes = 0;                  // of both passes
    double share = 0;                    // of the macroblocks that went twice
    std::vector<std::vector<Box>> seen;  // in each picture that was looked at
};
// Pictures `first` to `first + count - 1`, every `step`-th looked at. quality.low is the first pass's, .high the
// second's.
Result<DdsResult> dds_chunk(Detector& detector, const video::Clip& clip, uint64_t first, uint64_t count, uint64_t step,
                            const video::QualityPair& quality, const DdsOptions& options = {});

}  // namespace adapath
