// libav's H.264 decoder without delay.
#include "userspace/video/decoder.h"

#include <cstdarg>
#include <cstring>

extern "C" {
#include <libavutil/log.h>
}

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace adapath::video {

Result<Decoder> Decoder::open() {
    const AVCodec* codec = avcodec_find_decoder(AV_CODEC_ID_H264);
    if (codec == nullptr) {
        return Error{"this libav has no H.264 decoder: install a libavcodec that has"};
    }
    Decoder decoder;
    decoder.codec_.reset(avcodec_alloc_context3(codec));
    decoder.packet_.reset(av_packet_alloc());
    decoder.frame_.reset(av_frame_alloc());
    if (!decoder.codec_ || !decoder.packet_ || !decoder.frame_) {
        return Error{"out of memory for an H.264 decoder"};
    }
    decoder.codec_->thread_count = 1;  // frame threads would hold pictures back
    decoder.codec_->flags |= AV_CODEC_FLAG_LOW_DELAY;
    // What a parameter set claims is taken from memory at once; larger pictures the vision network refuses anyway.
    decoder.codec_->max_pixels = 4096 * 4096;
    if (int error = avcodec_open2(decoder.codec_.get(), codec, nullptr); error < 0) {
        return Error{fmt::format("cannot open the H.264 decoder: {}", av_text(error))};
    }
    return decoder;
}

Result<const AVFrame*> Decoder::decode(std::span<const uint8_t> access_unit, uint64_t frame) {
    padded_.resize(access_unit.size() + AV_INPUT_BUFFER_PADDING_SIZE);
    std::memcpy(padded_.data(), access_unit.data(), access_unit.size());
    std::memset(padded_.data() + access_unit.size(), 0, AV_INPUT_BUFFER_PADDING_SIZE);
    av_packet_unref(packet_.get());
    packet_->data = padded_.data();
    packet_->size = static_cast<int>(access_unit.size());
    packet_->pts = static_cast<int64_t>(frame);
    if (int error = avcodec_send_packet(codec_.get(), packet_.get()); error < 0) {
        return Error{
            fmt::format("frame {} ({} bytes) cannot be decoded: {}", frame, access_unit.size(), av_text(error))};
    }
    const AVFrame* picture = nullptr;
    // One access unit gives one picture; should a damaged one give more, the last is current.
    for (;;) {
        int error = avcodec_receive_frame(codec_.get(), frame_.get());
        if (error == 0) {
            picture = frame_.get();
            if (frame_->pts == static_cast<int64_t>(frame)) {
                break;
            }
            continue;
        }
        if (error != AVERROR(EAGAIN)) {
            return Error{fmt::format("frame {} cannot be decoded: {}", frame, av_text(error))};
        }
        break;
    }
    if (picture == nullptr || picture->pts != static_cast<int64_t>(frame)) {
        return Error{fmt::format("frame {} ({} bytes) gave no picture", frame, access_unit.size())};
    }
    if ((picture->flags & AV_FRAME_FLAG_CORRUPT) != 0 || picture->decode_error_flags != 0) {
        return Error{fmt::format("frame {} is damaged", frame)};
    }
    return picture;
}

void quiet_libav() {
    av_log_set_callback([](void* context, int level, const char* format, va_list arguments) {
        if (level > AV_LOG_WARNING || !spdlog::should_log(spdlog::level::debug)) {
            return;
        }
        char text[512];
        int prefix = 1;
        av_log_format_line(context, level, format, arguments, text, sizeof text, &prefix);
        std::string_view line(text);
        while (!line.empty() && line.back() == '\n') {
            line.remove_suffix(1);
        }
        spdlog::debug("libav: {}", line);
    });
}

}  // namespace adapath::video
