// Watches a new snapshot's reward after a switch and says when to roll back. Pure: times come in as arguments, nothing
// is read from the world.
//
// Each flow has a baseline, what it earned under the snapshot before; what counts is how far a flow's rewards under the
// new one are from its own baseline, so that flows on paths of any speed weigh alike. A link moves by itself: what the
// old snapshot's windows varied by is added to the margin.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>
#include <vector>

#include "userspace/adapathd/trial.h"

namespace adapath {

struct WatchOptions {
    bool rollback = true;
    uint32_t min_decisions = 20;
    double min_seconds = 1.5;
    double seconds = 30;
    double window_seconds = 3;
    double baseline_seconds = 20;
    double margin = 1.0;
    double noise_factor = 2.0;
};

class SwitchPolicy {
public:
    explicit SwitchPolicy(const WatchOptions& options) : options_(options) {}

    enum class State : uint8_t { trusted, watched };
    struct Verdict {
        bool roll_back = false;
        bool became_trusted = false;
        std::string text;  // figures, for the event
    };

    // `to` decides from now on. `watch` = false: it is trusted already (a roll back to what was). `knowledge`: it has
    // passed a trial beside the one before it, so the watch only has to see what a trial can't; its margin is wider,
    // and what the link took from both sides then is not held against it.
    // `turn`: one of two that take turns of seconds. Then what the other earned just before is the baseline, whatever
    // it was: neither is ever watched to the end, and a baseline of long ago would be another link's.
    void on_switch(uint32_t to, uint64_t now_us, bool watch, const TrialKnowledge& knowledge = {}, bool turn = false);
    // A reward that a decision of `generation` (0 = the fallback) earned.
    void add(uint64_t flow, uint32_t generation, double reward, uint64_t time_us);
    // Call once a batch.
    Verdict assess(uint64_t now_us);
    void forget_flow(uint64_t flow) {
        flows_.erase(flow);
        watch_flows_.erase(flow);
    }

    // What each flow earned lately under what decides now, or before it; flows that are known too little are left out.
    [[nodiscard]] std::unordered_map<uint64_t, double> baselines() const;

    // Is there anything that a new snapshot could be held against?
    [[nodiscard]] bool has_baseline() const { return baseline_decisions_ >= options_.min_decisions; }
    [[nodiscard]] State state() const { return state_; }
    [[nodiscard]] uint32_t generation() const { return generation_; }
    // Mean reward over the flows' baselines, and of the generation that decides now: for people.
    [[nodiscard]] std::string describe() const;

private:
    struct Flow {
        double mean = 0;
        uint64_t count = 0;
        uint64_t time_us = 0;
    };
    // Deviations from the baseline within half a second.
    struct Block {
        uint64_t index = 0;
        double sum = 0;
        uint64_t count = 0;
    };
    struct Window {
        double mean = 0;
        uint64_t count = 0;
    };

    // The watched generation becomes what the next one is held against.
    void rebase();
    void learn(Flow& flow, double reward, uint64_t time_us) const;
    [[nodiscard]] double baseline_of(uint64_t flow) const;
    static void append(std::deque<Block>& blocks, double deviation, uint64_t time_us, double keep_seconds);
    [[nodiscard]] static Window tail(const std::deque<Block>& blocks, uint64_t last_index, double seconds);
    [[nodiscard]] double noise() const;
    [[nodiscard]] double margin() const;

    WatchOptions options_;
    State state_ = State::trusted;
    uint32_t generation_ = 0;
    bool turn_ = false;  // it is one of two that take turns
    uint64_t switched_us_ = 0;
    TrialKnowledge knowledge_;
    uint64_t decisions_ = 0;  // rewards of the watched generation
    uint64_t baseline_decisions_ = 0;
    std::unordered_map<uint64_t, Flow> flows_;
    Flow all_;                                        // baseline of flows that have none yet
    std::unordered_map<uint64_t, Flow> watch_flows_;  // the same, of the watched generation
    Flow watch_all_;
    std::deque<Block> baseline_blocks_;
    std::deque<Block> watch_blocks_;
};

}  // namespace adapath
