// The background that sender and server remember: what is noted, what is shown, and what it saves.
#include <cmath>
#include <cstdlib>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "userspace/video/background.h"
#include "userspace/video/region_encoder.h"

namespace adapath::video {
namespace {

constexpr Size small{176, 152};  // 11 x 10 macroblocks, the last row of them half a block
constexpr int columns = 11;
constexpr int rows = 10;
constexpr int blocks = columns * rows;

uint8_t ground(int x, int y) {
    double wave = 40 * std::sin(x * 0.7) * std::cos(y * 0.6) + 20 * std::sin((x + 2 * y) * 0.13);
    return static_cast<uint8_t>(110 + wave + (x * 7919 + y * 104729) % 31);
}

// A window of the ground with its corner there, and a bright square in it (side 0: none).
std::vector<uint8_t> window(int left, int top, int square_x = 0, int square_y = 0, int side = 0) {
    std::vector<uint8_t> i420;
    for (int y = 0; y < small.height; y++) {
        for (int x = 0; x < small.width; x++) {
            bool square = x >= square_x && x < square_x + side && y >= square_y && y < square_y + side;
            i420.push_back(square ? static_cast<uint8_t>(230 - (x + y) % 5) : ground(left + x, top + y));
        }
    }
    for (int plane = 0; plane < 2; plane++) {
        for (int y = 0; y < small.height / 2; y++) {
            for (int x = 0; x < small.width / 2; x++) {
                i420.push_back(static_cast<uint8_t>(100 + (left / 2 + x + 3 * (top / 2 + y)) % 40 + plane * 30));
            }
        }
    }
    return i420;
}

Picture picture(const std::vector<uint8_t>& i420) {
    const uint8_t* u = i420.data() + small.width * small.height;
    return {i420.data(), u, u + small.width * small.height / 4};
}

int count(const PictureNote& note, BlockUse use) {
    return static_cast<int>(std::count(note.blocks.begin(), note.blocks.end(), use));
}

TEST(PictureNote, ComesBack) {
    std::mt19937 random(1);
    std::vector<BlockUse> before;
    for (int i = 0; i < 300; i++) {
        PictureNote note;
        note.right = (static_cast<int>(random() % 9) - 4) * 2;
        note.down = (static_cast<int>(random() % 9) - 4) * 2;
        uint32_t rarity = 1 + random() % 40;
        for (int b = 0; b < blocks; b++) {
            note.blocks.push_back(random() % rarity == 0 ? static_cast<BlockUse>(random() % 3) : BlockUse::recalled);
        }
        std::vector<uint8_t> bytes = write_note(note, columns, before);
        Result<PictureNote> back = read_note(bytes, columns, rows, before);
        ASSERT_TRUE(back.ok()) << back.error().message;
        EXPECT_EQ(*back, note);
        if (random() % 4 != 0) {
            before = note.blocks;
        } else {
            before.clear();
        }
    }
}

TEST(PictureNote, WhatIsExpectedCostsAByte) {
    PictureNote note;
    note.blocks.assign(blocks, BlockUse::recalled);
    std::vector<BlockUse> before(blocks, BlockUse::recalled);
    before[17] = BlockUse::remembered;  // and so recalled from then on
    EXPECT_EQ(write_note(note, columns, before).size(), 1U);
    note.blocks.assign(blocks, BlockUse::shown);
    EXPECT_EQ(write_note(note, columns, {}).size(), 1U);
}

TEST(PictureNote, HostileBytesAreRefused) {
    PictureNote note;
    note.right = 8;
    note.blocks.assign(blocks, BlockUse::shown);
    for (size_t i = 0; i < blocks; i += 7) {
        note.blocks[i] = BlockUse::remembered;
    }
    std::vector<uint8_t> bytes = write_note(note, columns, {});
    ASSERT_TRUE(read_note(bytes, columns, rows, {}).ok());
    for (size_t length = 0; length < bytes.size(); length++) {
        EXPECT_FALSE(read_note(std::span(bytes).first(length), columns, rows, {}).ok()) << length;
    }
    std::vector<uint8_t> longer = bytes;
    longer.push_back(0);
    EXPECT_FALSE(read_note(longer, columns, rows, {}).ok());
    EXPECT_FALSE(read_note(bytes, columns, 2, {}).ok());  // more blocks than there are
    EXPECT_FALSE(read_note(bytes, columns, rows, std::vector<BlockUse>(3, BlockUse::shown)).ok());
    EXPECT_FALSE(read_note(bytes, 0, rows, {}).ok());
    // 10 pixels: written, but no movement that is ever sent.
    note.right = 10;
    EXPECT_FALSE(read_note(write_note(note, columns, {}), columns, rows, {}).ok());
    // Whatever comes: an error, or a note of that many blocks.
    std::mt19937 random(2);
    for (int i = 0; i < 20000; i++) {
        std::vector<uint8_t> noise(random() % 40);
        for (uint8_t& byte : noise) {
            byte = static_cast<uint8_t>(random());
        }
        Result<PictureNote> read = read_note(noise, columns, rows, {});
        if (read.ok()) {
            EXPECT_EQ(read->blocks.size(), static_cast<size_t>(blocks));
        }
    }
}

TEST(Movement, OfTheCameraNotOfThings) {
    std::vector<uint8_t> before = window(40, 40);
    for (auto [right, down] : {std::pair{4, 2}, {-6, 0}, {8, -8}}) {
        std::vector<uint8_t> now = window(40 + right, 40 + down);
        Movement moved = movement(picture(before), picture(now), small);
        EXPECT_EQ(moved.right, right);
        EXPECT_EQ(moved.down, down);
    }
    std::vector<uint8_t> thing = window(40, 40, 30, 30, 50);
    std::vector<uint8_t> moved_thing = window(40, 40, 36, 30, 50);
    Movement none = movement(picture(thing), picture(moved_thing), small);
    EXPECT_EQ(none.right, 0);
    EXPECT_EQ(none.down, 0);
    // Another picture altogether: nothing fits.
    std::vector<uint8_t> other = before;
    std::mt19937 random(4);
    for (uint8_t& byte : other) {
        byte = static_cast<uint8_t>(random());
    }
    none = movement(picture(before), picture(other), small);
    EXPECT_EQ(none.right, 0);
    EXPECT_EQ(none.down, 0);
}

TEST(BackgroundPlan, RecallsAllButWhatMoves) {
    BackgroundPlan plan(small, {.renew = 0});
    // The first picture is remembered whole, the square with it.
    EXPECT_EQ(count(plan.next(picture(window(40, 40, 16, 16, 32)), true), BlockUse::remembered), blocks);
    // It walks two blocks on: four blocks are new there, and where it was is not what is remembered.
    PictureNote note = plan.next(picture(window(40, 40, 48, 16, 32)), false);
    EXPECT_EQ(count(note, BlockUse::recalled), blocks - 8);
    EXPECT_EQ(count(note, BlockUse::shown), 8);
    for (int index : {1 * columns + 1, 2 * columns + 2, 1 * columns + 3, 2 * columns + 4}) {
        EXPECT_EQ(note.blocks[static_cast<size_t>(index)], BlockUse::shown) << index;
    }
    // The next IDR picture: it has walked on; what it left is still since the picture before, and is remembered. What
    // it has just left is not.
    plan.next(picture(window(40, 40, 80, 16, 32)), false);
    note = plan.next(picture(window(40, 40, 112, 16, 32)), true);
    EXPECT_EQ(note.blocks[1 * columns + 1], BlockUse::remembered);
    EXPECT_EQ(note.blocks[1 * columns + 3], BlockUse::recalled);  // ground was there in the first picture
    EXPECT_EQ(note.blocks[1 * columns + 7], BlockUse::shown);
    // A square that stands still becomes background.
    note = plan.next(picture(window(40, 40, 112, 16, 32)), true);
    EXPECT_EQ(note.blocks[1 * columns + 7], BlockUse::remembered);
    note = plan.next(picture(window(40, 40, 112, 16, 32)), false);
    EXPECT_EQ(count(note, BlockUse::recalled), blocks);
}

TEST(BackgroundPlan, RenewsAllInTurn) {
    BackgroundPlan plan(small, {.renew = 5});
    std::vector<uint8_t> still = window(40, 40);
    plan.next(picture(still), true);
    std::vector<int> renewed(blocks);
    for (int i = 0; i < 5; i++) {
        PictureNote note = plan.next(picture(still), true);
        EXPECT_EQ(count(note, BlockUse::shown), 0);
        EXPECT_LE(count(note, BlockUse::remembered), blocks / 2);
        for (size_t b = 0; b < blocks; b++) {
            renewed[b] += note.blocks[b] == BlockUse::remembered ? 1 : 0;
        }
        EXPECT_EQ(count(plan.next(picture(still), false), BlockUse::recalled), blocks);  // only at IDR pictures
    }
    EXPECT_EQ(std::count(renewed.begin(), renewed.end(), 1), blocks);
}

// With a decoder that loses nothing, the server sees every recalled block as the camera did, and no other block is
// changed.
TEST(Background, ServerSeesWhatTheSenderMeans) {
    BackgroundPlan plan(small, {.renew = 7});
    BackgroundView view(small);
    int recalled = 0;
    int moved = 0;
    for (int i = 0; i < 60; i++) {
        // The camera moves to and fro, a square goes its own way.
        int left = 40 + (i % 40 < 20 ? i % 40 : 40 - i % 40) * 4;
        std::vector<uint8_t> seen = window(left, 60 - (left - 40) / 2, (i * 3) % 120, 70, 32);
        PictureNote note = plan.next(picture(seen), i % 10 == 0);
        moved += note.right != 0 ? 1 : 0;
        std::vector<uint8_t> sent = seen;
        for (int y = 0; y < small.height; y++) {
            for (int x = 0; x < small.width; x++) {
                if (note.blocks[static_cast<size_t>(y / 16 * columns + x / 16)] == BlockUse::recalled) {
                    sent[static_cast<size_t>(y * small.width + x)] = 0;
                    sent[static_cast<size_t>(small.width * small.height + y / 2 * small.width / 2 + x / 2)] = 0;
                }
            }
        }
        ASSERT_TRUE(view.apply(note, sent).ok());
        for (size_t p = 0; p < sent.size(); p++) {
            EXPECT_NEAR(sent[p], seen[p], 60) << "picture " << i << ", byte " << p;
        }
        double sum = 0;
        for (size_t p = 0; p < sent.size(); p++) {
            sum += std::abs(sent[p] - seen[p]);
        }
        EXPECT_LT(sum / static_cast<double>(sent.size()), 0.5) << "picture " << i;
        recalled += count(note, BlockUse::recalled);
    }
    EXPECT_EQ(moved, 59);
    EXPECT_GT(recalled, 60 * blocks * 6 / 10);
}

TEST(Background, ACameraThatLeavesTheCanvasStartsAnew) {
    BackgroundPlan plan(small, {.renew = 0});
    BackgroundView view(small);
    int all_new = 0;
    for (int i = 0; i < 40; i++) {
        std::vector<uint8_t> seen = window(40 + i * 8, 40);
        PictureNote note = plan.next(picture(seen), i == 0);
        std::vector<uint8_t> sent = seen;
        ASSERT_TRUE(view.apply(note, sent).ok());
        EXPECT_EQ(sent, seen) << i;
        all_new += count(note, BlockUse::recalled) == 0 ? 1 : 0;
    }
    EXPECT_EQ(all_new, 2);  // the first, and the one after 176 pixels
}

TEST(Background, ServerRefusesWhatDoesNotFit) {
    BackgroundView view(small);
    PictureNote note;
    note.blocks.assign(blocks, BlockUse::recalled);
    std::vector<uint8_t> sent = window(40, 40);
    std::vector<uint8_t> as_sent = sent;
    EXPECT_TRUE(view.apply(note, sent).ok());  // nothing to recall: as decoded
    EXPECT_EQ(sent, as_sent);
    note.blocks.pop_back();
    EXPECT_FALSE(view.apply(note, sent).ok());
    note.blocks.push_back(BlockUse::shown);
    sent.pop_back();
    EXPECT_FALSE(view.apply(note, sent).ok());
}

double error(const std::vector<uint8_t>& seen, const uint8_t* decoded) {
    double sum = 0;
    for (int i = 0; i < small.width * small.height; i++) {
        double difference = seen[static_cast<size_t>(i)] - decoded[i];
        sum += difference * difference;
    }
    return sum / (small.width * small.height);
}

// Through x264 and libav: what is seen is as good as all of the picture in the background's quality, for less than a
// third of the bytes.
TEST(Background, SavesTheStillPartOfEveryGroup) {
    std::vector<std::vector<uint8_t>> seen;
    std::vector<uint8_t> all;
    for (int i = 0; i < 12; i++) {
        seen.push_back(window(40, 40, 10 + i * 4, 50, 32));
        all.insert(all.end(), seen.back().begin(), seen.back().end());
    }
    Clip clip = std::move(Clip::from_i420(std::move(all), small).value());
    RegionEncoder encoder = std::move(RegionEncoder::open(small).value());
    BackgroundPlan plan(small);
    BackgroundView view(small);
    uint64_t with = 0;
    uint64_t uniform = 0;
    double with_error = 0;
    double uniform_error = 0;
    for (uint64_t first : {0, 4, 8}) {
        std::vector<PictureNote> notes;
        for (uint64_t i = 0; i < 4; i++) {
            notes.push_back(plan.next(clip.picture(first + i), i == 0));
        }
        Result<CodedChunk> chunk = code_chunk(encoder, clip, first, notes, {30, 28, 51}, view);
        ASSERT_TRUE(chunk.ok()) << chunk.error().message;
        ASSERT_TRUE(encoder.begin_chunk(28).ok());
        Result<CodedChunk> plain = code_chunk(encoder, clip, first, 4);
        ASSERT_TRUE(plain.ok());
        if (first == 0) {
            continue;  // here the background is sent
        }
        with += chunk->bytes;
        uniform += plain->bytes;
        for (uint64_t i = 0; i < 4; i++) {
            with_error += error(seen[first + i], chunk->i420.data() + i * picture_bytes(small));
            uniform_error += error(seen[first + i], plain->i420.data() + i * picture_bytes(small));
        }
    }
    EXPECT_LT(with * 3, uniform);
    EXPECT_LT(with_error, uniform_error * 1.3);
}

}  // namespace
}  // namespace adapath::video
