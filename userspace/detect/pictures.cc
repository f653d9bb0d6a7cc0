// See pictures.h.
#include "userspace/detect/pictures.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string_view>

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/imgutils.h>
#include <libswscale/swscale.h>
#include <x264.h>
}

#include <fmt/format.h>

#include "userspace/common/file.h"
#include "userspace/video/av.h"
#include "userspace/video/decoder.h"

namespace adapath {

namespace {

using video::av_text;
using video::AvCodec;
using video::AvFrame;
using video::AvPacket;

constexpr int longest_side = 16384;

struct FormatDeleter {
    void operator()(AVFormatContext* context) const { avformat_close_input(&context); }
};
struct SwsDeleter {
    void operator()(SwsContext* context) const { sws_freeContext(context); }
};
struct X264Deleter {
    void operator()(x264_t* encoder) const { x264_encoder_close(encoder); }
};

// The J formats are the plain ones with full range, as MJPEG has it, and libswscale warns of their names.
struct Format {
    AVPixelFormat pixels;
    bool full_range;
};
Format format_of(const AVFrame& frame) {
    switch (frame.format) {
        case AV_PIX_FMT_YUVJ420P:
            return {AV_PIX_FMT_YUV420P, true};
        case AV_PIX_FMT_YUVJ422P:
            return {AV_PIX_FMT_YUV422P, true};
        case AV_PIX_FMT_YUVJ444P:
            return {AV_PIX_FMT_YUV444P, true};
        case AV_PIX_FMT_YUVJ440P:
            return {AV_PIX_FMT_YUV440P, true};
        case AV_PIX_FMT_YUVJ411P:
            return {AV_PIX_FMT_YUV411P, true};
        default:
            return {static_cast<AVPixelFormat>(frame.format), frame.color_range == AVCOL_RANGE_JPEG};
    }
}

Image blank(int width, int height) {
    Image image{width, height, {}};
    image.rgb.resize(image.pixels() * 3);
    return image;
}

Status check_side(int width, int height) {
    if (width < 1 || height < 1 || width > longest_side || height > longest_side)
        return Error{fmt::format("a picture of {}x{}: sides are from 1 to {}", width, height, longest_side)};
    return {};
}

Status check(const Image& image) {
    if (Status s = check_side(image.width, image.height); !s) return s;
    if (!image.sound())
        return Error{fmt::format("a picture of {}x{} with {} bytes", image.width, image.height, image.rgb.size())};
    return {};
}

// Rows of `image` as libswscale and libav take them; its interface has no const.
struct Planes {
    explicit Planes(const Image& image)
        : data{const_cast<uint8_t*>(image.rgb.data()), nullptr, nullptr, nullptr}, stride{image.width * 3, 0, 0, 0} {}
    uint8_t* data[4];
    int stride[4];
};

// A file opened for reading, at its best video stream.
class Source {
public:
    static Result<Source> open(const std::string& path) {
        AVFormatContext* opened = nullptr;
        if (int error = avformat_open_input(&opened, path.c_str(), nullptr, nullptr); error < 0)
            return Error{fmt::format("{}: {}", path, av_text(error))};
        Source source;
        source.format_.reset(opened);
        if (int error = avformat_find_stream_info(opened, nullptr); error < 0)
            return Error{fmt::format("{}: {}", path, av_text(error))};
        const AVCodec* codec = nullptr;
        source.stream_ = av_find_best_stream(opened, AVMEDIA_TYPE_VIDEO, -1, -1, &codec, 0);
        if (source.stream_ < 0 || codec == nullptr)
            return Error{fmt::format("{}: it has no picture that libav can decode", path)};
        source.codec_.reset(avcodec_alloc_context3(codec));
        source.packet_.reset(av_packet_alloc());
        source.frame_.reset(av_frame_alloc());
        if (!source.codec_ || !source.packet_ || !source.frame_) return Error{path + ": out of memory"};
        if (avcodec_parameters_to_context(source.codec_.get(), opened->streams[source.stream_]->codecpar) < 0)
            return Error{path + ": bad stream parameters"};
        if (int error = avcodec_open2(source.codec_.get(), codec, nullptr); error < 0)
            return Error{fmt::format("{}: cannot open the {} decoder: {}", path, codec->name, av_text(error))};
        return source;
    }

    // The next picture; null at the end.
    Result<const AVFrame*> next() {
        for (;;) {
            int error = avcodec_receive_frame(codec_.get(), frame_.get());
            if (error == 0) return frame_.get();
            if (error == AVERROR_EOF) return nullptr;
            if (error != AVERROR(EAGAIN)) return Error{"decoding failed: " + av_text(error)};
            if (flushing_) return nullptr;
            if (av_read_frame(format_.get(), packet_.get()) < 0) {
                flushing_ = true;
                avcodec_send_packet(codec_.get(), nullptr);
                continue;
            }
            // A damaged packet gives no picture; the next ones do.
            if (packet_->stream_index == stream_) avcodec_send_packet(codec_.get(), packet_.get());
            av_packet_unref(packet_.get());
        }
    }

private:
    Source() = default;

