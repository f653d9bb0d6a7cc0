// A clip in memory, read with libav.
#include "userspace/video/clip.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>

extern "C" {
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>
}

#include <fmt/format.h>

#include "userspace/video/av.h"

namespace adapath::video {

namespace {

struct FormatDeleter {
    void operator()(AVFormatContext* context) const { avformat_close_input(&context); }
};
struct SwsDeleter {
    void operator()(SwsContext* context) const { sws_freeContext(context); }
};

Status check_size(Size size) {
    bool even = size.width % 2 == 0 && size.height % 2 == 0;
    bool in_range = size.width >= 16 && size.height >= 16 && size.width <= 4096 && size.height <= 4096;
    if (!even || !in_range) {
        return Error{
            fmt::format("size {}x{}: width and height must be even, from 16 to 4096", size.width, size.height)};
    }
    return {};
}

// Scales every decoded picture to the clip's size and appends it.
class Loader {
public:
    Loader(Size size, uint64_t budget) : size_(size), budget_(budget) {}

    Status add(const AVFrame& frame) {
        if (size_.width == 0) {
            size_ = {frame.width & ~1, frame.height & ~1};
            if (Status ok = check_size(size_); !ok) {
                return ok;
            }
        }
        uint64_t one = picture_bytes(size_);
        if (data_.size() + one > budget_) {
            full_ = true;
            return {};
        }
        scaler_.reset(sws_getCachedContext(scaler_.release(), frame.width, frame.height,
                                           static_cast<AVPixelFormat>(frame.format), size_.width, size_.height,
                                           AV_PIX_FMT_YUV420P, SWS_BILINEAR, nullptr, nullptr, nullptr));
        if (!scaler_) {
            return Error{fmt::format("cannot convert pictures of {}x{} (pixel format {}) to {}x{} YUV 4:2:0",
                                     frame.width, frame.height, frame.format, size_.width, size_.height)};
        }
        size_t at = data_.size();
        data_.resize(at + one);
        size_t luma = static_cast<size_t>(size_.width) * static_cast<size_t>(size_.height);
        uint8_t* planes[4] = {data_.data() + at, data_.data() + at + luma, data_.data() + at + luma + luma / 4,
                              nullptr};
        int strides[4] = {size_.width, size_.width / 2, size_.width / 2, 0};
        sws_scale(scaler_.get(), frame.data, frame.linesize, 0, frame.height, planes, strides);
        return {};
    }

