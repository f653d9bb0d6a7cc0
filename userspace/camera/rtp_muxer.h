// Access units to RTP packets (RFC 6184), by libav's muxer: parameter sets together in a STAP-A, large NAL units as
// FU-A. Sequence numbers, timestamps and SSRC are the caller's, so that the same pictures give the same packets; libav
// starts them at random.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "codegen/result.h"
#include "userspace/video/clip.h"

namespace adapath::camera {

struct RtpOptions {
    uint8_t payload_type = 96;
    uint32_t ssrc = 1;
    uint16_t sequence = 0;       // of the first packet
    uint32_t timestamp = 0;      // of the first picture
    size_t packet_bytes = 1400;  // at most, of a UDP packet's payload
};

class RtpMuxer {
public:
    static Result<RtpMuxer> open(const RtpOptions& options, video::Size size);
    RtpMuxer(RtpMuxer&& other) noexcept;
    RtpMuxer& operator=(RtpMuxer&& other) noexcept;
    ~RtpMuxer();

    // The picture's packets, valid until the next call. `ticks`: its time since the first picture's, 1/90000 s; never
    // less than the picture's before it.
    Result<std::span<const std::vector<uint8_t>>> packets(std::span<const uint8_t> access_unit, int64_t ticks);

private:
    struct State;
    explicit RtpMuxer(std::unique_ptr<State> state);

    std::unique_ptr<State> state_;
};

}  // namespace adapath::camera
