// See cc_training.h.
#include "models/cc_training.h"

#include <algorithm>
#include <cmath>
#include <thread>
#include <utility>

#include "models/float_runner.h"

namespace adapath {

float teacher_action(const CcCodes& codes) {
    auto feature = [&](int intervals_ago, int which, float unit, float zero) {
        const int at = (ADP_CC_HISTORY - 1 - intervals_ago) * ADP_CC_FEATURES + which;
        return (static_cast<float>(codes[at]) - zero) / unit;
    };
    auto standing = [&](int ago) { return feature(ago, ADP_CC_STANDING, ADP_CC_LATENCY_UNIT, ADP_CC_LATENCY_ZERO); };
    auto inflation = [&](int ago) {
        return feature(ago, ADP_CC_INFLATION, ADP_CC_INFLATION_UNIT, ADP_CC_INFLATION_ZERO);
    };
    auto loss = [&](int ago) { return feature(ago, ADP_CC_LOSS, ADP_CC_LOSS_UNIT, ADP_CC_LOSS_ZERO); };
    // log2 of the weights over throughput's.
    const float delay_weight =
        (static_cast<float>(codes[ADP_CC_DELAY_WEIGHT]) - ADP_CC_DELAY_WEIGHT_ZERO) / ADP_CC_WEIGHT_UNIT;
    const float loss_weight =
        (static_cast<float>(codes[ADP_CC_LOSS_WEIGHT]) - ADP_CC_LOSS_WEIGHT_ZERO) / ADP_CC_WEIGHT_UNIT;
    // What may stand in the queue, as log2 of the RTT's ratio: from 0.9 (87 % over the base) where delay hardly counts
    // to 0.2 where it counts twice as much as throughput.
    const float target = std::clamp(0.35F - 0.12F * delay_weight, 0.2F, 0.9F);
    const float rising = (inflation(0) + inflation(1)) / 2;
    // The least of two intervals, because bursts of a radio link's scheduler make single intervals look late.
    const float now = std::min(standing(0), standing(1));
    return std::clamp(1.2F * (target - now) - 0.5F * rising - 0.3F * std::exp2(loss_weight - 3) * (loss(0) + loss(1)),
                      -1.0F, 1.0F);
}

namespace {

// Of the reward's throughput, how much is all flows' mean log rate instead of the flow's own.
constexpr double fair_share = 0.5;

}  // namespace

struct CcEnvironments::Link {
    explicit Link(uint64_t seed) : random(seed) {}
    float reward(const adp_cc_sample& sample);

