// When the remembered background is sent, and when chunks are encoded twice to find out, with cameras that are numbers.
#include <gtest/gtest.h>

#include "userspace/video/background_trials.h"

namespace adapath::video {
namespace {

struct Camera {
    double uniform = 1000;
    double first = 3000;  // a chunk that sends the whole background
    double rest = 600;
};

struct Played {
    unsigned background = 0;  // chunks
    unsigned both = 0;
    unsigned begun = 0;  // backgrounds that are sent
    double bytes = 0;
};

Played run(BackgroundTrials& trials, const Camera& camera, unsigned chunks) {
    Played run;
    for (unsigned i = 0; i < chunks; i++) {
        const BackgroundTrials::Chunk chunk = trials.next();
        const double background = chunk.begins ? camera.first : camera.rest;
        run.background += chunk.background ? 1 : 0;
        run.both += chunk.both ? 1 : 0;
        run.begun += chunk.background && chunk.begins ? 1 : 0;
        run.bytes += chunk.background ? background : camera.uniform;
        if (chunk.both) {
            trials.learn(background, camera.uniform);
        }
    }
    return run;
}

TEST(BackgroundTrials, BeginWithOneAndSendWhatSaves) {
    BackgroundTrials trials({.length = 5, .every = 30});
    const Played first = run(trials, {}, 5);
    EXPECT_EQ(first.background, 0U);
    EXPECT_EQ(first.both, 5U);
    EXPECT_TRUE(trials.sending());
    // 600 and a fortieth of what the first chunk costs more.
    EXPECT_NEAR(trials.ratio(), 0.65, 1e-9);
    const Played rest = run(trials, {}, 310);
    EXPECT_EQ(rest.background, 310U);
    EXPECT_EQ(rest.begun, 1U);
    EXPECT_EQ(rest.both, 10U) << "one chunk of 31";
    EXPECT_EQ(trials.trials(), 1U);
}

TEST(BackgroundTrials, WhatDoesNotSaveIsTriedEverMoreSeldom) {
    for (const Camera& camera : {Camera{.rest = 985}, Camera{.rest = 1300}, Camera{.first = 30000, .rest = 400}}) {
        BackgroundTrials trials({.length = 5, .every = 30, .every_most = 100});
        const Played all = run(trials, camera, 1000);
        EXPECT_EQ(all.background, 0U);
        EXPECT_EQ(all.bytes, 1000 * camera.uniform) << "trials are not sent";
        // After 0, 30, 60, 100, 100, ... chunks.
        EXPECT_EQ(all.both, 5U * trials.trials());
        EXPECT_EQ(trials.trials(), 11U);
    }
}

TEST(BackgroundTrials, TwoLooksEndIt) {
    BackgroundTrials trials({.length = 5, .every = 30, .soon = 5});
    run(trials, {}, 40);
    ASSERT_TRUE(trials.sending());
    // At worst it has just been looked at.
    const Played worse = run(trials, {.rest = 1200}, 40);
    EXPECT_FALSE(trials.sending());
    EXPECT_LE(worse.background, 30U + 5U + 2U);
    // And a single odd chunk does not.
    BackgroundTrials other({.length = 5, .every = 30, .soon = 5});
    run(other, {}, 5);
    for (int i = 0; i < 100; i++) {
        const BackgroundTrials::Chunk chunk = other.next();
        if (chunk.both) {
            other.learn(i < 33 ? 1300 : 600, 1000);
        }
        EXPECT_TRUE(chunk.background);
    }
}

TEST(BackgroundTrials, ALostOneIsBegunAnewUnlessItHasJustBegun) {
    BackgroundTrials trials({.length = 5, .every = 30, .least_epoch = 5});
    EXPECT_FALSE(trials.lost()) << "nothing is sent yet";
    run(trials, {}, 5 + 10);
    EXPECT_TRUE(trials.lost());
    const BackgroundTrials::Chunk chunk = trials.next();
    EXPECT_TRUE(chunk.background && chunk.begins);
    EXPECT_FALSE(trials.lost()) << "after one chunk";
    const Played after = run(trials, {}, 30);
    EXPECT_EQ(after.background, 0U);
    EXPECT_EQ(after.both, 0U);
    run(trials, {}, 5);
    EXPECT_TRUE(trials.sending()) << "the next trial";
}

TEST(BackgroundTrials, AServerWithoutRoomIsLeftInPeaceForLong) {
    BackgroundTrials trials({.length = 5, .every = 30, .every_most = 480});
    run(trials, {}, 10);
    trials.refused();
    const Played after = run(trials, {}, 480);
    EXPECT_EQ(after.background, 0U);
    EXPECT_EQ(after.both, 0U);
    EXPECT_TRUE(trials.next().both);
}

TEST(BackgroundTrials, NothingMeasuredIsNothingLearned) {
    BackgroundTrials trials({});
    for (int i = 0; i < 50; i++) {
        trials.next();
        trials.learn(0, 1000);
        trials.learn(1000, 0);
    }
    EXPECT_FALSE(trials.sending());
    EXPECT_EQ(trials.trials(), 0U);
}

}  // namespace
}  // namespace adapath::video
