// The app select on what a real encoder and a real packetiser send (x264 and libav's RTP muxer): every chunk is found,
// and what passes can be decoded to the last picture.
#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
}

#include "tests/support/selected_camera.h"

namespace adapath::testing {
namespace {

struct Deleter {
    void operator()(AVCodecContext* c) const { avcodec_free_context(&c); }
    void operator()(AVFrame* f) const { av_frame_free(&f); }
    void operator()(AVPacket* p) const { av_packet_free(&p); }
    void operator()(AVFormatContext* f) const { avformat_free_context(f); }
    void operator()(AVIOContext* io) const {
        av_freep(&io->buffer);
        avio_context_free(&io);
    }
};
template <typename T>
using Av = std::unique_ptr<T, Deleter>;

constexpr int kFps = 10;
constexpr int kGroup = 10;

// A moving pattern, encoded and sent as RTP.
class RealRendition {
public:
    RealRendition(int width, int height, int kbps, uint32_t rendition, uint64_t phase_us)
        : rendition_(rendition), phase_us_(phase_us) {
        const AVCodec* codec = avcodec_find_encoder_by_name("libx264");
        if (codec == nullptr) return;
        encoder_.reset(avcodec_alloc_context3(codec));
        encoder_->width = width;
        encoder_->height = height;
        encoder_->pix_fmt = AV_PIX_FMT_YUV420P;
        encoder_->time_base = {1, kFps};
        encoder_->gop_size = kGroup;
        encoder_->max_b_frames = 0;
        encoder_->bit_rate = kbps * 1000;
        encoder_->thread_count = rendition == ADP_SELECT_SUB ? 2 : 1;  // of two slices a picture, and of one
        av_opt_set(encoder_->priv_data, "preset", "ultrafast", 0);
        av_opt_set(encoder_->priv_data, "tune", "zerolatency", 0);
        av_opt_set(encoder_->priv_data, "x264-params", "scenecut=0", 0);
        if (avcodec_open2(encoder_.get(), codec, nullptr) != 0) return;
        AVFormatContext* format = nullptr;
        avformat_alloc_output_context2(&format, nullptr, "rtp", nullptr);
        muxer_.reset(format);
        AVStream* stream = avformat_new_stream(format, nullptr);
        avcodec_parameters_from_context(stream->codecpar, encoder_.get());
        stream->time_base = {1, 90000};
        io_.reset(
            avio_alloc_context(static_cast<uint8_t*>(av_malloc(1200)), 1200, 1, this, nullptr, on_packet, nullptr));
        io_->max_packet_size = 1200;
        format->pb = io_.get();
        format->packet_size = 1200;
        if (avformat_write_header(format, nullptr) < 0) return;
        frame_.reset(av_frame_alloc());
        frame_->width = width;
        frame_->height = height;
        frame_->format = AV_PIX_FMT_YUV420P;
        ready_ = av_frame_get_buffer(frame_.get(), 0) == 0;
    }
    ~RealRendition() {
        if (ready_) av_write_trailer(muxer_.get());
    }
    [[nodiscard]] bool ready() const { return ready_; }

    void run(int pictures) {
        std::mt19937 random(rendition_ + 1);
        Av<AVPacket> packet(av_packet_alloc());
        for (picture_ = 0; picture_ < pictures; ++picture_) {
            ASSERT_EQ(av_frame_make_writable(frame_.get()), 0);
            for (int y = 0; y < frame_->height; ++y)
                for (int x = 0; x < frame_->width; ++x)
                    frame_->data[0][y * frame_->linesize[0] + x] =
                        static_cast<uint8_t>(x * 3 + y * 2 + picture_ * 5 + (random() % 16));
            for (int plane = 1; plane < 3; ++plane)
                std::memset(frame_->data[plane], 128,
                            static_cast<size_t>(frame_->linesize[plane]) * frame_->height / 2);
            frame_->pts = picture_;
            ASSERT_EQ(avcodec_send_frame(encoder_.get(), frame_.get()), 0);
            while (avcodec_receive_packet(encoder_.get(), packet.get()) == 0) {
                packet->pts = packet->dts = int64_t{picture_} * 90000 / kFps;
                packet->stream_index = 0;
                ASSERT_EQ(av_write_frame(muxer_.get(), packet.get()), 0);
                av_packet_unref(packet.get());
            }
        }
    }
    std::vector<SentPacket> sent;
    std::vector<uint32_t> picture_of;  // of each of them
    uint64_t control_packets = 0;

private:
    static int on_packet(void* self, uint8_t* bytes, int size) {
        static_cast<RealRendition*>(self)->take({bytes, static_cast<size_t>(size)});
        return size;
    }
    void take(std::span<const uint8_t> bytes) {
        if (bytes.size() > 1 && bytes[1] >= 200 && bytes[1] <= 204) {  // RTCP shares the port
            ++control_packets;
            return;
        }
        const uint64_t us = phase_us_ + static_cast<uint64_t>(picture_) * 1000000 / kFps;
        sent.push_back(
            {us, rendition_, static_cast<uint32_t>(picture_ / kGroup), sent.size(), Bytes(bytes.begin(), bytes.end())});
        picture_of.push_back(static_cast<uint32_t>(picture_));
    }

