// Offline training of the app cc: many simulated links at once, a warm start by imitation, then PPO. No LibTorch here.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "codegen/model.h"
#include "models/scenario.h"
#include "models/segments.h"

namespace adapath {

// What the policy imitates before it learns by itself: move the window so that the RTT settles a little over the base,
// the less the more delay counts; back off when it rises, and from loss. Returns the action, -1..1.
[[nodiscard]] float teacher_action(const CcCodes& codes);
[[nodiscard]] PolicyFunction teacher_policy();

// Links that run side by side, each replaced by a new random one after 15-40 simulated seconds.
class CcEnvironments {
public:
    // The same seed gives the same links and steps, with any number of threads.
    CcEnvironments(uint32_t links, uint64_t seed, int threads = 1);
    ~CcEnvironments();

    // Every link makes `decisions` decisions by the model with noise of standard deviation `sd`. The rewards in the
    // steps are adp_cc_reward() minus log2 of what the link offered (mean of at least half a second, per flow): no
    // action can change the difference, and without it the spread between links would drown what the actions change. On
    // a link with several flows (CUBIC neighbours count) half of the throughput's weight is all flows' mean log rate,
    // which is largest where the shares are equal: what one takes from a smaller one costs it more than it gains.
    std::vector<Segment> collect(const FloatModel& policy, double sd, uint32_t decisions);
    // The same, decided by the teacher.
    std::vector<Segment> collect_teacher(double sd, uint32_t decisions);
    [[nodiscard]] double simulated_s() const;

private:
    struct Link;
    std::vector<Segment> collect_with(const std::function<PolicyFunction()>& make_policy, double sd,
                                      uint32_t decisions);
    static void renew(Link& link);
    std::vector<std::unique_ptr<Link>> links_;
    const int threads_;
    double simulated_s_ = 0;
};

// Links that training never sees, with the fallback's scores on them.
struct HeldOut {
    std::vector<Scenario> lte;
    std::vector<Scenario> mixed;
    std::vector<Score> lte_cubic;
    std::vector<Score> mixed_cubic;
};
[[nodiscard]] HeldOut make_held_out(uint64_t seed, size_t lte, size_t mixed);

struct HeldOutScores {
    std::vector<Score> lte;
    std::vector<Score> mixed;
    // Mean reward over all links, less a tenth for each point of utilisation under 90 % on the LTE-like ones.
    double objective = 0;
};
[[nodiscard]] HeldOutScores score_held_out(const HeldOut& held_out, const FloatModel& policy);

}  // namespace adapath
