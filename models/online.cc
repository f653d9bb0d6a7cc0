// See online.h.
#include "models/online.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <unordered_map>
#include <utility>

#include "models/float_runner.h"
#include "models/ppo.h"
#include "models/segments.h"
#include "models/supervised.h"

namespace adapath {

namespace {

PpoOptions ppo_options(const OnlineOptions& o) {
    PpoOptions p;
    p.gamma = o.gamma;
    p.lambda = o.lambda;
    p.clip = o.clip;
    p.policy_rate = o.policy_rate;
    p.value_rate = o.value_rate;
    p.epochs = o.epochs;
    p.minibatch = o.minibatch;
    p.target_kl = o.target_kl;
    p.least_explained = o.least_explained;
    p.anchor = o.anchor;
    p.threads = o.threads;
    p.seed = o.seed;
    return p;
}

// What a model decides: outputs beyond the action's range are all the same to the datapath.
std::vector<float> decisions_of(const FloatModel& model, const std::deque<CcCodes>& inputs) {
    FloatRunner runner(model);
    std::vector<float> out;
    out.reserve(inputs.size());
    for (const CcCodes& codes : inputs) out.push_back(std::clamp(runner.run(codes.data()), -1.0F, 1.0F));
    return out;
}

}  // namespace

struct OnlineTrainer::State {
    State(const FloatModel& policy, const FloatModel& value, const OnlineOptions& o)
        : options(o),
          ppo(policy, value, ppo_options(o)),
          builder([this](const adp_cc_sample& s) { return centred(s); }) {}

    // The reward less its flow's running mean. One entry a flow; forgotten all together in the rare process that sees
    // very many flows, which costs no more than a few intervals of a wrong mean.
    float centred(const adp_cc_sample& s) {
        const float reward = static_cast<float>(adp_cc_reward(&s.interval, &s.objective)) / 65536.0F;
        if (means.size() > 65536) means.clear();
        auto [it, is_new] = means.try_emplace(s.flow, reward);
        const float difference = reward - it->second;
        // App-limited intervals say what the application sent, not what the path gives.
        if (!(s.flags & ADP_CC_APP_LIMITED))
            it->second += difference / static_cast<float>(std::max(options.reward_memory, 1U));
        return difference;
    }

    void collect() {
        for (Segment& segment : builder.take()) {
            pending_steps += segment.steps.size();
            pending.push_back(std::move(segment));
        }
        while (pending.size() > 1 && pending_steps > options.max_pending) {
            dropped += pending.front().steps.size();
            pending_steps -= pending.front().steps.size();
            pending.pop_front();
        }
    }

