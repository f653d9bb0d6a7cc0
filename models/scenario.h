// Links to train and to judge on: drawn at random from the range of uplinks that a camera gateway meets, and scored
// against the CUBIC fallback on the same link.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "models/simulator.h"

namespace adapath {

enum class LinkKind : uint8_t {
    constant,
    lte,    // the LTE-like generator of codegen/trace
    steps,  // every 2-10 s another rate, from the nominal one down to a twentieth of it
};

struct Scenario {
    LinkKind kind = LinkKind::constant;
    double mbit = 10;      // mean capacity (steps: the highest)
    double rtt_s = 0.04;   // propagation
    double queue_s = 0.2;  // of mean capacity
    double loss = 0;
    double ack_tick_s = 0;
    uint32_t flows = 1;  // all driven by the same policy; the second and later start 3 s apart
    uint64_t seed = 1;
};

// 1-50 Mbit/s, RTT 10-120 ms, queues of 0.5-5 bandwidth-delay products or 50-1000 ms, loss 0-1 % on a third of the
// links, about half of them LTE-like, one in six in steps, ACKs in clumps of 2-10 ms on some of both kinds, one link in
// five with 2 or 3 flows.
[[nodiscard]] Scenario random_scenario(Random& random);
// One flow on an LTE-like link without random loss: what the project is for.
[[nodiscard]] Scenario random_lte_scenario(Random& random);
[[nodiscard]] std::string describe(const Scenario& scenario);

[[nodiscard]] Capacity scenario_capacity(const Scenario& scenario);
[[nodiscard]] std::unique_ptr<Simulator> make_simulator(const Scenario& scenario);

struct Score {
    double utilisation = 0;  // carried / offered
    double p95_ms = 0;       // time from entering to leaving the queue
    double mean_ms = 0;
    double reward = 0;  // mean adp_cc_reward of the intervals
    double loss = 0;    // dropped by the queue, fraction of arrivals
};
// From 2 s after the start (5 s a flow with several) to the end. An empty policy is the fallback.
[[nodiscard]] Score score_link(const Scenario& scenario, const PolicyFunction& policy, double seconds = 40);
[[nodiscard]] Score mean_score(const std::vector<Score>& scores);

}  // namespace adapath
