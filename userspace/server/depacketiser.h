// RTP packets of one rendition (RFC 3550, RFC 6184: single NAL units, STAP-A, FU-A) put together to access units that a
// decoder takes. A picture of which anything is missing is dropped and counted, and so is all that depends on it, up to
// the next IDR picture: what comes out can be decoded.
//
// Packets come in the order in which the gateway received them (the way here is TCP), but some may have been lost
// before, and the gateway leaves out whole chunks on purpose. A gap in the sequence just before a chunk is such a
// choice and no loss.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace adapath::server {

struct AccessUnit {
    std::vector<uint8_t> bytes;  // Annex B, start codes of four bytes
    bool idr = false;
    uint64_t first_us = 0;  // when its first packet came to the relay
    uint64_t begins_us =
        0;  // of an IDR picture: its first packet with parameter sets or a slice, where the kernel sees the chunk begin
    uint32_t timestamp = 0;  // RTP's, 1/90000 s
};

class Depacketiser {
public:
    // Larger access units are dropped (4096x4096 in the best quality needs less).
    static constexpr size_t most_bytes = size_t{8} << 20;

    // The picture that this packet completed, if it did. Two may be complete at once (the one before had no marker).
    std::vector<AccessUnit> packet(std::span<const uint8_t> bytes, uint64_t received_us, bool after_drop);
    // The decoder could make nothing of the last one: all up to the next IDR picture is dropped.
    void wait_for_idr() { waiting_ = true; }

    struct Counters {
        uint64_t packets = 0;
        uint64_t lost = 0;         // packets, by gaps in the sequence within a chunk
        uint64_t late = 0;         // packets behind the sequence, or twice; not used
        uint64_t malformed = 0;    // packets
        uint64_t foreign = 0;      // RTCP, other payload types, and what comes before the first chunk
        uint64_t pictures = 0;     // complete
        uint64_t incomplete = 0;   // pictures of which a part is missing
        uint64_t skipped = 0;      // complete pictures between a damaged one and the next IDR picture
        uint64_t relay_drops = 0;  // times that the relay left out some, for want of uplink
        uint64_t cut = 0;          // pictures of which the relay left out the rest; not in `incomplete`

        Counters& operator+=(const Counters& other);
    };
    [[nodiscard]] const Counters& counters() const { return counters_; }

private:
    bool follow(uint16_t sequence, bool begins, uint32_t timestamp);
    bool append(std::span<const uint8_t> payload);
    void unit(std::span<const uint8_t> nal);
    void start(uint8_t header);
    void add(std::span<const uint8_t> bytes);
    void finish(std::vector<AccessUnit>& out);
    void clear();

    AccessUnit unit_;
    bool open_ = false;        // unit_ has packets
    bool whole_ = true;        // nothing of unit_ is missing so far
    bool slices_ = false;      // unit_ has some
    bool parameters_ = false;  // unit_ has parameter sets
    bool in_fragment_ = false;
    uint8_t fragment_type_ = 0;
    bool waiting_ = true;  // for an IDR picture

    bool known_ = false;  // the stream's identity, from its first packet on
    uint32_t ssrc_ = 0;
    uint8_t payload_type_ = 0;
    uint16_t sequence_ = 0;
    unsigned behind_ = 0;     // packets in a row that seemed late
    unsigned strangers_ = 0;  // and that were of another payload type
    Counters counters_;
};

}  // namespace adapath::server
