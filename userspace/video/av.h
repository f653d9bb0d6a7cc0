// Ownership of libav's objects and its errors in words.
#pragma once

#include <memory>
#include <string>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavutil/error.h>
#include <libavutil/frame.h>
}

namespace adapath::video {

struct AvDeleter {
    void operator()(AVCodecContext* context) const { avcodec_free_context(&context); }
    void operator()(AVPacket* packet) const { av_packet_free(&packet); }
    void operator()(AVFrame* frame) const { av_frame_free(&frame); }
};
using AvCodec = std::unique_ptr<AVCodecContext, AvDeleter>;
using AvPacket = std::unique_ptr<AVPacket, AvDeleter>;
using AvFrame = std::unique_ptr<AVFrame, AvDeleter>;

inline std::string av_text(int error) {
    char text[AV_ERROR_MAX_STRING_SIZE] = "";
    av_strerror(error, text, sizeof text);
    return text;
}

}  // namespace adapath::video
