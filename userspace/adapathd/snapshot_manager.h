// Snapshots in the daemon: checked, stored, numbered, installed, switched to, rolled back. Everything that changes a
// slot goes through here, one at a time.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "codegen/codegen.h"
#include "codegen/result.h"
#include "userspace/adapathd/app.h"
#include "userspace/adapathd/backend.h"
#include "userspace/adapathd/snapshot_store.h"

namespace adapath {

// Something that happened, for the log and for `adapathctl watch`.
struct DaemonEvent {
    uint64_t time_us = 0;  // CLOCK_MONOTONIC
    int64_t unix_us = 0;
    std::string
        kind{};  // install, refuse, canary, switch, promote, rollback, train, flow, adopt, lost, objective, error
    std::string text{};
    uint32_t generation = 0;
    std::string hash{};
    bool network_changed = false;
    bool trained = false;
    double switch_us = 0;
    uint32_t from_generation = 0;
    bool trial = false;  // a roll back that ended a trial: nothing was switched
};
using EventSink = std::function<void(DaemonEvent event)>;

struct InstallResult {
    std::string hash;
    uint32_t generation = 0;
    uint32_t slot = 0;
    bool activated = false;
    bool on_trial = false;
    double share = 0;  // of the flows, on trial
    std::string note;  // why there is no trial, where one was asked for
    bool network_changed = false;
    double check_ms = 0;
    double install_ms = 0;
    double switch_us = 0;
    uint64_t switches = 0;
};
struct SwitchResult {
    std::string hash;
    uint32_t generation = 0;  // 0 = the fallback
    double switch_us = 0;
    bool on_trial = false;
    double share = 0;
    std::string note{};     // as above
    uint64_t switches = 0;  // as above
};
struct ManagerCounters {
    uint64_t switches_parameter = 0;
    uint64_t switches_network = 0;
    uint64_t switches_trained = 0;
    uint64_t rollbacks = 0;  // ended trials among them
    uint64_t trials = 0;
    uint64_t trials_passed = 0;
    uint64_t trials_failed = 0;
    uint64_t installs_refused = 0;
    std::string last_refusal;
};
struct ActiveSnapshot {
    uint32_t generation = 0;  // 0 = the fallback
    uint32_t slot = ADP_SLOT_NONE;
    std::string hash;
    uint64_t switches = 0;      // so far, whatever to; begin and end of a trial count too
    std::string canary_hash{};  // what is on trial beside it
};
struct SnapshotOnTrial {
    uint32_t generation = 0;  // 0 = none is
    uint32_t slot = ADP_SLOT_NONE;
    std::string hash;
    uint32_t share_q16 = 0;
    bool trained = false;
};

class SnapshotManager {
public:
    struct Options {
        bool explore = true;  // training is on
        double refuse_seconds = 600;
        uint64_t store_limit_bytes = 256ULL << 20;
    };
    // What the manager asks of whoever sees the samples. Called with this manager's lock held.
    struct Hooks {
        // Recent inputs, to check a snapshot on.
        std::function<std::vector<InputCodes>()> recent;
        // Told of each switch before any sample of it can be seen: `to` decides now; `watch`: it has to prove itself.
        std::function<void(uint32_t to, bool watch, bool turn)> on_switch;
        // The share (Q16) for a trial over the flows that live now; the error says why there can be none. `asked`: by
        // an operator, who has one even where the configuration asks for none.
        std::function<Result<uint32_t>(bool asked)> plan_trial;
        // Likewise before any sample: `generation` is on trial beside what decides; 0 = none is any more.
        std::function<void(uint32_t generation)> on_trial;
        // After a restart: what `generation` earned before becomes what the next is held against. False: nothing is
        // known.
        std::function<bool(uint32_t generation)> recall;
    };

    SnapshotManager(const App& app, Installer& installer, SnapshotStore store, const Options& options, EventSink events,
                    Hooks hooks);

    // Takes over what is in the slots; ends the trial of a daemon that is gone; watches again what was under watch.
    // Call once, first.
    void adopt();
    // Where nothing decides (the kernel side is new, as after a reboot): the newest stored snapshot that was not rolled
    // back decides again. One that was under watch is watched again, or where its past is not known any more passed
    // over for one that had proved itself; one that was on trial never decides. Call after adopt().
    void restore();

