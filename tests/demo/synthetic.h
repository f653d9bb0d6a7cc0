// A recording as the demo would make it, from a formula: flows with regular decisions, a burst, a network switch, a bad
// snapshot and its rollback. Every criterion is met until a test breaks it.
#pragma once

#include <cmath>
#include <string>

#include "userspace/demo/recording.h"

namespace adapath::demo {

inline SwitchPoint synthetic_switch(uint64_t time_us, SwitchKind kind, uint32_t from, uint32_t to, std::string text) {
    SwitchPoint point;
    point.time_us = time_us;
    point.kind = kind;
    point.from_generation = from;
    point.generation = to;
    point.switch_us = 0.4 + 0.01 * (to % 7);
    point.text = std::move(text);
    return point;
}

inline Recording synthetic_recording() {
    constexpr uint64_t start = 5'000'000'000;
    const auto at = [](double t) { return start + static_cast<uint64_t>(t * 1e6); };
    Recording r;
    r.settings = {60,          4,
                  "bpf",       "LTE-like, seed 7, mean 8 Mbit/s",
                  "vtest.avi", 7,
                  "adpd1a2b3", "6.18.0",
                  "0.1.0",     "2026-01-01 00:00"};
    r.start_us = start;
    r.end_us = at(60);

    uint32_t generation = 1;
    r.switches.push_back(synthetic_switch(at(-1), SwitchKind::first, 0, 1, "checkpoint"));
    const auto to_next = [&](double t, SwitchKind kind, const std::string& text) {
        r.switches.push_back(synthetic_switch(at(t), kind, generation, generation + 1, text));
        generation++;
    };
    to_next(19.3, SwitchKind::trained, "training settled; 6.1 % away from the active snapshot");
    r.forced.burst_start_us = at(28);
    for (int i = 0; i < 100; i++) {
        to_next(28 + i * 0.05, SwitchKind::parameter, "forced");
        r.switches.back().forced_burst = true;
    }
    r.forced.burst_end_us = at(33);
    r.forced.burst_wanted = r.forced.burst_done = 100;
    to_next(36, SwitchKind::network, "30-64-32-1 for 30-32-16-1");
    r.switches.back().network_changed = true;
    r.forced.network_generation = generation;
    to_next(42, SwitchKind::bad, "adversarial");
    r.forced.bad_generation = generation;
    r.forced.bad_us = at(42);
    r.switches.push_back(
        synthetic_switch(at(44.5), SwitchKind::rollback, generation, generation - 1, "reward fell by 3.1"));
    r.forced.rolled_back_us = at(44.5);

    const auto capacity = [](double t) {
        return 8 + 4 * std::sin(t / 5) + 1.5 * std::sin(t * 2.3) + (t > 50 && t < 51 ? -2 : 0);
    };
    const auto bad = [](double t) { return t > 42 && t < 44.8; };
    const auto rtt = [&](double t) { return 48 + 9 * std::sin(t * 1.7) + (bad(t) ? 120 : 0); };
    for (int i = 1; i <= 120; i++) {
        const double t = i * 0.5;
        const double c = capacity(t);
        const double d = c * (bad(t) ? 0.15 : 0.9 + 0.05 * std::sin(t * 3));
        r.link.push_back({at(t), static_cast<uint64_t>(c * 1e6 / 16), static_cast<uint64_t>(d * 1e6 / 16), 20000, 0});
    }
    for (uint64_t flow = 1; flow <= 4; flow++) {
        uint32_t seq = 0;
        // The bad snapshot's policy stretches its intervals; that is not the switch's doing.
        for (double t = 0.01 * static_cast<double>(flow); t < 60; t += bad(t) ? 0.2 : 0.05 + 0.002 * (seq % 5)) {
            SamplePoint sample;
            sample.time_us = at(t);
            sample.flow = flow;
            sample.seq = seq++;
            sample.interval_us = 50000;
            sample.rtt_us = static_cast<uint32_t>(rtt(t) * 1000 * (1 + 0.03 * static_cast<double>(flow)));
            sample.rate = 250000;
            sample.delivered_bytes = 12000;
            sample.reward = static_cast<float>(3 + 0.6 * std::sin(t / 5) - (bad(t) ? 3 : 0) + (t > 19.3 ? 0.3 : 0));
            for (const SwitchPoint& point : r.switches) {
                sample.generation = point.time_us <= sample.time_us ? point.generation : sample.generation;
            }
            r.samples.push_back(sample);
        }
    }
    for (uint32_t camera = 0; camera < 4; camera++) {
        for (uint64_t i = 0; i < 1490; i++) {
            const double t = static_cast<double>(i) / 25;
            const double delay =
                0.055 + 0.012 * std::sin(t * 1.7) + (bad(t) ? 0.5 : 0) + 0.004 * static_cast<double>(i * 7 % 11);
            r.frames.push_back({camera, i, at(t), at(t + delay)});
        }
    }
    r.video = {true, 5960, 5960, 5960, 3, 0, 40, 0, 55000000};
    r.phases = {{at(0), at(8), "checkpoint"},  {at(8), at(28), "training"},       {at(28), at(33), "20/s"},
                {at(33), at(36), ""},          {at(36), at(42), "other network"}, {at(42), at(44.5), "bad"},
                {at(44.5), at(60), "training"}};
    r.counters.decisions = r.counters.samples = r.counters.decisions_explained = r.samples.size();
    for (const SwitchPoint& point : r.switches) {
        (point.network_changed ? r.counters.switches_network : r.counters.switches_parameter)++;
    }
    r.counters.switches_trained = 1;
    r.counters.rollbacks = 1;
    r.counters.acks = 61234;
    r.counters.resident_bytes = 21 << 20;
    r.verification = {true, r.samples.size(), 0, ""};
    return r;
}

}  // namespace adapath::demo
