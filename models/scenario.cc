// See scenario.h.
#include "models/scenario.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>

namespace adapath {

namespace {

// Long enough that an episode does not repeat itself, short enough to generate for each episode anew.
constexpr uint32_t trace_ms = 60'000;

double random_queue_s(Random& random, double rtt_s) {
    return random.uniform() < 0.5 ? random.log_uniform(0.2, 5) * rtt_s : random.log_uniform(0.005, 2.0);
}

}  // namespace

Scenario random_scenario(Random& random) {
    Scenario s;
    const double kind = random.uniform();
    s.kind = kind < 0.4    ? LinkKind::lte
             : kind < 0.54 ? LinkKind::steps
             : kind < 0.68 ? LinkKind::bursts
                           : LinkKind::constant;
    // The middle of the range three times out of four: what most uplinks are.
    const bool wide = random.uniform() < 0.25;
    s.mbit = wide ? random.log_uniform(0.5, 100) : random.log_uniform(1, 50);
    s.rtt_s = wide ? random.log_uniform(0.005, 0.3) : random.log_uniform(0.01, 0.12);
    s.queue_s = random_queue_s(random, s.rtt_s);
    if (random.uniform() < 1.0 / 3) s.loss = wide ? random.log_uniform(0.002, 0.1) : random.uniform(0, 0.01);
    if (random.uniform() < (s.kind == LinkKind::lte ? 0.6 : 0.2))
        s.ack_tick_s = wide ? random.log_uniform(0.002, 0.06) : random.uniform(0.002, 0.01);
    s.period_s = random.log_uniform(0.02, 0.6);
    s.duty = random.uniform(0.2, 0.8);
    if (random.uniform() < 0.2) s.flows = random.uniform() < 0.5 ? 2 : 3;
    if (random.uniform() < 0.2) s.cubic_flows = 1;
    if (random.uniform() < 1.0 / 12) s.source_bytes_per_s = random.uniform(0.2, 1.2) * s.mbit * 1e6 / 8;
    s.objective = {ADP_Q16_ONE, static_cast<adp_u32>(random.log_uniform(1.0 / 32, 2) * ADP_Q16_ONE),
                   static_cast<adp_u32>(random.log_uniform(1, 32) * ADP_Q16_ONE)};
    s.seed = random.next();
    return s;
}

Scenario random_lte_scenario(Random& random) {
    Scenario s;
    s.kind = LinkKind::lte;
    s.mbit = random.log_uniform(2, 30);
    s.rtt_s = random.log_uniform(0.03, 0.1);
    s.queue_s = random.log_uniform(0.2, 1.0);
    if (random.uniform() < 0.5) s.ack_tick_s = random.uniform(0.002, 0.01);
    s.seed = random.next();
    return s;
}

std::string describe(const Scenario& s) {
    const char* kind = s.kind == LinkKind::lte      ? "LTE-like"
                       : s.kind == LinkKind::steps  ? "steps"
                       : s.kind == LinkKind::bursts ? "bursts"
                                                    : "constant";
    return fmt::format("{} {:.1f} Mbit/s, RTT {:.0f} ms, queue {:.0f} ms, loss {:.2f} %, {} flow{}{}{}", kind, s.mbit,
                       s.rtt_s * 1e3, s.queue_s * 1e3, s.loss * 100, s.flows, s.flows == 1 ? "" : "s",
                       s.cubic_flows > 0 ? " and CUBIC" : "",
                       s.source_bytes_per_s > 0 ? fmt::format(" of {:.1f} Mbit/s", s.source_bytes_per_s * 8e-6) : "");
}

Capacity scenario_capacity(const Scenario& s) {
    const double bytes_per_s = s.mbit * 1e6 / 8;
    if (s.kind == LinkKind::constant) return Capacity::constant(bytes_per_s);
    if (s.kind == LinkKind::bursts)
        return Capacity::steps({{s.duty * s.period_s, bytes_per_s / s.duty}, {(1 - s.duty) * s.period_s, 0}});
    if (s.kind == LinkKind::steps) {
        Random random(s.seed);
        std::vector<Capacity::Step> steps;
        for (int i = 0; i < 12; i++)
            steps.push_back({random.uniform(2, 10), bytes_per_s * random.log_uniform(0.05, 1)});
        return Capacity::steps(steps);
    }
    TraceGenerator generator;
    generator.seed = s.seed;
    generator.mean_mbit = s.mbit;
    generator.duration_ms = trace_ms;
    // The generator's options are constants here but for seed and rate: its refusal would be a bug, which value()
    // throws.
    return Capacity::from_trace(std::make_shared<const Trace>(std::move(Trace::generate(generator).value())));
}

std::unique_ptr<Simulator> make_simulator(const Scenario& s) {
    LinkOptions link;
    link.capacity = scenario_capacity(s);
    link.rtt_s = s.rtt_s;
    link.queue_bytes = std::max<uint64_t>(static_cast<uint64_t>(s.queue_s * s.mbit * 1e6 / 8), 10 * 1500);
    link.loss = s.loss;
    link.ack_tick_s = s.ack_tick_s;
    std::vector<FlowOptions> flows(size_t{s.flows} + s.cubic_flows);
    for (size_t i = 0; i < flows.size(); i++) {
        flows[i].cubic = i >= s.flows;
        flows[i].start_s = flows[i].cubic ? 5 : 3.0 * static_cast<double>(i);
        if (flows[i].cubic)
            flows[i].end_s = 25;
        else
            flows[i].source.bytes_per_s = s.source_bytes_per_s;
    }
    auto simulator = std::make_unique<Simulator>(std::move(link), std::move(flows), s.seed);
    simulator->set_objective(s.objective);
    return simulator;
}

Score score_link(const Scenario& scenario, const PolicyFunction& policy, double seconds) {
    auto simulator = make_simulator(scenario);
    simulator->set_policy(policy, 1, 0);
    const double warm_up_s = scenario.flows > 1 ? 5.0 * scenario.flows : 2;
    double reward = 0;
    const size_t flows = size_t{scenario.flows} + scenario.cubic_flows;
    uint64_t intervals = 0;
    simulator->set_samples([&](const adp_cc_sample& sample) {
        if (static_cast<double>(sample.time_us) < warm_up_s * 1e6 || sample.flow > scenario.flows) return;
        reward += adp_cc_reward(&sample.interval, &sample.objective) / 65536.0;
        intervals++;
    });
    simulator->run_until(warm_up_s);
    std::vector<double> delivered(flows);
    for (size_t i = 0; i < flows; i++) delivered[i] = -static_cast<double>(simulator->flow_stats(i).delivered);
    simulator->reset_stats();
    simulator->run_until(seconds);
    const LinkStats link = simulator->link_stats();
    Score score;
    score.utilisation = link.utilisation();
    score.p95_ms = link.sojourn_percentile_ms(0.95);
    score.mean_ms = link.mean_sojourn_ms();
    score.reward = intervals ? reward / static_cast<double>(intervals) : 0;
    score.loss = link.arrived ? static_cast<double>(link.dropped_queue) / static_cast<double>(link.arrived) : 0;
    double sum = 0;
    double squares = 0;
    for (size_t i = 0; i < flows; i++) {
        delivered[i] += static_cast<double>(simulator->flow_stats(i).delivered);
        sum += delivered[i];
        squares += delivered[i] * delivered[i];
    }
    if (squares > 0) score.jain = sum * sum / (static_cast<double>(flows) * squares);
    return score;
}

Score mean_score(const std::vector<Score>& scores) {
    Score mean;
    mean.jain = 0;
    for (const Score& s : scores) {
        mean.utilisation += s.utilisation;
        mean.p95_ms += s.p95_ms;
        mean.mean_ms += s.mean_ms;
        mean.reward += s.reward;
        mean.loss += s.loss;
        mean.jain += s.jain;
    }
    const double n = std::max<double>(1, static_cast<double>(scores.size()));
    return {mean.utilisation / n, mean.p95_ms / n, mean.mean_ms / n, mean.reward / n, mean.loss / n, mean.jain / n};
}

}  // namespace adapath
