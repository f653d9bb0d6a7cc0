// See local_backend.h.
#include "userspace/adapathd/local_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "userspace/common/clock.h"
#include "userspace/common/stop.h"
#include "userspace/common/text.h"

namespace adapath {

LocalDatapath::Active LocalDatapath::in_state_locked(SlotState state) const {
    const uint32_t slot = find_locked(state);
    return slot == ADP_SLOT_NONE ? Active{}
                                 : Active{slot, slots_[slot].generation, slots_[slot].explore_q16, slots_[slot].model};
}

LocalDatapath::Active LocalDatapath::active() const {
    std::lock_guard lock(mutex_);
    return in_state_locked(SlotState::active);
}

LocalDatapath::Canary LocalDatapath::canary() const {
    std::lock_guard lock(mutex_);
    const Active on_trial = in_state_locked(SlotState::canary);
    return {on_trial, on_trial.model == nullptr ? 0 : canary_share_q16_};
}

LocalDatapath::Active LocalDatapath::deciding(uint64_t flow) const {
    const Canary on_trial = canary();
    return on_trial.decides(flow) ? on_trial.snapshot : active();
}

std::array<uint32_t, ADP_OBJECTIVES> LocalDatapath::objective_q16() const {
    std::lock_guard lock(mutex_);
    return objective_q16_;
}

bool LocalDatapath::put(std::span<const std::byte> record) {
    std::lock_guard lock(mutex_);
    if (ring_used_ + record.size() > ring_bytes_) {
        stats_.samples_lost++;
        return false;
    }
    ring_.emplace_back(record.begin(), record.end());
    ring_used_ += record.size();
    stats_.samples++;
    if (wakeup_bytes_ != 0 && ring_used_ >= wakeup_bytes_) {
        changed_.notify_one();
    }
    return true;
}

void LocalDatapath::count(const BackendStats& more) {
    std::lock_guard lock(mutex_);
    stats_.decisions += more.decisions;
    stats_.fallbacks += more.fallbacks;
    stats_.flows_opened += more.flows_opened;
    stats_.flows_closed += more.flows_closed;
    stats_.acks += more.acks;
}

uint32_t LocalDatapath::find_locked(SlotState state) const {
    for (uint32_t i = 0; i < ADP_SLOTS; i++) {
        if (slots_[i].state == state) {
            return i;
        }
    }
    return ADP_SLOT_NONE;
}

class LocalInstaller final : public Installer {
public:
    explicit LocalInstaller(std::shared_ptr<LocalDatapath> datapath) : datapath_(std::move(datapath)) {}

    Result<uint32_t> install(const Snapshot& snapshot, uint32_t generation,
                             std::span<const InputCodes> checks) override {
        Result<std::vector<uint8_t>> params = pack(snapshot.model);
        if (!params) {
            return params.error();
        }
        // The interpreter is the program here, so the check is that it takes every input.
        for (const InputCodes& check : checks) {
            if (interpret(snapshot.model, check).size() != snapshot.model.network.output_count()) {
                return Error{"the interpreter gave another number of outputs than the network has"};
            }
        }
        std::lock_guard lock(datapath_->mutex_);
        uint32_t slot = datapath_->find_locked(SlotState::free);
        if (slot == ADP_SLOT_NONE) {
            reclaim_locked();
            slot = datapath_->find_locked(SlotState::free);
        }
        if (slot == ADP_SLOT_NONE) {
            return Error{"every slot is in use"};
        }
        const uint32_t standby = datapath_->find_locked(SlotState::standby);
        if (standby != ADP_SLOT_NONE) {
            datapath_->slots_[standby].state = SlotState::draining;
        }
        datapath_->slots_[slot] = {SlotState::standby,
                                   generation,
                                   hash_prefix(snapshot.hash),
                                   static_cast<uint32_t>(params->size()),
                                   static_cast<uint32_t>(std::lround(std::clamp(snapshot.explore, 0.0F, 1.0F) * 65536)),
                                   true,
                                   std::make_shared<const QuantModel>(snapshot.model)};
        return slot;
    }

    Status switch_to(uint32_t slot) override {
        std::lock_guard lock(datapath_->mutex_);
        if (slot >= ADP_SLOTS || datapath_->slots_[slot].generation == 0 ||
            datapath_->slots_[slot].state == SlotState::draining) {
            return Error{fmt::format("slot {} holds no snapshot that could be switched to", slot)};
        }
        const uint32_t before = datapath_->find_locked(SlotState::active);
        if (before == slot) {
            return {};
        }
        const uint32_t standby = datapath_->find_locked(SlotState::standby);
        if (standby != ADP_SLOT_NONE && standby != slot) {
            datapath_->slots_[standby].state = SlotState::draining;
        }
        if (before != ADP_SLOT_NONE) {
            datapath_->slots_[before].state = SlotState::standby;
        }
        datapath_->slots_[slot].state = SlotState::active;
        datapath_->slots_[slot].prepared = false;
        end_canary_locked();
        return {};
    }

    Status set_canary(uint32_t slot, double share) override {
        if (Status status = check_share(share); !status) {
            return status;
        }
        std::lock_guard lock(datapath_->mutex_);
        if (slot >= ADP_SLOTS || datapath_->slots_[slot].generation == 0) {
            return Error{fmt::format("slot {} holds no snapshot", slot)};
        }
        LocalDatapath::Slot& target = datapath_->slots_[slot];
        if (target.state != SlotState::canary && (target.state != SlotState::standby || !target.prepared)) {
            return Error{fmt::format("slot {}: only what was installed and never switched to goes on trial", slot)};
        }
        const uint32_t before = datapath_->find_locked(SlotState::canary);
        if (before != ADP_SLOT_NONE && before != slot) {
            return Error{fmt::format("slot {} is on trial: end that first", before)};
        }
        if (datapath_->find_locked(SlotState::active) == ADP_SLOT_NONE) {
            return Error{"no snapshot is active, beside which one could be on trial"};
        }
        datapath_->canary_share_q16_ = to_q16(share);
        target.state = SlotState::canary;
        target.prepared = false;
        return {};
    }

