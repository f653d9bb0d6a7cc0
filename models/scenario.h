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
    lte,     // the LTE-like generator of codegen/trace
    steps,   // every 2-10 s another rate, from the nominal one down to a twentieth of it
    bursts,  // served for a part of each period only, as by a scheduler that has many users to serve
};

struct Scenario {
    LinkKind kind = LinkKind::constant;
    double mbit = 10;      // mean capacity (steps: the highest)
    double rtt_s = 0.04;   // propagation
    double queue_s = 0.2;  // of mean capacity
    double loss = 0;
    double ack_tick_s = 0;
    double period_s = 0.1;            // bursts: of the service, ...
    double duty = 0.5;                // ... and the share of it that is served
    uint32_t flows = 1;               // all driven by the same policy; the second and later start 3 s apart
    uint32_t cubic_flows = 0;         // neighbours that fill the queue; they start 5 s after and end after 20 s
    double source_bytes_per_s = 0;    // of each flow's application; 0 = it always has data
    adp_cc_objective objective = {};  // all 0: cc.h's defaults
    uint64_t seed = 1;
};

// 0.5-100 Mbit/s, RTT 5-300 ms, queues of 0.2-5 bandwidth-delay products or 5-2000 ms, loss of 0-1 % on a third of the
// links and up to 10 % on a few, two fifths of them LTE-like, one in seven in steps, one in seven served in bursts,
// ACKs in clumps of 2-60 ms on some, one link in five with 2 or 3 flows, one in five with a CUBIC neighbour, one in
// twelve with an application that is at times the limit. Weights of delay of 1/32 to 2 and of loss of 1 to 32.
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
    double jain = 1;    // Jain's index of the flows' delivered packets, CUBIC's included
};
// From 2 s after the start (5 s a flow with several) to the end. An empty policy is the fallback.
[[nodiscard]] Score score_link(const Scenario& scenario, const PolicyFunction& policy, double seconds = 40);
[[nodiscard]] Score mean_score(const std::vector<Score>& scores);

}  // namespace adapath
