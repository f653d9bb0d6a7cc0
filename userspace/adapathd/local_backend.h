// The backend `local`: slots, ring and flows within one process. Snapshots run by the reference interpreter; no clang,
// no kernel side, no privileges. For demonstrations and tests.
#pragma once

#include <array>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include <adapath/abi.h>

#include "codegen/codegen.h"
#include "codegen/result.h"
#include "userspace/adapathd/backend.h"

namespace adapath {

// What the kernel side is to the bpf backend: the slots, the index that is switched, the ring and the counters.
class LocalDatapath {
public:
    explicit LocalDatapath(size_t ring_bytes, size_t wakeup_bytes)
        : ring_bytes_(ring_bytes), wakeup_bytes_(wakeup_bytes) {}

    // What decides now. A decision keeps its model alive by holding this, as a kernel reader's grace period would.
    struct Active {
        uint32_t slot = ADP_SLOT_NONE;
        uint32_t generation = 0;
        uint32_t explore_q16 = 0;
        std::shared_ptr<const QuantModel> model;  // null: the fallback decides
    };
    [[nodiscard]] Active active() const;
    // The one on trial, if any, and what decides for a flow: that one where the flow is among its share.
    struct Canary {
        Active snapshot;
        uint32_t share_q16 = 0;  // 0: none is on trial
        [[nodiscard]] bool decides(uint64_t flow) const {
            return share_q16 != 0 && adp_flow_in_share(flow, share_q16) != 0;
        }
    };
    [[nodiscard]] Canary canary() const;
    [[nodiscard]] Active deciding(uint64_t flow) const;
    // Weights, Q16; all 0: the app's defaults.
    [[nodiscard]] std::array<uint32_t, ADP_OBJECTIVES> objective_q16() const;
    // One record into the ring; false (and counted) where it is full.
    bool put(std::span<const std::byte> record);
    // Adds to the counters.
    void count(const BackendStats& more);

private:
    friend class LocalInstaller;
    friend class LocalCollector;

    struct Slot {
        SlotState state = SlotState::free;
        uint32_t generation = 0;
        uint64_t hash = 0;
        uint32_t params_bytes = 0;
        uint32_t explore_q16 = 0;
        bool prepared = false;  // installed, never switched to
        std::shared_ptr<const QuantModel> model;
    };
    [[nodiscard]] uint32_t find_locked(SlotState state) const;
    [[nodiscard]] Active in_state_locked(SlotState state) const;

    mutable std::mutex mutex_;
    std::condition_variable changed_;
    Slot slots_[ADP_SLOTS];
    uint32_t canary_share_q16_ = 0;
    std::array<uint32_t, ADP_OBJECTIVES> objective_q16_{};
    std::deque<std::vector<std::byte>> ring_;
    size_t ring_used_ = 0;
    const size_t ring_bytes_;
    const size_t wakeup_bytes_;
    bool woken_ = false;
    BackendStats stats_;
};

// Where decisions come from: flows that ask the datapath's active snapshot and put their samples.
class DecisionSource {
public:
    virtual ~DecisionSource() = default;
    // Everything that happens up to this moment (CLOCK_MONOTONIC). Called every few milliseconds by one thread.
    virtual void advance(LocalDatapath& datapath, uint64_t now_us) = 0;
};

struct LocalBackendOptions {
    size_t ring_bytes = 1 << 20;
    size_t wakeup_bytes = 64 * 1024;
    uint32_t period_ms = 5;  // between two calls of advance()
};
struct LocalBackend {
    Backend backend;
    std::shared_ptr<LocalDatapath> datapath;
};
// Without a source nothing runs by itself: a test drives the datapath.
Result<LocalBackend> open_local_backend(const LocalBackendOptions& options, std::unique_ptr<DecisionSource> source);

}  // namespace adapath
