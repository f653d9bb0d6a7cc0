// The bpf backend: snapshots in slots that the kernel reads through a shared mapping, and samples from a ring buffer.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "userspace/adapathd/backend.h"
#include "userspace/bpf_backend/answering.h"
#include "userspace/bpf_backend/bpf_backend.h"
#include "userspace/bpf_backend/cc_side.h"
#include "userspace/bpf_backend/kernel_side.h"
#include "userspace/bpf_backend/network_program.h"

namespace adapath {
namespace {

std::string reason(int err) { return std::strerror(err < 0 ? -err : err); }

uint64_t short_hash(const std::string& hex) { return std::stoull(hex.substr(0, 16), nullptr, 16); }

class BpfInstaller final : public Installer {
public:
    // With an answerer, the kernel side asks it instead of running programs: a slot then only names a generation.
    BpfInstaller(std::shared_ptr<KernelSide> side, std::shared_ptr<Answerer> answerer)
        : side_(std::move(side)), answerer_(std::move(answerer)) {
        if (answerer_) {
            // The networks went with the process that ran them: the fallback decides until one is installed again.
            __atomic_store_n(&side_->control()->active, ADP_SLOT_NONE, __ATOMIC_RELEASE);
            for (uint32_t i = 0; i < ADP_SLOTS; ++i)
                __atomic_store_n(&side_->slots()[i].generation, 0, __ATOMIC_RELEASE);
        }
        // Adoption: what an earlier daemon left. The newest generation besides the active one is what to roll back to;
        // the rest may still have readers, so it drains.
        const uint32_t active = load_active();
        const uint32_t canary = __atomic_load_n(&side_->control()->canary, __ATOMIC_ACQUIRE);
        uint32_t newest = 0;
        for (uint32_t i = 0; i < ADP_SLOTS; ++i) {
            const uint32_t generation = side_->slots()[i].generation;
            if (generation == 0) continue;
            state_[i] = i == active ? SlotState::active : i == canary ? SlotState::canary : SlotState::draining;
            if (i != active && i != canary && generation > newest) {
                newest = generation;
                standby_ = i;
            }
        }
        if (standby_ != ADP_SLOT_NONE) state_[standby_] = SlotState::standby;
        // Killed in the middle of a promotion: it decides for all already.
        if (in_state(SlotState::canary) == ADP_SLOT_NONE) end_canary_locked();
    }

    Result<uint32_t> install(const Snapshot& snapshot, uint32_t generation,
                             std::span<const InputCodes> checks) override {
        std::lock_guard lock(mutex_);
        Result<std::vector<uint8_t>> params = pack(snapshot.model);
        if (!params) return params.error();
        if (params->size() > ADP_PARAMS_BYTES)
            return Error{fmt::format("{} bytes of parameters, a slot holds {}", params->size(), ADP_PARAMS_BYTES)};
        NetworkProgram* program = nullptr;
        if (answerer_) {
            if (Status status = answerer_->learn(generation, snapshot); !status) return status.error();
        } else {
            Result<NetworkProgram*> checked = checked_program(snapshot, *params, checks);
            if (!checked) return checked.error();
            program = *checked;
        }

        uint32_t slot = find_free(snapshot.program_hash);
        if (slot == ADP_SLOT_NONE) {
            if (Status status = reclaim_locked(); !status) return status.error();
            slot = find_free(snapshot.program_hash);
        }
        if (slot == ADP_SLOT_NONE) return Error{"no free slot: flows are still bound to every old snapshot"};

        // Empty until it is complete: a daemon that is killed in between leaves nothing that the next one could take
        // for the snapshot that was here before.
        __atomic_store_n(&side_->slots()[slot].generation, 0, __ATOMIC_RELEASE);
        if (program != nullptr && slot_program_[slot] != snapshot.program_hash) {
            const int fd = program->fd();
            if (bpf_map_update_elem(side_->nets_map.get(), &slot, &fd, BPF_ANY) != 0)
                return Error{fmt::format("putting the program into slot {}: {}", slot, reason(errno))};
            slot_program_[slot] = snapshot.program_hash;
        }
        struct adp_slot& target = side_->slots()[slot];
        std::memcpy(target.params, params->data(), params->size());
        target.params_bytes = static_cast<uint32_t>(params->size());
        target.explore_q16 = static_cast<uint32_t>(std::lround(std::clamp(snapshot.explore, 0.0F, 1.0F) * 65536));
        target.hash = short_hash(snapshot.hash);
        __atomic_store_n(&target.generation, generation, __ATOMIC_RELEASE);
        // Installed, not yet anybody's: it drains (and is freed) unless it is switched to before the next but one
        // reclaim.
        state_[slot] = SlotState::standby;
        prepared_[slot] = true;
        forget_unused_programs();
        return slot;
    }

