// adapath-detect: what the server's vision network sees in a photo or in a frame of a video, and where quality matters
// to it.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <ranges>
#include <string>
#include <vector>

#include "models/detector/accuracy.h"
#include "models/detector/block_map.h"
#include "models/detector/detector.h"
#include "userspace/common/file.h"
#include "userspace/common/log.h"
#include "userspace/detect/draw.h"
#include "userspace/detect/pictures.h"
#include "userspace/video/decoder.h"
#include "userspace/video/report.h"

namespace {

using namespace adapath;

constexpr int exit_ok = 0;
constexpr int exit_failed = 1;
constexpr int exit_usage = 2;

struct Options {
    std::string file;
    std::string model;
    uint64_t frame = 0;
    std::string size;
    double score = 0.3;
    std::string png;
    bool map = false;
    int low_qp = 45;
    int high_qp = 30;
    uint64_t chunk = 1;
    int threads = 1;
};

// The chunk at both qualities, the map over its first picture, and on stderr what the two qualities cost and give.
Status add_map(const Options& options, Detector& detector, const std::vector<Image>& chunk, Image& canvas) {
    auto low = requantise(chunk, options.low_qp);
    if (!low) return low.error();
    auto high = requantise(chunk, options.high_qp);
    if (!high) return high.error();
    Matches matches;
    for (size_t i = 0; i < chunk.size(); i++) {
        auto reference = detector.detect(high->pictures[i], options.score);
        if (!reference) return reference.error();
        auto found = detector.detect(low->pictures[i], options.score);
        if (!found) return found.error();
        matches += match(*reference, *found, {.score = options.score});
    }
    auto map = chunk_gradients(detector, low->pictures, high->pictures, OverChunk::greatest, options.score);
    if (!map) return map.error();
    fmt::print(stderr,
               "quantiser {}: {} bytes; quantiser {}: {} bytes, F1 {:.3f} against it ({} found, {} missed, {} wrong)\n",
               options.high_qp, high->bytes, options.low_qp, low->bytes, matches.f1(), matches.found, matches.missed,
               matches.wrong);
    draw_map(canvas, *map);
    return {};
}

Status run(const Options& options) {
    prepare_process(options.threads);
    auto detector = open_detector(options.model);
    if (!detector) return detector.error();
    auto chunk = read_pictures(options.file, options.frame, options.map ? options.chunk : 1);
    if (!chunk) return chunk.error();
    if (!options.size.empty()) {
        auto size = video::parse_size(options.size);
        if (!size) return size.error();
        for (Image& image : *chunk) {
            auto smaller = scaled(image, *size);
            if (!smaller) return smaller.error();
            image = std::move(*smaller);
        }
    }
    auto boxes = (*detector)->detect(chunk->front(), options.score);
    if (!boxes) return boxes.error();
    auto lines = video::LineFile::open("-");
    if (!lines) return lines.error();
    for (const Box& box : *boxes)
        (*lines)->write(fmt::format("{}\t{:.3f}\t{:.1f}\t{:.1f}\t{:.1f}\t{:.1f}", (*detector)->class_name(box.class_id),
                                    box.score, box.x0, box.y0, box.x1, box.y1));
    // A full disk must not look like a picture with nothing in it.
    if (Status s = (*lines)->status(); !s) return s;

    Image canvas = chunk->front();
    if (options.map)
        if (Status s = add_map(options, **detector, *chunk, canvas); !s) return s;
    if (options.png.empty()) return {};
    // The best last, so that it lies on top where several words are about one place.
    for (const Box& box : std::views::reverse(*boxes))
        draw_box(canvas, box, fmt::format("{} {:.0f}%", (*detector)->class_name(box.class_id), box.score * 100),
                 class_colour(box.class_id));
    return write_png(options.png, canvas);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app(
        "Runs the server's vision network on a photo or a frame of a video and prints the boxes that it finds, the "
        "best "
        "first: class, score, x0, y0, x1, y1 (pixels), separated by tabs.");
    Options options;
    options.model = fetched_file("detector/centernet.json");
    app.add_option("file", options.file, "Photo or video: anything that libav reads")->required();
    app.add_option("--frame", options.frame, "Number of the frame, from 0")->capture_default_str();
    app.add_option("--model", options.model,
                   "Detector: the TF.js CenterNet that 'make deps' fetched, or your own TorchScript (*.pt, see "
                   "docs/detector.md)")
        ->capture_default_str();
    app.add_option("--size", options.size, "Scale the picture to WIDTHxHEIGHT first");
    app.add_option("--score", options.score, "Least score of a box")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    app.add_option("--png", options.png, "Draw the boxes over the picture into this file");
    app.add_flag("--map", options.map,
                 "Draw the accuracy gradients too: red where a macroblock's quality matters to the network");
    app.add_option("--low-qp", options.low_qp, "With --map: H.264 quantiser of the low quality")
        ->check(CLI::Range(0, 51))
        ->capture_default_str();
    app.add_option("--high-qp", options.high_qp, "With --map: and of the high one")
        ->check(CLI::Range(0, 51))
        ->capture_default_str();
    app.add_option("--chunk", options.chunk,
                   "With --map: so many frames from --frame on, one group of pictures; the greatest gradients over all")
        ->check(CLI::Range(1, 300))
        ->capture_default_str();
    app.add_option("--threads", options.threads, "LibTorch's threads")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_ok : exit_usage;
    }
    if (Status s = setup_log("adapath-detect", "warning"); !s) {
        fmt::print(stderr, "adapath-detect: {}\n", s.error().message);
        return exit_usage;
    }
    video::quiet_libav();
    if (Status s = run(options); !s) {
        fmt::print(stderr, "adapath-detect: {}\n", s.error().message);
        return exit_failed;
    }
    return exit_ok;
}