    uint32_t rendition_;
    uint64_t phase_us_;
    int picture_ = 0;
    bool ready_ = false;
    Av<AVCodecContext> encoder_;
    Av<AVFrame> frame_;
    Av<AVIOContext> io_;
    Av<AVFormatContext> muxer_;
};

class RealVideo : public ::testing::Test {
protected:
    void SetUp() override {
        av_log_set_level(AV_LOG_ERROR);
        sub_ = std::make_unique<RealRendition>(320, 240, 150, ADP_SELECT_SUB, 0);
        main_ = std::make_unique<RealRendition>(640, 480, 900, ADP_SELECT_MAIN, 3000);
        if (!sub_->ready() || !main_->ready()) GTEST_SKIP() << "this libav has no x264";
        sub_->run(200);
        main_->run(200);
    }
    std::unique_ptr<RealRendition> sub_;
    std::unique_ptr<RealRendition> main_;
};

TEST_F(RealVideo, WhatPassesCanBeDecoded) {
    std::vector<SentPacket> all = sub_->sent;
    all.insert(all.end(), main_->sent.begin(), main_->sent.end());
    std::ranges::stable_sort(all, {}, &SentPacket::us);
    SelectedCamera camera;
    std::mt19937 random(3);
    camera.network = [&](std::span<const uint8_t>) {
        return std::array<int32_t, ADP_SELECT_OUTPUTS>{ADP_Q16_ONE / 2, random() % 2 != 0 ? ADP_Q16_ONE / 4 : 0};
    };
    camera.run(all);
    EXPECT_EQ(camera.halves(), 0U);
    EXPECT_EQ(camera.state().counters.malformed, 0U);
    std::array<size_t, 2> whole = {};
    for (uint32_t i = 0; i < 20; ++i) {
        const bool sub = camera.chunk(ADP_SELECT_SUB, i).whole();
        const bool main = camera.chunk(ADP_SELECT_MAIN, i).whole();
        EXPECT_NE(sub, main) << i;
        ++whole[main ? ADP_SELECT_MAIN : ADP_SELECT_SUB];
    }
    EXPECT_GT(whole[0], 4U);
    EXPECT_GT(whole[1], 4U);
    EXPECT_EQ(camera.state().streams[0].last.pictures, static_cast<uint32_t>(kGroup));

    for (const RealRendition* rendition : {sub_.get(), main_.get()}) {
        const uint32_t which = rendition == sub_.get() ? ADP_SELECT_SUB : ADP_SELECT_MAIN;
        Av<AVCodecContext> decoder(avcodec_alloc_context3(avcodec_find_decoder(AV_CODEC_ID_H264)));
        decoder->err_recognition = AV_EF_EXPLODE | AV_EF_BITSTREAM;
        decoder->flags |= AV_CODEC_FLAG_LOW_DELAY;
        ASSERT_EQ(avcodec_open2(decoder.get(), decoder->codec, nullptr), 0);
        Av<AVPacket> packet(av_packet_alloc());
        Av<AVFrame> frame(av_frame_alloc());
        uint64_t decoded = 0;
        const auto drain = [&] {
            while (avcodec_receive_frame(decoder.get(), frame.get()) == 0) {
                EXPECT_EQ(frame->decode_error_flags, 0);
                EXPECT_EQ(frame->flags & AV_FRAME_FLAG_CORRUPT, 0);
                ++decoded;
            }
        };
        for (size_t i = 0; i < rendition->sent.size();) {
            const uint32_t picture = rendition->picture_of[i];
            Bytes unit;
            for (; i < rendition->sent.size() && rendition->picture_of[i] == picture; ++i) {
                if (camera.chunk(which, picture / kGroup).passed.contains(rendition->sent[i].number))
                    depacketise(rendition->sent[i].bytes, unit);
            }
            if (unit.empty()) continue;
            ASSERT_EQ(av_new_packet(packet.get(), static_cast<int>(unit.size())), 0);
            std::memcpy(packet->data, unit.data(), unit.size());
            EXPECT_EQ(avcodec_send_packet(decoder.get(), packet.get()), 0) << "picture " << picture;
            av_packet_unref(packet.get());
            drain();
        }
        (void)avcodec_send_packet(decoder.get(), nullptr);
        drain();
        EXPECT_EQ(decoded, whole[which] * kGroup) << "rendition " << which;
    }
}

// Cut at every length and with bytes changed: nothing is read outside, and all of it is counted.
TEST_F(RealVideo, CutAndChangedPacketsDoNoHarm) {
    std::mt19937 random(4);
    SelectedCamera camera;
    uint64_t packets = 0;
    for (const SentPacket& p : main_->sent) {
        for (int i = 0; i < 4; ++i) {
            // In an allocation of just its size.
            Bytes bytes = p.bytes;
            for (uint32_t n = random() % 3; n > 0; --n)
                bytes[random() % std::min<size_t>(bytes.size(), 40)] = static_cast<uint8_t>(random());
            bytes.resize(random() % 2 != 0 ? bytes.size() : random() % (bytes.size() + 1));
            std::unique_ptr<uint8_t[]> exact(new uint8_t[bytes.size()]);
            std::ranges::copy(bytes, exact.get());
            (void)camera.packet(p.us, ADP_SELECT_MAIN, {exact.get(), bytes.size()});
            ++packets;
        }
    }
    EXPECT_EQ(camera.passed() + camera.dropped(), packets);
    EXPECT_GT(camera.state().counters.malformed, 100U);
    EXPECT_GT(camera.state().counters.foreign, 100U);
}

}  // namespace
}  // namespace adapath::testing
