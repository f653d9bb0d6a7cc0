// The log: what is appended is read, whole records only, within its size.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "tests/daemon/support.h"
#include "userspace/adapathd/sample_log.h"
#include "userspace/common/file.h"

namespace adapath {
namespace {

const App& app() { return *find_app("cc"); }

std::vector<adp_cc_sample> numbered(uint32_t first, size_t count) {
    std::vector<adp_cc_sample> samples(count);
    for (adp_cc_sample& sample : samples) {
        sample.flow = 1;
        sample.seq = first++;
    }
    return samples;
}

Status append(SampleLog& log, const std::vector<adp_cc_sample>& samples) {
    return log.append(std::as_bytes(std::span(samples)));
}

std::vector<uint32_t> numbers_in(const std::string& directory, LogReadResult* result = nullptr,
                                 const SampleLog::Position* until = nullptr) {
    std::vector<uint32_t> numbers;
    Result<LogReadResult> read = read_sample_log(
        directory, app(),
        [&](std::span<const std::byte> records, const std::string& boot) {
            EXPECT_EQ(boot, boot_id());
            for (size_t at = 0; at < records.size(); at += app().record_bytes()) {
                numbers.push_back(app().decode(records.subspan(at, app().record_bytes())).seq);
            }
            return true;
        },
        until);
    EXPECT_TRUE(read) << read.error().message;
    if (result != nullptr) {
        *result = *read;
    }
    return numbers;
}

class SampleLogTest : public ::testing::Test {
protected:
    test::TemporaryDirectory directory_;
    std::string path_ = directory_ / "samples";
    SampleLog open(uint64_t limit = 1 << 24) {
        Result<SampleLog> log = SampleLog::open(path_, app(), limit);
        EXPECT_TRUE(log) << log.error().message;
        return std::move(*log);
    }
};

TEST_F(SampleLogTest, WhatIsAppendedIsRead) {
    SampleLog log = open();
    ASSERT_TRUE(append(log, numbered(0, 100)).ok());
    ASSERT_TRUE(append(log, numbered(100, 20000)).ok());  // more than one reading chunk
    LogReadResult result;
    const std::vector<uint32_t> numbers = numbers_in(path_, &result);
    ASSERT_EQ(numbers.size(), 20100U);
    for (uint32_t i = 0; i < numbers.size(); i++) {
        ASSERT_EQ(numbers[i], i);
    }
    EXPECT_EQ(result.truncated_bytes, 0U);
}

TEST_F(SampleLogTest, CutOffTailIsSkippedAndTheNextStartGoesOn) {
    {
        SampleLog log = open();
        ASSERT_TRUE(append(log, numbered(0, 10)).ok());
    }
    const std::string file = path_ + "/" + (*list_directory(path_, ".log"))[0];
    std::filesystem::resize_file(file, std::filesystem::file_size(file) - 50);
    {
        SampleLog log = open();
        ASSERT_TRUE(append(log, numbered(10, 5)).ok());
    }
    LogReadResult result;
    EXPECT_EQ(numbers_in(path_, &result), (std::vector<uint32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 11, 12, 13, 14}));
    EXPECT_EQ(result.truncated_bytes, sizeof(adp_cc_sample) - 50);
    EXPECT_EQ(result.files, 2U);
}

TEST_F(SampleLogTest, HeaderCutOffIsNoError) {
    open();
    std::ofstream(path_ + "/0000000001.log") << "ADPL";
    LogReadResult result;
    EXPECT_TRUE(numbers_in(path_, &result).empty());
    EXPECT_EQ(result.truncated_bytes, 4U);
    EXPECT_TRUE(result.unreadable.empty());
}

TEST_F(SampleLogTest, ForeignFilesAreNamed) {
    {
        SampleLog log = open();
        ASSERT_TRUE(append(log, numbered(0, 3)).ok());
    }
    std::ofstream(path_ + "/0000000000.log") << std::string(4096, 'x');
    const std::string file = path_ + "/0000000001.log";
    std::filesystem::copy_file(file, path_ + "/0000000002.log");
    {
        std::fstream other(path_ + "/0000000002.log", std::ios::in | std::ios::out | std::ios::binary);
        other.seekp(offsetof(LogHeader, schema));
        const uint32_t schema = 99;
        other.write(reinterpret_cast<const char*>(&schema), sizeof(schema));
    }
    LogReadResult result;
    EXPECT_EQ(numbers_in(path_, &result).size(), 3U);
    ASSERT_EQ(result.unreadable.size(), 2U);
    EXPECT_NE(result.unreadable[0].find("0000000000.log"), std::string::npos);
    EXPECT_NE(result.unreadable[1].find("schema 99"), std::string::npos);
}

TEST_F(SampleLogTest, RollsAndStaysWithinItsLimit) {
    constexpr uint64_t kLimit = 2 << 20;
    SampleLog log = open(kLimit);
    uint32_t next = 0;
    for (int i = 0; i < 100; i++) {
        ASSERT_TRUE(append(log, numbered(next, 500)).ok());
        next += 500;
        ASSERT_LE(log.bytes(), kLimit);
    }
    uint64_t on_disk = 0;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
        on_disk += entry.file_size();
    }
    EXPECT_EQ(on_disk, log.bytes());
    const std::vector<uint32_t> numbers = numbers_in(path_);
    EXPECT_EQ(numbers.back(), next - 1);  // the newest stay
    EXPECT_GT(numbers.front(), 0U);       // the oldest went
    EXPECT_EQ(numbers.back() - numbers.front() + 1, numbers.size());
    EXPECT_GT(numbers.size() * sizeof(adp_cc_sample), kLimit / 2);
}

TEST_F(SampleLogTest, PositionIsAnExactCut) {
    SampleLog log = open();
    ASSERT_TRUE(append(log, numbered(0, 7)).ok());
    const SampleLog::Position position = log.position();
    ASSERT_TRUE(append(log, numbered(7, 7)).ok());
    EXPECT_EQ(numbers_in(path_, nullptr, &position).size(), 7U);
    EXPECT_EQ(numbers_in(path_).size(), 14U);
}

}  // namespace
}  // namespace adapath
