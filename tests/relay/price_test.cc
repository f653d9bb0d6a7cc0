// The uplink's price in a closed loop: cameras of unequal worth that answer to it once a chunk, and a link.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <vector>

#include "userspace/relay/price.h"

namespace adapath::relay {
namespace {

constexpr double mib = 1 << 20;
constexpr double step_s = 0.01;
constexpr double picture_s = 0.1;

// Answers to the price at the begin of each chunk, as adp_select_choose() does.
struct Camera {
    double sub_rate;  // bytes/s
    double main_rate;
    double sub_worth;
    double gain;
    double chunk_s;
    double phase_s;

    int choice = 1;  // 0: none, 1: sub, 2: main
    double chunk_end = 0;
    double next_picture = 0;
    bool first = true;
    bool dropping = false;
    int changes = 0;

    [[nodiscard]] double rate() const { return choice == 2 ? main_rate : choice == 1 ? sub_rate : 0; }

    void decide(const Price& market) {
        double best = 0;
        int chosen = 0;
        if (double value = sub_worth - market.price * sub_rate / mib; value > best) {
            best = value;
            chosen = 1;
        }
        const bool allowed = market.main_limit == 0 || main_rate <= market.main_limit;
        if (double value = sub_worth + gain - market.price * main_rate / mib; allowed && value > best) {
            chosen = 2;
        }
        changes += chosen != choice ? 1 : 0;
        choice = chosen;
    }

