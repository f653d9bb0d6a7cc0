// x264 for live video.
#include "userspace/video/encoder.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "userspace/video/x264_handle.h"

namespace adapath::video {

namespace {

// How many frames' worth of bits one frame may take out of the bucket: little enough that a key frame is not a burst
// that delays everything behind it, enough that it does not look worse than its neighbours.
constexpr double vbv_frames = 1.5;
// The quality that a frame gets when bits are no limit: nearly lossless, for the network is to be the limit, not the
// source.
constexpr float best_quality = 1;
// A key frame this often lets a receiver find its place again and costs little under the bucket above.
constexpr double key_seconds = 2;
// Smaller changes are not worth telling x264.
constexpr double least_change = 0.02;

void set_rate(x264_param_t& param, double kbps, double fps) {
    param.rc.i_vbv_max_bitrate = std::max(1, static_cast<int>(std::lround(kbps)));
    param.rc.i_vbv_buffer_size = std::max(1, static_cast<int>(std::lround(kbps / fps * vbv_frames)));
}

void log_x264(void* /*context*/, int level, const char* format, va_list arguments) {
    char text[512];
    std::vsnprintf(text, sizeof text, format, arguments);
    std::string_view line(text);
    while (!line.empty() && line.back() == '\n') {
        line.remove_suffix(1);
    }
    // x264 warns of every frame that can't be made small enough for a tight bucket; the frame's size is in the
    // statistics.
    spdlog::log(level <= X264_LOG_ERROR ? spdlog::level::err : spdlog::level::debug, "x264: {}", line);
}

}  // namespace

Result<Encoder> Encoder::open(Size size, double fps, double kbps) {
    Result<x264_param_t> live = x264_live_parameters(size, fps, "ultrafast");
    if (!live) {
        return live.error();
    }
    x264_param_t& param = *live;
    param.i_keyint_max = std::max(1, static_cast<int>(std::lround(fps * key_seconds)));
    // The bucket alone sets the bitrate: every frame asks for the best quality and gets what the bucket holds. Measured
    // on a camera clip at 4 Mbit/s: 96 % of the bitrate used and no frame over 1.25 times the mean. ABR with the same
    // bucket used 68 %; with a bucket that fills faster, x264 ignores later changes of the bitrate.
    param.rc.i_rc_method = X264_RC_CRF;
    param.rc.f_rf_constant = best_quality;
    set_rate(param, kbps, fps);
    param.pf_log = log_x264;
    param.i_log_level = X264_LOG_WARNING;

    Encoder encoder;
    encoder.size_ = size;
    encoder.fps_ = fps;
    encoder.kbps_ = kbps;
    encoder.x264_.reset(x264_encoder_open(&param));
    if (encoder.x264_ == nullptr) {
        return Error{fmt::format("x264 refuses {}x{} at {} fps and {} kbit/s (its reason is in the log)", size.width,
                                 size.height, fps, kbps)};
    }
    return encoder;
}

Status Encoder::set_kbps(double kbps) {
    if (std::abs(kbps - kbps_) < kbps_ * least_change) {
        return {};
    }
    x264_param_t param;
    x264_encoder_parameters(x264_.get(), &param);
    set_rate(param, kbps, fps_);
    if (x264_encoder_reconfig(x264_.get(), &param) < 0) {
        return Error{fmt::format("x264 refuses a change from {} to {} kbit/s", kbps_, kbps)};
    }
    kbps_ = kbps;
    return {};
}

Result<EncodedFrame> Encoder::encode(const Picture& picture, bool key) {
    x264_picture_t in = x264_input(picture, size_, frames_++);
    in.i_type = key ? X264_TYPE_IDR : X264_TYPE_AUTO;
    Result<X264Output> out = x264_encode(x264_.get(), in);
    if (!out) {
        return out.error();
    }
    // x264 guarantees that the payloads of one call lie one after the other.
    return EncodedFrame{{out->units[0].p_payload, static_cast<size_t>(out->bytes)}, out->key, out->qp};
}

}  // namespace adapath::video
