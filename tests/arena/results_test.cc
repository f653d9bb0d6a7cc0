// Keys and the file of results: what a second run takes for done, and what a crash may leave behind.
#include "userspace/arena/results.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <utility>
#include <vector>

#include "tests/arena/synthetic.h"

namespace adapath::arena {
namespace {

TEST(Key, ChangesWithEveryInputAndWithNothingElse) {
    const CellInputs inputs = inputs_of(Traffic::bulk, "trace", 1, "bbr");
    EXPECT_EQ(cell_key(inputs), cell_key(inputs_of(Traffic::bulk, "trace", 1, "bbr")));
    const std::vector<std::function<void(CellInputs&)>> changes = {
        [](CellInputs& i) { i.traffic = Traffic::video; },
        [](CellInputs& i) { i.trace = "other"; },
        [](CellInputs& i) { i.trace_hash = "other"; },
        [](CellInputs& i) { i.seed = 2; },
        [](CellInputs& i) { i.policy = "cubic"; },
        [](CellInputs& i) { i.policy_parts = {{"adapath", {{"policy.model", "abc"}}}}; },
        [](CellInputs& i) { i.seconds = 61; },
        [](CellInputs& i) { i.link.delay_ms = 21; },
        [](CellInputs& i) { i.link.queue_ms = 1001; },
        [](CellInputs& i) { i.link.down_mbit = 51; },
        [](CellInputs& i) { i.link.loss = 0.01; },
        [](CellInputs& i) { i.queue_bytes = 1; },
        [](CellInputs& i) { i.kernel = "Linux 6.12"; },
        [](CellInputs& i) { i.video = VideoSettings{}; },
        [](CellInputs& i) { i.busy = 4; },
        [](CellInputs& i) { i.busy = 5; },
        [](CellInputs& i) { i.daemon_stops_s = 20; },
        [](CellInputs& i) { i.daemon_stops_s = 2; },
        [](CellInputs& i) { i.bulk_flows = 4; },
        [](CellInputs& i) { i.bulk_flows = 5; },
        [](CellInputs& i) { i.traffic = Traffic::crowd; },
    };
    std::set<std::string> keys = {cell_key(inputs)};
    for (const auto& change : changes) {
        CellInputs changed = inputs;
        change(changed);
        EXPECT_TRUE(keys.insert(cell_key(changed)).second) << inputs_json(changed).dump();
    }
    CellInputs crowd = inputs;
    crowd.traffic = Traffic::crowd;
    crowd.crowd_flows = 100;
    EXPECT_TRUE(keys.insert(cell_key(crowd)).second);
    crowd.crowd_flows = 101;
    EXPECT_TRUE(keys.insert(cell_key(crowd)).second);
    CellInputs pair = inputs;
    pair.traffic = Traffic::fairness;
    EXPECT_TRUE(keys.insert(cell_key(pair)).second);
    pair.second_flow_after_s = 5;
    EXPECT_TRUE(keys.insert(cell_key(pair)).second);
    CellInputs regimes = inputs;
    regimes.traffic = Traffic::regimes;
    regimes.regimes = RegimeSettings{};
    CellInputs camera = inputs;
    camera.traffic = Traffic::video;
    camera.video = VideoSettings{};
    const std::vector<std::pair<CellInputs, std::function<void(CellInputs&)>>> of_some_traffic = {
        {regimes, [](CellInputs&) {}},
        {regimes, [](CellInputs& i) { i.regimes->phase_s++; }},
        {regimes, [](CellInputs& i) { i.regimes->mbit++; }},
        {regimes, [](CellInputs& i) { i.regimes->period_ms++; }},
        {regimes, [](CellInputs& i) { i.regimes->served_ms++; }},
        {regimes, [](CellInputs& i) { i.regimes->flows++; }},
        {camera, [](CellInputs& i) { i.video->programs = {{"adapath-video-send", "abc"}}; }},
        {camera, [](CellInputs& i) { i.video->size = "64x48"; }},
        {camera, [](CellInputs& i) { i.video->fps++; }},
        {camera, [](CellInputs& i) { i.video->min_kbps++; }},
        {camera, [](CellInputs& i) { i.video->max_kbps++; }},
    };
    for (const auto& [base, change] : of_some_traffic) {
        CellInputs changed = base;
        change(changed);
        EXPECT_TRUE(keys.insert(cell_key(changed)).second) << inputs_json(changed).dump();
    }
    // What was measured before there was any of these is still known.
    for (const char* later : {"busy", "daemon_stops_s", "crowd_flows", "bulk_flows"}) {
        EXPECT_FALSE(inputs_json(inputs).contains(later)) << later;
    }
    CellInputs video = inputs;
    video.video = VideoSettings{};
    video.video->clip = "elsewhere/the-same-clip.mp4";
    EXPECT_TRUE(keys.contains(cell_key(video))) << "where the clip lies is no input, what is in it is";
    video.video->clip_hash = "other";
    EXPECT_TRUE(keys.insert(cell_key(video)).second);
}

class ResultsTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string pattern = (std::filesystem::temp_directory_path() / "arena-test-XXXXXX").string();
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
        path_ = directory_ + "/results.jsonl";
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }
    void append(const Json& line, bool fresh = false) {
        auto file = ResultFile::open(path_, fresh);
        ASSERT_TRUE(file.ok()) << file.error().message;
        ASSERT_TRUE(file->append(line).ok());
    }
    std::string directory_;
    std::string path_;
    const Json first_ = bulk_line("a", 1, "bbr", 900, 100);
    const Json second_ = bulk_line("a", 1, "cubic", 990, 900);
};

