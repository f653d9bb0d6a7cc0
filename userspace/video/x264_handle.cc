// See x264_handle.h.
#include "userspace/video/x264_handle.h"

#include <cmath>

#include <fmt/format.h>

namespace adapath::video {

void X264Closer::operator()(x264_t* x264) const { x264_encoder_close(x264); }

Result<x264_param_t> x264_live_parameters(Size size, double fps, const std::string& preset) {
    x264_param_t param;
    if (x264_param_default_preset(&param, preset.c_str(), "zerolatency") < 0) {
        return Error{fmt::format(
            "x264 has no preset {} with tuning zerolatency: install a libx264 of version 0.160 or newer", preset)};
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
    param.i_scenecut_threshold = 0;  // key frames only when due: an early one is a burst at a bad moment
    param.b_repeat_headers = 1;
    param.b_annexb = 1;
    return param;
}

x264_picture_t x264_input(const Picture& picture, Size size, int64_t number) {
    x264_picture_t in;
    x264_picture_init(&in);
    in.img.i_csp = X264_CSP_I420;
    in.img.i_plane = 3;
    // x264 only reads the planes; its interface has no const.
    in.img.plane[0] = const_cast<uint8_t*>(picture.y);
    in.img.plane[1] = const_cast<uint8_t*>(picture.u);
    in.img.plane[2] = const_cast<uint8_t*>(picture.v);
    in.img.i_stride[0] = size.width;
    in.img.i_stride[1] = size.width / 2;
    in.img.i_stride[2] = size.width / 2;
    in.i_pts = number;
    return in;
}

Result<X264Output> x264_encode(x264_t* x264, x264_picture_t& in) {
    X264Output output;
    x264_picture_t out;
    output.bytes = x264_encoder_encode(x264, &output.units, &output.count, &in, &out);
    if (output.bytes <= 0) {
        return Error{fmt::format("x264 gave no frame for picture {} (result {})", in.i_pts, output.bytes)};
    }
    output.key = out.b_keyframe != 0;
    output.qp = out.i_qpplus1 - 1;
    return output;
}

}  // namespace adapath::video
