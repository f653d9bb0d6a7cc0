// Judges a snapshot that is on trial: it decides for a share of the flows while the one before it goes on deciding for
// the others. Pure: times come in as arguments, nothing is read from the world.
//
// What is compared is a difference of differences. How far the flows on trial have come from their own baselines, less
// how far the others have come from theirs over the same time: a link that falls or rises does so under both and
// cancels. Each flow weighs alike. What the flows of one side differ by among themselves says how far the figure can be
// trusted, and widens the margin.
//
// The figure is blind to one thing: harm that the flows on trial do to all flows alike (a queue that they fill). The
// watch after the switch (switch_policy.h) is for that.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "codegen/result.h"

namespace adapath {

struct TrialOptions {
    bool automatic = true;  // what training asks for goes on trial; false: only what an operator asks a trial for
    uint32_t min_flows = 4;
    double share = 0.25;
    double seconds = 5;
    uint32_t min_decisions = 40;  // of a flow, on average
    double margin = 1.0;
    double noise_factor = 1.0;
    double watch_factor = 1.5;  // of the watch's margin, after a trial that was passed
};

// What the watch may know from a trial that was passed.
struct TrialKnowledge {
    double margin_factor = 1;
    double shared_loss = 0;  // what both sides lost alike: the link's doing
};

// The share (Q16) for a trial over these flows: that of the options, but so that at least one flow is on trial and at
// least one is not. An error where there are too few of them.
[[nodiscard]] Result<uint32_t> choose_share(std::span<const uint64_t> flows, const TrialOptions& options);

class Trial {
public:
    using Baselines = std::unordered_map<uint64_t, double>;  // of the flows that are compared

    explicit Trial(const TrialOptions& options) : options_(options) {}

    void begin(uint32_t generation, uint32_t active, Baselines baselines, uint64_t now_us);
    void end();
    // 0: none is on trial.
    [[nodiscard]] uint32_t generation() const { return generation_; }
    // A reward that a decision of `generation` earned; of other generations than the two it is ignored.
    void add(uint64_t flow, uint32_t generation, double reward, uint64_t time_us);
    void forget_flow(uint64_t flow);

    enum class Outcome : uint8_t { undecided, passed, failed };
    struct Verdict {
        Outcome outcome = Outcome::undecided;
        std::string text{};  // figures, for the event
    };
    // Call once a batch.
    Verdict assess(uint64_t now_us);
    // Of a trial that was passed; nothing before.
    [[nodiscard]] TrialKnowledge knowledge() const { return knowledge_; }
    // For people; empty without a trial.
    [[nodiscard]] std::string describe() const;

private:
    // A flow's deviations from its baseline within half a second.
    struct Block {
        uint64_t index = 0;
        double sum = 0;
        uint64_t count = 0;
    };
    using Flows = std::unordered_map<uint64_t, std::vector<Block>>;  // all of a trial
    struct Side {
        Flows flows;
        uint64_t decisions = 0;  // since the trial began
        [[nodiscard]] double per_flow() const {
            return flows.empty() ? 0 : static_cast<double>(decisions) / static_cast<double>(flows.size());
        }
    };
    struct Means {
        double mean = 0;
        double squares = 0;  // sum of the flows' squared distances from it
        uint64_t flows = 0;
        uint64_t decisions = 0;
    };
    struct Comparison {
        Means canary;
        Means others;
        double difference = 0;
        double limit = 0;
    };
    // Over the blocks from that one on.
    [[nodiscard]] static Means means_of(const Side& side, uint64_t from);
    // Over the latter half of the trial so far: what a snapshot does adds up, and the beginning is still the other's
    // doing.
    [[nodiscard]] Comparison compare() const;
    [[nodiscard]] std::string text_of(const Comparison& c) const;

    TrialOptions options_;
    uint32_t generation_ = 0;
    uint32_t active_ = 0;
    uint64_t begun_us_ = 0;
    uint64_t newest_us_ = 0;  // of a reward
    Baselines baselines_;
    Side canary_;
    Side others_;
    TrialKnowledge knowledge_;
};

}  // namespace adapath
