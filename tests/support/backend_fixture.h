// What the tests of a kernel side share, whichever it is: snapshots installed through the backend's interface, real
// flows over loopback, and every decision held to the reference interpreter.
#pragma once

#include <adapath/cc.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "codegen/codegen.h"
#include "tests/support/models.h"
#include "tests/support/patience.h"
#include "userspace/linkem/tcp_flow.h"
#include "userspace/adapathd/backend.h"

namespace adapath::testing {

using namespace std::chrono_literals;

class BackendFixture : public ::testing::Test {
protected:
    struct Settings {
        bool small_ring = false;  // as small as the backend can make it
        uint32_t wakeup_bytes = 64 * 1024;
        bool flow_consistency = false;
    };
    // What a backend says of itself.
    virtual Result<Backend> open_backend(const Settings& settings) = 0;
    virtual Status remove_backend() = 0;
    // Flows that fill its smallest ring within seconds.
    [[nodiscard]] virtual int flows_that_fill_a_ring() const = 0;

    void open() {
        Result<Backend> opened = open_backend(settings_);
        ASSERT_TRUE(opened.ok()) << opened.error().message;
        backend_ = std::move(*opened);
        congestion_control_ = backend_.congestion_control;
    }
    // As a daemon that ends: what it made in the kernel stays.
    void close() { backend_ = {}; }
    static Snapshot freeze(const FloatModel& model) {
        Result<Snapshot> snapshot = freeze_for_test(model, random_cc_codes(200, 1));
        EXPECT_TRUE(snapshot.ok()) << snapshot.error().message;
        return *snapshot;
    }
    // Installs and remembers the model under its generation, for take().
    uint32_t install(const Snapshot& snapshot) {
        const uint32_t generation = ++last_generation_;
        models_[generation] = snapshot.model;
        Result<uint32_t> slot = backend_.installer->install(snapshot, generation, random_cc_codes(8, generation));
        EXPECT_TRUE(slot.ok()) << slot.error().message;
        return slot.ok() ? *slot : ADP_SLOT_NONE;
    }
    void activate(const Snapshot& snapshot) {
        Status status = backend_.installer->switch_to(install(snapshot));
        ASSERT_TRUE(status.ok()) << status.error().message;
    }
    std::unique_ptr<TcpFlow> start_flow() {
        Result<std::unique_ptr<TcpFlow>> flow = TcpFlow::start(over_loopback(congestion_control_));
        EXPECT_TRUE(flow.ok()) << flow.error().message;
        return flow.ok() ? std::move(*flow) : nullptr;
    }
    // Collects once; sorts every sample into explained and unexplained, and counts gaps in the sequence.
    void collect(std::chrono::milliseconds interval = 20ms) {
        Result<size_t> got = backend_.collector->collect(interval, [this](std::span<const std::byte> record) {
            ASSERT_EQ(record.size(), sizeof(adp_cc_sample));
            adp_cc_sample sample;
            std::memcpy(&sample, record.data(), sizeof(sample));
            take(sample);
        });
        ASSERT_TRUE(got.ok()) << got.error().message;
    }
    void take(const adp_cc_sample& sample) {
        ++samples_;
        auto [it, first] = next_seq_.try_emplace(sample.flow, sample.seq);
        if (!first && it->second != sample.seq) gaps_ += sample.seq - it->second;
        it->second = sample.seq + 1;
        if ((sample.flags & ADP_CC_FALLBACK_MADE) != 0) {
            ++fallbacks_;
            return;
        }
        if ((sample.flags & ADP_CC_NOT_DECIDED) != 0) return;
        ++decisions_;
        ++by_generation_[sample.generation];
        ++by_flow_[sample.flow][sample.generation];
        last_objective_ = sample.objective;
        auto model = models_.find(sample.generation);
        if (model == models_.end() ||
            interpret(model->second, std::span<const uint8_t>(sample.input, ADP_CC_INPUTS))[0] != sample.output)
            ++unexplained_;
    }
    template <typename Condition>
    bool collect_until(Condition condition, std::chrono::seconds limit = 20s) {
        const auto end = std::chrono::steady_clock::now() + limit * slowness();
        while (!condition()) {
            if (std::chrono::steady_clock::now() > end || HasFatalFailure()) return false;
            collect();
        }
        return true;
    }

    // Every flow makes so many decisions from here on; by_flow_ holds just those.
    bool all_decide(size_t flows, uint64_t decisions) {
        collect(0ms);
        by_flow_.clear();
        return collect_until([&] {
            size_t done = 0;
            for (const auto& [flow, generations] : by_flow_) {
                uint64_t sum = 0;
                for (const auto& [generation, count] : generations) sum += count;
                done += sum >= decisions ? 1 : 0;
            }
            return done >= flows;
        });
    }
    // Which generation decided for each flow; 0 where more than one did.
    [[nodiscard]] std::map<uint64_t, uint32_t> deciding() const {
        std::map<uint64_t, uint32_t> result;
        for (const auto& [flow, generations] : by_flow_)
            result[flow] = generations.size() == 1 ? generations.begin()->first : 0;
        return result;
    }

    Settings settings_;
    Backend backend_;
    std::string congestion_control_;
    uint32_t last_generation_ = 0;
    std::map<uint32_t, QuantModel> models_;
    std::map<uint64_t, uint32_t> next_seq_;
    std::map<uint32_t, uint64_t> by_generation_;
    std::map<uint64_t, std::map<uint32_t, uint64_t>> by_flow_;
    adp_cc_objective last_objective_ = {};
    uint64_t samples_ = 0;
    uint64_t decisions_ = 0;
    uint64_t fallbacks_ = 0;
    uint64_t unexplained_ = 0;
    uint64_t gaps_ = 0;
};

}  // namespace adapath::testing
