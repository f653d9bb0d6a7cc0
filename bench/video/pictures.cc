// See pictures.h.
#include "bench/video/pictures.h"

#include <fmt/format.h>

#include <numeric>

#include "userspace/video/decoder.h"

namespace adapath::video_bench {
namespace {

// What is taken for an object; the same as the server's and models/detector/accuracy.h's.
constexpr double kScore = 0.3;

struct Rendition {
    std::vector<std::vector<Box>> boxes;
    std::vector<std::string> keys;
    std::vector<uint32_t> bytes;
};

Result<Rendition> look(const camera::EncodedRendition& encoded, Detector& detector, Detections& detections,
                       const std::function<bool()>& progress) {
    Result<video::Decoder> decoder = video::Decoder::open();
    if (!decoder) {
        return decoder.error();
    }
    Rendition rendition;
    for (uint32_t i = 0; i < encoded.pictures(); i++) {
        Result<const AVFrame*> frame = decoder->decode(encoded.access_unit(i), i);
        if (!frame) {
            return frame.error();
        }
        Result<PictureKey> key = picture_key(**frame);
        if (!key) {
            return key.error();
        }
        Result<Looked> looked = look_at(**frame, *key, detector, detections);
        if (!looked) {
            return looked.error();
        }
        // The server has the boxes from the file, or not at all.
        if (!looked->kept) {
            return looked->kept.error();
        }
        std::erase_if(looked->boxes, [](const Box& box) { return box.score < kScore; });
        rendition.boxes.push_back(std::move(looked->boxes));
        rendition.keys.push_back(key->text());
        rendition.bytes.push_back(encoded.bytes(i));
        if (!progress()) {
            return Error{"interrupted"};
        }
    }
    return rendition;
}

void scale(std::vector<std::vector<Box>>& pictures, video::Size from, video::Size to) {
    const float x = static_cast<float>(to.width) / static_cast<float>(from.width);
    const float y = static_cast<float>(to.height) / static_cast<float>(from.height);
    for (std::vector<Box>& boxes : pictures) {
        for (Box& box : boxes) {
            box.x0 *= x;
            box.x1 *= x;
            box.y0 *= y;
            box.y1 *= y;
        }
    }
}

}  // namespace

double MeasuredCamera::rate(uint32_t rendition) const {
    const std::vector<uint32_t>& of = bytes[rendition];
    return of.empty() ? 0
                      : static_cast<double>(std::accumulate(of.begin(), of.end(), uint64_t{0})) /
                            static_cast<double>(of.size()) * pictures.fps;
}

Result<std::vector<MeasuredCamera>> measure_cameras(const std::vector<video::Clip>& clips,
                                                    const MeasureOptions& options, Detector& detector,
                                                    Detections& detections,
                                                    const std::function<bool(uint64_t, uint64_t)>& progress) {
    std::vector<camera::ClipShape> shapes;
    for (const video::Clip& clip : clips) {
        shapes.push_back({clip.size(), clip.pictures()});
    }
    Result<std::vector<camera::View>> views = camera::lay_out(shapes, options.layout);
    if (!views) {
        return views.error();
    }
    uint64_t all = 0;
    for (const camera::View& view : *views) {
        all += uint64_t{view.pictures} * ADP_SELECT_RENDITIONS;
    }
    uint64_t done = 0;
    std::vector<MeasuredCamera> cameras;
    for (const camera::View& view : *views) {
        Result<camera::EncodedCamera> encoded = camera::encode(clips[view.clip], view, options.encoding);
        if (!encoded) {
            return encoded.error();
        }
        MeasuredCamera measured;
        measured.pictures.fps = options.encoding.fps;
        for (const uint32_t which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
            Result<Rendition> seen =
                look(encoded->renditions[which], detector, detections, [&] { return progress(++done, all); });
            if (!seen) {
                return Error{fmt::format("camera {}: {}", view.camera, seen.error().message)};
            }
            if (which == ADP_SELECT_SUB) {
                scale(seen->boxes, view.sizes[ADP_SELECT_SUB], view.sizes[ADP_SELECT_MAIN]);
                measured.pictures.sub = std::move(seen->boxes);
            } else {
                measured.pictures.main = std::move(seen->boxes);
            }
            measured.keys[which] = std::move(seen->keys);
            measured.bytes[which] = std::move(seen->bytes);
        }
        cameras.push_back(std::move(measured));
    }
    return cameras;
}

std::vector<std::string> camera_arguments(const std::vector<std::string>& clips, const MeasureOptions& options) {
    const camera::LayoutOptions& layout = options.layout;
    const camera::EncodingOptions& encoding = options.encoding;
    std::vector<std::string> arguments;
    const auto add = [&](const char* name, const std::string& value) {
        arguments.emplace_back(name);
        arguments.push_back(value);
    };
    for (const std::string& clip : clips) {
        add("--clip", clip);
    }
    add("--window", fmt::format("{}x{}", layout.window.width, layout.window.height));
    if (layout.sub.width > 0) {
        add("--sub-size", fmt::format("{}x{}", layout.sub.width, layout.sub.height));
    }
    add("--from", fmt::format("{}", layout.from));
    add("--to", fmt::format("{}", layout.to));
    add("--pictures", fmt::format("{}", layout.pictures));
    add("--fps", fmt::format("{}", encoding.fps));
    add("--group", fmt::format("{}", encoding.group));
    add("--preset", encoding.preset);
    for (const uint32_t which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
        const camera::Quality& quality = encoding.quality[which];
        const std::string name = which == ADP_SELECT_MAIN ? "--main" : "--sub";
        if (quality.qp != 0) {
            add((name + "-qp").c_str(), fmt::format("{}", quality.qp));
        } else {
            add((name + "-kbps").c_str(), fmt::format("{}", quality.kbps));
        }
    }
    return arguments;
}

}  // namespace adapath::video_bench
