// Quality for regions: which blocks the mask reaches, and what x264 makes of it.
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "userspace/video/block_mask.h"
#include "userspace/video/region_encoder.h"

namespace adapath::video {
namespace {

constexpr Size small{176, 152};  // 11 x 10 macroblocks, the last row of them half a block

// Texture all over, another in each picture: every block costs bits in every picture, so that each one's quantiser is
// seen in what comes back. (Of a still background P pictures would repeat the IDR picture's blocks.)
Clip texture(Size size, int pictures) {
    std::vector<uint8_t> bytes;
    for (int t = 0; t < pictures; t++) {
        for (int y = 0; y < size.height; y++) {
            for (int x = 0; x < size.width; x++) {
                double wave = 50 * std::sin(x * 0.9 + t * 2.1) * std::cos(y * 0.8 - t * 1.7);
                double fine = ((x * 7919 + y * 104729 + t * 1299709) % 97) * 0.4;
                bytes.push_back(static_cast<uint8_t>(100 + wave + fine));
            }
        }
        for (int i = 0; i < size.width * size.height / 2; i++) {
            bytes.push_back(static_cast<uint8_t>(128 + (i + t) % 5));
        }
    }
    return std::move(Clip::from_i420(std::move(bytes), size).value());
}

// Of the luma of those blocks, over all pictures of the chunk.
double psnr(const Clip& clip, const CodedChunk& chunk, const BlockMask& mask, uint8_t high) {
    Size size = clip.size();
    double sum = 0;
    double count = 0;
    for (uint64_t i = 0; i < chunk.frame_bytes.size(); i++) {
        const uint8_t* before = clip.picture(i).y;
        const uint8_t* after = chunk.i420.data() + i * picture_bytes(size);
        for (int y = 0; y < size.height; y++) {
            for (int x = 0; x < size.width; x++) {
                if (mask.high[static_cast<size_t>(y / 16 * mask.columns + x / 16)] == high) {
                    double difference = before[y * size.width + x] - after[y * size.width + x];
                    sum += difference * difference;
                    count++;
                }
            }
        }
    }
    return 10 * std::log10(255.0 * 255.0 * count / sum);
}

CodedChunk coded(RegionEncoder& encoder, const Clip& clip) {
    Result<CodedChunk> chunk = code_chunk(encoder, clip, 0, clip.pictures());
    EXPECT_TRUE(chunk.ok()) << chunk.error().message;
    return std::move(chunk.value());
}

TEST(BlockMask, ThresholdAndDilation) {
    std::vector<float> values(110, 0);
    values[0] = 2;
    values[5 * 11 + 5] = 1;
    values[109] = std::numeric_limits<float>::quiet_NaN();
    BlockMask one = choose_blocks(values, small, {2, 0}).value();
    EXPECT_EQ(one.columns, 11);
    EXPECT_EQ(one.rows, 10);
    EXPECT_EQ(std::accumulate(one.high.begin(), one.high.end(), 0), 1);
    EXPECT_EQ(one.high[0], 1);
    EXPECT_DOUBLE_EQ(one.share(), 1.0 / 110);
    BlockMask two = choose_blocks(values, small, {1, 0}).value();
    EXPECT_EQ(std::accumulate(two.high.begin(), two.high.end(), 0), 2);
    // A corner's neighbours and an inner block's.
    BlockMask wide = choose_blocks(values, small, {1, 1}).value();
    EXPECT_EQ(std::accumulate(wide.high.begin(), wide.high.end(), 0), 4 + 9);
    for (int index : {0, 1, 11, 12, 4 * 11 + 4, 6 * 11 + 6}) {
        EXPECT_EQ(wide.high[static_cast<size_t>(index)], 1) << index;
    }
    EXPECT_EQ(dilated(one, 20).share(), 1);
    values.pop_back();
    EXPECT_FALSE(choose_blocks(values, small, {1, 0}).ok());
}

TEST(RegionEncoder, MaskChangesTheBlocksQuality) {
    Clip clip = texture(small, 6);
    BlockMask mask = empty_block_mask(small);
    for (int row = 2; row < 7; row++) {
        for (int column = 3; column < 8; column++) {
            mask.high[static_cast<size_t>(row * mask.columns + column)] = 1;
        }
    }
    RegionEncoder encoder = std::move(RegionEncoder::open(small).value());
    ASSERT_TRUE(encoder.begin_chunk(45).ok());
    CodedChunk low = coded(encoder, clip);
    ASSERT_TRUE(encoder.begin_chunk(25).ok());
    CodedChunk high = coded(encoder, clip);
    ASSERT_TRUE(encoder.begin_chunk({25, 45}, mask).ok());
    CodedChunk mixed = coded(encoder, clip);

    // 20 quantisers apart, and inside and outside each as if all of the picture had it.
    EXPECT_GT(psnr(clip, mixed, mask, 1), psnr(clip, mixed, mask, 0) + 8);
    EXPECT_NEAR(psnr(clip, mixed, mask, 1), psnr(clip, high, mask, 1), 1);
    EXPECT_NEAR(psnr(clip, mixed, mask, 0), psnr(clip, low, mask, 0), 1);
    EXPECT_GT(mixed.bytes, low.bytes + (high.bytes - low.bytes) / 10);
    EXPECT_LT(mixed.bytes, high.bytes - (high.bytes - low.bytes) / 2);
    EXPECT_EQ(std::accumulate(mixed.frame_bytes.begin(), mixed.frame_bytes.end(), uint64_t{0}), mixed.bytes);
}

// Three qualities in thirds of the picture, and another order of them from the second picture on.
TEST(RegionEncoder, EveryBlockHasItsOwnQuantiser) {
    Clip clip = texture(small, 4);
    QuantiserMap map = quantisers(empty_block_mask(small), 30, 48);
    QuantiserMap turned = map;
    BlockMask left = empty_block_mask(small);
    BlockMask right = empty_block_mask(small);
    for (int row = 0; row < map.rows; row++) {
        for (int column = 0; column < map.columns; column++) {
            auto index = static_cast<size_t>(row * map.columns + column);
            map.qp[index] = column < 4 ? 24 : column < 7 ? 36 : 48;
            turned.qp[index] = static_cast<uint8_t>(72 - map.qp[index]);
            left.high[index] = column < 4 ? 1 : 0;
            right.high[index] = column >= 7 ? 1 : 0;
        }
    }
    RegionEncoder encoder = std::move(RegionEncoder::open(small).value());
    ASSERT_TRUE(encoder.begin_chunk(map).ok());
    CodedChunk same = coded(encoder, clip);
    EXPECT_GT(psnr(clip, same, left, 1), psnr(clip, same, right, 1) + 10);
    ASSERT_TRUE(encoder.begin_chunk(map, turned).ok());
    CodedChunk turning = coded(encoder, clip);
    // The IDR picture is as it was; the three after it outweigh it in the mean.
    EXPECT_NEAR(static_cast<double>(turning.frame_bytes[0]), static_cast<double>(same.frame_bytes[0]), 8);
    EXPECT_GT(psnr(clip, turning, right, 1), psnr(clip, same, right, 1) + 1);
    EXPECT_LT(psnr(clip, turning, left, 1), psnr(clip, same, left, 1) - 5);
    // The same again, told picture by picture.
    ASSERT_TRUE(encoder.begin_chunk(30).ok());
    for (uint64_t i = 0; i < clip.pictures(); i++) {
        ASSERT_TRUE(encoder.change(i == 0 ? map : turned).ok());
        Result<EncodedFrame> frame = encoder.encode(clip.picture(i));
        ASSERT_TRUE(frame.ok());
        EXPECT_NEAR(static_cast<double>(frame->bytes.size()), static_cast<double>(turning.frame_bytes[i]), 8);
    }
    map.qp[3] = 52;
    EXPECT_FALSE(encoder.begin_chunk(map).ok());
    EXPECT_FALSE(encoder.change(map).ok());
    map.qp.pop_back();
    EXPECT_FALSE(encoder.begin_chunk(map, turned).ok());
}

TEST(QuantiserMap, FromValues) {
    std::vector<float> values(110, 40.4F);
    values[0] = -3;
    values[1] = 77;
    values[2] = std::numeric_limits<float>::quiet_NaN();
    values[3] = 40.6F;
    QuantiserMap map = quantisers(values, small).value();
    EXPECT_EQ(map.columns, 11);
    EXPECT_EQ(map.rows, 10);
    EXPECT_EQ(std::vector<uint8_t>(map.qp.begin(), map.qp.begin() + 5), (std::vector<uint8_t>{1, 51, 51, 41, 40}));
    values.pop_back();
    EXPECT_FALSE(quantisers(values, small).ok());
}

TEST(RegionEncoder, NoMaskIsUniform) {
    Clip clip = texture(small, 4);
    auto alone = [&](auto begin) {
        RegionEncoder encoder = std::move(RegionEncoder::open(small).value());
        EXPECT_TRUE(begin(encoder).ok());
        return coded(encoder, clip);
    };
    CodedChunk uniform = alone([](RegionEncoder& e) { return e.begin_chunk(38); });
    CodedChunk nothing_high = alone([](RegionEncoder& e) { return e.begin_chunk({30, 38}, empty_block_mask(small)); });
    EXPECT_EQ(uniform.i420, nothing_high.i420);
    EXPECT_EQ(uniform.bytes, nothing_high.bytes);
    // Everything high is that quality everywhere; the headers announce another quantiser, so not to the bit.
    BlockMask all = dilated(choose_blocks(std::vector<float>(110, 1), small, {1, 0}).value(), 1);
    CodedChunk everything = alone([&](RegionEncoder& e) { return e.begin_chunk({38, 45}, all); });
    EXPECT_NEAR(static_cast<double>(everything.bytes), static_cast<double>(uniform.bytes), uniform.bytes * 0.05);
    EXPECT_NEAR(psnr(clip, everything, all, 1), psnr(clip, uniform, all, 1), 0.5);
}

// CRF by itself gives an IDR picture the mean quantiser of the pictures before it.
TEST(RegionEncoder, EveryChunkHasItsOwnQuality) {
    Clip clip = texture(small, 3);
    RegionEncoder encoder = std::move(RegionEncoder::open(small).value());
    std::vector<uint64_t> sizes;
    for (int qp : {30, 45, 30}) {
        ASSERT_TRUE(encoder.begin_chunk(qp).ok());
        for (uint32_t i = 0; i < clip.pictures(); i++) {
            Result<EncodedFrame> frame = encoder.encode(clip.picture(i));
            ASSERT_TRUE(frame.ok()) << frame.error().message;
            EXPECT_EQ(frame->key, i == 0);
            EXPECT_EQ(frame->qp, qp) << "picture " << i;
            sizes.push_back(frame->bytes.size());
        }
    }
    // Nothing of the chunk between is left (x264 numbers IDR pictures, hence a few bytes).
    for (size_t i = 0; i < 3; i++) {
        EXPECT_NEAR(static_cast<double>(sizes[i]), static_cast<double>(sizes[6 + i]), 8);
    }
}

TEST(RegionEncoder, RefusesWhatMakesNoSense) {
    EXPECT_FALSE(RegionEncoder::open({15, 16}).ok());
    EXPECT_FALSE(RegionEncoder::open({16, 5000}).ok());
    EXPECT_FALSE(RegionEncoder::open(small, {0, "veryfast"}).ok());
    EXPECT_FALSE(RegionEncoder::open(small, {10, "no such preset"}).ok());
    RegionEncoder encoder = std::move(RegionEncoder::open(small).value());
    Clip clip = texture(small, 1);
    EXPECT_FALSE(encoder.encode(clip.picture(0)).ok());  // no chunk has begun
    EXPECT_FALSE(encoder.begin_chunk(0).ok());
    EXPECT_FALSE(encoder.begin_chunk(52).ok());
    EXPECT_FALSE(encoder.begin_chunk({35, 60}, empty_block_mask(small)).ok());
    EXPECT_FALSE(encoder.begin_chunk({35, 45}, empty_block_mask({320, 240})).ok());
    ASSERT_TRUE(encoder.begin_chunk({35, 45}, empty_block_mask(small)).ok());
    EXPECT_TRUE(encoder.encode(clip.picture(0)).ok());
}

}  // namespace
}  // namespace adapath::video