    Status switch_to(uint32_t slot) override {
        std::lock_guard lock(mutex_);
        if (slot >= ADP_SLOTS || side_->slots()[slot].generation == 0)
            return Error{fmt::format("slot {} holds no snapshot", slot)};
        if (state_[slot] == SlotState::free || (state_[slot] == SlotState::draining && !prepared_[slot]))
            return Error{
                fmt::format("slot {} is free or draining and may be reused: install its snapshot again", slot)};
        const uint32_t active = load_active();
        if (slot == active) return {};
        // Pairs with the address dependency in slot_for() of bpf/cc.bpf.c: whoever sees the index sees the slot's
        // contents.
        __atomic_store_n(&side_->control()->active, slot, __ATOMIC_RELEASE);
        if (standby_ != ADP_SLOT_NONE && standby_ != slot) state_[standby_] = SlotState::draining;
        standby_ = active;
        if (active != ADP_SLOT_NONE) state_[active] = SlotState::standby;
        state_[slot] = SlotState::active;
        // After the switch: were it the slot on trial, its flows would go back for a moment.
        end_canary_locked();
        prepared_[slot] = false;
        return {};
    }

    Status set_canary(uint32_t slot, double share) override {
        if (Status status = check_share(share); !status) return status;
        std::lock_guard lock(mutex_);
        if (side_->control()->flow_consistency != 0)
            return Error{"with consistency \"flow\" no snapshot is ever on trial: a flow keeps the one it began with"};
        if (slot >= ADP_SLOTS || side_->slots()[slot].generation == 0)
            return Error{fmt::format("slot {} holds no snapshot", slot)};
        if (state_[slot] != SlotState::canary && (state_[slot] != SlotState::standby || !prepared_[slot]))
            return Error{fmt::format("slot {}: only what was installed and never switched to goes on trial", slot)};
        const uint32_t before = in_state(SlotState::canary);
        if (before != ADP_SLOT_NONE && before != slot)
            return Error{fmt::format("slot {} is on trial: end that first", before)};
        if (load_active() == ADP_SLOT_NONE) return Error{"no snapshot is active, beside which one could be on trial"};
        __atomic_store_n(&side_->control()->canary_share_q16, to_q16(share), __ATOMIC_RELEASE);
        // Pairs with the address dependency in slot_for(), as the switch does.
        __atomic_store_n(&side_->control()->canary, slot, __ATOMIC_RELEASE);
        state_[slot] = SlotState::canary;
        prepared_[slot] = false;
        return {};
    }

    Status end_canary() override {
        std::lock_guard lock(mutex_);
        end_canary_locked();
        return {};
    }

    Status set_objective(const Objective& weights) override {
        if (Status status = check_objective(weights); !status) return status;
        std::lock_guard lock(mutex_);
        // Each weight by itself: a decision may see the old value of one and the new of another.
        for (size_t i = 0; i < weights.size(); ++i)
            __atomic_store_n(&side_->control()->objective[i], to_q16(weights[i]), __ATOMIC_RELAXED);
        return {};
    }

