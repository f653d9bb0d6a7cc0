// The whole video path, every program the real one: what the cameras send is what the server decodes, the kernel's
// decisions are reproduced, and nothing is left behind.
#include "userspace/stage/video_stage.h"

#include <adapath/select.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <map>
#include <set>

#include "tests/netns/testbed.h"
#include "tests/support/patience.h"
#include "tests/video/pattern.h"
#include "userspace/common/clock.h"

namespace adapath {
namespace {

using nlohmann::json;

class Stage : public ::testing::Test {
protected:
    static constexpr uint32_t kCameras = 3;

    void SetUp() override {
        if (const std::string why = testing::why_not("bpf"); !why.empty()) GTEST_SKIP() << why;
        directory_ = ::testing::TempDir() + "adapath-stage-" + std::to_string(getpid());
        std::filesystem::create_directories(directory_);
        const video::Size size = {192, 128};
        ASSERT_TRUE(video::write_y4m(directory_ + "/clip.y4m", video::pattern(size, 60), size));
        const Status made = make_stage_certificates(ADAPATH_CERTIFICATES, directory_ + "/certificates", {"stage"});
        ASSERT_TRUE(made.ok()) << made.error().message;
        options_.name = "stage";
        options_.bin = ADAPATH_BIN;
        options_.work = directory_ + "/run";
        options_.certificates = directory_ + "/certificates";
        options_.cameras = kCameras;
        options_.patience = testing::slowness();
        options_.uplink.prefix = prefix_;
        options_.camera_arguments = {
            "--clip", directory_ + "/clip.y4m", "--window", "128x96", "--main-qp", "30", "--sub-qp", "40"};
        options_.server_arguments = {"--without-vision"};
    }
    void TearDown() override {
        if (IsSkipped()) return;
        EXPECT_EQ(entries("/run/netns"), std::set<std::string>()) << "a namespace was left behind";
        EXPECT_EQ(entries("/sys/fs/bpf"), std::set<std::string>()) << "a pin was left behind";
        std::filesystem::remove_all(directory_);
    }
    // Ours only: other tests may run.
    [[nodiscard]] std::set<std::string> entries(const std::string& directory) const {
        std::set<std::string> names;
        std::error_code ignored;
        for (const auto& entry : std::filesystem::directory_iterator(directory, ignored)) {
            const std::string name = entry.path().filename();
            if (name.starts_with(prefix_)) names.insert(name);
        }
        return names;
    }
    std::unique_ptr<VideoStage> stage(double mbit) {
        Result<std::unique_ptr<VideoStage>> made = VideoStage::create(*Trace::constant(mbit), options_, stop_);
        EXPECT_TRUE(made.ok()) << made.error().message;
        if (!made) return nullptr;
        Status launched = (*made)->launch_cameras();
        EXPECT_TRUE(launched.ok()) << launched.error().message;
        Status started = (*made)->start();
        EXPECT_TRUE(started.ok()) << started.error().message;
        return launched.ok() && started.ok() ? std::move(*made) : nullptr;
    }
    // Waits until the kernel has made so many decisions.
    bool decided(VideoStage& stage, uint64_t decisions, double seconds) {
        const uint64_t end_us = monotonic_us() + static_cast<uint64_t>(seconds * 1e6 * testing::slowness());
        while (monotonic_us() < end_us) {
            if (Status alive = stage.alive(); !alive) {
                ADD_FAILURE() << alive.error().message;
                return false;
            }
            Result<pb::StatusReply> status = stage.daemon().status();
            if (status && status->decisions() + status->fallbacks() >= decisions) return true;
            stop_.wait_for(std::chrono::milliseconds(100));
        }
        return false;
    }
    struct Totals {
        std::map<std::string, uint64_t> decoded;  // by rendition
        uint64_t undecodable = 0;
        uint64_t lost = 0;
        std::set<unsigned> cameras;
    };
    static Totals totals(const std::string& path) {
        Totals t;
        std::ifstream file(path);
        for (std::string line; std::getline(file, line);) {
            const json parsed = json::parse(line, nullptr, false);
            EXPECT_TRUE(parsed.is_object()) << line;
            if (parsed.contains("summary")) {
                for (const json& camera : parsed["summary"]["cameras"]) {
                    t.undecodable += camera.value("undecodable", 0U);
                    for (const char* which : {"sub", "main"}) t.lost += camera[which].value("incomplete", 0U);
                }
            } else {
                t.decoded[parsed.value("rendition", "")] += parsed.value("decoded", 0U);
                t.cameras.insert(parsed.value("camera", 99U));
            }
        }
        return t;
    }

    std::string directory_;
    VideoStageOptions options_;
    StopToken stop_;
    const std::string prefix_ = "adpst" + std::to_string(getpid());  // others may run stages meanwhile
};

TEST_F(Stage, TheFallbackSendsTheSubStreamOfEveryCamera) {
    std::unique_ptr<VideoStage> path = stage(10);
    ASSERT_NE(path, nullptr);
    ASSERT_TRUE(decided(*path, 4 * kCameras, 30));
    Status ended = path->finish();
    EXPECT_TRUE(ended.ok()) << ended.error().message;
    const Totals t = totals(path->files().server);
    EXPECT_EQ(t.cameras.size(), kCameras);
    EXPECT_GT(t.decoded.at("sub"), 20 * kCameras);
    EXPECT_FALSE(t.decoded.contains("main"));
    EXPECT_EQ(t.undecodable, 0U);
    EXPECT_EQ(t.lost, 0U);
}

TEST_F(Stage, ACameraOfWhichOnlyMainIsTakenSendsThat) {
    options_.renditions = {ADP_SELECT_ONLY_SUB, ADP_SELECT_ONLY_MAIN, ADP_SELECT_NONE};
    std::unique_ptr<VideoStage> path = stage(10);
    ASSERT_NE(path, nullptr);
    // Of main alone nothing passes for 5 s: the sub stream may still come.
    ASSERT_TRUE(decided(*path, 18, 60));
    Status ended = path->finish();
    EXPECT_TRUE(ended.ok()) << ended.error().message;
    const Totals t = totals(path->files().server);
    EXPECT_EQ(t.cameras, (std::set<unsigned>{0, 1}));
    EXPECT_GT(t.decoded.at("main"), 0U);
    EXPECT_GT(t.decoded.at("sub"), 0U);
    EXPECT_EQ(t.undecodable, 0U);
}

TEST_F(Stage, IsGoneWhateverStateItWasIn) {
    Result<std::unique_ptr<VideoStage>> made = VideoStage::create(*Trace::constant(10), options_, stop_);
    ASSERT_TRUE(made.ok()) << made.error().message;
    EXPECT_EQ(entries("/sys/fs/bpf").size(), 1U) << "the kernel side was there";
    made->reset();
    // TearDown() looks for what is left.
}

TEST_F(Stage, SaysWhichProgramCouldNotStart) {
    options_.certificates = directory_ + "/nowhere";
    Result<std::unique_ptr<VideoStage>> made = VideoStage::create(*Trace::constant(10), options_, stop_);
    ASSERT_FALSE(made.ok());
    EXPECT_NE(made.error().message.find("adapath-server"), std::string::npos) << made.error().message;
}

}  // namespace
}  // namespace adapath
