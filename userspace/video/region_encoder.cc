// x264 with a quality for regions.
#include "userspace/video/region_encoder.h"

extern "C" {
#include <libavutil/imgutils.h>
}

#include <algorithm>

#include <fmt/format.h>

#include "userspace/video/decoder.h"
#include "userspace/video/x264_handle.h"

namespace adapath::video {

namespace {

Status check_qp(int qp) {
    if (qp < 1 || qp > 51) {
        return Error{fmt::format("a quantiser of {}: from 1 to 51", qp)};
    }
    return {};
}

}  // namespace

Result<RegionEncoder> RegionEncoder::open(Size size, const RegionOptions& options) {
    if (size.width % 2 != 0 || size.height % 2 != 0 || size.width < 16 || size.height < 16 || size.width > 4096 ||
        size.height > 4096) {
        return Error{fmt::format("pictures of {}x{}: H.264 wants even sides of 16 to 4096", size.width, size.height)};
    }
    if (!(options.fps > 0 && options.fps <= 1000)) {
        return Error{fmt::format("{} frames per second: above 0, at most 1000", options.fps)};
    }
    Result<x264_param_t> live = x264_live_parameters(size, options.fps, options.preset);
    if (!live) {
        return live.error();
    }
    x264_param_t& param = *live;
    param.i_keyint_max = X264_KEYINT_MAX_INFINITE;  // chunks begin where the caller says
    // Offsets of macroblocks are heeded only while x264 thinks that it adapts quantisers by itself. A constant
    // quantiser (CQP) turns that off without a word, and so does a strength of 0; hence CRF, and a strength that
    // changes nothing. Every picture's own quantiser is forced (encode()), because CRF gives an IDR picture the mean
    // quantiser of the pictures before it: those of the last chunk.
    param.rc.i_rc_method = X264_RC_CRF;
    param.rc.f_rf_constant = 40;
    param.rc.f_qcompress = 1;
    param.rc.f_ip_factor = 1;
    param.rc.b_mb_tree = 0;
    param.rc.i_aq_mode = X264_AQ_VARIANCE;
    param.rc.f_aq_strength = 1e-5F;
    param.i_log_level = X264_LOG_NONE;

    RegionEncoder encoder;
    encoder.size_ = size;
    encoder.x264_.reset(x264_encoder_open(&param));
    if (encoder.x264_ == nullptr) {
        return Error{fmt::format("x264 refuses {}x{} at {} fps", size.width, size.height, options.fps)};
    }
    return encoder;
}

Status RegionEncoder::begin_chunk(int qp) {
    if (Status ok = check_qp(qp); !ok) {
        return ok;
    }
    idr_ = rest_ = {qp, {}};
    first_ = true;
    return {};
}

Status RegionEncoder::begin_chunk(const QualityPair& quality, const BlockMask& mask) {
    for (int qp : {quality.high, quality.low}) {
        if (Status ok = check_qp(qp); !ok) {
            return ok;
        }
    }
    return begin_chunk(quantisers(mask, quality.high, quality.low));
}

Status RegionEncoder::begin_chunk(const QuantiserMap& map) { return begin_chunk(map, map); }

Status RegionEncoder::begin_chunk(const QuantiserMap& first, const QuantiserMap& rest) {
    Result<Quality> idr = quality_of(first);
    if (!idr) {
        return idr.error();
    }
    Result<Quality> others = quality_of(rest);
    if (!others) {
        return others.error();
    }
    idr_ = std::move(*idr);
    rest_ = std::move(*others);
    first_ = true;
    return {};
}

Status RegionEncoder::change(const QuantiserMap& map) {
    Result<Quality> quality = quality_of(map);
    if (!quality) {
        return quality.error();
    }
    (first_ ? idr_ : rest_) = std::move(*quality);
    return {};
}

Result<RegionEncoder::Quality> RegionEncoder::quality_of(const QuantiserMap& map) const {
    BlockMask fitting = empty_block_mask(size_);
    if (map.columns != fitting.columns || map.rows != fitting.rows || map.qp.size() != fitting.high.size()) {
        return Error{fmt::format("qualities of {}x{} blocks for pictures of {}x{}: they have {}x{}", map.columns,
                                 map.rows, size_.width, size_.height, fitting.columns, fitting.rows)};
    }
    for (int qp : map.qp) {
        if (Status ok = check_qp(qp); !ok) {
            return ok.error();
        }
    }
    // The picture's own quantiser is the median, so that most blocks need no change of it.
    std::vector<uint8_t> sorted = map.qp;
    auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
    std::nth_element(sorted.begin(), middle, sorted.end());
    Quality quality{*middle, {}};
    for (int qp : map.qp) {
        quality.offsets.push_back(static_cast<float>(qp - quality.qp));
    }
    return quality;
}

Result<EncodedFrame> RegionEncoder::encode(const Picture& picture) {
    Quality& quality = first_ ? idr_ : rest_;
    if (quality.qp == 0) {
        return Error{"a picture before begin_chunk()"};
    }
    x264_picture_t in = x264_input(picture, size_, frames_++);
    in.i_type = first_ ? X264_TYPE_IDR : X264_TYPE_P;
    in.i_qpplus1 = quality.qp + 1;
    in.prop.quant_offsets = quality.offsets.empty() ? nullptr : quality.offsets.data();
    Result<X264Output> out = x264_encode(x264_.get(), in);
    if (!out) {
        return out.error();
    }
    first_ = false;
    // The very first picture carries x264's own name and settings, 600 bytes of them, in a supplement that no decoder
    // needs: a fifth of a small chunk.
    access_unit_.clear();
    for (int i = 0; i < out->count; i++) {
        if (out->units[i].i_type != NAL_SEI) {
            access_unit_.insert(access_unit_.end(), out->units[i].p_payload,
                                out->units[i].p_payload + out->units[i].i_payload);
        }
    }
    return EncodedFrame{access_unit_, out->key, out->qp};
}

namespace {

// `before` is called before each picture is encoded, `after` with what was decoded.
template <typename Before, typename After>
Result<CodedChunk> code(RegionEncoder& encoder, const Clip& clip, uint64_t first, uint64_t count, Before before,
                        After after) {
    auto decoder = Decoder::open();
    if (!decoder) {
        return decoder.error();
    }
    Size size = clip.size();
    CodedChunk chunk;
    chunk.i420.resize(picture_bytes(size) * count);
    for (uint64_t i = 0; i < count; i++) {
        if (Status ready = before(i); !ready) {
            return ready.error();
        }
        auto frame = encoder.encode(clip.picture(first + i));
        if (!frame) {
            return frame.error();
        }
        chunk.bytes += frame->bytes.size();
        chunk.frame_bytes.push_back(frame->bytes.size());
        auto picture = decoder->decode(frame->bytes, i);
        if (!picture) {
            return picture.error();
        }
        const AVFrame& decoded = **picture;
        std::span<uint8_t> i420 = std::span(chunk.i420).subspan(i * picture_bytes(size), picture_bytes(size));
        int copied = decoded.width == size.width && decoded.height == size.height
                         ? av_image_copy_to_buffer(i420.data(), static_cast<int>(i420.size()), decoded.data,
                                                   decoded.linesize, AV_PIX_FMT_YUV420P, size.width, size.height, 1)
                         : -1;
        if (copied < 0 || decoded.format != AV_PIX_FMT_YUV420P) {
            return Error{fmt::format("picture {} of a chunk came back as {}x{} in format {}, not {}x{} in 4:2:0", i,
                                     decoded.width, decoded.height, decoded.format, size.width, size.height)};
        }
        if (Status done = after(i, i420); !done) {
            return done.error();
        }
    }
    return chunk;
}

}  // namespace

Result<CodedChunk> code_chunk(RegionEncoder& encoder, const Clip& clip, uint64_t first, uint64_t count) {
    return code(
        encoder, clip, first, count, [](uint64_t) { return Status{}; },
        [](uint64_t, std::span<uint8_t>) { return Status{}; });
}

Result<CodedChunk> code_chunk(RegionEncoder& encoder, const Clip& clip, uint64_t first,
                              std::span<const PictureNote> notes, const BackgroundQuality& quality,
                              BackgroundView& view) {
    if (Status begun = encoder.begin_chunk(quality.shown); !begun) {
        return begun.error();
    }
    return code(
        encoder, clip, first, notes.size(),
        [&](uint64_t i) { return encoder.change(quantisers(notes[i], clip.size(), quality)); },
        [&](uint64_t i, std::span<uint8_t> i420) { return view.apply(notes[i], i420); });
}

}  // namespace adapath::video