TEST_F(ResultsTest, WhatWasFinishedIsKnownToTheNextRun) {
    append(first_);
    append(second_);
    auto file = ResultFile::open(path_, false);
    ASSERT_TRUE(file.ok());
    EXPECT_TRUE(file->has(first_["key"]));
    EXPECT_TRUE(file->has(second_["key"]));
    EXPECT_FALSE(file->has("another"));
    auto lines = read_results(path_);
    ASSERT_TRUE(lines.ok());
    EXPECT_EQ(*lines, (std::vector<Json>{first_, second_}));
}

TEST_F(ResultsTest, FreshForgetsEverything) {
    append(first_);
    append(second_, true);
    auto lines = read_results(path_);
    ASSERT_TRUE(lines.ok());
    EXPECT_EQ(*lines, std::vector<Json>{second_});
}

TEST_F(ResultsTest, ALineThatACrashCutOffIsMeasuredAgain) {
    append(first_);
    {
        std::ofstream file(path_, std::ios::app);
        file << second_.dump().substr(0, 40);
    }
    auto lines = read_results(path_);
    ASSERT_TRUE(lines.ok()) << lines.error().message;
    EXPECT_EQ(*lines, std::vector<Json>{first_});
    append(second_);
    lines = read_results(path_);
    ASSERT_TRUE(lines.ok()) << lines.error().message;
    EXPECT_EQ(*lines, (std::vector<Json>{first_, second_}));
}

TEST_F(ResultsTest, WhatIsNoResultIsNamedWithItsLine) {
    append(first_);
    {
        std::ofstream file(path_, std::ios::app);
        file << "not a result\n";
    }
    auto lines = read_results(path_);
    ASSERT_FALSE(lines.ok());
    EXPECT_NE(lines.error().message.find("line 2"), std::string::npos) << lines.error().message;
    EXPECT_NE(lines.error().message.find(path_), std::string::npos);
    EXPECT_FALSE(ResultFile::open(path_, false).ok());
}

TEST_F(ResultsTest, TwoRunsDoNotWriteOneFile) {
    auto file = ResultFile::open(path_, false);
    ASSERT_TRUE(file.ok());
    EXPECT_FALSE(ResultFile::open(path_, false).ok());
}

TEST_F(ResultsTest, NoFileHasNoResults) {
    auto lines = read_results(directory_ + "/none.jsonl");
    ASSERT_TRUE(lines.ok());
    EXPECT_TRUE(lines->empty());
}

}  // namespace
}  // namespace adapath::arena
