// Pictures in and out of files, through x264, and drawn over.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <fstream>

#include "tests/detector/graph_file.h"
#include "userspace/detect/draw.h"
#include "userspace/detect/pictures.h"
#include "userspace/video/decoder.h"

namespace adapath {
namespace {

// Its complaints of broken files are expected here.
const bool quiet = (video::quiet_libav(), true);

Image gradient(int width, int height) {
    Image image{width, height, {}};
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                image.rgb.push_back(static_cast<uint8_t>(128 + 100 * std::sin(x * 0.11 + c) * std::cos(y * 0.07)));
    return image;
}

double difference(const Image& a, const Image& b) {
    double sum = 0;
    for (size_t i = 0; i < a.rgb.size(); i++) sum += std::abs(a.rgb[i] - b.rgb[i]);
    return sum / static_cast<double>(a.rgb.size());
}

TEST(Pictures, PngKeepsEveryByte) {
    ScratchDirectory directory;
    for (auto [width, height] : {std::pair{1, 1}, std::pair{33, 17}, std::pair{320, 200}}) {
        const Image image = gradient(width, height);
        const std::string path = directory.file("picture.png");
        ASSERT_TRUE(write_png(path, image).ok());
        auto back = read_pictures(path, 0, 1);
        ASSERT_TRUE(back.ok()) << back.error().message;
        EXPECT_EQ(back->at(0).width, width);
        EXPECT_EQ(back->at(0).height, height);
        EXPECT_EQ(back->at(0).rgb, image.rgb);
    }
}

TEST(Pictures, WhatCannotBeReadOrWrittenIsAnError) {
    ScratchDirectory directory;
    EXPECT_FALSE(read_pictures(directory.file("nothing.png"), 0, 1).ok());
    write_text(directory.file("text.png"), "no picture");
    EXPECT_FALSE(read_pictures(directory.file("text.png"), 0, 1).ok());
    ASSERT_TRUE(write_png(directory.file("one.png"), gradient(64, 64)).ok());
    auto second = read_pictures(directory.file("one.png"), 1, 1);
    ASSERT_FALSE(second.ok());
    EXPECT_NE(second.error().message.find("no frame 1: it has 1"), std::string::npos) << second.error().message;
    EXPECT_FALSE(write_png(directory.file("no/where.png"), gradient(8, 8)).ok());
    EXPECT_FALSE(write_png(directory.file("none.png"), {}).ok());
    EXPECT_FALSE(write_png(directory.file("none.png"), {8, 8, {1, 2, 3}}).ok());
    // Cut off in the middle: a picture of what was there, or an error.
    std::ifstream in(directory.file("one.png"), std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(in)), {});
    for (size_t size = 0; size < bytes.size(); size += bytes.size() / 11) {
        write_text(directory.file("cut.png"), bytes.substr(0, size));
        auto cut = read_pictures(directory.file("cut.png"), 0, 1);
        if (cut.ok()) {
            EXPECT_TRUE(cut->at(0).sound());
        }
    }
}

TEST(Pictures, ScalesAndKeepsTheMean) {
    const Image image = gradient(320, 240);
    auto half = scaled(image, {160, 120});
    ASSERT_TRUE(half.ok()) << half.error().message;
    EXPECT_TRUE(half->sound());
    auto back = scaled(*half, {320, 240});
    ASSERT_TRUE(back.ok());
    EXPECT_LT(difference(image, *back), 4);
    EXPECT_FALSE(scaled(image, {0, 5}).ok());
    EXPECT_FALSE(scaled({}, {16, 16}).ok());
}

TEST(Pictures, QuantisersCostAndGive) {
    std::vector<Image> group;
    for (int i = 0; i < 5; i++) group.push_back(gradient(128 + 2 * (i / 5), 96));
    auto fine = requantise(group, 10);
    auto coarse = requantise(group, 45);
    ASSERT_TRUE(fine.ok()) << fine.error().message;
    ASSERT_TRUE(coarse.ok()) << coarse.error().message;
    ASSERT_EQ(fine->pictures.size(), 5U);
    ASSERT_EQ(coarse->pictures.size(), 5U);
    EXPECT_GT(fine->bytes, 2 * coarse->bytes);
    // YUV 4:2:0 and its range of 16 to 235 there and back: the colours stay what they were.
    EXPECT_LT(difference(group[0], fine->pictures[0]), 3);
    EXPECT_GT(difference(group[0], coarse->pictures[0]), difference(group[0], fine->pictures[0]));
    EXPECT_FALSE(requantise({}, 30).ok());
    EXPECT_FALSE(requantise(group, 52).ok());
    EXPECT_FALSE(requantise(group, -1).ok());
    const std::vector<Image> odd{gradient(33, 32)};
    EXPECT_FALSE(requantise(odd, 30).ok());
    group.back() = gradient(64, 96);
    EXPECT_FALSE(requantise(group, 30).ok());
    group.back() = {128, 96, {}};
    EXPECT_FALSE(requantise(group, 30).ok());
}

TEST(Draw, BoxesAndTheirWords) {
    const Image before = gradient(100, 80);
    Image image = before;
    draw_box(image, {20, 30, 60, 70, 0.5F, 3}, "Dog 50%", {255, 0, 0});
    auto pixel = [&](int x, int y) { return &image.rgb[static_cast<size_t>(3 * (y * 100 + x))]; };
    for (auto [x, y] : {std::pair{20, 30}, std::pair{21, 50}, std::pair{59, 69}, std::pair{40, 68}}) {
        EXPECT_EQ(pixel(x, y)[0], 255) << x << " " << y;
        EXPECT_EQ(pixel(x, y)[1], 0);
    }
    EXPECT_EQ(pixel(40, 50)[0], before.rgb[3 * (50 * 100 + 40)]);  // the middle is untouched
    // The text's ground and its ink, above the box.
    int ink = 0;
    for (int y = 16; y < 30; y++)
        for (int x = 20; x < 78; x++) ink += pixel(x, y)[1] == 255 ? 1 : 0;
    EXPECT_GT(ink, 50);
    // Anywhere at all.
    for (const Box& box : {Box{-50, -50, 500, 500, 1, 0}, Box{99, 79, 100, 80, 1, 0}, Box{-9, -9, -5, -5, 1, 0}})
        draw_box(image, box, "anything / at all", class_colour(box.class_id));
    EXPECT_EQ(image.rgb.size(), before.rgb.size());
}

TEST(Draw, MapIsRedWhereItMatters) {
    Image image = gradient(40, 20);
    BlockMap map = empty_block_map(40, 20);
    map.values[1] = 5;
    draw_map(image, map);
    auto pixel = [&](int x, int y) { return &image.rgb[static_cast<size_t>(3 * (y * 40 + x))]; };
    EXPECT_EQ(pixel(3, 3)[0], pixel(3, 3)[2]);         // grey
    EXPECT_GT(pixel(20, 3)[0], pixel(20, 3)[2] + 50);  // red
    draw_map(image, empty_block_map(40, 20));          // nothing matters: nothing to divide by
    EXPECT_EQ(pixel(20, 3)[0], pixel(20, 3)[2]);
}

// ---- The tool ----

struct Output {
    int code;
    std::string text;
};
Output tool(const std::string& arguments, const std::string& redirected = "2>&1") {
    FILE* pipe = popen((std::string(ADAPATH_DETECT) + " " + arguments + " " + redirected).c_str(), "r");
    Output output{-1, ""};
    char buffer[4096];
    while (size_t got = fread(buffer, 1, sizeof buffer, pipe)) output.text.append(buffer, got);
    const int status = pclose(pipe);
    output.code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return output;
}

TEST(Tool, SaysWhatIsWrong) {
    EXPECT_EQ(tool("--help").code, 0);
    EXPECT_NE(tool("--help").text.find("--map"), std::string::npos);
    EXPECT_EQ(tool("").code, 2);
    EXPECT_EQ(tool("x.png --score 7").code, 2);
    const Output no_model = tool("x.png --model nowhere.json");
    EXPECT_EQ(no_model.code, 1);
    EXPECT_NE(no_model.text.find("adapath-detect: nowhere.json: "), std::string::npos) << no_model.text;
}

TEST(Tool, DrawsBoxesAndMap) {
    const std::string cache = ADAPATH_TEST_CACHE;
    for (const char* file : {"/detector/centernet.json", "/clip/vtest.avi"})
        if (!std::filesystem::exists(cache + file))
            GTEST_SKIP() << cache + file << " is not there: scripts/deps.sh fetches it";
    ScratchDirectory directory;
    const Output output = tool(cache + "/clip/vtest.avi --frame 100 --size 384x288 --map --chunk 2 --png " +
                               directory.file("drawn.png") + " --model " + cache + "/detector/centernet.json");
    EXPECT_EQ(output.code, 0) << output.text;
    EXPECT_NE(output.text.find("person\t0."), std::string::npos) << output.text;
    EXPECT_NE(output.text.find("quantiser 45: "), std::string::npos) << output.text;
    auto drawn = read_pictures(directory.file("drawn.png"), 0, 1);
    ASSERT_TRUE(drawn.ok()) << drawn.error().message;
    EXPECT_EQ(drawn->at(0).width, 384);
    size_t red = 0;
    for (size_t i = 0; i < drawn->at(0).rgb.size(); i += 3)
        red += drawn->at(0).rgb[i] > drawn->at(0).rgb[i + 2] + 60 ? 1 : 0;
    EXPECT_GT(red, 1000U);
    EXPECT_EQ(tool(cache + "/clip/vtest.avi --frame 5000 --model " + cache + "/detector/centernet.json").code, 1);
    const Output full =
        tool(cache + "/clip/vtest.avi --frame 100 --size 384x288 --model " + cache + "/detector/centernet.json",
             "2>&1 >/dev/full");
    EXPECT_EQ(full.code, 1);
    EXPECT_EQ(full.text, "adapath-detect: standard output is incomplete: No space left on device\n");
}

}  // namespace
}  // namespace adapath
