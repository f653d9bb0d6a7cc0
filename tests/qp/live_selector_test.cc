// The selector in an encoder's process, with the daemon's side of the memory driven by hand: what it decides, what its
// sample proves, and that nothing which goes wrong ever reaches the encoder.
#include <gtest/gtest.h>
#include <unistd.h>

#include <set>

#include "tests/daemon/support.h"
#include "tests/qp/selectors.h"
#include "tests/support/patience.h"
#include "userspace/adapathd/app.h"
#include "userspace/adapathd/host_backend.h"
#include "userspace/adapathd/verifier.h"
#include "userspace/host/atomics.h"
#include "userspace/qp/live_selector.h"

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
