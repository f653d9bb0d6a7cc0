// When the demo does what, in seconds after the video's first decision.
#pragma once

#include <algorithm>

namespace adapath::demo {

inline constexpr double shortest_demo_s = 30;
inline constexpr double burst_s = 5;

struct Plan {
    double train_s = 0;         // training goes on; before it the checkpoint decides alone
    double burst_s = 0;         // training pauses, forced parameter switches
    double network_s = 0;       // another network
    double bad_s = 0;           // the adversarial snapshot
    double bad_limit_s = 0;     // within which it has to be rolled back
    double end_s = 0;           // training goes on after the roll back, until here
    unsigned burst_per_s = 20;  // forced parameter switches a second
};

// Everything but the burst scales. What is left after the bad snapshot is at least 8 s even at the shortest.
inline Plan make_plan(double duration_s) {
    Plan plan;
    plan.train_s = 0.13 * duration_s;
    plan.burst_s = 0.45 * duration_s;
    plan.network_s = plan.burst_s + demo::burst_s + std::clamp(0.04 * duration_s, 1.0, 5.0);
    plan.bad_s = plan.network_s + std::clamp(0.08 * duration_s, 2.0, 10.0);
    plan.end_s = duration_s;
    plan.bad_limit_s = std::min(10.0, duration_s - plan.bad_s - 1);
    return plan;
}

}  // namespace adapath::demo