    OnlineOptions options;
    Ppo ppo;
    std::unordered_map<uint64_t, float> means;
    SegmentBuilder builder;
    std::deque<Segment> pending;
    uint64_t pending_steps = 0;
    uint64_t dropped = 0;
    std::deque<CcCodes> recent;
    double reward_sum = 0;  // of usable intervals since the last batch, not centred
    uint64_t reward_count = 0;
    uint64_t batches = 0;
    uint32_t value_only = 0;  // batches left in which the policy does not move
    uint32_t settled = 0;     // batches in a row with little change
};

OnlineTrainer::OnlineTrainer(const FloatModel& policy, const FloatModel& value, const OnlineOptions& options)
    : state_(std::make_unique<State>(policy, value, options)) {
    state_->value_only = options.value_first;
}

OnlineTrainer::~OnlineTrainer() = default;

void OnlineTrainer::remember(std::span<const adp_cc_sample> samples) {
    State& s = *state_;
    for (const adp_cc_sample& sample : samples) {
        // Slow start's and the fallback's inputs count too: a snapshot must be right on what it will see.
        CcCodes codes;
        std::copy(std::begin(sample.input), std::end(sample.input), codes.begin());
        s.recent.push_back(codes);
        if (s.recent.size() > s.options.recent) s.recent.pop_front();
    }
}

void OnlineTrainer::add(std::span<const adp_cc_sample> samples) {
    State& s = *state_;
    remember(samples);
    for (const adp_cc_sample& sample : samples) {
        s.builder.add(sample);
        if (sample.generation != 0 && !(sample.flags & ADP_CC_APP_LIMITED)) {
            s.reward_sum += adp_cc_reward(&sample.interval, &sample.objective) / 65536.0;
            s.reward_count++;
        }
    }
    if (s.builder.ready() > s.options.batch) s.collect();
}

OnlineStats OnlineTrainer::step() {
    State& s = *state_;
    OnlineStats stats;
    if (s.pending_steps + s.builder.ready() < std::max(s.options.batch, 1U)) return stats;
    s.collect();
    const std::vector<Segment> segments(std::make_move_iterator(s.pending.begin()),
                                        std::make_move_iterator(s.pending.end()));
    s.pending.clear();
    s.pending_steps = 0;

    const std::vector<float> before = decisions_of(s.ppo.policy(), s.recent);
    const bool move_policy = s.value_only == 0;
    const PpoStats ppo = s.ppo.update(segments, move_policy, s.options.stop);
    stats.trained = true;
    stats.batch = ++s.batches;
    stats.samples = ppo.steps;
    stats.explored = ppo.explored;
    stats.policy_loss = ppo.policy_loss;
    stats.value_loss = ppo.value_loss;
    stats.kl = ppo.kl;
    stats.mean_reward = s.reward_count ? s.reward_sum / static_cast<double>(s.reward_count) : 0;
    s.reward_sum = 0;
    s.reward_count = 0;
    stats.change = mean_difference(before, decisions_of(s.ppo.policy(), s.recent)) / 2;
    if (!move_policy) {
        s.value_only--;
        s.settled = 0;  // standing still by order is not having settled
    } else {
        s.settled = stats.change <= s.options.stable_change ? s.settled + 1 : 0;
    }
    return stats;
}

bool OnlineTrainer::stable() const { return state_->settled >= std::max(state_->options.stable_batches, 1U); }

double OnlineTrainer::fidelity_loss(const FloatModel& active) const {
    const State& s = *state_;
    if (s.recent.empty()) return 0;
    const std::vector<float> now = decisions_of(s.ppo.policy(), s.recent);
    const std::vector<float> then = decisions_of(active, s.recent);
    const auto [now_low, now_high] = std::minmax_element(now.begin(), now.end());
    const auto [then_low, then_high] = std::minmax_element(then.begin(), then.end());
    const double range = std::max(*now_high, *then_high) - std::min(*now_low, *then_low);
    // Two models that decide the same thing everywhere do not differ, however narrow the range is.
    return range > 1e-6 ? mean_difference(now, then) / range : 0;
}

bool OnlineTrainer::necessary(const FloatModel& active) const {
    return fidelity_loss(active) > state_->options.necessary_loss;
}

FloatModel OnlineTrainer::current() const { return state_->ppo.policy(); }
FloatModel OnlineTrainer::value() const { return state_->ppo.value(); }
const OnlineOptions& OnlineTrainer::options() const { return state_->options; }

std::vector<InputCodes> OnlineTrainer::recent_codes() const {
    std::vector<InputCodes> all;
    all.reserve(state_->recent.size());
    for (const CcCodes& codes : state_->recent) all.emplace_back(codes.begin(), codes.end());
    return all;
}

OnlineCounters OnlineTrainer::counters() const {
    const SegmentStats& b = state_->builder.stats();
    return {b.samples, b.steps, b.gaps, b.app_limited, state_->dropped};
}

void OnlineTrainer::restart_from(const FloatModel& policy) {
    State& s = *state_;
    s.ppo.assign_policy(policy);
    s.dropped += s.pending_steps + s.builder.ready();
    (void)s.builder.take();
    s.pending.clear();
    s.pending_steps = 0;
    s.value_only = s.options.value_first;
    s.settled = 0;
}

}  // namespace adapath
