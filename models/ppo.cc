// See ppo.h.
#include "models/ppo.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "models/policy.h"
#include "models/simulator.h"

namespace adapath {

namespace {

torch::Tensor vector_tensor(const std::vector<float>& values) {
    return torch::from_blob(const_cast<float*>(values.data()), {static_cast<int64_t>(values.size())}, torch::kFloat32)
        .clone();
}

void set_rate(torch::optim::Adam& optimiser, double rate) {
    for (auto& group : optimiser.param_groups()) static_cast<torch::optim::AdamOptions&>(group.options()).lr(rate);
}

}  // namespace

struct Ppo::State {
    State(const FloatModel& policy_model, const FloatModel& value_model, const PpoOptions& o)
        : options(seeded(o)),
          random(o.seed),
          policy(policy_model),
          anchor(policy.model()),
          value(value_model),
          log_sd(torch::full({1}, std::log(o.initial_sd)).set_requires_grad(o.learn_sd)),
          policy_adam(trainable(), torch::optim::AdamOptions(o.policy_rate)),
          value_adam(value.parameters(), torch::optim::AdamOptions(o.value_rate)) {}

    // Before any weight is drawn.
    static PpoOptions seeded(const PpoOptions& o) {
        torch::set_num_threads(std::max(o.threads, 1));
        torch::manual_seed(o.seed);
        return o;
    }

    std::vector<torch::Tensor> trainable() const {
        std::vector<torch::Tensor> all = policy.parameters();
        if (options.learn_sd) all.push_back(log_sd);
        return all;
    }

    std::vector<int64_t> shuffled(size_t n) {
        std::vector<int64_t> order(n);
        std::iota(order.begin(), order.end(), 0);
        for (size_t i = n; i > 1; i--) std::swap(order[i - 1], order[random.next() % i]);
        return order;
    }

