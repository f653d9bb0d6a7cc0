// include/adapath/packet.h and rtp.h: what well-formed packets mean, and that no bytes whatever make them read outside.
// Every buffer is allocated to its exact size and the sanitizers watch it.
#include <adapath/rtp.h>
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <optional>
#include <random>

#include "tests/support/rtp_camera.h"

namespace adapath::testing {
namespace {

// A copy whose end is the allocation's end.
class Exact {
public:
    explicit Exact(std::span<const uint8_t> bytes) : size_(bytes.size()), bytes_(new uint8_t[bytes.size()]) {
        if (size_ > 0) std::memcpy(bytes_.get(), bytes.data(), size_);
    }
    [[nodiscard]] adp_view view() const { return {bytes_.get(), bytes_.get() + size_}; }

private:
    size_t size_;
    std::unique_ptr<uint8_t[]> bytes_;
};

struct Seen {
    adp_packet packet = ADP_PACKET_OTHER;
    adp_udp udp = {};
    adp_rtp_found found = ADP_RTP_NONE;
    adp_rtp rtp = {};
    uint32_t contents = 0;
};

uint64_t plain_frames = 0;

// As the kernel does: `whole` bytes on the wire, of which `frame` can be read.
Seen see(std::span<const uint8_t> frame, std::optional<size_t> whole = {}) {
    const Exact exact(frame);
    const adp_view view = exact.view();
    Seen seen;
    seen.packet = adp_packet_parse(&view, static_cast<uint32_t>(whole.value_or(frame.size())), &seen.udp);
    // The short way finds the same, or nothing.
    adp_udp plain = {};
    if (adp_packet_plain(&view, static_cast<uint32_t>(whole.value_or(frame.size())), &plain) == ADP_PACKET_UDP) {
        ++plain_frames;
        EXPECT_EQ(seen.packet, ADP_PACKET_UDP);
        EXPECT_EQ(std::memcmp(&plain, &seen.udp, sizeof(plain)), 0);
    }
    if (seen.packet != ADP_PACKET_UDP) return seen;
    seen.found = adp_rtp_parse(&view, seen.udp.offset, seen.udp.bytes, &seen.rtp);
    if (seen.found == ADP_RTP_PACKET) seen.contents = adp_h264_look(&view, seen.rtp.offset, seen.rtp.bytes);
    return seen;
}

Seen see_rtp(const RtpHeader& header, const Bytes& payload, const FrameHeader& frame = {}) {
    return see(frame_of(frame, rtp_packet(header, payload)));
}

uint32_t contents_of(const Bytes& payload) {
    const Seen seen = see_rtp({}, payload);
    EXPECT_EQ(seen.found, ADP_RTP_PACKET);
    return seen.contents;
}

TEST(Packet, FindsTheUdpPayloadWhateverIsAroundIt) {
    const Bytes payload = rtp_packet({}, nal_unit(1, 100));
    for (const bool ipv6 : {false, true}) {
        for (int tags = 0; tags <= 2; ++tags) {
            for (const uint32_t options : {0U, 1U, 10U}) {
                FrameHeader h;
                h.ipv6 = ipv6;
                h.vlan_tags = tags;
                h.ip_options = options;
                if (ipv6) h.ipv6_headers.assign(options == 10 ? 4 : options, 60);
                const Bytes frame = frame_of(h, payload);
                const Seen seen = see(frame);
                ASSERT_EQ(seen.packet, ADP_PACKET_UDP) << ipv6 << tags << options;
                EXPECT_EQ(seen.udp.offset, frame.size() - payload.size());
                EXPECT_EQ(seen.udp.bytes, payload.size());
                EXPECT_EQ(seen.udp.source_port, 40000);
                EXPECT_EQ(seen.udp.destination_port, 5000);
                EXPECT_EQ(seen.udp.fragment, 0U);
                EXPECT_EQ(seen.udp.source.word[3], ipv6 ? 2U : 0x0a000002U);
                EXPECT_EQ(seen.udp.source.word[2], ipv6 ? 0U : 0xffffU);
                EXPECT_EQ(seen.udp.destination.word[3], ipv6 ? 1U : 0x0a000001U);
                EXPECT_EQ(seen.found, ADP_RTP_PACKET);
                EXPECT_EQ(seen.contents, ADP_H264_SLICE | ADP_H264_FIRST);
            }
        }
    }
}

TEST(Packet, OthersAreNobodysBusiness) {
    const Bytes payload = rtp_packet({}, nal_unit(5, 100));
    Bytes tcp = frame_of({}, payload);
    tcp[14 + 9] = 6;
    EXPECT_EQ(see(tcp).packet, ADP_PACKET_OTHER);
    Bytes arp = frame_of({}, payload);
    arp[13] = 6;
    EXPECT_EQ(see(arp).packet, ADP_PACKET_OTHER);
    FrameHeader three_tags;
    three_tags.vlan_tags = 3;
    EXPECT_EQ(see(frame_of(three_tags, payload)).packet, ADP_PACKET_OTHER);
    FrameHeader later;
    later.fragment = 0x2001;
    EXPECT_EQ(see(frame_of(later, payload)).packet, ADP_PACKET_OTHER);
    FrameHeader five;
    five.ipv6 = true;
    five.ipv6_headers.assign(5, 60);
    EXPECT_EQ(see(frame_of(five, payload)).packet, ADP_PACKET_OTHER);
    EXPECT_EQ(see({}).packet, ADP_PACKET_OTHER);
}

TEST(Packet, FirstFragmentsMayClaimMoreThanTheyHave) {
    const Bytes payload = rtp_packet({}, nal_unit(5, 100));
    FrameHeader h;
    h.udp_length_more = 3000;
    EXPECT_EQ(see(frame_of(h, payload)).packet, ADP_PACKET_MALFORMED);
    h.fragment = 0x2000;
    Seen seen = see(frame_of(h, payload));
    ASSERT_EQ(seen.packet, ADP_PACKET_UDP);
    EXPECT_EQ(seen.udp.fragment, 1U);
    EXPECT_EQ(seen.udp.bytes, payload.size() + 3000);
    EXPECT_EQ(seen.contents, ADP_H264_SLICE | ADP_H264_IDR | ADP_H264_FIRST);
    FrameHeader six;
    six.ipv6 = true;
    six.ipv6_headers = {44};
    six.udp_length_more = 3000;
    seen = see(frame_of(six, payload));
    EXPECT_EQ(seen.packet, ADP_PACKET_UDP);
    EXPECT_EQ(seen.udp.fragment, 1U);
}

TEST(Packet, LyingLengthsAreMalformed) {
    const Bytes payload = rtp_packet({}, nal_unit(1, 100));
    for (const bool ipv6 : {false, true}) {
        FrameHeader more;
        more.ipv6 = ipv6;
        more.ip_length_more = 1;
        EXPECT_EQ(see(frame_of(more, payload)).packet, ADP_PACKET_MALFORMED);
        FrameHeader less;
        less.ipv6 = ipv6;
        less.ip_length_more = -1;
        EXPECT_EQ(see(frame_of(less, payload)).packet, ADP_PACKET_MALFORMED);
        FrameHeader tiny;
        tiny.ipv6 = ipv6;
        tiny.udp_length_more = -static_cast<int>(payload.size()) - 1;
        EXPECT_EQ(see(frame_of(tiny, payload)).packet, ADP_PACKET_MALFORMED);
    }
    Bytes short_header = frame_of({}, payload);
    short_header[14] = 0x44;
    EXPECT_EQ(see(short_header).packet, ADP_PACKET_MALFORMED);
}

TEST(Rtp, HeaderFields) {
    RtpHeader h;
    h.payload_type = 97;
    h.marker = true;
    h.sequence = 0xfffe;
    h.timestamp = 0xdeadbeef;
    h.ssrc = 0x01020304;
    for (const uint32_t csrcs : {0U, 1U, 15U}) {
        for (const int words : {-1, 0, 1, 255}) {
            for (const uint8_t padding : {0, 1, 4, 255}) {
                h.csrcs = csrcs;
                h.extension_words = words;
                h.padding = padding;
                const Bytes payload = nal_unit(1, 50);
                const Seen seen = see_rtp(h, payload);
                ASSERT_EQ(seen.found, ADP_RTP_PACKET);
                EXPECT_EQ(seen.rtp.payload_type, 97);
                EXPECT_EQ(seen.rtp.marker, 1);
                EXPECT_EQ(seen.rtp.sequence, 0xfffe);
                EXPECT_EQ(seen.rtp.timestamp, 0xdeadbeefU);
                EXPECT_EQ(seen.rtp.ssrc, 0x01020304U);
                EXPECT_EQ(seen.rtp.bytes, payload.size());
                EXPECT_EQ(seen.contents, ADP_H264_SLICE | ADP_H264_FIRST);
            }
        }
    }
}

TEST(Rtp, WhatIsNotOne) {
    Bytes packet = rtp_packet({}, nal_unit(1, 50));
    packet[0] = 0x40;
    EXPECT_EQ(see(frame_of({}, packet)).found, ADP_RTP_NONE);
    EXPECT_EQ(see(frame_of({}, std::span(packet).first(11))).found, ADP_RTP_NONE);
    RtpHeader h;
    h.extension_words = 256;
    EXPECT_EQ(see_rtp(h, nal_unit(1, 50)).found, ADP_RTP_MALFORMED);
    // Padding of 0 or of more than there is; CSRCs and extensions that are not there.
    packet = rtp_packet({}, nal_unit(1, 50));
    packet[0] |= 0x20;
    packet.back() = 0;
    EXPECT_EQ(see(frame_of({}, packet)).found, ADP_RTP_MALFORMED);
    packet.back() = 51;
    EXPECT_EQ(see(frame_of({}, packet)).found, ADP_RTP_MALFORMED);
    packet.back() = 50;
    EXPECT_EQ(see(frame_of({}, packet)).found, ADP_RTP_PACKET);
    EXPECT_EQ(see(frame_of({}, packet)).rtp.bytes, 0U);
    packet = rtp_packet({}, nal_unit(1, 50));
    packet[0] |= 15;
    EXPECT_EQ(see(frame_of({}, packet)).found, ADP_RTP_MALFORMED);
    packet[0] = 0x90;
    EXPECT_EQ(see(frame_of({}, packet)).found, ADP_RTP_MALFORMED);
}

TEST(H264, SingleUnits) {
    EXPECT_EQ(contents_of(nal_unit(1, 100)), ADP_H264_SLICE | ADP_H264_FIRST);
    EXPECT_EQ(contents_of(nal_unit(1, 100, false)), ADP_H264_SLICE);
    EXPECT_EQ(contents_of(nal_unit(5, 100)), ADP_H264_SLICE | ADP_H264_IDR | ADP_H264_FIRST);
    EXPECT_EQ(contents_of(nal_unit(5, 100, false)), ADP_H264_SLICE | ADP_H264_IDR);
    EXPECT_EQ(contents_of(nal_unit(5, 1)), ADP_H264_SLICE | ADP_H264_IDR);
    EXPECT_EQ(contents_of(nal_unit(7, 20)), ADP_H264_SPS);
    for (const uint8_t type : {0, 6, 8, 9, 12, 25, 26, 27, 29, 30, 31}) EXPECT_EQ(contents_of(nal_unit(type, 20)), 0U);
    Bytes damaged = nal_unit(5, 100);
    damaged[0] |= 0x80;
    EXPECT_EQ(contents_of(damaged), ADP_H264_MALFORMED);
    EXPECT_EQ(contents_of({}), 0U);
}

TEST(H264, Fragments) {
    for (const uint8_t type : {1, 5}) {
        const uint32_t idr = type == 5 ? ADP_H264_IDR : 0;
        const std::vector<Bytes> parts = packetise(nal_unit(type, 5000), 1200);
        ASSERT_EQ(parts.size(), 5U);
        EXPECT_EQ(contents_of(parts[0]), ADP_H264_SLICE | idr | ADP_H264_FIRST);
        for (size_t i = 1; i < parts.size(); ++i) EXPECT_EQ(contents_of(parts[i]), ADP_H264_SLICE | idr);
    }
    EXPECT_EQ(contents_of({0x7c}), ADP_H264_MALFORMED) << "no FU header";
    EXPECT_EQ(contents_of({0x7c, 0xc5, 0x88}), ADP_H264_MALFORMED) << "start and end at once";
    EXPECT_EQ(contents_of({0x7c, 0x80, 0x88}), ADP_H264_MALFORMED) << "of no unit";
    EXPECT_EQ(contents_of({0x7c, 0x98, 0x88}), ADP_H264_MALFORMED) << "of an aggregate";
    EXPECT_EQ(contents_of({0x7c, 0x85}), ADP_H264_SLICE | ADP_H264_IDR) << "an empty fragment is legal";
}

TEST(H264, Aggregates) {
    EXPECT_EQ(contents_of(stap_a({nal_unit(7, 20), nal_unit(8, 6)})), ADP_H264_SPS);
    EXPECT_EQ(contents_of(stap_a({nal_unit(9, 2), nal_unit(7, 20), nal_unit(8, 6), nal_unit(6, 30), nal_unit(5, 400)})),
              ADP_H264_SPS | ADP_H264_SLICE | ADP_H264_IDR | ADP_H264_FIRST);
    EXPECT_EQ(contents_of(stap_a({nal_unit(9, 2), nal_unit(1, 300, false)})), ADP_H264_SLICE);
    EXPECT_EQ(contents_of(stap_a({nal_unit(9, 1)})), 0U);
    EXPECT_EQ(contents_of(stap_a({})), 0U);
    EXPECT_EQ(contents_of({0x78, 0, 0, 0}), ADP_H264_MALFORMED) << "a unit of 0 bytes";
    EXPECT_EQ(contents_of({0x78, 0, 2, 0x67}), ADP_H264_MALFORMED) << "a unit longer than the packet";
    EXPECT_EQ(contents_of({0x78, 0, 1, 0x67, 0}), ADP_H264_MALFORMED) << "half a length";
    EXPECT_EQ(contents_of({0x78, 0, 1, 0x78}), ADP_H264_MALFORMED) << "an aggregate in an aggregate";
    // More units than are looked at: no harm, and the first count.
    std::vector<Bytes> many(20, nal_unit(6, 10));
    many[0] = nal_unit(7, 10);
    many[19] = nal_unit(5, 10);
    EXPECT_EQ(contents_of(stap_a(many)), ADP_H264_SPS);
}

// Whatever is found lies within the frame.
void expect_sound(const Seen& seen, size_t whole) {
    if (seen.packet != ADP_PACKET_UDP || seen.udp.fragment != 0) return;
    ASSERT_LE(seen.udp.offset + seen.udp.bytes, whole);
    if (seen.found != ADP_RTP_PACKET) return;
    ASSERT_LE(seen.rtp.offset + seen.rtp.bytes, seen.udp.offset + seen.udp.bytes);
    EXPECT_TRUE((seen.contents & ADP_H264_IDR) == 0 || (seen.contents & ADP_H264_SLICE) != 0);
}

std::vector<Bytes> honest_frames() {
    std::vector<Bytes> frames;
    RtpRendition camera;
    FrameHeader frame;
    for (int i = 0; i < 12; ++i) {
        for (const Bytes& packet : camera.picture()) frames.push_back(frame_of(frame, packet));
        frame.ipv6 = !frame.ipv6;
        frame.vlan_tags = i % 3;
    }
    RtpHeader odd;
    odd.csrcs = 3;
    odd.extension_words = 2;
    odd.padding = 7;
    frames.push_back(frame_of({}, rtp_packet(odd, stap_a({nal_unit(7, 9), nal_unit(8, 4), nal_unit(5, 60)}))));
    return frames;
}

TEST(Fuzz, EveryLengthOfEveryPacket) {
    for (const Bytes& frame : honest_frames()) {
        for (size_t bytes = 0; bytes <= frame.size(); ++bytes) {
            // Cut on the wire, and whole on the wire but only so much of it within reach.
            expect_sound(see(std::span(frame).first(bytes)), bytes);
            const Seen seen = see(std::span(frame).first(bytes), frame.size());
            expect_sound(seen, frame.size());
        }
    }
}

TEST(Fuzz, TruncatedOnTheWireIsNeverWhole) {
    for (const Bytes& frame : honest_frames()) {
        ASSERT_EQ(see(frame).found, ADP_RTP_PACKET);
        for (size_t bytes = 0; bytes < frame.size(); ++bytes)
            ASSERT_NE(see(std::span(frame).first(bytes)).packet, ADP_PACKET_UDP) << bytes;
    }
}

TEST(Fuzz, RandomBytes) {
    std::mt19937_64 random(1);
    for (int i = 0; i < 300000; ++i) {
        Bytes frame(random() % 200);
        for (uint8_t& byte : frame) byte = static_cast<uint8_t>(random());
        // So that more than a few get past the first check.
        if (frame.size() > 24 && random() % 4 != 0) {
            frame[12] = random() % 2 != 0 ? 0x08 : 0x86;
            frame[13] = frame[12] == 0x08 ? 0x00 : 0xdd;
            frame[14] = static_cast<uint8_t>((frame[12] == 0x08 ? 0x40 : 0x60) | (random() % 16));
            frame[frame[12] == 0x08 ? 23 : 20] = 17;
        }
        expect_sound(see(frame), frame.size());
    }
}

TEST(Fuzz, RandomPayloads) {
    std::mt19937_64 random(2);
    for (int i = 0; i < 60000; ++i) {
        Bytes payload(random() % 80);
        for (uint8_t& byte : payload) byte = static_cast<uint8_t>(random());
        if (!payload.empty() && random() % 2 != 0) payload[0] = random() % 2 != 0 ? 0x78 : 0x7c;
        Bytes packet = rtp_packet({}, payload);
        packet[0] = static_cast<uint8_t>(0x80 | random() % 64);
        const Bytes frame = frame_of({}, packet);
        expect_sound(see(frame), frame.size());
    }
}

TEST(Fuzz, MutatedPackets) {
    std::mt19937_64 random(3);
    const std::vector<Bytes> frames = honest_frames();
    uint64_t survived = 0;
    for (int i = 0; i < 300000; ++i) {
        Bytes frame = frames[random() % frames.size()];
        const size_t reach = std::min<size_t>(frame.size(), 120);
        for (uint64_t n = random() % 4 + 1; n > 0; --n) {
            uint8_t& byte = frame[random() % reach];
            byte = random() % 2 != 0 ? static_cast<uint8_t>(random()) : static_cast<uint8_t>(byte ^ 1 << random() % 8);
        }
        if (random() % 4 == 0) frame.resize(random() % (frame.size() + 1));
        const Seen seen = see(frame);
        expect_sound(seen, frame.size());
        survived += seen.found == ADP_RTP_PACKET ? 1 : 0;
    }
    EXPECT_GT(plain_frames, 10000U);
    EXPECT_GT(survived, 10000U) << "the mutations never got past the first check";
}

}  // namespace
}  // namespace adapath::testing