    // Activated, what training asks for (`trained`) goes on trial first where that is possible; so does, with `canary`,
    // what an operator asks for. Else it decides at once. `turn`: for a few seconds, to be compared with what decides
    // now over all flows; at once too, under watch like any other.
    Result<InstallResult> install(std::string_view bytes, bool activate, bool trained, const std::string& reason,
                                  bool canary = false, bool turn = false);
    // To what is on trial: its promotion.
    Result<SwitchResult> switch_to(const std::string& hash_prefix, uint32_t generation, const std::string& reason,
                                   bool canary = false, bool turn = false);
    // To what decided before; where nothing did, to the fallback. `automatic`: the active snapshot did badly, and is
    // refused when the trainer sends it again. An operator's roll back while one is on trial ends that trial, no more.
    Result<SwitchResult> roll_back(const std::string& reason, bool automatic);
    // What is on trial has passed: it decides for all. An error where it is no longer on trial.
    Result<SwitchResult> promote(uint32_t generation, const std::string& reason);
    // What is on trial has failed: the active snapshot decides for all, and it is refused when the trainer sends it
    // again.
    Status fail_trial(uint32_t generation, const std::string& reason);
    // The active snapshot has proved itself: it is what a later roll back may return to.
    void trust(uint32_t generation);
    // Noise on (as the snapshots say) or off, for all slots.
    void set_explore(bool on);
    // Frees drained slots, if there are any. May wait for a grace period.
    void reclaim();

    // For live verification.
    Result<std::shared_ptr<const QuantModel>> model_of(uint32_t generation);
    Result<std::shared_ptr<const FloatModel>> float_model_of(uint32_t generation);
    Result<std::shared_ptr<const ImageQuantModel>> image_model_of(uint32_t generation);

    [[nodiscard]] ActiveSnapshot active() const;
    [[nodiscard]] SnapshotOnTrial on_trial() const;
    [[nodiscard]] ManagerCounters counters() const;
    [[nodiscard]] std::vector<SlotInfo> slots() const;
    struct Stored {
        std::string hash;
        std::vector<uint32_t> generations;
        std::string state;  // active, canary, standby, draining, stored
        std::string rolled_back;
    };
    [[nodiscard]] std::vector<Stored> stored() const;
    [[nodiscard]] Result<std::string> snapshot_bytes(const std::string& hash_prefix, uint32_t generation) const;

private:
    struct Known {
        std::string program_hash;
        uint32_t explore_q16 = 0;
        std::shared_ptr<const QuantModel> model;
        std::shared_ptr<const ImageQuantModel> image;  // in place of it
    };
    static Known known_of(const Snapshot& snapshot);

    Result<InstallResult> install_locked(const Snapshot& snapshot, std::string_view bytes,
                                         std::span<const InputCodes> checks);
    Result<SwitchResult> flip_locked(uint32_t slot, uint32_t generation, const std::string& hash, bool trained,
                                     bool watch, const std::string& kind, const std::string& reason, bool turn = false);
    Result<SwitchResult> activate_stored_locked(const std::string& hash, uint32_t generation, bool watch,
                                                const std::string& kind, const std::string& reason, bool turn = false);
    // The trial begins. The one before it, if any, gives way.
    Status begin_trial_locked(const InstallResult& installed, bool trained, uint32_t share_q16,
                              const std::string& reason);
    // Takes the slot off trial. `failed`: a roll back.
    Status end_trial_locked(const std::string& reason, bool failed);
    // What is said and counted of it; the installer has done so already.
    void trial_is_over_locked(const std::string& reason, bool failed);
    void mark_locked(uint32_t generation, SnapshotStore::Standing standing, uint32_t before);
    Result<InstallResult> install_stored_locked(const std::string& hash);
    Error refuse(const std::string& hash, const std::string& why);
    Known* known_locked(const std::string& hash);
    [[nodiscard]] std::vector<InputCodes> checks_for(const Snapshot& snapshot) const;
    [[nodiscard]] const SlotInfo* find_slot(const std::vector<SlotInfo>& slots, uint32_t generation) const;

    const App& app_;
    Installer& installer_;
    Options options_;
    EventSink events_;
    Hooks hooks_;

    mutable std::mutex mutex_;  // installer_, store_ and all below
    SnapshotStore store_;
    ActiveSnapshot active_;
    SnapshotOnTrial trial_;
    struct Past {
        uint32_t generation;
        std::string hash;
        bool trusted;
    };
    std::vector<Past> history_;  // what decided before the active one, newest last
    bool active_trusted_ = false;
    std::unordered_map<std::string, Known> known_;  // by hash; a bounded cache
    bool may_reclaim_ = true;
    uint64_t reclaim_after_us_ = 0;

    mutable std::mutex counters_mutex_;
    ManagerCounters counters_;
};

}  // namespace adapath
