// A hand-made camera: RTP packets of H.264 as RFC 6184 has them (STAP-A with the parameter sets, FU-A for what does not
// fit a packet, single NAL units for the rest), and frames around them. Nothing in the pictures; only their shape
// counts.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace adapath::testing {

using Bytes = std::vector<uint8_t>;

inline void put16(Bytes& to, uint32_t value) {
    to.push_back(static_cast<uint8_t>(value >> 8));
    to.push_back(static_cast<uint8_t>(value));
}
inline void put32(Bytes& to, uint32_t value) {
    put16(to, value >> 16);
    put16(to, value);
}
inline void append(Bytes& to, std::span<const uint8_t> what) { to.insert(to.end(), what.begin(), what.end()); }

struct RtpHeader {
    uint8_t payload_type = 96;
    bool marker = false;
    uint16_t sequence = 0;
    uint32_t timestamp = 0;
    uint32_t ssrc = 1;
    uint32_t csrcs = 0;
    int extension_words = -1;  // -1: no extension
    uint8_t padding = 0;       // bytes
};

inline Bytes rtp_packet(const RtpHeader& h, std::span<const uint8_t> payload) {
    Bytes packet;
    packet.push_back(
        static_cast<uint8_t>(0x80 | (h.padding != 0 ? 0x20 : 0) | (h.extension_words >= 0 ? 0x10 : 0) | h.csrcs));
    packet.push_back(static_cast<uint8_t>((h.marker ? 0x80 : 0) | h.payload_type));
    put16(packet, h.sequence);
    put32(packet, h.timestamp);
    put32(packet, h.ssrc);
    for (uint32_t i = 0; i < h.csrcs; ++i) put32(packet, 1000 + i);
    if (h.extension_words >= 0) {
        put16(packet, 0xbede);
        put16(packet, static_cast<uint32_t>(h.extension_words));
        packet.insert(packet.end(), 4 * static_cast<size_t>(h.extension_words), 0);
    }
    append(packet, payload);
    if (h.padding != 0) {
        packet.insert(packet.end(), h.padding - 1U, 0);
        packet.push_back(h.padding);
    }
    return packet;
}

// A NAL unit of `bytes` bytes: header, then for slices a first byte that says which macroblock is the first.
inline Bytes nal_unit(uint8_t type, size_t bytes, bool first_slice = true) {
    Bytes unit(std::max<size_t>(bytes, 1), 0x55);
    unit[0] = static_cast<uint8_t>(0x60 | type);
    if (unit.size() > 1) unit[1] = first_slice ? 0x88 : 0x44;
    return unit;
}

inline Bytes stap_a(const std::vector<Bytes>& units) {
    Bytes payload = {0x78};
    for (const Bytes& unit : units) {
        put16(payload, static_cast<uint32_t>(unit.size()));
        append(payload, unit);
    }
    return payload;
}

// A NAL unit as payloads of at most `limit` bytes: itself, or fragments.
inline std::vector<Bytes> packetise(const Bytes& unit, size_t limit) {
    if (unit.size() <= limit) return {unit};
    std::vector<Bytes> payloads;
    for (size_t at = 1; at < unit.size(); at += limit - 2) {
        const size_t end = std::min(at + limit - 2, unit.size());
        Bytes payload = {static_cast<uint8_t>((unit[0] & 0xe0) | 28),
                         static_cast<uint8_t>((at == 1 ? 0x80 : 0) | (end == unit.size() ? 0x40 : 0) | (unit[0] & 31))};
        payload.insert(payload.end(), unit.begin() + static_cast<long>(at), unit.begin() + static_cast<long>(end));
        payloads.push_back(std::move(payload));
    }
    return payloads;
}

// The payload of an RTP packet (without CSRCs or extension) onto an Annex B stream, as RFC 6184 has it.
inline void depacketise(std::span<const uint8_t> packet, Bytes& stream) {
    static constexpr std::array<uint8_t, 4> start = {0, 0, 0, 1};
    const std::span<const uint8_t> p = packet.subspan(12);
    const int type = p[0] & 31;
    if (type == 24) {
        for (size_t at = 1; at + 2 < p.size();) {
            const size_t size = static_cast<size_t>(p[at]) << 8 | p[at + 1];
            append(stream, start);
            append(stream, p.subspan(at + 2, size));
            at += 2 + size;
        }
    } else if (type == 28) {
        if ((p[1] & 0x80) != 0) {
            append(stream, start);
            stream.push_back(static_cast<uint8_t>((p[0] & 0xe0) | (p[1] & 31)));
        }
        append(stream, p.subspan(2));
    } else {
        append(stream, start);
        append(stream, p);
    }
}

