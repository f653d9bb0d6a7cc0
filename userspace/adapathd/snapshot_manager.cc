// See snapshot_manager.h.
#include "userspace/adapathd/snapshot_manager.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <set>

#include "userspace/common/clock.h"
#include "userspace/common/text.h"

namespace adapath {
namespace {

constexpr size_t kHistory = 16;
constexpr size_t kKnown = 64;
constexpr size_t kRandomChecks = 32;

double ms_since(uint64_t begin_ns) { return static_cast<double>(monotonic_ns() - begin_ns) / 1e6; }

uint32_t explore_q16(float explore) {
    return static_cast<uint32_t>(std::lround(std::clamp(explore, 0.0F, 1.0F) * 65536.0F));
}

std::string name_of(uint32_t generation, const std::string& hash) {
    return generation == 0 ? std::string("the fallback")
                           : fmt::format("generation {} ({})", generation, short_hash(hash));
}

}  // namespace

SnapshotManager::SnapshotManager(const App& app, Installer& installer, SnapshotStore store, const Options& options,
                                 EventSink events, Hooks hooks)
    : app_(app),
      installer_(installer),
      options_(options),
      events_(std::move(events)),
      hooks_(std::move(hooks)),
      store_(std::move(store)) {}

void SnapshotManager::adopt() {
    std::lock_guard lock(mutex_);
    uint32_t highest = 0;
    SnapshotOnTrial left;  // by a daemon that is gone
    for (const SlotInfo& slot : installer_.slots()) {
        if (slot.generation == 0 || slot.state == SlotState::free) {
            continue;
        }
        highest = std::max(highest, slot.generation);
        const std::string hash = store_.hash_of(slot.generation);
        const bool active = slot.state == SlotState::active;
        if (hash.empty() || hash_prefix(hash) != slot.hash) {
            events_(
                {.kind = "error",
                 .text = fmt::format(
                     "slot {} holds generation {} (snapshot {}...), which the journal of this state directory {}: it "
                     "goes on "
                     "deciding, but its decisions can't be explained. Start with the state directory that installed "
                     "it, or install a snapshot",
                     slot.slot, slot.generation, hash_prefix_text(slot.hash),
                     hash.empty() ? "does not know" : "has as " + short_hash(hash)),
                 .generation = slot.generation});
        } else {
            events_({.kind = "adopt",
                     .text = fmt::format("slot {} holds {}{}", slot.slot, name_of(slot.generation, hash),
                                         active                            ? ", active"
                                         : slot.state == SlotState::canary ? ", on trial"
                                                                           : ""),
                     .generation = slot.generation,
                     .hash = hash});
        }
        if (active) {
            active_ = {slot.generation, slot.slot, hash, 0};
            active_trusted_ = true;
        } else if (slot.state == SlotState::canary) {
            left = {slot.generation, slot.slot, hash, 0, false};
        } else if (slot.state == SlotState::standby && !hash.empty() && store_.bad(hash) == nullptr) {
            history_.push_back({slot.generation, hash, true});
        }
    }
    store_.continue_after(highest);
    for (const SlotInfo& slot : installer_.slots()) {
        const std::string hash = store_.hash_of(slot.generation);
        if (slot.state != SlotState::free && slot.generation != 0 && !hash.empty()) {
            if (Known* known = known_locked(hash)) {
                (void)installer_.set_explore(slot.slot, options_.explore ? known->explore_q16 : 0);
            }
        }
    }
    if (left.generation != 0) {
        // What its flows earned meanwhile nobody compared, and the one that began it may have been killed by it.
        trial_ = left;
        if (Status status = end_trial_locked("its daemon is gone, and nobody has judged it", true); !status) {
            events_({.kind = "error", .text = status.error().message});
        }
    }
    const SnapshotStore::Mark mark = store_.mark_of(active_.generation);
    const bool watch = active_.generation != 0 && mark.standing == SnapshotStore::Standing::watched;
    if (watch && hooks_.recall(mark.before)) {
        active_trusted_ = false;
        events_(
            {.kind = "adopt",
             .text = fmt::format("{} was under watch when the last daemon ended, and is again, against generation {}",
                                 name_of(active_.generation, active_.hash), mark.before),
             .generation = active_.generation,
             .hash = active_.hash});
    } else if (watch) {
        events_({.kind = "adopt",
                 .text = fmt::format(
                     "{} was under watch when the last daemon ended; the log holds no rewards of generation "
                     "{} to hold it against",
                     name_of(active_.generation, active_.hash), mark.before),
                 .generation = active_.generation,
                 .hash = active_.hash});
    }
    hooks_.on_switch(active_.generation, !active_trusted_, false);
}

void SnapshotManager::mark_locked(uint32_t generation, SnapshotStore::Standing standing, uint32_t before) {
    if (Status status = store_.mark(generation, standing, before); !status) {
        events_({.kind = "error", .text = status.error().message});
    }
}

Status SnapshotManager::begin_trial_locked(const InstallResult& installed, bool trained, uint32_t share_q16,
                                           const std::string& reason) {
    if (trial_.generation != 0) {
        const std::string why = fmt::format("{} takes its place", name_of(installed.generation, installed.hash));
        if (Status status = end_trial_locked(why, false); !status) {
            return status;
        }
    }
    // In the journal before it decides for anybody: after a kill it is never taken for one that had proved itself.
    mark_locked(installed.generation, SnapshotStore::Standing::on_trial, active_.generation);
    hooks_.on_trial(installed.generation);
    if (Status status = installer_.set_canary(installed.slot, share_q16 / 65536.0); !status) {
        hooks_.on_trial(0);
        return status;
    }
    trial_ = {installed.generation, installed.slot, installed.hash, share_q16, trained};
    active_.switches++;
    {
        std::lock_guard lock(counters_mutex_);
        counters_.trials++;
    }
    events_({.kind = "canary",
             .text = fmt::format("{} is on trial for {:.0f} % of the flows, beside {}{}{}",
                                 name_of(installed.generation, installed.hash), 100.0 * share_q16 / 65536,
                                 name_of(active_.generation, active_.hash), reason.empty() ? "" : ": ", reason),
             .generation = installed.generation,
             .hash = installed.hash,
             .network_changed = installed.network_changed,
             .trained = trained,
             .from_generation = active_.generation,
             .trial = true});
    return {};
}

Status SnapshotManager::end_trial_locked(const std::string& reason, bool failed) {
    if (Status status = installer_.end_canary(); !status) {
        return status;
    }
    trial_is_over_locked(reason, failed);
    return {};
}

void SnapshotManager::trial_is_over_locked(const std::string& reason, bool failed) {
    const SnapshotOnTrial over = trial_;
    trial_ = {};
    active_.switches++;
    may_reclaim_ = true;
    reclaim_after_us_ = 0;
    mark_locked(over.generation, SnapshotStore::Standing::ended, active_.generation);
    hooks_.on_trial(0);
    if (failed) {
        std::lock_guard lock(counters_mutex_);
        counters_.trials_failed++;
        counters_.rollbacks++;
    }
    events_({.kind = failed ? "rollback" : "canary",
             .text = fmt::format("{} from its trial, {} decides for all: {}",
                                 failed ? fmt::format("rolled {} back", name_of(over.generation, over.hash))
                                        : fmt::format("took {}", name_of(over.generation, over.hash)),
                                 name_of(active_.generation, active_.hash), reason),
             .generation = active_.generation,
             .hash = active_.hash,
             .trained = over.trained,
             .from_generation = over.generation,
             .trial = true});
}

Error SnapshotManager::refuse(const std::string& hash, const std::string& why) {
    {
        std::lock_guard lock(counters_mutex_);
        counters_.installs_refused++;
        counters_.last_refusal = why;
    }
    events_({.kind = "refuse", .text = why, .hash = hash});
    return Error{why};
}

// The snapshot's own probes, what flows brought lately, and the corners, where overflows and off-by-ones live.
std::vector<InputCodes> SnapshotManager::checks_for(const Snapshot& snapshot) const {
    const size_t inputs = app_.input_count();
    std::vector<InputCodes> checks;
    if (snapshot.image) {
        return checks;  // who runs image networks checks them on pictures
    }
    for (const InputCodes& probe : snapshot.probes) {
        if (probe.size() == inputs) {
            checks.push_back(probe);
        }
    }
    for (InputCodes& input : hooks_.recent()) {
        checks.push_back(std::move(input));
    }
    checks.emplace_back(inputs, uint8_t{0});
    checks.emplace_back(inputs, uint8_t{255});
    checks.emplace_back(inputs, uint8_t{128});
    InputCodes odd(inputs);
    InputCodes even(inputs);
    for (size_t i = 0; i < inputs; i++) {
        odd[i] = i % 2 != 0 ? 255 : 0;
        even[i] = i % 2 != 0 ? 0 : 255;
    }
    checks.push_back(odd);
    checks.push_back(even);
    std::mt19937 random(1);
    for (size_t n = 0; n < kRandomChecks; n++) {
        InputCodes codes(inputs);
        for (uint8_t& code : codes) {
            code = static_cast<uint8_t>(random());
        }
        checks.push_back(std::move(codes));
    }
    return checks;
}

SnapshotManager::Known SnapshotManager::known_of(const Snapshot& snapshot) {
    Known known{snapshot.program_hash, explore_q16(snapshot.explore), nullptr, nullptr};
    if (snapshot.image) {
        known.image = std::make_shared<const ImageQuantModel>(snapshot.image->model);
    } else {
        known.model = std::make_shared<const QuantModel>(snapshot.model);
    }
    return known;
}

SnapshotManager::Known* SnapshotManager::known_locked(const std::string& hash) {
    if (hash.empty()) {
        return nullptr;
    }
    auto found = known_.find(hash);
    if (found == known_.end()) {
        Result<Snapshot> snapshot = store_.load(hash);
        if (!snapshot) {
            return nullptr;
        }
        if (known_.size() >= kKnown) {
            known_.clear();
        }
        found = known_.emplace(hash, known_of(*snapshot)).first;
    }
    return &found->second;
}

void SnapshotManager::restore() {
    std::lock_guard lock(mutex_);
    for (const SlotInfo& slot : installer_.slots()) {
        if (slot.generation != 0) {
            return;
        }
    }
    struct Candidate {
        uint32_t generation;
        std::string hash;
        SnapshotStore::Mark mark;
    };
    std::vector<Candidate> candidates;  // the best first
    std::vector<Candidate> unproved;
    const std::map<uint32_t, std::string> generations = store_.generations();
    for (auto it = generations.rbegin(); it != generations.rend(); ++it) {
        const SnapshotStore::Mark mark = store_.mark_of(it->first);
        if (mark.standing == SnapshotStore::Standing::on_trial || mark.standing == SnapshotStore::Standing::ended ||
            store_.bad(it->second) != nullptr || !store_.bytes(it->second).ok()) {
            continue;
        }
        // Only the newest can be watched on: what the log ends with are the rewards of those two.
        const bool watched = mark.standing == SnapshotStore::Standing::watched;
        const bool known = !watched || (candidates.empty() && unproved.empty() && hooks_.recall(mark.before));
        (known ? candidates : unproved).push_back({it->first, it->second, mark});
    }
    candidates.insert(candidates.end(), unproved.begin(), unproved.end());
    for (const Candidate& candidate : candidates) {
        const bool watch = candidate.mark.standing == SnapshotStore::Standing::watched;
        // Checked like any other install; where one fails its checks, the next is tried.
        Result<SwitchResult> restored =
            activate_stored_locked(candidate.hash, candidate.generation, watch, "adopt",
                                   watch ? "the kernel side is new: what was under watch goes on, under watch"
                                         : "the kernel side is new: what decided before goes on");
        if (restored) {
            const std::string before = store_.hash_of(candidate.mark.before);
            if (watch) {
                mark_locked(restored->generation, SnapshotStore::Standing::watched, candidate.mark.before);
            }
            if (watch && !before.empty()) {
                history_.push_back({candidate.mark.before, before, true});
            }
            return;
        }
        events_({.kind = "error",
                 .text = fmt::format("restoring {}: {}", name_of(candidate.generation, candidate.hash),
                                     restored.error().message)});
    }
}

Result<std::shared_ptr<const QuantModel>> SnapshotManager::model_of(uint32_t generation) {
    std::lock_guard lock(mutex_);
    const std::string hash = store_.hash_of(generation);
    if (hash.empty()) {
        return Error{fmt::format("generation {} is not in this state directory's journal", generation)};
    }
    if (const Known* known = known_locked(hash)) {
        return known->model != nullptr ? Result<std::shared_ptr<const QuantModel>>(known->model)
                                       : Error{fmt::format("generation {} holds an image network", generation)};
    }
    Result<Snapshot> snapshot = store_.load(hash);  // once more, for the reason
    if (!snapshot) {
        return snapshot.error();
    }
    return std::make_shared<const QuantModel>(std::move(snapshot->model));
}

Result<std::shared_ptr<const ImageQuantModel>> SnapshotManager::image_model_of(uint32_t generation) {
    std::lock_guard lock(mutex_);
    const std::string hash = store_.hash_of(generation);
    if (hash.empty()) {
        return Error{fmt::format("generation {} is not in this state directory's journal", generation)};
    }
    const Known* known = known_locked(hash);
    if (known == nullptr) {
        Result<Snapshot> snapshot = store_.load(hash);  // once more, for the reason
        return snapshot ? Error{fmt::format("generation {} was being written", generation)} : snapshot.error();
    }
    if (known->image == nullptr) {
        return Error{fmt::format("generation {} holds no image network", generation)};
    }
    return known->image;
}

Result<std::shared_ptr<const FloatModel>> SnapshotManager::float_model_of(uint32_t generation) {
    std::lock_guard lock(mutex_);
    const std::string hash = store_.hash_of(generation);
    if (hash.empty()) {
        return Error{fmt::format("generation {} is not in this state directory's journal", generation)};
    }
    Result<Snapshot> snapshot = store_.load(hash);
    if (!snapshot) {
        return snapshot.error();
    }
    return std::make_shared<const FloatModel>(std::move(snapshot->reference));
}

const SlotInfo* SnapshotManager::find_slot(const std::vector<SlotInfo>& slots, uint32_t generation) const {
    for (const SlotInfo& slot : slots) {
        if (generation != 0 && slot.generation == generation &&
            (slot.state == SlotState::active || slot.state == SlotState::standby || slot.state == SlotState::canary)) {
            return &slot;
        }
    }
    return nullptr;
}

Result<InstallResult> SnapshotManager::install_locked(const Snapshot& snapshot, std::string_view bytes,
                                                      std::span<const InputCodes> checks) {
    const uint64_t begin_ns = monotonic_ns();
    const bool fresh = store_.newest_generation_of(snapshot.hash) == 0;
    if (Status status = store_.put(snapshot.hash, bytes); !status) {
        return status.error();
    }
    // In the journal before it can decide: what it decides stays explainable, wherever a kill falls.
    Result<uint32_t> generation = store_.begin_generation(snapshot.hash);
    if (!generation) {
        return generation.error();
    }
    if (known_.size() >= kKnown) {
        known_.clear();
    }
    known_[snapshot.hash] = known_of(snapshot);
    const Known* before = known_locked(active_.hash);
    InstallResult result;
    result.network_changed = before == nullptr || before->program_hash != snapshot.program_hash;
    Result<uint32_t> slot = installer_.install(snapshot, *generation, checks);
    if (slot && !options_.explore) {
        if (Status status = installer_.set_explore(*slot, 0); !status) {
            slot = status.error();
        }
    }
    if (!slot) {
        if (fresh) {
            (void)unlink(store_.path(snapshot.hash).c_str());
            known_.erase(snapshot.hash);
        }
        return slot.error();
    }
    may_reclaim_ = true;
    result.hash = snapshot.hash;
    result.generation = *generation;
    result.slot = *slot;
    result.install_ms = ms_since(begin_ns);
    return result;
}

Result<SwitchResult> SnapshotManager::flip_locked(uint32_t slot, uint32_t generation, const std::string& hash,
                                                  bool trained, bool watch, const std::string& kind,
                                                  const std::string& reason, bool turn) {
    const Known* known = known_locked(hash);
    const std::string program = known ? known->program_hash : "";
    const Known* before = known_locked(active_.hash);
    const bool network_changed =
        generation != 0 && active_.generation != 0 && (before == nullptr || before->program_hash != program);
    // Told before the flip: a sample of the new generation must find its watch armed.
    const ActiveSnapshot from = active_;
    if (generation != 0) {
        mark_locked(generation, watch ? SnapshotStore::Standing::watched : SnapshotStore::Standing::trusted,
                    from.generation);
    }
    hooks_.on_switch(generation, watch, turn);
    const uint64_t begin_ns = monotonic_ns();
    Status status = generation == 0 ? installer_.deactivate() : installer_.switch_to(slot);
    const double took_us = static_cast<double>(monotonic_ns() - begin_ns) / 1e3;
    if (!status) {
        hooks_.on_switch(from.generation, false, false);
        return status.error();
    }
    const uint64_t now_us = monotonic_us();
    if (from.generation != generation && from.generation != 0) {
        history_.push_back({from.generation, from.hash, active_trusted_});
        if (history_.size() > kHistory) {
            history_.erase(history_.begin());
        }
    }
    active_ = {generation, generation == 0 ? ADP_SLOT_NONE : slot, hash, from.switches + 1};
    active_trusted_ = !watch;
    may_reclaim_ = true;
    reclaim_after_us_ = 0;
    if (trial_.generation == generation && generation != 0) {
        trial_ = {};
        hooks_.on_trial(0);
        std::lock_guard lock(counters_mutex_);
        counters_.trials_passed++;
    } else if (trial_.generation != 0) {
        // What it was compared with decides no more: the switch has ended it.
        trial_is_over_locked(fmt::format("{} was switched to", name_of(generation, hash)), false);
    }
    {
        std::lock_guard lock(counters_mutex_);
        (network_changed ? counters_.switches_network : counters_.switches_parameter)++;
        counters_.switches_trained += trained ? 1 : 0;
        counters_.rollbacks += kind == "rollback" ? 1 : 0;
    }
    events_({.time_us = now_us,
             .kind = kind,
             .text = fmt::format("{} from {} to {} in {:.2f} us{}{}",
                                 kind == "rollback"  ? "rolled back"
                                 : kind == "promote" ? "promoted"
                                                     : "switched",
                                 name_of(from.generation, from.hash), name_of(generation, hash), took_us,
                                 reason.empty() ? "" : ": ", reason),
             .generation = generation,
             .hash = hash,
             .network_changed = network_changed,
             .trained = trained,
             .switch_us = took_us,
             .from_generation = from.generation});
    return SwitchResult{.hash = hash, .generation = generation, .switch_us = took_us};
}

Result<InstallResult> SnapshotManager::install(std::string_view bytes, bool activate, bool trained,
                                               const std::string& reason, bool canary, bool turn) {
    const uint64_t begin_ns = monotonic_ns();
    // The costly half (hash, ranges, proof) runs without the lock: nothing waits for it.
    Result<Snapshot> snapshot = parse_snapshot(bytes, "snapshot");
    if (!snapshot) {
        return refuse("", snapshot.error().message);
    }
    if (Status fits = app_.accepts(*snapshot); !fits) {
        return refuse(snapshot->hash, fits.error().message);
    }
    const std::vector<InputCodes> checks = checks_for(*snapshot);
    const double check_ms = ms_since(begin_ns);

    std::unique_lock lock(mutex_);
    if (const SnapshotStore::Bad* bad = store_.bad(snapshot->hash); trained && bad != nullptr) {
        const int64_t left_s = bad->until_unix_s - unix_us() / 1000000;
        if (left_s > 0) {
            const std::string why = fmt::format("snapshot {} was rolled back ({}) and is refused for another {} s",
                                                short_hash(snapshot->hash), bad->why, left_s);
            lock.unlock();
            return refuse(snapshot->hash, why);
        }
    }
    if (snapshot->hash == active_.hash && active_.generation != 0) {
        // Already deciding: another generation of the same numbers would only cost a slot.
        InstallResult same;
        same.hash = active_.hash;
        same.generation = active_.generation;
        same.slot = active_.slot;
        same.activated = true;
        same.check_ms = check_ms;
        same.switches = active_.switches;
        return same;
    }
    const bool guarded = activate && ((trained && !turn) || canary);
    if (snapshot->hash == trial_.hash && trial_.generation != 0) {
        InstallResult same;
        same.hash = trial_.hash;
        same.generation = trial_.generation;
        same.slot = trial_.slot;
        same.check_ms = check_ms;
        if (activate && !guarded) {
            Result<SwitchResult> flip =
                flip_locked(trial_.slot, trial_.generation, trial_.hash, false, true, "promote", reason);
            if (!flip) {
                return flip.error();
            }
            same.activated = true;
            same.switch_us = flip->switch_us;
        } else {
            same.on_trial = true;
            same.share = trial_.share_q16 / 65536.0;
        }
        same.switches = active_.switches;
        return same;
    }
    Result<InstallResult> result = install_locked(*snapshot, bytes, checks);
    if (!result) {
        const std::string why =
            fmt::format("snapshot {} was not installed: {}", short_hash(snapshot->hash), result.error().message);
        lock.unlock();
        return refuse(snapshot->hash, why);
    }
    result->check_ms = check_ms;
    events_({.kind = "install",
             .text = fmt::format("installed {} into slot {}: {} {}, checked in {:.1f} ms, in place in {:.1f} ms{}{}",
                                 name_of(result->generation, result->hash), result->slot, describe(*snapshot),
                                 result->network_changed ? "(new program)" : "(new parameters)", result->check_ms,
                                 result->install_ms, reason.empty() ? "" : ": ", reason),
             .generation = result->generation,
             .hash = result->hash,
             .network_changed = result->network_changed,
             .trained = trained});
    bool at_once = activate;
    if (guarded && active_.generation != 0) {
        if (Result<uint32_t> share = hooks_.plan_trial(canary)) {
            if (Status status = begin_trial_locked(*result, trained, *share, reason); !status) {
                return status.error();
            }
            result->on_trial = true;
            result->share = *share / 65536.0;
            at_once = false;
        } else if (canary) {
            result->note = share.error().message;
        }
    }
    if (at_once) {
        Result<SwitchResult> flip =
            flip_locked(result->slot, result->generation, result->hash, trained, true, "switch", reason, turn);
        if (!flip) {
            return flip.error();
        }
        result->activated = true;
        result->switch_us = flip->switch_us;
    }
    result->switches = active_.switches;
    return result;
}

// Makes a snapshot that was installed before decide again: by a flip where it is still in a slot, else anew from the
// store.
Result<SwitchResult> SnapshotManager::activate_stored_locked(const std::string& hash, uint32_t generation, bool watch,
                                                             const std::string& kind, const std::string& reason,
                                                             bool turn) {
    const std::vector<SlotInfo> slots = installer_.slots();
    if (const SlotInfo* slot = find_slot(slots, generation)) {
        const bool promotion = slot->state == SlotState::canary && kind == "switch";
        return flip_locked(slot->slot, generation, hash, promotion && trial_.trained, watch,
                           promotion ? "promote" : kind, reason, turn);
    }
    Result<InstallResult> installed = install_stored_locked(hash);
    if (!installed) {
        return installed.error();
    }
    return flip_locked(installed->slot, installed->generation, hash, false, watch, kind, reason, turn);
}

Result<InstallResult> SnapshotManager::install_stored_locked(const std::string& hash) {
    Result<std::string> bytes = store_.bytes(hash);
    if (!bytes) {
        return Error{bytes.error().message + ": the snapshot is no longer stored"};
    }
    Result<Snapshot> snapshot = parse_snapshot(*bytes, store_.path(hash));
    if (!snapshot) {
        return snapshot.error();
    }
    if (Status fits = app_.accepts(*snapshot); !fits) {
        return fits.error();
    }
    return install_locked(*snapshot, *bytes, checks_for(*snapshot));
}

Result<SwitchResult> SnapshotManager::switch_to(const std::string& hash_prefix, uint32_t generation,
                                                const std::string& reason, bool canary, bool turn) {
    std::lock_guard lock(mutex_);
    std::string hash;
    if (!hash_prefix.empty()) {
        Result<std::string> found = store_.find(hash_prefix);
        if (!found) {
            return found.error();
        }
        hash = *found;
        generation = store_.newest_generation_of(hash);
    } else {
        hash = store_.hash_of(generation);
        if (hash.empty()) {
            return Error{fmt::format("there is no generation {}: see adapathctl snapshots", generation)};
        }
    }
    if (hash == active_.hash && active_.generation != 0) {
        return SwitchResult{.hash = active_.hash, .generation = active_.generation, .switches = active_.switches};
    }
    std::string note;
    if (canary && active_.generation != 0) {
        if (hash == trial_.hash && trial_.generation != 0) {
            return Error{fmt::format("{} is on trial already: without --canary it decides for all at once",
                                     name_of(trial_.generation, trial_.hash))};
        }
        if (Result<uint32_t> share = hooks_.plan_trial(true)) {
            // Anew, under a number of its own: what it earns on trial is not what it earned before.
            Result<InstallResult> installed = install_stored_locked(hash);
            if (!installed) {
                return installed.error();
            }
            if (Status status = begin_trial_locked(*installed, false, *share, reason); !status) {
                return status.error();
            }
            return SwitchResult{
                .hash = hash, .generation = installed->generation, .on_trial = true, .share = *share / 65536.0};
        } else {
            note = share.error().message;
        }
    }
    Result<SwitchResult> result = activate_stored_locked(hash, generation, true, "switch", reason, turn);
    if (result) {
        result->note = note;
        result->switches = active_.switches;
    }
    return result;
}

Result<SwitchResult> SnapshotManager::promote(uint32_t generation, const std::string& reason) {
    std::lock_guard lock(mutex_);
    if (generation == 0 || trial_.generation != generation) {
        return Error{fmt::format("generation {} is not on trial any more", generation)};
    }
    const SnapshotOnTrial passed = trial_;
    return flip_locked(passed.slot, passed.generation, passed.hash, passed.trained, true, "promote", reason);
}

Status SnapshotManager::fail_trial(uint32_t generation, const std::string& reason) {
    std::lock_guard lock(mutex_);
    if (generation == 0 || trial_.generation != generation) {
        return Error{fmt::format("generation {} is not on trial any more", generation)};
    }
    if (!trial_.hash.empty()) {
        if (Status status =
                store_.mark_bad(trial_.hash, unix_us() / 1000000 + static_cast<int64_t>(options_.refuse_seconds),
                                "on trial: " + reason);
            !status) {
            events_({.kind = "error", .text = status.error().message});
        }
    }
    return end_trial_locked(reason, true);
}

Result<SwitchResult> SnapshotManager::roll_back(const std::string& reason, bool automatic) {
    std::lock_guard lock(mutex_);
    if (trial_.generation != 0 && !automatic) {
        if (Status status = end_trial_locked(reason, true); !status) {
            return status.error();
        }
        return SwitchResult{.hash = active_.hash, .generation = active_.generation};
    }
    if (active_.generation == 0) {
        return Error{"nothing to roll back: no snapshot is active, the fallback decides"};
    }
    const ActiveSnapshot from = active_;
    if (automatic && !from.hash.empty()) {
        if (Status status =
                store_.mark_bad(from.hash, unix_us() / 1000000 + static_cast<int64_t>(options_.refuse_seconds), reason);
            !status) {
            events_({.kind = "error", .text = status.error().message});
        }
    }
    while (!history_.empty()) {
        const Past past = history_.back();
        history_.pop_back();
        // Back to something else, and not to what was rolled back itself before it could be trusted.
        const bool bad = store_.bad(past.hash) != nullptr && !past.trusted;
        if (past.hash.empty() || past.hash == from.hash || bad) {
            continue;
        }
        Result<SwitchResult> result =
            activate_stored_locked(past.hash, past.generation, !past.trusted, "rollback", reason);
        if (result) {
            // The one that was left must not become the target of the next roll back.
            if (!history_.empty() && history_.back().generation == from.generation) {
                history_.pop_back();
            }
            return result;
        }
        events_({.kind = "error",
                 .text = fmt::format("cannot roll back to {}: {}", name_of(past.generation, past.hash),
                                     result.error().message)});
    }
    Result<SwitchResult> result = flip_locked(ADP_SLOT_NONE, 0, "", false, false, "rollback", reason);
    if (result && !history_.empty()) {
        history_.pop_back();
    }
    return result;
}

void SnapshotManager::trust(uint32_t generation) {
    std::lock_guard lock(mutex_);
    if (active_.generation == generation) {
        if (!active_trusted_ && generation != 0) {
            mark_locked(generation, SnapshotStore::Standing::trusted, 0);
        }
        active_trusted_ = true;
    }
}

void SnapshotManager::set_explore(bool on) {
    std::lock_guard lock(mutex_);
    options_.explore = on;
    for (const SlotInfo& slot : installer_.slots()) {
        if (slot.generation == 0 || slot.state == SlotState::free) {
            continue;
        }
        const Known* known = known_locked(store_.hash_of(slot.generation));
        if (Status status = installer_.set_explore(slot.slot, on && known != nullptr ? known->explore_q16 : 0);
            !status) {
            events_({.kind = "error", .text = status.error().message});
        }
    }
}

void SnapshotManager::reclaim() {
    // An install that runs reclaims what it needs itself: do not wait for it.
    std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock() || !may_reclaim_ || monotonic_us() < reclaim_after_us_) {
        return;
    }
    // What still drains now is bound to flows: no use in waiting for readers ten times a second.
    reclaim_after_us_ = monotonic_us() + 1000000;
    if (Status status = installer_.reclaim(); !status) {
        events_({.kind = "error", .text = status.error().message});
    }
    bool draining = false;
    std::set<std::string> keep{active_.hash};
    for (const SlotInfo& slot : installer_.slots()) {
        draining = draining || slot.state == SlotState::draining;
        if (slot.state != SlotState::free && slot.generation != 0) {
            keep.insert(store_.hash_of(slot.generation));
        }
    }
    for (const Past& past : history_) {
        keep.insert(past.hash);
    }
    if (!draining) {
        may_reclaim_ = false;
        if (Status status = store_.trim(options_.store_limit_bytes, keep); !status) {
            events_({.kind = "error", .text = status.error().message});
        }
    }
}

