// What of a rendition goes up when there is no room for all: whole chunks, else whole pictures, and it always begins
// with a chunk.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include <adapath/select.h>

#include "tests/support/rtp_camera.h"
#include "userspace/relay/chunk_filter.h"

namespace adapath::relay {
namespace {

using testing::Bytes;
using testing::RtpRendition;

struct Passed {
    size_t picture = 0;
    bool pass = false;
    bool after_drop = false;
};

class Filter : public ::testing::Test {
protected:
    ChunkFilter::Verdict give(const Bytes& packet, Pressure pressure) {
        const adp_view view{packet.data(), packet.data() + packet.size()};
        adp_rtp rtp{};
        EXPECT_EQ(adp_rtp_parse(&view, 0, static_cast<adp_u32>(packet.size()), &rtp), ADP_RTP_PACKET);
        now_us_ += 100;
        return filter_.on_packet(rtp, adp_h264_look(&view, rtp.offset, rtp.bytes), static_cast<uint32_t>(packet.size()),
                                 pressure, now_us_);
    }
    // The next picture, all of it under one pressure.
    std::vector<Passed> picture(Pressure pressure) {
        std::vector<Passed> result;
        const size_t number = camera_.pictures;
        for (const Bytes& packet : camera_.picture()) {
            const ChunkFilter::Verdict verdict = give(packet, pressure);
            result.push_back({number, verdict.pass, verdict.after_drop});
        }
        return result;
    }
    static bool all(const std::vector<Passed>& packets) {
        return std::ranges::all_of(packets, [](const Passed& p) { return p.pass; });
    }
    static bool none(const std::vector<Passed>& packets) {
        return std::ranges::none_of(packets, [](const Passed& p) { return p.pass; });
    }

