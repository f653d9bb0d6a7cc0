// A camera's chunks without sockets and decoders: when they are over, which pictures belong together, what is said of
// them, and what is left out when the network is behind.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/server/frames.h"
#include "tests/server/sender.h"
#include "userspace/server/camera.h"

namespace adapath::server {
namespace {

using namespace adapath::testing;

constexpr uint64_t start_us = 50'000'000;
constexpr int main_width = 64;
constexpr int sub_width = 32;

class CameraTest : public ::testing::Test {
protected:
    // Boxes as a function of the picture's luma: `luma / 10` boxes of which the sub stream's are half as large.
    void start(unsigned threads = 1, size_t queue = 8) {
        Result<std::unique_ptr<VisionPool>> pool =
            VisionPool::start({.threads = threads, .queue = queue, .open = [this] {
                                   return Result<std::unique_ptr<Detector>>(std::make_unique<FakeDetector>(
                                       [this](const Image& image) { return look(image); }));
                               }});
        ASSERT_TRUE(pool.ok());
        pool_ = std::move(*pool);
        Result<std::unique_ptr<Detections>> detections = Detections::open({.model = "aa"});
        ASSERT_TRUE(detections.ok());
        detections_ = std::move(*detections);
        shared_.pool = pool_.get();
        shared_.network = true;
        shared_.detections = detections_.get();
        shared_.on_report = [this](const std::string& gateway, pb::CameraReport report) {
            std::lock_guard lock(mutex_);
            EXPECT_EQ(gateway, "roof");
            reports_.push_back(std::move(report));
        };
        shared_.on_chunk = [this](const std::string&, uint32_t, const ChunkResult& chunk) {
            std::lock_guard lock(mutex_);
            chunks_.push_back(chunk);
        };
        camera_ = std::make_shared<Camera>(shared_, "roof", 3);
    }
    void TearDown() override {
        gate_.open();
        if (pool_) pool_->stop();
        camera_.reset();
    }
    // Main: boxes on a grid, one for each 10 of luma. Sub: the first of them only, as many as `sub_boxes`.
    Result<std::vector<Box>> look(const Image& image) {
        if (gated_) gate_.pass();
        runs_++;
        std::vector<Box> boxes;
        const float scale = static_cast<float>(image.width) / main_width;
        const int count = image.width == main_width ? main_boxes_ : sub_boxes_;
        for (int i = 0; i < count; i++) {
            const float x = 10.0F * static_cast<float>(i);
            boxes.push_back({x * scale, 0, (x + 8) * scale, 8 * scale, 0.5F, 0});
        }
        boxes.push_back({0, 20 * scale, 8 * scale, 28 * scale, 0.2F, 0});  // unsure
        return boxes;
    }
    // The n-th picture of a rendition.
    void send(uint32_t rendition, uint64_t us, bool idr, uint32_t number) {
        AccessUnit unit;
        unit.bytes.resize(100);
        unit.idr = idr;
        unit.first_us = unit.begins_us = us;
        unit.timestamp = static_cast<uint32_t>(us * 9 / 100);
        const int width = rendition == ADP_SELECT_MAIN ? main_width : sub_width;
        const video::AvFrame frame =
            grey_frame(width, width, static_cast<uint8_t>(100 + number % 100), static_cast<uint8_t>(number / 100));
        camera_->picture(rendition, unit, us * 1000, *frame);
    }
    // Both renditions, or one, for some groups of ten at 10 pictures/s; sub comes 2 ms before main.
    void play(uint64_t from_us, size_t pictures, bool sub, bool main, uint64_t sub_phase = 0,
              size_t distance_ms = 100) {
        for (size_t i = 0; i < pictures; i++) {
            const uint64_t us = from_us + i * distance_ms * 1000;
            if (sub) send(ADP_SELECT_SUB, us, (i + sub_phase) % 10 == 0, number_++);
            if (main) send(ADP_SELECT_MAIN, us + 2000, i % 10 == 0, number_++);
        }
    }
    size_t chunks() {
        std::lock_guard lock(mutex_);
        return chunks_.size();
    }
    std::vector<ChunkResult> of(uint32_t rendition) {
        std::lock_guard lock(mutex_);
        std::vector<ChunkResult> found;
        for (const ChunkResult& chunk : chunks_)
            if (chunk.rendition == rendition) found.push_back(chunk);
        return found;
    }
    std::vector<pb::CameraReport> reports(pb::CameraReport::WhatCase what) {
        std::lock_guard lock(mutex_);
        std::vector<pb::CameraReport> found;
        for (const pb::CameraReport& report : reports_)
            if (report.what_case() == what) found.push_back(report);
        return found;
    }