    Status deactivate() override {
        std::lock_guard lock(mutex_);
        const uint32_t active = load_active();
        if (active == ADP_SLOT_NONE) return {};
        __atomic_store_n(&side_->control()->active, ADP_SLOT_NONE, __ATOMIC_RELEASE);
        if (standby_ != ADP_SLOT_NONE) state_[standby_] = SlotState::draining;
        standby_ = active;
        state_[active] = SlotState::standby;
        end_canary_locked();
        return {};
    }

    Status reclaim() override {
        std::lock_guard lock(mutex_);
        return reclaim_locked();
    }

    std::vector<SlotInfo> slots() const override {
        std::lock_guard lock(mutex_);
        std::vector<SlotInfo> infos;
        for (uint32_t i = 0; i < ADP_SLOTS; ++i) {
            const struct adp_slot& slot = side_->slots()[i];
            const bool free = state_[i] == SlotState::free;
            infos.push_back({i, state_[i], free ? 0 : slot.generation, slot.hash,
                             __atomic_load_n(&slot.bound, __ATOMIC_RELAXED), slot.params_bytes,
                             free        ? ""
                             : answerer_ ? "float"
                                         : "bpf"});
        }
        return infos;
    }
    uint32_t active_slot() const override { return load_active(); }
    uint32_t standby_slot() const override {
        std::lock_guard lock(mutex_);
        return standby_;
    }
    Status set_explore(uint32_t slot, uint32_t explore_q16) override {
        std::lock_guard lock(mutex_);
        if (slot >= ADP_SLOTS || side_->slots()[slot].generation == 0)
            return Error{fmt::format("slot {} holds no snapshot", slot)};
        // One aligned word, and every sample records the strength that it was made with.
        __atomic_store_n(&side_->slots()[slot].explore_q16, explore_q16, __ATOMIC_RELAXED);
        return {};
    }

private:
    [[nodiscard]] uint32_t load_active() const { return __atomic_load_n(&side_->control()->active, __ATOMIC_ACQUIRE); }

    [[nodiscard]] uint32_t in_state(SlotState state) const {
        for (uint32_t i = 0; i < ADP_SLOTS; ++i)
            if (state_[i] == state) return i;
        return ADP_SLOT_NONE;
    }

    // Decisions that have begun with the slot end with it: it drains, and is written to after a grace period only.
    void end_canary_locked() {
        __atomic_store_n(&side_->control()->canary, ADP_SLOT_NONE, __ATOMIC_RELEASE);
        if (const uint32_t slot = in_state(SlotState::canary); slot != ADP_SLOT_NONE)
            state_[slot] = SlotState::draining;
    }

    // The network's program, loaded if it is new here, after it has passed its check on these parameters.
    Result<NetworkProgram*> checked_program(const Snapshot& snapshot, std::span<const uint8_t> params,
                                            std::span<const InputCodes> checks) {
        auto program = programs_.find(snapshot.program_hash);
        if (program == programs_.end()) {
            auto loaded = NetworkProgram::load(*side_, snapshot.bpf_object);
            if (!loaded) return loaded.error();
            // Not kept before it has passed its check: a bad object must not stay behind under a good hash.
            if (Status status = (*loaded)->check(snapshot.model, params, checks); !status) return status.error();
            program = programs_.emplace(snapshot.program_hash, std::move(*loaded)).first;
        } else if (Status status = program->second->check(snapshot.model, params, checks); !status) {
            return status.error();
        }
        return program->second.get();
    }

    // Prefers a slot whose program is already the right one: then nothing but memory is written.
    [[nodiscard]] uint32_t find_free(const std::string& program_hash) const {
        uint32_t any = ADP_SLOT_NONE;
        for (uint32_t i = 0; i < ADP_SLOTS; ++i) {
            if (state_[i] != SlotState::free) continue;
            if (slot_program_[i] == program_hash) return i;
            if (any == ADP_SLOT_NONE) any = i;
        }
        return any;
    }

