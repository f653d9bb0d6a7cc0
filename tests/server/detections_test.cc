// What was seen before: keys of pictures, the file over restarts and crashes.
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "tests/server/frames.h"
#include "tests/server/sender.h"
#include "userspace/common/file.h"
#include "userspace/server/detections.h"

namespace adapath {
namespace {

using namespace adapath::testing;

const std::vector<Box> boxes = {{1.25F, 2.5F, 30.1F, 40.7F, 0.123456789F, 7}, {0, 0, 1, 1, 1, 0}};

PictureKey key_of(int number) {
    PictureKey key;
    key.bytes[0] = static_cast<uint8_t>(number);
    key.bytes[15] = static_cast<uint8_t>(number >> 8);
    return key;
}

std::unique_ptr<Detections> open(const std::string& file, const std::string& model = "aa", size_t most = 1000) {
    Result<std::unique_ptr<Detections>> opened = Detections::open({.model = model, .file = file, .most = most});
    if (!opened) throw std::runtime_error(opened.error().message);
    return std::move(*opened);
}

TEST(PictureKey, IsOfThePixelsAlone) {
    const video::AvFrame one = grey_frame(50, 34, 90);
    const video::AvFrame same = grey_frame(50, 34, 90);
    // The same pixels with other bytes between the rows.
    const video::AvFrame wide = grey_frame(50, 34, 90);
    for (int y = 0; y < 34; y++) wide->data[0][y * wide->linesize[0] + 50] = 77;
    const PictureKey key = *picture_key(*one);
    EXPECT_EQ(*picture_key(*same), key);
    EXPECT_EQ(*picture_key(*wide), key);
    EXPECT_EQ(key.text().size(), 32U);
    // The last pixel of each plane counts.
    for (int plane = 0; plane < 3; plane++) {
        const video::AvFrame other = grey_frame(50, 34, 90);
        other->data[plane][(plane == 0 ? 33 : 16) * other->linesize[plane] + (plane == 0 ? 49 : 24)]++;
        EXPECT_FALSE(*picture_key(*other) == key) << plane;
    }
    const video::AvFrame full = grey_frame(50, 34, 90);
    full->color_range = AVCOL_RANGE_JPEG;
    EXPECT_FALSE(*picture_key(*full) == key);
    const video::AvFrame odd = grey_frame(51, 35, 90);
    EXPECT_TRUE(picture_key(*odd).ok());
    video::AvFrame hardware(av_frame_alloc());
    hardware->format = AV_PIX_FMT_VAAPI;
    hardware->width = hardware->height = 16;
    EXPECT_FALSE(picture_key(*hardware).ok());
}

TEST(Detections, SurviveARestartBitForBit) {
    const TemporaryDirectory directory;
    const std::string file = directory.path("boxes");
    {
        const auto detections = open(file);
        EXPECT_FALSE(detections->find(key_of(1)));
        ASSERT_TRUE(detections->put(key_of(1), boxes).ok());
        ASSERT_TRUE(detections->put(key_of(2), {}).ok());
        ASSERT_TRUE(detections->put(key_of(1), {}).ok());  // the first stays
    }
    const auto again = open(file);
    EXPECT_EQ(again->counters().loaded, 2U);
    ASSERT_TRUE(again->find(key_of(1)));
    EXPECT_EQ(*again->find(key_of(1)), boxes);
    ASSERT_TRUE(again->find(key_of(2)));
    EXPECT_TRUE(again->find(key_of(2))->empty());
    EXPECT_EQ(again->counters().passed_over, 0U);
    // For reading only, whatever the network.
    Result<std::unique_ptr<Detections>> reading = Detections::open({.file = file});
    ASSERT_TRUE(reading.ok());
    EXPECT_EQ((*reading)->model(), "aa");
    EXPECT_EQ((*reading)->size(), 2U);
    ASSERT_TRUE((*reading)->put(key_of(3), boxes).ok());  // in memory
    EXPECT_EQ(open(file)->size(), 2U);
}

// A crash at any byte of the last line: what was before stays, what comes after is whole.
TEST(Detections, SurviveATornLine) {
    const TemporaryDirectory directory;
    const std::string file = directory.path("boxes");
    ASSERT_TRUE(open(file)->put(key_of(1), boxes).ok());
    const size_t whole = read_file(file)->size();
    ASSERT_TRUE(open(file)->put(key_of(2), boxes).ok());
    const std::string content = *read_file(file);
    for (size_t size = whole; size < content.size(); size++) {
        const std::string torn = directory.path("torn");
        std::ofstream(torn, std::ios::binary | std::ios::trunc) << content.substr(0, size);
        {
            const auto detections = open(torn);
            EXPECT_TRUE(detections->find(key_of(1))) << size;
            // Without its newline alone the line is whole.
            const bool has_it = size + 1 == content.size();
            EXPECT_EQ(detections->find(key_of(2)).has_value(), has_it) << size;
            EXPECT_EQ(detections->counters().passed_over, size == whole || has_it ? 0U : 1U) << size;
            ASSERT_TRUE(detections->put(key_of(3), boxes).ok());
        }
        const auto again = open(torn);
        ASSERT_TRUE(again->find(key_of(3))) << size;
        EXPECT_EQ(*again->find(key_of(3)), boxes);
    }
}

TEST(Detections, RefuseAFileOfAnotherNetworkAndFilesThatAreNone) {
    const TemporaryDirectory directory;
    const std::string file = directory.path("boxes");
    ASSERT_TRUE(open(file)->put(key_of(1), boxes).ok());
    const auto message = [](const Detections::Options& options) {
        const auto opened = Detections::open(options);
        return opened ? std::string() : opened.error().message;
    };
    EXPECT_NE(message({.model = "bb", .file = file}).find("another vision network"), std::string::npos);
    const std::string letter = directory.path("letter");
    const std::string content = "Dear Sir,\n";
    std::ofstream(letter) << content;
    EXPECT_NE(message({.model = "aa", .file = letter}).find("no file of detections"), std::string::npos);
    EXPECT_EQ(*read_file(letter), content);
    EXPECT_NE(message({.file = directory.path("absent")}), "");
    EXPECT_NE(message({.model = "aa", .file = directory.path("no/such/directory")}), "");
    // Lines that are none of ours are passed over.
    std::ofstream(file, std::ios::app) << "[]\n{\"key\":\"zz\",\"boxes\":[]}\n{\"key\":\"" << key_of(9).text()
                                       << "\",\"boxes\":[[1,2,3]]}\n\n";
    const auto detections = open(file);
    EXPECT_EQ(detections->counters().passed_over, 3U);
    EXPECT_EQ(detections->size(), 1U);
}

TEST(Detections, AreBounded) {
    const TemporaryDirectory directory;
    const auto detections = open("", "aa", 10);
    for (int i = 0; i < 25; i++) ASSERT_TRUE(detections->put(key_of(i), boxes).ok());
    EXPECT_EQ(detections->size(), 10U);
    EXPECT_EQ(detections->counters().evicted, 15U);
    EXPECT_FALSE(detections->find(key_of(14)));
    EXPECT_TRUE(detections->find(key_of(15)));
}

// Several programs (here: several handles) add to one file at once.
TEST(Detections, ManyWritersShareAFile) {
    const TemporaryDirectory directory;
    const std::string file = directory.path("boxes");
    std::vector<std::thread> threads;
    for (int writer = 0; writer < 4; writer++)
        threads.emplace_back([&, writer] {
            const auto detections = open(file);
            for (int i = 0; i < 200; i++) ASSERT_TRUE(detections->put(key_of(writer * 200 + i), boxes).ok());
        });
    for (std::thread& thread : threads) thread.join();
    const auto all = open(file);
    EXPECT_EQ(all->counters().passed_over, 0U);
    EXPECT_EQ(all->size(), 800U);
}

TEST(Detections, AreMadeOnceForAPicture) {
    const auto detections = open("");
    int runs = 0;
    FakeDetector detector([&](const Image& image) -> Result<std::vector<Box>> {
        EXPECT_EQ(image.width, 64);
        if (runs++ == 0) return Error{"not now"};
        return boxes;
    });
    const video::AvFrame frame = grey_frame(64, 64, 90);
    const video::AvFrame same = grey_frame(64, 64, 90);
    EXPECT_FALSE(look_at(*frame, *picture_key(*frame), detector, *detections).ok());
    for (const video::AvFrame* one : {&frame, &same}) {
        const Result<Looked> looked = look_at(**one, *picture_key(**one), detector, *detections);
        ASSERT_TRUE(looked.ok());
        EXPECT_EQ(looked->boxes, boxes);
        EXPECT_EQ(looked->known, one == &same);
    }
    EXPECT_EQ(runs, 2);
}

TEST(ModelHash, IsOfTheWeightsToo) {
    const TemporaryDirectory directory;
    const std::string graph = directory.path("net.json");
    std::ofstream(graph) << R"({"weightsManifest":[{"paths":["net.bin"]}]})";
    EXPECT_FALSE(model_hash(graph).ok());
    std::ofstream(directory.path("net.bin")) << "one";
    const std::string before = *model_hash(graph);
    EXPECT_EQ(before.size(), 64U);
    std::ofstream(directory.path("net.bin")) << "two";
    EXPECT_NE(*model_hash(graph), before);
}

}  // namespace
}  // namespace adapath
