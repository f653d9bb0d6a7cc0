// See recorder.h.
#include "userspace/demo/recorder.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>

#include "userspace/common/clock.h"
#include "userspace/harness/cc_samples.h"

namespace adapath::demo {
namespace {

constexpr size_t kept_inputs = 8192;

}  // namespace

Recorder::Recorder(DaemonClient& client) : client_(client) {
    samples_thread_ = std::thread([this] { read_samples(); });
    events_thread_ = std::thread([this] { read_events(); });
}

Recorder::~Recorder() { stop(); }

void Recorder::stop() {
    samples_context_.TryCancel();
    events_context_.TryCancel();
    if (samples_thread_.joinable()) {
        samples_thread_.join();
    }
    if (events_thread_.joinable()) {
        events_thread_.join();
    }
}

void Recorder::read_samples() {
    pb::SamplesRequest request;
    auto stream = client_.stub().StreamSamples(&samples_context_, request);
    for (pb::SampleBatch batch; stream->Read(&batch);) {
        std::lock_guard lock(mutex_);
        dropped_ = std::max<uint64_t>(dropped_, batch.dropped());
        if (Status known = for_each_cc_sample(batch, [this](const adp_cc_sample& sample) { add_sample(sample); });
            !known) {
            schema_error_ = known.error().message;
            continue;
        }
        changed_.notify_all();
    }
    (void)stream->Finish();
}

void Recorder::add_sample(const adp_cc_sample& sample) {
    SamplePoint point;
    point.time_us = sample.time_us;
    point.flow = sample.flow;
    point.seq = sample.seq;
    point.generation = sample.generation;
    point.flags = sample.flags;
    point.rate = sample.rate;
    point.interval_us = sample.interval.us;
    point.rtt_us = sample.interval.rtt_us;
    point.delivered_bytes = uint64_t{sample.interval.delivered} * sample.interval.mss;
    point.lost = sample.interval.lost;
    point.reward = static_cast<float>(adp_cc_reward(&sample.interval, &sample.objective)) / 65536.0F;
    samples_.push_back(point);
    if (sample.generation != 0) {
        inputs_.emplace_back(sample.input, sample.input + ADP_CC_INPUTS);
        if (inputs_.size() > kept_inputs) {
            inputs_.pop_front();
        }
    }
}

void Recorder::read_events() {
    auto stream = client_.stub().WatchEvents(&events_context_, {});
    for (pb::Event event; stream->Read(&event);) {
        std::lock_guard lock(mutex_);
        add_event(event);
        changed_.notify_all();
    }
    (void)stream->Finish();
}

void Recorder::add_event(const pb::Event& event) {
    if (event.kind() != "switch" && event.kind() != "promote" && event.kind() != "rollback") {
        return;
    }
    // The end of a trial: the flows that were on it go back, what decides for the others stays.
    if (event.kind() == "rollback" && event.trial()) {
        return;
    }
    SwitchPoint point;
    point.time_us = event.time_us();
    point.generation = event.generation();
    point.from_generation = event.from_generation();
    point.network_changed = event.network_changed();
    point.switch_us = event.switch_us();
    point.hash = event.hash();
    point.text = event.text();
    // The checkpoint's first snapshot comes from the trainer too, but no training asked for it.
    point.kind = event.kind() == "rollback"     ? SwitchKind::rollback
                 : event.from_generation() == 0 ? SwitchKind::first
                 : event.trained()              ? SwitchKind::trained
                 : event.network_changed()      ? SwitchKind::network
                                                : SwitchKind::parameter;
    switches_.push_back(point);
}

void Recorder::mark_burst(uint32_t generation) {
    std::lock_guard lock(mutex_);
    burst_.insert(generation);
}

void Recorder::mark_bad(uint32_t generation) {
    std::lock_guard lock(mutex_);
    bad_ = generation;
}

bool Recorder::wait(std::chrono::milliseconds timeout, const StopToken& stop, const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    std::unique_lock lock(mutex_);
    while (!condition()) {
        const auto now = std::chrono::steady_clock::now();
        if (stop.requested() || now >= deadline) {
            return false;
        }
        // In parts, since the stop does not signal this condition.
        changed_.wait_until(lock, std::min(deadline, now + std::chrono::milliseconds(100)));
    }
    return true;
}

uint64_t Recorder::first_sample_us() {
    std::lock_guard lock(mutex_);
    return samples_.empty() ? 0 : samples_.front().time_us;
}

size_t Recorder::sample_count() {
    std::lock_guard lock(mutex_);
    return samples_.size();
}

std::optional<SwitchPoint> Recorder::switch_to(uint32_t generation) {
    std::lock_guard lock(mutex_);
    for (const SwitchPoint& point : switches_) {
        if (point.generation == generation && point.kind != SwitchKind::rollback) {
            return point;
        }
    }
    return std::nullopt;
}

std::optional<SwitchPoint> Recorder::rollback_of(uint32_t generation) {
    std::lock_guard lock(mutex_);
    for (const SwitchPoint& point : switches_) {
        if (point.from_generation == generation && point.kind == SwitchKind::rollback) {
            return point;
        }
    }
    return std::nullopt;
}

std::vector<InputCodes> Recorder::recent_inputs(size_t count) {
    std::lock_guard lock(mutex_);
    const size_t n = std::min(count, inputs_.size());
    return {inputs_.end() - static_cast<ptrdiff_t>(n), inputs_.end()};
}

Recorder::Now Recorder::now() {
    std::lock_guard lock(mutex_);
    Now now;
    const uint64_t from = monotonic_us() - 1000000;
    uint64_t bytes = 0;
    for (auto sample = samples_.rbegin(); sample != samples_.rend() && sample->time_us >= from; ++sample) {
        now.rtt_ms += sample->rtt_us / 1000.0;
        now.reward += static_cast<double>(sample->reward);
        bytes += sample->delivered_bytes;
        now.decisions++;
    }
    if (now.decisions > 0) {
        now.rtt_ms /= static_cast<double>(now.decisions);
        now.reward /= static_cast<double>(now.decisions);
    }
    now.delivered_mbit = static_cast<double>(bytes) * 8 / 1e6;
    return now;
}

void Recorder::take(Recording& recording) {
    std::lock_guard lock(mutex_);
    recording.samples = std::move(samples_);
    recording.samples_dropped = dropped_;
    recording.switches = std::move(switches_);
    for (SwitchPoint& point : recording.switches) {
        if (point.kind == SwitchKind::parameter && burst_.contains(point.generation)) {
            point.forced_burst = true;
        }
        if (bad_ != 0 && point.generation == bad_ && point.kind != SwitchKind::rollback) {
            point.kind = SwitchKind::bad;
        }
    }
    std::sort(recording.switches.begin(), recording.switches.end(),
              [](const SwitchPoint& a, const SwitchPoint& b) { return a.time_us < b.time_us; });
    if (!schema_error_.empty()) {
        recording.errors.push_back(schema_error_);
    }
}

}  // namespace adapath::demo
