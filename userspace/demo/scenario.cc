// See scenario.h.
#include "userspace/demo/scenario.h"

#include <fmt/format.h>

#include <algorithm>

#include "models/cc_model.h"
#include "userspace/common/clock.h"
#include "userspace/demo/model_edit.h"

namespace adapath::demo {
namespace {

// Enough to be other integers in most weights, too little to be another policy.
constexpr double perturbation = 0.01;
constexpr float exploration = 0.1F;
constexpr size_t calibration_inputs = 512;
constexpr size_t held_out_inputs = 256;
// Random inputs that each of the burst's hundred freezes is verified on, beside the extremes and what the daemon does
// again.
constexpr uint64_t burst_random_inputs = 100;

// The same policy in another network.
Result<FloatModel> twice_as_wide(const FloatModel& model) {
    std::vector<uint32_t> hidden;
    for (size_t l = 0; l + 1 < model.network.layers.size(); l++) {
        hidden.push_back(model.network.layers[l].outputs * 2);
    }
    return widen(model, hidden);
}

}  // namespace

Status compile_ahead(Freezer& freezer, const std::string& checkpoint_file) {
    Result<FloatModel> checkpoint = read_float_model(checkpoint_file);
    if (!checkpoint) {
        return checkpoint.error();
    }
    Result<FloatModel> wide = twice_as_wide(*checkpoint);
    if (!wide) {
        return wide.error();
    }
    FreezeOptions options;
    options.random_inputs = 1;
    options.fidelity_limit = 0;
    for (const FloatModel& model : {*checkpoint, *wide, adversarial_cc(1.0F)}) {
        // What it is calibrated on does not matter: the snapshot goes, the programs stay in the freezer.
        const std::vector<InputCodes> inputs(2, InputCodes(model.network.input_count(), 128));
        if (Result<Snapshot> snapshot = freezer.freeze(model, inputs, inputs, options); !snapshot) {
            return snapshot.error();
        }
    }
    return {};
}

Scenario::Scenario(const Plan& plan, uint64_t start_us, uint64_t seed, Freezer& freezer, DaemonClient& client,
                   Recorder& recorder, StopToken& quit)
    : plan_(plan),
      start_us_(start_us),
      seed_(seed),
      freezer_(freezer),
      client_(client),
      recorder_(recorder),
      quit_(quit) {
    thread_ = std::thread([this] { run(); });
}

Scenario::~Scenario() { join(); }

void Scenario::join() {
    if (thread_.joinable()) {
        thread_.join();
    }
}

std::string Scenario::phase() {
    std::lock_guard lock(mutex_);
    return phases_.empty() ? "" : phases_.back().name;
}

void Scenario::take(Recording& recording) {
    std::lock_guard lock(mutex_);
    recording.phases = phases_;
    recording.forced = forced_;
}

bool Scenario::wait_until(double second) {
    const auto at_us = start_us_ + static_cast<uint64_t>(second * 1e6);
    for (uint64_t now_us; (now_us = monotonic_us()) < at_us;) {
        if (quit_.wait_for(std::chrono::milliseconds((at_us - now_us + 999) / 1000))) {
            return false;
        }
    }
    return !quit_.requested();
}

void Scenario::enter(const std::string& phase) {
    std::lock_guard lock(mutex_);
    const uint64_t now_us = phases_.empty() ? start_us_ : monotonic_us();
    if (!phases_.empty()) {
        phases_.back().end_us = now_us;
    }
    phases_.push_back({now_us, start_us_ + static_cast<uint64_t>(plan_.end_s * 1e6), phase});
}

Result<FloatModel> Scenario::active_model() {
    auto status = client_.status();
    if (!status) {
        return status.error();
    }
    if (status->active_hash().empty()) {
        return Error{"no snapshot is active: nothing to make another one from"};
    }
    auto bytes = client_.snapshot(status->active_hash());
    if (!bytes) {
        return bytes.error();
    }
    auto snapshot = parse_snapshot(*bytes, "active snapshot");
    if (!snapshot) {
        return snapshot.error();
    }
    return snapshot->reference;
}

Result<Snapshot> Scenario::freeze(const FloatModel& model, const std::string& note, double fidelity_limit) {
    const std::vector<InputCodes> inputs = recorder_.recent_inputs(calibration_inputs + held_out_inputs);
    if (inputs.size() < 2) {
        return Error{"no decision was seen yet: nothing to calibrate on"};
    }
    // Every third is held out: both halves see the same time.
    std::vector<InputCodes> calibration, held_out;
    for (size_t i = 0; i < inputs.size(); i++) {
        (i % 3 == 2 ? held_out : calibration).push_back(inputs[i]);
    }
    if (held_out.empty()) {
        held_out = calibration;
    }
    FreezeOptions options;
    options.provenance.trainer = "adapath-demo";
    options.provenance.note = note;
    options.provenance.created_unix_s = unix_us() / 1000000;
    options.random_inputs = burst_random_inputs;
    // As the trainer's own: learning goes on from what is forced here, and learns only from decisions that explored.
    options.explore = exploration;
    options.fidelity_limit = fidelity_limit;
    return freezer_.freeze(model, calibration, held_out, options);
}

Result<pb::InstallReply> Scenario::install(const Snapshot& snapshot, const std::string& reason) {
    auto bytes = serialise(snapshot);
    if (!bytes) {
        return bytes.error();
    }
    return client_.install(*bytes, true, reason);
}

Status Scenario::burst() {
    auto base = active_model();
    if (!base) {
        return base.error();
    }
    // Each is frozen, checked by the daemon and installed within its own time (50 ms at 20 a second), one after the
    // other: the loop's own pace.
    const unsigned wanted = static_cast<unsigned>(burst_s * plan_.burst_per_s);
    {
        std::lock_guard lock(mutex_);
        forced_.burst_wanted = wanted;
        forced_.burst_start_us = monotonic_us();
    }
    const double begin = plan_.burst_s;
    Status failure;
    for (unsigned i = 0; i < wanted; i++) {
        if (!wait_until(begin + static_cast<double>(i) / plan_.burst_per_s)) {
            break;
        }
        auto snapshot =
            freeze(perturb(*base, perturbation, seed_ * 1000 + i), fmt::format("forced, {} of {}", i + 1, wanted), 0);
        if (!snapshot) {
            failure = snapshot.error();
            break;
        }
        auto reply = install(*snapshot, "forced by the demo");
        if (!reply) {
            failure = reply.error();
            break;
        }
        recorder_.mark_burst(reply->generation());
        std::lock_guard lock(mutex_);
        forced_.burst_done += reply->activated() ? 1 : 0;
        forced_.burst_end_us = monotonic_us();
    }
    return failure;
}

Status Scenario::other_network() {
    auto model = active_model();
    if (!model) {
        return model.error();
    }
    auto wide = twice_as_wide(*model);
    if (!wide) {
        return wide.error();
    }
    auto snapshot = freeze(*wide, "another network with the same policy", 0);
    if (!snapshot) {
        return snapshot.error();
    }
    auto reply = install(*snapshot, "another network, forced by the demo: " + describe(wide->network));
    if (!reply) {
        return reply.error();
    }
    if (!reply->network_changed() || !reply->activated()) {
        return Error{"the daemon took the other network, but does not call it one"};
    }
    std::lock_guard lock(mutex_);
    forced_.network_generation = reply->generation();
    return {};
}

Status Scenario::bad_snapshot() {
    // Fills every queue: whatever it is asked it says "faster".
    auto snapshot = freeze(adversarial_cc(1.0F), "adversarial, to be rolled back", 0);
    if (!snapshot) {
        return snapshot.error();
    }
    auto reply = install(*snapshot, "adversarial snapshot, forced by the demo");
    if (!reply) {
        return reply.error();
    }
    const uint32_t bad = reply->generation();
    recorder_.mark_bad(bad);
    {
        std::lock_guard lock(mutex_);
        forced_.bad_generation = bad;
        forced_.bad_us = monotonic_us();
    }
    recorder_.wait(std::chrono::milliseconds(static_cast<int64_t>(plan_.bad_limit_s * 1000)), quit_,
                   [&] { return recorder_.rollback_of(bad).has_value(); });
    const auto rolled_back = recorder_.rollback_of(bad);
    std::lock_guard lock(mutex_);
    // The daemon's own time of the flip, not the one at which we heard of it.
    if (const auto there = recorder_.switch_to(bad)) {
        forced_.bad_us = there->time_us;
    }
    forced_.rolled_back_us = rolled_back ? rolled_back->time_us : 0;
    return {};
}

void Scenario::run() {
    const auto note = [this](const char* what, const Status& status) {
        if (!status && !quit_.requested()) {
            std::lock_guard lock(mutex_);
            forced_.failures.push_back(fmt::format("{}: {}", what, status.error().message));
        }
    };
    enter("checkpoint");
    if (!wait_until(plan_.train_s)) {
        return;
    }
    note("training on", client_.train(true));
    enter("training");
    if (!wait_until(plan_.burst_s)) {
        return;
    }
    // What is forced next is to be told from what training asks for.
    note("training off", client_.train(false));
    enter(fmt::format("{}/s", plan_.burst_per_s));
    note("forced parameter switches", burst());
    enter("");
    if (!wait_until(plan_.network_s)) {
        return;
    }
    enter("other network");
    note("other network", other_network());
    if (!wait_until(plan_.bad_s)) {
        return;
    }
    enter("bad");
    note("bad snapshot", bad_snapshot());
    if (quit_.requested()) {
        return;
    }
    note("training on", client_.train(true));
    enter("training");
    wait_until(plan_.end_s);
}

}  // namespace adapath::demo
