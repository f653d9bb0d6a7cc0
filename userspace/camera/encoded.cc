// A camera's two renditions as H.264.
#include "userspace/camera/encoded.h"

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "userspace/video/encoder.h"
#include "userspace/video/x264_handle.h"

namespace adapath::camera {

namespace {

// How long a rendition may send more than its bitrate: cameras' rate controls work on about as much.
constexpr double bucket_s = 1;

Result<video::X264Handle> open_x264(video::Size size, const EncodingOptions& options, const Quality& quality) {
    Result<x264_param_t> live = video::x264_live_parameters(size, options.fps, options.preset);
    if (!live) {
        return live.error();
    }
    x264_param_t& param = *live;
    param.i_keyint_max = X264_KEYINT_MAX_INFINITE;  // groups begin where encode() says
    param.i_log_level = X264_LOG_NONE;
    if (quality.qp != 0) {
        param.rc.i_rc_method = X264_RC_CQP;
        param.rc.i_qp_constant = quality.qp;
        param.rc.f_ip_factor = 1;  // the same quantiser in all pictures
    } else {
        const int kbps = std::max(1, static_cast<int>(std::lround(quality.kbps)));
        param.rc.i_rc_method = X264_RC_ABR;
        param.rc.i_bitrate = kbps;
        param.rc.i_vbv_max_bitrate = kbps;
        param.rc.i_vbv_buffer_size = std::max(1, static_cast<int>(std::lround(kbps * bucket_s)));
    }
    video::X264Handle x264(x264_encoder_open(&param));
    if (x264 == nullptr) {
        return Error{fmt::format("x264 refuses {}x{} at {} fps", size.width, size.height, options.fps)};
    }
    return x264;
}

Status check(const EncodingOptions& options) {
    if (!(options.fps > 0 && options.fps <= 1000)) {
        return Error{fmt::format("{} frames per second: above 0, at most 1000", options.fps)};
    }
    if (options.group < 1 || options.group > 100000) {
        return Error{fmt::format("groups of {} pictures: 1 to 100000", options.group)};
    }
    for (const Quality& quality : options.quality) {
        const bool constant = quality.qp >= 1 && quality.qp <= 51;
        const bool rate = quality.qp == 0 && quality.kbps >= 1 && quality.kbps <= 1e6;
        if (!constant && !rate) {
            return Error{
                fmt::format("quantiser {} and {} kbit/s: a quantiser of 1 to 51, or 0 and a bitrate of 1 to "
                            "1000000",
                            quality.qp, quality.kbps)};
        }
    }
    return {};
}

}  // namespace

void EncodedRendition::add(std::span<const uint8_t> access_unit, bool key) {
    pictures_.push_back({data_.size(), static_cast<uint32_t>(access_unit.size()), key});
    data_.insert(data_.end(), access_unit.begin(), access_unit.end());
}

Result<EncodedCamera> encode(const video::Clip& clip, const View& view, const EncodingOptions& options,
                             const std::function<bool(uint64_t)>& progress) {
    if (Status ok = check(options); !ok) {
        return ok.error();
    }
    EncodedCamera camera;
    camera.view = view;
    uint64_t done = 0;
    for (const adp_select_rendition rendition : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
        Result<ViewPictures> pictures = ViewPictures::open(clip, view, rendition);
        if (!pictures) {
            return pictures.error();
        }
        Result<video::X264Handle> x264 = open_x264(pictures->size(), options, options.quality[rendition]);
        if (!x264) {
            return x264.error();
        }
        std::vector<uint8_t> access_unit;
        for (uint32_t i = 0; i < view.pictures; i++) {
            x264_picture_t in = video::x264_input(pictures->picture(i), pictures->size(), i);
            in.i_type = i % options.group == 0 ? X264_TYPE_IDR : X264_TYPE_P;
            Result<video::X264Output> out = video::x264_encode(x264->get(), in);
            if (!out) {
                return out.error();
            }
            // Without x264's own name and settings, which come with the first picture only and are of no use to anyone.
            access_unit.clear();
            for (int unit = 0; unit < out->count; unit++) {
                const x264_nal_t& nal = out->units[unit];
                if (nal.i_type != NAL_SEI) {
                    access_unit.insert(access_unit.end(), nal.p_payload, nal.p_payload + nal.i_payload);
                }
            }
            camera.renditions[rendition].add(access_unit, out->key);
            if (progress && !progress(++done)) {
                return Error{"encoding was stopped"};
            }
        }
    }
    return camera;
}

}  // namespace adapath::camera
