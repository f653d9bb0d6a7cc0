// Curves of rate and accuracy, and the fallback's rule.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "userspace/qp/rate_accuracy.h"

namespace adapath {
namespace {

// A picture with F1 = found / objects: 2 * found / (2 * found + missed + wrong).
Matches picture(uint64_t found, uint64_t objects) {
    return {.found = found, .missed = objects - found, .wrong = objects - found};
}

// Of one picture, so that both F1 are found / 1000.
RatePoint point(double bytes, uint64_t found) {
    RatePoint one{bytes, {}, {}};
    one.add_picture(picture(found, 1000));
    return one;
}

TEST(RatePoint, KeepsBothKindsOfF1) {
    RatePoint many{100, {}, {}};
    many.add_picture(picture(20, 20));
    many.add_picture(picture(0, 1));  // as wrong as can be, but one object of 21
    EXPECT_DOUBLE_EQ(many.f1(F1Kind::pooled), 20.0 / 21);
    EXPECT_DOUBLE_EQ(many.f1(F1Kind::mean), 0.5);
    RatePoint few{50, {}, {}};
    few.add_picture({});  // nothing there, nothing found: 1, and no count
    many += few;
    EXPECT_EQ(many.bytes, 150);
    EXPECT_DOUBLE_EQ(many.f1(F1Kind::pooled), 20.0 / 21);
    EXPECT_DOUBLE_EQ(many.f1(F1Kind::mean), 2.0 / 3);  // by pictures, not by the two points: that would be 0.75
    EXPECT_DOUBLE_EQ(point(1, 700).f1(F1Kind::pooled), 0.7);
    EXPECT_DOUBLE_EQ(point(1, 700).f1(F1Kind::mean), 0.7);
}

TEST(RateCurve, InterpolatesAndKnowsItsEnds) {
    const std::vector<RatePoint> points{point(400, 800), point(100, 600)};  // order does not count
    auto curve = RateCurve::fit(points);
    ASSERT_TRUE(curve.ok());
    EXPECT_DOUBLE_EQ(curve->least_f1(), 0.6);
    EXPECT_DOUBLE_EQ(curve->most_f1(), 0.8);
    EXPECT_NEAR(*curve->bytes_at(0.6), 100, 1e-9);
    EXPECT_NEAR(*curve->bytes_at(0.7), 200, 1e-9);  // the middle of log(bytes)
    EXPECT_NEAR(*curve->bytes_at(0.8), 400, 1e-9);
    EXPECT_FALSE(curve->bytes_at(0.59).has_value());
    EXPECT_FALSE(curve->bytes_at(0.81).has_value());
    EXPECT_FALSE(RateCurve::fit(std::span(points).first(1)).ok());
    const std::vector<RatePoint> free{point(0, 10), point(5, 20)};
    EXPECT_FALSE(RateCurve::fit(free).ok());
}

TEST(RateCurve, IsOfTheKindThatIsAskedFor) {
    std::vector<RatePoint> points{{100, {}, {}}, {400, {}, {}}};
    points[0].add_picture(picture(500, 1000));
    points[0].add_picture(picture(10, 10));
    points[1].add_picture(picture(900, 1000));
    points[1].add_picture(picture(8, 10));
    auto pooled = RateCurve::fit(points, F1Kind::pooled);
    auto mean = RateCurve::fit(points, F1Kind::mean);
    ASSERT_TRUE(pooled.ok() && mean.ok());
    EXPECT_DOUBLE_EQ(pooled->least_f1(), 510.0 / 1010);
    EXPECT_DOUBLE_EQ(pooled->most_f1(), 908.0 / 1010);
    EXPECT_DOUBLE_EQ(mean->least_f1(), 0.75);
    EXPECT_DOUBLE_EQ(mean->most_f1(), 0.85);
    EXPECT_NEAR(*mean->bytes_at(0.8), 200, 1e-9);
    EXPECT_EQ(RateCurve::fit(points)->most_f1(), pooled->most_f1());
}

TEST(RateCurve, MorePaidForLessIsPooled) {
    const std::vector<RatePoint> points{point(100, 500), point(200, 800), point(300, 600), point(400, 900)};
    auto curve = RateCurve::fit(points);
    ASSERT_TRUE(curve.ok());
    EXPECT_NEAR(*curve->bytes_at(0.7), std::sqrt(200.0 * 300.0), 1e-9);  // 800 and 600 are one point at 700
    EXPECT_NEAR(*curve->bytes_at(0.8), std::sqrt(std::sqrt(200.0 * 300.0) * 400), 1e-9);
}

// The same noisy curve measured at every setting and at every third one: neither is cheaper.
TEST(RateCurve, MorePointsAreNoAdvantage) {
    std::mt19937 random(3);
    std::normal_distribution<double> normal(0, 25);
    std::vector<double> medians;
    for (int trial = 0; trial < 101; trial++) {
        std::vector<RatePoint> dense;
        std::vector<RatePoint> sparse;
        for (int i = 0; i <= 24; i++) {
            auto noisy = [&] {
                return point(1000 * std::pow(1.12, i), static_cast<uint64_t>(600 + 12 * i + normal(random)));
            };
            dense.push_back(noisy());
            if (i % 3 == 0) sparse.push_back(noisy());
        }
        auto saved = saving(*RateCurve::fit(dense), *RateCurve::fit(sparse));
        ASSERT_TRUE(saved.ok());
        medians.push_back(saved->median);
    }
    std::sort(medians.begin(), medians.end());
    EXPECT_NEAR(medians[50], 0, 0.03);
}

TEST(Saving, IsMeasuredAtEqualF1) {
    std::vector<RatePoint> uniform;
    std::vector<RatePoint> region;
    for (int i = 0; i < 6; i++) {
        uniform.push_back(point(1000 * std::pow(1.5, i), 500 + 60 * static_cast<uint64_t>(i)));
        region.push_back(point(700 * std::pow(1.5, i), 500 + 60 * static_cast<uint64_t>(i)));
    }
    auto saved = saving(*RateCurve::fit(uniform), *RateCurve::fit(region));
    ASSERT_TRUE(saved.ok());
    EXPECT_EQ(saved->levels.size(), 11U);
    EXPECT_NEAR(saved->median, 0.3, 1e-9);
    for (const Saving::Level& level : saved->levels) EXPECT_NEAR(level.saving, 0.3, 1e-9);
    const std::vector<RatePoint> elsewhere{point(100, 10), point(200, 20)};
    EXPECT_FALSE(saving(*RateCurve::fit(uniform), *RateCurve::fit(elsewhere)).ok());
}

TEST(Saving, KnowsItsWorstThird) {
    std::vector<RatePoint> uniform;
    std::vector<RatePoint> region;
    for (int i = 0; i < 12; i++) {
        const uint64_t found = 400 + 50 * static_cast<uint64_t>(i);
        uniform.push_back(point(1000 * std::pow(1.3, i), found));
        region.push_back(point((i < 6 ? 1.2 : 0.6) * 1000 * std::pow(1.3, i), found));
    }
    auto saved = saving(*RateCurve::fit(uniform), *RateCurve::fit(region));
    ASSERT_TRUE(saved.ok());
    std::vector<double> values;
    for (const Saving::Level& level : saved->levels) values.push_back(level.saving);
    std::sort(values.begin(), values.end());
    EXPECT_NEAR(saved->worst, (values[0] + values[1] + values[2] + values[3]) / 4, 1e-9);
    EXPECT_LT(saved->worst, -0.15);
    EXPECT_GT(values.back(), 0.35);
}

// Region quality takes 0.7 of the bytes, and finds what is in a crowded picture as well; in one with a hundredth of the
// objects it finds what uniform quality does two settings below. The pooled F1 hardly sees that, in the mean it is
// half.
std::vector<TrialChunk> worse_where_little_is() {
    std::vector<TrialChunk> chunks(8);
    for (TrialChunk& chunk : chunks)
        for (int i = 0; i < 6; i++) {
            const auto setting = static_cast<uint64_t>(i);
            RatePoint uniform{1000 * std::pow(1.5, i), {}, {}};
            uniform.add_picture(picture(5000 + 600 * setting, 10000));
            uniform.add_picture(picture(50 + 6 * setting, 100));
            chunk.uniform.push_back(uniform);
            RatePoint region{0.7 * uniform.bytes, {}, {}};
            region.add_picture(picture(5000 + 600 * setting, 10000));
            region.add_picture(picture(38 + 6 * setting, 100));
            chunk.region.push_back(region);
        }
    return chunks;
}

TEST(Saving, DependsOnTheKindOfF1) {
    const std::vector<TrialChunk> chunks = worse_where_little_is();
    auto pooled = saving(chunks, F1Kind::pooled);
    auto mean = saving(chunks, F1Kind::mean);
    ASSERT_TRUE(pooled.ok() && mean.ok());
    // From setting to setting the pooled F1 rises by 606 / 10100, and the mean by 0.06. 12 objects fewer in the small
    // picture are 12 / 10100, and 0.06 of the mean: a whole setting's.
    EXPECT_NEAR(pooled->median, 1 - 0.7 * std::pow(1.5, 12.0 / 606), 1e-9);
    EXPECT_NEAR(mean->median, 1 - 0.7 * 1.5, 1e-9);
}

// Chunks whose region bytes are `factor` of uniform's on average, with that much noise in the logarithm.
// At the lowest two of the six settings they are `low` of that.
std::vector<TrialChunk> trial(double factor, double noise, size_t chunks, uint32_t seed, double low = 1) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(0, noise);
    std::vector<TrialChunk> result(chunks);
    for (TrialChunk& chunk : result) {
        const double own = factor * std::exp(normal(random));
        for (int i = 0; i < 6; i++) {
            chunk.uniform.push_back(point(1000 * std::pow(1.5, i), 500 + 60 * static_cast<uint64_t>(i)));
            chunk.region.push_back(
                point((i < 2 ? low : 1) * own * 1000 * std::pow(1.5, i), 500 + 60 * static_cast<uint64_t>(i)));
        }
    }
    return result;
}

TEST(Fallback, TakesWhatSurelyPays) {
    const Verdict verdict = judge_trial(trial(0.8, 0.1, 10, 1));
    EXPECT_TRUE(verdict.pays);
    EXPECT_NEAR(verdict.saving, 0.2, 0.08);
    EXPECT_GT(verdict.certainty, 0.95);
}

TEST(Fallback, LeavesWhatCostsOrIsNotSure) {
    EXPECT_FALSE(judge_trial(trial(1.1, 0.1, 10, 2)).pays);
    EXPECT_FALSE(judge_trial(trial(0.99, 0, 10, 3)).pays);  // saves, but less than the margin
    // Three chunks, one of which saves a lot: the sum says yes, and nothing else does.
    std::vector<TrialChunk> lucky = trial(1.05, 0, 2, 4);
    lucky.push_back(trial(0.5, 0, 1, 5)[0]);
    const Verdict verdict = judge_trial(lucky, {.least_chunks = 3});
    EXPECT_GT(verdict.saving, 0.1);
    EXPECT_LT(verdict.certainty, 0.9);
    EXPECT_FALSE(verdict.pays);
}

TEST(Fallback, LeavesWhatCostsAtSomeLevels) {
    const Verdict verdict = judge_trial(trial(0.8, 0.05, 12, 7, 1.5));
    EXPECT_GT(verdict.saving, 0.15);  // the median is good
    EXPECT_LT(verdict.worst, -0.05);
    EXPECT_FALSE(verdict.pays);
    EXPECT_TRUE(judge_trial(trial(0.8, 0.05, 12, 7, 1.1)).pays);
    EXPECT_TRUE(judge_trial(trial(0.8, 0.05, 12, 7, 1.5), {.cost = 0.5}).pays);
}

TEST(Fallback, JudgesByThePooledF1) {
    const Verdict verdict = judge_trial(worse_where_little_is());
    EXPECT_TRUE(verdict.pays);  // by the mean it would cost 5 %
    EXPECT_GT(verdict.saving, 0.25);
}

TEST(Fallback, FewChunksDoNotPay) {
    EXPECT_FALSE(judge_trial(trial(0.5, 0, 5, 8)).pays);
    EXPECT_TRUE(judge_trial(trial(0.5, 0, 6, 8)).pays);
}

// Cameras of every kind, in their saving and in how much their chunks differ: judged by some chunks, and held to the
// camera's true saving.
TEST(Fallback, SeldomTakesWhatCosts) {
    std::mt19937 random(9);
    std::uniform_real_distribution<double> factor(0.6, 1.3);
    std::uniform_real_distribution<double> noise(0, 0.4);
    int taken = 0;
    int dear = 0;
    for (uint32_t camera = 0; camera < 150; camera++) {
        const double own = factor(random);
        const double spread = noise(random);
        // The noise is in the logarithm: its mean costs exp(spread^2 / 2).
        const double truth = 1 - own * std::exp(spread * spread / 2);
        const Verdict verdict = judge_trial(trial(own, spread, 6 + camera % 12, camera), {.resamples = 100});
        taken += verdict.pays ? 1 : 0;
        dear += verdict.pays && truth < -0.02 ? 1 : 0;
    }
    EXPECT_GT(taken, 30);
    EXPECT_LE(dear, 4);  // of 150 cameras, about 70 of which it would cost
}

TEST(Fallback, WhatCannotBeJudgedDoesNotPay) {
    EXPECT_FALSE(judge_trial({}).pays);
    std::vector<TrialChunk> uneven = trial(0.5, 0, 2, 6);
    uneven[1].region.pop_back();
    EXPECT_FALSE(judge_trial(uneven, {.least_chunks = 2}).pays);
    EXPECT_FALSE(saving(uneven).ok());
}

}  // namespace
}  // namespace adapath
