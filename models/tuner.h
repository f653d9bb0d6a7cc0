// Online learning of the app cc by turns: two numbers of the policy, the output's bias and gain, are tried against what
// decides now. For a few seconds one setting decides for every flow of the gateway, then the other, and what both
// earned is compared pair by pair; the better one stays.
//
// Why not a gradient over all weights, from noise on single decisions (online.h)? Flows that share an uplink share its
// queue: noise on one flow's window tells what that flow gains at the others' cost, so the gradient teaches each to
// push, and all lose. Turns compare what all of them earn together. A switch costs a store here, so turns are cheap;
// two numbers are soon known; and nothing can be forgotten: the weights stay, the checkpoint's setting and those that
// were good before are the first to be tried when the link changes.
//
// Time is the samples' own, so that the trainer may run anywhere, and a simulator at any speed. No LibTorch.
#pragma once

#include <adapath/cc.h>

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "codegen/model.h"

namespace adapath {

// output = gain * the checkpoint's output + bias, in units of the action (1 = the largest move of the window).
struct TunerSetting {
    double bias = 0;
    double gain = 1;

    bool operator==(const TunerSetting&) const = default;
};
// "bias -0.20, gain 1.25"
[[nodiscard]] std::string describe(const TunerSetting& setting);
// The last layer scaled and shifted; the network stays the same, so it is a switch of parameters.
[[nodiscard]] FloatModel apply_setting(const FloatModel& model, const TunerSetting& setting);

struct TunerOptions {
    double turn_s = 4;             // how long a setting decides at a time
    double settle_s = 0.8;         // of it, the beginning that is still the other one's
    uint32_t turn_intervals = 12;  // monitor intervals, over all flows, without which a turn says nothing
    uint32_t most_pairs = 8;       // of turns, before what is not better has lost
    // The least gain in reward that is worth a change.
    double least_gain = 0.02;
    // A first turn that is this much worse ends the comparison at once.
    double hopeless = 0.5;
    double bias_step = 0.1;
    double bias_least_step = 0.05;
    double bias_most = 0.5;  // either way
    double gain_step = 1.3;  // factor
    double gain_most = 2.0;  // and its reciprocal the least
    // Where nothing better was found, what decides is left alone for so long; doubled each time in a row.
    double rest_s = 60;
    double rest_most_s = 1800;
    // A change of what the best setting earns, beyond what it varied by, at which others are tried.
    double change = 0.3;
    uint32_t remembered = 4;  // settings that were good before
};

struct TunerCounters {
    uint64_t turns = 0;
    uint64_t wasted_turns = 0;  // too little was heard of the flows
    uint64_t comparisons = 0;
    uint64_t improvements = 0;
    uint64_t changes_seen = 0;  // of the link, while resting
};

class Tuner {
public:
    explicit Tuner(const TunerOptions& options = {});

    // What should decide. Changes only in add(), decided_by_other() and refused().
    [[nodiscard]] const TunerSetting& wanted() const;
    // The wanted setting decides from now on, under this generation. Its turn begins with the first sample of it.
    void decides(uint32_t generation);
    // The wanted setting can't decide: it was refused, or rolled back. The other one is wanted then.
    void refused();
    // Samples of every flow, in the order in which each flow made them. Others than the wanted generation's turn are
    // left out.
    void add(std::span<const adp_cc_sample> samples);
    // Training is off: no verdict on what was under way, which begins again later, and the best setting is wanted.
    void pause();
    // What was learned before: the best setting, and those that were good before it.
    void resume(const TunerSetting& best, const std::vector<TunerSetting>& good);
    // A new policy decides that this tuner knows nothing of: from the beginning.
    void restart();

    [[nodiscard]] const TunerSetting& best() const { return best_; }
    [[nodiscard]] const std::vector<TunerSetting>& good_before() const { return good_; }
    [[nodiscard]] bool resting() const { return !challenger_; }
    [[nodiscard]] const TunerCounters& counters() const { return counters_; }
    // The newest result of a comparison, for the log; empty where there is none since the last call.
    [[nodiscard]] std::string take_news();

private:
    struct Sum {
        double reward = 0;  // times microseconds
        double us = 0;
    };
    using Turn = std::unordered_map<uint64_t, Sum>;  // by flow

    void add(const adp_cc_sample& sample);
    void end_turn();
    void end_pair();
    void begin_turn();
    void judge();
    void stay_with(const TunerSetting& setting);
    void won(double gain);
    void lost(double gain);
    void next_challenger();
    void rest();
    [[nodiscard]] bool link_changed();
    void wake();
    [[nodiscard]] bool challengers_turn() const;
    [[nodiscard]] static std::optional<double> difference(const Turn& challenger, const Turn& best);
    [[nodiscard]] std::optional<TunerSetting> stepped(size_t direction) const;

    TunerOptions options_;
    TunerSetting best_;
    std::optional<TunerSetting> challenger_;
    bool remembered_ = false;            // it was good before; else it is a step from the best one
    std::vector<TunerSetting> good_;     // newest last
    std::vector<TunerSetting> waiting_;  // to be tried first, the next one last

    uint32_t generation_ = 0;  // of the wanted setting; 0 = it does not decide yet
    bool begun_ = false;       // a sample of it has come
    uint64_t begin_us_ = 0;
    uint64_t newest_us_ = 0;
    uint32_t intervals_ = 0;
    Turn turn_;
    Turn first_of_pair_;
    uint32_t index_ = 0;  // of the turn within the comparison
    std::vector<double> differences_;

    size_t direction_ = 0;  // of the last step: +bias, -bias, +gain, -gain
    uint32_t lost_in_a_row_ = 0;
    double step_ = 1;  // of the steps of the options
    double rest_s_ = 0;
    double rested_s_ = 0;
    std::vector<double> levels_;  // what the best setting earned in its turns, newest last
    std::string news_;
    TunerCounters counters_;
};

}  // namespace adapath
