// Cuts a camera's byte stream into frames, whatever pieces the socket delivers it in.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "codegen/result.h"
#include "userspace/video/frame_header.h"

namespace adapath::video {

// Header and payload as they go to the wire.
std::vector<uint8_t> frame_bytes(const adp_video_header& header, std::span<const uint8_t> payload);

// Usage: read into space(), tell with filled(), then call next() until it says `more`. A payload stays valid until the
// next call of space().
class FrameReader {
public:
    enum class State : uint8_t {
        more,   // needs more bytes
        frame,  // `header` and `payload` are set
    };

    // Where the next bytes belong; never empty. Grows to the frame that is under way.
    std::span<uint8_t> space();
    void filled(size_t bytes) { end_ += bytes; }

    // An error means that the stream is malformed; nothing after it can be read.
    Result<State> next();
    [[nodiscard]] const adp_video_header& header() const { return header_; }
    [[nodiscard]] std::span<const uint8_t> payload() const { return payload_; }

    // Bytes of an unfinished record: not 0 at the stream's end means that it was cut off.
    [[nodiscard]] size_t partial_bytes() const { return end_ - begin_; }
    // The header of the unfinished frame, if it has arrived whole.
    [[nodiscard]] bool partial_header(adp_video_header& header) const;

private:
    std::vector<uint8_t> buffer_;
    size_t begin_ = 0;
    size_t end_ = 0;
    adp_video_header header_{};
    std::span<const uint8_t> payload_;
};

}  // namespace adapath::video