    PpoOptions options;
    Random random;
    Mlp policy;
    Mlp anchor;
    Mlp value;
    torch::Tensor log_sd;
    torch::optim::Adam policy_adam;
    torch::optim::Adam value_adam;
};

Ppo::Ppo(const FloatModel& policy, const FloatModel& value, const PpoOptions& options)
    : state_(std::make_unique<State>(policy, value, options)) {}
Ppo::~Ppo() = default;

PpoStats Ppo::update(std::span<const Segment> segments, bool update_policy, const std::atomic<bool>* stop) {
    State& s = *state_;
    const PpoOptions& o = s.options;
    const Network& network = s.policy.model().network;

    PpoStats stats;
    // Flatten. Each segment's values need its steps' inputs and the one after.
    std::vector<CcCodes> codes;
    std::vector<CcCodes> with_next;
    std::vector<float> taken, mean, sd, rewards;
    for (const Segment& segment : segments) {
        for (const Step& step : segment.steps) {
            codes.push_back(step.codes);
            with_next.push_back(step.codes);
            taken.push_back(step.taken);
            mean.push_back(step.output);
            sd.push_back(step.sd);
            // So scaled, a return is a weighted mean of rewards and the value network's output stays of order one.
            rewards.push_back(static_cast<float>(step.reward * (1 - o.gamma)));
            stats.mean_reward += step.reward;
        }
        if (!segment.steps.empty()) with_next.push_back(segment.next_codes);
    }
    stats.steps = codes.size();
    if (codes.empty()) return stats;
    stats.mean_reward /= static_cast<double>(codes.size());

    std::vector<float> values;
    {
        torch::NoGradGuard guard;
        const torch::Tensor v = s.value.forward(decode_codes(network, with_next)).contiguous();
        values.assign(v.data_ptr<float>(), v.data_ptr<float>() + v.numel());
    }
    // Generalised advantage estimation, backwards. A flow's end is not a terminal state: only its log stops here.
    std::vector<float> advantages(codes.size()), returns(codes.size());
    size_t step_at = 0;
    size_t value_at = 0;
    for (const Segment& segment : segments) {
        const size_t n = segment.steps.size();
        if (n == 0) continue;
        double accumulated = 0;
        for (size_t i = n; i-- > 0;) {
            const double delta = rewards[step_at + i] + o.gamma * values[value_at + i + 1] - values[value_at + i];
            accumulated = delta + o.gamma * o.lambda * accumulated;
            advantages[step_at + i] = static_cast<float>(accumulated);
            returns[step_at + i] = static_cast<float>(accumulated + values[value_at + i]);
        }
        step_at += n;
        value_at += n + 1;
    }

    // A decision without noise says nothing about what another action would have done.
    const auto total = static_cast<double>(codes.size());
    std::vector<float> explored(codes.size());
    double advantage_sum = 0, advantage_squares = 0;
    for (size_t i = 0; i < codes.size(); i++) {
        stats.sd += sd[i] / total;
        explored[i] = sd[i] > 0 ? 1.0F : 0.0F;
        if (sd[i] > 0) {
            stats.explored++;
            advantage_sum += advantages[i];
            advantage_squares += double{advantages[i]} * advantages[i];
        }
    }
    if (stats.explored > 0) {
        const auto n = static_cast<double>(stats.explored);
        const double centre = advantage_sum / n;
        const double spread = std::sqrt(std::max(advantage_squares / n - centre * centre, 1e-8));
        for (float& a : advantages) a = static_cast<float>((a - centre) / spread);
    }

    const torch::Tensor x = decode_codes(network, codes);
    const torch::Tensor taken_t = vector_tensor(taken);
    const torch::Tensor explored_t = vector_tensor(explored);
    const torch::Tensor sd_t = vector_tensor(sd).clamp_min(1e-3);
    const torch::Tensor old_z = (taken_t - vector_tensor(mean)) / sd_t;
    const torch::Tensor old_log_prob = -0.5 * old_z * old_z - sd_t.log();
    const torch::Tensor advantage_t = vector_tensor(advantages);
    const torch::Tensor return_t = vector_tensor(returns);
    {
        const torch::Tensor first = s.value.forward(x).detach().squeeze(1);
        const double variance = return_t.var(false).item<double>();
        stats.explained = variance > 0 ? 1 - (return_t - first).pow(2).mean().item<double>() / variance : 0;
    }

    const bool policy_wanted = update_policy && stats.explored > 0 && stats.explained >= o.least_explained;
    bool policy_done = !policy_wanted;
    uint64_t policy_batches = 0, value_batches = 0;
    for (uint32_t epoch = 0; epoch < o.epochs; epoch++) {
        const std::vector<int64_t> order = s.shuffled(codes.size());
        for (size_t from = 0; from < order.size(); from += o.minibatch) {
            if (stop && stop->load(std::memory_order_relaxed)) return stats;
            const size_t n = std::min<size_t>(o.minibatch, order.size() - from);
            // The rest of a batch that is much smaller than the others would have a gradient of mostly noise.
            if (from > 0 && n < o.minibatch / 4) break;
            const torch::Tensor index =
                torch::from_blob(const_cast<int64_t*>(order.data() + from), {static_cast<int64_t>(n)}, torch::kInt64);
            const torch::Tensor xb = x.index_select(0, index);

            const torch::Tensor value_loss =
                (s.value.forward(xb).squeeze(1) - return_t.index_select(0, index)).pow(2).mean();
            s.value_adam.zero_grad();
            value_loss.backward();
            torch::nn::utils::clip_grad_norm_(s.value.parameters(), 10 * o.max_gradient);
            s.value_adam.step();
            stats.value_loss += value_loss.item<double>();
            value_batches++;
            if (policy_done) continue;

            const torch::Tensor mask = explored_t.index_select(0, index);
            const double count = mask.sum().item<double>();
            if (count == 0) continue;
            const torch::Tensor mu = s.policy.forward(xb).squeeze(1);
            const torch::Tensor sd_b = o.learn_sd ? s.log_sd.exp().clamp_min(o.min_sd).expand({static_cast<int64_t>(n)})
                                                  : sd_t.index_select(0, index);
            const torch::Tensor z = (taken_t.index_select(0, index) - mu) / sd_b;
            const torch::Tensor log_ratio = -0.5 * z * z - sd_b.log() - old_log_prob.index_select(0, index);
            const torch::Tensor ratio = log_ratio.clamp(-10, 10).exp();
            const torch::Tensor advantage = advantage_t.index_select(0, index);
            const torch::Tensor gain = torch::min(ratio * advantage, ratio.clamp(1 - o.clip, 1 + o.clip) * advantage);
            // E[r - 1 - log r] estimates the divergence without bias and is never negative.
            const double kl = (((ratio - 1 - log_ratio) * mask).sum() / count).item<double>();
            if (kl > 1.5 * o.target_kl) {
                policy_done = true;
                continue;
            }
            torch::Tensor anchored;
            torch::Tensor loss = -(gain * mask).sum() / count + o.excess * torch::relu(mu.abs() - 1).pow(2).mean();
            if (o.anchor > 0) {
                torch::NoGradGuard guard;
                anchored = s.anchor.forward(xb).squeeze(1);
            }
            if (o.anchor > 0) loss = loss + o.anchor * (mu - anchored).pow(2).mean();
            if (o.learn_sd) loss = loss - o.entropy * s.log_sd.sum();
            s.policy_adam.zero_grad();
            loss.backward();
            torch::nn::utils::clip_grad_norm_(s.trainable(), o.max_gradient);
            s.policy_adam.step();
            stats.policy_loss += loss.item<double>();
            stats.kl = kl;
            policy_batches++;
        }
    }
    if (policy_batches) stats.policy_loss /= static_cast<double>(policy_batches);
    if (value_batches) stats.value_loss /= static_cast<double>(value_batches);
    return stats;
}

double Ppo::imitate(std::span<const CcCodes> codes, std::span<const float> targets, uint32_t epochs, double rate) {
    State& s = *state_;
    if (codes.empty()) return 0;
    torch::optim::Adam adam(s.policy.parameters(), torch::optim::AdamOptions(rate));
    const torch::Tensor x = decode_codes(s.policy.model().network, codes);
    const torch::Tensor y = vector_tensor({targets.begin(), targets.end()});
    double error = 0;
    for (uint32_t epoch = 0; epoch < epochs; epoch++) {
        const std::vector<int64_t> order = s.shuffled(codes.size());
        error = 0;
        size_t batches = 0;
        for (size_t from = 0; from < order.size(); from += s.options.minibatch) {
            const size_t n = std::min<size_t>(s.options.minibatch, order.size() - from);
            const torch::Tensor index =
                torch::from_blob(const_cast<int64_t*>(order.data() + from), {static_cast<int64_t>(n)}, torch::kInt64);
            const torch::Tensor loss =
                (s.policy.forward(x.index_select(0, index)).squeeze(1) - y.index_select(0, index)).pow(2).mean();
            adam.zero_grad();
            loss.backward();
            adam.step();
            error += loss.item<double>();
            batches++;
        }
        error /= static_cast<double>(batches);
    }
    return error;
}

void Ppo::set_rates(double policy_rate, double value_rate) {
    set_rate(state_->policy_adam, policy_rate);
    set_rate(state_->value_adam, value_rate);
}

FloatModel Ppo::policy() const { return state_->policy.model(); }
FloatModel Ppo::value() const { return state_->value.model(); }
double Ppo::sd() const {
    return std::max(std::exp(state_->log_sd.item<double>()), state_->options.learn_sd ? state_->options.min_sd : 0);
}

void Ppo::assign_policy(const FloatModel& policy) {
    state_->policy.assign(policy);
    state_->policy_adam.state().clear();
}

}  // namespace adapath
