// The detector that `make deps` fetches, on a synthetic picture (against TF.js itself), a photo and the clip; and its
// accuracy gradients against what accuracy does when blocks are really replaced.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iostream>
#include <numeric>
#include <random>
#include <set>

#include "models/detector/accuracy.h"
#include "models/detector/block_map.h"
#include "models/detector/detector.h"
#include "tests/detector/graph_file.h"
#include "userspace/detect/pictures.h"

namespace adapath {
namespace {

const std::string cache = ADAPATH_TEST_CACHE;
const std::string weights = cache + "/detector/centernet.json";
const std::string photo = cache + "/detector/dog.jpg";
const std::string clip = cache + "/clip/vtest.avi";

#define NEEDS(file) \
    if (!std::filesystem::exists(file)) GTEST_SKIP() << (file) << " is not there: scripts/deps.sh fetches it"

std::unique_ptr<Detector> centernet() {
    prepare_process(1);
    auto detector = open_detector(weights);
    if (!detector) throw std::runtime_error(detector.error().message);
    return std::move(*detector);
}

std::vector<Image> pictures(const std::string& path, uint64_t first, uint64_t count, video::Size size) {
    auto images = read_pictures(path, first, count);
    if (!images) throw std::runtime_error(images.error().message);
    if (size.width != 0)
        for (Image& image : *images) image = *scaled(image, size);
    return std::move(*images);
}

std::multiset<std::string> words(const Detector& detector, const std::vector<Box>& boxes) {
    std::multiset<std::string> all;
    for (const Box& box : boxes) all.insert(detector.class_name(box.class_id));
    return all;
}

// The boxes that TF.js 4.22 gives for this picture (loadGraphModel() of the same files, backend "cpu", output
// tower_0/detections), cut to the picture. It agrees to the fourth digit, so every operation does what it should.
TEST(CenterNet, AgreesWithTensorFlow) {
    NEEDS(weights);
    Image image{512, 512, {}};
    for (int y = 0; y < 512; y++)
        for (int x = 0; x < 512; x++)
            for (int c = 0; c < 3; c++)
                image.rgb.push_back(
                    static_cast<uint8_t>(x * (c + 1) + y * (3 - c) + ((x >> 5) ^ (y >> 5)) * 29 + ((x * y) >> 6)));
    const std::vector<Box> expected{{26.3942F, 0, 491.0908F, 512, 0.3701F, 33},
                                    {26.3942F, 0, 491.0908F, 512, 0.2500F, 4},
                                    {16.7434F, 0, 483.6694F, 512, 0.1924F, 33},
                                    {26.3942F, 0, 491.0908F, 512, 0.1547F, 25},
                                    {26.0424F, 0, 503.2570F, 512, 0.1384F, 33},
                                    {26.3942F, 0, 491.0908F, 512, 0.1300F, 0},
                                    {26.3942F, 0, 491.0908F, 512, 0.1239F, 6},
                                    {43.4060F, 0, 505.8940F, 511.1954F, 0.1104F, 33},
                                    {14.8855F, 0, 386.1590F, 512, 0.1064F, 33},
                                    {26.3942F, 0, 491.0908F, 512, 0.0964F, 14},
                                    {76.9282F, 0.0976F, 152.8892F, 85.9423F, 0.0913F, 33},
                                    {68.2843F, 0, 198.2529F, 86.2062F, 0.0911F, 33}};
    const auto detector = centernet();
    auto boxes = detector->detect(image, 0.091);
    ASSERT_TRUE(boxes.ok()) << boxes.error().message;
    ASSERT_EQ(boxes->size(), expected.size());
    for (size_t i = 0; i < expected.size(); i++) {
        const Box& got = boxes->at(i);
        EXPECT_EQ(got.class_id, expected[i].class_id) << i;
        EXPECT_NEAR(got.score, expected[i].score, 2e-4) << i;
        EXPECT_NEAR(got.x0, expected[i].x0, 2e-3) << i;
        EXPECT_NEAR(got.y0, expected[i].y0, 2e-3) << i;
        EXPECT_NEAR(got.x1, expected[i].x1, 2e-3) << i;
        EXPECT_NEAR(got.y1, expected[i].y1, 2e-3) << i;
    }
}

TEST(CenterNet, SeesADogABicycleAndACar) {
    NEEDS(weights);
    NEEDS(photo);
    const auto detector = centernet();
    const Image image = pictures(photo, 0, 1, {512, 512})[0];
    auto boxes = detector->detect(image);
    ASSERT_TRUE(boxes.ok()) << boxes.error().message;
    const auto seen = words(*detector, *boxes);
    EXPECT_TRUE(seen.contains("dog"));
    EXPECT_TRUE(seen.contains("bicycle"));
    EXPECT_TRUE(seen.contains("car") || seen.contains("truck"));
    EXPECT_FALSE(seen.contains("person"));
    // Where they are: the dog sits on the left, the car stands above on the right.
    for (const Box& box : *boxes) {
        const std::string word = detector->class_name(box.class_id);
        const float x = (box.x0 + box.x1) / 2;
        const float y = (box.y0 + box.y1) / 2;
        if (word == "dog") {
            EXPECT_TRUE(x > 100 && x < 200 && y > 270 && y < 380) << x << " " << y;
        }
        if (word == "car") {
            EXPECT_TRUE(x > 350 && x < 420 && y > 90 && y < 130) << x << " " << y;
        }
    }
}

// At its own size, which is 24 x 18 times 32 pixels; and cut to one that is no multiple.
TEST(CenterNet, SeesPedestriansInTheClip) {
    NEEDS(weights);
    NEEDS(clip);
    const auto detector = centernet();
    const Image image = pictures(clip, 100, 1, {})[0];
    auto boxes = detector->detect(image);
    ASSERT_TRUE(boxes.ok()) << boxes.error().message;
    EXPECT_GE(words(*detector, *boxes).count("person"), 5U);
    EXPECT_GE(words(*detector, *boxes).count("car"), 1U);

    Image cut{750, 570, {}};
    for (int y = 0; y < cut.height; y++) {
        const auto row = image.rgb.begin() + static_cast<ptrdiff_t>(y) * image.width * 3;
        cut.rgb.insert(cut.rgb.end(), row, row + cut.width * 3);
    }
    auto less = detector->detect(cut);
    ASSERT_TRUE(less.ok()) << less.error().message;
    EXPECT_GE(match(*boxes, *less).f1(), 0.7);
    for (const Box& box : *less) {
        EXPECT_LE(box.x1, 750);
        EXPECT_LE(box.y1, 570);
        EXPECT_LT(box.x0, box.x1);
    }
}

TEST(CenterNet, PicturesThatAreNoneAreErrors) {
    NEEDS(weights);
    const auto detector = centernet();
    EXPECT_FALSE(detector->detect({}).ok());
    EXPECT_FALSE(detector->detect({-1, -1, {1, 2, 3}}).ok());
    EXPECT_FALSE(detector->detect({16, 16, std::vector<uint8_t>(16 * 16 * 3 - 1)}).ok());
    EXPECT_FALSE(detector->detect({100'000, 1, std::vector<uint8_t>(300'000)}).ok());
    EXPECT_FALSE(detector->gradient({}, {}).ok());
    const std::vector<Box> no_box{{0, 0, std::nanf(""), 5, 1, 0}};
    EXPECT_FALSE(detector->gradient({16, 16, std::vector<uint8_t>(16 * 16 * 3)}, no_box).ok());
    EXPECT_EQ(detector->class_name(16), "dog");
    EXPECT_EQ(detector->class_name(80), "class 80");
    EXPECT_EQ(detector->class_name(-1), "class -1");
    // The smallest that there is.
    EXPECT_TRUE(detector->detect({1, 1, {1, 2, 3}}).ok());
}

// The file itself, damaged: sizes that end within weights, and within the JSON.
TEST(CenterNet, DamagedFilesAreErrors) {
    NEEDS(weights);
    auto read = [](const std::string& path) {
        std::ifstream in(path, std::ios::binary);
        return std::string((std::istreambuf_iterator<char>(in)), {});
    };
    const std::string json = read(weights);
    const std::string bytes = read(cache + "/detector/centernet.bin");
    ScratchDirectory directory;
    const std::string path = directory.file("centernet.json");
    auto refused = [&](const std::string& model, const std::string& data) {
        write_text(path, model);
        write_text(directory.file("centernet.bin"), data);
        auto detector = open_detector(path);
        if (detector.ok()) return std::string();
        EXPECT_NE(detector.error().message.find(directory.file("")), std::string::npos) << detector.error().message;
        return detector.error().message;
    };
    EXPECT_EQ(refused(json, bytes), "");
    EXPECT_NE(refused(json, bytes.substr(0, 1'000'000)), "");
    EXPECT_NE(refused(json, ""), "");
    EXPECT_NE(refused(json.substr(0, json.size() / 2), bytes), "");
    // Another network than this one: sound, but not of its shape.
    EXPECT_NE(refused(every_operation().document.dump(), every_operation().bytes), "");
    std::string other = json;
    const std::string name = "\"tower_0/wh\"";
    for (size_t at = other.find(name); at != std::string::npos; at = other.find(name))
        other.replace(at + 1, 10, "tower_0/xx");
    EXPECT_NE(refused(other, bytes).find("there is no node tower_0/wh"), std::string::npos);
}

// ---- Accuracy gradients ----

// A pair of pictures as a camera's encoder makes them: frame 7 of a group of pictures at half size, in low and in high
// quality, and what is seen in the high one.
class AccuracyGradient : public testing::Test {
protected:
    void SetUp() override {
        NEEDS(weights);
        NEEDS(clip);
        detector_ = centernet();
        const std::vector<Image> group = pictures(clip, 20, 8, {384, 288});
        auto low = requantise(group, 45);
        auto high = requantise(group, 30);
        ASSERT_TRUE(low.ok()) << low.error().message;
        ASSERT_TRUE(high.ok()) << high.error().message;
        EXPECT_LT(low->bytes * 3, high->bytes);
        low_ = low->pictures[7];
        high_ = high->pictures[7];
        auto reference = detector_->detect(high_);
        ASSERT_TRUE(reference.ok()) << reference.error().message;
        reference_ = *reference;
        ASSERT_GE(reference_.size(), 5U);
        auto gradient = detector_->gradient(low_, reference_);
        ASSERT_TRUE(gradient.ok()) << gradient.error().message;
        gradient_ = *gradient;
        map_ = *block_gradients(gradient_, low_, high_);
    }

