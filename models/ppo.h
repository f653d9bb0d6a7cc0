// Proximal policy optimisation (Schulman et al., 2017) for a policy with one continuous action: a Gaussian around the
// network's output, whose standard deviation is the exploration strength that the datapath drew its noise with. The
// mean and the noise are logged with each decision, so the probability ratio is exact even for samples that an older
// generation made. No LibTorch in this header.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "codegen/model.h"
#include "models/segments.h"

namespace adapath {

struct PpoOptions {
    double gamma = 0.97;   // per decision: about 30 intervals ahead
    double lambda = 0.92;  // of generalised advantage estimation
    double clip = 0.2;
    double policy_rate = 3e-4;  // Adam
    double value_rate = 1e-3;
    uint32_t epochs = 4;        // passes over a batch
    uint32_t minibatch = 1024;  // steps
    double max_gradient = 0.5;  // norm
    double target_kl = 0.03;    // the passes end early over this
    double excess = 0.05;  // weight of the squared part of the output outside [-1, 1], which the clamp makes useless
    // The policy moves only in batches whose returns the value network explained so well (share of their variance)
    // before it learned from them: advantages against a value network that does not know this link yet are noise.
    double least_explained = -1e9;
    // Weight of the squared difference to what the policy that it began with would have decided: how far it may go from
    // there for what a few batches of one link say.
    double anchor = 0;
    double entropy = 0;       // weight of the entropy bonus; acts only with learn_sd
    bool learn_sd = false;    // the standard deviation is learned too (offline); false = as logged
    double initial_sd = 0.4;  // with learn_sd
    double min_sd = 0.05;     // with learn_sd
    int threads = 1;          // of LibTorch, for the whole process
    uint64_t seed = 1;
};

struct PpoStats {
    uint64_t steps = 0;     // used for the value
    uint64_t explored = 0;  // of them, used for the policy
    double policy_loss = 0;
    double value_loss = 0;
    double mean_reward = 0;
    double kl = 0;         // from the deciding policies to the new one
    double explained = 0;  // share of the returns' variance that the value network explains
    double sd = 0;         // mean standard deviation
};

class Ppo {
public:
    // Models without weights get random ones.
    Ppo(const FloatModel& policy, const FloatModel& value, const PpoOptions& options);
    ~Ppo();
    Ppo(const Ppo&) = delete;
    Ppo& operator=(const Ppo&) = delete;

    // One batch. With update_policy false only the value network learns (its first batches; unexplored samples). A set
    // `stop` ends it between minibatches.
    PpoStats update(std::span<const Segment> segments, bool update_policy = true,
                    const std::atomic<bool>* stop = nullptr);
    // Behaviour cloning: moves the policy towards targets by squared error. Returns the last pass's mean squared error.
    double imitate(std::span<const CcCodes> codes, std::span<const float> targets, uint32_t epochs, double rate = 1e-3);

    void set_rates(double policy_rate, double value_rate);
    [[nodiscard]] FloatModel policy() const;
    [[nodiscard]] FloatModel value() const;
    [[nodiscard]] double sd() const;  // the learned one, or initial_sd
    // Goes on from another model; forgets the optimiser's momentum.
    void assign_policy(const FloatModel& policy);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace adapath
