// Training of the quality selector: it learns what can be learned, gives the same twice, and LibTorch and the plain
// loops agree.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "models/qp/labels.h"
#include "models/qp/selector.h"
#include "models/qp/selector_training.h"

namespace adapath {
namespace {

// Noise everywhere; the blocks in which something changed are the ones that matter.
SelectorSample sample(std::mt19937& random, int columns, int rows) {
    SelectorSample s;
    s.truth = empty_block_map(columns * 16, rows * 16);
    s.codes.size = {static_cast<uint32_t>(columns * 4), static_cast<uint32_t>(rows * 4)};
    const size_t count = size_t{s.codes.size.width} * s.codes.size.height;
    for (size_t i = 0; i < 2 * count; i++)
        s.codes.codes.push_back(static_cast<uint8_t>(random() % (i < count ? 256 : 12)));
    for (size_t b = 0; b < s.truth.values.size(); b++) {
        if (random() % 5 != 0) continue;
        s.truth.values[b] = 1;
        const size_t x = b % static_cast<size_t>(columns) * 4;
        const size_t y = b / static_cast<size_t>(columns) * 4;
        for (size_t k = 0; k < 16; k++)
            s.codes.codes[count + (y + k / 4) * s.codes.size.width + x + k % 4] =
                static_cast<uint8_t>(60 + random() % 60);
    }
    return s;
}

TEST(QpTraining, LearnsWhatChangedAndIsSeeded) {
    std::mt19937 random(5);
    std::vector<SelectorSample> samples;
    for (int i = 0; i < 12; i++) samples.push_back(sample(random, i % 2 == 0 ? 12 : 9, 8));
    SelectorTraining training;
    training.steps = 400;
    training.threads = 1;
    std::vector<double> losses;
    training.progress = [&](uint32_t /*step*/, double loss) {
        losses.push_back(loss);
        return true;
    };
    const ImageFloatModel model = train_selector(samples, training);
    ASSERT_TRUE(validate(model).ok());
    ASSERT_EQ(losses.size(), 4U);
    EXPECT_LT(losses.back(), losses.front() / 2);
    Agreement unseen;
    for (int i = 0; i < 5; i++) {
        const SelectorSample s = sample(random, 12, 8);
        auto logits = selector_logits(model, s.codes, 12 * 16, 8 * 16);
        ASSERT_TRUE(logits.ok());
        unseen += agreement(s.truth, 0.5F, *logits, 0);
    }
    EXPECT_GT(unseen.precision(), 0.9);
    EXPECT_GT(unseen.recall(), 0.9);

    training.steps = 20;
    training.progress = nullptr;
    const ImageFloatModel once = train_selector(samples, training);
    EXPECT_EQ(once.weights, train_selector(samples, training).weights);
    training.seed = 2;
    EXPECT_NE(once.weights, train_selector(samples, training).weights);
}

TEST(QpTraining, ProgressCanStopIt) {
    std::mt19937 random(6);
    SelectorTraining training;
    training.steps = 100000;
    training.threads = 1;
    int calls = 0;
    training.progress = [&](uint32_t step, double /*loss*/) {
        EXPECT_EQ(step, 100U);
        calls++;
        return false;
    };
    const ImageFloatModel model = train_selector({sample(random, 4, 4)}, training);
    EXPECT_EQ(calls, 1);
    EXPECT_TRUE(validate(model).ok());
}

TEST(QpTraining, LibTorchAndPlainLoopsAgree) {
    auto model = read_selector(ADAPATH_TEST_CHECKPOINT);
    ASSERT_TRUE(model.ok()) << model.error().message;
    std::mt19937 random(7);
    for (auto [width, height] : {std::pair{96U, 72U}, std::pair{5U, 7U}, std::pair{1U, 1U}}) {
        ImageCodes codes{{width, height}, std::vector<uint8_t>(size_t{2} * width * height)};
        for (uint8_t& code : codes.codes) code = static_cast<uint8_t>(random());
        const std::vector<float> a = run_float(*model, codes);
        const std::vector<float> b = selector_torch(*model, codes);
        ASSERT_EQ(a.size(), b.size());
        for (size_t i = 0; i < a.size(); i++) ASSERT_NEAR(a[i], b[i], 1e-3 * (1 + std::abs(a[i])));
    }
}

}  // namespace
}  // namespace adapath
