// How a camera's stream is cut on its connection: our own framing (frame_header.h, for adapath-video-recv), or the
// relay's records (userspace/camera/record_stream.h, for adapath-server).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "codegen/result.h"
#include "userspace/video/clip.h"
#include "userspace/video/frame_header.h"

namespace adapath::video {

class StreamFormat {
public:
    virtual ~StreamFormat() = default;
    // Before the first frame.
    [[nodiscard]] virtual std::vector<uint8_t> hello() const { return {}; }
    // A frame; of the header, `payload` and `flags` are set.
    virtual Result<std::vector<uint8_t>> frame(const adp_video_header& header,
                                               std::span<const uint8_t> access_unit) = 0;
    // The end of the stream.
    [[nodiscard]] virtual std::vector<uint8_t> end(const adp_video_header& header) const = 0;
};

using StreamFormatFactory = std::function<Result<std::unique_ptr<StreamFormat>>(uint16_t camera, Size size)>;
// Our own framing.
Result<std::unique_ptr<StreamFormat>> open_framing(uint16_t camera, Size size);

}  // namespace adapath::video