    Camera::Shared shared_;
    std::unique_ptr<VisionPool> pool_;
    std::unique_ptr<Detections> detections_;
    std::shared_ptr<Camera> camera_;
    std::atomic<int> runs_ = 0;
    std::atomic<int> main_boxes_ = 4;
    std::atomic<int> sub_boxes_ = 2;
    std::atomic<bool> gated_ = false;
    Gate gate_;
    uint32_t number_ = 0;
    std::mutex mutex_;
    std::vector<pb::CameraReport> reports_;
    std::vector<ChunkResult> chunks_;
};

TEST_F(CameraTest, BothRenditionsAreMeasured) {
    start(2, 256);
    play(start_us, 20, true, true);
    camera_->end();
    ASSERT_TRUE(wait_until([&] { return chunks() == 4; }));
    const auto measured = reports(pb::CameraReport::kMeasured);
    ASSERT_EQ(measured.size(), 2U);
    for (size_t i = 0; i < 2; i++) {
        EXPECT_EQ(measured[i].camera(), 3U);
        EXPECT_EQ(measured[i].chunk_us(), start_us + i * 1'000'000 + 2000);  // main's
        EXPECT_EQ(measured[i].measured().pictures(), 10U);
        EXPECT_DOUBLE_EQ(measured[i].measured().sub_worth(), 2 * 2.0 / (2 * 2 + 2));  // 2 found, 2 missed
        EXPECT_DOUBLE_EQ(measured[i].measured().gain(), 1 - 2 * 2.0 / (2 * 2 + 2));
    }
    const auto seen = reports(pb::CameraReport::kSeen);
    ASSERT_EQ(seen.size(), 4U);
    for (const pb::CameraReport& report : seen) {
        const bool main = report.seen().rendition() == ADP_SELECT_MAIN;
        EXPECT_TRUE(report.seen().measured());
        EXPECT_EQ(report.seen().pictures(), 10U);
        EXPECT_DOUBLE_EQ(report.seen().objects(), main ? 4 : 2);  // the unsure box does not count
        EXPECT_DOUBLE_EQ(report.seen().confidence(), 0.5);
        EXPECT_DOUBLE_EQ(report.seen().accuracy(), main ? 1 : 2.0 / 3);
    }
    EXPECT_TRUE(reports(pb::CameraReport::kRegions).empty());
    EXPECT_EQ(camera_->counters().measured, 2U);
    EXPECT_EQ(camera_->counters().seen, 40U);
    EXPECT_EQ(camera_->counters().left_out, 0U);
}

TEST_F(CameraTest, OneRenditionIsWorthWhatWasMeasuredLast) {
    start(2, 256);
    play(start_us, 10, true, false);
    play(start_us + 1'000'000, 10, true, true);
    ASSERT_TRUE(wait_until([&] { return camera_->counters().seen == 30; }));
    sub_boxes_ = 4;
    play(start_us + 2'000'000, 10, true, false);
    play(start_us + 3'000'000, 10, false, true);
    camera_->end();
    ASSERT_TRUE(wait_until([&] { return chunks() == 5; }));
    std::map<uint64_t, pb::Seen> seen;  // by tenths of a second
    for (const pb::CameraReport& report : reports(pb::CameraReport::kSeen))
        seen[(report.chunk_us() - start_us) / 1000] = report.seen();
    ASSERT_EQ(seen.size(), 5U);
    EXPECT_FALSE(seen[0].measured());
    EXPECT_DOUBLE_EQ(seen[0].accuracy(), 0.5);  // nothing is known of any camera here
    EXPECT_TRUE(seen[1000].measured());
    EXPECT_DOUBLE_EQ(seen[1000].accuracy(), 2.0 / 3);
    EXPECT_FALSE(seen[2000].measured());
    EXPECT_DOUBLE_EQ(seen[2000].accuracy(), 2.0 / 3);
    EXPECT_FALSE(seen[3002].measured());
    EXPECT_DOUBLE_EQ(seen[3002].accuracy(), 1);
    EXPECT_DOUBLE_EQ(shared_.worths.usual("roof"), 2.0 / 3);
    EXPECT_DOUBLE_EQ(shared_.worths.usual("cellar"), 0.5);
}

// A chunk's end is known as soon as the other rendition goes on without it, not when its own next chunk comes.
TEST_F(CameraTest, AChunkIsOverWhenTheOtherRenditionGoesOn) {
    start(1, 256);
    play(start_us, 10, true, false);
    EXPECT_EQ(of(ADP_SELECT_SUB).size(), 0U);
    play(start_us + 1'000'000, 5, false, true);
    ASSERT_TRUE(wait_until([&] { return of(ADP_SELECT_SUB).size() == 1; }));
    EXPECT_EQ(of(ADP_SELECT_SUB)[0].pictures.size(), 10U);
    EXPECT_FALSE(of(ADP_SELECT_SUB)[0].measured);
}

// A relay sends sub pictures before main ones that wait: so far behind, main is not over, and its pictures find theirs.
TEST_F(CameraTest, MainMayComeWellBehindSub) {
    constexpr uint32_t behind = 7;
    shared_.vision.every = 3;
    start(2, 256);
    for (uint32_t i = 0; i < 30 + behind; i++) {
        if (i < 30) send(ADP_SELECT_SUB, start_us + i * 100'000, i % 10 == 0, i);
        if (i < behind) continue;
        const uint32_t main = i - behind;
        send(ADP_SELECT_MAIN, start_us + main * 100'000 + 2000, main % 10 == 0, 100 + main);
    }
    camera_->end();
    ASSERT_TRUE(wait_until([&] { return chunks() == 6; }));
    for (const ChunkResult& chunk : of(ADP_SELECT_MAIN)) {
        EXPECT_FALSE(chunk.continued);
        EXPECT_EQ(chunk.pictures.size(), 10U);
        const auto looked = std::ranges::count(chunk.pictures, Look::seen, &PictureResult::look);
        EXPECT_TRUE(looked == 3 || looked == 4) << looked;
        EXPECT_EQ(chunk.compared, static_cast<uint64_t>(looked));
        EXPECT_TRUE(chunk.measured);
    }
    EXPECT_EQ(reports(pb::CameraReport::kMeasured).size(), 3U);
}

TEST_F(CameraTest, AChunkIsOverAfterSilenceAndMayGoOn) {
    start(1, 256);
    play(start_us, 6, true, false);
    camera_->silence();
    ASSERT_TRUE(wait_until([&] { return chunks() == 1; }));
    for (uint32_t i = 6; i < 10; i++) send(ADP_SELECT_SUB, start_us + i * 100'000, false, 500 + i);
    send(ADP_SELECT_SUB, start_us + 1'000'000, true, 600);
    ASSERT_TRUE(wait_until([&] { return chunks() == 2; }));
    EXPECT_EQ(of(ADP_SELECT_SUB)[0].pictures.size(), 6U);
    EXPECT_FALSE(of(ADP_SELECT_SUB)[0].continued);
    EXPECT_EQ(of(ADP_SELECT_SUB)[1].pictures.size(), 4U);
    EXPECT_TRUE(of(ADP_SELECT_SUB)[1].continued);
    EXPECT_EQ(of(ADP_SELECT_SUB)[1].chunk_us, start_us);
}

// IDR pictures apart: each main chunk is held against parts of two sub chunks.
// The relay drops the rest of a main chunk that is late: what was seen is main's beginning and sub's rest.
TEST_F(CameraTest, WhereMainIsCutSubIsWhatIsSeen) {
    start(2, 256);
    for (size_t i = 0; i < 20; i++) {
        const uint64_t us = start_us + i * 100'000;
        send(ADP_SELECT_SUB, us, i % 10 == 0, number_++);
        if (i < 4 || i >= 10) send(ADP_SELECT_MAIN, us + 2000, i % 10 == 0, number_++);
    }
    camera_->end();
    ASSERT_TRUE(wait_until([&] { return chunks() == 4; }));
    std::vector<double> accuracy;
    for (const pb::CameraReport& report : reports(pb::CameraReport::kSeen))
        if (report.seen().rendition() == ADP_SELECT_MAIN) accuracy.push_back(report.seen().accuracy());
    ASSERT_EQ(accuracy.size(), 2U);
    EXPECT_NEAR(accuracy[0], (4 + 6 * 2.0 / 3) / 10, 1e-12);
    EXPECT_EQ(accuracy[1], 1);
}

TEST_F(CameraTest, ChunksThatDoNotCoincideAreMeasuredAllTheSame) {
    start(2, 256);
    play(start_us, 40, true, true, 5);
    camera_->end();
    ASSERT_TRUE(wait_until([&] { return of(ADP_SELECT_MAIN).size() == 4 && of(ADP_SELECT_SUB).size() == 5; }));
    for (const ChunkResult& chunk : of(ADP_SELECT_MAIN)) {
        EXPECT_TRUE(chunk.measured);
        EXPECT_EQ(chunk.compared, 10U);
    }
    for (const ChunkResult& chunk : of(ADP_SELECT_SUB)) EXPECT_TRUE(chunk.measured);
}

// A short overlap at a change of renditions is no measurement of the chunk.
TEST_F(CameraTest, LessThanHalfAChunkIsNoMeasurement) {
    start(2, 256);
    for (uint32_t i = 0; i < 10; i++) {
        send(ADP_SELECT_MAIN, start_us + i * 100'000, i == 0, i);
        if (i < 4) send(ADP_SELECT_SUB, start_us + i * 100'000 + 1000, i == 0, 100 + i);
    }
    camera_->end();
    ASSERT_TRUE(wait_until([&] { return chunks() == 2; }));
    EXPECT_TRUE(reports(pb::CameraReport::kMeasured).empty());
    EXPECT_FALSE(of(ADP_SELECT_MAIN)[0].measured);
    EXPECT_TRUE(of(ADP_SELECT_SUB)[0].measured);  // all of it could be compared
}

// 5 pictures a second of sub against 10 of main.
TEST_F(CameraTest, RenditionsOfDifferentRatesArePaired) {
    start(2, 256);
    for (uint32_t i = 0; i < 20; i++) {
        if (i % 2 == 0) send(ADP_SELECT_SUB, start_us + i * 100'000, i % 10 == 0, 200 + i);
        send(ADP_SELECT_MAIN, start_us + i * 100'000 + 3000, i % 10 == 0, i);
    }
    camera_->end();
    ASSERT_TRUE(wait_until([&] { return chunks() == 4; }));
    for (const ChunkResult& chunk : of(ADP_SELECT_MAIN)) {
        EXPECT_TRUE(chunk.measured);
        EXPECT_EQ(chunk.compared, 5U);
    }
    for (const ChunkResult& chunk : of(ADP_SELECT_SUB)) EXPECT_EQ(chunk.compared, 5U);
}

TEST_F(CameraTest, LooksAtEachNthPictureOfBothAlike) {
    shared_.vision.every = 3;
    start(2, 256);
    play(start_us, 20, true, true);
    camera_->end();
    ASSERT_TRUE(wait_until([&] { return chunks() == 4; }));
    for (uint32_t rendition : {ADP_SELECT_SUB, ADP_SELECT_MAIN})
        for (const ChunkResult& chunk : of(rendition)) {
            const auto looked = std::ranges::count(chunk.pictures, Look::seen, &PictureResult::look);
            EXPECT_TRUE(looked == 3 || looked == 4) << looked;
            EXPECT_EQ(chunk.compared, static_cast<uint64_t>(looked));
        }
    EXPECT_EQ(camera_->counters().left_out, 0U);  // what is not its turn is not left out
}

// The network stands still: the video is not held up, and what is left out is counted and spread evenly, over both
// renditions alike.
TEST_F(CameraTest, WhatTheNetworkIsTooSlowForIsLeftOutEvenly) {
    gated_ = true;
    start(1, 8);
    play(start_us, 40, true, true);
    camera_->end();
    EXPECT_EQ(chunks(), 0U);
    gate_.open();
    ASSERT_TRUE(wait_until([&] { return chunks() == 8; }));
    const CameraCounters counters = camera_->counters();
    EXPECT_EQ(counters.seen + counters.left_out, 80U);
    EXPECT_EQ(counters.decoded, 80U);
    EXPECT_GT(counters.left_out, 60U);
    EXPECT_EQ(static_cast<int>(counters.seen - counters.cached), runs_.load());
    // What was looked at are pictures at equal distances, all over the 4 seconds, the same of both.
    std::vector<uint64_t> times;
    uint64_t compared = 0;
    for (const ChunkResult& chunk : of(ADP_SELECT_MAIN)) {
        compared += chunk.compared;
        for (const PictureResult& picture : chunk.pictures)
            if (picture.look == Look::seen) times.push_back(picture.received_us);
    }
    ASSERT_GE(times.size(), 3U);
    EXPECT_EQ(compared, times.size());
    for (size_t i = 2; i < times.size(); i++) EXPECT_EQ(times[i] - times[i - 1], times[1] - times[0]);
    EXPECT_GT(times.back() + (times[1] - times[0]), start_us + 3'900'000);
    // Once it keeps up, every picture is looked at again.
    gated_ = false;
    uint64_t before = 0;
    for (int second = 4; second < 30 && before != camera_->counters().left_out; second++) {
        before = camera_->counters().left_out;
        for (uint32_t i = 0; i < 10; i++) {
            send(ADP_SELECT_SUB, start_us + static_cast<uint64_t>(second) * 1'000'000 + i * 100'000, i == 0, number_++);
            ASSERT_TRUE(wait_until([&] {
                return camera_->counters().seen + camera_->counters().left_out == camera_->counters().decoded;
            }));
        }
    }
    EXPECT_EQ(before, camera_->counters().left_out);
}

TEST_F(CameraTest, TheSamePictureIsNotLookedAtTwice) {
    start(1, 256);
    for (int round = 0; round < 3; round++) {
        const uint64_t us = start_us + static_cast<uint64_t>(round) * 1'000'000;
        for (uint32_t i = 0; i < 10; i++) send(ADP_SELECT_SUB, us + i * 100'000, i == 0, i);
        camera_->silence();
        ASSERT_TRUE(wait_until([&] { return chunks() == static_cast<size_t>(round) + 1; }));
    }
    EXPECT_EQ(runs_, 10);
    EXPECT_EQ(camera_->counters().cached, 20U);
    const auto all = of(ADP_SELECT_SUB);
    for (size_t i = 0; i < 10; i++) EXPECT_EQ(all[2].pictures[i].boxes, all[0].pictures[i].boxes);
}

TEST_F(CameraTest, AsksForRegions) {
    shared_.vision.regions = true;
    shared_.vision.region_options.padding = 0;
    start(2, 256);
    play(start_us, 10, true, true);
    play(start_us + 1'000'000, 10, true, false);
    camera_->end();
    ASSERT_TRUE(wait_until([&] { return chunks() == 3; }));
    const auto regions = reports(pb::CameraReport::kRegions);
    ASSERT_EQ(regions.size(), 2U);  // of main where both came, of sub where it came alone
    for (const pb::CameraReport& report : regions) {
        ASSERT_EQ(report.regions().regions_size(), 1);
        EXPECT_FLOAT_EQ(report.regions().regions(0).x1(), 8.0F / 64);
        EXPECT_FLOAT_EQ(report.regions().regions(0).y0(), 20.0F / 64);
    }
}

TEST_F(CameraTest, LabelsForTheQualitySelector) {
    shared_.vision.gradients = 0.5;
    start(2, 256);
    play(start_us, 40, true, true);
    camera_->end();
    ASSERT_TRUE(wait_until([&] { return chunks() == 8 && reports(pb::CameraReport::kBlocks).size() == 2; }));
    pool_->stop();
    const auto blocks = reports(pb::CameraReport::kBlocks);
    ASSERT_EQ(blocks.size(), 2U);  // of four chunks with both renditions
    EXPECT_EQ(blocks[0].blocks().columns(), 4U);
    EXPECT_EQ(blocks[0].blocks().rows(), 4U);
    ASSERT_EQ(blocks[0].blocks().weights_size(), 16);
    // The renditions differ by one in luma; the fake gradient is all on the left.
    EXPECT_GT(blocks[0].blocks().weights(0), 0);
    EXPECT_EQ(blocks[0].blocks().weights(3), 0);
}

// A camera of the app qp: its pictures against what a low quality makes of them.
TEST_F(CameraTest, LabelsForTheQualitySelectorWhereOneRenditionComes) {
    shared_.vision.gradients = 0.5;
    start(2, 256);
    const auto play_textured = [&](uint64_t from_us, size_t pictures) {
        for (size_t i = 0; i < pictures; i++) {
            AccessUnit unit;
            unit.bytes.resize(100);
            unit.idr = i % 10 == 0;
            unit.first_us = unit.begins_us = from_us + i * 100'000;
            unit.timestamp = static_cast<uint32_t>(unit.first_us * 9 / 100);
            const video::AvFrame frame = grey_frame(main_width, main_width, 100, 128);
            // What a coarse quantiser loses, in the left half only.
            for (int y = 0; y < main_width; y++)
                for (int x = 0; x < main_width; x++)
                    frame->data[0][y * frame->linesize[0] + x] = static_cast<uint8_t>(
                        x < main_width / 2 ? 90 + (x * 7 + y * 13 + static_cast<int>(i)) % 23 : 100);
            camera_->picture(ADP_SELECT_MAIN, unit, unit.first_us * 1000, *frame);
        }
    };
    play_textured(start_us, 40);
    camera_->end();
    ASSERT_TRUE(wait_until([&] { return chunks() == 4 && reports(pb::CameraReport::kBlocks).size() == 2; }));
    pool_->stop();
    const auto blocks = reports(pb::CameraReport::kBlocks);
    ASSERT_EQ(blocks.size(), 2U);  // of four chunks
    std::set<uint64_t> times;
    for (const ChunkResult& chunk : of(ADP_SELECT_MAIN)) times.insert(chunk.chunk_us);
    for (const pb::CameraReport& report : blocks) {
        EXPECT_TRUE(times.contains(report.chunk_us())) << "the chunk's time, as the encoder knows it";
        ASSERT_EQ(report.blocks().weights_size(), 16);
        EXPECT_GT(report.blocks().weights(0), 0);
        EXPECT_LT(report.blocks().weights(3), report.blocks().weights(0) / 10);
    }
    EXPECT_TRUE(reports(pb::CameraReport::kMeasured).empty());
}

TEST_F(CameraTest, WithoutObjectsNothingMattersAndThatIsALabelToo) {
    shared_.vision.gradients = 1;
    main_boxes_ = 0;
    start(2, 256);
    play(start_us, 10, false, true);
    camera_->end();
    ASSERT_TRUE(wait_until([&] { return reports(pb::CameraReport::kBlocks).size() == 1; }));
    const auto blocks = reports(pb::CameraReport::kBlocks);
    for (const float weight : blocks[0].blocks().weights()) EXPECT_EQ(weight, 0);
}

TEST_F(CameraTest, WhatTheNetworkFailsAtIsCountedAndSaidNothingOf) {
    main_boxes_ = 0;
    start(1, 256);
    Result<std::unique_ptr<VisionPool>> failing =
        VisionPool::start({.threads = 1, .queue = 64, .open = [] {
                               return Result<std::unique_ptr<Detector>>(std::make_unique<FakeDetector>(
                                   [](const Image&) -> Result<std::vector<Box>> { return Error{"on fire"}; }));
                           }});
    ASSERT_TRUE(failing.ok());
    camera_.reset();
    pool_ = std::move(*failing);
    shared_.pool = pool_.get();
    camera_ = std::make_shared<Camera>(shared_, "roof", 3);
    play(start_us, 10, true, false);
    camera_->end();
    ASSERT_TRUE(wait_until([&] { return chunks() == 1; }));
    EXPECT_EQ(camera_->counters().failed, 10U);
    EXPECT_TRUE(reports(pb::CameraReport::kSeen).empty());
    EXPECT_FALSE(of(ADP_SELECT_SUB)[0].accuracy);
}

// Times that jump, a camera without IDR pictures, a new connection with an older clock: bounded, and in order.
TEST_F(CameraTest, StrangeStreamsAreBounded) {
    start(2, 8);
    send(ADP_SELECT_SUB, 0, true, 1);
    send(ADP_SELECT_MAIN, uint64_t{1} << 56, true, 2);
    send(ADP_SELECT_SUB, uint64_t{1} << 56, false, 3);
    send(ADP_SELECT_SUB, (uint64_t{1} << 56) - 900'000, false, 4);
    for (uint32_t i = 0; i < 4000; i++) send(ADP_SELECT_SUB, (uint64_t{1} << 56) - 900'000 + i, false, 5 + i % 7);
    camera_->end();
    play(1000, 20, true, true);
    camera_->end();
    pool_->stop();
    EXPECT_GE(chunks(), 8U);
    std::lock_guard lock(mutex_);
    size_t pictures = 0;
    for (const ChunkResult& chunk : chunks_) {
        EXPECT_LE(chunk.pictures.size(), 1500U);
        pictures += chunk.pictures.size();
    }
    EXPECT_EQ(pictures, 4044U);
}

}  // namespace
}  // namespace adapath::server
