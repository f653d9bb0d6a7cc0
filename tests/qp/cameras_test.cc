// The regimes' cameras, on the real clip.
#include <gtest/gtest.h>

#include <filesystem>

#include "userspace/qp/cameras.h"

namespace adapath {
namespace {

class QpCameras : public testing::Test {
protected:
    void SetUp() override {
        if (!std::filesystem::exists(ADAPATH_TEST_CLIP))
            GTEST_SKIP() << ADAPATH_TEST_CLIP << " is not there: scripts/deps.sh fetches it";
    }
};

TEST_F(QpCameras, PanIsAWindowThatWanders) {
    auto native = open_camera(ADAPATH_TEST_CLIP, Regime::View::native);
    ASSERT_TRUE(native.ok()) << native.error().message;
    auto pan = open_camera(ADAPATH_TEST_CLIP, Regime::View::pan);
    ASSERT_TRUE(pan.ok()) << pan.error().message;
    const int width = native->size().width;
    ASSERT_EQ(pan->size().width, width / 2);
    ASSERT_EQ(pan->pictures(), native->pictures());
    // 4 to the side and 2 down a picture; at 384 in all (after 96 pictures) it turns round, and after 144 / 2 rows too.
    for (auto [index, x, y] :
         {std::tuple{0U, 0, 0}, std::tuple{10U, 40, 20}, std::tuple{100U, 368, 200}, std::tuple{150U, 168, 276}}) {
        const uint8_t* window = pan->picture(index).y;
        const uint8_t* whole = native->picture(index).y;
        for (int row : {0, 7, pan->size().height - 1})
            for (int column : {0, 100, pan->size().width - 1})
                ASSERT_EQ(window[row * pan->size().width + column], whole[(y + row) * width + x + column])
                    << index << " " << row << " " << column;
        EXPECT_EQ(pan->picture(index).u[0], native->picture(index).u[y / 2 * (width / 2) + x / 2]);
    }
    EXPECT_FALSE(panned(*native, {width + 2, 64}).ok());
}

TEST_F(QpCameras, SelectorSeesTheChangeSinceTheChunkBefore) {
    auto half = open_camera(ADAPATH_TEST_CLIP, Regime::View::half);
    ASSERT_TRUE(half.ok()) << half.error().message;
    EXPECT_EQ(half->size().width, 384);
    const ImageCodes codes = selector_codes(*half, 50);
    ASSERT_EQ(codes.size, (ImageSize{96, 72}));
    size_t changed = 0;
    for (size_t i = size_t{96} * 72; i < codes.codes.size(); i++) changed += codes.codes[i] > 40 ? 1 : 0;
    EXPECT_GT(changed, 20U);           // people walk
    EXPECT_LT(changed, 96U * 72 / 4);  // before a background that stands
    const ImageCodes first = selector_codes(*half, 0);
    for (size_t i = size_t{96} * 72; i < first.codes.size(); i++) ASSERT_EQ(first.codes[i], 0);
}

}  // namespace
}  // namespace adapath
