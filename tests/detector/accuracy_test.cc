// F1 between boxes: cases by hand, and what must hold for any boxes.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "models/detector/accuracy.h"

namespace adapath {
namespace {

Box box(float x, float y, float width, float height, int class_id = 0, float score = 0.9F) {
    return {x, y, x + width, y + height, score, class_id};
}

TEST(Overlap, ByHand) {
    EXPECT_DOUBLE_EQ(intersection_over_union(box(0, 0, 10, 10), box(0, 0, 10, 10)), 1);
    EXPECT_DOUBLE_EQ(intersection_over_union(box(0, 0, 10, 10), box(5, 0, 10, 10)), 50.0 / 150);
    EXPECT_DOUBLE_EQ(intersection_over_union(box(0, 0, 10, 10), box(0, 0, 10, 5)), 0.5);
    EXPECT_DOUBLE_EQ(intersection_over_union(box(0, 0, 10, 10), box(10, 0, 10, 10)), 0);  // they only touch
    EXPECT_DOUBLE_EQ(intersection_over_union(box(0, 0, 10, 10), box(20, 20, 5, 5)), 0);
}

TEST(Overlap, OfBoxesThatAreNone) {
    const float nan = std::numeric_limits<float>::quiet_NaN();
    const float infinite = std::numeric_limits<float>::infinity();
    const Box sound = box(0, 0, 10, 10);
    for (const Box& other : {box(5, 5, 0, 0), box(5, 5, -3, 2), Box{nan, 0, 10, 10, 1, 0}, Box{0, 0, nan, nan, 1, 0},
                             Box{-infinite, -infinite, infinite, infinite, 1, 0}}) {
        EXPECT_EQ(intersection_over_union(sound, other), 0);
        EXPECT_EQ(intersection_over_union(other, sound), 0);
        EXPECT_EQ(intersection_over_union(other, other), 0);
    }
}

TEST(Accuracy, ByHand) {
    const std::vector<Box> none;
    const std::vector<Box> two{box(0, 0, 10, 10), box(50, 0, 10, 10)};
    EXPECT_EQ(match(none, none).f1(), 1);
    EXPECT_EQ(match(two, none), (Matches{.found = 0, .missed = 2, .wrong = 0}));
    EXPECT_EQ(match(none, two), (Matches{.found = 0, .missed = 0, .wrong = 2}));
    EXPECT_EQ(match(none, two).f1(), 0);
    EXPECT_EQ(match(two, two), (Matches{.found = 2, .missed = 0, .wrong = 0}));
    // One found, one missed, one of another class: 2 / (2 + 1 + 1).
    const std::vector<Box> seen{box(1, 0, 10, 10), box(50, 0, 10, 10, 3)};
    EXPECT_EQ(match(two, seen), (Matches{.found = 1, .missed = 1, .wrong = 1}));
    EXPECT_DOUBLE_EQ(match(two, seen).f1(), 0.5);
    // Exactly half matches, a little less does not.
    EXPECT_EQ(match(std::vector{box(0, 0, 10, 10)}, std::vector{box(0, 0, 10, 5)}).found, 1U);
    EXPECT_EQ(match(std::vector{box(0, 0, 10, 10)}, std::vector{box(0, 0, 10, 4.9F)}).found, 0U);
    // A box may be matched once only.
    EXPECT_EQ(match(std::vector{two[0]}, std::vector{two[0], two[0], two[0]}),
              (Matches{.found = 1, .missed = 0, .wrong = 2}));
    // Below the score nothing counts, on either side.
    const std::vector<Box> faint{box(0, 0, 10, 10, 0, 0.29F)};
    EXPECT_EQ(match(faint, two), (Matches{.found = 0, .missed = 0, .wrong = 2}));
    EXPECT_EQ(match(two, faint), (Matches{.found = 0, .missed = 2, .wrong = 0}));
    EXPECT_EQ(match(faint, two, {.score = 0.2}).found, 1U);
}

TEST(Accuracy, WhatIsDoubtfulIsNeitherMissedNorWrong) {
    const AccuracyOptions limits{.score = 0.3, .sure = 0.4, .found = 0.35};
    const std::vector<Box> reference{box(0, 0, 10, 10, 0, 0.5F), box(50, 0, 10, 10, 0, 0.36F)};
    // Sure and found, though fainter; doubtful, found or not.
    EXPECT_EQ(match(reference, std::vector{box(0, 0, 10, 10, 0, 0.36F)}, limits), (Matches{1, 0, 0}));
    EXPECT_EQ(match(reference, std::vector{box(0, 0, 10, 10, 0, 0.36F), box(50, 0, 10, 10, 0, 0.8F)}, limits),
              (Matches{1, 0, 0}));
    EXPECT_EQ(match(reference, std::vector{box(0, 0, 10, 10, 0, 0.34F)}, limits), (Matches{0, 1, 0}));
    // A doubtful box excuses one box of its class where it is.
    EXPECT_EQ(
        match(reference, std::vector{box(0, 0, 10, 10), box(50, 0, 10, 10), box(50, 0, 10, 10), box(50, 0, 10, 10, 3)},
              limits),
        (Matches{1, 0, 2}));
    EXPECT_EQ(match(reference, std::vector{box(90, 0, 10, 10)}, limits), (Matches{0, 1, 1}));
    // Without limits both are there.
    EXPECT_EQ(match(reference, std::vector{box(0, 0, 10, 10, 0, 0.36F)}), (Matches{1, 1, 0}));
}

// Greedy by score pairs the first output with the first reference box, and the other two are left alone.
TEST(Accuracy, PairsAsManyAsPossible) {
    const std::vector<Box> reference{box(0, 0, 10, 10), box(3, 0, 10, 10)};
    const std::vector<Box> output{box(1.5F, 0, 10, 10, 0, 0.9F), box(-3, 0, 10, 10, 0, 0.8F)};
    EXPECT_GT(intersection_over_union(reference[0], output[0]), 0.5);
    EXPECT_GT(intersection_over_union(reference[1], output[0]), 0.5);
    EXPECT_GT(intersection_over_union(reference[0], output[1]), 0.5);
    EXPECT_LT(intersection_over_union(reference[1], output[1]), 0.5);
    EXPECT_EQ(match(reference, output).found, 2U);
}

TEST(Accuracy, SumsOverPictures) {
    Matches all{.found = 3, .missed = 1, .wrong = 0};
    all += {.found = 1, .missed = 1, .wrong = 2};
    EXPECT_EQ(all, (Matches{.found = 4, .missed = 2, .wrong = 2}));
    EXPECT_DOUBLE_EQ(all.f1(), 8.0 / 12);
}

std::vector<Box> random_boxes(std::mt19937& random, size_t most) {
    std::uniform_int_distribution<size_t> count(0, most);
    std::uniform_real_distribution<float> place(0, 30);
    std::uniform_real_distribution<float> side(1, 25);
    std::uniform_real_distribution<float> score(0, 1);
    std::uniform_int_distribution<int> class_id(0, 1);
    std::vector<Box> boxes(count(random));
    for (Box& b : boxes)
        b = box(place(random), place(random), side(random), side(random), class_id(random), score(random));
    return boxes;
}

// The greatest number of pairs by trying all: each reference box takes any free partner, or none.
size_t most_pairs(const std::vector<Box>& reference, const std::vector<Box>& output, const AccuracyOptions& options,
                  size_t next, std::vector<bool>& taken) {
    if (next == reference.size()) return 0;
    size_t best = most_pairs(reference, output, options, next + 1, taken);
    for (size_t j = 0; j < output.size(); j++) {
        const bool fits = !taken[j] && reference[next].class_id == output[j].class_id &&
                          reference[next].score >= options.score && output[j].score >= options.score &&
                          intersection_over_union(reference[next], output[j]) >= options.iou;
        if (!fits) continue;
        taken[j] = true;
        best = std::max(best, 1 + most_pairs(reference, output, options, next + 1, taken));
        taken[j] = false;
    }
    return best;
}

TEST(Accuracy, HoldsForAnyBoxes) {
    std::mt19937 random(7);
    for (int round = 0; round < 400; round++) {
        std::vector<Box> a = random_boxes(random, 6);
        std::vector<Box> b = random_boxes(random, 6);
        const AccuracyOptions options{.iou = 0.2 + 0.1 * (round % 5), .score = 0.1 * (round % 4)};
        const Matches m = match(a, b, options);
        const auto counted = [&](const std::vector<Box>& boxes) {
            return static_cast<size_t>(
                std::count_if(boxes.begin(), boxes.end(), [&](const Box& x) { return x.score >= options.score; }));
        };
        // The counts are of the boxes, and F1 is between 0 and 1.
        EXPECT_EQ(m.found + m.missed, counted(a));
        EXPECT_EQ(m.found + m.wrong, counted(b));
        EXPECT_GE(m.f1(), 0);
        EXPECT_LE(m.f1(), 1);
        // As many pairs as there can be.
        std::vector<bool> taken(b.size(), false);
        EXPECT_EQ(m.found, most_pairs(a, b, options, 0, taken));
        // The two sides may change places; order does not count.
        const Matches turned = match(b, a, options);
        EXPECT_EQ(m, (Matches{turned.found, turned.wrong, turned.missed}));
        std::vector<Box> shuffled = b;
        std::shuffle(shuffled.begin(), shuffled.end(), random);
        EXPECT_EQ(m, match(a, shuffled, options));
        // Against itself all is found; with a stricter overlap never more.
        EXPECT_EQ(match(a, a, options).f1(), 1);
        EXPECT_LE(match(a, b, {.iou = options.iou + 0.2, .score = options.score}).found, m.found);
        // A box more that was missed helps; one more that is nowhere near harms, unless all was lost before.
        for (const Box& missed : a) {
            std::vector<Box> more = b;
            more.push_back(missed);
            EXPECT_GE(match(a, more, options).found, m.found);
        }
        std::vector<Box> more = b;
        more.push_back(box(1000, 1000, 5, 5));
        EXPECT_EQ(match(a, more, options), (Matches{m.found, m.missed, m.wrong + 1}));
    }
}

TEST(Accuracy, ManyBoxesOnTopOfEachOther) {
    std::vector<Box> same(300, box(0, 0, 10, 10));
    EXPECT_EQ(match(same, same).found, 300U);
}

}  // namespace
}  // namespace adapath
