// Accuracy gradients of macroblocks from gradients of pixels: cases by hand, and a detector made of arithmetic.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "models/detector/block_map.h"

namespace adapath {
namespace {

Image flat(int width, int height, uint8_t value) {
    Image image{width, height, {}};
    image.rgb.assign(image.pixels() * 3, value);
    return image;
}

size_t byte_of(const Image& image, int x, int y, int channel) {
    return 3 * (static_cast<size_t>(y) * static_cast<size_t>(image.width) + static_cast<size_t>(x)) +
           static_cast<size_t>(channel);
}

TEST(BlockMap, SumsWhatLiesInEachBlock) {
    const Image low = flat(40, 20, 100);
    Image high = low;
    PixelGradient gradient;
    gradient.rgb.assign(low.rgb.size(), 0);
    auto set = [&](int x, int y, int channel, float slope, int difference) {
        gradient.rgb[byte_of(low, x, y, channel)] = slope;
        high.rgb[byte_of(low, x, y, channel)] = static_cast<uint8_t>(100 + difference);
    };
    set(0, 0, 0, 2, 10);      // block (0, 0): 20
    set(15, 15, 2, -1, -5);   // block (0, 0): signs do not cancel: + 5
    set(16, 15, 1, 0.5F, 4);  // block (1, 0): 2
    set(39, 19, 0, 1, 7);     // block (2, 1), cut off by the edge: 7
    set(20, 17, 0, 9, 0);     // block (1, 1): nothing to gain
    set(33, 2, 0, 0, 50);     // block (2, 0): of no interest
    auto map = block_gradients(gradient, low, high);
    ASSERT_TRUE(map.ok());
    EXPECT_EQ(map->columns, 3);
    EXPECT_EQ(map->rows, 2);
    EXPECT_EQ(map->values, (std::vector<float>{25, 2, 0, 0, 0, 7}));
    EXPECT_EQ(ranked(*map), (std::vector<uint32_t>{0, 5, 1, 2, 3, 4}));
}

TEST(BlockMap, WhatDoesNotFitIsAnError) {
    PixelGradient gradient;
    gradient.rgb.assign(16 * 16 * 3, 0);
    EXPECT_TRUE(block_gradients(gradient, flat(16, 16, 0), flat(16, 16, 0)).ok());
    EXPECT_FALSE(block_gradients(gradient, flat(16, 16, 0), flat(16, 32, 0)).ok());
    EXPECT_FALSE(block_gradients(gradient, flat(32, 16, 0), flat(32, 16, 0)).ok());
    Image cut = flat(16, 16, 0);
    cut.rgb.pop_back();
    EXPECT_FALSE(block_gradients(gradient, cut, flat(16, 16, 0)).ok());
    EXPECT_FALSE(block_gradients(gradient, Image{}, Image{}).ok());
}

TEST(BlockMap, PastesWholeBlocks) {
    const Image low = flat(40, 20, 1);
    const Image high = flat(40, 20, 2);
    const BlockMap map = empty_block_map(40, 20);
    const std::vector<uint32_t> chosen{1, 5};
    const Image both = paste_blocks(low, high, map, chosen);
    for (int y = 0; y < 20; y++)
        for (int x = 0; x < 40; x++) {
            const bool pasted = (y < 16 && x >= 16 && x < 32) || (y >= 16 && x >= 32);
            for (int channel = 0; channel < 3; channel++)
                EXPECT_EQ(both.rgb[byte_of(both, x, y, channel)], pasted ? 2 : 1);
        }
}

// Accuracy is 0.001 x the red of one pixel, which moves to the right by a block a picture.
class OnePixel : public Detector {
public:
    Result<std::vector<Box>> detect(const Image& image, double /*score*/) override {
        if (!image.sound()) return Error{"no picture"};
        at_ = byte_of(image, 16 * (image.rgb[0] % 4) + 3, 3, 0);
        return std::vector<Box>{{0, 0, 1, 1, 0.9F, 0}};
    }
    Result<double> soft_accuracy(const Image& image, std::span<const Box> /*reference*/) override {
        return 0.001 * image.rgb[at_];
    }
    Result<PixelGradient> gradient(const Image& image, std::span<const Box> reference) override {
        EXPECT_EQ(reference.size(), 1U);
        PixelGradient g;
        g.accuracy = 0.001 * image.rgb[at_];
        g.rgb.assign(image.rgb.size(), 0);
        g.rgb[at_] = 0.001F;
        return g;
    }
    [[nodiscard]] std::string class_name(int /*class_id*/) const override { return "pixel"; }

private:
    size_t at_ = 0;
};

TEST(BlockMap, OverAChunk) {
    OnePixel detector;
    std::vector<Image> low;
    std::vector<Image> high;
    for (int i : {0, 1, 1, 2}) {
        low.push_back(flat(64, 16, 50));
        high.push_back(flat(64, 16, 150));
        high.back().rgb[0] = static_cast<uint8_t>(i);
    }
    auto greatest = chunk_gradients(detector, low, high, OverChunk::greatest);
    ASSERT_TRUE(greatest.ok());
    auto mean = chunk_gradients(detector, low, high, OverChunk::mean);
    ASSERT_TRUE(mean.ok());
    const std::vector<float> expect_greatest{0.1F, 0.1F, 0.1F, 0};
    const std::vector<float> expect_mean{0.025F, 0.05F, 0.025F, 0};
    for (size_t b = 0; b < 4; b++) {
        EXPECT_NEAR(greatest->values[b], expect_greatest[b], 1e-6);
        EXPECT_NEAR(mean->values[b], expect_mean[b], 1e-6);
    }
    low.pop_back();
    EXPECT_FALSE(chunk_gradients(detector, low, high, OverChunk::mean).ok());
    high.pop_back();
    low.back() = flat(32, 16, 50);
    EXPECT_FALSE(chunk_gradients(detector, low, high, OverChunk::mean).ok());
    low.back() = high.back() = flat(32, 16, 50);
    EXPECT_FALSE(chunk_gradients(detector, low, high, OverChunk::mean).ok());
    EXPECT_FALSE(chunk_gradients(detector, {}, {}, OverChunk::mean).ok());
}

}  // namespace
}  // namespace adapath
