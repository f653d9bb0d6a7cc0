// Percentiles against exact ones.
#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "userspace/video/delays.h"

namespace adapath::video {
namespace {

uint64_t exact(std::vector<uint64_t> values, double percent) {
    std::sort(values.begin(), values.end());
    auto rank = static_cast<size_t>(std::ceil(percent / 100 * static_cast<double>(values.size())));
    return values[std::max<size_t>(rank, 1) - 1];
}

TEST(Delays, EmptyAndSingle) {
    Delays delays;
    EXPECT_EQ(delays.percentile_us(50), 0U);
    EXPECT_EQ(delays.mean_us(), 0);
    delays.add(12'345);
    EXPECT_EQ(delays.percentile_us(1), 12'345U);
    EXPECT_EQ(delays.percentile_us(99), 12'345U);
    EXPECT_EQ(delays.max_us(), 12'345U);
}

TEST(Delays, SmallValuesAreExact) {
    Delays delays;
    for (uint64_t us = 0; us < 64; us++) {
        delays.add(us);
    }
    EXPECT_EQ(delays.percentile_us(50), 31U);
    EXPECT_EQ(delays.percentile_us(100), 63U);
}

TEST(Delays, WithinABucketOfTheExactOne) {
    std::mt19937_64 random(3);
    std::lognormal_distribution<double> spread(10, 2);  // 10 us to minutes
    Delays delays;
    Delays left;
    Delays right;
    std::vector<uint64_t> values;
    for (int i = 0; i < 20'000; i++) {
        auto us = static_cast<uint64_t>(spread(random));
        values.push_back(us);
        delays.add(us);
        (i % 3 == 0 ? left : right).add(us);
    }
    left.add_all(right);
    for (double percent : {0.1, 1.0, 25.0, 50.0, 95.0, 99.0, 99.9, 100.0}) {
        SCOPED_TRACE(percent);
        auto truth = static_cast<double>(exact(values, percent));
        auto got = static_cast<double>(delays.percentile_us(percent));
        EXPECT_GE(got, truth);
        EXPECT_LE(got, truth * (1 + 1.0 / 64) + 1);
        EXPECT_EQ(left.percentile_us(percent), delays.percentile_us(percent));
    }
    EXPECT_EQ(left.count(), delays.count());
    EXPECT_EQ(left.max_us(), *std::max_element(values.begin(), values.end()));
}

TEST(Delays, HugeValuesStayInRange) {
    Delays delays;
    delays.add(UINT64_MAX / 2);
    EXPECT_EQ(delays.max_us(), UINT64_MAX / 2);
    EXPECT_GT(delays.percentile_us(50), 1ULL << 39);
}

}  // namespace
}  // namespace adapath::video
