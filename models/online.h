// Online training of the app cc: samples of the running datapath in, a better policy out, and the two questions of
// LiteFlow that decide whether the kernel gets it: has training settled (stability), and does the new policy differ
// enough from the active snapshot to be worth a switch (necessity). No LibTorch in this header. Not thread-safe: one
// thread owns a trainer.
#pragma once

#include <adapath/cc.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "codegen/model.h"

namespace adapath {

struct OnlineOptions {
    // Decisions in a batch: step() waits for as many. At 20 intervals a second a camera gives 1024 in under a minute.
    uint32_t batch = 1024;
    // Older unused steps are dropped, oldest first, where samples come faster than step() is called.
    uint32_t max_pending = 65536;
    // Recent inputs that outputs are compared and models calibrated on.
    uint32_t recent = 2048;
    // Batches from the start (and after restart_from()) in which only the value network learns: a value network that
    // does not know this link yet would judge the policy by chance. 0 where a matching value model is at hand.
    uint32_t value_first = 2;
    // Stability: outputs moved by less than this fraction of the action's range (2) from batch to batch, on average
    // over the recent inputs, ...
    double stable_change = 0.02;
    // ... and did so for as many batches in a row.
    uint32_t stable_batches = 3;
    // Necessity: mean difference of the decisions over the range that both models' decisions span on recent inputs.
    double necessary_loss = 0.05;
    // PPO. Smaller steps than offline: every batch is one link's, and the active policy works already.
    double policy_rate = 1e-4;
    double value_rate = 1e-3;
    uint32_t epochs = 4;
    uint32_t minibatch = 256;
    double clip = 0.15;
    double target_kl = 0.02;
    // See PpoOptions. The anchor is the checkpoint that the trainer started from: when the link is again what it was
    // trained for, little has been forgotten.
    double least_explained = 0.1;
    double anchor = 0.3;
    double gamma = 0.97;
    double lambda = 0.92;
    // Rewards are taken relative to their flow's running mean over about this many intervals: a flow's absolute rate
    // says where it is, not what its policy did.
    uint32_t reward_memory = 200;
    int threads = 1;  // of LibTorch, for the whole process
    uint64_t seed = 1;
    // step() returns early once this is set.
    const std::atomic<bool>* stop = nullptr;
};

struct OnlineStats {
    bool trained = false;   // false: not enough samples yet, the rest is empty
    uint64_t batch = 0;     // number of this training step, from 1
    uint64_t samples = 0;   // decisions with a known outcome in this batch
    uint64_t explored = 0;  // of them, made with noise: only these move the policy
    double policy_loss = 0;
    double value_loss = 0;
    double mean_reward = 0;  // adp_cc_reward / 65536, not centred: the operator's figure
    double kl = 0;           // from the policies that decided to the new one
    double change = 0;       // of the outputs by this step, fraction of the action's range
};

// Why a batch was short of samples.
struct OnlineCounters {
    uint64_t samples = 0;      // added
    uint64_t decisions = 0;    // of them, usable
    uint64_t gaps = 0;         // not usable: the next sample was lost
    uint64_t app_limited = 0;  // not usable: the application left the rate unused
    uint64_t dropped = 0;      // usable, but over max_pending
};

class OnlineTrainer {
public:
    // `policy`: the model to start from (models/cc/policy.model). `value`: the same of the value network; without
    // weights a new one is made.
    OnlineTrainer(const FloatModel& policy, const FloatModel& value, const OnlineOptions& options = {});
    ~OnlineTrainer();
    OnlineTrainer(const OnlineTrainer&) = delete;
    OnlineTrainer& operator=(const OnlineTrainer&) = delete;

    // In the order in which each flow made them; flows may be mixed, samples may be missing.
    void add(std::span<const adp_cc_sample> samples);
    // Only their inputs, for recent_codes(): nothing is learned from them.
    void remember(std::span<const adp_cc_sample> samples);
    // One batch of training if enough decisions wait; their samples are used up.
    OnlineStats step();

    [[nodiscard]] bool stable() const;
    // Mean difference between the current policy's decisions and `active`'s on recent inputs, fraction of the range; 0
    // without inputs.
    [[nodiscard]] double fidelity_loss(const FloatModel& active) const;
    [[nodiscard]] bool necessary(const FloatModel& active) const;

    [[nodiscard]] FloatModel current() const;
    [[nodiscard]] FloatModel value() const;
    // Distinct moments, oldest first: for quantisation's calibration and the snapshot's probes. Empty before any
    // sample.
    [[nodiscard]] std::vector<InputCodes> recent_codes() const;
    [[nodiscard]] const OnlineOptions& options() const;
    [[nodiscard]] OnlineCounters counters() const;

    // Goes on from another policy, for example the one that was rolled back to. What waits is dropped: it would teach
    // again what was just undone. The value network stays.
    void restart_from(const FloatModel& policy);

private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace adapath
