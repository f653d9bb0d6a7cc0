// Which packets of a rendition go up when the uplink can't take them all: whole chunks or none of a chunk, as far as
// there is room for it; else whole pictures. What it lets pass begins with a chunk, always. Pure: no clock, no sockets.
#pragma once

#include <cstdint>

#include <adapath/rtp.h>

namespace adapath::relay {

// So many times as long as a main stream's pictures a sub stream's may wait: it is soon sent when the uplink comes
// back, and then the rest of its chunk can be decoded.
inline constexpr uint64_t sub_patience = 3;
// So many times as long as main a sub stream's picture waits until it is late.
inline constexpr double sub_late = 2;
// And so long a main chunk of which nothing was sent yet. Its IDR picture costs about as much as all others of it: once
// that is spent the others are cheap, but it should not be spent where they will hardly come in time.
inline constexpr double begin_late = 0.75;

// What a camera's queue has no room for any more.
enum class Pressure : uint8_t {
    none,
    chunks,    // no new chunk; those that are under way may end
    pictures,  // no new picture
    packets,   // nothing: the uplink is away, or memory would go
};

class ChunkFilter {
public:
    struct Counters {
        uint64_t chunks = 0;          // begun, whether they passed or not
        uint64_t dropped_chunks = 0;  // none of it passed
        uint64_t cut_chunks = 0;      // it passed up to some picture's end, or to the connection's
        uint64_t dropped_packets = 0;
        uint64_t dropped_bytes = 0;  // of RTP packets
        uint64_t waiting = 0;        // of the dropped packets: came before any chunk had begun
        uint64_t foreign = 0;        // from another SSRC than the rendition's; not in the above
    };
    struct Verdict {
        bool pass = false;
        bool after_drop = false;  // the first to pass since something was dropped
        bool begins = false;      // the first packet of a chunk
    };

    // A packet that adp_rtp_parse() found whole; `contents`: adp_h264_look(). `bytes`: of the whole packet.
    Verdict on_packet(const adp_rtp& rtp, uint32_t contents, uint32_t bytes, Pressure pressure, uint64_t now_us);

    // What passed of the running chunk may be lost: nothing passes until the next one begins.
    void cut();

    [[nodiscard]] const Counters& counters() const { return counters_; }

private:
    bool place(uint16_t sequence, uint32_t& extended);
    Verdict drop(uint32_t bytes);
    void end_passing();

    Counters counters_;
    uint64_t last_us_ = 0;
    uint32_t ssrc_ = 0;
    uint32_t newest_ = 0;     // sequence number, extended
    uint32_t first_ = 0;      // of the running chunk, extended
    uint32_t timestamp_ = 0;  // of the running chunk's first picture
    uint32_t picture_ = 0;    // timestamp of the newest picture
    bool known_ = false;
    bool in_chunk_ = false;
    bool passing_ = false;
    bool passing_before_ = false;  // the chunk before passed
    bool dropped_ = false;         // something since the last packet that passed
};

}  // namespace adapath::relay
