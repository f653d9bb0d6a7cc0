// x264 for live video.
#include "userspace/video/encoder.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <utility>

#include <x264.h>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

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
    x264_param_t param;
    if (x264_param_default_preset(&param, "ultrafast", "zerolatency") < 0) {
        return Error{
            "x264 has no preset ultrafast with tuning zerolatency: install a libx264 of version 0.160 or newer"};
    }
    param.i_width = size.width;
    param.i_height = size.height;
    param.i_csp = X264_CSP_I420;
    param.i_fps_num = static_cast<uint32_t>(std::lround(fps * 1000));
    param.i_fps_den = 1000;
    param.i_timebase_num = param.i_fps_den;
    param.i_timebase_den = param.i_fps_num;
    param.b_vfr_input = 0;
    param.i_threads = 1;  // one thread a camera already; slices would only cost bits
    param.b_sliced_threads = 0;
    param.i_keyint_max = std::max(1, static_cast<int>(std::lround(fps * key_seconds)));
    param.i_scenecut_threshold = 0;  // key frames only when due: an early one is a burst at a bad moment
    param.b_repeat_headers = 1;
    param.b_annexb = 1;
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
    encoder.x264_ = x264_encoder_open(&param);
    if (encoder.x264_ == nullptr) {
        return Error{fmt::format("x264 refuses {}x{} at {} fps and {} kbit/s (its reason is in the log)", size.width,
                                 size.height, fps, kbps)};
    }
    return encoder;
}

Encoder::Encoder(Encoder&& other) noexcept { *this = std::move(other); }

Encoder& Encoder::operator=(Encoder&& other) noexcept {
    if (this != &other) {
        close();
        x264_ = std::exchange(other.x264_, nullptr);
        size_ = other.size_;
        fps_ = other.fps_;
        kbps_ = other.kbps_;
        frames_ = other.frames_;
    }
    return *this;
}

Encoder::~Encoder() { close(); }

void Encoder::close() {
    if (x264_ != nullptr) {
        x264_encoder_close(x264_);
        x264_ = nullptr;
    }
}

Status Encoder::set_kbps(double kbps) {
    if (std::abs(kbps - kbps_) < kbps_ * least_change) {
        return {};
    }
    x264_param_t param;
    x264_encoder_parameters(x264_, &param);
    set_rate(param, kbps, fps_);
    if (x264_encoder_reconfig(x264_, &param) < 0) {
        return Error{fmt::format("x264 refuses a change from {} to {} kbit/s", kbps_, kbps)};
    }
    kbps_ = kbps;
    return {};
}

Result<EncodedFrame> Encoder::encode(const Picture& picture) {
    x264_picture_t in;
    x264_picture_init(&in);
    in.img.i_csp = X264_CSP_I420;
    in.img.i_plane = 3;
    // x264 only reads the planes; its interface has no const.
    in.img.plane[0] = const_cast<uint8_t*>(picture.y);
    in.img.plane[1] = const_cast<uint8_t*>(picture.u);
    in.img.plane[2] = const_cast<uint8_t*>(picture.v);
    in.img.i_stride[0] = size_.width;
    in.img.i_stride[1] = size_.width / 2;
    in.img.i_stride[2] = size_.width / 2;
    in.i_pts = frames_++;
    x264_nal_t* units = nullptr;
    int count = 0;
    x264_picture_t out;
    int bytes = x264_encoder_encode(x264_, &units, &count, &in, &out);
    if (bytes <= 0) {
        return Error{fmt::format("x264 gave no frame for picture {} (result {})", frames_ - 1, bytes)};
    }
    // x264 guarantees that the payloads of one call lie one after the other.
    return EncodedFrame{{units[0].p_payload, static_cast<size_t>(bytes)}, out.b_keyframe != 0, out.i_qpplus1 - 1};
}

}  // namespace adapath::video
