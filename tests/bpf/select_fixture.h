// What the tests of the app select on the kernel share: a kernel side of their own, snapshots in it, and every sample
// held to the reference interpreter and to adp_select_choose().
#pragma once

#include <adapath/select.h>
#include <bpf/bpf.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/support/live_cameras.h"
#include "tests/support/models.h"
#include "tests/support/patience.h"
#include "userspace/bpf_backend/select_backend.h"

namespace adapath::testing {

using namespace std::chrono_literals;

inline constexpr uint32_t kPassed = ~0U;  // TC_ACT_UNSPEC: on to the next filter
inline constexpr uint32_t kDropped = 2;   // TC_ACT_SHOT

class SelectFixture : public ::testing::Test {
protected:
    void SetUp() override {
        for (const std::string& obstacle : bpf_backend_obstacles()) GTEST_SKIP() << obstacle;
        options_.pin_directory = fmt::format("/sys/fs/bpf/adps{:08x}", std::random_device()());
    }
    void TearDown() override {
        close();
        if (!options_.pin_directory.empty() && access(options_.pin_directory.c_str(), F_OK) == 0) {
            Status removed = remove_select_backend(options_.pin_directory);
            EXPECT_TRUE(removed.ok()) << removed.error().message;
        }
    }
    // Camera i sends from 10.0.0.(2 + i) to ports 5000 (sub) and 5001 (main).
    static SelectCamera camera_of(uint32_t number) {
        return {fmt::format("camera{}", number), fmt::format("10.0.0.{}", 2 + number), 5000, 5001, 96};
    }
    void add_cameras(uint32_t count) {
        for (uint32_t i = 0; i < count; ++i) options_.cameras.push_back(camera_of(i));
    }
    void open() {
        Result<Backend> opened = open_select_backend(options_);
        ASSERT_TRUE(opened.ok()) << opened.error().message;
        backend_ = std::move(*opened);
        program_ = UniqueFd(bpf_obj_get((options_.pin_directory + "/program").c_str()));
        ASSERT_TRUE(program_.valid());
        Result<SelectPanel> panel = SelectPanel::open(options_.pin_directory);
        ASSERT_TRUE(panel.ok()) << panel.error().message;
        panel_ = std::make_unique<SelectPanel>(std::move(*panel));
    }
    // As a daemon that ends: what it made in the kernel stays.
    void close() {
        panel_.reset();
        program_.reset();
        backend_ = {};
    }
    static Snapshot freeze(const FloatModel& model) {
        Result<Snapshot> snapshot = freeze_for_test(model, random_select_codes(200, 1));
        EXPECT_TRUE(snapshot.ok()) << snapshot.error().message;
        return *snapshot;
    }
    void activate(const Snapshot& snapshot) {
        const uint32_t generation = ++last_generation_;
        models_[generation] = snapshot.model;
        Result<uint32_t> slot = backend_.installer->install(snapshot, generation, random_select_codes(4, generation));
        ASSERT_TRUE(slot.ok()) << slot.error().message;
        Status status = backend_.installer->switch_to(*slot);
        ASSERT_TRUE(status.ok()) << status.error().message;
    }
    // A snapshot that always answers so, whatever the input.
    static FloatModel constant_model(float sub, float gain) {
        FloatModel model = random_select_model({16}, 1);
        for (auto& layer : model.weights) std::ranges::fill(layer, 0.0F);
        for (auto& layer : model.biases) std::ranges::fill(layer, 0.0F);
        model.biases.back() = {sub, gain};
        return model;
    }

    // One frame through the program, as the kernel would run it.
    [[nodiscard]] uint32_t run(const Bytes& frame) const { return run(program_.get(), frame); }
    [[nodiscard]] static uint32_t run(int program, const Bytes& frame) {
        bpf_test_run_opts options = {};
        options.sz = sizeof(options);
        options.data_in = frame.data();
        options.data_size_in = static_cast<uint32_t>(frame.size());
        options.repeat = 1;
        EXPECT_EQ(bpf_prog_test_run_opts(program, &options), 0) << std::strerror(errno) << ", " << frame.size();
        return options.retval;
    }
    [[nodiscard]] static Bytes frame_from(uint32_t camera, uint32_t rendition, const Bytes& packet) {
        FrameHeader header;
        header.source_v4 = 0x0a000002 + camera;
        header.destination_port = static_cast<uint16_t>(5000 + rendition);
        return frame_of(header, packet);
    }

    void collect(std::chrono::milliseconds interval = 0ms) {
        Result<size_t> got = backend_.collector->collect(interval, [this](std::span<const std::byte> record) {
            ASSERT_EQ(record.size(), sizeof(adp_select_sample));
            adp_select_sample sample;
            std::memcpy(&sample, record.data(), sizeof(sample));
            take(sample);
        });
        ASSERT_TRUE(got.ok()) << got.error().message;
    }
    void take(const adp_select_sample& sample) {
        samples_.push_back(sample);
        auto [next, first] = next_seq_.try_emplace(sample.camera, sample.seq);
        if (!first && next->second != sample.seq) ++gaps_;
        next->second = sample.seq + 1;
        if ((sample.flags & ADP_SELECT_NOT_DECIDED) != 0) {
            ++undecided_;
            return;
        }
        ++decisions_;
        ++by_generation_[sample.generation];
        uint32_t flags = 0;
        const auto model = models_.find(sample.generation);
        const bool explained = model != models_.end() &&
                               std::ranges::equal(interpret(model->second, std::span<const uint8_t>(sample.input)),
                                                  std::span<const int32_t>(sample.output)) &&
                               adp_select_choose(sample.output, &sample.offer, &flags) == sample.choice &&
                               flags == (sample.flags & ~ADP_SELECT_BRIDGED);
        unexplained_ += explained ? 0 : 1;
    }

    SelectBackendOptions options_;
    Backend backend_;
    UniqueFd program_;
    std::unique_ptr<SelectPanel> panel_;
    uint32_t last_generation_ = 0;
    std::map<uint32_t, QuantModel> models_;
    std::map<uint64_t, uint32_t> next_seq_;
    std::map<uint32_t, uint64_t> by_generation_;
    std::vector<adp_select_sample> samples_;
    uint64_t decisions_ = 0;
    uint64_t undecided_ = 0;
    uint64_t unexplained_ = 0;
    uint64_t gaps_ = 0;
};

}  // namespace adapath::testing
