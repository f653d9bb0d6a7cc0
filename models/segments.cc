// See segments.h.
#include "models/segments.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace adapath {

namespace {

constexpr size_t many_flows = 1024;
constexpr uint64_t idle_us = 60'000'000;

CcCodes codes_of(const adp_cc_sample& s) {
    CcCodes codes;
    std::copy(std::begin(s.input), std::end(s.input), codes.begin());
    return codes;
}

}  // namespace

SegmentBuilder::SegmentBuilder(RewardFunction reward) : reward_(std::move(reward)) {
    if (!reward_)
        reward_ = [](const adp_cc_sample& s) {
            return static_cast<float>(adp_cc_reward(&s.interval, &s.objective)) / 65536.0F;
        };
}

void SegmentBuilder::add(const adp_cc_sample& sample) {
    stats_.samples++;
    auto [it, is_new] = flows_.try_emplace(sample.flow);
    FlowState& state = it->second;
    if (is_new) {
        state.segment.flow = sample.flow;
        if (flows_.size() % many_flows == 0) forget_idle_flows(sample.time_us);
    } else if (sample.seq == state.last.seq) {
        return;  // delivered twice
    }
    // Asked for every sample, so that a reward with a memory (a running mean) sees them all.
    const float reward = reward_(sample);
    if (state.open) {
        if (sample.seq != state.last.seq + 1) {
            stats_.gaps++;
            end_segment(state);
        } else if (sample.flags & ADP_CC_APP_LIMITED) {
            stats_.app_limited++;
            end_segment(state);
        } else {
            const adp_cc_sample& d = state.last;
            Step step;
            step.codes = codes_of(d);
            step.output = static_cast<float>(d.output) / ADP_Q16_ONE;
            step.taken = static_cast<float>(static_cast<int64_t>(d.output) + d.noise) / ADP_Q16_ONE;
            step.sd = static_cast<float>(d.explore_q16) / ADP_Q16_ONE;
            step.reward = reward;
            step.generation = d.generation;
            state.segment.steps.push_back(step);
            state.segment.next_codes = codes_of(sample);
            ready_++;
            stats_.steps++;
        }
    }
    state.last = sample;
    state.open = sample.generation != 0 && (sample.flags & ADP_CC_NOT_DECIDED) == 0;
    if (!state.open) end_segment(state);
}

void SegmentBuilder::end_segment(FlowState& state) {
    if (state.segment.steps.empty()) return;
    const uint64_t flow = state.segment.flow;
    done_.push_back(std::exchange(state.segment, Segment{}));
    state.segment.flow = flow;
}

std::vector<Segment> SegmentBuilder::take() {
    for (auto& [id, state] : flows_) end_segment(state);
    ready_ = 0;
    std::vector<Segment> segments = std::exchange(done_, {});
    // The map's order differs between libraries; training must not.
    std::stable_sort(segments.begin(), segments.end(),
                     [](const Segment& a, const Segment& b) { return a.flow < b.flow; });
    return segments;
}

void SegmentBuilder::forget_idle_flows(uint64_t now_us) {
    for (auto it = flows_.begin(); it != flows_.end();) {
        const bool idle = it->second.last.time_us != 0 && it->second.last.time_us + idle_us < now_us;
        if (idle) end_segment(it->second);
        it = idle ? flows_.erase(it) : std::next(it);
    }
}

}  // namespace adapath