    Status end_canary() override {
        std::lock_guard lock(datapath_->mutex_);
        end_canary_locked();
        return {};
    }

    Status set_objective(const Objective& weights) override {
        if (Status status = check_objective(weights); !status) {
            return status;
        }
        std::lock_guard lock(datapath_->mutex_);
        for (size_t i = 0; i < weights.size(); i++) {
            datapath_->objective_q16_[i] = to_q16(weights[i]);
        }
        return {};
    }

    Status deactivate() override {
        std::lock_guard lock(datapath_->mutex_);
        const uint32_t standby = datapath_->find_locked(SlotState::standby);
        const uint32_t before = datapath_->find_locked(SlotState::active);
        if (before == ADP_SLOT_NONE) {
            return {};
        }
        if (standby != ADP_SLOT_NONE) {
            datapath_->slots_[standby].state = SlotState::draining;
        }
        datapath_->slots_[before].state = SlotState::standby;
        end_canary_locked();
        return {};
    }

    Status reclaim() override {
        std::lock_guard lock(datapath_->mutex_);
        reclaim_locked();
        return {};
    }

    [[nodiscard]] std::vector<SlotInfo> slots() const override {
        std::lock_guard lock(datapath_->mutex_);
        std::vector<SlotInfo> result;
        for (uint32_t i = 0; i < ADP_SLOTS; i++) {
            const LocalDatapath::Slot& slot = datapath_->slots_[i];
            result.push_back({i, slot.state, slot.generation, slot.hash, 0, slot.params_bytes,
                              slot.state == SlotState::free ? "" : "interpreter"});
        }
        return result;
    }
    [[nodiscard]] uint32_t active_slot() const override { return find(SlotState::active); }
    [[nodiscard]] uint32_t standby_slot() const override { return find(SlotState::standby); }

    Status set_explore(uint32_t slot, uint32_t explore_q16) override {
        std::lock_guard lock(datapath_->mutex_);
        if (slot >= ADP_SLOTS) {
            return Error{fmt::format("there is no slot {}", slot)};
        }
        datapath_->slots_[slot].explore_q16 = explore_q16;
        return {};
    }

private:
    void end_canary_locked() {
        if (const uint32_t slot = datapath_->find_locked(SlotState::canary); slot != ADP_SLOT_NONE) {
            datapath_->slots_[slot].state = SlotState::draining;
        }
    }
    void reclaim_locked() {
        for (LocalDatapath::Slot& slot : datapath_->slots_) {
            if (slot.state == SlotState::draining) {
                slot = {};  // a decision under way holds its model itself
            }
        }
    }
    [[nodiscard]] uint32_t find(SlotState state) const {
        std::lock_guard lock(datapath_->mutex_);
        return datapath_->find_locked(state);
    }

    std::shared_ptr<LocalDatapath> datapath_;
};

// Also runs the flows: its thread ends with the backend.
class LocalCollector final : public Collector {
public:
    LocalCollector(std::shared_ptr<LocalDatapath> datapath, std::unique_ptr<DecisionSource> source, uint32_t period_ms)
        : datapath_(std::move(datapath)), source_(std::move(source)) {
        if (source_ != nullptr) {
            thread_ = std::thread([this, period_ms] {
                while (!stop_.wait_for(std::chrono::milliseconds(period_ms))) {
                    source_->advance(*datapath_, monotonic_us());
                }
            });
        }
    }
    ~LocalCollector() override {
        stop_.request();
        if (thread_.joinable()) {
            thread_.join();
        }
    }

    Result<size_t> collect(std::chrono::milliseconds interval, const Sink& sink) override {
        std::deque<std::vector<std::byte>> batch;
        {
            std::unique_lock lock(datapath_->mutex_);
            datapath_->changed_.wait_for(lock, interval, [this] {
                return datapath_->woken_ ||
                       (datapath_->wakeup_bytes_ != 0 && datapath_->ring_used_ >= datapath_->wakeup_bytes_);
            });
            datapath_->woken_ = false;
            batch.swap(datapath_->ring_);
            datapath_->ring_used_ = 0;
        }
        for (const std::vector<std::byte>& record : batch) {
            sink(record);
        }
        return batch.size();
    }
    void wake() override {
        {
            std::lock_guard lock(datapath_->mutex_);
            datapath_->woken_ = true;
        }
        datapath_->changed_.notify_all();
    }
    [[nodiscard]] BackendStats stats() const override {
        std::lock_guard lock(datapath_->mutex_);
        return datapath_->stats_;
    }

private:
    std::shared_ptr<LocalDatapath> datapath_;
    std::unique_ptr<DecisionSource> source_;
    StopToken stop_;
    std::thread thread_;
};

Result<LocalBackend> open_local_backend(const LocalBackendOptions& options, std::unique_ptr<DecisionSource> source) {
    LocalBackend local;
    local.datapath = std::make_shared<LocalDatapath>(options.ring_bytes, options.wakeup_bytes);
    local.backend.name = "local";
    local.backend.congestion_control = "";
    local.backend.installer = std::make_unique<LocalInstaller>(local.datapath);
    local.backend.collector = std::make_unique<LocalCollector>(local.datapath, std::move(source), options.period_ms);
    return local;
}

}  // namespace adapath
