// Quantisers of chunks against a budget, with cameras that are formulas.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "userspace/video/chunk_quantiser.h"

namespace adapath::video {
namespace {

constexpr unsigned kPictures = 10;

// What a chunk comes to; halves every `halving` quantisers, which the quantiser under test does not know.
struct Scene {
    double cost = 400000;  // a picture's bytes at quantiser 0
    double halving = 6;
    [[nodiscard]] double bytes(const QualityPair& quality, double share) const {
        return kPictures * cost *
               (share * std::exp2(-quality.high / halving) + (1 - share) * std::exp2(-quality.low / halving));
    }
};

double run(ChunkQuantiser& quantiser, const Scene& scene, double budget, int chunks, bool regions, double share,
           int settle = 3) {
    double bytes = 0;
    double budgets = 0;
    for (int i = 0; i < chunks; i++) {
        const QualityPair quality = quantiser.choose(budget, kPictures, regions, share);
        EXPECT_EQ(quality.low - quality.high, regions ? 8 : 0);
        const double used = regions ? share : 0;
        const double came = scene.bytes(quality, used);
        quantiser.learn(quality, used, kPictures, came, budget);
        if (i >= settle) {
            bytes += came;
            budgets += budget;
        }
    }
    return bytes / budgets;
}

TEST(ChunkQuantiser, KeepsToTheBudget) {
    for (const double halving : {5.0, 6.0, 7.5}) {
        for (const double budget : {20000.0, 60000.0, 300000.0}) {
            for (const double share : {0.05, 0.3, 0.9}) {
                ChunkQuantiser quantiser({.pixels = 384.0 * 288});
                const Scene scene{.cost = 400000, .halving = halving};
                if (scene.bytes({43, 51}, share) > budget / 2) {
                    continue;  // the worst quality there is takes that much
                }
                EXPECT_NEAR(run(quantiser, scene, budget, 40, true, share), 1, 0.06) << halving << " " << budget;
                EXPECT_NEAR(run(quantiser, scene, budget, 40, false, 0), 1, 0.06) << halving << " " << budget;
            }
        }
    }
}

TEST(ChunkQuantiser, FollowsABudgetThatMoves) {
    ChunkQuantiser quantiser({.pixels = 384.0 * 288});
    const Scene scene;
    std::mt19937 random(1);
    double bytes = 0;
    double budgets = 0;
    for (int i = 0; i < 300; i++) {
        const double budget = 20000 + static_cast<double>(random() % 100000);
        const double share = static_cast<double>(random() % 100) / 100;
        const QualityPair quality = quantiser.choose(budget, kPictures, true, share);
        const double came = scene.bytes(quality, share);
        quantiser.learn(quality, share, kPictures, came, budget);
        if (i < 3) continue;
        bytes += came;
        budgets += budget;
        EXPECT_LT(came, 2 * budget) << i;
    }
    EXPECT_NEAR(bytes / budgets, 1, 0.05);
}

TEST(ChunkQuantiser, StaysWithinWhatThereIs) {
    ChunkQuantiser quantiser({.pixels = 384.0 * 288});
    EXPECT_EQ(quantiser.choose(1, kPictures, true, 0.5), (QualityPair{43, 51}));
    EXPECT_EQ(quantiser.choose(1e12, kPictures, true, 0.5), (QualityPair{10, 18}));
    EXPECT_EQ(quantiser.choose(1e12, kPictures, false, 0), (QualityPair{10, 10}));
    // Chunks far over any budget: what is owed stays bounded, so the first that fits is not starved for long.
    for (int i = 0; i < 50; i++) quantiser.learn({43, 51}, 0.5, kPictures, 1e6, 1000);
    for (int i = 0; i < 50; i++) {
        const QualityPair quality = quantiser.choose(60000, kPictures, true, 0.3);
        quantiser.learn(quality, 0.3, kPictures, Scene{}.bytes(quality, 0.3), 60000);
    }
    EXPECT_NEAR(Scene{}.bytes(quantiser.choose(60000, kPictures, true, 0.3), 0.3), 60000, 9000);
    quantiser.learn({30, 38}, 0.3, 0, 0, 0);  // a chunk of nothing teaches nothing
    EXPECT_NEAR(Scene{}.bytes(quantiser.choose(60000, kPictures, true, 0.3), 0.3), 60000, 9000);
}

}  // namespace
}  // namespace adapath::video
