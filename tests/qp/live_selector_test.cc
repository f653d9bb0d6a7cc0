// The selector in an encoder's process, with the daemon's side of the memory driven by hand: what it decides, what its
// sample proves, and that nothing which goes wrong ever reaches the encoder.
#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

#include "tests/daemon/support.h"
#include "tests/qp/selectors.h"
#include "tests/support/patience.h"
#include "tests/video/pattern.h"
#include "userspace/adapathd/app.h"
#include "userspace/adapathd/host_backend.h"
#include "userspace/adapathd/verifier.h"
#include "userspace/host/atomics.h"
#include "userspace/qp/live_selector.h"
#include "userspace/qp/region_live_encoder.h"

namespace adapath {
namespace {

using namespace std::chrono_literals;
using testing::wait_until;
using testing_support::moving_luma;
using testing_support::selector_snapshot;

constexpr uint32_t kWidth = 300;  // neither side is whole macroblocks
constexpr uint32_t kHeight = 203;
constexpr uint64_t kChunkUs = 7'000'000;  // of picture 0

class LiveSelectorTest : public ::testing::Test {
protected:
    void open() {
        backend_.reset();
        Result<Backend> backend = open_host_backend({host_, "", {"qp", ADP_QP_SCHEMA, sizeof(adp_qp_sample)}});
        ASSERT_TRUE(backend) << backend.error().message;
        backend_.emplace(std::move(*backend));
    }
    void install(uint32_t generation, uint32_t channels = 8) {
        const Result<uint32_t> slot =
            backend_->installer->install(selector_snapshot(generation, channels), generation, {});
        ASSERT_TRUE(slot) << slot.error().message;
        ASSERT_TRUE(backend_->installer->switch_to(*slot).ok());
    }
    LiveSelector selector(double threshold = 0, int dilation = 0, unsigned samples = 8) {
        return LiveSelector({host_, 5, threshold, dilation, 11, samples}, programs_);
    }
    static LiveSelector::Decision decide(LiveSelector& selector, uint32_t picture = 1) {
        const std::vector<uint8_t> before = moving_luma(kWidth, kHeight, picture - 1);
        const std::vector<uint8_t> now = moving_luma(kWidth, kHeight, picture);
        const LiveSelector::Decision decision = selector.decide(
            {now.data(), kWidth, kHeight, kWidth}, {before.data(), kWidth, kHeight, kWidth}, kChunkUs + picture);
        selector.record({30, decision.mask ? 38 : 30, 1234, 1300});
        return decision;
    }
    // Until the program is compiled.
    static bool decides(LiveSelector& selector) {
        return wait_until([&] { return decide(selector).mask.has_value(); });
    }
    std::vector<std::vector<std::byte>> samples() {
        std::vector<std::vector<std::byte>> records;
        (void)backend_->collector->collect(
            0ms, [&](std::span<const std::byte> record) { records.emplace_back(record.begin(), record.end()); });
        return records;
    }
    static ImageCodes codes(uint32_t picture) {
        ImageCodes result{{adp_qp_side(kWidth), adp_qp_side(kHeight)}, {}};
        const size_t count = size_t{result.size.width} * result.size.height;
        std::vector<uint8_t> before(count);
        result.codes.resize(2 * count);
        adp_qp_luma(moving_luma(kWidth, kHeight, picture).data(), kWidth, kHeight, kWidth, result.codes.data());
        adp_qp_luma(moving_luma(kWidth, kHeight, picture - 1).data(), kWidth, kHeight, kWidth, before.data());
        adp_qp_change(result.codes.data(), before.data(), static_cast<uint32_t>(count), result.codes.data() + count);
        return result;
    }