ActiveSnapshot SnapshotManager::active() const {
    std::lock_guard lock(mutex_);
    ActiveSnapshot active = active_;
    active.canary_hash = trial_.hash;
    return active;
}

SnapshotOnTrial SnapshotManager::on_trial() const {
    std::lock_guard lock(mutex_);
    return trial_;
}

ManagerCounters SnapshotManager::counters() const {
    std::lock_guard lock(counters_mutex_);
    return counters_;
}

std::vector<SlotInfo> SnapshotManager::slots() const {
    std::lock_guard lock(mutex_);
    return installer_.slots();
}

std::vector<SnapshotManager::Stored> SnapshotManager::stored() const {
    std::lock_guard lock(mutex_);
    std::unordered_map<std::string, std::string> states;
    for (const SlotInfo& slot : installer_.slots()) {
        const std::string hash = store_.hash_of(slot.generation);
        if (slot.generation == 0 || hash.empty() || slot.state == SlotState::free || states[hash] == "active") {
            continue;
        }
        states[hash] = slot_state_name(slot.state);
    }
    std::vector<Stored> result;
    Result<std::vector<std::string>> hashes = store_.hashes();
    if (!hashes) {
        return result;
    }
    std::unordered_map<std::string, std::vector<uint32_t>> generations;
    for (const auto& [generation, hash] : store_.generations()) {
        generations[hash].push_back(generation);
    }
    for (const std::string& hash : *hashes) {
        const SnapshotStore::Bad* bad = store_.bad(hash);
        result.push_back(
            {hash, generations[hash], states[hash].empty() ? "stored" : states[hash], bad ? bad->why : ""});
    }
    std::sort(result.begin(), result.end(), [](const Stored& a, const Stored& b) {
        return (a.generations.empty() ? 0 : a.generations.back()) < (b.generations.empty() ? 0 : b.generations.back());
    });
    return result;
}

Result<std::string> SnapshotManager::snapshot_bytes(const std::string& hash_prefix, uint32_t generation) const {
    std::lock_guard lock(mutex_);
    if (hash_prefix.empty()) {
        const std::string hash = generation == 0 ? active_.hash : store_.hash_of(generation);
        if (hash.empty()) {
            return Error{generation == 0
                             ? std::string("no snapshot is active")
                             : fmt::format("there is no generation {}: see adapathctl snapshots", generation)};
        }
        return store_.bytes(hash);
    }
    Result<std::string> hash = store_.find(hash_prefix);
    return hash ? store_.bytes(*hash) : hash;
}

}  // namespace adapath
