// See depacketiser.h.
#include "userspace/server/depacketiser.h"

#include <adapath/rtp.h>

#include <array>
#include <utility>

namespace adapath::server {

namespace {

constexpr std::array<uint8_t, 4> start_code = {0, 0, 0, 1};
constexpr uint8_t type_idr = 5;
constexpr uint8_t type_sps = 7;
constexpr uint8_t type_pps = 8;
// A camera that starts again with the same SSRC: after so many packets in a row from behind, that is its sequence now.
constexpr unsigned most_behind = 32;

bool is_slice(uint8_t type) { return type >= 1 && type <= 5; }

}  // namespace

Depacketiser::Counters& Depacketiser::Counters::operator+=(const Counters& other) {
    packets += other.packets;
    lost += other.lost;
    late += other.late;
    malformed += other.malformed;
    foreign += other.foreign;
    pictures += other.pictures;
    incomplete += other.incomplete;
    skipped += other.skipped;
    relay_drops += other.relay_drops;
    cut += other.cut;
    return *this;
}

std::vector<AccessUnit> Depacketiser::packet(std::span<const uint8_t> bytes, uint64_t received_us, bool after_drop) {
    std::vector<AccessUnit> out;
    counters_.packets++;
    if (after_drop) {
        counters_.relay_drops++;
        if (open_ && slices_) {
            counters_.cut++;
            waiting_ = true;
            clear();
        }
    }
    // RTCP may share the port (RFC 5761): its packet types lie where no video has its payload type.
    if (bytes.size() >= 2 && bytes[1] >= 200 && bytes[1] <= 204) {
        counters_.foreign++;
        return out;
    }
    const adp_view view = {bytes.data(), bytes.data() + bytes.size()};
    adp_rtp rtp = {};
    if (adp_rtp_parse(&view, 0, static_cast<adp_u32>(bytes.size()), &rtp) != ADP_RTP_PACKET) {
        counters_.malformed++;
        return out;
    }
    std::span<const uint8_t> payload = bytes.subspan(rtp.offset, rtp.bytes);
    // In a packet longer than the kernel side looks at, the padding is still there.
    if ((bytes[0] & 0x20) != 0 && bytes.size() - 1 > ADP_VIEW_MAX) {
        if (bytes.back() == 0 || bytes.back() > payload.size()) {
            counters_.malformed++;
            return out;
        }
        payload = payload.first(payload.size() - bytes.back());
    }
    const adp_u32 found = adp_h264_look(&view, rtp.offset, static_cast<adp_u32>(payload.size()));
    const bool ours = known_ && ssrc_ == rtp.ssrc && payload_type_ == rtp.payload_type;
    const bool new_picture = !ours || !open_ || unit_.timestamp != rtp.timestamp;
    // Where a chunk begins: parameter sets, or the first slice of an IDR picture. The kernel side takes any slice of
    // it; here what is before the first would be missing.
    const bool begins =
        new_picture && ((found & ADP_H264_SPS) != 0 || ((found & ADP_H264_IDR) != 0 && (found & ADP_H264_FIRST) != 0));
    if (ours) {
        strangers_ = 0;
        if (!follow(rtp.sequence, begins, rtp.timestamp)) return out;
    } else {
        // Another sender is taken at the beginning of a chunk; another payload type (sound, or a camera set up anew)
        // only where nothing else comes.
        const bool other_type = known_ && payload_type_ != rtp.payload_type;
        if (!begins || (other_type && ++strangers_ < most_behind)) {
            counters_.foreign++;
            return out;
        }
        if (open_ && slices_) counters_.incomplete++;
        clear();
        known_ = true;
        ssrc_ = rtp.ssrc;
        payload_type_ = rtp.payload_type;
        sequence_ = rtp.sequence;
        behind_ = strangers_ = 0;
        waiting_ = true;
    }

    if (open_ && unit_.timestamp != rtp.timestamp) {
        // Without its marker: that packet is missing, or this camera sets none.
        if (slices_) {
            finish(out);
        } else if (!parameters_) {
            clear();  // a delimiter or SEI of a chunk that did not come
        }
    }
    if (!open_) {
        open_ = true;
        unit_.first_us = received_us;
        unit_.begins_us = received_us;
    } else if ((found & ADP_H264_BEGINS) != 0 && !parameters_ && !slices_) {
        unit_.begins_us = received_us;
    }
    unit_.timestamp = rtp.timestamp;
    if (!append(payload)) {
        // Of which picture it was a part may not even be known.
        counters_.malformed++;
        whole_ = false;
        waiting_ = true;
        in_fragment_ = false;
    }
    if (rtp.marker != 0 && slices_) finish(out);
    return out;
}

// Whether the packet is to be used, by its place in the sequence; notes what is missing before it.
bool Depacketiser::follow(uint16_t sequence, bool begins, uint32_t timestamp) {
    const auto step = static_cast<int16_t>(sequence - sequence_);
    if (step <= 0 && ++behind_ < most_behind) {
        counters_.late++;
        return false;
    }
    const bool again = step <= 0;
    behind_ = 0;
    sequence_ = sequence;
    if (step == 1) return true;
    const bool same_picture = open_ && unit_.timestamp == timestamp;
    if (!begins && !again) counters_.lost += static_cast<uint64_t>(step - 1);
    // The picture before: its end is missing (had its marker come, it would be closed).
    if (open_ && slices_) {
        if (same_picture) {
            whole_ = false;
        } else {
            counters_.incomplete++;
            waiting_ = true;
            clear();
        }
    } else if (open_ && !same_picture) {
        clear();
    } else if (open_) {
        whole_ = false;
    }
    // And the one that begins: whole only where a chunk begins with it.
    if (!open_ && !begins) {
        whole_ = false;
        waiting_ = true;
    }
    return true;
}

bool Depacketiser::append(std::span<const uint8_t> payload) {
    if (payload.empty()) return true;  // legal, keeps a path open
    const uint8_t header = payload[0];
    if ((header & 0x80) != 0) return false;
    const uint8_t type = header & 31;
    if (type == ADP_H264_FU_A) {
        if (payload.size() < 3) return false;
        const uint8_t fragment = payload[1];
        const uint8_t inner = fragment & 31;
        const bool first = (fragment & 0x80) != 0;
        const bool last = (fragment & 0x40) != 0;
        if ((first && last) || inner == 0 || inner >= ADP_H264_STAP_A) return false;
        if (first == in_fragment_) {
            // A second start without an end, or a part without a start. After a loss the latter is no fault of the
            // packet.
            if (first || whole_) return false;
            slices_ |= is_slice(inner);  // so that the picture is counted
            return true;
        }
        if (!first && inner != fragment_type_) return false;
        if (first) {
            start(static_cast<uint8_t>((header & 0x60) | inner));
            fragment_type_ = inner;
        }
        add(payload.subspan(2));
        in_fragment_ = !last;
        return true;
    }
    if (in_fragment_) {
        // The fragment's end is missing, though no packet is.
        in_fragment_ = false;
        return false;
    }
    if (type == ADP_H264_STAP_A) {
        payload = payload.subspan(1);
        if (payload.empty()) return false;
        while (!payload.empty()) {
            if (payload.size() < 3) return false;
            const size_t size = static_cast<size_t>(payload[0]) << 8 | payload[1];
            if (size == 0 || size > payload.size() - 2 || (payload[2] & 0x80) != 0) return false;
            const uint8_t inner = payload[2] & 31;
            if (inner == 0 || inner >= ADP_H264_STAP_A) return false;
            unit(payload.subspan(2, size));
            payload = payload.subspan(2 + size);
        }
        return true;
    }
    if (type == 0 || type > ADP_H264_STAP_A) return false;  // interleaved modes, and what has no meaning
    unit(payload);
    return true;
}

void Depacketiser::unit(std::span<const uint8_t> nal) {
    start(nal[0]);
    add(nal.subspan(1));
}

void Depacketiser::start(uint8_t header) {
    const uint8_t type = header & 31;
    slices_ |= is_slice(type);
    parameters_ |= type == type_sps || type == type_pps;
    unit_.idr |= type == type_idr;
    add(start_code);
    add({&header, 1});
}

void Depacketiser::add(std::span<const uint8_t> bytes) {
    if (!whole_) return;  // of a picture that will be dropped nothing needs to be kept
    if (unit_.bytes.size() + bytes.size() > most_bytes) {
        whole_ = false;
        unit_.bytes.clear();
        return;
    }
    unit_.bytes.insert(unit_.bytes.end(), bytes.begin(), bytes.end());
}

void Depacketiser::finish(std::vector<AccessUnit>& out) {
    if (in_fragment_) whole_ = false;
    if (!whole_) {
        counters_.incomplete++;
        waiting_ = true;
    } else {
        counters_.pictures++;
        if (unit_.idr) waiting_ = false;
        if (waiting_) {
            counters_.skipped++;
        } else {
            out.push_back(std::move(unit_));
        }
    }
    clear();
}

void Depacketiser::clear() {
    unit_ = {};
    open_ = false;
    whole_ = true;
    slices_ = false;
    parameters_ = false;
    in_fragment_ = false;
}

}  // namespace adapath::server