    test::TemporaryDirectory directory_;
    const std::string host_ = directory_ / "host";
    std::optional<Backend> backend_;
    std::shared_ptr<ProgramCache> programs_ = std::make_shared<ProgramCache>();
};

TEST_F(LiveSelectorTest, WithoutADaemonEverThePictureHasOneQuality) {
    LiveSelector alone = selector();
    EXPECT_FALSE(decide(alone).mask);
    EXPECT_NE(alone.stats().state.find("no adapathd"), std::string::npos) << alone.stats().state;
    EXPECT_EQ(alone.stats().uniform, 1U);
    // One that comes later is found.
    open();
    EXPECT_TRUE(wait_until([&] { return !decide(alone).mask && alone.stats().state == "no snapshot is active"; }));
    install(1);
    EXPECT_TRUE(decides(alone));
    EXPECT_EQ(alone.stats().generation, 1U);
}

TEST_F(LiveSelectorTest, TheMaskIsTheInterpretersAndEachSampleProvesIt) {
    open();
    install(3);
    const Snapshot snapshot = selector_snapshot(3);
    const double threshold = 0.25;
    LiveSelector live = selector(threshold, 1);
    ASSERT_TRUE(decides(live));
    (void)samples();
    const App& app = *find_app("qp");
    Verifier verifier({}, {}, [&](uint32_t generation) -> Result<std::shared_ptr<const ImageQuantModel>> {
        if (generation != 3) return Error{"another generation"};
        return std::make_shared<const ImageQuantModel>(snapshot.image->model);
    });
    size_t blocks = 0;
    for (uint32_t picture = 2; picture < 40; picture++) {
        const LiveSelector::Decision decision = decide(live, picture);
        ASSERT_TRUE(decision.mask);
        const std::vector<std::vector<std::byte>> records = samples();
        ASSERT_EQ(records.size(), 8U);
        std::set<std::pair<uint32_t, uint32_t>> places;
        std::set<uint32_t> seqs;
        adp_qp_sample sample;
        for (size_t part = 0; part < records.size(); part++) {
            memcpy(&sample, records[part].data(), sizeof(sample));
            EXPECT_EQ(sample.chunk_us, kChunkUs + picture);
            EXPECT_EQ(sample.camera, 5U);
            EXPECT_EQ(sample.part, part);
            EXPECT_EQ(sample.parts, 8U);
            places.insert({sample.column, sample.row});
            seqs.insert(sample.seq);
            const DecodedSample decoded = app.decode(records[part]);
            EXPECT_TRUE(decoded.made_by_network);
            ASSERT_EQ(verifier.explain(app, decoded), "") << "block " << sample.column << "," << sample.row;
            blocks += sample.column > 3 && sample.row > 3 && sample.column < 14 && sample.row < 8 ? 1 : 0;
        }
        EXPECT_EQ(places.size(), 8U) << "each another block";
        EXPECT_EQ(*seqs.rbegin() - *seqs.begin(), 7U) << "and one after the other";
        if (picture < 12) {
            const std::vector<int32_t> logits = interpret(snapshot.image->model, codes(picture));
            EXPECT_EQ(sample.logits_hash, adp_qp_hash(logits.data(), static_cast<uint32_t>(logits.size())));
            std::vector<float> values;
            for (const int32_t logit : logits) values.push_back(static_cast<float>(logit) / 65536.0F);
            const Result<video::BlockMask> mask =
                video::choose_blocks(values, {kWidth, kHeight}, {static_cast<float>(threshold), 1});
            ASSERT_TRUE(mask);
            EXPECT_EQ(*decision.mask, *mask);
            EXPECT_EQ(sample.share_q16, static_cast<uint32_t>(std::lround(mask->share() * 65536)));
        }
        // A bit of the output, of a code that counts, of the flag: each is noticed.
        const auto altered = [&](const auto& change) {
            adp_qp_sample other = sample;
            change(other);
            std::vector<std::byte> record(sizeof(other));
            memcpy(record.data(), &other, sizeof(other));
            return verifier.explain(app, app.decode(record));
        };
        EXPECT_NE(altered([](adp_qp_sample& s) { s.output ^= 1; }), "");
        EXPECT_NE(altered([](adp_qp_sample& s) { s.flags ^= ADP_QP_BLOCK_HIGH; }), "");
        EXPECT_NE(altered([](adp_qp_sample& s) { s.column = 500; }), "");
        EXPECT_NE(altered([](adp_qp_sample& s) { s.window_width = 255; }), "");
        EXPECT_NE(altered([](adp_qp_sample& s) { s.width = 0; }), "");
        EXPECT_NE(altered([](adp_qp_sample& s) { s.generation = 4; }), "");
    }
    EXPECT_GT(blocks, 10U) << "some blocks away from every edge";
}

TEST_F(LiveSelectorTest, WhatIsHighIsAmongTheSamplesWhereTheChunkHasAny) {
    open();
    install(3);
    // So that a few of the blocks are high.
    std::vector<int32_t> logits = interpret(selector_snapshot(3).image->model, codes(1));
    std::ranges::sort(logits, std::greater<>());
    LiveSelector live = selector(logits[2] / 65536.0, 0, 4);
    ASSERT_TRUE(decides(live));
    (void)samples();
    for (int chunk = 0; chunk < 20; chunk++) {
        ASSERT_TRUE(decide(live, 1).mask);
        const std::vector<std::vector<std::byte>> records = samples();
        ASSERT_EQ(records.size(), 4U);
        size_t high = 0;
        for (const std::vector<std::byte>& record : records) {
            adp_qp_sample sample;
            memcpy(&sample, record.data(), sizeof(sample));
            high += (sample.flags & ADP_QP_BLOCK_HIGH) != 0 ? 1 : 0;
        }
        EXPECT_GE(high, 1U);
    }
}

// For labels that lean to nothing: some chunks are not encoded as decided. Their decision is proved as any other.
TEST_F(LiveSelectorTest, AShareOfTheChunksIsExploredAndTheSamplesSayWhich) {
    open();
    install(3);
    const Snapshot snapshot = selector_snapshot(3);
    // So that half of the blocks are high, more or less.
    std::vector<int32_t> logits = interpret(snapshot.image->model, codes(1));
    std::ranges::sort(logits);
    LiveSelectorOptions options{host_, 5, logits[logits.size() / 2] / 65536.0, 0, 11};
    options.explore = 64;
    LiveSelector live(options, programs_);
    ASSERT_TRUE(decides(live));
    (void)samples();
    const App& app = *find_app("qp");
    Verifier verifier({}, {}, [&](uint32_t) -> Result<std::shared_ptr<const ImageQuantModel>> {
        return std::make_shared<const ImageQuantModel>(snapshot.image->model);
    });
    const auto explain = [&](const adp_qp_sample& sample) {
        std::vector<std::byte> record(sizeof(sample));
        memcpy(record.data(), &sample, sizeof(sample));
        return verifier.explain(app, app.decode(record));
    };
    const uint64_t before = live.stats().explored;
    uint64_t explored = 0;
    uint64_t low = 0;
    for (uint32_t chunk = 0; chunk < 300; chunk++) {
        const uint32_t picture = 1 + chunk % 30;
        const std::vector<uint8_t> earlier = moving_luma(kWidth, kHeight, picture - 1);
        const std::vector<uint8_t> now = moving_luma(kWidth, kHeight, picture);
        const LiveSelector::Decision decision =
            live.decide({now.data(), kWidth, kHeight, kWidth}, {earlier.data(), kWidth, kHeight, kWidth}, chunk);
        ASSERT_TRUE(decision.mask) << "decided in any case";
        live.record({30, decision.explored ? 30 : 38, 1234, 1300, &*decision.mask});
        explored += decision.explored ? 1 : 0;
        for (const std::vector<std::byte>& record : samples()) {
            adp_qp_sample sample;
            memcpy(&sample, record.data(), sizeof(sample));
            EXPECT_EQ(sample.explore, 64);
            EXPECT_EQ((sample.flags & ADP_QP_EXPLORED) != 0, decision.explored);
            const size_t block = size_t{sample.row} * static_cast<size_t>(decision.mask->columns) + sample.column;
            EXPECT_EQ((sample.flags & ADP_QP_BLOCK_LOW) == 0, decision.mask->high[block] != 0);
            low += (sample.flags & ADP_QP_BLOCK_LOW) != 0 ? 1 : 0;
            if (chunk >= 40 || sample.part >= 2) continue;
            EXPECT_EQ(explain(sample), "");
            if (decision.explored) {
                sample.qp_low = 38;
                EXPECT_NE(explain(sample), "") << "two qualities after all";
                sample.qp_low = 30;
                sample.explore = 0;
                EXPECT_NE(explain(sample), "") << "and who would have drawn it?";
            } else {
                sample.flags |= ADP_QP_EXPLORED;
                EXPECT_NE(explain(sample), "");
            }
        }
    }
    EXPECT_NEAR(static_cast<double>(explored), 75, 30);
    EXPECT_EQ(live.stats().explored - before, explored);
    EXPECT_GT(low, 100U);
}

// What the encoder makes of it, chunk by chunk.
class Explored : public LiveSelectorTest {
protected:
    static constexpr video::Size kSize{320, 240};
    static constexpr unsigned kGroup = 5;
    struct Chunk {
        std::vector<adp_qp_sample> samples;
        std::vector<std::vector<uint8_t>> frames;
        int qp = 0;  // of its key frame, the mean
        double bytes = 0;
    };
    // So many from the first that is decided on, or also those before it, which wait for the program to be compiled.
    std::vector<Chunk> encode(const video::Clip& clip, const RegionLiveOptions& options, double kbps, unsigned chunks,
                              bool all_of_them) {
        (void)samples();
        const std::unique_ptr<video::LiveEncoder> encoder = std::move(*region_encoders(options)(0, kSize, 25, kbps));
        std::vector<Chunk> all;
        uint64_t pictures = 0;
        for (unsigned decided = 0; decided < chunks;) {
            Chunk chunk;
            for (unsigned i = 0; i < kGroup; i++, pictures++) {
                const Result<video::EncodedFrame> frame =
                    encoder->encode(clip.picture(pictures), kbps, 1 + pictures * 40'000'000);
                if (!frame) throw std::runtime_error(frame.error().message);
                chunk.frames.emplace_back(frame->bytes.begin(), frame->bytes.end());
                chunk.bytes += static_cast<double>(frame->bytes.size());
                chunk.qp = i == 0 ? frame->qp : chunk.qp;
            }
            for (const std::vector<std::byte>& record : samples()) {
                memcpy(&chunk.samples.emplace_back(), record.data(), sizeof(adp_qp_sample));
            }
            if (chunk.samples.empty()) throw std::runtime_error("no sample of a chunk");
            decided += (chunk.samples[0].flags & ADP_QP_NOT_DECIDED) == 0 ? 1 : 0;
            if (decided > 0 || all_of_them) all.push_back(std::move(chunk));
        }
        stats_ = *encoder->regions();
        return all;
    }
    // That this share of the blocks of a chunk's first picture does not reach.
    static double threshold_of(const video::Clip& clip, double share) {
        const auto width = static_cast<uint32_t>(kSize.width);
        const auto height = static_cast<uint32_t>(kSize.height);
        ImageCodes codes{{adp_qp_side(width), adp_qp_side(height)}, {}};
        const size_t count = size_t{codes.size.width} * codes.size.height;
        codes.codes.resize(2 * count);
        std::vector<uint8_t> before(count);
        adp_qp_luma(clip.picture(kGroup).y, width, height, width, codes.codes.data());
        adp_qp_luma(clip.picture(kGroup - 1).y, width, height, width, before.data());
        adp_qp_change(codes.codes.data(), before.data(), static_cast<uint32_t>(count), codes.codes.data() + count);
        std::vector<int32_t> logits = interpret(selector_snapshot(3).image->model, codes);
        std::ranges::sort(logits);
        return logits[static_cast<size_t>(share * static_cast<double>(logits.size()))] / 65536.0;
    }
    video::RegionStats stats_;
};

TEST_F(Explored, AllOfThePictureHasTheHighQualityAndTheBudgetIsKept) {
    const Result<video::Clip> clip = video::Clip::load(ADAPATH_TEST_CLIP, kSize, 200 * video::picture_bytes(kSize));
    if (!clip) {
        GTEST_SKIP() << "the clip is not there: scripts/deps.sh fetches it";
    }
    open();
    install(3);
    RegionLiveOptions options;
    options.directory = host_;
    options.group = kGroup;
    options.explore = 0.25;
    options.threshold = threshold_of(*clip, 0.7);
    const double kbps = 500;
    const double budget = kbps * 125 * kGroup / 25;
    size_t explored = 0;
    double last_high = 0;
    bool before_decided = false;
    for (const Chunk& chunk : encode(*clip, options, kbps, 160, false)) {
        const adp_qp_sample& sample = chunk.samples.front();
        ASSERT_EQ(sample.flags & ADP_QP_NOT_DECIDED, 0U);
        ASSERT_GT(sample.share_q16, 0U);
        ASSERT_LT(sample.share_q16, 65536U);
        if ((sample.flags & ADP_QP_EXPLORED) != 0) {
            explored++;
            EXPECT_EQ(sample.qp_low, sample.qp_high);
            EXPECT_EQ(chunk.qp, sample.qp_high);
            EXPECT_LT(chunk.bytes, 2 * budget);
            // A chunk earlier, what mattered had about this quality; after two explored ones it is too long ago to
            // tell.
            if (explored > 3 && before_decided) {
                EXPECT_NEAR(sample.qp_high, last_high, options.gap / 2.0 + 1);
            }
            before_decided = false;
        } else {
            EXPECT_EQ(sample.qp_low - sample.qp_high, options.gap);
            EXPECT_GT(chunk.qp, sample.qp_high);
            last_high = sample.qp_high;
            before_decided = true;
        }
    }
    EXPECT_NEAR(static_cast<double>(explored), 40, 24);
    EXPECT_GE(stats_.explored, explored);
    EXPECT_NEAR(stats_.bytes_over_budget, 1, 0.1);
}

// With the background the selector has no say: nothing is drawn, and the trials see what they would without.
TEST_F(Explored, TheBackgroundsTrialsAreNotTouched) {
    open();
    install(3);
    RegionLiveOptions options;
    options.directory = host_;
    options.group = kGroup;
    options.background = true;
    // Never enough: all that is sent is uniform, so that the streams can be compared.
    options.trials.margin = 0.99;
    const video::Clip clip = *video::Clip::from_i420(video::pattern(kSize, 40), kSize);
    std::vector<std::vector<Chunk>> runs;
    for (const double explore : {0.0, 0.9}) {
        options.explore = explore;
        runs.push_back(encode(clip, options, 500, 20, true));
        EXPECT_GT(stats_.background->also, 0U);
        EXPECT_EQ(stats_.explored, 0U);
        for (const Chunk& chunk : runs.back()) {
            for (const adp_qp_sample& sample : chunk.samples) {
                EXPECT_EQ(sample.explore, 0);
                EXPECT_EQ(sample.flags & (ADP_QP_EXPLORED | ADP_QP_BLOCK_LOW), 0U);
                EXPECT_EQ(sample.qp_low, sample.qp_high);
            }
        }
    }
    EXPECT_GT(stats_.background->ratio, 0);
    for (size_t i = 0; i < std::min(runs[0].size(), runs[1].size()); i++) {
        EXPECT_EQ(runs[0][i].frames, runs[1][i].frames) << "chunk " << i;
    }
}

// A daemon that is away for long: what has no room is lost, counted on both sides, and costs the encoder nothing.
TEST_F(LiveSelectorTest, AFullRingLosesSamplesAndCountsThem) {
    open();
    install(1);
    LiveSelector live = selector(0, 0, kQpSamplesMost + 1);
    ASSERT_TRUE(decides(live));
    (void)samples();
    const uint64_t before = live.stats().samples;
    for (int chunk = 0; chunk < 5; chunk++) ASSERT_TRUE(decide(live).mask);
    EXPECT_EQ(live.stats().samples - before, 5 * kQpSamplesMost);
    EXPECT_EQ(live.stats().samples_lost, 5 * kQpSamplesMost - ADP_HOST_RING);
    EXPECT_EQ(backend_->collector->stats().samples_lost, live.stats().samples_lost);
    EXPECT_EQ(samples().size(), ADP_HOST_RING);
}

TEST_F(LiveSelectorTest, FollowsTheSwitchFromOneChunkToTheNext) {
    open();
    install(1);
    LiveSelector live = selector();
    ASSERT_TRUE(decides(live));
    for (uint32_t generation = 2; generation < 30; generation++) {
        install(generation);
        ASSERT_TRUE(decide(live).mask) << "the same program: nothing is compiled";
        EXPECT_EQ(live.stats().generation, generation);
    }
    // Another program: one quality until it is compiled, then it decides.
    install(30, 12);
    EXPECT_FALSE(decide(live).mask);
    EXPECT_NE(live.stats().state.find("compiled"), std::string::npos) << live.stats().state;
    EXPECT_TRUE(decides(live));
    EXPECT_EQ(live.stats().generation, 30U);
    ASSERT_TRUE(backend_->installer->deactivate().ok());
    EXPECT_FALSE(decide(live).mask);
    // Only the daemon ends: the last snapshot goes on.
    install(31, 12);
    backend_.reset();
    EXPECT_TRUE(decide(live).mask);
    EXPECT_EQ(live.stats().generation, 31U);
}

TEST_F(LiveSelectorTest, NoticesThatTheFileIsAnotherOne) {
    open();
    install(1);
    LiveSelector live = selector();
    ASSERT_TRUE(decides(live));
    backend_.reset();
    ASSERT_TRUE(remove_host_backend(host_).ok());
    EXPECT_TRUE(wait_until([&] { return !decide(live).mask; })) << "removed: uniform";
    open();
    install(2);
    EXPECT_TRUE(wait_until([&] { return decide(live).mask && live.stats().generation == 2; }));
}

TEST_F(LiveSelectorTest, RubbishInASlotDecidesNothing) {
    open();
    install(1);
    LiveSelector live = selector();
    ASSERT_TRUE(decides(live));
    const auto memory = std::move(HostMemory::open(host_, {"qp", ADP_QP_SCHEMA, sizeof(adp_qp_sample)}, true).value());
    const uint32_t slot = backend_->installer->active_slot();
    adp_host_slot& target = memory->slot_to_write(slot);
    const adp_host_slot good = target;
    uint32_t generation = 100;
    const auto expect_uniform = [&](const std::string& word) {
        store_release(target.slot.generation, generation++);
        EXPECT_FALSE(decide(live).mask) << word;
        EXPECT_NE(live.stats().state.find(word), std::string::npos) << live.stats().state;
        memcpy(&target, &good, sizeof(target));
    };
    memset(target.slot.params, 0xff, sizeof(target.slot.params));
    expect_uniform("layer");
    target.slot.params_bytes = UINT32_MAX;
    expect_uniform("bytes of parameters");
    memset(target.network, 0xff, sizeof(target.network));
    expect_uniform("image network");
    target.network_bytes = UINT32_MAX;
    expect_uniform("image network");
    store_release(target.slot.generation, generation);
    EXPECT_TRUE(decide(live).mask) << "and sound again";
}

}  // namespace
}  // namespace adapath
