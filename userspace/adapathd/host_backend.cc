// See host_backend.h. The memory orders' pairs are in include/adapath/host.h.
#include "userspace/adapathd/host_backend.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <string.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "userspace/common/clock.h"
#include "userspace/common/file.h"
#include "userspace/common/text.h"
#include "userspace/host/atomics.h"

namespace adapath {
namespace {

// How long an install waits for a slot when readers hold all of them: a decision takes milliseconds.
constexpr uint64_t kSlotWaitUs = 2'000'000;
constexpr uint64_t kLookForDeadUs = 1'000'000;

// What installer and collector share. The mutex guards slots and entries against each other's threads; other processes
// it does not concern.
struct HostState {
    std::unique_ptr<HostMemory> memory;
    std::mutex mutex;

    [[nodiscard]] SlotState state(uint32_t i) const { return static_cast<SlotState>(memory->slot(i).state); }
    void set_state(uint32_t i, SlotState state) {
        memory->slot_to_write(i).state = static_cast<uint32_t>(state);
        if (state != SlotState::standby) {
            memory->slot_to_write(i).prepared = 0;
        }
    }
    [[nodiscard]] uint32_t find(SlotState wanted) const {
        for (uint32_t i = 0; i < ADP_SLOTS; i++) {
            if (state(i) == wanted) {
                return i;
            }
        }
        return ADP_SLOT_NONE;
    }

    // Entries of readers that ended without a word are cleared, so that they hold nothing.
    void clear_dead_locked() {
        for (uint32_t i = 0; i < ADP_HOST_READERS; i++) {
            if (load_acquire(memory->reader(i).live) == 0) {
                continue;
            }
            // Whoever gets the lock has the entry to itself: its reader is gone, and no other can come in.
            Result<bool> mine = memory->lock(HostMemory::reader_lock(i));
            if (mine && *mine) {
                memory->clear_dead(i);
                memory->unlock(HostMemory::reader_lock(i));
            }
        }
    }
    [[nodiscard]] uint32_t holders(uint32_t slot) const {
        uint32_t count = 0;
        for (uint32_t i = 0; i < ADP_HOST_READERS; i++) {
            // Acquire, against the reader's release when it is done: its reads come before our next write.
            count += load_acquire(memory->reader(i).held) == slot + 1 ? 1 : 0;
        }
        return count;
    }
    // Drained slots become free.
    void reclaim_locked() {
        clear_dead_locked();
        // Between the switch's store of `active` and the looks at `held`: see host.h.
        fence_seq_cst();
        for (uint32_t i = 0; i < ADP_SLOTS; i++) {
            if (state(i) == SlotState::draining && holders(i) == 0) {
                adp_host_slot& slot = memory->slot_to_write(i);
                store_release(slot.slot.generation, 0U);
                set_state(i, SlotState::free);
            }
        }
    }
};

// A daemon that was killed may have left any two neighbouring steps of a change undone.
void adopt(HostState& state) {
    const uint32_t active = load_acquire(state.memory->control().active);
    uint32_t standby = ADP_SLOT_NONE;
    // What says active and is not has just been switched away from: it is what one rolls back to.
    for (const SlotState wanted : {SlotState::active, SlotState::standby}) {
        for (uint32_t i = 0; i < ADP_SLOTS && standby == ADP_SLOT_NONE; i++) {
            if (i != active && state.state(i) == wanted && state.memory->slot(i).slot.generation != 0) {
                standby = i;
            }
        }
    }
    for (uint32_t i = 0; i < ADP_SLOTS; i++) {
        const bool empty = state.memory->slot(i).slot.generation == 0;
        state.set_state(i, empty          ? SlotState::free
                           : i == active  ? SlotState::active
                           : i == standby ? SlotState::standby
                                          : SlotState::draining);
    }
    // An index without a snapshot: nothing of ours leaves that behind, but nobody may decide by it.
    if (active != ADP_SLOT_NONE && (active >= ADP_SLOTS || state.memory->slot(active).slot.generation == 0)) {
        store_release(state.memory->control_to_write().active, ADP_SLOT_NONE);
    }
}

// The block that readers will see, held to the model that was checked: read back and run on every probe.
Result<std::vector<uint8_t>> packed_and_checked(const ImageSnapshot& image) {
    std::vector<uint8_t> params = pack(image.model);
    Result<ImageQuantModel> back = unpack(image.model.network, params);
    if (!back) {
        return back.error();
    }
    for (size_t i = 0; i < image.probes.size(); i++) {
        if (interpret(*back, image.probes[i]) != interpret(image.model, image.probes[i])) {
            return Error{fmt::format("packed and read back, the parameters give something else for probe {}", i)};
        }
    }
    return params;
}

class HostInstaller final : public Installer {
public:
    explicit HostInstaller(std::shared_ptr<HostState> state) : state_(std::move(state)) {}