    double soft(const Image& image) { return *detector_->soft_accuracy(image, reference_); }

    std::unique_ptr<Detector> detector_;
    Image low_;
    Image high_;
    std::vector<Box> reference_;
    PixelGradient gradient_;
    BlockMap map_;
};

TEST_F(AccuracyGradient, IsThatOfFiniteDifferences) {
    EXPECT_NEAR(soft(low_), gradient_.accuracy, 1e-6);
    // One step up and one down for the channels with the steepest gradients: many enough to rise above float's noise,
    // few enough to stay near.
    std::vector<size_t> order(gradient_.rgb.size());
    std::iota(order.begin(), order.end(), 0U);
    std::sort(order.begin(), order.end(),
              [&](size_t a, size_t b) { return std::abs(gradient_.rgb[a]) > std::abs(gradient_.rgb[b]); });
    for (size_t first : {size_t{0}, size_t{200}, size_t{1000}}) {
        Image up = low_;
        Image down = low_;
        double expected = 0;
        for (size_t i = first; i < first + 60; i++) {
            const size_t at = order[i];
            if (low_.rgb[at] == 0 || low_.rgb[at] == 255) continue;
            const int step = gradient_.rgb[at] > 0 ? 1 : -1;
            up.rgb[at] = static_cast<uint8_t>(up.rgb[at] + step);
            down.rgb[at] = static_cast<uint8_t>(down.rgb[at] - step);
            expected += 2 * std::abs(gradient_.rgb[at]);
        }
        EXPECT_NEAR(soft(up) - soft(down), expected, 0.2 * expected) << "from the " << first << "th";
    }
}

// Ranks from 0, ties at their mean.
std::vector<double> ranks(const std::vector<double>& values) {
    std::vector<size_t> order(values.size());
    std::iota(order.begin(), order.end(), 0U);
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
    std::vector<double> result(values.size());
    for (size_t i = 0; i < order.size();) {
        size_t end = i;
        while (end < order.size() && values[order[end]] == values[order[i]]) end++;
        for (size_t k = i; k < end; k++) result[order[k]] = static_cast<double>(i + end - 1) / 2;
        i = end;
    }
    return result;
}

double spearman(const std::vector<double>& a, const std::vector<double>& b) {
    const std::vector<double> x = ranks(a);
    const std::vector<double> y = ranks(b);
    const double mean = static_cast<double>(x.size() - 1) / 2;
    double both = 0;
    double xs = 0;
    double ys = 0;
    for (size_t i = 0; i < x.size(); i++) {
        both += (x[i] - mean) * (y[i] - mean);
        xs += (x[i] - mean) * (x[i] - mean);
        ys += (y[i] - mean) * (y[i] - mean);
    }
    return both / std::sqrt(xs * ys);
}

// Brute force: blocks in high quality pasted into the low one, one at a time, and patches of three by three.
TEST_F(AccuracyGradient, RanksBlocksAsBruteForceDoes) {
    std::vector<double> predicted;
    std::vector<double> measured;
    for (uint32_t block = 1; block < map_.values.size(); block += 4) {
        const uint32_t one[]{block};
        predicted.push_back(map_.values[block]);
        measured.push_back(std::abs(soft(paste_blocks(low_, high_, map_, one)) - gradient_.accuracy));
    }
    const double single = spearman(predicted, measured);
    predicted.clear();
    measured.clear();
    for (int row = 0; row + 2 < map_.rows; row += 3)
        for (int column = 0; column + 2 < map_.columns; column += 3) {
            std::vector<uint32_t> patch;
            double sum = 0;
            for (int i = 0; i < 9; i++) {
                patch.push_back(static_cast<uint32_t>((row + i / 3) * map_.columns + column + i % 3));
                sum += map_.values[patch.back()];
            }
            predicted.push_back(sum);
            measured.push_back(std::abs(soft(paste_blocks(low_, high_, map_, patch)) - gradient_.accuracy));
        }
    const double patches = spearman(predicted, measured);
    std::cout << "Spearman's rank correlation with brute force: single blocks " << single << " (of 108), 3x3 blocks "
              << patches << " (of 48)\n";
    EXPECT_GT(single, 0.2);
    EXPECT_GT(patches, 0.4);
}

TEST_F(AccuracyGradient, ItsBestBlocksRecoverMoreThanOthers) {
    const size_t tenth = map_.values.size() / 10;
    const double whole = soft(high_) - gradient_.accuracy;
    ASSERT_GT(whole, 0.05);
    std::vector<uint32_t> order = ranked(map_);
    const double best = soft(paste_blocks(low_, high_, map_, std::span(order).first(tenth))) - gradient_.accuracy;
    std::mt19937 random(3);
    double others = 0;
    for (int round = 0; round < 5; round++) {
        std::shuffle(order.begin(), order.end(), random);
        others += (soft(paste_blocks(low_, high_, map_, std::span(order).first(tenth))) - gradient_.accuracy) / 5;
    }
    std::cout << "of the differentiable accuracy that high quality everywhere gains (" << whole
              << "), a tenth of the blocks gains: the best " << best / whole << ", random ones " << others / whole
              << "\n";
    EXPECT_GT(best, 0.3 * whole);
    EXPECT_GT(best, 3 * others);
}

// And in F1 itself, summed over frames of two groups elsewhere in the clip.
TEST_F(AccuracyGradient, ItsBestBlocksRecoverF1) {
    Matches low_only;
    Matches best;
    Matches others;
    std::mt19937 random(5);
    for (uint64_t first : {110, 470}) {
        const std::vector<Image> group = pictures(clip, first, 8, {384, 288});
        const auto low = requantise(group, 45);
        const auto high = requantise(group, 30);
        ASSERT_TRUE(low.ok() && high.ok());
        for (size_t i : {size_t{1}, size_t{4}, size_t{7}}) {
            const Image& l = low->pictures[i];
            const Image& h = high->pictures[i];
            const auto reference = *detector_->detect(h);
            auto map = accuracy_gradients(*detector_, l, h);
            ASSERT_TRUE(map.ok()) << map.error().message;
            std::vector<uint32_t> order = ranked(*map);
            const size_t fifth = order.size() / 5;
            low_only += match(reference, *detector_->detect(l));
            best += match(reference, *detector_->detect(paste_blocks(l, h, *map, std::span(order).first(fifth))));
            std::shuffle(order.begin(), order.end(), random);
            others += match(reference, *detector_->detect(paste_blocks(l, h, *map, std::span(order).first(fifth))));
        }
    }
    std::cout << "F1: low quality " << low_only.f1() << "; with a fifth of the blocks in high quality: the best "
              << best.f1() << ", random ones " << others.f1() << "\n";
    EXPECT_GT(best.f1(), low_only.f1() + 0.03);
    EXPECT_GT(best.f1(), others.f1());
}

}  // namespace
}  // namespace adapath