    Random random;
    Scenario scenario;
    std::unique_ptr<Simulator> simulator;
    double ends_s = 0;
    std::vector<double> rates;  // bytes/s, smoothed; 0 = not heard of yet
    std::unique_ptr<SegmentBuilder> builder;
};

CcEnvironments::CcEnvironments(uint32_t links, uint64_t seed, int threads) : threads_(std::max(threads, 1)) {
    // Streams of their own, so that the threads that run them don't matter.
    Random random(seed);
    for (uint32_t i = 0; i < links; i++) {
        links_.push_back(std::make_unique<Link>(random.next()));
        renew(*links_.back());
    }
}

CcEnvironments::~CcEnvironments() = default;

void CcEnvironments::renew(Link& link) {
    link.scenario = random_scenario(link.random);
    link.simulator = make_simulator(link.scenario);
    link.ends_s = link.random.uniform(15, 40);
    link.rates.assign(size_t{link.scenario.flows} + link.scenario.cubic_flows, 0);
    link.builder = std::make_unique<SegmentBuilder>([&link](const adp_cc_sample& s) { return link.reward(s); });
    link.simulator->set_samples([&link](const adp_cc_sample& s) { link.builder->add(s); });
}

// See collect() in the header for what is added to cc.h's reward, and why.
float CcEnvironments::Link::reward(const adp_cc_sample& s) {
    const double now_s = static_cast<double>(s.time_us) * 1e-6;
    const double window_s = std::min(std::max(0.5, s.interval.us * 1e-6), now_s);
    const double weight = s.objective.throughput_q16 / 65536.0;
    const double offered =
        simulator->offered_bytes(now_s - window_s, now_s) / window_s / static_cast<double>(rates.size());
    double reward =
        adp_cc_reward(&s.interval, &s.objective) / 65536.0 - weight * (std::log2(std::max(offered, 1500.0)) - 14);
    if (rates.size() > 1) {
        // The last second or so of every flow.
        const double rate = std::max<double>(static_cast<double>(adp_cc_delivery_rate(&s.interval)), s.interval.mss);
        double& own = rates[s.flow - 1];
        const double keep = std::exp(s.interval.us * -1e-6);
        own = own > 0 ? own * keep + rate * (1 - keep) : rate;
        double sum = 0;
        int n = 0;
        for (double r : rates) {
            if (r <= 0) continue;  // not there yet
            sum += std::log2(r);
            n++;
        }
        reward += fair_share * weight * (sum / n - std::log2(own));
    }
    return static_cast<float>(reward);
}

std::vector<Segment> CcEnvironments::collect_with(const std::function<PolicyFunction()>& make_policy, double sd,
                                                  uint32_t decisions) {
    const auto explore_q16 = static_cast<uint32_t>(std::lround(sd * ADP_Q16_ONE));
    std::vector<std::vector<Segment>> segments(links_.size());
    std::vector<double> simulated(links_.size());
    auto work = [&](size_t first) {
        const PolicyFunction policy = make_policy();  // one a thread: a runner has scratch of its own
        for (size_t i = first; i < links_.size(); i += static_cast<size_t>(threads_)) {
            Link& link = *links_[i];
            if (link.simulator->now_s() >= link.ends_s) renew(link);
            const double before_s = link.simulator->now_s();
            link.simulator->set_policy(policy, 1, explore_q16);
            // A link so slow that it can't make the decisions in 20 s gives what it has.
            link.simulator->run_decisions(decisions, before_s + 20);
            simulated[i] = link.simulator->now_s() - before_s;
            segments[i] = link.builder->take();
        }
    };
    {
        std::vector<std::jthread> others;
        for (int t = 1; t < threads_; t++) others.emplace_back(work, static_cast<size_t>(t));
        work(0);
    }
    std::vector<Segment> all;
    for (size_t i = 0; i < links_.size(); i++) {
        simulated_s_ += simulated[i];
        for (Segment& segment : segments[i]) all.push_back(std::move(segment));
    }
    return all;
}

std::vector<Segment> CcEnvironments::collect(const FloatModel& policy, double sd, uint32_t decisions) {
    return collect_with(
        [&policy]() -> PolicyFunction {
            auto runner = std::make_shared<FloatRunner>(policy);
            return [runner](const uint8_t* input) { return runner->run_q16(input); };
        },
        sd, decisions);
}

std::vector<Segment> CcEnvironments::collect_teacher(double sd, uint32_t decisions) {
    return collect_with([] { return teacher_policy(); }, sd, decisions);
}

PolicyFunction teacher_policy() {
    return [](const uint8_t* input) {
        CcCodes codes;
        std::copy(input, input + ADP_CC_INPUTS, codes.begin());
        return static_cast<int32_t>(std::lround(teacher_action(codes) * ADP_Q16_ONE));
    };
}

double CcEnvironments::simulated_s() const { return simulated_s_; }

HeldOut make_held_out(uint64_t seed, size_t lte, size_t mixed) {
    HeldOut h;
    Random random(seed ^ 0x68656c646f757421ULL);  // apart from every training seed's stream
    for (size_t i = 0; i < lte; i++) h.lte.push_back(random_lte_scenario(random));
    for (size_t i = 0; i < mixed; i++) h.mixed.push_back(random_scenario(random));
    for (const Scenario& s : h.lte) h.lte_cubic.push_back(score_link(s, {}));
    for (const Scenario& s : h.mixed) h.mixed_cubic.push_back(score_link(s, {}));
    return h;
}

HeldOutScores score_held_out(const HeldOut& held_out, const FloatModel& policy) {
    HeldOutScores scores;
    FloatRunner runner(policy);
    const PolicyFunction function = [&runner](const uint8_t* input) { return runner.run_q16(input); };
    for (const Scenario& s : held_out.lte) scores.lte.push_back(score_link(s, function));
    for (const Scenario& s : held_out.mixed) scores.mixed.push_back(score_link(s, function));
    double reward = 0;
    for (const Score& s : scores.lte) reward += s.reward;
    for (const Score& s : scores.mixed) reward += s.reward;
    const auto n = static_cast<double>(scores.lte.size() + scores.mixed.size());
    scores.objective = reward / n - 10 * std::max(0.0, 0.9 - mean_score(scores.lte).utilisation);
    return scores;
}

}  // namespace adapath
