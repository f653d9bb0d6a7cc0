// detector_gradients: how good accuracy gradients are at finding the blocks whose quality matters. Groups of pictures
// of a clip are encoded in low and in high quality; of each low picture some share of the blocks is replaced by the
// high quality's, chosen in several ways; what counts is F1 against what the detector finds in the high quality.
//
// Blocks are pasted, not encoded: this measures the choice of blocks, not what they cost.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "models/detector/accuracy.h"
#include "models/detector/block_map.h"
#include "models/detector/detector.h"
#include "userspace/detect/pictures.h"
#include "userspace/video/decoder.h"
#include "userspace/common/file.h"

namespace {

using namespace adapath;

struct Options {
    std::string clip;
    std::string model;
    std::string size = "384x288";
    int low_qp = 45;
    int high_qp = 30;
    uint64_t groups = 9;
    uint64_t first = 20;
    uint64_t apart = 90;
    uint64_t group = 10;
    uint64_t every = 3;
    int threads = 1;
};

constexpr std::array<double, 4> shares{0.02, 0.05, 0.1, 0.2};

// A way to choose blocks: one map for each picture of a group.
struct Way {
    std::string name;
    std::vector<BlockMap> maps;
};

BlockMap difference_map(const Image& low, const Image& high) {
    PixelGradient all_alike;
    all_alike.rgb.assign(low.rgb.size(), 1);
    return *block_gradients(all_alike, low, high);
}

BlockMap random_map(int width, int height, std::mt19937& random) {
    BlockMap map = empty_block_map(width, height);
    std::uniform_real_distribution<float> uniform;
    for (float& value : map.values) value = uniform(random);
    return map;
}

// Blocks that touch a box or lie within a block of one.
std::vector<uint32_t> blocks_of_boxes(const BlockMap& map, const std::vector<Box>& boxes) {
    std::vector<uint32_t> blocks;
    constexpr auto side = static_cast<float>(BlockMap::block);
    for (uint32_t i = 0; i < map.values.size(); i++) {
        const auto columns = static_cast<uint32_t>(map.columns);
        const float x = side * static_cast<float>(i % columns);
        const float y = side * static_cast<float>(i / columns);
        if (std::any_of(boxes.begin(), boxes.end(), [&](const Box& b) {
                return x < b.x1 + side && x + side > b.x0 - side && y < b.y1 + side && y + side > b.y0 - side;
            }))
            blocks.push_back(i);
    }
    return blocks;
}

BlockMap over_group(const std::vector<BlockMap>& maps, OverChunk how) {
    BlockMap all = maps[0];
    for (size_t i = 1; i < maps.size(); i++)
        for (size_t b = 0; b < all.values.size(); b++)
            all.values[b] = how == OverChunk::greatest ? std::max(all.values[b], maps[i].values[b])
                                                       : all.values[b] + maps[i].values[b];
    return all;
}

struct Totals {
    Matches low;
    Matches boxes;
    double boxes_share = 0;
    uint64_t pictures = 0;
    uint64_t low_bytes = 0;
    uint64_t high_bytes = 0;
    std::vector<std::string> names;
    std::vector<std::array<Matches, shares.size()>> by_way;
};

Status measure_group(Detector& detector, const std::vector<Image>& group, const Options& options, std::mt19937& random,
                     Totals& totals) {
    auto low = requantise(group, options.low_qp);
    if (!low) return low.error();
    auto high = requantise(group, options.high_qp);
    if (!high) return high.error();
    totals.low_bytes += low->bytes;
    totals.high_bytes += high->bytes;

    std::vector<std::vector<Box>> references;
    std::vector<Way> ways(5);
    ways[0].name = "gradient of the picture";
    ways[1].name = "greatest gradient of the group";
    ways[2].name = "mean gradient of the group";
    ways[3].name = "|high - low| of the picture";
    ways[4].name = "random";
    for (size_t i = 0; i < group.size(); i++) {
        const Image& l = low->pictures[i];
        const Image& h = high->pictures[i];
        auto reference = detector.detect(h);
        if (!reference) return reference.error();
        references.push_back(std::move(*reference));
        auto gradient = detector.gradient(l, references.back());
        if (!gradient) return gradient.error();
        ways[0].maps.push_back(*block_gradients(*gradient, l, h));
        ways[3].maps.push_back(difference_map(l, h));
        ways[4].maps.push_back(random_map(l.width, l.height, random));
    }
    ways[1].maps.assign(group.size(), over_group(ways[0].maps, OverChunk::greatest));
    ways[2].maps.assign(group.size(), over_group(ways[0].maps, OverChunk::mean));

    totals.by_way.resize(ways.size());
    totals.names.clear();
    for (const Way& way : ways) totals.names.push_back(way.name);
    auto seen = [&](const Image& image, size_t i) -> Result<Matches> {
        auto boxes = detector.detect(image);
        if (!boxes) return boxes.error();
        return match(references[i], *boxes);
    };
    auto add = [&](Matches& to, const Image& image, size_t i) -> Status {
        auto matches = seen(image, i);
        if (!matches) return matches.error();
        to += *matches;
        return {};
    };
    for (size_t i = options.every - 1; i < group.size(); i += options.every) {
        const Image& l = low->pictures[i];
        const Image& h = high->pictures[i];
        if (Status s = add(totals.low, l, i); !s) return s;
        const std::vector<uint32_t> near = blocks_of_boxes(ways[0].maps[i], references[i]);
        totals.boxes_share += static_cast<double>(near.size()) / static_cast<double>(ways[0].maps[i].values.size());
        totals.pictures++;
        if (Status s = add(totals.boxes, paste_blocks(l, h, ways[0].maps[i], near), i); !s) return s;
        for (size_t w = 0; w < ways.size(); w++) {
            const BlockMap& map = ways[w].maps[i];
            const std::vector<uint32_t> order = ranked(map);
            for (size_t k = 0; k < shares.size(); k++) {
                const auto count = static_cast<size_t>(shares[k] * static_cast<double>(order.size()));
                const Image pasted = paste_blocks(l, h, map, std::span(order).first(count));
                if (Status s = add(totals.by_way[w][k], pasted, i); !s) return s;
            }
        }
    }
    return {};
}

Status run(const Options& options) {
    prepare_process(options.threads);
    auto detector = open_detector(options.model);
    if (!detector) return detector.error();
    auto size = video::parse_size(options.size);
    if (!size) return size.error();
    std::mt19937 random(1);
    Totals totals;
    for (uint64_t g = 0; g < options.groups; g++) {
        auto group = read_pictures(options.clip, options.first + g * options.apart, options.group);
        if (!group) return group.error();
        for (Image& image : *group) {
            auto smaller = scaled(image, *size);
            if (!smaller) return smaller.error();
            image = std::move(*smaller);
        }
        if (Status s = measure_group(**detector, *group, options, random, totals); !s) return s;
    }
    fmt::print("{} pictures of {} groups of {} at {}; quantiser {}: {} bytes, {}: {} bytes\n", totals.pictures,
               options.groups, options.group, options.size, options.low_qp, totals.low_bytes, options.high_qp,
               totals.high_bytes);
    fmt::print("F1 in low quality: {:.3f}\n", totals.low.f1());
    fmt::print("F1 with the blocks at and around boxes in high quality ({:.1f} % of them): {:.3f}\n",
               100 * totals.boxes_share / static_cast<double>(totals.pictures), totals.boxes.f1());
    fmt::print("F1 with a share of blocks in high quality:\n{:<32}", "");
    for (double share : shares) fmt::print("{:>8}", fmt::format("{:g} %", share * 100));
    fmt::print("\n");
    for (size_t w = 0; w < totals.by_way.size(); w++) {
        fmt::print("{:<32}", totals.names[w]);
        for (const Matches& matches : totals.by_way[w]) fmt::print("{:8.3f}", matches.f1());
        fmt::print("\n");
    }
    return {};
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("Measures how well accuracy gradients find the blocks whose quality matters to the vision network.");
    Options options;
    options.clip = adapath::fetched_file("clip/vtest.avi");
    options.model = adapath::fetched_file("detector/centernet.json");
    app.add_option("--clip", options.clip, "Video")->capture_default_str();
    app.add_option("--model", options.model, "Detector, *.json or *.pt")->capture_default_str();
    app.add_option("--size", options.size, "Scale the pictures to WIDTHxHEIGHT")->capture_default_str();
    app.add_option("--low-qp", options.low_qp, "H.264 quantiser of the low quality")->capture_default_str();
    app.add_option("--high-qp", options.high_qp, "And of the high one")->capture_default_str();
    app.add_option("--groups", options.groups, "Groups of pictures")->check(CLI::Range(1, 1000))->capture_default_str();
    app.add_option("--first", options.first, "First frame of the first group")->capture_default_str();
    app.add_option("--apart", options.apart, "Frames from a group's start to the next one's")->capture_default_str();
    app.add_option("--group", options.group, "Frames of a group")->check(CLI::Range(1, 300))->capture_default_str();
    app.add_option("--every", options.every, "Look at every n-th frame of a group")
        ->check(CLI::Range(1, 300))
        ->capture_default_str();
    app.add_option("--threads", options.threads, "LibTorch's threads")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    CLI11_PARSE(app, argc, argv);
    adapath::video::quiet_libav();
    if (Status s = run(options); !s) {
        fmt::print(stderr, "detector_gradients: {}\n", s.error().message);
        return 1;
    }
    return 0;
}
