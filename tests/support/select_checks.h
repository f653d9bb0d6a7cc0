// What the tests of the app select share, whichever kernel side it has: snapshots installed through the backend's
// interface, and every sample held to the reference interpreter and to adp_select_choose().
#pragma once

#include <adapath/select.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "codegen/codegen.h"
#include "tests/support/models.h"
#include "tests/support/patience.h"
#include "userspace/adapathd/backend.h"
#include "userspace/adapathd/select_cameras.h"

namespace adapath::testing {

using namespace std::chrono_literals;

class SelectChecks : public ::testing::Test {
protected:
    // Camera i sends from 10.0.0.(2 + i) to ports 5000 (sub) and 5001 (main).
    static SelectCamera camera_of(uint32_t number) {
        return {fmt::format("camera{}", number), fmt::format("10.0.0.{}", 2 + number), 5000, 5001, 96};
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

    Backend backend_;
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