    ChunkFilter filter_;
    RtpRendition camera_;
    uint64_t now_us_ = 1'000'000;
};

TEST_F(Filter, AllPassesWhereThereIsRoom) {
    for (int i = 0; i < 50; ++i) {
        for (const Passed& packet : picture(Pressure::none)) {
            EXPECT_TRUE(packet.pass);
            EXPECT_FALSE(packet.after_drop);
        }
    }
    EXPECT_EQ(filter_.counters().chunks, 5U);
    EXPECT_EQ(filter_.counters().dropped_packets, 0U);
}

TEST_F(Filter, NothingPassesBeforeAChunkBegins) {
    camera_.pictures = 3;
    for (int i = 3; i < 10; ++i) EXPECT_TRUE(none(picture(Pressure::none))) << i;
    EXPECT_GT(filter_.counters().waiting, 0U);
    const std::vector<Passed> first = picture(Pressure::none);
    EXPECT_TRUE(all(first));
    EXPECT_TRUE(first[0].after_drop);
    EXPECT_FALSE(first[1].after_drop);
}

TEST_F(Filter, ChunksAreDroppedWholeAndOnesUnderWayEnd) {
    for (int i = 0; i < 5; ++i) EXPECT_TRUE(all(picture(Pressure::none)));
    for (int i = 5; i < 10; ++i) EXPECT_TRUE(all(picture(Pressure::chunks))) << i;
    EXPECT_TRUE(none(picture(Pressure::chunks)));
    // There is room again, but this chunk's beginning is gone.
    for (int i = 11; i < 20; ++i) EXPECT_TRUE(none(picture(Pressure::none))) << i;
    const std::vector<Passed> next = picture(Pressure::none);
    EXPECT_TRUE(all(next));
    EXPECT_TRUE(next[0].after_drop);
    EXPECT_EQ(filter_.counters().dropped_chunks, 1U);
    EXPECT_EQ(filter_.counters().cut_chunks, 0U);
}

TEST_F(Filter, AChunkIsCutBetweenPictures) {
    camera_.picture_bytes = 5000;
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(all(picture(Pressure::none)));
    const std::vector<Bytes> packets = camera_.picture();
    ASSERT_GT(packets.size(), 3U);
    EXPECT_TRUE(give(packets[0], Pressure::none).pass);
    for (size_t i = 1; i < packets.size(); ++i) EXPECT_TRUE(give(packets[i], Pressure::pictures).pass) << i;
    EXPECT_TRUE(none(picture(Pressure::pictures)));
    EXPECT_TRUE(none(picture(Pressure::none)));
    EXPECT_EQ(filter_.counters().cut_chunks, 1U);
    EXPECT_EQ(filter_.counters().dropped_chunks, 0U);
}

TEST_F(Filter, NothingPassesWhenTheConnectionIsAwayAndThenAChunkBegins) {
    for (int i = 0; i < 3; ++i) EXPECT_TRUE(all(picture(Pressure::none)));
    filter_.cut();
    for (int i = 3; i < 10; ++i) EXPECT_TRUE(none(picture(Pressure::none))) << i;
    EXPECT_TRUE(picture(Pressure::none)[0].after_drop);
    EXPECT_EQ(filter_.counters().cut_chunks, 1U);
}

// Even where nothing was under way that could be missed: the server has a new connection.
TEST_F(Filter, ACutIsTold) {
    for (int i = 0; i < 10; ++i) EXPECT_TRUE(all(picture(Pressure::none)));
    filter_.cut();
    EXPECT_TRUE(picture(Pressure::none)[0].after_drop);
}

TEST_F(Filter, ALatePacketGoesTheWayOfItsOwnChunk) {
    for (int i = 0; i < 9; ++i) EXPECT_TRUE(all(picture(Pressure::none)));
    const std::vector<Bytes> last = camera_.picture();
    ASSERT_GE(last.size(), 2U);
    EXPECT_TRUE(give(last[0], Pressure::none).pass);
    EXPECT_TRUE(none(picture(Pressure::chunks)));  // the next chunk is dropped
    EXPECT_TRUE(give(last[1], Pressure::chunks).pass);
    // And the other way round.
    for (int i = 11; i < 19; ++i) EXPECT_TRUE(none(picture(Pressure::none)));
    const std::vector<Bytes> dropped = camera_.picture();
    EXPECT_FALSE(give(dropped[0], Pressure::none).pass);
    EXPECT_TRUE(all(picture(Pressure::none)));
    EXPECT_FALSE(give(dropped[1], Pressure::none).pass);
}

TEST_F(Filter, AnotherSenderHasToWaitUntilTheFirstIsSilent) {
    EXPECT_TRUE(all(picture(Pressure::none)));
    RtpRendition other;
    other.ssrc = 2;
    for (const Bytes& packet : other.picture()) EXPECT_FALSE(give(packet, Pressure::none).pass);
    EXPECT_GT(filter_.counters().foreign, 0U);
    EXPECT_TRUE(all(picture(Pressure::none)));
    now_us_ += ADP_SELECT_SILENT_US;
    other.pictures = 0;
    for (const Bytes& packet : other.picture()) EXPECT_TRUE(give(packet, Pressure::none).pass);
}

// A group of pictures longer than half of all sequence numbers is one chunk still.
TEST_F(Filter, AChunkMayBeLongerThanTheSequenceIs) {
    camera_.group = 1'000'000;
    for (int i = 0; i < 70'000; ++i) ASSERT_TRUE(all(picture(Pressure::none))) << i;
    EXPECT_EQ(filter_.counters().chunks, 1U);
}

// Whatever the pressures and losses, what passes of a chunk is its first pictures whole, up to where packets were lost.
TEST_F(Filter, HoldsUnderRandomPressure) {
    std::mt19937 random(7);
    for (int chunk = 0; chunk < 2000; ++chunk) {
        bool passing = true;
        for (uint32_t i = 0; i < camera_.group; ++i) {
            const auto pressure = static_cast<Pressure>(random() % 8 < 5 ? 0 : random() % 4);
            const std::vector<Passed> packets = picture(pressure);
            ASSERT_TRUE(all(packets) || none(packets));
            ASSERT_TRUE(passing || none(packets)) << "a picture without those before it";
            passing = all(packets);
        }
        if (random() % 50 == 0) filter_.cut();
    }
    EXPECT_GT(filter_.counters().dropped_chunks, 100U);
    EXPECT_GT(filter_.counters().cut_chunks, 100U);
    EXPECT_LT(filter_.counters().dropped_chunks + filter_.counters().cut_chunks, 2000U);
}

}  // namespace
}  // namespace adapath::relay
