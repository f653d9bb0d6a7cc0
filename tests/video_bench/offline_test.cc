// The rivals that are tuned in hindsight, in the fluid model.
#include "bench/video/offline.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace adapath::video_bench {
namespace {

// 10 pictures/s in groups of 5: 400 bytes a sub picture, 4000 a main one; the sub stream shows `worth` of 10 objects.
MeasuredCamera camera(int worth, uint32_t main_bytes = 4000) {
    MeasuredCamera c;
    for (int i = 0; i < 20; i++) {
        std::vector<Box> main;
        for (int k = 0; k < 10; k++)
            main.push_back({30.0F * static_cast<float>(k), 0, 30.0F * static_cast<float>(k) + 20, 20, 0.9F, 0});
        c.pictures.sub.emplace_back(main.begin(), main.begin() + worth);
        c.pictures.main.push_back(std::move(main));
        c.bytes[ADP_SELECT_SUB].push_back(400);
        c.bytes[ADP_SELECT_MAIN].push_back(main_bytes);
    }
    return c;
}

OfflineOptions options() {
    OfflineOptions o;
    o.begin_s = 5;
    o.seconds = 20;
    o.group = 5;
    return o;
}

Trace link(double mbit) { return *Trace::constant(mbit); }

TEST(Offline, AWideLinkBringsAllAndANarrowOneWhatFits) {
    const std::vector<MeasuredCamera> cameras = {camera(5), camera(5)};
    const auto all_main = [](size_t, uint32_t) { return ADP_SELECT_ONLY_MAIN; };
    const auto all_sub = [](size_t, uint32_t) { return ADP_SELECT_ONLY_SUB; };
    EXPECT_DOUBLE_EQ(play_offline(cameras, link(5), all_main, options()).f1, 1);
    EXPECT_NEAR(play_offline(cameras, link(5), all_main, options()).rate, 2 * 40'000 * 1.06, 2000);
    EXPECT_NEAR(play_offline(cameras, link(5), all_sub, options()).f1, 2.0 / 3, 1e-9);
    // Main needs 0.68 Mbit/s: of half of it at most half comes in time.
    const OfflineScore narrow = play_offline(cameras, link(0.34), all_main, options());
    EXPECT_LT(narrow.f1, 0.72);
    EXPECT_GT(narrow.f1, 0.3);
    EXPECT_LE(narrow.rate, 0.34e6 / 8 * 1.01);
}

TEST(Offline, TheBestMixSpendsWhereItPays) {
    // Main of the first two is worth much, of the others nothing. The link has room for two of them.
    const std::vector<MeasuredCamera> cameras = {camera(1), camera(10), camera(2), camera(10)};
    const std::vector<uint32_t> mix = best_mix(cameras, link(0.85), options()).renditions;
    EXPECT_EQ(mix, (std::vector<uint32_t>{ADP_SELECT_ONLY_MAIN, ADP_SELECT_ONLY_SUB, ADP_SELECT_ONLY_MAIN,
                                          ADP_SELECT_ONLY_SUB}));
    // As good and cheaper: nobody's main where all sub streams are perfect.
    const std::vector<MeasuredCamera> perfect = {camera(10), camera(10)};
    EXPECT_EQ(best_mix(perfect, link(5), options()).renditions,
              (std::vector<uint32_t>{ADP_SELECT_ONLY_SUB, ADP_SELECT_ONLY_SUB}));
}

TEST(Offline, AnInsuranceIsTakenWhereMainDoesNotAlwaysCome) {
    // 4 s with room for one main stream and a half, 2 s with hardly more than the sub streams.
    std::string text;
    for (int ms = 1; ms < 4'000; ms += 24) text += std::to_string(ms) + "\n";
    for (int ms = 4'000; ms <= 6'000; ms += 100) text += std::to_string(ms) + "\n";
    const Result<Trace> moving = Trace::parse(text, "moving");
    ASSERT_TRUE(moving.ok());
    const std::vector<MeasuredCamera> cameras = {camera(4), camera(4)};
    const TunedMix mix = best_mix(cameras, *moving, options());
    const TunedMix insured = best_mix(cameras, *moving, options(), true);
    EXPECT_GT(insured.score.f1, mix.score.f1);
    EXPECT_GT(std::ranges::count(insured.renditions, ADP_SELECT_BOTH), 0);
    EXPECT_EQ(std::ranges::count(mix.renditions, ADP_SELECT_BOTH), 0);
}

TEST(Offline, TheThresholdLetsThoseThroughThatPay) {
    // Large pictures are where main pays; the link has room for one main stream.
    const std::vector<MeasuredCamera> cameras = {camera(1, 5000), camera(9, 3000), camera(9, 3000)};
    const double threshold = best_threshold(cameras, link(0.6), options()).bytes;
    EXPECT_GT(threshold, 3000);
    EXPECT_LE(threshold, 5000);
    // With room for all, everything.
    EXPECT_LE(best_threshold(cameras, link(20), options()).bytes, 3000);
}

}  // namespace
}  // namespace adapath::video_bench
