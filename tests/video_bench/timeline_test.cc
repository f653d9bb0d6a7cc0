// What the server could know of its cameras: pictures that came, came late, or never came.
#include "bench/video/timeline.h"

#include <adapath/select.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

namespace adapath::video_bench {
namespace {

constexpr uint64_t kPeriodUs = 100'000;
constexpr uint64_t kZeroUs = 5'000'000'000;

// A loop of `loop` pictures with four objects each, of which the sub stream shows two, and one that is not there.
CameraPictures camera(size_t loop) {
    CameraPictures c;
    for (size_t i = 0; i < loop; i++) {
        std::vector<Box> main;
        for (int k = 0; k < 4; k++) {
            const auto x = static_cast<float>(40 * k);
            main.push_back({x, 0, x + 20, 20, 0.9F, 0});
        }
        std::vector<Box> sub(main.begin(), main.begin() + 2);
        sub.push_back({300, 0, 320, 20, 0.9F, 0});
        c.main.push_back(std::move(main));
        c.sub.push_back(std::move(sub));
    }
    return c;
}

Delivery delivery(size_t loop, uint64_t number, uint32_t rendition, uint64_t delay_us) {
    const uint64_t captured = kZeroUs + number * kPeriodUs;
    return {rendition, static_cast<uint32_t>(number % loop), captured, captured + delay_us};
}

ScoreOptions span(uint64_t from, uint64_t to) {
    return {kZeroUs + from * kPeriodUs, kZeroUs + to * kPeriodUs, 1'000'000};
}

TEST(Timeline, MainIsTheTruthAndSubIsWhatItIsWorth) {
    const CameraPictures c = camera(7);
    std::vector<Delivery> main, sub;
    for (uint64_t i = 0; i < 30; i++) {
        main.push_back(delivery(7, i, ADP_SELECT_MAIN, 50'000));
        sub.push_back(delivery(7, i, ADP_SELECT_SUB, 50'000));
    }
    Result<CameraScore> best = score(c, main, span(0, 30));
    ASSERT_TRUE(best.ok());
    EXPECT_EQ(best->matches, (Matches{120, 0, 0}));
    EXPECT_EQ(best->pictures, 30U);
    EXPECT_EQ(best->by_main, 30U);
    Result<CameraScore> less = score(c, sub, span(0, 30));
    ASSERT_TRUE(less.ok());
    EXPECT_EQ(less->matches, (Matches{60, 60, 30}));
    EXPECT_EQ(less->by_sub, 30U);
    ASSERT_EQ(less->seconds.size(), 3U);
    EXPECT_EQ(less->seconds[1].pictures, 10U);
    EXPECT_NEAR(less->seconds[1].f1(), 4.0 / 7, 1e-12);  // of each picture two found, two missed, one wrong
    EXPECT_NEAR(less->f1.f1(), 4.0 / 7, 1e-12);
    // Where both came, main is what counts, in whatever order.
    sub.insert(sub.begin() + 4, main.begin(), main.end());
    std::shuffle(sub.begin(), sub.end(), std::mt19937(1));
    EXPECT_EQ(score(c, sub, span(0, 30))->matches, best->matches);
}

TEST(Timeline, WhatIsLateOrNeverCameIsMissed) {
    const CameraPictures c = camera(10);
    std::vector<Delivery> some;
    for (uint64_t i = 0; i < 100; i++) {
        if (i >= 20 && i < 50) continue;                                 // an outage
        const uint64_t delay = i >= 60 && i < 70 ? 1'500'000 : 200'000;  // a queue
        some.push_back(delivery(10, i, ADP_SELECT_MAIN, delay));
    }
    Result<CameraScore> result = score(c, some, span(0, 100));
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->pictures, 100U);
    EXPECT_EQ(result->by_main, 60U);
    EXPECT_EQ(result->late, 10U);
    EXPECT_EQ(result->matches, (Matches{240, 160, 0}));
    EXPECT_NEAR(result->f1.f1(), 0.6, 1e-12) << "four of ten pictures were not seen";
    EXPECT_NEAR(result->matches.f1(), 0.75, 1e-12);
}

TEST(Timeline, LoopsAreTold) {
    // 3 pictures a loop: an outage of many loops must not be closed up.
    const CameraPictures c = camera(3);
    std::vector<Delivery> some;
    for (uint64_t i = 0; i < 200; i++) {
        if (i < 40 || i > 160) some.push_back(delivery(3, i, ADP_SELECT_SUB, 10'000 + i * 100));
    }
    Result<CameraScore> result = score(c, some, span(0, 200));
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->by_sub, 79U);
    EXPECT_EQ(result->matches.found, 158U);
}

TEST(Timeline, OnlyTheTimeAskedForCounts) {
    const CameraPictures c = camera(5);
    std::vector<Delivery> all;
    for (uint64_t i = 0; i < 50; i++) all.push_back(delivery(5, i, ADP_SELECT_MAIN, 10'000));
    Result<CameraScore> result = score(c, all, span(10, 30));
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->pictures, 20U);
    EXPECT_EQ(result->matches, (Matches{80, 0, 0}));
}

TEST(Timeline, NothingAtAllIsMissedToo) {
    Result<CameraScore> result = score(camera(5), {}, span(0, 50));
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(result->pictures, 50U);
    EXPECT_EQ(result->matches, (Matches{0, 200, 0}));
    EXPECT_EQ(result->f1.pictures, 50U);
    EXPECT_EQ(result->f1.f1(), 0);
}

TEST(Timeline, RefusesWhatCannotBe) {
    const std::vector<Delivery> beyond = {{ADP_SELECT_MAIN, 5, kZeroUs, kZeroUs}};
    EXPECT_FALSE(score(camera(5), beyond, span(0, 5)).ok());
    CameraPictures uneven = camera(5);
    uneven.sub.pop_back();
    EXPECT_FALSE(score(uneven, {}, span(0, 5)).ok());
    EXPECT_FALSE(score({}, {}, span(0, 5)).ok());
}

// As AccMPEG: a picture with nothing in it, in which nothing is found, is seen right.
TEST(Timeline, AnEmptyPictureIsSeenRight) {
    CameraPictures c = camera(2);
    c.main[1].clear();
    c.sub[1].clear();
    const std::vector<Delivery> first = {delivery(2, 0, ADP_SELECT_MAIN, 10'000)};
    Result<CameraScore> result = score(c, first, span(0, 4));
    ASSERT_TRUE(result.ok());
    EXPECT_NEAR(result->f1.f1(), 0.75, 1e-12) << "one came, one did not, two are empty";
}

TEST(Timeline, EachCameraWeighsAlike) {
    std::vector<CameraScore> two(2);
    for (int i = 0; i < 1000; i++) two[0].f1 += Matches{1, 0, 0};
    two[1].f1 += Matches{0, 1, 0};
    two[0].matches = {1000, 0, 0};
    two[1].matches = {0, 1, 0};
    EXPECT_DOUBLE_EQ(mean_f1(two), 0.5);
    EXPECT_DOUBLE_EQ(mean_pooled_f1(two), 0.5);
    EXPECT_EQ(mean_f1({}), 0);
}

}  // namespace
}  // namespace adapath::video_bench