    Status reclaim_locked() {
        std::array<bool, ADP_SLOTS> waiting = {};
        bool any = false;
        for (uint32_t i = 0; i < ADP_SLOTS; ++i) {
            // Prepared but never switched to, and another install came: given up.
            if (state_[i] == SlotState::standby && i != standby_ && ++prepared_age_[i] > 2)
                state_[i] = SlotState::draining;
            waiting[i] = state_[i] == SlotState::draining;
            any = any || waiting[i];
        }
        if (!any) return {};
        // After this no decision that loaded one of these indices before its switch is still running, and each flow
        // that bound itself to one has been counted in `bound`.
        if (Status status = side_->wait_for_readers(); !status) return status;
        for (uint32_t i = 0; i < ADP_SLOTS; ++i) {
            if (!waiting[i] || __atomic_load_n(&side_->slots()[i].bound, __ATOMIC_ACQUIRE) != 0) continue;
            state_[i] = SlotState::free;
            prepared_[i] = false;
            prepared_age_[i] = 0;
            // Empty for whoever adopts this slot too: a generation promises its whole contents.
            __atomic_store_n(&side_->slots()[i].generation, 0, __ATOMIC_RELEASE);
        }
        return {};
    }

    // A program stays loaded while a slot has it, and the newest few besides: a rollback finds it ready.
    void forget_unused_programs() {
        for (auto it = programs_.begin(); programs_.size() > ADP_SLOTS && it != programs_.end();) {
            bool used = false;
            for (const std::string& hash : slot_program_) used = used || hash == it->first;
            it = used ? std::next(it) : programs_.erase(it);
        }
    }

    std::shared_ptr<KernelSide> side_;
    std::shared_ptr<Answerer> answerer_;
    mutable std::mutex mutex_;
    std::array<SlotState, ADP_SLOTS> state_ = {};
    std::array<bool, ADP_SLOTS> prepared_ = {};
    std::array<uint32_t, ADP_SLOTS> prepared_age_ = {};
    std::array<std::string, ADP_SLOTS> slot_program_;
    uint32_t standby_ = ADP_SLOT_NONE;
    std::map<std::string, std::unique_ptr<NetworkProgram>> programs_;
};

class BpfCollector final : public Collector {
public:
    static Result<std::unique_ptr<BpfCollector>> open(std::shared_ptr<KernelSide> side) {
        std::unique_ptr<BpfCollector> collector(new BpfCollector(std::move(side)));
        collector->ring_ = ring_buffer__new(collector->side_->ring_map.get(), on_record, collector.get(), nullptr);
        if (collector->ring_ == nullptr) return Error{fmt::format("opening the sample ring: {}", reason(errno))};
        collector->wake_fd_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        collector->epoll_fd_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
        if (!collector->wake_fd_.valid() || !collector->epoll_fd_.valid())
            return Error{fmt::format("opening the sample ring: {}", reason(errno))};
        // Edge-triggered: the kernel side signals only past the fill mark, and a ring that merely holds something must
        // not cut the interval short.
        for (int fd : {collector->wake_fd_.get(), collector->side_->ring_map.get()}) {
            epoll_event event = {};
            event.events = EPOLLIN | EPOLLET;
            event.data.fd = fd;
            if (epoll_ctl(collector->epoll_fd_.get(), EPOLL_CTL_ADD, fd, &event) != 0)
                return Error{fmt::format("opening the sample ring: {}", reason(errno))};
        }
        return collector;
    }
    ~BpfCollector() override {
        if (ring_ != nullptr) ring_buffer__free(ring_);
    }

    Result<size_t> collect(std::chrono::milliseconds interval, const Sink& sink) override {
        wait(interval);
        sink_ = &sink;
        records_ = 0;
        const int err = ring_buffer__consume(ring_);
        sink_ = nullptr;
        if (err < 0) return Error{fmt::format("reading the sample ring: {}", reason(err))};
        return records_;
    }

    void wake() override {
        const uint64_t one = 1;
        (void)!write(wake_fd_.get(), &one, sizeof(one));
    }