    [[nodiscard]] bool full() const { return full_; }
    [[nodiscard]] Size size() const { return size_; }
    std::vector<uint8_t> take() {
        data_.shrink_to_fit();
        return std::move(data_);
    }
    void reserve(uint64_t bytes) { data_.reserve(std::min(bytes, budget_)); }

private:
    Size size_;
    uint64_t budget_;
    bool full_ = false;
    std::vector<uint8_t> data_;
    std::unique_ptr<SwsContext, SwsDeleter> scaler_;
};

}  // namespace

Result<Clip> Clip::load(const std::string& path, Size size, uint64_t budget_bytes) {
    if (size.width != 0 || size.height != 0) {
        if (Status ok = check_size(size); !ok) {
            return ok.error();
        }
    }
    AVFormatContext* opened = nullptr;
    if (int error = avformat_open_input(&opened, path.c_str(), nullptr, nullptr); error < 0) {
        return Error{fmt::format("clip {}: {}", path, av_text(error))};
    }
    std::unique_ptr<AVFormatContext, FormatDeleter> format(opened);
    if (int error = avformat_find_stream_info(format.get(), nullptr); error < 0) {
        return Error{fmt::format("clip {}: {}", path, av_text(error))};
    }
    const AVCodec* codec = nullptr;
    int index = av_find_best_stream(format.get(), AVMEDIA_TYPE_VIDEO, -1, -1, &codec, 0);
    if (index < 0 || codec == nullptr) {
        return Error{fmt::format("clip {}: it has no video stream that libav can decode", path)};
    }
    const AVStream* stream = format->streams[index];
    AvCodec decoder(avcodec_alloc_context3(codec));
    if (avcodec_parameters_to_context(decoder.get(), stream->codecpar) < 0) {
        return Error{fmt::format("clip {}: bad stream parameters", path)};
    }
    decoder->thread_count = 0;  // as many as there are CPUs: loading is all that waits for it
    if (int error = avcodec_open2(decoder.get(), codec, nullptr); error < 0) {
        return Error{fmt::format("clip {}: cannot open the {} decoder: {}", path, codec->name, av_text(error))};
    }

    Loader loader(size, budget_bytes);
    Size expected = size.width != 0 ? size : Size{decoder->width & ~1, decoder->height & ~1};
    if (stream->nb_frames > 0) {
        loader.reserve(picture_bytes(expected) * static_cast<uint64_t>(stream->nb_frames));
    }
    AvPacket packet(av_packet_alloc());
    AvFrame frame(av_frame_alloc());
    bool flushing = false;
    while (!loader.full()) {
        int error = avcodec_receive_frame(decoder.get(), frame.get());
        if (error == 0) {
            if (Status added = loader.add(*frame); !added) {
                return Error{fmt::format("clip {}: {}", path, added.error().message)};
            }
            continue;
        }
        if (error == AVERROR_EOF) {
            break;
        }
        if (error != AVERROR(EAGAIN)) {
            return Error{fmt::format("clip {}: decoding failed: {}", path, av_text(error))};
        }
        error = av_read_frame(format.get(), packet.get());
        if (error < 0) {
            if (flushing) {
                break;
            }
            // A clip that is cut off is used up to there; one without a single picture is refused below.
            flushing = true;
            avcodec_send_packet(decoder.get(), nullptr);
            continue;
        }
        if (packet->stream_index == index) {
            avcodec_send_packet(decoder.get(), packet.get());  // a damaged packet gives no picture; the next ones do
        }
        av_packet_unref(packet.get());
    }

    Clip clip;
    clip.size_ = loader.size();
    clip.truncated_ = loader.full();
    clip.data_ = loader.take();
    if (clip.data_.empty() && clip.truncated_) {
        return Error{fmt::format("clip {}: one picture of {}x{} is over the memory budget of {} bytes", path,
                                 clip.size_.width, clip.size_.height, budget_bytes)};
    }
    if (clip.data_.empty()) {
        return Error{fmt::format("clip {}: no picture could be decoded", path)};
    }
    clip.pictures_ = static_cast<uint32_t>(clip.data_.size() / picture_bytes(clip.size_));
    return clip;
}

Result<Clip> Clip::from_i420(std::vector<uint8_t> bytes, Size size) {
    if (Status ok = check_size(size); !ok) {
        return ok.error();
    }
    uint64_t one = picture_bytes(size);
    if (bytes.empty() || bytes.size() % one != 0) {
        return Error{fmt::format("{} bytes are not a whole number of {}x{} pictures ({} bytes each)", bytes.size(),
                                 size.width, size.height, one)};
    }
    Clip clip;
    clip.size_ = size;
    clip.pictures_ = static_cast<uint32_t>(bytes.size() / one);
    clip.data_ = std::move(bytes);
    return clip;
}

Picture Clip::picture(uint64_t index) const {
    const uint8_t* at = data_.data() + (index % pictures_) * picture_bytes(size_);
    size_t luma = static_cast<size_t>(size_.width) * static_cast<size_t>(size_.height);
    return {at, at + luma, at + luma + luma / 4};
}

Result<Size> parse_size(const std::string& text) {
    Size size;
    char rest = 0;
    if (std::sscanf(text.c_str(), "%dx%d%c", &size.width, &size.height, &rest) != 2) {
        return Error{fmt::format("size '{}': expected WIDTHxHEIGHT, such as 768x576", text)};
    }
    if (Status ok = check_size(size); !ok) {
        return ok.error();
    }
    return size;
}

}  // namespace adapath::video
