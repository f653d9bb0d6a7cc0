// From streams of samples to what reinforcement learning needs: for each decision its input, the action really taken,
// and the reward of the interval that followed. No LibTorch.
//
// The interval that follows the decision of sample n is the one recorded in the same flow's sample n + 1. So a decision
// is usable only where the next sample of its flow is at hand (no gap in seq), and where the application used the rate
// that the decision gave (not app-limited). What slow start, a drain, an idle application or the
// fallback decided (generation 0) is not a network's.
#pragma once

#include <adapath/cc.h>

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <unordered_map>
#include <vector>

namespace adapath {

using CcCodes = std::array<uint8_t, ADP_CC_INPUTS>;

struct Step {
    CcCodes codes = {};
    float output = 0;  // of the network that decided: the mean of what it could have done
    float taken = 0;   // output + noise, before the clamp, in units of the action
    float sd = 0;      // of the noise; 0 = the decision was not explored
    float reward = 0;  // of the interval that followed
    uint32_t generation = 0;
};

// Consecutive decisions of one flow.
struct Segment {
    uint64_t flow = 0;
    std::vector<Step> steps;
    CcCodes next_codes = {};  // the input after the last step, for its value
};

struct SegmentStats {
    uint64_t samples = 0;
    uint64_t steps = 0;
    uint64_t gaps = 0;         // decisions dropped because the next sample was lost
    uint64_t app_limited = 0;  // decisions dropped because the application did not use the rate
};

class SegmentBuilder {
public:
    // The reward of a sample's interval. Default: adp_cc_reward() / 65536.
    using RewardFunction = std::function<float(const adp_cc_sample&)>;

    explicit SegmentBuilder(RewardFunction reward = {});

    void add(const adp_cc_sample& sample);
    void add(std::span<const adp_cc_sample> samples) {
        for (const adp_cc_sample& s : samples) add(s);
    }
    // Complete steps that take() would give.
    [[nodiscard]] size_t ready() const { return ready_; }
    // Everything complete. Decisions still waiting for their next sample stay.
    std::vector<Segment> take();
    [[nodiscard]] const SegmentStats& stats() const { return stats_; }

private:
    struct FlowState {
        Segment segment;
        adp_cc_sample last = {};
        bool open = false;  // `last` is a network's decision that waits for what follows
    };
    void end_segment(FlowState& state);
    void forget_idle_flows(uint64_t now_us);

    RewardFunction reward_;
    std::unordered_map<uint64_t, FlowState> flows_;
    std::vector<Segment> done_;
    size_t ready_ = 0;
    SegmentStats stats_;
};

}  // namespace adapath
