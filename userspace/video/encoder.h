// x264 for live video: every picture in gives a frame out at once, at a bitrate that may change with every frame.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "codegen/result.h"
#include "userspace/video/clip.h"

struct x264_t;

namespace adapath::video {

struct X264Closer {
    void operator()(x264_t* x264) const;
};
using X264Handle = std::unique_ptr<x264_t, X264Closer>;

struct EncodedFrame {
    std::span<const uint8_t> bytes;  // an access unit, Annex B; valid until the next encode()
    bool key = false;
    int qp = 0;
};

class Encoder {
public:
    static Result<Encoder> open(Size size, double fps, double kbps);
    // Takes effect with the next frame.
    Status set_kbps(double kbps);
    // `key`: a key frame, whenever the next one would be due.
    Result<EncodedFrame> encode(const Picture& picture, bool key = false);

private:
    Encoder() = default;

    X264Handle x264_;
    Size size_;
    double fps_ = 0;
    double kbps_ = 0;  // what x264 was last told
    int64_t frames_ = 0;
};

}  // namespace adapath::video
