// Notes on the background inside access units: there and back, past every decoder, and whatever bytes come.
#include <algorithm>
#include <random>
#include <vector>

#include <gtest/gtest.h>

#include "tests/video/pattern.h"
#include "userspace/video/background.h"
#include "userspace/video/background_sei.h"
#include "userspace/video/decoder.h"
#include "userspace/video/region_encoder.h"

namespace adapath::video {
namespace {

constexpr Size small{176, 144};

// A group of pictures, encoded.
std::vector<std::vector<uint8_t>> access_units(uint32_t pictures) {
    const Clip clip = *Clip::from_i420(pattern(small, pictures), small);
    RegionEncoder encoder = std::move(*RegionEncoder::open(small));
    EXPECT_TRUE(encoder.begin_chunk(30).ok());
    std::vector<std::vector<uint8_t>> units;
    for (uint32_t i = 0; i < pictures; i++) {
        const Result<EncodedFrame> frame = encoder.encode(clip.picture(i));
        units.emplace_back(frame->bytes.begin(), frame->bytes.end());
    }
    return units;
}

// Notes that look like start codes and like the bytes that keep those out.
BackgroundSei random_sei(std::mt19937& random) {
    BackgroundSei sei;
    sei.begins = random() % 2 == 0;
    const auto number = [&]() -> uint32_t { return random() % 3 == 0 ? random() % 4 << (random() % 4 * 8) : random(); };
    sei.epoch = sei.begins ? number() : 0;
    sei.number = sei.begins ? number() : random() & 0xff;
    const size_t bytes = random() % 4 == 0 ? random() % 3000 : random() % 300;
    const uint32_t most = random() % 2 == 0 ? 5 : 256;
    for (size_t i = 0; i < bytes; i++) {
        sei.note.push_back(static_cast<uint8_t>(random() % most));
    }
    return sei;
}

int start_codes(const std::vector<uint8_t>& bytes) {
    int count = 0;
    for (size_t i = 0; i + 2 < bytes.size(); i++) {
        count += bytes[i] == 0 && bytes[i + 1] == 0 && bytes[i + 2] == 1 ? 1 : 0;
    }
    return count;
}

// H.264, 7.4.1: three bytes that no NAL unit may hold.
bool forbidden_inside(const std::vector<uint8_t>& bytes) {
    for (size_t i = 0; i + 3 < bytes.size(); i++) {
        if (bytes[i] == 0 && bytes[i + 1] == 0 && bytes[i + 2] == 2) {
            return true;
        }
    }
    return false;
}

TEST(BackgroundSei, ComesBackAndLeavesTheRestAsItWas) {
    const std::vector<std::vector<uint8_t>> units = access_units(2);
    std::mt19937 random(5);
    for (int i = 0; i < 2000; i++) {
        const std::vector<uint8_t>& unit = units[random() % units.size()];
        const BackgroundSei sei = random_sei(random);
        const Result<std::vector<uint8_t>> with = with_background_sei(unit, sei);
        ASSERT_TRUE(with.ok()) << with.error().message;
        const Result<std::optional<BackgroundSei>> found = find_background_sei(*with);
        ASSERT_TRUE(found.ok()) << found.error().message;
        ASSERT_TRUE(found->has_value());
        EXPECT_EQ(**found, sei);
        // One NAL unit more, and no bytes in it that look like another one's beginning.
        EXPECT_EQ(start_codes(*with), start_codes(unit) + 1);
        EXPECT_FALSE(forbidden_inside(*with));
        const size_t overhead = sei.begins ? 33 : 26;
        EXPECT_GE(with->size(), unit.size() + sei.note.size() + overhead);
        EXPECT_LE(with->size(), unit.size() + sei.note.size() * 3 / 2 + overhead + 8);
    }
}

TEST(BackgroundSei, ADecoderPassesOverIt) {
    Decoder with = std::move(*Decoder::open());
    Decoder without = std::move(*Decoder::open());
    std::mt19937 random(6);
    uint64_t i = 0;
    for (const std::vector<uint8_t>& unit : access_units(12)) {
        const Result<const AVFrame*> plain = without.decode(unit, i);
        const Result<const AVFrame*> noted = with.decode(*with_background_sei(unit, random_sei(random)), i);
        ASSERT_TRUE(plain.ok() && noted.ok());
        for (int y = 0; y < small.height; y++) {
            const AVFrame& a = **plain;
            const AVFrame& b = **noted;
            ASSERT_TRUE(std::equal(a.data[0] + y * a.linesize[0], a.data[0] + y * a.linesize[0] + small.width,
                                   b.data[0] + y * b.linesize[0]))
                << "picture " << i << ", row " << y;
        }
        i++;
    }
}

TEST(BackgroundSei, WithoutOneThereIsNone) {
    for (const std::vector<uint8_t>& unit : access_units(2)) {
        const Result<std::optional<BackgroundSei>> found = find_background_sei(unit);
        ASSERT_TRUE(found.ok());
        EXPECT_FALSE(found->has_value());
    }
    EXPECT_FALSE(find_background_sei({})->has_value());
    EXPECT_FALSE(with_background_sei({}, {}).ok()) << "no slice to put it before";
    const std::vector<uint8_t> parameters = {0, 0, 0, 1, 0x67, 1, 2, 3};
    EXPECT_FALSE(with_background_sei(parameters, {}).ok());
}

TEST(BackgroundSei, OthersMessagesArePassedOver) {
    const std::vector<uint8_t> unit = access_units(1)[0];
    BackgroundSei sei;
    sei.begins = true;
    sei.epoch = 7;
    sei.note = {1, 2, 3};
    const std::vector<uint8_t> with = *with_background_sei(unit, sei);
    // Before ours: user data of somebody else's, one of an unknown kind, one that claims more than there is.
    const std::vector<std::vector<uint8_t>> others = {
        {0, 0, 1, 6, 5, 17, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 42, 0x80},
        {0, 0, 1, 6, 255, 255, 3, 2, 8, 8, 0x80},
        {0, 0, 1, 6, 1, 200, 5, 5, 0x80},
        {0, 0, 1, 6},
        {0, 0, 1, 6, 255, 255, 255}};
    for (const std::vector<uint8_t>& other : others) {
        std::vector<uint8_t> bytes = other;
        bytes.insert(bytes.end(), with.begin(), with.end());
        const Result<std::optional<BackgroundSei>> found = find_background_sei(bytes);
        ASSERT_TRUE(found.ok()) << found.error().message;
        ASSERT_TRUE(found->has_value());
        EXPECT_EQ(**found, sei);
        EXPECT_FALSE(find_background_sei(other)->has_value());
    }
    // Twice ours: whom to believe?
    EXPECT_FALSE(find_background_sei(*with_background_sei(with, sei)).ok());
}

// Bits flipped, bytes lost, put in, repeated: an error or another note, never a crash; and what is read stays readable
// to the next stage without one.
TEST(BackgroundSei, HostileBytesDoNoHarm) {
    const std::vector<std::vector<uint8_t>> units = access_units(2);
    std::mt19937 random(7);
    const int columns = 11;
    const int rows = 9;
    BackgroundView view(small);
    std::vector<uint8_t> i420(picture_bytes(small), 90);
    size_t refused = 0;
    size_t changed = 0;
    size_t applied = 0;
    for (int i = 0; i < 30000; i++) {
        PictureNote note;
        note.right = (static_cast<int>(random() % 9) - 4) * 2;
        for (int b = 0; b < columns * rows; b++) {
            note.blocks.push_back(random() % 9 == 0 ? static_cast<BlockUse>(random() % 3) : BlockUse::recalled);
        }
        BackgroundSei sei;
        sei.begins = random() % 2 == 0;
        sei.number = random() & 0xff;
        sei.note = write_note(note, columns, {});
        std::vector<uint8_t> bytes = *with_background_sei(units[sei.begins ? 0 : 1], sei);
        // Where our message is, mostly.
        const size_t within = std::min(bytes.size(), size_t{120});
        for (uint32_t edit = 0; edit <= random() % 4; edit++) {
            const auto at = bytes.begin() + static_cast<std::ptrdiff_t>(random() % within);
            switch (random() % 4) {
                case 0:
                    *at ^= static_cast<uint8_t>(1U << (random() % 8));
                    break;
                case 1:
                    bytes.erase(at);
                    break;
                case 2:
                    bytes.insert(at, static_cast<uint8_t>(random() % 3 == 0 ? 0xff : random() % 4));
                    break;
                default:
                    bytes.resize(static_cast<size_t>(at - bytes.begin()) + 1);
            }
            if (bytes.size() < within) {
                break;
            }
        }
        const Result<std::optional<BackgroundSei>> found = find_background_sei(bytes);
        if (!found) {
            EXPECT_FALSE(found.error().message.empty());
            refused++;
            continue;
        }
        if (!*found || **found == sei) {
            continue;
        }
        changed++;
        const Result<PictureNote> read = read_note((*found)->note, columns, rows, {});
        if (read && view.apply(*read, i420)) {
            applied++;
        }
    }
    // The test is one only if all of this happened.
    EXPECT_GT(refused, 300U);
    EXPECT_GT(changed, 1000U);
    EXPECT_GT(applied, 30U);
}

}  // namespace
}  // namespace adapath::video