    BackendStats stats() const override {
        const int cpus = libbpf_num_possible_cpus();
        BackendStats sum;
        if (cpus < 0) return sum;
        std::vector<struct adp_stats> values(static_cast<size_t>(cpus));
        const uint32_t zero = 0;
        if (bpf_map_lookup_elem(side_->stats_map.get(), &zero, values.data()) != 0) return sum;
        for (const struct adp_stats& value : values) {
            sum.decisions += value.decisions;
            sum.fallbacks += value.fallbacks;
            sum.program_missing += value.program_missing;
            sum.samples += value.samples;
            sum.samples_lost += value.samples_lost;
            sum.flows_opened += value.flows_opened;
            sum.flows_closed += value.flows_closed;
            sum.acks += value.acks;
        }
        return sum;
    }

private:
    explicit BpfCollector(std::shared_ptr<KernelSide> side) : side_(std::move(side)) {}

    static int on_record(void* self, void* data, size_t bytes) {
        auto* collector = static_cast<BpfCollector*>(self);
        (*collector->sink_)({static_cast<const std::byte*>(data), bytes});
        ++collector->records_;
        return 0;
    }

    void wait(std::chrono::milliseconds interval) {
        epoll_event event = {};
        const int ready = epoll_wait(epoll_fd_.get(), &event, 1, static_cast<int>(interval.count()));
        if (ready > 0 && event.data.fd == wake_fd_.get()) {
            uint64_t count = 0;
            (void)!read(wake_fd_.get(), &count, sizeof(count));
        }
    }

    std::shared_ptr<KernelSide> side_;
    ring_buffer* ring_ = nullptr;
    UniqueFd wake_fd_;
    UniqueFd epoll_fd_;
    const Sink* sink_ = nullptr;
    size_t records_ = 0;
};

}  // namespace

std::unique_ptr<Installer> make_bpf_installer(std::shared_ptr<KernelSide> side, std::shared_ptr<Answerer> answerer) {
    return std::make_unique<BpfInstaller>(std::move(side), std::move(answerer));
}

Result<std::unique_ptr<Collector>> open_bpf_collector(std::shared_ptr<KernelSide> side) {
    Result<std::unique_ptr<BpfCollector>> collector = BpfCollector::open(std::move(side));
    if (!collector) return collector.error();
    return std::unique_ptr<Collector>(std::move(*collector));
}

Error no_bpf_backend(const std::vector<std::string>& obstacles) {
    std::string text = "the bpf backend can't run here:";
    for (const std::string& obstacle : obstacles) text += "\n  - " + obstacle;
    return Error{text};
}

Result<Backend> open_bpf_backend(const BpfBackendOptions& options) {
    if (std::vector<std::string> obstacles = bpf_backend_obstacles(); !obstacles.empty()) {
        Error error = no_bpf_backend(obstacles);
        error.message += "\n  --backend=local runs the same loop in one process, without privileges";
        return error;
    }
    Result<std::unique_ptr<CcSide>> opened = open_cc_side(options);
    if (!opened) return opened.error();
    const std::shared_ptr<CcSide> side = std::move(*opened);
    Backend backend;
    backend.name = options.ask_userspace ? "userspace" : "bpf";
    backend.congestion_control = side->congestion_control;
    backend.adopted = side->adopted;
    backend.flow_consistency = side->control()->flow_consistency != 0;
    backend.warnings = side->warnings;
    const std::shared_ptr<Answerer> answerer =
        options.ask_userspace ? std::make_shared<Answerer>(side->answers()) : nullptr;
    backend.installer = make_bpf_installer(side, answerer);
    Result<std::unique_ptr<Collector>> collector = open_bpf_collector(side);
    if (!collector) return collector.error();
    backend.collector = std::move(*collector);
    if (answerer) {
        Result<std::unique_ptr<Collector>> answering =
            answering_collector(std::move(backend.collector), side->ring_map.get(), answerer, options.wakeup_bytes);
        if (!answering) return answering.error();
        backend.collector = std::move(*answering);
    }
    return backend;
}

}  // namespace adapath
