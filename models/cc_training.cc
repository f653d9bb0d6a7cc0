// See cc_training.h.
#include "models/cc_training.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "models/float_runner.h"

namespace adapath {

float teacher_action(const CcCodes& codes) {
    auto inflation = [&](size_t i) {
        return static_cast<float>(codes[i * ADP_CC_FEATURES] - ADP_CC_INFLATION_ZERO) / ADP_CC_INFLATION_UNIT;
    };
    auto latency = [&](size_t i) {
        return static_cast<float>(codes[i * ADP_CC_FEATURES + 1] - ADP_CC_LATENCY_ZERO) / ADP_CC_LATENCY_UNIT;
    };
    auto send = [&](size_t i) {
        return static_cast<float>(codes[i * ADP_CC_FEATURES + 2] - ADP_CC_SEND_ZERO) / ADP_CC_SEND_UNIT;
    };
    constexpr size_t last = ADP_CC_HISTORY - 1;
    // 0.6 in log2: an RTT of 1.5 times the least. The least of three intervals, because bursts of a radio link's
    // scheduler make single intervals look late without a standing queue.
    const float standing = std::min({latency(last), latency(last - 1), latency(last - 2)});
    const float rising = (inflation(last) + inflation(last - 1) + inflation(last - 2)) / 3;
    const float excess = std::max(0.0F, (send(last) + send(last - 1)) / 2);
    return std::clamp(1.5F * (0.6F - standing) - 1.0F * rising - 0.5F * excess, -1.0F, 1.0F);
}

struct CcEnvironments::Link {
    Scenario scenario;
    std::unique_ptr<Simulator> simulator;
    double ends_s = 0;
    std::unique_ptr<SegmentBuilder> builder;
};

CcEnvironments::CcEnvironments(uint32_t links, uint64_t seed) : random_(seed) {
    for (uint32_t i = 0; i < links; i++) {
        links_.push_back(std::make_unique<Link>());
        renew(*links_.back());
    }
}

CcEnvironments::~CcEnvironments() = default;

void CcEnvironments::renew(Link& link) {
    link.scenario = random_scenario(random_);
    link.simulator = make_simulator(link.scenario);
    link.ends_s = random_.uniform(15, 40);
    link.builder = std::make_unique<SegmentBuilder>([&link](const adp_cc_sample& s) {
        const double now_s = static_cast<double>(s.time_us) * 1e-6;
        const double window_s = std::min(std::max(0.5, s.interval.us * 1e-6), now_s);
        const double offered = link.simulator->offered_bytes(now_s - window_s, now_s) / window_s / link.scenario.flows;
        const double baseline = std::log2(std::max(offered, 1500.0)) - 14;
        return static_cast<float>(adp_cc_reward(&s.interval) / 65536.0 - baseline);
    });
    link.simulator->set_samples([&link](const adp_cc_sample& s) { link.builder->add(s); });
}

std::vector<Segment> CcEnvironments::collect_with(const PolicyFunction& policy, double sd, uint32_t decisions) {
    std::vector<Segment> all;
    const auto explore_q16 = static_cast<uint32_t>(std::lround(sd * ADP_Q16_ONE));
    for (auto& link : links_) {
        if (link->simulator->now_s() >= link->ends_s) renew(*link);
        const double before_s = link->simulator->now_s();
        link->simulator->set_policy(policy, 1, explore_q16);
        // A link so slow that it can't make the decisions in 20 s gives what it has.
        link->simulator->run_decisions(decisions, before_s + 20);
        simulated_s_ += link->simulator->now_s() - before_s;
        for (Segment& segment : link->builder->take()) all.push_back(std::move(segment));
    }
    return all;
}

std::vector<Segment> CcEnvironments::collect(const FloatModel& policy, double sd, uint32_t decisions) {
    auto runner = std::make_shared<FloatRunner>(policy);
    return collect_with([runner](const uint8_t* input) { return runner->run_q16(input); }, sd, decisions);
}

std::vector<Segment> CcEnvironments::collect_teacher(double sd, uint32_t decisions) {
    auto teacher = [](const uint8_t* input) {
        CcCodes codes;
        std::copy(input, input + ADP_CC_INPUTS, codes.begin());
        return static_cast<int32_t>(std::lround(teacher_action(codes) * ADP_Q16_ONE));
    };
    return collect_with(teacher, sd, decisions);
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
    scores.objective = reward / n - 10 * std::max(0.0, 0.82 - mean_score(scores.lte).utilisation);
    return scores;
}

}  // namespace adapath
