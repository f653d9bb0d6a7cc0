// See link_recorder.h.
#include "userspace/arena/link_recorder.h"

#include <cmath>
#include <numeric>
#include <utility>

namespace adapath::arena {
namespace {

// Dividing by a power of ten, not multiplying by its inverse, gives the number that prints short.
double rounded(double value, double scale) { return std::round(value * scale) / scale; }

double ms(double us) { return rounded(us / 1000, 100); }

Json delay_json(const DelayHistogram& delay) {
    return {{"p50", ms(static_cast<double>(delay.quantile(0.5)))},
            {"p95", ms(static_cast<double>(delay.quantile(0.95)))},
            {"p99", ms(static_cast<double>(delay.quantile(0.99)))},
            {"mean", ms(delay.mean())},
            {"max", ms(static_cast<double>(delay.max()))}};
}

}  // namespace

void LinkRecorder::add(const EmulatorStats& stats) {
    std::lock_guard lock(mutex_);
    if (seconds_.size() >= wanted_) {
        return;
    }
    const DirectionStats& up = stats.up;
    Second second{.to_s = rounded(static_cast<double>(stats.to_ns) / 1e9, 1000),
                  .capacity_bytes = up.capacity_bytes,
                  .delivered_bytes = up.counters.delivered_bytes,
                  .delay_p50_ms = ms(static_cast<double>(up.delay.quantile(0.5))),
                  .delay_p95_ms = ms(static_cast<double>(up.delay.quantile(0.95))),
                  .queue_bytes = up.queue_bytes,
                  .drops = up.counters.dropped_packets};
    for (size_t i = 0; i < flows_.size(); i++) {
        const uint64_t now = flows_[i]();
        second.received_bytes.push_back(now - received_before_[i]);
        received_before_[i] = now;
    }
    if (seconds_.size() >= apart_.from_s && seconds_.size() < apart_.to_s) {
        apart_delay_ += up.delay;
        apart_capacity_bytes_ += up.capacity_bytes;
        apart_delivered_bytes_ += up.counters.delivered_bytes;
    }
    seconds_.push_back(std::move(second));
    delay_ += up.delay;
    late_ += up.late;
    late_ += stats.down.late;
    capacity_bytes_ += up.capacity_bytes;
    write_errors_ += up.write_errors + stats.down.write_errors;
    counters_.arrived_packets += up.counters.arrived_packets;
    counters_.arrived_bytes += up.counters.arrived_bytes;
    counters_.dropped_packets += up.counters.dropped_packets;
    counters_.dropped_bytes += up.counters.dropped_bytes;
    counters_.lost_packets += up.counters.lost_packets;
    counters_.lost_bytes += up.counters.lost_bytes;
    counters_.delivered_packets += up.counters.delivered_packets;
    counters_.delivered_bytes += up.counters.delivered_bytes;
    complete_.store(seconds_.size() >= wanted_, std::memory_order_release);
}

void LinkRecorder::watch(std::function<uint64_t()> received) {
    std::lock_guard lock(mutex_);
    flows_.push_back(std::move(received));
    received_before_.push_back(0);
}

void LinkRecorder::forget() {
    std::lock_guard lock(mutex_);
    flows_.clear();
}

std::vector<uint64_t> LinkRecorder::received() {
    std::lock_guard lock(mutex_);
    return received_before_;
}

Json LinkRecorder::figures() {
    std::lock_guard lock(mutex_);
    const double share = capacity_bytes_ == 0
                             ? 0
                             : static_cast<double>(counters_.delivered_bytes) / static_cast<double>(capacity_bytes_);
    Json figures{
        {"capacity_bytes", capacity_bytes_},
        {"delivered_bytes", counters_.delivered_bytes},
        {"delivered_share", rounded(share, 10000)},
        {"received_bytes", std::accumulate(received_before_.begin(), received_before_.end(), uint64_t{0})},
        {"delay_ms", delay_json(delay_)},
        {"packets",
         {{"arrived", counters_.arrived_packets},
          {"delivered", counters_.delivered_packets},
          {"queue_drops", counters_.dropped_packets},
          {"lost_on_air", counters_.lost_packets}}},
        // The emulator's own delay, and what it could not hand over: how far the machine can be trusted.
        {"emulator",
         {{"late_p99_us", late_.quantile(0.99)}, {"late_max_us", late_.max()}, {"write_errors", write_errors_}}}};
    if (apart_.to_s > apart_.from_s) {
        figures["daemon_stopped"] = {{"from_s", apart_.from_s},
                                     {"to_s", apart_.to_s},
                                     {"capacity_bytes", apart_capacity_bytes_},
                                     {"delivered_bytes", apart_delivered_bytes_},
                                     {"delay_ms", delay_json(apart_delay_)}};
    }
    return figures;
}

Json LinkRecorder::series() {
    std::lock_guard lock(mutex_);
    Json json = Json::object();
    for (const Second& second : seconds_) {
        json["to_s"].push_back(second.to_s);
        json["capacity_bytes"].push_back(second.capacity_bytes);
        json["delivered_bytes"].push_back(second.delivered_bytes);
        json["delay_p50_ms"].push_back(second.delay_p50_ms);
        json["delay_p95_ms"].push_back(second.delay_p95_ms);
        json["queue_bytes"].push_back(second.queue_bytes);
        json["queue_drops"].push_back(second.drops);
        for (size_t flow = 0; flow < received_before_.size(); flow++) {
            // A flow that had not begun yet received nothing.
            json["received_bytes"][flow].push_back(flow < second.received_bytes.size() ? second.received_bytes[flow]
                                                                                       : 0);
        }
    }
    return json;
}

}  // namespace adapath::arena
