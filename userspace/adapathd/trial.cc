// See trial.h.
#include "userspace/adapathd/trial.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include <adapath/abi.h>

namespace adapath {
namespace {

// Nothing is concluded sooner: a bad answer takes some round trips to show.
constexpr double kEarliestSeconds = 1.5;
// Before its seconds are over a trial is ended only by a loss of so many times the limit: each look is another chance
// to be wrong.
constexpr double kEarlyFactor = 1.5;
// What is worse than the margin, but within the noise, has so many times its seconds to come out of it.
constexpr double kGreyFactor = 3;
// With fewer flows than these what they differ by among themselves is guessed from both sides.
constexpr uint64_t kNoiseFlows = 3;
// After so many times its seconds a trial whose flows decide much less often than the others is over, and at the latest
// one that can't be judged for want of decisions.
constexpr double kStallFactor = 4;
constexpr double kStallShare = 0.25;
constexpr double kPatience = 12;
// Rewards in the window before a flow counts.
constexpr uint64_t kFlowMin = 3;
constexpr uint64_t kBlockUs = 500000;

}  // namespace

Result<uint32_t> choose_share(std::span<const uint64_t> flows, const TrialOptions& options) {
    if (flows.size() < std::max<uint32_t>(options.min_flows, 2)) {
        return Error{
            fmt::format("{} live flows, a trial takes {}", flows.size(), std::max<uint32_t>(options.min_flows, 2))};
    }
    // A flow is on trial from the share on that is its own.
    std::vector<uint32_t> needed;
    needed.reserve(flows.size());
    for (const uint64_t flow : flows) {
        uint32_t low = 1;
        uint32_t high = 65536;
        while (low < high) {
            const uint32_t middle = low + (high - low) / 2;
            if (adp_flow_in_share(flow, middle) != 0) {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        needed.push_back(low);
    }
    const auto [least, most] = std::ranges::minmax(needed);
    if (least == most) {
        return Error{"the live flows' numbers can't be told apart by a share"};
    }
    const auto wanted = static_cast<uint32_t>(std::clamp(options.share, 0.0, 1.0) * 65536);
    return std::clamp(wanted, least, most - 1);
}

void Trial::begin(uint32_t generation, uint32_t active, Baselines baselines, uint64_t now_us) {
    end();
    generation_ = generation;
    active_ = active;
    begun_us_ = now_us;
    newest_us_ = now_us;
    baselines_ = std::move(baselines);
}

void Trial::end() {
    generation_ = 0;
    active_ = 0;
    baselines_.clear();
    canary_ = {};
    others_ = {};
    knowledge_ = {};
}

void Trial::forget_flow(uint64_t flow) {
    baselines_.erase(flow);
    canary_.flows.erase(flow);
    others_.flows.erase(flow);
}

void Trial::add(uint64_t flow, uint32_t generation, double reward, uint64_t time_us) {
    if (generation_ == 0 || (generation != generation_ && generation != active_)) {
        return;
    }
    // Without a baseline of its own a flow says nothing about a change: it began during the trial.
    const auto baseline = baselines_.find(flow);
    if (baseline == baselines_.end()) {
        return;
    }
    Side& side = generation == generation_ ? canary_ : others_;
    newest_us_ = std::max(newest_us_, time_us);
    const uint64_t index = std::max(time_us, begun_us_) / kBlockUs;
    std::vector<Block>& blocks = side.flows[flow];
    if (blocks.empty() || blocks.back().index < index) {
        blocks.push_back({index, 0, 0});
    }
    blocks.back().sum += reward - baseline->second;
    blocks.back().count++;
    side.decisions++;
}

Trial::Means Trial::means_of(const Side& side, uint64_t from) {
    std::vector<double> means;
    Means result;
    for (const auto& [flow, blocks] : side.flows) {
        double sum = 0;
        uint64_t count = 0;
        for (auto block = blocks.rbegin(); block != blocks.rend() && block->index >= from; ++block) {
            sum += block->sum;
            count += block->count;
        }
        if (count < kFlowMin) {
            continue;
        }
        means.push_back(sum / static_cast<double>(count));
        result.decisions += count;
    }
    result.flows = means.size();
    for (const double mean : means) {
        result.mean += mean / static_cast<double>(means.size());
    }
    for (const double mean : means) {
        result.squares += (mean - result.mean) * (mean - result.mean);
    }
    return result;
}

Trial::Comparison Trial::compare() const {
    Comparison c;
    const uint64_t from = (begun_us_ + (newest_us_ - begun_us_) / 2) / kBlockUs;
    c.canary = means_of(canary_, from);
    c.others = means_of(others_, from);
    c.difference = c.canary.mean - c.others.mean;
    c.limit = options_.margin;
    if (c.canary.flows == 0 || c.others.flows == 0) {
        return c;
    }
    // What flows differ by under what is known: a bad snapshot must not hide behind a scatter of its own making.
    const uint64_t flows = c.canary.flows + c.others.flows;
    const double variance = c.others.flows >= kNoiseFlows ? c.others.squares / static_cast<double>(c.others.flows - 1)
                            : flows > 2 ? (c.canary.squares + c.others.squares) / static_cast<double>(flows - 2)
                                        : 0;
    c.limit +=
        options_.noise_factor *
        std::sqrt(variance * (1.0 / static_cast<double>(c.canary.flows) + 1.0 / static_cast<double>(c.others.flows)));
    return c;
}

std::string Trial::text_of(const Comparison& c) const {
    return fmt::format(
        "{} flows on trial earned {:+.2f} against their baselines over {} decisions, {} by generation {} {:+.2f} over "
        "{} in "
        "the same time: {:+.2f}, limit -{:.2f}",
        c.canary.flows, c.canary.mean, c.canary.decisions, c.others.flows, active_, c.others.mean, c.others.decisions,
        c.difference, c.limit);
}

Trial::Verdict Trial::assess(uint64_t now_us) {
    if (generation_ == 0) {
        return {};
    }
    const double elapsed_s = now_us > begun_us_ ? static_cast<double>(now_us - begun_us_) / 1e6 : 0;
    const Comparison c = compare();
    // Of each side's flows on average: what a snapshot does adds up decision by decision, and on a long path these are
    // rare.
    const double decisions = canary_.per_flow();
    const double others = others_.per_flow();
    if (std::min(decisions, others) < options_.min_decisions || c.canary.flows == 0 || c.others.flows == 0) {
        const bool stalled = elapsed_s >= kStallFactor * options_.seconds && others >= options_.min_decisions &&
                             decisions < kStallShare * others;
        if (!stalled && elapsed_s < kPatience * options_.seconds) {
            return {};
        }
        const std::string figures = fmt::format(
            "{:.0f} decisions a flow on trial in {:.0f} s, {:.0f} a flow of the others", decisions, elapsed_s, others);
        if (others >= options_.min_decisions) {
            return {Outcome::failed, figures + ": it holds its flows up"};
        }
        // Where the flows have gone there is nothing left to protect, nor to compare: as with few flows.
        return {Outcome::passed, figures + ": too few to judge it by"};
    }
    const bool early = elapsed_s < options_.seconds;
    if (elapsed_s >= std::min(kEarliestSeconds, options_.seconds) &&
        c.difference < -c.limit * (early ? kEarlyFactor : 1)) {
        return {Outcome::failed, text_of(c)};
    }
    if (early) {
        return {};
    }
    if (c.difference < -options_.margin) {
        return elapsed_s < kGreyFactor * options_.seconds
                   ? Verdict{}
                   : Verdict{Outcome::failed,
                             fmt::format("{}; worse than the margin for {:.0f} s", text_of(c), elapsed_s)};
    }
    knowledge_.margin_factor = options_.watch_factor;
    knowledge_.shared_loss = std::max(0.0, -std::max(c.canary.mean, c.others.mean));
    return {Outcome::passed, text_of(c)};
}

std::string Trial::describe() const {
    if (generation_ == 0) {
        return {};
    }
    const Comparison c = compare();
    return c.canary.flows == 0 || c.others.flows == 0
               ? fmt::format("{:.0f} decisions a flow on trial so far, {:.0f} a flow of the others", canary_.per_flow(),
                             others_.per_flow())
               : text_of(c);
}

}  // namespace adapath
