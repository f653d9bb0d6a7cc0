// Online training of the app qp: it learns from windows what the checkpoint does not know, and the frozen integers
// decide so; labels find their samples or are counted; nothing that comes in breaks it.
#include <gtest/gtest.h>
#include <string.h>
#include <unistd.h>

#include <cmath>
#include <deque>
#include <filesystem>
#include <limits>
#include <random>

#include "codegen/codegen.h"
#include "models/qp/labels.h"
#include "models/qp/online.h"
#include "models/qp/selector.h"

namespace adapath {
namespace {

constexpr uint32_t kColumns = 12;
constexpr uint32_t kRows = 9;

ImageFloatModel checkpoint() {
    Result<ImageFloatModel> model = read_selector(ADAPATH_TEST_CHECKPOINT);
    if (!model) throw std::runtime_error(model.error().message);
    return *model;
}

// A chunk's codes and the server's label of it.
struct Scene {
    ImageCodes codes;
    std::vector<float> weights;
};

BlockMap truth_of(const Scene& scene) {
    BlockMap truth = empty_block_map(kColumns * 16, kRows * 16);
    truth.values = scene.weights;
    return smoothed(truth);
}

// Dark noise, something that moves (which is what the checkpoint was taught), and still bright things of 3x3 blocks:
// these are what matters here.
Scene scene(std::mt19937_64& random) {
    Scene s;
    s.codes.size = {kColumns * 4, kRows * 4};
    const size_t width = s.codes.size.width;
    const size_t count = width * s.codes.size.height;
    s.codes.codes.assign(2 * count, 0);
    s.weights.assign(size_t{kColumns} * kRows, 0);
    for (size_t i = 0; i < count; i++) {
        s.codes.codes[i] = static_cast<uint8_t>(40 + random() % 50);
        s.codes.codes[count + i] = static_cast<uint8_t>(random() % 12);
    }
    const auto fill = [&](size_t column, size_t row, size_t blocks, size_t plane, int low) {
        for (size_t y = row * 4; y < std::min<size_t>((row + blocks) * 4, kRows * 4); y++)
            for (size_t x = column * 4; x < std::min<size_t>((column + blocks) * 4, kColumns * 4); x++)
                s.codes.codes[plane * count + y * width + x] =
                    static_cast<uint8_t>(low + static_cast<int>(random() % 50));
    };
    for (int i = 0; i < 2; i++) fill(random() % (kColumns - 1), random() % (kRows - 1), 2, 1, 80);
    for (int i = 0; i < 2; i++) {
        const size_t column = random() % (kColumns - 2);
        const size_t row = random() % (kRows - 2);
        fill(column, row, 3, 0, 190);
        fill(column, row, 3, 1, 0);
        for (size_t y = row; y < row + 3; y++)
            for (size_t x = column; x < column + 3; x++) s.weights[y * kColumns + x] = 1;
    }
    return s;
}

// As the selector puts it; the output is nobody's concern here.
adp_qp_sample sample_of(const ImageNetwork& network, const Scene& s, uint32_t camera, uint64_t chunk_us,
                        uint32_t column, uint32_t row) {
    adp_qp_sample sample{};
    sample.camera = camera;
    sample.chunk_us = chunk_us;
    sample.width = kColumns * 16;
    sample.height = kRows * 16;
    sample.column = static_cast<uint16_t>(column);
    sample.row = static_cast<uint16_t>(row);
    sample.generation = 1;
    const ImageWindow window = window_of(network, s.codes.size, column, row);
    sample.window_width = static_cast<uint8_t>(window.size.width);
    sample.window_height = static_cast<uint8_t>(window.size.height);
    const ImageCodes part = cut(network, s.codes, window);
    memcpy(sample.codes, part.codes.data(), part.codes.size());
    return sample;
}

void add(QpOnline& online, const adp_qp_sample& sample, bool learn = true) {
    online.add(std::as_bytes(std::span(&sample, 1)), learn);
}

// Eight blocks of it, and its label.
void chunk(QpOnline& online, const ImageNetwork& network, const Scene& s, uint64_t chunk_us, std::mt19937_64& random) {
    for (uint32_t part = 0; part < 8; part++) {
        const auto b = static_cast<uint32_t>((part * kColumns * kRows + random() % (kColumns * kRows)) / 8);
        add(online, sample_of(network, s, 3, chunk_us, b % kColumns, b / kColumns));
    }
    online.add_blocks(3, chunk_us, kColumns, kRows, s.weights);
}

TEST(QpOnlineTest, LearnsWhatTheCheckpointDoesNotKnowAndTheFrozenIntegersDecideSo) {
    const ImageFloatModel start = checkpoint();
    QpOnline online(start, {});
    std::mt19937_64 random(7);
    std::vector<double> errors;
    bool settled = false;
    for (uint64_t n = 1; errors.size() < 16; n++) {
        chunk(online, start.network, scene(random), n, random);
        const SupervisedStats stats = online.train();
        if (!stats.trained) continue;
        EXPECT_EQ(stats.fresh, 64U);
        errors.push_back(stats.error);
        settled = settled || online.stable();
    }
    const auto mean = [&](size_t from) { return (errors[from] + errors[from + 1] + errors[from + 2]) / 3; };
    // Each is the loss on windows that were not learned from yet.
    EXPECT_LT(mean(13), 0.4 * mean(0)) << errors.front() << " to " << errors.back();
    RecordProperty("loss", std::to_string(mean(0)) + " to " + std::to_string(mean(13)));
    EXPECT_TRUE(settled);
    EXPECT_TRUE(online.necessary(start));
    EXPECT_FALSE(online.necessary(online.current()));
    EXPECT_EQ(online.fidelity_loss(online.current()), 0);

    // As the trainer freezes it.
    std::vector<ImageCodes> calibration;
    std::vector<ImageCodes> held_out;
    for (ImageCodes& window : online.recent_pictures())
        (calibration.size() <= held_out.size() ? calibration : held_out).push_back(std::move(window));
    ImageFreezer::Options options;
    options.fidelity_limit = 1.0 / 20;
    const Result<Snapshot> snapshot = ImageFreezer().freeze(online.current(), calibration, held_out, options);
    ASSERT_TRUE(snapshot) << snapshot.error().message;
    RecordProperty("fidelity", std::to_string(snapshot->fidelity.p99_error));
    Agreement learned;
    Agreement before;
    for (int i = 0; i < 20; i++) {
        const Scene s = scene(random);
        const BlockMap truth = truth_of(s);
        BlockMap guess = truth;
        const std::vector<int32_t> logits = interpret(snapshot->image->model, s.codes);
        for (size_t b = 0; b < logits.size(); b++) guess.values[b] = static_cast<float>(logits[b]);
        learned += agreement(truth, online.threshold(3), guess, 0);
        guess.values = run_float(start, s.codes);
        before += agreement(truth, online.threshold(3), guess, 0);
    }
    const auto text = [](const Agreement& a) {
        return std::to_string(a.precision()) + " precision, " + std::to_string(a.recall()) + " recall";
    };
    RecordProperty("before", text(before));
    RecordProperty("learned", text(learned));
    EXPECT_GT(learned.precision(), 0.8) << text(learned);
    EXPECT_GT(learned.recall(), 0.8) << text(learned);
    EXPECT_LT(before.precision() + before.recall(), learned.precision() + learned.recall() - 0.3) << text(before);
}

// At every place of a picture, its edges and corners above all: what is learned from is what the selector computes.
TEST(QpOnlineTest, AWindowsLogitIsThePicturesAtItsPlace) {
    const ImageFloatModel start = checkpoint();
    std::mt19937_64 random(8);
    const Scene s = scene(random);
    const std::vector<float> whole = run_float(start, s.codes);
    QpOnline online(start, {.recent = kColumns * kRows});
    for (uint32_t b = 0; b < kColumns * kRows; b++)
        add(online, sample_of(start.network, s, 3, 1, b % kColumns, b / kColumns));
    const std::vector<float> logits = online.recent_logits();
    ASSERT_EQ(logits.size(), whole.size());
    for (size_t b = 0; b < whole.size(); b++) EXPECT_NEAR(logits[b], whole[b], 1e-3) << b;
}

TEST(QpOnlineTest, TheSameSeedLearnsTheSame) {
    const ImageFloatModel start = checkpoint();
    std::vector<ImageFloatModel> learned;
    for (int run = 0; run < 2; run++) {
        QpOnline online(start, {.steps = 5});
        std::mt19937_64 random(3);
        for (uint64_t n = 1; n <= 8; n++) chunk(online, start.network, scene(random), n, random);
        EXPECT_TRUE(online.train().trained);
        learned.push_back(online.current());
    }
    EXPECT_EQ(learned[0].weights, learned[1].weights);
    EXPECT_NE(learned[0].weights, start.weights);
}

TEST(QpOnlineTest, LabelsFindTheirSamplesOrAreCounted) {
    const ImageFloatModel start = checkpoint();
    QpOnline online(start, {.batch = 1000, .remember = 32});
    std::mt19937_64 random(1);
    const Scene s = scene(random);
    const auto put = [&](uint64_t chunk_us, uint32_t blocks, uint32_t camera = 3) {
        for (uint32_t b = 0; b < blocks; b++) add(online, sample_of(start.network, s, camera, chunk_us, b, b % kRows));
    };
    const auto label = [&](uint64_t chunk_us, uint32_t camera = 3) {
        online.add_blocks(camera, chunk_us, kColumns, kRows, s.weights);
    };
    // Of the eight samples three came: these are learned from.
    put(100, 3);
    label(100);
    EXPECT_EQ(online.counters().matched, 1U);
    EXPECT_EQ(online.counters().windows, 3U);
    label(100);
    EXPECT_EQ(online.counters().repeated, 1U);
    put(100, 4);  // behind their own label
    EXPECT_EQ(online.counters().windows, 3U);
    // A label whose samples were all lost, one of another camera, and one that is there before its samples.
    label(101);
    put(102, 8);
    label(102, 4);
    label(103);
    put(103, 8);
    EXPECT_EQ(online.counters().unmatched, 3U);
    label(102);
    EXPECT_EQ(online.counters().matched, 2U);
    EXPECT_EQ(online.counters().windows, 11U);
    // One that comes so late that its samples were let go.
    put(104, 8);
    for (uint64_t n = 200; n < 210; n++) put(n, 8);
    label(104);
    EXPECT_EQ(online.counters().late, 1U);
    label(209);
    EXPECT_EQ(online.counters().matched, 3U);
    // Not learned from while training is off, but known to calibrate on.
    const size_t recent = online.recent_pictures().size();
    for (uint32_t b = 0; b < 8; b++) add(online, sample_of(start.network, s, 3, 300, b, 0), false);
    label(300);
    EXPECT_EQ(online.counters().unmatched, 4U);
    EXPECT_EQ(online.recent_pictures().size(), recent + 8);
}

TEST(QpOnlineTest, WhatMattersIsAShareOfTheCamerasLatestLabels) {
    const ImageFloatModel start = checkpoint();
    QpOnline online(start, {.batch = 1000, .maps = 4, .share = 0.25});
    std::mt19937_64 random(2);
    std::deque<BlockMap> last;
    for (uint64_t n = 1; n <= 9; n++) {
        Scene s = scene(random);
        for (float& w : s.weights) w = static_cast<float>(random() % 1000) * (n < 5 ? 100.0F : 1.0F);
        chunk(online, start.network, s, n, random);
        BlockMap map = empty_block_map(kColumns * 16, kRows * 16);
        map.values = s.weights;
        last.push_back(smoothed(map));
        if (last.size() > 4) last.pop_front();
        const std::vector<BlockMap> maps(last.begin(), last.end());
        EXPECT_EQ(online.threshold(3), value_at_share(maps, 0.25)) << n;
    }
    EXPECT_EQ(online.threshold(4), 0);
}

// Nothing in a chunk that nobody is in matters, however small the share's threshold is.
// What mattered was given the low quality, in which the server does not find it, so its labels say that it does not
// matter: that is not learned from where explored chunks tell better.
TEST(QpOnlineTest, ExploredChunksTellWhatTheOthersCannot) {
    const ImageFloatModel start = checkpoint();
    const auto learn = [&](uint8_t explore) {
        QpOnline online(start, {.recent = 64, .steps = 12, .minibatch = 48});
        std::mt19937_64 random(9);
        uint64_t explored_chunks = 0;
        for (uint64_t n = 1; n <= 300; n++) {
            Scene s = scene(random);
            const std::vector<float> logits = run_float(start, s.codes);
            const bool explored = random() % 256 < explore;
            explored_chunks += explored ? 1 : 0;
            for (size_t b = 0; b < logits.size(); b++)
                if (logits[b] < 0 && !explored) s.weights[b] = 0;
            for (uint32_t part = 0; part < 8; part++) {
                const auto b = static_cast<uint32_t>((part * kColumns * kRows + random() % (kColumns * kRows)) / 8);
                adp_qp_sample sample = sample_of(start.network, s, 3, n, b % kColumns, b / kColumns);
                sample.explore = explore;
                sample.flags =
                    (logits[b] < 0 ? ADP_QP_BLOCK_LOW : ADP_QP_BLOCK_HIGH) | (explored ? ADP_QP_EXPLORED : 0);
                add(online, sample);
            }
            online.add_blocks(3, n, kColumns, kRows, s.weights);
            (void)online.train();
        }
        EXPECT_EQ(online.counters().windows + online.counters().unseen, 2400U);
        EXPECT_EQ(online.counters().unseen > 0, explore > 0);
        Agreement learned;
        for (int i = 0; i < 20; i++) {
            const Scene s = scene(random);
            const BlockMap truth = truth_of(s);
            BlockMap guess = truth;
            guess.values = run_float(online.current(), s.codes);
            learned += agreement(truth, 0.5F, guess, 0);
        }
        RecordProperty("explore_" + std::to_string(explore), std::to_string(learned.recall()) + " recall, " +
                                                                 std::to_string(learned.precision()) + " precision, " +
                                                                 std::to_string(explored_chunks) + " chunks");
        return learned;
    };
    const Agreement without = learn(0);
    const Agreement with = learn(32);
    EXPECT_GT(with.recall(), 0.8);
    EXPECT_GT(with.precision(), 0.6) << "and what matters is not more than it is";
    EXPECT_LT(without.recall(), 0.5) << "the labels say that it does not matter";
}

TEST(QpOnlineTest, AnEmptySceneTeachesThatNothingMatters) {
    const ImageFloatModel start = checkpoint();
    QpOnline online(start, {.steps = 60, .rate = 3e-3, .anchor = 0});
    std::mt19937_64 random(4);
    for (uint64_t n = 1; n <= 40; n++) {
        Scene s = scene(random);
        std::ranges::fill(s.weights, 0.0F);
        chunk(online, start.network, s, n, random);
        (void)online.train();
    }
    size_t high = 0;
    for (int i = 0; i < 5; i++)
        for (const float logit : run_float(online.current(), scene(random).codes)) high += logit >= 0 ? 1 : 0;
    EXPECT_LT(high, 5U * kColumns * kRows / 50);
}

TEST(QpOnlineTest, HostileLabelsAndSamplesAreCountedAndTeachNothing) {
    const ImageFloatModel start = checkpoint();
    QpOnline online(start, {.batch = 8});
    std::mt19937_64 random(5);
    const Scene s = scene(random);
    for (uint32_t b = 0; b < 8; b++) add(online, sample_of(start.network, s, 3, 100, b, 0));
    const auto with = [&](float value) {
        std::vector<float> weights = s.weights;
        weights[7] = value;
        return weights;
    };
    online.add_blocks(3, 100, kColumns, kRows, with(std::numeric_limits<float>::quiet_NaN()));
    online.add_blocks(3, 100, kColumns, kRows, with(std::numeric_limits<float>::infinity()));
    online.add_blocks(3, 100, kColumns, kRows, with(-1));
    online.add_blocks(3, 100, kColumns, kRows + 1, s.weights);
    online.add_blocks(3, 100, kRows, kColumns, s.weights);  // as many, but another picture's
    online.add_blocks(3, 100, 0, 0, {});
    online.add_blocks(3, 100, 1U << 31, 2, {});
    EXPECT_EQ(online.counters().wrong, 7U);
    EXPECT_EQ(online.counters().windows, 0U);
    EXPECT_FALSE(online.train().trained);

    adp_qp_sample sample = sample_of(start.network, s, 3, 200, 5, 5);
    const auto altered = [&](const auto& change) {
        adp_qp_sample other = sample;
        change(other);
        const uint64_t before = online.counters().misfits;
        add(online, other);
        return online.counters().misfits - before;
    };
    EXPECT_EQ(altered([](adp_qp_sample& a) { a.width = 0; }), 1U);
    EXPECT_EQ(altered([](adp_qp_sample& a) { a.height = 65535; }), 1U);
    EXPECT_EQ(altered([](adp_qp_sample& a) { a.column = kColumns; }), 1U);
    EXPECT_EQ(altered([](adp_qp_sample& a) { a.row = 65535; }), 1U);
    EXPECT_EQ(altered([](adp_qp_sample& a) { a.window_width = 255; }), 1U);
    EXPECT_EQ(altered([](adp_qp_sample& a) { a.window_height = 0; }), 1U);
    EXPECT_EQ(altered([](adp_qp_sample&) {}), 0U);
    sample.flags = ADP_QP_COMPILING;
    EXPECT_EQ(altered([](adp_qp_sample&) {}), 0U);
    EXPECT_EQ(online.counters().undecided, 1U);
    // Anything at all, and half a record at the end.
    std::vector<std::byte> rubbish(200 * sizeof(adp_qp_sample) + 100);
    for (std::byte& b : rubbish) b = static_cast<std::byte>(random());
    online.add(rubbish, true);
    EXPECT_EQ(online.counters().samples, 216U);
    // And what is sound still teaches.
    online.add_blocks(3, 100, kColumns, kRows, s.weights);
    EXPECT_TRUE(online.train().trained);
}

TEST(QpOnlineTest, WhatWasLearnedIsSavedWholeAndGoneOnFrom) {
    const std::string directory = testing::TempDir() + "qp-online-" + std::to_string(getpid());
    std::filesystem::create_directories(directory);
    const ImageFloatModel start = checkpoint();
    QpOnline online(start, {.steps = 10});
    std::mt19937_64 random(6);
    for (uint64_t n = 1; n <= 8; n++) chunk(online, start.network, scene(random), n, random);
    ASSERT_TRUE(online.train().trained);
    ASSERT_TRUE(online.save(directory).ok());
    const Result<ImageFloatModel> saved = read_selector(directory + "/" + std::string(QpOnline::file_name));
    ASSERT_TRUE(saved) << saved.error().message;
    EXPECT_FALSE(std::filesystem::exists(directory + "/selector.json.new"));
    QpOnline again(start, {});
    again.restart_from(*saved);
    const ImageCodes codes = scene(random).codes;
    const std::vector<float> then = run_float(online.current(), codes);
    const std::vector<float> now = run_float(again.current(), codes);
    for (size_t i = 0; i < then.size(); i++) EXPECT_NEAR(then[i], now[i], 1e-3) << i;
    // A model of another network is none to go on from.
    ImageFloatModel other = *saved;
    other.network.layers.pop_back();
    again.restart_from(other);
    EXPECT_EQ(run_float(again.current(), codes), now);
    EXPECT_FALSE(online.save(directory + "/missing").ok());
    std::filesystem::remove_all(directory);
}

// Before there are samples, models are calibrated on these: the first snapshot has to be good enough for real ones.
TEST(QpOnlineTest, MadeUpPicturesCalibrateTheCheckpoint) {
    const ImageFloatModel start = checkpoint();
    const QpOnline online(start, {});
    const std::vector<ImageCodes> pictures = online.simulated_pictures(64);
    ASSERT_EQ(pictures.size(), 64U);
    std::mt19937_64 random(9);
    std::vector<ImageCodes> others;
    for (int i = 0; i < 16; i++) others.push_back(scene(random).codes);
    ImageFreezer::Options options;
    options.fidelity_limit = 1.0 / 20;
    const Result<Snapshot> snapshot = ImageFreezer().freeze(start, pictures, others, options);
    ASSERT_TRUE(snapshot) << snapshot.error().message;
    RecordProperty("fidelity", std::to_string(snapshot->fidelity.p99_error));
}

}  // namespace
}  // namespace adapath