    Result<uint32_t> install(const Snapshot& snapshot, uint32_t generation, std::span<const InputCodes>) override {
        if (!snapshot.image) {
            return Error{"backend host runs image networks, this snapshot holds a dense one"};
        }
        const std::string network = serialise(snapshot.image->model.network);
        if (network.size() > ADP_HOST_NETWORK_BYTES) {
            return Error{
                fmt::format("the network's description has {} bytes, {} fit", network.size(), ADP_HOST_NETWORK_BYTES)};
        }
        Result<std::vector<uint8_t>> params = packed_and_checked(*snapshot.image);
        if (!params) {
            return params.error();
        }
        std::unique_lock lock(state_->mutex);
        const uint64_t until_us = monotonic_us() + kSlotWaitUs;
        uint32_t number = state_->find(SlotState::free);
        while (number == ADP_SLOT_NONE) {
            state_->reclaim_locked();
            number = state_->find(SlotState::free);
            if (number == ADP_SLOT_NONE && monotonic_us() >= until_us) {
                return Error{fmt::format("every slot is in use, and readers hold those that are to be free: {}",
                                         holders_text())};
            }
            if (number == ADP_SLOT_NONE) {
                lock.unlock();
                std::this_thread::sleep_for(std::chrono::milliseconds(2));
                lock.lock();
            }
        }
        write(number, snapshot, generation, network, *params);
        if (const uint32_t standby = state_->find(SlotState::standby); standby != ADP_SLOT_NONE) {
            state_->set_state(standby, SlotState::draining);
        }
        state_->set_state(number, SlotState::standby);
        state_->memory->slot_to_write(number).prepared = 1;
        return number;
    }

    Status switch_to(uint32_t slot) override {
        std::lock_guard lock(state_->mutex);
        if (slot >= ADP_SLOTS || state_->memory->slot(slot).slot.generation == 0 ||
            (state_->state(slot) != SlotState::standby && state_->state(slot) != SlotState::active)) {
            return Error{fmt::format("slot {} holds no snapshot that could be switched to", slot)};
        }
        const uint32_t before = state_->find(SlotState::active);
        if (before == slot) {
            return {};
        }
        // Release: who sees the index sees what was written to the slot.
        store_release(state_->memory->control_to_write().active, slot);
        if (const uint32_t standby = state_->find(SlotState::standby); standby != slot && standby != ADP_SLOT_NONE) {
            state_->set_state(standby, SlotState::draining);
        }
        state_->set_state(slot, SlotState::active);
        if (before != ADP_SLOT_NONE) {
            state_->set_state(before, SlotState::standby);
        }
        return {};
    }

    Status set_canary(uint32_t, double) override {
        return Error{"backend host has no trials: the active snapshot decides for all readers"};
    }
    Status end_canary() override { return {}; }

    Status set_objective(const Objective& weights) override {
        if (Status status = check_objective(weights); !status) {
            return status;
        }
        std::lock_guard lock(state_->mutex);
        for (size_t i = 0; i < weights.size(); i++) {
            store_relaxed(state_->memory->control_to_write().objective[i], to_q16(weights[i]));
        }
        return {};
    }

    Status deactivate() override {
        std::lock_guard lock(state_->mutex);
        const uint32_t before = state_->find(SlotState::active);
        if (before == ADP_SLOT_NONE) {
            return {};
        }
        store_release(state_->memory->control_to_write().active, ADP_SLOT_NONE);
        if (const uint32_t standby = state_->find(SlotState::standby); standby != ADP_SLOT_NONE) {
            state_->set_state(standby, SlotState::draining);
        }
        state_->set_state(before, SlotState::standby);
        return {};
    }

