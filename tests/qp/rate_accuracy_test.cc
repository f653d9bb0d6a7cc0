// Curves of rate and accuracy, and the fallback's rule.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "userspace/qp/rate_accuracy.h"

namespace adapath {
namespace {

// F1 = found / 1000: 2 * found / (2 * found + missed + wrong).
RatePoint point(double bytes, uint64_t found) { return {bytes, {found, 1000 - found, 1000 - found}}; }

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