    std::unique_ptr<AVFormatContext, FormatDeleter> format_;
    AvCodec codec_;
    AvPacket packet_;
    AvFrame frame_;
    int stream_ = -1;
    bool flushing_ = false;
};

}  // namespace

Result<Image> to_image(const AVFrame& frame) {
    if (Status s = check_side(frame.width, frame.height); !s) return s.error();
    // Accurate rounding and whole chroma lines: the picture is for a network whose gradients are taken.
    const Format format = format_of(frame);
    const std::unique_ptr<SwsContext, SwsDeleter> scaler(
        sws_getContext(frame.width, frame.height, format.pixels, frame.width, frame.height, AV_PIX_FMT_RGB24,
                       SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT, nullptr, nullptr, nullptr));
    if (!scaler) return Error{fmt::format("libswscale cannot convert pixel format {} to RGB", frame.format)};
    const int* coefficients = sws_getCoefficients(frame.colorspace);
    // Fails for formats that have neither (RGB itself), where there is nothing to heed.
    sws_setColorspaceDetails(scaler.get(), coefficients, format.full_range ? 1 : 0, coefficients, 1, 0, 1 << 16,
                             1 << 16);
    Image image = blank(frame.width, frame.height);
    Planes to(image);
    if (sws_scale(scaler.get(), frame.data, frame.linesize, 0, frame.height, to.data, to.stride) != frame.height)
        return Error{fmt::format("libswscale could not convert a picture of {}x{}", frame.width, frame.height)};
    return image;
}

Result<Image> to_image(const video::Picture& picture, video::Size size) {
    const AvFrame frame(av_frame_alloc());
    if (!frame) return Error{"out of memory for a picture"};
    frame->format = AV_PIX_FMT_YUV420P;
    frame->width = size.width;
    frame->height = size.height;
    // libswscale only reads the planes; the frame does not own them.
    frame->data[0] = const_cast<uint8_t*>(picture.y);
    frame->data[1] = const_cast<uint8_t*>(picture.u);
    frame->data[2] = const_cast<uint8_t*>(picture.v);
    frame->linesize[0] = size.width;
    frame->linesize[1] = frame->linesize[2] = size.width / 2;
    return to_image(*frame);
}

Result<std::vector<Image>> read_pictures(const std::string& path, uint64_t first, uint64_t count) {
    auto source = Source::open(path);
    if (!source) return source.error();
    std::vector<Image> images;
    uint64_t index = 0;
    for (; images.size() < count; index++) {
        auto frame = source->next();
        if (!frame) return Error{fmt::format("{}: {}", path, frame.error().message)};
        if (*frame == nullptr) break;
        if (index < first) continue;
        auto image = to_image(**frame);
        if (!image) return Error{fmt::format("{}: {}", path, image.error().message)};
        images.push_back(std::move(*image));
    }
    if (images.empty() && count > 0) return Error{fmt::format("{}: no frame {}: it has {}", path, first, index)};
    return images;
}

Result<Image> scaled(const Image& image, video::Size size) {
    if (Status s = check(image); !s) return s.error();
    if (Status s = check_side(size.width, size.height); !s) return s.error();
    // Averages where it shrinks; bilinear alone would alias.
    const std::unique_ptr<SwsContext, SwsDeleter> scaler(
        sws_getContext(image.width, image.height, AV_PIX_FMT_RGB24, size.width, size.height, AV_PIX_FMT_RGB24,
                       SWS_AREA | SWS_ACCURATE_RND, nullptr, nullptr, nullptr));
    if (!scaler) return Error{fmt::format("libswscale cannot scale to {}x{}", size.width, size.height)};
    Image result = blank(size.width, size.height);
    const Planes from(image);
    Planes to(result);
    if (sws_scale(scaler.get(), from.data, from.stride, 0, image.height, to.data, to.stride) != size.height)
        return Error{fmt::format("libswscale could not scale to {}x{}", size.width, size.height)};
    return result;
}

Status write_png(const std::string& path, const Image& image) {
    if (Status s = check(image); !s) return s;
    const AVCodec* codec = avcodec_find_encoder(AV_CODEC_ID_PNG);
    if (codec == nullptr) return Error{"this libav has no PNG encoder"};
    const AvCodec encoder(avcodec_alloc_context3(codec));
    const AvFrame frame(av_frame_alloc());
    const AvPacket packet(av_packet_alloc());
    if (!encoder || !frame || !packet) return Error{"out of memory for a PNG encoder"};
    encoder->width = frame->width = image.width;
    encoder->height = frame->height = image.height;
    encoder->pix_fmt = AV_PIX_FMT_RGB24;
    encoder->time_base = {1, 1};
    frame->format = AV_PIX_FMT_RGB24;
    if (int error = avcodec_open2(encoder.get(), codec, nullptr); error < 0)
        return Error{"cannot open the PNG encoder: " + av_text(error)};
    if (int error = av_frame_get_buffer(frame.get(), 0); error < 0) return Error{"PNG: " + av_text(error)};
    const Planes from(image);
    av_image_copy_plane(frame->data[0], frame->linesize[0], from.data[0], from.stride[0], from.stride[0], image.height);
    if (int error = avcodec_send_frame(encoder.get(), frame.get()); error < 0) return Error{"PNG: " + av_text(error)};
    avcodec_send_frame(encoder.get(), nullptr);
    if (int error = avcodec_receive_packet(encoder.get(), packet.get()); error < 0)
        return Error{"PNG: " + av_text(error)};
    return write_file_durably(
        path, std::string_view(reinterpret_cast<const char*>(packet->data), static_cast<size_t>(packet->size)));
}

Result<Requantised> requantise(std::span<const Image> pictures, int qp) {
    if (pictures.empty() || qp < 0 || qp > 51)
        return Error{fmt::format("{} pictures at a quantiser of {}: at least one, at 0 to 51", pictures.size(), qp)};
    const int width = pictures[0].width;
    const int height = pictures[0].height;
    if (width % 2 != 0 || height % 2 != 0 || width < 16 || height < 16)
        return Error{fmt::format("H.264 wants even sides of at least 16, not {}x{}", width, height)};

    x264_param_t param;
    if (x264_param_default_preset(&param, "veryfast", "zerolatency") < 0) return Error{"x264 has no preset veryfast"};
    param.i_width = width;
    param.i_height = height;
    param.i_csp = X264_CSP_I420;
    param.i_threads = 1;
    param.b_sliced_threads = 0;
    param.i_keyint_max = X264_KEYINT_MAX_INFINITE;  // one group of pictures
    param.i_scenecut_threshold = 0;
    param.b_repeat_headers = 1;
    param.b_annexb = 1;
    param.rc.i_rc_method = X264_RC_CQP;
    param.rc.i_qp_constant = qp;
    param.rc.f_ip_factor = 1;  // the IDR picture at the same quantiser
    param.i_log_level = X264_LOG_NONE;
    const std::unique_ptr<x264_t, X264Deleter> encoder(x264_encoder_open(&param));
    if (!encoder) return Error{fmt::format("x264 refuses {}x{} at a quantiser of {}", width, height, qp)};
    auto decoder = video::Decoder::open();
    if (!decoder) return decoder.error();
    const std::unique_ptr<SwsContext, SwsDeleter> scaler(
        sws_getContext(width, height, AV_PIX_FMT_RGB24, width, height, AV_PIX_FMT_YUV420P,
                       SWS_BILINEAR | SWS_ACCURATE_RND, nullptr, nullptr, nullptr));
    x264_picture_t in;
    if (!scaler || x264_picture_alloc(&in, X264_CSP_I420, width, height) < 0)
        return Error{fmt::format("out of memory for pictures of {}x{}", width, height)};
    const std::unique_ptr<x264_picture_t, void (*)(x264_picture_t*)> cleaner(&in, x264_picture_clean);

    Requantised result;
    for (const Image& picture : pictures) {
        if (!picture.sound() || picture.width != width || picture.height != height)
            return Error{
                fmt::format("a picture of {}x{} among those of {}x{}", picture.width, picture.height, width, height)};
        const Planes from(picture);
        sws_scale(scaler.get(), from.data, from.stride, 0, height, in.img.plane, in.img.i_stride);
        in.i_pts = static_cast<int64_t>(result.pictures.size());
        x264_nal_t* units = nullptr;
        int count = 0;
        x264_picture_t out;
        const int bytes = x264_encoder_encode(encoder.get(), &units, &count, &in, &out);
        if (bytes <= 0) return Error{fmt::format("x264 gave no frame for picture {}", result.pictures.size())};
        auto frame = decoder->decode({units[0].p_payload, static_cast<size_t>(bytes)}, result.pictures.size());
        if (!frame) return frame.error();
        auto image = to_image(**frame);
        if (!image) return image.error();
        result.pictures.push_back(std::move(*image));
        result.bytes += static_cast<uint64_t>(bytes);
    }
    return result;
}

}  // namespace adapath
