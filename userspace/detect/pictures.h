// Pictures for the server's vision network: out of any file or decoded frame that libav knows, into PNG, and what
// H.264 makes of them at one quality.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "models/detector/image.h"
#include "userspace/video/clip.h"

struct AVFrame;

namespace adapath {

// Whatever pixel format libav decoded to, as RGB; its colour space and range are heeded (unknown: BT.601, limited).
Result<Image> to_image(const AVFrame& frame);
// YUV 4:2:0 without padding, BT.601, limited range.
Result<Image> to_image(const video::Picture& picture, video::Size size);

// Frame `first` of a video and up to `count - 1` more, or a photo (frame 0). Fewer than `count` where the file ends;
// none is an error.
Result<std::vector<Image>> read_pictures(const std::string& path, uint64_t first, uint64_t count);

Result<Image> scaled(const Image& image, video::Size size);

Status write_png(const std::string& path, const Image& image);

// One group of pictures through x264 and back: an IDR picture and P pictures at a constant quantiser, then decoded.
struct Requantised {
    std::vector<Image> pictures;  // as many as went in
    uint64_t bytes = 0;           // of all of them, encoded
};
// Width and height even, at least 16; `qp` 0 to 51. YUV 4:2:0 in between costs some colour, as every camera's does.
Result<Requantised> requantise(std::span<const Image> pictures, int qp);

}  // namespace adapath