    Status reclaim() override {
        std::lock_guard lock(state_->mutex);
        state_->reclaim_locked();
        return {};
    }

    [[nodiscard]] std::vector<SlotInfo> slots() const override {
        std::lock_guard lock(state_->mutex);
        std::vector<SlotInfo> result;
        for (uint32_t i = 0; i < ADP_SLOTS; i++) {
            const adp_slot& slot = state_->memory->slot(i).slot;
            const bool empty = state_->state(i) == SlotState::free;
            result.push_back({i, state_->state(i), slot.generation, empty ? 0 : slot.hash, state_->holders(i),
                              empty ? 0 : slot.params_bytes, empty ? "" : "image"});
        }
        return result;
    }
    [[nodiscard]] uint32_t active_slot() const override { return find(SlotState::active); }
    [[nodiscard]] uint32_t standby_slot() const override { return find(SlotState::standby); }

    Status set_explore(uint32_t slot, uint32_t explore_q16) override {
        if (slot >= ADP_SLOTS) {
            return Error{fmt::format("there is no slot {}", slot)};
        }
        std::lock_guard lock(state_->mutex);
        store_relaxed(state_->memory->slot_to_write(slot).slot.explore_q16, explore_q16);
        return {};
    }

private:
    // Nobody can hold a free slot. Its generation comes last: a daemon that is killed before that leaves it free.
    void write(uint32_t number, const Snapshot& snapshot, uint32_t generation, const std::string& network,
               const std::vector<uint8_t>& params) {
        adp_host_slot& slot = state_->memory->slot_to_write(number);
        store_release(slot.slot.generation, 0U);
        slot.slot.params_bytes = static_cast<uint32_t>(params.size());
        slot.slot.explore_q16 = 0;
        slot.slot.hash = hash_prefix(snapshot.hash);
        slot.slot.bound = 0;
        memcpy(slot.slot.params, params.data(), params.size());
        slot.network_bytes = static_cast<uint32_t>(network.size());
        memcpy(slot.network, network.data(), network.size());
        store_release(slot.slot.generation, generation);
    }

    [[nodiscard]] std::string holders_text() const {
        std::string text;
        for (uint32_t i = 0; i < ADP_HOST_READERS; i++) {
            const adp_host_reader& reader = state_->memory->reader(i);
            if (load_relaxed(reader.live) != 0 && load_relaxed(reader.held) != 0) {
                text += fmt::format("{}pid {} slot {}", text.empty() ? "" : ", ", load_relaxed(reader.pid),
                                    load_relaxed(reader.held) - 1);
            }
        }
        return text.empty() ? "none of them says so" : text;
    }

    [[nodiscard]] uint32_t find(SlotState state) const {
        std::lock_guard lock(state_->mutex);
        return state_->find(state);
    }

    std::shared_ptr<HostState> state_;
};

class HostCollector final : public Collector {
public:
    HostCollector(std::shared_ptr<HostState> state, uint32_t record_bytes)
        : state_(std::move(state)), record_(record_bytes) {}

    Result<size_t> collect(std::chrono::milliseconds interval, const Sink& sink) override {
        {
            std::unique_lock lock(wake_mutex_);
            wake_changed_.wait_for(lock, interval, [this] { return woken_; });
            woken_ = false;
        }
        size_t records = 0;
        for (uint32_t i = 0; i < ADP_HOST_READERS; i++) {
            records += drain(i, sink);
        }
        if (const uint64_t now_us = monotonic_us(); now_us - looked_us_ >= kLookForDeadUs) {
            looked_us_ = now_us;
            std::lock_guard lock(state_->mutex);
            state_->clear_dead_locked();
        }
        return records;
    }

    void wake() override {
        {
            std::lock_guard lock(wake_mutex_);
            woken_ = true;
        }
        wake_changed_.notify_all();
    }

