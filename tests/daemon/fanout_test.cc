// One writer, many readers: bounded, counted, and never in the writer's way.
#include <gtest/gtest.h>

#include <thread>

#include "userspace/adapathd/fanout.h"

namespace adapath {
namespace {

using namespace std::chrono_literals;
using Numbers = Fanout<int>;

void put(Numbers& fanout, int value, size_t bytes = 10) {
    fanout.publish(std::make_shared<const int>(value), bytes, 3);
}

TEST(FanoutTest, EveryReaderGetsEverythingInOrder) {
    Numbers fanout;
    auto a = fanout.subscribe(1000);
    auto b = fanout.subscribe(1000);
    for (int i = 0; i < 5; i++) {
        put(fanout, i);
    }
    for (int i = 0; i < 5; i++) {
        EXPECT_EQ(*a->next(0ms), i);
        EXPECT_EQ(*b->next(0ms), i);
    }
    EXPECT_EQ(a->next(0ms), nullptr);
}

TEST(FanoutTest, SlowReaderLosesAndIsToldHowMuch) {
    Numbers fanout;
    auto slow = fanout.subscribe(25);
    auto fast = fanout.subscribe(1000);
    for (int i = 0; i < 5; i++) {
        put(fanout, i);
    }
    EXPECT_EQ(slow->dropped(), 9U);  // three items of three units
    EXPECT_EQ(fast->dropped(), 0U);
    EXPECT_EQ(*slow->next(0ms), 0);
    put(fanout, 5);  // there is room again
    EXPECT_EQ(*slow->next(0ms), 1);
    EXPECT_EQ(*slow->next(0ms), 5);
}

TEST(FanoutTest, OneItemOverTheLimitStillPasses) {
    Numbers fanout;
    auto reader = fanout.subscribe(5);
    put(fanout, 1, 100);
    EXPECT_EQ(*reader->next(0ms), 1);
}

TEST(FanoutTest, CloseEndsAWait) {
    Numbers fanout;
    auto reader = fanout.subscribe(100);
    std::thread closer([&] { fanout.close(); });
    EXPECT_EQ(reader->next(10s), nullptr);
    closer.join();
    EXPECT_TRUE(reader->closed());
    EXPECT_TRUE(fanout.subscribe(100)->closed());
}

TEST(FanoutTest, ReadersLeaveByLettingGo) {
    Numbers fanout;
    auto reader = fanout.subscribe(100);
    EXPECT_TRUE(fanout.has_readers());
    reader.reset();
    EXPECT_FALSE(fanout.has_readers());
}

}  // namespace
}  // namespace adapath
