// The live encoder with a remembered background: budget, regions that the server asks for, a background that is lost,
// and video on which none pays. x264 itself, no clock: pictures are as far apart as the test says.
#include <algorithm>
#include <limits>
#include <random>

#include <gtest/gtest.h>

extern "C" {
#include <libavutil/video_enc_params.h>
}

#include "userspace/qp/region_live_encoder.h"
#include "userspace/video/av.h"
#include "userspace/video/background.h"
#include "userspace/video/background_sei.h"
#include "userspace/video/decoder.h"

namespace adapath {
namespace {

using namespace video;

constexpr Size size{384, 288};
constexpr double fps = 10;
constexpr unsigned group = 10;

const Clip* clip() {
    static const Result<Clip> loaded = Clip::load(ADAPATH_TEST_CLIP, size, uint64_t{400} * picture_bytes(size));
    return loaded ? &*loaded : nullptr;
}

struct Sent {
    std::vector<uint8_t> bytes;
    bool key = false;
    std::optional<BackgroundSei> sei;
};

class Encoding {
public:
    Encoding(const Clip& clip, const RegionLiveOptions& options, double kbps) : clip_(clip), kbps_(kbps) {
        encoder_ = std::move(*region_encoders(options)(0, clip.size(), fps, kbps));
    }
    std::vector<Sent> chunk() {
        std::vector<Sent> chunk;
        for (unsigned i = 0; i < group; i++, pictures_++) {
            const Result<EncodedFrame> frame =
                encoder_->encode(clip_.picture(pictures_), kbps_, static_cast<uint64_t>(pictures_ * (1e9 / fps)) + 1);
            if (!frame) {
                ADD_FAILURE() << frame.error().message;
                return {};
            }
            const Result<std::optional<BackgroundSei>> sei = find_background_sei(frame->bytes);
            if (!sei) {
                ADD_FAILURE() << sei.error().message;
                return {};
            }
            chunk.push_back({{frame->bytes.begin(), frame->bytes.end()}, frame->key, *sei});
        }
        return chunk;
    }
    // So many pictures, to be cut off by begin_anew().
    void part(unsigned pictures) {
        for (unsigned i = 0; i < pictures; i++, pictures_++) {
            EXPECT_TRUE(
                encoder_->encode(clip_.picture(pictures_), kbps_, static_cast<uint64_t>(pictures_ * (1e9 / fps)) + 1)
                    .ok());
        }
    }
    void begin_anew() { encoder_->begin_anew(); }
    double bytes(unsigned chunks) {
        double sum = 0;
        for (unsigned i = 0; i < chunks; i++) {
            for (const Sent& sent : chunk()) {
                sum += static_cast<double>(sent.bytes.size());
            }
        }
        return sum;
    }
    [[nodiscard]] EncoderRequests& requests() { return *encoder_->requests(); }
    [[nodiscard]] RegionStats stats() const { return *encoder_->regions(); }
    [[nodiscard]] double budget() const { return kbps_ * 125 * group / fps; }

private:
    const Clip& clip_;
    double kbps_;
    std::unique_ptr<LiveEncoder> encoder_;
    uint64_t pictures_ = 0;
};

RegionLiveOptions with_background(bool always) {
    RegionLiveOptions options;
    options.group = group;
    options.background = true;
    options.always = always;
    return options;
}

// Pictures of noise, each another one.
Clip noise(Size of, uint32_t pictures) {
    std::mt19937 random(3);
    std::vector<uint8_t> bytes(picture_bytes(of) * pictures);
    for (uint8_t& byte : bytes) {
        byte = static_cast<uint8_t>(64 + random() % 128);
    }
    return *Clip::from_i420(std::move(bytes), of);
}

// The quantisers of a picture's macroblocks, as the stream has them.
std::vector<int> quantisers_in(const std::vector<uint8_t>& key_frame) {
    const AVCodec* codec = avcodec_find_decoder(AV_CODEC_ID_H264);
    const AvCodec context(avcodec_alloc_context3(codec));
    context->thread_count = 1;
    context->flags |= AV_CODEC_FLAG_LOW_DELAY;
    context->export_side_data |= AV_CODEC_EXPORT_DATA_VIDEO_ENC_PARAMS;
    EXPECT_EQ(avcodec_open2(context.get(), codec, nullptr), 0);
    const AvPacket packet(av_packet_alloc());
    EXPECT_EQ(av_new_packet(packet.get(), static_cast<int>(key_frame.size())), 0);
    std::copy(key_frame.begin(), key_frame.end(), packet->data);
    EXPECT_EQ(avcodec_send_packet(context.get(), packet.get()), 0);
    EXPECT_TRUE(avcodec_send_packet(context.get(), nullptr) == 0);
    const AvFrame frame(av_frame_alloc());
    EXPECT_EQ(avcodec_receive_frame(context.get(), frame.get()), 0);
    const AVFrameSideData* side = av_frame_get_side_data(frame.get(), AV_FRAME_DATA_VIDEO_ENC_PARAMS);
    if (side == nullptr) {
        ADD_FAILURE() << "libav exports no quantisers";
        return {};
    }
    auto* parameters = reinterpret_cast<AVVideoEncParams*>(side->data);
    std::vector<int> all;
    for (unsigned i = 0; i < parameters->nb_blocks; i++) {
        all.push_back(parameters->qp + av_video_enc_params_block(parameters, i)->delta_qp);
    }
    return all;
}

class BackgroundEncoder : public ::testing::Test {
protected:
    void SetUp() override {
        if (clip() == nullptr) {
            GTEST_SKIP() << "the clip is not there: scripts/deps.sh fetches it";
        }
    }
};

TEST_F(BackgroundEncoder, KeepsToItsBudget) {
    for (const double kbps : {50.0, 80.0, 150.0, 300.0}) {
        Encoding encoding(*clip(), with_background(true), kbps);
        // One uniform chunk, from which the background's cost is guessed.
        encoding.chunk();
        const double bytes = encoding.bytes(20);
        EXPECT_NEAR(bytes / (20 * encoding.budget()), 1, 0.1) << kbps << " kbit/s";
        const RegionStats stats = encoding.stats();
        EXPECT_EQ(stats.background->chunks, 20U);
        EXPECT_EQ(stats.background->epochs, 1U);
    }
}

// Regions come and go, and take bytes from the rest.
TEST_F(BackgroundEncoder, KeepsToItsBudgetWithRegions) {
    std::mt19937 random(4);
    for (const double kbps : {80.0, 150.0}) {
        Encoding encoding(*clip(), with_background(true), kbps);
        encoding.chunk();
        double bytes = 0;
        for (int i = 0; i < 20; i++) {
            const float x = static_cast<float>(random() % 50) / 100;
            const float y = static_cast<float>(random() % 50) / 100;
            if (random() % 5 != 0) {
                encoding.requests().ask({{x, y, x + 0.5F, y + 0.45F}});
            }
            bytes += encoding.bytes(1);
        }
        EXPECT_NEAR(bytes / (20 * encoding.budget()), 1, 0.1) << kbps << " kbit/s";
    }
}

TEST_F(BackgroundEncoder, SendingTheWholeBackgroundDoesNotBreakTheBudget) {
    for (const bool asks : {false, true}) {
        for (const double kbps : {50.0, 80.0, 150.0, 300.0}) {
            Encoding encoding(*clip(), with_background(false), kbps);
            while (!encoding.stats().background->sending) {
                ASSERT_LT(encoding.stats().chunks, 10U) << "it pays on this clip";
                if (asks) {
                    encoding.requests().ask({{0.3F, 0.3F, 0.7F, 0.8F}});
                }
                const double bytes = encoding.bytes(1);
                if (encoding.stats().background->sending) {
                    // What it costs is guessed from uniform chunks, whose regions are not what the whole picture is.
                    EXPECT_LT(bytes, (asks ? 2.5 : 1.8) * encoding.budget()) << kbps << " kbit/s, regions " << asks;
                }
            }
            EXPECT_EQ(encoding.stats().background->trials, 1U);
            EXPECT_LT(encoding.stats().background->ratio, asks ? 0.98 : 0.9);
            EXPECT_EQ(encoding.stats().background->also, 5 * group);
        }
    }
}

TEST_F(BackgroundEncoder, NotesAreNumberedThroughAnEpoch) {
    Encoding encoding(*clip(), with_background(true), 150);
    for (const Sent& sent : encoding.chunk()) {
        EXPECT_FALSE(sent.sei);
    }
    uint32_t epoch = 0;
    uint32_t number = 0;
    for (int chunk = 0; chunk < 30; chunk++) {
        bool first = true;
        for (const Sent& sent : encoding.chunk()) {
            ASSERT_TRUE(sent.sei);
            EXPECT_EQ(sent.key, first);
            EXPECT_EQ(sent.sei->begins, first);
            EXPECT_EQ(sent.sei->number, first ? number : number & 0xff);
            if (chunk == 0 && first) {
                epoch = sent.sei->epoch;
            }
            EXPECT_EQ(sent.sei->epoch, first ? epoch : 0);
            first = false;
            number++;
        }
    }
}

TEST_F(BackgroundEncoder, ALostBackgroundBeginsAnewWithTheNextChunk) {
    Encoding encoding(*clip(), with_background(true), 150);
    encoding.bytes(5);
    const std::vector<Sent> before = encoding.chunk();
    const uint32_t epoch = before[0].sei->epoch;
    encoding.requests().lost({epoch, false});
    const std::vector<Sent> after = encoding.chunk();
    EXPECT_NE(after[0].sei->epoch, epoch);
    EXPECT_EQ(after[0].sei->number, 0U);
    // Nothing is recalled of what the server has not got.
    const Result<PictureNote> note = read_note(after[0].sei->note, size.width / 16, size.height / 16, {});
    ASSERT_TRUE(note.ok());
    EXPECT_EQ(std::ranges::count(note->blocks, BlockUse::recalled), 0);
    // A request that is late is about an epoch that is over.
    encoding.requests().lost({epoch, false});
    EXPECT_EQ(encoding.chunk()[0].sei->epoch, after[0].sei->epoch);
    EXPECT_EQ(encoding.stats().background->lost, 1U);
    EXPECT_EQ(encoding.stats().background->epochs, 2U);
}

// The connection was made again: what follows is for a server that has nothing.
TEST_F(BackgroundEncoder, BeginsAnewInTheMiddleOfAChunk) {
    for (const bool always : {false, true}) {
        Encoding encoding(*clip(), with_background(always), 150);
        encoding.bytes(12);
        ASSERT_TRUE(encoding.stats().background->sending);
        const uint32_t epoch = encoding.chunk()[0].sei->epoch;
        encoding.part(3);
        encoding.requests().ask({{0, 0, 1, 1}});  // of a chunk that is lost
        encoding.begin_anew();
        const std::vector<Sent> after = encoding.chunk();
        EXPECT_TRUE(after[0].key);
        ASSERT_TRUE(after[0].sei);
        EXPECT_NE(after[0].sei->epoch, epoch);
        EXPECT_EQ(after[0].sei->number, 0U);
        for (unsigned i = 1; i < group; i++) {
            EXPECT_FALSE(after[i].key) << "and the chunk is whole";
            EXPECT_EQ(after[i].sei->number, i);
        }
        EXPECT_EQ(encoding.stats().cut, 1U);
        EXPECT_EQ(encoding.stats().asked, 0U);
        EXPECT_EQ(encoding.stats().background->lost, 1U);
        EXPECT_EQ(encoding.stats().background->epochs, 2U);
        // Once more at once: an epoch that lasts no time does not pay, and where that counts there is none.
        encoding.begin_anew();
        EXPECT_EQ(encoding.chunk()[0].sei.has_value(), always);
        EXPECT_EQ(encoding.stats().cut, 1U);
    }
}

// In uniform quality it is a group cut short; a trial goes on with the next.
TEST_F(BackgroundEncoder, BeginsAnewInTheMiddleOfATrial) {
    Encoding encoding(*clip(), with_background(false), 150);
    for (int i = 0; i < 4; i++) {
        encoding.part(4);
        encoding.begin_anew();
        const std::vector<Sent> chunk = encoding.chunk();
        EXPECT_TRUE(chunk[0].key);
        EXPECT_FALSE(chunk[0].sei);
    }
    EXPECT_EQ(encoding.stats().cut, 4U);
    EXPECT_EQ(encoding.stats().background->trials, 0U) << "four chunks were whole";
    encoding.chunk();
    EXPECT_EQ(encoding.stats().background->trials, 1U);
    EXPECT_TRUE(encoding.chunk()[0].sei) << "it pays on this clip";
}

TEST_F(BackgroundEncoder, AServerWithoutRoomGetsUniformQuality) {
    Encoding encoding(*clip(), with_background(false), 150);
    encoding.bytes(8);
    ASSERT_TRUE(encoding.stats().background->sending);
    encoding.requests().lost({encoding.chunk()[0].sei->epoch, true});
    for (int chunk = 0; chunk < 100; chunk++) {
        EXPECT_FALSE(encoding.chunk()[0].sei);
    }
}

TEST_F(BackgroundEncoder, ABackgroundThatIsLostAtOnceDoesNotComeBackSoon) {
    Encoding encoding(*clip(), with_background(false), 150);
    encoding.bytes(5);
    encoding.requests().lost({encoding.chunk()[0].sei->epoch, false});
    for (int chunk = 0; chunk < 30; chunk++) {
        EXPECT_FALSE(encoding.chunk()[0].sei);
    }
    encoding.bytes(6);
    EXPECT_TRUE(encoding.stats().background->sending) << "after another trial";
}

// The middle of the picture, and what is left of it.
constexpr EncoderRequests::Region asked{0.40F, 0.35F, 0.60F, 0.62F};
bool in_asked(size_t block) {
    const int column = static_cast<int>(block) % (size.width / 16);
    const int row = static_cast<int>(block) / (size.width / 16);
    return column >= 9 && column <= 14 && row >= 6 && row <= 11;
}

TEST_F(BackgroundEncoder, RegionsGetTheHighQualityInTheNextChunk) {
    for (const bool background : {false, true}) {
        RegionLiveOptions options = with_background(true);
        options.background = background;
        Encoding encoding(*clip(), options, 150);
        encoding.bytes(6);
        encoding.requests().ask({asked});
        const std::vector<Sent> sharp = encoding.chunk();
        const RegionStats stats = encoding.stats();
        EXPECT_EQ(stats.asked, 1U);
        EXPECT_NEAR(stats.asked_share, 36.0 / (24 * 18), 1e-6);
        EXPECT_EQ(stats.qp_low - stats.qp_high, options.gap);
        const std::vector<int> qps = quantisers_in(sharp[0].bytes);
        ASSERT_EQ(qps.size(), 24U * 18U);
        int high = 0;
        int low = 0;
        for (size_t block = 0; block < qps.size(); block++) {
            if (in_asked(block)) {
                high += qps[block] == stats.qp_high ? 1 : 0;
            } else {
                low += qps[block] > stats.qp_high ? 1 : 0;
            }
        }
        // A block without a coefficient has no quantiser of its own in the stream.
        EXPECT_GE(high, 33) << "of 36 blocks, background " << background;
        EXPECT_GE(low, background ? 380 : 390) << "of 396";
        if (background) {
            // The server sees them, not what it remembers.
            const Result<PictureNote> note = read_note(sharp[0].sei->note, 24, 18, {});
            for (size_t block = 0; block < note->blocks.size(); block++) {
                EXPECT_FALSE(in_asked(block) && note->blocks[block] == BlockUse::recalled);
            }
        }
        // For one chunk: who still wants it asks again.
        encoding.chunk();
        EXPECT_EQ(encoding.stats().asked, 1U);
        EXPECT_EQ(encoding.stats().qp_low, encoding.stats().qp_high);
    }
}

TEST_F(BackgroundEncoder, RegionsThatMakeNoSenseChangeNothing) {
    Encoding encoding(*clip(), with_background(true), 150);
    encoding.bytes(2);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    encoding.requests().ask({{nan, 0, 1, 1}, {0, nan, 1, 1}, {0.5F, 0.5F, 0.5F, 0.9F}, {0.9F, 0.1F, 0.2F, 0.3F}});
    encoding.chunk();
    EXPECT_EQ(encoding.stats().asked, 0U);
    // Beyond the picture: its edge.
    encoding.requests().ask({{-1e30F, -5, 1e30F, 7}});
    encoding.chunk();
    EXPECT_EQ(encoding.stats().asked, 1U);
    EXPECT_NEAR(encoding.stats().asked_share, 1, 1e-9);
}

// Where no background pays, the stream is what it would be without one, byte for byte: nothing is lost to it but
// processor time, and less and less of that.
TEST(BackgroundFallback, NoiseIsSentInUniformQuality) {
    const Size of{192, 144};
    const Clip clip = noise(of, 97);
    RegionLiveOptions uniform;
    uniform.group = group;
    Encoding with(clip, with_background(false), 400);
    Encoding without(clip, uniform, 400);
    for (int chunk = 0; chunk < 110; chunk++) {
        const std::vector<Sent> a = with.chunk();
        const std::vector<Sent> b = without.chunk();
        for (size_t i = 0; i < group; i++) {
            ASSERT_EQ(a[i].bytes, b[i].bytes) << "chunk " << chunk << ", picture " << i;
        }
    }
    const BackgroundStats stats = *with.stats().background;
    EXPECT_GE(stats.ratio, 1.0) << "notes cost bytes, and nothing is saved";
    EXPECT_EQ(stats.chunks, 0U);
    EXPECT_EQ(stats.trials, 3U) << "after 5, 40 and 105 chunks";
    EXPECT_EQ(stats.also, 15U * group);
}

// A scene that stands still and then is nothing but noise: the background is given up, and taken again afterwards.
TEST(BackgroundFallback, FollowsAScene) {
    const Size of{192, 144};
    const Clip moving = noise(of, 50);
    std::vector<uint8_t> still(picture_bytes(of));
    std::mt19937 random(8);
    for (uint8_t& byte : still) {
        byte = static_cast<uint8_t>(64 + random() % 128);
    }
    std::vector<uint8_t> bytes;
    for (int i = 0; i < 600; i++) {
        if (i < 200 || i >= 400) {
            bytes.insert(bytes.end(), still.begin(), still.end());
        } else {
            const Picture picture = moving.picture(static_cast<uint64_t>(i));
            bytes.insert(bytes.end(), picture.y, picture.y + picture_bytes(of));
        }
    }
    const Clip clip = *Clip::from_i420(std::move(bytes), of);
    RegionLiveOptions options = with_background(false);
    options.trials = {.length = 3, .every = 5, .every_most = 10, .soon = 2};
    Encoding encoding(clip, options, 400);
    encoding.bytes(10);
    EXPECT_TRUE(encoding.stats().background->sending);
    encoding.bytes(25);
    EXPECT_FALSE(encoding.stats().background->sending) << "ratio " << encoding.stats().background->ratio;
    encoding.bytes(25);
    EXPECT_TRUE(encoding.stats().background->sending) << "ratio " << encoding.stats().background->ratio;
}

}  // namespace
}  // namespace adapath
