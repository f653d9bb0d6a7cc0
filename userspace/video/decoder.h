// libav's H.264 decoder without delay: an access unit in, its picture out.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/video/av.h"

namespace adapath::video {

class Decoder {
public:
    static Result<Decoder> open();

    // The picture, or an error when the access unit did not give a sound one. Valid until the next call.
    Result<const AVFrame*> decode(std::span<const uint8_t> access_unit, uint64_t frame);

private:
    Decoder() = default;

    AvCodec codec_;
    AvPacket packet_;
    AvFrame frame_;
    std::vector<uint8_t> padded_;  // libav reads a little beyond the end
};

// libav's messages go to spdlog's debug level instead of stderr.
void quiet_libav();

}  // namespace adapath::video
