// See measure.h.
#include "models/select/measure.h"

extern "C" {
#include <libswscale/swscale.h>
}

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "models/detector/accuracy.h"
#include "models/select/dataset.h"
#include "userspace/common/json_lines.h"
#include "userspace/detect/pictures.h"
#include "userspace/video/region_encoder.h"

namespace adapath {

namespace {

constexpr uint64_t clip_memory = uint64_t{2} << 30;

// A window of the clip, in shares of its width and height, that may wander to and fro; and what a camera that looked
// through it would send.
struct View {
    const char* name;
    bool held_out;
    double x, y, side;    // of the window
    int step_x, step_y;   // pixels a picture; 0: it stands still
    double sub_side;      // of the sub stream, as a share of main's
    int main_qp, sub_qp;  // quantisers
};

// People walk through all of them, of different sizes and in different numbers; quantisers as cameras of different
// makes have them. A wandering window costs a multiple of the bytes: what is worth it is not told by bytes alone.
constexpr View views[] = {
    {"whole", false, 0, 0, 1, 0, 0, 0.5, 27, 33},
    {"upper-left", false, 0, 0, 0.667, 0, 0, 0.5, 25, 31},
    {"lower-right", false, 0.333, 0.333, 0.667, 0, 0, 0.5, 27, 31},
    {"middle", false, 0.25, 0.25, 0.5, 0, 0, 0.5, 24, 30},
    {"lower-left", false, 0, 0.5, 0.5, 0, 0, 0.667, 26, 34},
    {"right", false, 0.5, 0.2, 0.5, 0, 0, 0.667, 24, 32},
    {"pan", false, 0, 0, 0.5, 4, 2, 0.5, 28, 34},
    {"pan-wide", false, 0, 0, 0.667, 2, 1, 0.667, 28, 34},
    {"far", false, 0.3, 0, 0.5, 0, 0, 0.5, 24, 28},
    {"other-upper-right", true, 0.4, 0.05, 0.583, 0, 0, 0.5, 26, 31},
    {"other-lower", true, 0.1, 0.45, 0.542, 0, 0, 0.583, 25, 32},
    {"other-left", true, 0.05, 0.2, 0.5, 0, 0, 0.5, 25, 33},
    {"other-pan", true, 0, 0, 0.583, 3, 1, 0.583, 28, 33},
};

int even(double value) { return static_cast<int>(value) / 2 * 2; }

// 0, step, 2 step, ... and back again, within 0 to `most`.
int to_and_fro(uint64_t index, int step, int most) {
    if (most == 0) return 0;
    const auto at = static_cast<int>(index * static_cast<uint64_t>(step) % static_cast<uint64_t>(2 * most));
    return at <= most ? at : 2 * most - at;
}

void copy_window(const uint8_t* from, int from_width, int x, int y, video::Size size, std::vector<uint8_t>& to) {
    for (int row = 0; row < size.height; row++) {
        const uint8_t* start = from + static_cast<ptrdiff_t>(y + row) * from_width + x;
        to.insert(to.end(), start, start + size.width);
    }
}

Result<video::Clip> window_of(const video::Clip& clip, const View& view) {
    const video::Size whole = clip.size();
    const video::Size window{even(whole.width * view.side), even(whole.height * view.side)};
    std::vector<uint8_t> bytes;
    bytes.reserve(video::picture_bytes(window) * clip.pictures());
    for (uint64_t i = 0; i < clip.pictures(); i++) {
        const video::Picture picture = clip.picture(i);
        const int most_x = (whole.width - window.width) / 2 * 2;
        const int most_y = (whole.height - window.height) / 2 * 2;
        // Even positions: chroma has half of the pixels.
        const int x =
            std::min(view.step_x > 0 ? to_and_fro(i, view.step_x, most_x) / 2 * 2 : even(whole.width * view.x), most_x);
        const int y = std::min(
            view.step_y > 0 ? to_and_fro(i, view.step_y, most_y) / 2 * 2 : even(whole.height * view.y), most_y);
        const video::Size chroma{window.width / 2, window.height / 2};
        copy_window(picture.y, whole.width, x, y, window, bytes);
        copy_window(picture.u, whole.width / 2, x / 2, y / 2, chroma, bytes);
        copy_window(picture.v, whole.width / 2, x / 2, y / 2, chroma, bytes);
    }
    return video::Clip::from_i420(std::move(bytes), window);
}

struct SwsDeleter {
    void operator()(SwsContext* context) const { sws_freeContext(context); }
};

Result<video::Clip> shrunk(const video::Clip& clip, double side) {
    const video::Size from = clip.size();
    const video::Size to{even(from.width * side), even(from.height * side)};
    const std::unique_ptr<SwsContext, SwsDeleter> scaler(sws_getContext(from.width, from.height, AV_PIX_FMT_YUV420P,
                                                                        to.width, to.height, AV_PIX_FMT_YUV420P,
                                                                        SWS_AREA, nullptr, nullptr, nullptr));
    if (!scaler) return Error{fmt::format("libswscale cannot scale to {}x{}", to.width, to.height)};
    std::vector<uint8_t> bytes(video::picture_bytes(to) * clip.pictures());
    for (uint64_t i = 0; i < clip.pictures(); i++) {
        const video::Picture picture = clip.picture(i);
        uint8_t* out = bytes.data() + video::picture_bytes(to) * i;
        const ptrdiff_t luma = static_cast<ptrdiff_t>(to.width) * to.height;
        const uint8_t* planes_in[] = {picture.y, picture.u, picture.v};
        const int stride_in[] = {from.width, from.width / 2, from.width / 2};
        uint8_t* planes_out[] = {out, out + luma, out + luma + luma / 4};
        const int stride_out[] = {to.width, to.width / 2, to.width / 2};
        if (sws_scale(scaler.get(), planes_in, stride_in, 0, from.height, planes_out, stride_out) != to.height)
            return Error{"libswscale could not scale a picture"};
    }
    return video::Clip::from_i420(std::move(bytes), to);
}

struct Found {
    std::vector<uint32_t> bytes;
    std::vector<std::vector<Box>> boxes;  // of each looked-at picture
    double objects = 0;
    double confidence = 0;
};

Result<Found> look(Detector& detector, const video::Clip& clip, uint64_t first, int qp, double scale,
                   const SelectMeasurement& m) {
    auto encoder = video::RegionEncoder::open(clip.size());
    if (!encoder) return encoder.error();
    if (Status s = encoder->begin_chunk(qp); !s) return s.error();
    auto coded = video::code_chunk(*encoder, clip, first, m.group);
    if (!coded) return coded.error();
    auto decoded = video::Clip::from_i420(std::move(coded->i420), clip.size());
    if (!decoded) return decoded.error();
    Found found;
    found.bytes.assign(coded->frame_bytes.begin(), coded->frame_bytes.end());
    double scores = 0;
    size_t count = 0;
    for (uint32_t i = 0; i < m.group; i += m.every) {
        auto image = to_image(decoded->picture(i), clip.size());
        if (!image) return image.error();
        auto boxes = detector.detect(*image);
        if (!boxes) return boxes.error();
        for (Box& box : *boxes) {
            scores += box.score;
            for (float* side : {&box.x0, &box.y0, &box.x1, &box.y1}) *side *= static_cast<float>(scale);
        }
        count += boxes->size();
        found.boxes.push_back(std::move(*boxes));
    }
    found.objects = static_cast<double>(count) / static_cast<double>(found.boxes.size());
    found.confidence = count > 0 ? scores / static_cast<double>(count) : 0;
    return found;
}

}  // namespace

Status measure_select(Detector& detector, const SelectMeasurement& m) {
    auto clip = video::Clip::load(m.clip, {}, clip_memory);
    if (!clip) return clip.error();
    const uint64_t half = clip->pictures() / 2 / m.group * m.group;
    if (half < 4 * m.group) return Error{fmt::format("{}: {} frames are too few", m.clip, clip->pictures())};
    std::set<std::pair<std::string, uint64_t>> there;
    if (std::filesystem::exists(m.path)) {
        std::ifstream in(m.path);
        Status taken = read_json_lines(in, m.path, [&there](const nlohmann::json& json) -> Status {
            there.emplace(json.at("view").get<std::string>(), json.at("first").get<uint64_t>());
            return {};
        });
        if (!taken) return taken;
    } else {
        std::error_code ignored;
        std::filesystem::create_directories(std::filesystem::path(m.path).parent_path(), ignored);
    }
    std::ofstream out(m.path, std::ios::app);
    if (!out) return Error{m.path + ": cannot be written"};
    const size_t all = std::size(views) * (clip->pictures() / m.group);
    size_t measured = 0;
    for (const View& view : views) {
        std::vector<uint64_t> wanted;
        for (uint64_t first = 0; first + m.group <= clip->pictures(); first += m.group)
            if (!there.contains({view.name, first})) wanted.push_back(first);
        if (wanted.empty()) continue;
        auto main = window_of(*clip, view);
        if (!main) return main.error();
        auto sub = shrunk(*main, view.sub_side);
        if (!sub) return sub.error();
        SelectView name;
        name.name = view.name;
        name.held_out = view.held_out;
        for (const uint64_t first : wanted) {
            if (m.most > 0 && measured == m.most) return {};
            auto of_main = look(detector, *main, first, view.main_qp, 1, m);
            if (!of_main) return of_main.error();
            const double scale = static_cast<double>(main->size().width) / sub->size().width;
            auto of_sub = look(detector, *sub, first, view.sub_qp, scale, m);
            if (!of_sub) return of_sub.error();
            MeanF1 f1;
            for (size_t i = 0; i < of_main->boxes.size(); i++) f1 += match(of_main->boxes[i], of_sub->boxes[i]);
            const SelectChunk chunk{first,
                                    {of_sub->bytes, of_main->bytes},
                                    {f1.f1(), 1},
                                    {of_sub->objects, of_main->objects},
                                    {of_sub->confidence, of_main->confidence}};
            // On a line of its own even where the last one was cut off.
            out << (measured == 0 ? "\n" : "") << to_json_line(name, first >= half, chunk) << "\n" << std::flush;
            if (!out) return Error{m.path + ": cannot be written"};
            there.emplace(view.name, first);
            measured++;
            if (m.progress && !m.progress(there.size(), all)) return {};
        }
    }
    return {};
}

}  // namespace adapath
