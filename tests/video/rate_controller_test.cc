// The rate control against a simulated socket: a queue that drains at the link's rate.
#include <algorithm>

#include <gtest/gtest.h>

#include "userspace/video/rate_controller.h"

namespace adapath::video {
namespace {

constexpr double fps = 25;
constexpr uint64_t frame_ns = 40'000'000;
constexpr double lowat = 16 * 1024;

// What a camera does with the controller, on a virtual clock. TCP itself is not simulated: the queue is the part that
// it has not sent.
struct Link {
    RateController controller;
    double capacity_kbps;
    double queue = 0;          // bytes unsent
    double source_kbps = 1e9;  // the most that the encoder can use
    uint64_t now_ns = 1'000'000'000;
    bool limited = false;  // the queue did not run empty in the last frame
    double kbps_sum = 0;
    uint64_t frames = 0;
    uint64_t skipped = 0;
    uint64_t idle = 0;  // frames in which the queue ran empty
    double delivered = 0;

    void drain() {
        double takes = capacity_kbps * 1000 / 8 / fps;
        delivered += std::min(queue, takes);
        limited = queue >= takes;
        idle += limited ? 0 : 1;
        queue = std::max(0.0, queue - takes);
        now_ns += frame_ns;
    }

    void run(double seconds) {
        auto count = static_cast<uint64_t>(seconds * fps);
        for (uint64_t i = 0; i < count; i++) {
            RateInput input;
            input.now_ns = now_ns;
            input.unsent_bytes = static_cast<uint64_t>(queue);
            input.delivery_rate = static_cast<uint64_t>(capacity_kbps * 125 * (limited ? 1 : 3));  // a burst flatters
            input.app_limited = !limited;
            input.srtt_us = 60'000;
            // Writable within the frame time, if what the link takes meanwhile brings the queue under the mark.
            input.skipped = queue - capacity_kbps * 1000 / 8 / fps > lowat / 2;
            double kbps = controller.update(input);
            kbps_sum += kbps;
            frames++;
            if (input.skipped) {
                skipped++;
            } else {
                queue += std::min(kbps, source_kbps) * 1000 / 8 / fps;
            }
            drain();
        }
    }
    void reset() {
        kbps_sum = delivered = 0;
        frames = skipped = idle = 0;
    }
    [[nodiscard]] double mean() const { return kbps_sum / static_cast<double>(frames); }
};

Link link_of(double capacity_kbps, RateOptions options = {}) {
    options.fps = fps;
    return {RateController(options), capacity_kbps};
}

TEST(RateController, FindsTheLinkAndStays) {
    for (double capacity : {600.0, 2000.0, 8000.0}) {
        SCOPED_TRACE(capacity);
        Link link = link_of(capacity);
        link.run(10);
        link.reset();
        link.run(60);
        EXPECT_GT(link.mean(), 0.8 * capacity);
        EXPECT_LT(link.mean(), 1.15 * capacity);
        EXPECT_LT(link.skipped, link.frames / 20);
    }
}

TEST(RateController, StartsFast) {
    Link link = link_of(8000);
    link.run(2.5);
    EXPECT_GT(link.controller.kbps(), 6000);
}

TEST(RateController, FollowsAFallWithinTwoSecondsAndARiseWithinTen) {
    Link link = link_of(8000);
    link.run(10);
    link.capacity_kbps = 1000;
    link.run(2);
    EXPECT_LT(link.controller.kbps(), 1300);
    link.run(10);
    link.capacity_kbps = 8000;
    link.run(10);
    EXPECT_GT(link.controller.kbps(), 6000);
}

TEST(RateController, StaysInItsBounds) {
    RateOptions options;
    options.min_kbps = 500;
    options.max_kbps = 3000;
    Link thin = link_of(100, options);
    thin.run(20);
    EXPECT_EQ(thin.controller.kbps(), 500);
    EXPECT_GT(thin.skipped, thin.frames / 2);  // the rest of the adaptation is frames that are not encoded
    Link thick = link_of(50'000, options);
    thick.run(20);
    EXPECT_EQ(thick.controller.kbps(), 3000);
    EXPECT_EQ(thick.skipped, 0U);
    options.start_kbps = 9000;
    EXPECT_EQ(RateController(options).kbps(), 3000);
}

// An application-limited delivery rate says what was offered, not what the link can do.
TEST(RateController, DoesNotBelieveAppLimitedRates) {
    RateController controller(RateOptions{.start_kbps = 4000});
    RateInput input;
    input.now_ns = 1'000'000'000;
    input.delivery_rate = 50 * 125;  // 50 kbit/s
    input.app_limited = true;
    input.skipped = true;
    input.unsent_bytes = 100'000;
    EXPECT_NEAR(controller.update(input), 4000 * 0.85, 1);
    input.now_ns += 2'000'000'000;
    input.app_limited = false;
    EXPECT_NEAR(controller.update(input), 4000 * 0.85 / 2, 1);  // believed, but one cut halves at the most
}

TEST(RateController, OneCutPerRoundTrip) {
    RateController controller(RateOptions{.start_kbps = 4000});
    RateInput input;
    input.now_ns = 1'000'000'000;
    input.unsent_bytes = 1'000'000;
    input.srtt_us = 200'000;
    double first = controller.update(input);
    EXPECT_LT(first, 4000);
    for (int i = 0; i < 4; i++) {
        input.now_ns += frame_ns;
        EXPECT_EQ(controller.update(input), first);
    }
    input.now_ns += frame_ns;
    EXPECT_LT(controller.update(input), first);
}

// A pacing congestion control that knows of no more than it is offered: what it lets through follows the offer, up to
// the link. A controller that waits for an empty socket would stay at its first bitrate.
TEST(RateController, RaisesWhatAPacedSocketIsOffered) {
    Link link = link_of(1500);
    for (int second = 0; second < 60; second++) {
        link.run(1);
        link.capacity_kbps = std::min(8000.0, std::max(link.capacity_kbps, 1.2 * link.delivered * 8 / 1000));
        link.reset();
    }
    EXPECT_GT(link.capacity_kbps, 7000);
    EXPECT_GT(link.controller.kbps(), 5000);
}

// The least that this depends on: nearly drained is not drained, and still raises; half a frame left does not.
TEST(RateController, NearlyDrainedRaisesSlowly) {
    RateController controller(RateOptions{.start_kbps = 4000});  // 20 kB a frame
    RateInput input;
    input.now_ns = 1'000'000'000;
    input.unsent_bytes = 9'000;
    double slow = controller.update(input);
    EXPECT_GT(slow, 4000);
    EXPECT_LT(slow, 4000 * 1.01);
    input.unsent_bytes = 11'000;
    EXPECT_EQ(controller.update(input), slow);
    input.unsent_bytes = 0;
    EXPECT_GT(controller.update(input), slow * 1.03);
}

TEST(RateController, FixedWithoutAdaptation) {
    RateOptions options;
    options.adaptive = false;
    options.start_kbps = 2500;
    Link link = link_of(500, options);
    link.run(5);
    EXPECT_EQ(link.controller.kbps(), 2500);
}

TEST(RateController, SaturationLeavesTheLinkNoIdleFrame) {
    RateOptions options;
    options.saturate = true;
    options.max_kbps = 50'000;
    Link link = link_of(8000, options);
    link.run(10);
    link.reset();
    link.run(30);
    EXPECT_LT(link.idle, link.frames / 20);
    EXPECT_GT(link.delivered * 8 / 1000 / 30, 0.97 * 8000);
    EXPECT_LT(link.skipped, link.frames / 3);
    // Without it the same link idles now and then: the two modes differ.
    Link follows = link_of(8000);
    follows.run(10);
    follows.reset();
    follows.run(30);
    EXPECT_GT(follows.idle, link.idle);
}

}  // namespace
}  // namespace adapath::video
