// Cuts a camera's byte stream into frames. The payload is handed out in place, so each byte is copied once, by recv().
#include "userspace/video/framing.h"

#include <cstring>

#include <fmt/format.h>

namespace adapath::video {

namespace {

constexpr size_t read_bytes = 64 * 1024;

adp_video_wire wire_at(const uint8_t* bytes) {
    adp_video_wire wire;
    std::memcpy(&wire, bytes, sizeof wire);
    return wire;
}

Error malformed(adp_video_error error, const adp_video_wire& wire) {
    switch (error) {
        case ADP_VIDEO_BAD_MAGIC:
            return Error{
                fmt::format("malformed header: it begins with {:#010x} instead of {:#010x}; the peer is not "
                            "adapath-video-send, or the stream lost its place",
                            adp_video_get(wire.magic, 4), ADP_VIDEO_MAGIC)};
        case ADP_VIDEO_BAD_VERSION:
            return Error{fmt::format("header version {} is not {}: use sender and receiver of the same release",
                                     wire.version, ADP_VIDEO_VERSION)};
        case ADP_VIDEO_BAD_FLAGS:
            return Error{fmt::format("malformed header: unknown flags {:#04x}", wire.flags)};
        default:
            return Error{
                fmt::format("malformed header: a payload of {} bytes with flags {:#04x} (a frame has 1 to {}, the end "
                            "record none)",
                            adp_video_get(wire.payload, 4), wire.flags, ADP_VIDEO_PAYLOAD_MAX)};
    }
}

}  // namespace

std::vector<uint8_t> frame_bytes(const adp_video_header& header, std::span<const uint8_t> payload) {
    adp_video_wire wire;
    adp_video_write(&wire, &header);
    std::vector<uint8_t> bytes(sizeof wire + payload.size());
    std::memcpy(bytes.data(), &wire, sizeof wire);
    if (!payload.empty()) {
        std::memcpy(bytes.data() + sizeof wire, payload.data(), payload.size());
    }
    return bytes;
}

std::span<uint8_t> FrameReader::space() {
    if (begin_ > 0) {
        // What is left is part of one record, so the move is short and happens once a read.
        std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
    }
    payload_ = {};
    size_t needed = end_ + read_bytes;
    if (buffer_.size() < needed) {
        buffer_.resize(needed);
    }
    return {buffer_.data() + end_, read_bytes};
}

Result<FrameReader::State> FrameReader::next() {
    if (end_ - begin_ < ADP_VIDEO_HEADER_BYTES) {
        return State::more;
    }
    adp_video_wire wire = wire_at(buffer_.data() + begin_);
    adp_video_header header{};
    if (adp_video_error error = adp_video_read(&header, &wire); error != ADP_VIDEO_OK) {
        return malformed(error, wire);
    }
    if (end_ - begin_ - ADP_VIDEO_HEADER_BYTES < header.payload) {
        return State::more;
    }
    header_ = header;
    payload_ = {buffer_.data() + begin_ + ADP_VIDEO_HEADER_BYTES, header.payload};
    begin_ += ADP_VIDEO_HEADER_BYTES + header.payload;
    return State::frame;
}

bool FrameReader::partial_header(adp_video_header& header) const {
    if (partial_bytes() < ADP_VIDEO_HEADER_BYTES) {
        return false;
    }
    adp_video_wire wire = wire_at(buffer_.data() + begin_);
    return adp_video_read(&header, &wire) == ADP_VIDEO_OK;
}

}  // namespace adapath::video
