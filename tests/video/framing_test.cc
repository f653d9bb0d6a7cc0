// The frame header and the reader that cuts a stream into frames.
#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "userspace/video/framing.h"

namespace adapath::video {
namespace {

adp_video_header header_of(uint64_t frame, uint32_t payload, uint8_t flags = 0) {
    adp_video_header header{};
    header.camera = 7;
    header.frame = frame;
    header.capture_ns = 123'456'789'012 + frame;
    header.payload = payload;
    header.skipped = 3;
    header.picture = 41;
    header.flags = flags;
    return header;
}

void feed(FrameReader& reader, std::span<const uint8_t> bytes) {
    std::span<uint8_t> space = reader.space();
    ASSERT_GE(space.size(), bytes.size());
    std::memcpy(space.data(), bytes.data(), bytes.size());
    reader.filled(bytes.size());
}

// The layout that another implementation has to match, byte by byte.
TEST(Framing, LayoutOnTheWire) {
    adp_video_header header{};
    header.frame = 0x0102030405060708;
    header.capture_ns = 0x1112131415161718;
    header.payload = 5;
    header.skipped = 0x31323334;
    header.picture = 0x41424344;
    header.camera = 0x5152;
    header.flags = ADP_VIDEO_KEY;
    std::vector<uint8_t> payload = {9, 8, 7, 6, 5};
    std::vector<uint8_t> expected = {'A',  'D',  'P',  'V',  1,    1,    0x51, 0x52, 1,    2,    3, 4, 5, 6,
                                     7,    8,    0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0, 0, 0, 5,
                                     0x31, 0x32, 0x33, 0x34, 0x41, 0x42, 0x43, 0x44, 9,    8,    7, 6, 5};
    EXPECT_EQ(frame_bytes(header, payload), expected);
}

TEST(Framing, RoundTripWhateverTheSplit) {
    std::mt19937 random(1);
    std::vector<std::vector<uint8_t>> payloads;
    std::vector<uint8_t> stream;
    for (size_t size : {1UL, 35UL, 36UL, 37UL, 1000UL, 64UL * 1024, 200'000UL, 17UL}) {
        std::vector<uint8_t> payload(size);
        std::generate(payload.begin(), payload.end(), [&] { return static_cast<uint8_t>(random()); });
        std::vector<uint8_t> bytes =
            frame_bytes(header_of(payloads.size(), static_cast<uint32_t>(size), ADP_VIDEO_KEY), payload);
        stream.insert(stream.end(), bytes.begin(), bytes.end());
        payloads.push_back(payload);
    }
    std::vector<uint8_t> end = frame_bytes(header_of(payloads.size(), 0, ADP_VIDEO_END), {});
    stream.insert(stream.end(), end.begin(), end.end());

    for (size_t most : {1UL, 7UL, 36UL, 1448UL, 64UL * 1024}) {
        SCOPED_TRACE(most);
        FrameReader reader;
        size_t frames = 0;
        bool ended = false;
        for (size_t at = 0; at < stream.size();) {
            size_t bytes = std::min(stream.size() - at, most == 1448 ? 1 + random() % most : most);
            feed(reader, {stream.data() + at, bytes});
            at += bytes;
            for (;;) {
                Result<FrameReader::State> state = reader.next();
                ASSERT_TRUE(state.ok()) << state.error().message;
                if (*state == FrameReader::State::more) {
                    break;
                }
                EXPECT_EQ(reader.header().frame, frames);
                EXPECT_EQ(reader.header().camera, 7);
                EXPECT_EQ(reader.header().capture_ns, 123'456'789'012 + frames);
                if ((reader.header().flags & ADP_VIDEO_END) != 0) {
                    ended = true;
                    EXPECT_TRUE(reader.payload().empty());
                    continue;
                }
                ASSERT_LT(frames, payloads.size());
                EXPECT_TRUE(std::equal(reader.payload().begin(), reader.payload().end(), payloads[frames].begin(),
                                       payloads[frames].end()));
                frames++;
            }
        }
        EXPECT_EQ(frames, payloads.size());
        EXPECT_TRUE(ended);
        EXPECT_EQ(reader.partial_bytes(), 0U);
    }
}

TEST(Framing, MalformedHeadersAreErrors) {
    struct Case {
        const char* what;
        size_t offset;
        uint8_t value;
        const char* expect;
    };
    // Offsets are those of struct adp_video_wire.
    const Case cases[] = {
        {"magic", 0, 'X', "begins with 0x58445056"},
        {"version", 4, 2, "version 2 is not 1"},
        {"flags", 5, 0x80, "unknown flags 0x80"},
        {"payload too long", 24, 0x7f, "a payload of"},
        {"payload with the end flag", 5, ADP_VIDEO_END, "a payload of 3 bytes"},
        {"no payload without the end flag", 27, 0, "a payload of 0 bytes"},
    };
    for (const Case& one : cases) {
        SCOPED_TRACE(one.what);
        std::vector<uint8_t> payload = {1, 2, 3};
        std::vector<uint8_t> bytes = frame_bytes(header_of(0, 3), payload);
        bytes[one.offset] = one.value;
        FrameReader reader;
        feed(reader, bytes);
        Result<FrameReader::State> state = reader.next();
        ASSERT_FALSE(state.ok());
        EXPECT_NE(state.error().message.find(one.expect), std::string::npos) << state.error().message;
    }
}

TEST(Framing, CutOffFrameIsKnown) {
    std::vector<uint8_t> payload(100, 1);
    std::vector<uint8_t> bytes = frame_bytes(header_of(12, 100), payload);
    FrameReader reader;
    adp_video_header header{};
    feed(reader, {bytes.data(), 20});
    ASSERT_EQ(*reader.next(), FrameReader::State::more);
    EXPECT_EQ(reader.partial_bytes(), 20U);
    EXPECT_FALSE(reader.partial_header(header));
    feed(reader, {bytes.data() + 20, 50});
    ASSERT_EQ(*reader.next(), FrameReader::State::more);
    EXPECT_EQ(reader.partial_bytes(), 70U);
    ASSERT_TRUE(reader.partial_header(header));
    EXPECT_EQ(header.frame, 12U);
}

// Random bytes must give an error or wait for more, never a frame that was not sent, and never read beyond the buffer.
TEST(Framing, NoiseIsNoFrame) {
    std::mt19937 random(2);
    for (int round = 0; round < 2000; round++) {
        std::vector<uint8_t> noise(36 + random() % 100);
        std::generate(noise.begin(), noise.end(), [&] { return static_cast<uint8_t>(random()); });
        FrameReader reader;
        feed(reader, noise);
        ASSERT_FALSE(reader.next().ok());
    }
}

}  // namespace
}  // namespace adapath::video