    // Bytes of the picture that is due now: of a chunk's bytes, the IDR picture has 30%.
    double picture(double now, const Price& market) {
        if (now < phase_s || now + 1e-9 < next_picture) return 0;
        if (now + 1e-9 >= chunk_end) {
            decide(market);
            chunk_end = now + chunk_s;
            first = true;
            dropping = false;
        }
        next_picture = now + picture_s;
        const double chunk = rate() * chunk_s;
        const double bytes = first ? 0.3 * chunk : 0.7 * chunk / (chunk_s / picture_s - 1);
        first = false;
        return bytes;
    }
};

std::vector<Camera> unequal_cameras(size_t count) {
    std::vector<Camera> cameras;
    for (size_t i = 0; i < count; ++i) {
        const double share = static_cast<double>(i) / static_cast<double>(count);
        cameras.push_back({30e3 + 20e3 * share, 150e3 + 100e3 * (1 - share), 0.4 + 0.4 * share, 0.05 + 0.3 * share, 1,
                           0.13 * static_cast<double>(i)});
    }
    return cameras;
}

double sum(const std::vector<Camera>& cameras, double Camera::* what) {
    return std::accumulate(cameras.begin(), cameras.end(), 0.0,
                           [&](double so_far, const Camera& camera) { return so_far + camera.*what; });
}

struct Outcome {
    double used = 0;         // of the capacity, or of what all main streams have where that is less
    double mean_delay = 0;   // s
    double worst_delay = 0;  // s
    double dropped = 0;      // share of the offered bytes
    double without = 0;      // share of the time that a camera had nothing
    double all_main = 0;     // share of the time that every camera had its main stream
    double changes = 0;      // a camera and minute
    double price = 0;        // at the end
};

// A FIFO link with a queue of 1 s, beyond which the rest of a chunk is dropped, as the relay does it. Counted after the
// first 20 s.
Outcome run(std::vector<Camera> cameras, const std::function<double(double)>& capacity_at, double seconds,
            const PriceOptions& options = {}) {
    PriceController controller(options);
    Price market;
    Outcome out;
    double backlog = 0;
    double offered = 0;
    double delivered = 0;
    double could = 0;
    double did = 0;
    double all_offered = 0;
    double all_dropped = 0;
    double lowest = 0;
    int counted = 0;
    const double mains = sum(cameras, &Camera::main_rate);
    for (int i = 0; i * step_s < seconds; ++i) {
        const double now = i * step_s;
        const double capacity = capacity_at(now);
        for (Camera& camera : cameras) {
            const double bytes = camera.picture(now, market);
            offered += bytes;
            all_offered += bytes;
            camera.dropping = camera.dropping || (bytes > 0 && backlog / capacity > 1);
            if (camera.dropping) {
                all_dropped += bytes;
            } else {
                backlog += bytes;
            }
        }
        const double sent = std::min(backlog, capacity * step_s);
        backlog -= sent;
        lowest = std::min(lowest, backlog);
        delivered += sent;
        if (now >= 20) {
            ++counted;
            could += std::min(capacity, mains) * step_s;
            did += sent;
            out.mean_delay += backlog / capacity;
            out.worst_delay = std::max(out.worst_delay, backlog / capacity);
            out.without += static_cast<double>(std::ranges::count(cameras, 0, &Camera::choice)) /
                           static_cast<double>(cameras.size());
            out.all_main += std::ranges::all_of(cameras, [](const Camera& c) { return c.choice == 2; }) ? 1 : 0;
        }
        if (i % 10 == 9) {
            market = controller.step({backlog, delivered * 10, offered * 10, 0, lowest <= 0}, 0.1);
            delivered = 0;
            offered = 0;
            lowest = backlog;
        }
    }
    out.used = did / could;
    out.mean_delay /= counted;
    out.without /= counted;
    out.all_main /= counted;
    out.dropped = all_dropped / all_offered;
    for (const Camera& camera : cameras) {
        out.changes += camera.changes * 60 / seconds / static_cast<double>(cameras.size());
    }
    out.price = market.price;
    return out;
}

// Between what all sub streams and what all main streams have.
double between(const std::vector<Camera>& cameras, double share) {
    const double subs = sum(cameras, &Camera::sub_rate);
    return subs + (sum(cameras, &Camera::main_rate) - subs) * share;
}

class Cameras : public ::testing::TestWithParam<size_t> {
protected:
    std::vector<Camera> cameras_ = unequal_cameras(GetParam());
};
INSTANTIATE_TEST_SUITE_P(Price, Cameras, ::testing::Values(4, 8));

TEST_P(Cameras, ShareAConstantLink) {
    for (const double share : {0.1, 0.25, 0.4, 0.55, 0.7, 0.85}) {
        const double capacity = between(cameras_, share);
        const Outcome out = run(cameras_, [=](double) { return capacity; }, 120);
        EXPECT_GE(out.used, 0.8) << share;  // PriceOptions::load
        EXPECT_LE(out.mean_delay, 0.3) << share;
        EXPECT_LE(out.worst_delay, 1) << share;
        EXPECT_EQ(out.without, 0) << share;
        EXPECT_LE(out.all_main, share < 0.6 ? 0 : share < 0.8 ? 0.1 : 0.6) << share;
        EXPECT_LE(out.changes, 35) << share;
        EXPECT_GT(out.price, 0) << share;
    }
}

TEST_P(Cameras, ShareALinkThatMoves) {
    const Outcome waves = run(cameras_, [&](double t) { return between(cameras_, 0.5 + 0.35 * std::sin(t / 5)); }, 240);
    EXPECT_GE(waves.used, 0.85);
    EXPECT_LE(waves.mean_delay, 0.35);
    EXPECT_LE(waves.worst_delay, 1.5);
    EXPECT_LE(waves.without, 0.02);
    const Outcome jumps =
        run(cameras_, [&](double t) { return between(cameras_, std::fmod(t, 20) < 10 ? 0.8 : 0.2); }, 240);
    EXPECT_GE(jumps.used, 0.8);
    EXPECT_LE(jumps.mean_delay, 0.4);
    EXPECT_LE(jumps.worst_delay, 1.5);
    EXPECT_LE(jumps.without, 0.02);
}

TEST_P(Cameras, ShareALinkThatIsTooThinForTheirSubStreams) {
    for (const double share : {0.5, 0.8}) {
        const double capacity = share * sum(cameras_, &Camera::sub_rate);
        const Outcome out = run(cameras_, [=](double) { return capacity; }, 120);
        EXPECT_GE(out.used, 0.8) << share;
        EXPECT_LE(out.mean_delay, 0.5) << share;
        EXPECT_EQ(out.all_main, 0) << share;
        EXPECT_LT(out.without, 1 - share + 0.2) << share;  // never all of them
    }
}

TEST_P(Cameras, PayNothingOnALinkThatHasRoom) {
    for (const double factor : {1.2, 3.0}) {
        const double capacity = factor * sum(cameras_, &Camera::main_rate);
        const Outcome out = run(cameras_, [=](double) { return capacity; }, 120);
        EXPECT_EQ(out.all_main, 1) << factor;
        EXPECT_EQ(out.price, 0) << factor;
        EXPECT_EQ(out.dropped, 0) << factor;
    }
}

TEST_P(Cameras, KeepToTheirBudgetOnALinkThatHasRoom) {
    for (const double share : {0.3, 0.6}) {
        const double budget = between(cameras_, share);
        PriceOptions options;
        options.budget = budget;
        const double mains = sum(cameras_, &Camera::main_rate);
        const Outcome out = run(cameras_, [=](double) { return 2 * mains; }, 120, options);
        EXPECT_LE(out.used * mains, budget) << share;
        EXPECT_GE(out.used * mains, 0.7 * budget) << share;
        EXPECT_EQ(out.without, 0) << share;
        EXPECT_LE(out.worst_delay, 0.1) << share;  // the link itself is never full
    }
}

// The worst of cases: all of them change their minds at the same price. They must not fall from main to nothing.
TEST(Price, CamerasOfOneMindStillHaveTheirSubStreams) {
    std::vector<Camera> cameras(4, {40e3, 200e3, 0.5, 0.2, 1, 0});
    for (size_t i = 0; i < cameras.size(); ++i) cameras[i].phase_s = 0.25 * static_cast<double>(i);
    const double capacity = between(cameras, 0.5);
    const Outcome out = run(cameras, [=](double) { return capacity; }, 120);
    EXPECT_GE(out.used, 0.8);
    EXPECT_EQ(out.without, 0);
    EXPECT_LE(out.all_main, 0.3);
    EXPECT_LE(out.worst_delay, 1.5);
}

// A group of pictures of 3 s: the loop answers three times as late.
TEST(Price, LongChunksDoNotMakeItSwing) {
    std::vector<Camera> cameras = unequal_cameras(6);
    for (Camera& camera : cameras) camera.chunk_s = 3;
    const double capacity = between(cameras, 0.5);
    const Outcome out = run(cameras, [=](double) { return capacity; }, 240);
    EXPECT_GE(out.used, 0.8);
    EXPECT_LE(out.without, 0.02);
    EXPECT_LE(out.worst_delay, 1.5);
}

// With what the whole uplink costs, which is the cameras' answer to it, the same, and at its bound.
TEST(Price, AFallenLinkMakesTheSameBytesDearerWithinSeconds) {
    PriceController controller;
    Price before;
    for (int i = 0; i < 300; ++i) before = controller.step({120e3, 400e3, 400e3, 0, false, 4}, 0.1);
    ASSERT_GT(before.price, 0);
    Price after;
    for (int i = 0; i < 50; ++i) after = controller.step({60e3, 100e3, 400e3, 0, false, 4}, 0.1);
    EXPECT_GT(after.price, 2 * before.price);
    EXPECT_LT(after.main_limit, before.main_limit);
}

// An uplink that had room for half a minute was thought to be hundreds of times as wide as it is.
TEST(Price, WhatWasThoughtSoonGivesWayToWhatIsMeasured) {
    PriceController controller;
    for (int i = 0; i < 100; ++i) controller.step({15e3, 100e3, 100e3, 0, false, 4}, 0.1);
    for (int i = 0; i < 300; ++i) controller.step({0, 60e3, 60e3, 0, true, 4}, 0.1);
    ASSERT_GT(controller.capacity(), 10e6);
    for (int i = 0; i < 50; ++i) controller.step({30e3, 50e3, 60e3, 0, false, 4}, 0.1);
    EXPECT_NEAR(controller.capacity(), 50e3, 40e3);
    // Nor is it taken for narrow since it had room now and then.
    for (int i = 0; i < 300; ++i) {
        const bool room = i % 4 != 0;
        controller.step({room ? 0 : 30e3, room ? 80e3 : 100e3, 90e3, 0, room, 4}, 0.1);
    }
    EXPECT_GT(controller.capacity(), 95e3);
}

TEST(Price, SaysWhatShareOfMainWasLateLately) {
    PriceController controller;
    Uplink uplink{.backlog_bytes = 0, .delivered_rate = 100e3, .offered_rate = 100e3};
    EXPECT_EQ(controller.step(uplink, 0.1).main_late, 0) << "no main stream yet";
    uplink.main_rate = 80e3;
    uplink.main_late_rate = 20e3;
    Price price;
    for (int i = 0; i < 600; ++i) price = controller.step(uplink, 0.1);
    EXPECT_NEAR(price.main_late, 0.24, 0.01);
    // Without a main stream it is soon not known any more, or it would never be tried again.
    uplink.main_rate = uplink.main_late_rate = 0;
    for (int i = 0; i < 100; ++i) price = controller.step(uplink, 0.1);
    EXPECT_NEAR(price.main_late, 0.22, 0.02);
    for (int i = 0; i < 900; ++i) price = controller.step(uplink, 0.1);
    EXPECT_LT(price.main_late, 0.03);
    // Nor where all of it was late.
    uplink.main_rate = uplink.main_late_rate = 80e3;
    for (int i = 0; i < 600; ++i) price = controller.step(uplink, 0.1);
    EXPECT_GT(price.main_late, 0.85);
    EXPECT_LT(price.main_late, 1);
    // It is forgotten when main comes in time again.
    uplink.main_late_rate = 0;
    for (int i = 0; i < 1200; ++i) price = controller.step(uplink, 0.1);
    EXPECT_LT(price.main_late, 0.01);
}

// What an uplink carries after an outage is rather what it carried before than nothing.
TEST(Price, AnOutageChangesLittle) {
    PriceController controller;
    const Uplink usual{.backlog_bytes = 15e3, .delivered_rate = 100e3, .offered_rate = 100e3, .cameras = 4};
    Price before;
    for (int i = 0; i < 600; ++i) before = controller.step(usual, 0.1);
    const double capacity = controller.capacity();
    ASSERT_GT(before.price, 0);
    Uplink outage = usual;
    outage.delivered_rate = 0;
    outage.backlog_bytes = 300e3;
    Price price;
    for (int i = 0; i < 80; ++i) price = controller.step(outage, 0.1);
    EXPECT_NEAR(controller.capacity(), capacity, 0.2 * capacity);
    EXPECT_LT(price.price, 4 * before.price) << "half a second of it counts";
    EXPECT_TRUE(std::isfinite(price.price));
    // A link that is only bad is no outage.
    for (int i = 0; i < 80; ++i) {
        outage.delivered_rate = i % 3 == 0 ? 10e3 : 0;
        price = controller.step(outage, 0.1);
    }
    EXPECT_LT(controller.capacity(), 0.2 * capacity);
}

// A budget is an average: what an uplink had no room for is there when it has, what nobody asked for is not.
TEST(Price, ABudgetMakesUpForABadTime) {
    PriceOptions options;
    options.budget = 100e3;
    // Which share of what may be spent is asked for.
    const auto used_after = [&](double delivered, bool app_limited) {
        PriceController controller(options);
        Price price;
        for (int i = 0; i < 300; ++i) price = controller.step({0, 100e3, 100e3, 0, true, 4}, 0.1);
        for (int i = 0; i < 100; ++i)
            price = controller.step({app_limited ? 0 : 30e3, delivered, delivered, 0, app_limited, 4}, 0.1);
        // A wide uplink again, and cameras that offer what they did; the same time for all.
        for (int i = 0; i < 50; ++i) price = controller.step({0, 130e3, 130e3, 0, true, 4}, 0.1);
        return price.used;
    };
    const double even = used_after(100e3, true);
    EXPECT_LT(used_after(40e3, false), 0.8 * even);
    EXPECT_NEAR(used_after(40e3, true), even, 0.15 * even);
    EXPECT_GT(used_after(180e3, true), 1.15 * even) << "overdrawn";
}

// Or the first seconds would take the whole uplink.
TEST(Price, ABudgetBeginsAtAPriceAndFindsItsOwn) {
    PriceOptions options;
    options.budget = 100e3;
    PriceController controller(options);
    const Price first = controller.step({0, 0, 0, 0, true, 4}, 0.1);
    EXPECT_GE(first.price, 0.9 * options.crowd * 4 / options.budget * (1 << 20));
    Price price;
    for (int i = 0; i < 100; ++i) price = controller.step({0, 20e3, 20e3, 0, true, 4}, 0.1);
    EXPECT_LT(price.price, 0.2 * first.price) << "nobody asks for it";
    // Without a budget an uplink that was never the limit costs nothing.
    EXPECT_EQ(PriceController().step({0, 0, 0, 0, true, 4}, 0.1).price, 0);
}

// A camera's main stream that has more than the budget's mean can be had now and then; one that has more than the
// uplink carries can't.
TEST(Price, ABudgetIsNoLimitToAStream) {
    PriceOptions options;
    options.budget = 50e3;
    PriceController controller(options);
    EXPECT_EQ(controller.step({0, 40e3, 40e3, 0, true, 1}, 0.1).main_limit, 0U) << "nobody knows the uplink";
    Price price;
    for (int i = 0; i < 300; ++i) price = controller.step({30e3, 150e3, 150e3, 0, false, 1}, 0.1);
    EXPECT_NEAR(price.main_limit, 150e3, 5e3);
    // It is the price that keeps to the budget, whatever one camera has to gain: an accuracy of 1 for its 50 kB/s.
    EXPECT_GT(price.price, 0.99 / 50e3 * (1 << 20));
}

TEST(Price, ARoundTripIsNoQueue) {
    PriceController controller;
    controller.step({40e3, 100e3, 100e3, 0.3, false}, 0.1);
    EXPECT_NEAR(controller.delay_s(), 0.1, 1e-9);
}

TEST(Price, NothingIsKnownBeforeTheUplinkWasTheLimit) {
    PriceController controller;
    for (int i = 0; i < 100; ++i) {
        const Price price = controller.step({0, 50e3, 50e3, 0.05, true}, 0.1);
        EXPECT_EQ(price.price, 0);
        EXPECT_EQ(price.main_limit, 0U);
        EXPECT_EQ(price.used, 0);
    }
}

TEST(Price, StaysInItsBoundsWhateverComes) {
    const double inf = std::numeric_limits<double>::infinity();
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (const double odd : {0.0, -1.0, 1e300, inf, -inf, nan}) {
        PriceController controller;
        for (int i = 0; i < 500; ++i) {
            const Price price =
                controller.step({odd, i % 2 != 0 ? odd : 1e3, odd, odd, i % 7 == 0, 0, odd, i % 5 != 0 ? odd : 1e3},
                                i % 3 != 0 ? 0.1 : odd);
            ASSERT_GE(price.main_late, 0) << odd;
            ASSERT_LE(price.main_late, 1) << odd;
            ASSERT_GE(price.price, 0) << odd;
            ASSERT_LE(price.price, 1024) << odd;
            ASSERT_GE(price.used, 0) << odd;
            ASSERT_LE(price.used, 2) << odd;
        }
    }
    // An uplink that is all but dead: as dear as can be, and no more.
    PriceController controller;
    controller.step({1e6, 100e3, 500e3, 0, false}, 0.1);
    Price price;
    for (int i = 0; i < 1000; ++i) price = controller.step({1e6, i % 4 == 0 ? 40.0 : 0, 500e3, 0, false}, 0.1);
    EXPECT_GT(price.price, 100);
    EXPECT_LE(price.price, 1024);
}

}  // namespace
}  // namespace adapath::relay
