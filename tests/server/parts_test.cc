// The pool of networks, the regions, the reports' queues, the log's bound.
#include <gtest/gtest.h>

#include <cmath>
#include <set>

#include "tests/server/frames.h"
#include "tests/server/sender.h"
#include "userspace/server/line_limit.h"
#include "userspace/server/regions.h"
#include "userspace/server/report_hub.h"
#include "userspace/server/vision_pool.h"

namespace adapath::server {
namespace {

using namespace adapath::testing;

std::unique_ptr<VisionPool> pool_of(unsigned threads, size_t queue) {
    Result<std::unique_ptr<VisionPool>> pool = VisionPool::start({.threads = threads, .queue = queue, .open = {}});
    if (!pool) throw std::runtime_error(pool.error().message);
    return std::move(*pool);
}

TEST(VisionPool, ServesCamerasInTurnAndNeverMakesOneWait) {
    const auto pool = pool_of(1, 4);
    const auto busy = pool->queue();
    const auto quiet = pool->queue();
    Gate gate;
    std::mutex mutex;
    std::vector<std::string> order;
    std::atomic<bool> running = false;
    const auto work = [&](const std::string& name, int64_t tick) {
        return VisionPool::Work{.tick = tick,
                                .id = 0,
                                .run =
                                    [&, name](Detector*) {
                                        std::lock_guard lock(mutex);
                                        order.push_back(name);
                                    },
                                .leave_out = {}};
    };
    ASSERT_TRUE(busy->offer({.tick = 0,
                             .id = 0,
                             .run =
                                 [&](Detector*) {
                                     running = true;
                                     gate.pass();
                                 },
                             .leave_out = {}}));
    ASSERT_TRUE(wait_until([&] { return running.load(); }));
    for (int i = 0; i < 4; i++) EXPECT_TRUE(busy->offer(work("busy", i)));
    EXPECT_FALSE(busy->offer(work("busy", 9)));   // full: at once
    EXPECT_TRUE(quiet->offer(work("quiet", 0)));  // which is not the other's concern
    EXPECT_TRUE(pool->spare(work("spare", 0)));
    EXPECT_EQ(busy->thin([](int64_t tick) { return tick % 2 == 0; }).size(), 2U);
    gate.open();
    ASSERT_TRUE(wait_until([&] {
        std::lock_guard lock(mutex);
        return order.size() == 4;
    }));
    EXPECT_EQ(order, (std::vector<std::string>{"quiet", "busy", "busy", "spare"}));
}

TEST(VisionPool, LeavesOutWhatWaitsWhenItStops) {
    auto pool = pool_of(2, 8);
    const auto queue = pool->queue();
    Gate gate;
    std::atomic<int> ran = 0;
    std::atomic<int> left = 0;
    for (int i = 0; i < 2; i++)
        ASSERT_TRUE(queue->offer({.tick = 0,
                                  .id = 0,
                                  .run =
                                      [&](Detector*) {
                                          ran++;
                                          gate.pass();
                                      },
                                  .leave_out = [&] { left++; }}));
    ASSERT_TRUE(wait_until([&] { return ran == 2; }));
    for (int i = 0; i < 5; i++)
        ASSERT_TRUE(queue->offer({.tick = 0, .id = 0, .run = [&](Detector*) { ran++; }, .leave_out = [&] { left++; }}));
    std::thread stopper([&] { pool->stop(); });
    // It takes no more as soon as it stops; what ran goes on to its end.
    ASSERT_TRUE(
        wait_until([&] { return !pool->spare({.tick = 0, .id = 0, .run = [](Detector*) {}, .leave_out = {}}); }));
    gate.open();
    stopper.join();
    EXPECT_EQ(ran, 2);
    EXPECT_EQ(left, 5);
    EXPECT_FALSE(queue->offer({.tick = 0, .id = 0, .run = [&](Detector*) { ran++; }, .leave_out = {}}));
}

TEST(VisionPool, SaysWhyANetworkCannotBeOpened) {
    const auto pool = VisionPool::start(
        {.threads = 1, .queue = 4, .open = [] { return Result<std::unique_ptr<Detector>>(Error{"no weights"}); }});
    ASSERT_FALSE(pool.ok());
    EXPECT_EQ(pool.error().message, "no weights");
}

TEST(Regions, AreOfUnsureBoxesOnly) {
    UncertainRegions regions({.low = 0.15, .high = 0.45, .padding = 0, .most = 16});
    const std::vector<Box> boxes = {
        {10, 10, 20, 20, 0.9F, 0}, {30, 30, 50, 40, 0.3F, 0}, {70, 70, 90, 90, 0.1F, 0}, {90, 10, 95, 20, 0.45F, 1}};
    regions.add(boxes, 100, 100);
    const std::vector<Region> found = regions.take();
    ASSERT_EQ(found.size(), 2U);
    EXPECT_EQ(found[0], (Region{0.9F, 0.1F, 0.95F, 0.2F}));  // the better score first
    EXPECT_EQ(found[1], (Region{0.3F, 0.3F, 0.5F, 0.4F}));
    EXPECT_TRUE(regions.take().empty());
}

TEST(Regions, ArePaddedMergedAndCut) {
    UncertainRegions regions({.low = 0.15, .high = 0.45, .padding = 0.5, .most = 2});
    // The first two touch once they are padded; the third touches only what they have become together.
    const std::vector<Box> boxes = {{0, 0, 10, 10, 0.2F, 0},
                                    {18, 18, 28, 28, 0.3F, 0},
                                    {0, 24, 4, 30, 0.25F, 1},
                                    {80, 80, 90, 90, 0.4F, 0},
                                    {60, 20, 62, 22, 0.16F, 0}};
    regions.add(boxes, 100, 100);
    const std::vector<Region> found = regions.take();
    ASSERT_EQ(found.size(), 2U);
    EXPECT_FLOAT_EQ(found[0].x0, 0.75F);
    EXPECT_FLOAT_EQ(found[0].x1, 0.95F);
    EXPECT_EQ(found[1], (Region{0, 0, 0.33F, 0.33F}));
    regions.add(boxes, 0, 0);  // a picture without a size
    EXPECT_TRUE(regions.take().empty());
}

pb::CameraReport report_of(uint32_t camera, size_t weights = 0) {
    pb::CameraReport report;
    report.set_camera(camera);
    for (size_t i = 0; i < weights; i++) report.mutable_blocks()->add_weights(1);
    return report;
}

TEST(ReportHub, ASlowWatcherLosesTheOldestAndNobodyElse) {
    ReportHub hub({.bytes = 10'000, .watchers_a_gateway = 4, .watchers = 8});
    const auto slow = hub.watch("roof");
    const auto other = hub.watch("cellar");
    for (uint32_t i = 0; i < 100; i++) {
        hub.publish("roof", report_of(i, 100));
        hub.publish("cellar", report_of(i));
        ASSERT_NE(other->next(std::chrono::milliseconds(0)), nullptr);
    }
    EXPECT_GT(slow->dropped(), 50U);
    EXPECT_EQ(other->dropped(), 0U);
    EXPECT_EQ(hub.counters().dropped, slow->dropped());
    // The rest is in order, and the newest is there.
    uint32_t next = static_cast<uint32_t>(slow->dropped());
    while (const ReportHub::Report report = slow->next(std::chrono::milliseconds(0)))
        EXPECT_EQ(report->camera(), next++);
    EXPECT_EQ(next, 100U);
    // One that is larger than the queue comes all the same.
    hub.publish("roof", report_of(7, 10'000));
    ASSERT_NE(slow->next(std::chrono::milliseconds(0)), nullptr);
}

TEST(ReportHub, IsBoundedAndForgetsThoseThatLeft) {
    ReportHub hub({.bytes = 1000, .watchers_a_gateway = 2, .watchers = 3});
    auto first = hub.watch("roof");
    const auto second = hub.watch("roof");
    EXPECT_EQ(hub.watch("roof"), nullptr);
    const auto third = hub.watch("cellar");
    EXPECT_EQ(hub.watch("attic"), nullptr);
    EXPECT_EQ(hub.watchers("roof"), 2U);
    first.reset();
    EXPECT_NE(hub.watch("attic"), nullptr);
    hub.publish("nobody", report_of(1));
    EXPECT_EQ(hub.counters().unwatched, 1U);
    hub.close();
    EXPECT_TRUE(second->closed());
    EXPECT_EQ(second->next(std::chrono::hours(1)), nullptr);  // at once
    EXPECT_EQ(hub.watch("attic"), nullptr);
}

TEST(LineLimit, SomeAtOnceThenOneASecondAndTheRestCounted) {
    constexpr uint64_t second = 1'000'000'000;
    uint64_t now = 50 * second;
    LineLimit limit(3);
    uint64_t written = 0;
    uint64_t told = 0;
    const auto lines = [&](int count) {
        for (int i = 0; i < count; i++)
            if (const std::optional<uint64_t> left_out = limit.admit(now)) {
                written++;
                told += *left_out;
            }
    };
    lines(10);
    EXPECT_EQ(written, 3U);
    EXPECT_TRUE(limit.has_rest());
    EXPECT_EQ(limit.rest(now + second - 1), 0U) << "not yet";
    // Ten seconds of a hundred lines each.
    for (int i = 0; i < 1000; i++) {
        now += second / 100;
        lines(1);
    }
    EXPECT_EQ(written, 13U);
    EXPECT_EQ(told + limit.rest(now + second) + written, 1010U);
    EXPECT_FALSE(limit.has_rest());
    // After a long silence no more at once than at the start.
    now += 3600 * second;
    written = 0;
    lines(10);
    EXPECT_EQ(written, 3U);
    EXPECT_EQ(limit.last_rest(), 7U);
    now -= second;  // as another thread's clock read it
    lines(1);
    EXPECT_EQ(written, 3U);
}

}  // namespace
}  // namespace adapath::server
