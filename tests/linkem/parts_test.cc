// The histogram and the background writer.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "userspace/linkem/background_writer.h"
#include "userspace/linkem/histogram.h"

namespace adapath {
namespace {

TEST(histogram, quantiles_are_at_most_a_sixteenth_too_high) {
    Histogram histogram;
    EXPECT_EQ(histogram.quantile(0.5), 0U);
    for (uint64_t us = 1; us <= 100'000; us++) {
        histogram.add(us);
    }
    EXPECT_EQ(histogram.total(), 100'000U);
    EXPECT_EQ(histogram.max(), 100'000U);
    for (const double fraction : {0.0001, 0.01, 0.5, 0.99, 0.999}) {
        const double exact = fraction * 100'000;
        EXPECT_GE(static_cast<double>(histogram.quantile(fraction)), exact);
        EXPECT_LE(static_cast<double>(histogram.quantile(fraction)), exact * 17 / 16 + 1);
    }
    EXPECT_EQ(histogram.quantile(1), 100'000U);
}

TEST(histogram, keeps_small_values_exactly_and_huge_ones_at_all) {
    Histogram histogram;
    for (uint64_t us = 0; us < 16; us++) {
        histogram.clear();
        histogram.add(us);
        EXPECT_EQ(histogram.quantile(0.5), us);
    }
    histogram.add(~uint64_t{0});
    EXPECT_EQ(histogram.max(), ~uint64_t{0});
    Histogram sum;
    sum.add(3);
    sum += histogram;
    EXPECT_EQ(sum.total(), 3U);
    EXPECT_EQ(sum.max(), ~uint64_t{0});
}

TEST(histogram, delays_are_within_one_percent_and_their_mean_is_exact) {
    DelayHistogram histogram;
    uint64_t sum = 0, count = 0;
    for (uint64_t us = 20'000; us < 6'000'000; us += 977) {
        histogram.add(us);
        sum += us;
        count++;
    }
    EXPECT_DOUBLE_EQ(histogram.mean(), static_cast<double>(sum) / static_cast<double>(count));
    for (const double fraction : {0.05, 0.5, 0.95, 0.99}) {
        const double exact = 20'000 + fraction * static_cast<double>(count) * 977;
        EXPECT_NEAR(static_cast<double>(histogram.quantile(fraction)), exact, 0.01 * exact);
    }
    EXPECT_EQ(DelayHistogram().mean(), 0);
}

class WriterTest : public testing::Test {
protected:
    void SetUp() override {
        char pattern[] = "/tmp/linkem-test-XXXXXX";
        ASSERT_NE(mkdtemp(pattern), nullptr);
        folder_ = pattern;
    }
    void TearDown() override { std::filesystem::remove_all(folder_); }

    std::filesystem::path folder_;
};

TEST_F(WriterTest, writes_every_line_in_order) {
    const std::string path = folder_ / "log";
    auto writer = BackgroundWriter::open(path);
    ASSERT_TRUE(writer);
    std::string expected;
    for (int i = 0; i < 200'000; i++) {
        const std::string line = "line " + std::to_string(i) + "\n";
        (*writer)->append(line);
        expected += line;
        if (i % 1000 == 0) {
            (*writer)->flush();
        }
    }
    const Status closed = (*writer)->close();
    EXPECT_TRUE(closed) << closed.error().message;
    std::ifstream file(path);
    std::ostringstream text;
    text << file.rdbuf();
    EXPECT_TRUE(text.str() == expected) << text.str().size() << " of " << expected.size() << " bytes";
}

TEST_F(WriterTest, a_full_disk_is_an_error_that_names_the_file) {
    if (access("/dev/full", W_OK) != 0) {
        GTEST_SKIP() << "no /dev/full here";
    }
    auto writer = BackgroundWriter::open("/dev/full");
    ASSERT_TRUE(writer);
    (*writer)->append("x\n");
    const Status closed = (*writer)->close();
    ASSERT_FALSE(closed);
    EXPECT_NE(closed.error().message.find("/dev/full"), std::string::npos);
}

TEST_F(WriterTest, a_folder_that_is_missing_is_an_error) {
    const auto writer = BackgroundWriter::open(folder_ / "none" / "log");
    ASSERT_FALSE(writer);
    EXPECT_NE(writer.error().message.find("none/log"), std::string::npos);
}

}  // namespace
}  // namespace adapath
