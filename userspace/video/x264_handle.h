// What every encoder of ours asks of x264 alike, and its handle. Only for files that use libx264 themselves.
#pragma once

#include <cstdint>
#include <string>

#include <x264.h>

#include "codegen/result.h"
#include "userspace/video/clip.h"
#include "userspace/video/encoder.h"

namespace adapath::video {

// A preset with tuning zerolatency: one thread, no scene cuts, Annex B with parameter sets before each IDR picture.
Result<x264_param_t> x264_live_parameters(Size size, double fps, const std::string& preset);

// What comes out of one picture that goes in. `units` are valid until the next one.
struct X264Output {
    x264_nal_t* units = nullptr;
    int count = 0;
    int bytes = 0;
    bool key = false;
    int qp = 0;
};
// The picture as x264 takes it; it only reads the planes.
x264_picture_t x264_input(const Picture& picture, Size size, int64_t number);
// Every picture comes at once: without delay is how x264 was opened.
Result<X264Output> x264_encode(x264_t* x264, x264_picture_t& in);

}  // namespace adapath::video
