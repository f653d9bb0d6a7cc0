// Labels of the quality selector, with a detector that is none.
#include <gtest/gtest.h>

#include "models/qp/labels.h"

namespace adapath {
namespace {

// Sees as many objects as the first pixel's red says; every channel's gradient is 0.5.
class CountingDetector : public Detector {
public:
    Result<std::vector<Box>> detect(const Image& image, double /*score*/) override {
        if (image.rgb[0] == 255) return Error{"broken"};
        return std::vector<Box>(image.rgb[0], Box{0, 0, 1, 1, 1, 0});
    }
    Result<double> soft_accuracy(const Image& /*image*/, std::span<const Box> /*reference*/) override { return 1.0; }
    Result<PixelGradient> gradient(const Image& image, std::span<const Box> /*reference*/) override {
        return PixelGradient{1, std::vector<float>(image.rgb.size(), 0.5F)};
    }
    [[nodiscard]] std::string class_name(int /*class_id*/) const override { return "thing"; }
};

Image flat(uint8_t value) { return {32, 16, std::vector<uint8_t>(32 * 16 * 3, value)}; }

TEST(QpLabels, GradientsWeighByObjectsAndAreMeansOverPictures) {
    CountingDetector detector;
    std::vector<Image> low(4, flat(9));
    std::vector<Image> high(4, flat(9));
    for (size_t i : {0, 2}) {
        high[i].rgb[0] = static_cast<uint8_t>(i + 1);              // 1 and 3 objects
        high[i].rgb[3 * (16 + 5)] = static_cast<uint8_t>(9 + 10);  // 10 apart in the second block
    }
    high[1].rgb[0] = 200;  // not looked at
    auto map = object_gradients(detector, low, high, 2);
    ASSERT_TRUE(map.ok()) << map.error().message;
    ASSERT_EQ(map->values.size(), 2U);
    // First block: |1 - 9| and |3 - 9| at 0.5 times 1 and 3 objects; second: 10 at 0.5.
    EXPECT_FLOAT_EQ(map->values[0], (8 * 0.5F * 1 + 6 * 0.5F * 3) / 2);
    EXPECT_FLOAT_EQ(map->values[1], (10 * 0.5F * 1 + 10 * 0.5F * 3) / 2);

    EXPECT_FALSE(object_gradients(detector, {}, {}, 1).ok());
    EXPECT_FALSE(object_gradients(detector, low, high, 0).ok());
    EXPECT_FALSE(object_gradients(detector, low, std::span(high).first(3), 1).ok());
    high[2] = flat(255);
    EXPECT_FALSE(object_gradients(detector, low, high, 2).ok());
}

TEST(QpLabels, SmoothingKeepsFlatMapsAndSpreadsPeaks) {
    BlockMap map = empty_block_map(80, 80);
    for (float& value : map.values) value = 3;
    for (float value : smoothed(map).values) EXPECT_FLOAT_EQ(value, 3);
    for (float& value : map.values) value = 0;
    map.values[2 * 5 + 2] = 16;
    const BlockMap spread = smoothed(map);
    EXPECT_FLOAT_EQ(spread.at(2, 2), 4);
    EXPECT_FLOAT_EQ(spread.at(1, 2), 2);
    EXPECT_FLOAT_EQ(spread.at(3, 3), 1);
    EXPECT_FLOAT_EQ(spread.at(0, 2), 0);
}

TEST(QpLabels, ValueAtShareAndAgreement) {
    BlockMap truth = empty_block_map(160, 16);
    for (size_t i = 0; i < 10; i++) truth.values[i] = static_cast<float>(i);
    EXPECT_EQ(value_at_share({&truth, 1}, 0.2), 8);
    EXPECT_EQ(value_at_share({&truth, 1}, 1), 0);
    EXPECT_EQ(value_at_share({}, 0.5), 0);
    BlockMap guess = truth;
    std::swap(guess.values[9], guess.values[0]);
    const Agreement a = agreement(truth, 7, guess, 8);
    EXPECT_EQ(a.both, 1U);        // 8
    EXPECT_EQ(a.only_truth, 2U);  // 7 and 9
    EXPECT_EQ(a.only_guess, 1U);  // 0
    EXPECT_DOUBLE_EQ(a.precision(), 0.5);
    EXPECT_DOUBLE_EQ(a.recall(), 1.0 / 3);
    EXPECT_EQ(agreement(truth, 100, guess, 100).precision(), 1);
}

}  // namespace
}  // namespace adapath