// One rendition of a camera: call picture() at each picture's time.
class RtpRendition {
public:
    uint32_t ssrc = 1;
    uint8_t payload_type = 96;
    size_t idr_bytes = 6000;
    size_t picture_bytes = 1500;
    uint32_t group = 10;  // pictures
    uint32_t ticks = 9000;
    size_t payload_limit = 1200;
    uint16_t sequence = 1;
    uint32_t timestamp = 1000;
    uint32_t pictures = 0;

    // The next picture's packets. The first of a group begins with a STAP-A of the parameter sets.
    std::vector<Bytes> picture() {
        std::vector<Bytes> payloads;
        const bool idr = pictures++ % group == 0;
        if (idr) payloads.push_back(stap_a({nal_unit(7, 20), nal_unit(8, 6)}));
        for (Bytes& payload :
             packetise(nal_unit(idr ? 5 : 1, std::max<size_t>(idr ? idr_bytes : picture_bytes, 2)), payload_limit))
            payloads.push_back(std::move(payload));
        std::vector<Bytes> packets;
        for (size_t i = 0; i < payloads.size(); ++i) {
            RtpHeader header;
            header.payload_type = payload_type;
            header.marker = i + 1 == payloads.size();
            header.sequence = sequence++;
            header.timestamp = timestamp;
            header.ssrc = ssrc;
            packets.push_back(rtp_packet(header, payloads[i]));
        }
        timestamp += ticks;
        return packets;
    }
    [[nodiscard]] bool begins_group() const { return pictures % group == 0; }
};

struct FrameHeader {
    int vlan_tags = 0;
    bool ipv6 = false;
    uint32_t source_v4 = 0x0a000002;  // 10.0.0.2
    uint32_t destination_v4 = 0x0a000001;
    uint32_t ip_options = 0;  // words
    uint16_t fragment = 0;    // the IPv4 word: flags and offset
    uint16_t source_port = 40000;
    uint16_t destination_port = 5000;
    std::vector<uint8_t> ipv6_headers{};  // types of extension headers, in order
    int udp_length_more = 0;              // what the UDP header lies by
    int ip_length_more = 0;
};

// Ethernet, IP and UDP around a payload. No checksums: nobody here looks at them.
inline Bytes frame_of(const FrameHeader& h, std::span<const uint8_t> payload) {
    Bytes frame = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
    for (int i = 0; i < h.vlan_tags; ++i) {
        put16(frame, i + 1 < h.vlan_tags ? 0x88a8 : 0x8100);
        put16(frame, 7);
    }
    const uint32_t udp_bytes = static_cast<uint32_t>(8 + payload.size());
    if (h.ipv6) {
        put16(frame, 0x86dd);
        put32(frame, 0x60000000);
        put16(frame,
              udp_bytes + 8 * static_cast<uint32_t>(h.ipv6_headers.size()) + static_cast<uint32_t>(h.ip_length_more));
        frame.push_back(h.ipv6_headers.empty() ? 17 : h.ipv6_headers[0]);
        frame.push_back(64);
        for (const uint8_t last : {uint8_t{2}, uint8_t{1}}) {
            frame.insert(frame.end(), {0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last});
        }
        for (size_t i = 0; i < h.ipv6_headers.size(); ++i) {
            frame.push_back(i + 1 < h.ipv6_headers.size() ? h.ipv6_headers[i + 1] : 17);
            frame.push_back(0);
            // Of a fragment header: offset 0, more to come.
            put16(frame, h.ipv6_headers[i] == 44 ? 1 : 0);
            put32(frame, 0);
        }
    } else {
        put16(frame, 0x0800);
        frame.push_back(static_cast<uint8_t>(0x45 + h.ip_options));
        frame.push_back(0);
        put16(frame, 20 + 4 * h.ip_options + udp_bytes + static_cast<uint32_t>(h.ip_length_more));
        put16(frame, 0);
        put16(frame, h.fragment);
        frame.insert(frame.end(), {64, 17, 0, 0});
        put32(frame, h.source_v4);
        put32(frame, h.destination_v4);
        frame.insert(frame.end(), 4 * static_cast<size_t>(h.ip_options), 1);
    }
    put16(frame, h.source_port);
    put16(frame, h.destination_port);
    put16(frame, udp_bytes + static_cast<uint32_t>(h.udp_length_more));
    put16(frame, 0);
    append(frame, payload);
    return frame;
}

}  // namespace adapath::testing
