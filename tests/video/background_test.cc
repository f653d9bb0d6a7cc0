// The background that sender and server remember: what is noted, what is shown, and what it saves.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <numeric>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "userspace/video/background.h"
#include "userspace/video/luma_difference.h"
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

// A server that has lost a note expects something else than the sender meant, and does not remember what was not meant.
TEST(PictureNote, AfterAnotherNoteIsRefused) {
    std::mt19937 random(3);
    int refused = 0;
    constexpr int rounds = 500;
    for (int i = 0; i < rounds; i++) {
        std::vector<BlockUse> before(blocks, BlockUse::recalled);
        for (int n = 0; n < 10; n++) {
            before[random() % blocks] = BlockUse::shown;
        }
        PictureNote note{0, 0, before};
        note.blocks[random() % blocks] = BlockUse::remembered;
        std::vector<uint8_t> bytes = write_note(note, columns, before);
        before[random() % blocks] = i % 2 == 0 ? BlockUse::shown : BlockUse::recalled;
        Result<PictureNote> read = read_note(bytes, columns, rows, before);
        refused += read.ok() && *read != note ? 0 : 1;
    }
    EXPECT_GT(refused, rounds * 98 / 100);
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

// The plan without any haste: the same rules, pixel by pixel, as background.h tells them.
class PlainPlan {
public:
    PlainPlan(Size size, int renew)
        : size_(size),
          renew_(renew),
          columns_((size.width + 15) / 16),
          rows_((size.height + 15) / 16),
          luma_(static_cast<size_t>(size.width) * static_cast<size_t>(size.height) * 9),
          known_(luma_.size()),
          x_(size.width),
          y_(size.height) {}

    PictureNote next(const std::vector<uint8_t>& now, bool idr) {
        PictureNote note;
        note.blocks.assign(static_cast<size_t>(columns_ * rows_), BlockUse::shown);
        if (!before_.empty()) {
            std::tie(note.right, note.down) = moved(now);
            x_ += note.right;
            y_ += note.down;
            if (x_ < 0 || y_ < 0 || x_ > 2 * size_.width || y_ > 2 * size_.height) {
                known_.assign(known_.size(), 0);
                x_ = size_.width;
                y_ = size_.height;
            }
        }
        for (int block = 0; block < columns_ * rows_; block++) {
            int left = block % columns_ * 16;
            int top = block / columns_ * 16;
            int right = std::min(left + 16, size_.width);
            int bottom = std::min(top + 16, size_.height);
            auto on_canvas = [&](int x, int y) {
                return static_cast<size_t>(y_ + y) * static_cast<size_t>(size_.width) * 3 + static_cast<size_t>(x_ + x);
            };
            auto pixel = [&](int x, int y) { return int{now[static_cast<size_t>(y * size_.width + x)]}; };
            bool known = true;
            bool inside = !before_.empty() && left + note.right >= 0 && top + note.down >= 0 &&
                          right + note.right <= size_.width && bottom + note.down <= size_.height;
            for (int y = top; y < bottom; y++) {
                for (int x = left; x < right; x++) {
                    known = known && known_[on_canvas(x, y)] != 0;
                }
            }
            bool renewed = idr && renew_ > 0 && (static_cast<uint64_t>(block) * 7919 + idrs_) % renew_ == 0;
            if (!renewed && known && alike(left, top, right, bottom, [&](int x, int y) {
                    return pixel(x, y) - int{luma_[on_canvas(x, y)]};
                })) {
                note.blocks[static_cast<size_t>(block)] = BlockUse::recalled;
            } else if ((idr || !known) && (!inside || alike(left, top, right, bottom, [&](int x, int y) {
                           return pixel(x, y) - before(x + note.right, y + note.down);
                       }))) {
                note.blocks[static_cast<size_t>(block)] = BlockUse::remembered;
                for (int y = top; y < bottom; y++) {
                    for (int x = left; x < right; x++) {
                        luma_[on_canvas(x, y)] = static_cast<uint8_t>(pixel(x, y));
                        known_[on_canvas(x, y)] = 1;
                    }
                }
            }
        }
        idrs_ += idr ? 1 : 0;
        before_ = now;
        return note;
    }

private:
    int before(int x, int y) { return before_[static_cast<size_t>(y * size_.width + x)]; }

    // The mean difference is at most 5, and that of each 4x4 pixels' sums at most 9.
    static bool alike(int left, int top, int right, int bottom, const std::function<int(int, int)>& difference) {
        int all = 0;
        for (int y = top; y < bottom; y += 4) {
            for (int x = left; x < right; x += 4) {
                int sum = 0;
                int pixels = 0;
                for (int j = y; j < std::min(y + 4, bottom); j++) {
                    for (int i = x; i < std::min(x + 4, right); i++, pixels++) {
                        sum += difference(i, j);
                        all += std::abs(difference(i, j));
                    }
                }
                if (std::abs(sum) > 9 * pixels) {
                    return false;
                }
            }
        }
        return all <= 5 * (right - left) * (bottom - top);
    }

    // The first of the best movements, if it leaves less than half of the difference; none if that is small.
    std::pair<int, int> moved(const std::vector<uint8_t>& now) {
        auto difference = [&](int right, int down) {
            int64_t sum = 0;
            for (int y = 8; y < size_.height - 8; y += 4) {
                for (int x = 8; x < size_.width - 8; x += 4) {
                    sum += std::abs(now[static_cast<size_t>(y * size_.width + x)] - before(x + right, y + down));
                }
            }
            return sum;
        };
        int64_t still = difference(0, 0);
        int64_t area = int64_t{std::max(0, size_.width - 16)} * std::max(0, size_.height - 16) / 16;
        std::pair<int, int> best;
        int64_t least = still;
        for (int down = -8; down <= 8 && still > area * 2; down += 2) {
            for (int right = -8; right <= 8; right += 2) {
                if (difference(right, down) < least) {
                    least = difference(right, down);
                    best = {right, down};
                }
            }
        }
        return least * 2 < still ? best : std::pair<int, int>{};
    }

    Size size_;
    uint64_t renew_;
    int columns_;
    int rows_;
    std::vector<uint8_t> luma_;
    std::vector<uint8_t> known_;
    int x_;
    int y_;
    std::vector<uint8_t> before_;
    uint64_t idrs_ = 0;
};

// Pictures of all kinds one after the other: still ones, with little and with much noise, with things that come, walk
// and stay, a camera that pans and one that jumps, and what is no picture.
TEST(BackgroundPlan, IsThePlainOne) {
    std::mt19937 random(5);
    auto any = [&](int least, int most) { return std::uniform_int_distribution<int>(least, most)(random); };
    int uses[3] = {};
    int movements = 0;
    for (Size size : {Size{16, 16}, Size{34, 50}, Size{88, 72}, Size{176, 152}, Size{210, 100}}) {
        for (int stream = 0; stream < 8; stream++) {
            const int renew = any(0, 1) * any(1, 9);
            BackgroundPlan plan(size, {.renew = renew});
            PlainPlan plain(size, renew);
            int left = 1000;
            int top = 1000;
            int right = 0;
            int down = 0;
            int noise = 0;
            int side = 0;
            for (int i = 0; i < 60; i++) {
                if (any(0, 9) == 0) {  // another way to move
                    right = any(-1, 1) * any(0, 5);
                    down = any(-1, 1) * any(0, 5);
                }
                if (any(0, 9) == 0) {
                    noise = any(0, 2) * any(0, 12);
                }
                if (any(0, 9) == 0) {
                    side = any(0, 60);
                }
                bool nothing_like_it = any(0, 29) == 0;
                left += 2 * right;
                top += 2 * down;
                std::vector<uint8_t> seen(picture_bytes(size), 128);
                for (int y = 0; y < size.height; y++) {
                    for (int x = 0; x < size.width; x++) {
                        int thing_x = x - i * 3 % size.width;
                        int level = thing_x >= 0 && thing_x < side && y < side ? 200 : ground(left + x, top + y);
                        level = nothing_like_it ? any(0, 255) : level + (noise == 0 ? 0 : any(-noise, noise));
                        seen[static_cast<size_t>(y * size.width + x)] = static_cast<uint8_t>(std::clamp(level, 0, 255));
                    }
                }
                bool idr = i == 0 || any(0, 7) == 0;
                const uint8_t* u = seen.data() + static_cast<ptrdiff_t>(size.width) * size.height;
                PictureNote note =
                    plan.next({seen.data(), u, u + static_cast<ptrdiff_t>(size.width) * size.height / 4}, idr);
                ASSERT_EQ(note, plain.next(seen, idr))
                    << size.width << "x" << size.height << ", stream " << stream << ", picture " << i;
                movements += note.right != 0 || note.down != 0 ? 1 : 0;
                for (BlockUse use : note.blocks) {
                    uses[static_cast<size_t>(use)]++;
                }
            }
        }
    }
    // All of it was there.
    EXPECT_GT(movements, 100);
    for (int use : uses) {
        EXPECT_GT(use, 5000);
    }
}

TEST(LumaDifference, IsThatOfPlainLoops) {
    std::mt19937 random(6);
    std::vector<uint8_t> a(64 * 40);
    std::vector<uint8_t> b(a.size());
    for (int round = 0; round < 300; round++) {
        int most = round % 3 == 0 ? 255 : 1 + static_cast<int>(random() % 20);
        for (size_t i = 0; i < a.size(); i++) {
            a[i] = static_cast<uint8_t>(random() % 256);
            b[i] = static_cast<uint8_t>(std::clamp(a[i] + static_cast<int>(random() % 41) * most / 20 - most, 0, 255));
        }
        size_t at_a = random() % 300;
        size_t at_b = random() % 300;
        int count = static_cast<int>(random() % 100);
        uint32_t sum = 0;
        for (size_t i = 0; i < static_cast<size_t>(count); i++) {
            sum += static_cast<uint32_t>(std::abs(a[at_a + i] - b[at_b + i]));
        }
        EXPECT_EQ(sum_of_differences(a.data() + at_a, b.data() + at_b, count), sum);
        // Exactly as long as it may be read: the last of the `count` is the last byte.
        std::vector<uint8_t> line(a.begin(), a.begin() + (count == 0 ? 0 : (count - 1) * 4 + 1));
        std::vector<uint8_t> fourth(static_cast<size_t>(count));
        every_fourth(line.data(), count, fourth.data());
        for (size_t i = 0; i < fourth.size(); i++) {
            EXPECT_EQ(fourth[i], a[i * 4]);
        }
        int pieces[8] = {};
        for (size_t y = 0; y < 16; y++) {
            for (size_t x = 0; x < 16; x++) {
                pieces[y / 4 * 2 + x / 8] += std::abs(a[at_a + y * 64 + x] - b[at_b + y * 48 + x]);
            }
        }
        BlockDifference whole = block_difference(a.data() + at_a, 64, b.data() + at_b, 48);
        EXPECT_EQ(whole.sum, std::accumulate(pieces, pieces + 8, 0));
        EXPECT_EQ(whole.most, *std::max_element(pieces, pieces + 8));
    }
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

TEST(BackgroundQuality, OfTheRememberedGoesDownWithTheShown) {
    for (int shown = 1; shown <= 51; shown++) {
        BackgroundQuality quality = background_quality(shown);
        EXPECT_EQ(quality.shown, shown);
        EXPECT_LE(quality.remembered, shown);  // never coarser than what is seen beside it
        EXPECT_EQ(quality.recalled, BackgroundQuality{}.recalled);
        EXPECT_GE(quality.remembered, background_quality(std::max(1, shown - 1)).remembered);
    }
    EXPECT_EQ(background_quality(20).remembered, 20);
    EXPECT_EQ(background_quality(38).remembered, BackgroundQuality{}.remembered);
    EXPECT_GT(background_quality(46).remembered, BackgroundQuality{}.remembered);
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
