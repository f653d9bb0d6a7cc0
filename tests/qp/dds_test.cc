// DDS's two passes: what is asked for, what the second pass sends, and what the server has after it.
#include "bench/qp/dds.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace adapath {
namespace {

constexpr video::Size kSize = {128, 96};

// Texture everywhere, a little of it moving.
video::Clip textured(uint64_t pictures) {
    std::vector<uint8_t> bytes(video::picture_bytes(kSize) * pictures, 128);
    std::mt19937 random(3);
    std::vector<uint8_t> texture(size_t{static_cast<size_t>(kSize.width)} * 2 * static_cast<size_t>(kSize.height));
    for (uint8_t& value : texture) value = static_cast<uint8_t>(60 + random() % 120);
    for (uint64_t i = 0; i < pictures; i++) {
        uint8_t* y = bytes.data() + i * video::picture_bytes(kSize);
        for (size_t row = 0; row < static_cast<size_t>(kSize.height); row++)
            for (size_t x = 0; x < static_cast<size_t>(kSize.width); x++)
                y[row * static_cast<size_t>(kSize.width) + x] =
                    texture[row * 2 * static_cast<size_t>(kSize.width) + x + i];
    }
    return std::move(*video::Clip::from_i420(std::move(bytes), kSize));
}

// Says what it was told to say, and keeps what it was shown.
class Told final : public Detector {
public:
    std::vector<Box> answer;
    std::vector<Image> shown;

    Result<std::vector<Box>> detect(const Image& image, double) override {
        shown.push_back(image);
        return answer;
    }
    Result<double> soft_accuracy(const Image&, std::span<const Box>) override { return 0.0; }
    Result<PixelGradient> gradient(const Image&, std::span<const Box>) override { return PixelGradient{}; }
    [[nodiscard]] std::string class_name(int) const override { return "thing"; }
};

double error_in(const Image& a, const Image& b, int x0, int y0, int x1, int y1) {
    double sum = 0;
    for (int y = y0; y < y1; y++)
        for (int x = x0; x < x1; x++) {
            const size_t at = 3 * (static_cast<size_t>(y) * static_cast<size_t>(a.width) + static_cast<size_t>(x));
            sum += std::abs(static_cast<double>(a.rgb[at + 1]) - static_cast<double>(b.rgb[at + 1]));
        }
    return sum / ((x1 - x0) * (y1 - y0));
}

TEST(Dds, AsksForWhatItIsNotSureOf) {
    const Box sure = {10, 10, 40, 40, 0.8F, 0};
    const Box beside_it = {12, 12, 42, 42, 0.3F, 0};
    const Box doubt = {60, 10, 90, 40, 0.3F, 0};
    const Box nothing = {10, 60, 40, 90, 0.05F, 0};
    const Box everything = {0, 0, 128, 96, 0.3F, 0};
    EXPECT_EQ(doubtful(std::vector<Box>{sure, beside_it, doubt, nothing, everything}, kSize), std::vector<Box>{doubt});
    EXPECT_TRUE(doubtful({}, kSize).empty());
}

TEST(Dds, CoversEveryBlockThatABoxTouches) {
    video::BlockMask mask = video::empty_block_mask(kSize);
    cover(mask, {15.5F, 16, 33, 31, 0.3F, 0});
    int high = 0;
    for (const uint8_t block : mask.high) high += block;
    EXPECT_EQ(high, 3);
    EXPECT_EQ(mask.high[static_cast<size_t>(mask.columns)], 1);
    EXPECT_EQ(mask.high[static_cast<size_t>(mask.columns) + 2], 1);
    cover(mask, {120, 90, 128, 96, 0.3F, 0});  // the very edge
    EXPECT_EQ(mask.high.back(), 1);
}

TEST(Dds, TheSecondPassBringsTheRegionAndNothingElse) {
    const video::Clip clip = textured(6);
    Told detector;
    detector.answer = {{32, 32, 63, 63, 0.3F, 0}};
    Result<DdsResult> result = dds_chunk(detector, clip, 1, 5, 2, {24, 48}, {.dilation = 0});
    ASSERT_TRUE(result.ok()) << result.error().message;
    EXPECT_EQ(result->seen.size(), 3U);
    ASSERT_EQ(detector.shown.size(), 6U);
    EXPECT_NEAR(result->share, 4.0 / 48, 1e-9);
    Told low;  // sure of everything: one pass
    low.answer = {{32, 32, 63, 63, 0.9F, 0}};
    Result<DdsResult> once = dds_chunk(low, clip, 1, 5, 2, {24, 48});
    ASSERT_TRUE(once.ok());
    EXPECT_EQ(low.shown.size(), 3U);
    EXPECT_EQ(once->share, 0);
    EXPECT_GT(result->bytes, once->bytes + 200);
    for (size_t i = 0; i < 3; i++) {
        const Image& before = detector.shown[i];
        const Image& after = detector.shown[i + 3];
        Told truth;
        Result<DdsResult> best = dds_chunk(truth, clip, 1 + 2 * i, 1, 1, {1, 1});
        ASSERT_TRUE(best.ok());
        const Image& original = truth.shown.front();
        EXPECT_LT(error_in(after, original, 32, 32, 64, 64), error_in(before, original, 32, 32, 64, 64) / 3);
        // Chroma is interpolated across the edge: two pixels beyond it may change.
        EXPECT_EQ(error_in(after, before, 0, 0, 128, 30), 0);
        EXPECT_EQ(error_in(after, before, 0, 66, 128, 96), 0);
        EXPECT_EQ(error_in(after, before, 0, 0, 30, 96), 0);
    }
}

}  // namespace
}  // namespace adapath