    [[nodiscard]] BackendStats stats() const override {
        BackendStats stats;
        for (uint32_t i = 0; i < ADP_HOST_READERS; i++) {
            const adp_host_reader& reader = state_->memory->reader(i);
            stats.decisions += load_relaxed(reader.decisions);
            stats.fallbacks += load_relaxed(reader.fallbacks);
            stats.program_missing += load_relaxed(reader.program_missing);
            stats.samples += load_relaxed(reader.head);
            stats.samples_lost += load_relaxed(reader.lost);
            stats.flows_opened += load_relaxed(reader.opened);
            stats.flows_closed += load_relaxed(reader.closed);
        }
        stats.samples_lost += damaged_;
        return stats;
    }

private:
    // A dead reader's ring too: what it put is whole.
    size_t drain(uint32_t number, const Sink& sink) {
        adp_host_reader& reader = state_->memory->reader(number);
        // Acquire, against the reader's release of `head`: the records are there.
        const uint64_t head = load_acquire(reader.head);
        uint64_t tail = load_relaxed(reader.tail);
        if (head == tail) {
            return 0;
        }
        if (head - tail > ADP_HOST_RING) {
            // No reader of ours counts so. What is in the ring is anybody's guess: begin again.
            damaged_ += ADP_HOST_RING;
            store_release(reader.tail, head);
            return 0;
        }
        size_t records = 0;
        for (; tail != head; tail++) {
            memcpy(record_.data(), state_->memory->record(number, tail), record_.size());
            // Release, against the reader's acquire: its place may be written again.
            store_release(reader.tail, tail + 1);
            sink(record_);
            records++;
        }
        return records;
    }

    std::shared_ptr<HostState> state_;
    std::vector<std::byte> record_;
    std::mutex wake_mutex_;
    std::condition_variable wake_changed_;
    bool woken_ = false;
    uint64_t looked_us_ = 0;
    std::atomic<uint64_t> damaged_{0};
};

}  // namespace

Result<Backend> open_host_backend(const HostBackendOptions& options) {
    if (Status status = make_directories(options.directory); !status) {
        return status.error();
    }
    auto state = std::make_shared<HostState>();
    bool adopted = true;
    // Twice: the first finds nothing to open.
    for (int attempt = 0; state->memory == nullptr; attempt++) {
        bool missing = false;
        Result<std::unique_ptr<HostMemory>> opened = HostMemory::open(options.directory, options.app, true, &missing);
        if (opened) {
            state->memory = std::move(*opened);
        } else if (!missing || attempt > 0) {
            return opened.error();
        } else if (Status status = HostMemory::create(options.directory, options.app, options.group); !status) {
            return status.error();
        } else {
            adopted = false;
        }
    }
    Result<bool> mine = state->memory->lock(HostMemory::daemon_lock());
    if (!mine) {
        return mine.error();
    }
    if (!*mine || state->memory->replaced()) {
        return Error{fmt::format(
            "another adapathd already serves {}: stop it first, or give this one a host_directory of its own",
            options.directory)};
    }
    adopt(*state);
    Backend backend;
    backend.name = "host";
    backend.adopted = adopted;
    backend.installer = std::make_unique<HostInstaller>(state);
    backend.collector = std::make_unique<HostCollector>(state, options.app.record_bytes);
    return backend;
}

Status remove_host_backend(const std::string& directory) {
    const std::string path = HostMemory::path_in(directory);
    // Whatever is in it: this is how one gets rid of a file that nobody can read.
    UniqueFd fd(open(path.c_str(), O_RDWR | O_CLOEXEC));
    if (!fd.valid()) {
        return errno == ENOENT ? Error{fmt::format("{}: there is nothing to remove", path)} : Error{errno_text(path)};
    }
    struct flock lock{};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = HostMemory::daemon_lock();
    lock.l_len = 1;
    if (fcntl(fd.get(), F_OFD_SETLK, &lock) != 0) {
        return Error{fmt::format("an adapathd still serves {}: stop it first", directory)};
    }
    if (unlink(path.c_str()) != 0) {
        return Error{errno_text(path)};
    }
    (void)rmdir(directory.c_str());  // where it is empty
    return {};
}

}  // namespace adapath
