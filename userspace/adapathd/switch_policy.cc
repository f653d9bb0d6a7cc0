// See switch_policy.h.
#include "userspace/adapathd/switch_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace adapath {
namespace {

constexpr uint64_t kBlockUs = 500000;
// Rewards of a flow before its own baseline is used instead of everyone's.
constexpr uint64_t kFlowBaselineMin = 10;

}  // namespace

void SwitchPolicy::learn(Flow& flow, double reward, uint64_t time_us) const {
    flow.count++;
    const double elapsed_s = time_us > flow.time_us ? static_cast<double>(time_us - flow.time_us) / 1e6 : 0;
    // An exponential mean over baseline_seconds that begins as a plain mean.
    const double weight =
        std::max(1.0 / static_cast<double>(flow.count), 1 - std::exp(-elapsed_s / options_.baseline_seconds));
    flow.mean += (flow.count == 1 ? 1.0 : std::min(weight, 1.0)) * (reward - flow.mean);
    flow.time_us = time_us;
}

double SwitchPolicy::baseline_of(uint64_t flow) const {
    auto found = flows_.find(flow);
    return found != flows_.end() && found->second.count >= kFlowBaselineMin ? found->second.mean : all_.mean;
}

void SwitchPolicy::append(std::deque<Block>& blocks, double deviation, uint64_t time_us, double keep_seconds) {
    const uint64_t index = time_us / kBlockUs;
    if (blocks.empty() || blocks.back().index < index) {
        blocks.push_back(Block{index, 0, 0});
    }
    // Flows' samples come in batches and may be a little out of order: late ones count for the newest block.
    blocks.back().sum += deviation;
    blocks.back().count++;
    const auto keep = static_cast<uint64_t>(keep_seconds * 1e6 / kBlockUs) + 1;
    while (blocks.front().index + keep < blocks.back().index) {
        blocks.pop_front();
    }
}

SwitchPolicy::Window SwitchPolicy::tail(const std::deque<Block>& blocks, uint64_t last_index, double seconds) {
    const auto span = std::max<uint64_t>(1, static_cast<uint64_t>(seconds * 1e6 / kBlockUs));
    double sum = 0;
    uint64_t count = 0;
    for (auto block = blocks.rbegin(); block != blocks.rend(); ++block) {
        if (block->index > last_index) {
            continue;
        }
        if (block->index + span <= last_index) {
            break;
        }
        sum += block->sum;
        count += block->count;
    }
    return {count ? sum / static_cast<double>(count) : 0, count};
}

// Standard deviation of the old snapshot's own windows: what the judged figure varies by when nothing is switched.
double SwitchPolicy::noise() const {
    std::vector<double> windows;
    std::vector<double> blocks;
    for (const Block& block : baseline_blocks_) {
        blocks.push_back(block.sum / static_cast<double>(block.count));
        if (block.index >=
            baseline_blocks_.front().index + static_cast<uint64_t>(options_.window_seconds * 1e6 / kBlockUs)) {
            windows.push_back(tail(baseline_blocks_, block.index, options_.window_seconds).mean);
        }
    }
    const std::vector<double>& values =
        windows.size() >= 6 ? windows : blocks;  // little history: the more cautious figure
    if (values.size() < 2) {
        return 0;
    }
    double mean = 0;
    for (double value : values) {
        mean += value / static_cast<double>(values.size());
    }
    double square = 0;
    for (double value : values) {
        square += (value - mean) * (value - mean);
    }
    return std::sqrt(square / static_cast<double>(values.size() - 1));
}

double SwitchPolicy::margin() const { return options_.margin * knowledge_.margin_factor + knowledge_.shared_loss; }

std::unordered_map<uint64_t, double> SwitchPolicy::baselines() const {
    std::unordered_map<uint64_t, double> result;
    for (const auto* flows : {&flows_, &watch_flows_}) {
        for (const auto& [id, flow] : *flows) {
            if (flow.count >= kFlowBaselineMin) {
                result[id] = flow.mean;
            }
        }
    }
    return result;
}

void SwitchPolicy::rebase() {
    double sum = 0;
    uint64_t count = 0;
    for (const Block& block : watch_blocks_) {
        sum += block.sum;
        count += block.count;
    }
    for (Block block : watch_blocks_) {
        block.sum -= sum / static_cast<double>(count) * static_cast<double>(block.count);
        baseline_blocks_.push_back(block);
    }
    const auto keep = static_cast<uint64_t>(options_.baseline_seconds * 1e6 / kBlockUs) + 1;
    while (baseline_blocks_.front().index + keep < baseline_blocks_.back().index) {
        baseline_blocks_.pop_front();
    }
    all_ = watch_all_;
    for (const auto& [id, flow] : watch_flows_) {
        if (flow.count >= kFlowBaselineMin) {
            flows_[id] = flow;
        }
    }
    baseline_decisions_ += decisions_;
}

void SwitchPolicy::on_switch(uint32_t to, uint64_t now_us, bool watch, const TrialKnowledge& knowledge, bool turn) {
    if (state_ == State::watched && watch && decisions_ >= options_.min_decisions &&
        static_cast<double>(now_us - switched_us_) / 1e6 >= options_.min_seconds) {
        // The next one comes before this one was trusted. Did it do better than the baseline, the next has to do as
        // well; did it do worse, it must not lower what the next is held against.
        double sum = 0;
        for (const Block& block : watch_blocks_) {
            sum += block.sum;
        }
        if (sum > 0 || turn || turn_) {
            rebase();
        }
    }
    generation_ = to;
    turn_ = turn;
    switched_us_ = now_us;
    knowledge_ = knowledge;
    decisions_ = 0;
    watch_blocks_.clear();
    watch_flows_.clear();
    watch_all_ = {};
    // Without a baseline there is nothing to compare with: what comes now becomes it.
    state_ = watch && has_baseline() ? State::watched : State::trusted;
}

void SwitchPolicy::add(uint64_t flow, uint32_t generation, double reward, uint64_t time_us) {
    if (generation != generation_) {
        return;  // a decision from before the switch, or one that is rolled back already
    }
    if (state_ == State::watched) {
        append(watch_blocks_, reward - baseline_of(flow), std::max(time_us, switched_us_), options_.seconds);
        learn(watch_all_, reward, time_us);
        learn(watch_flows_[flow], reward, time_us);
        decisions_++;
        return;
    }
    append(baseline_blocks_, all_.count ? reward - baseline_of(flow) : 0, time_us, options_.baseline_seconds);
    learn(all_, reward, time_us);
    learn(flows_[flow], reward, time_us);
    baseline_decisions_++;
}

SwitchPolicy::Verdict SwitchPolicy::assess(uint64_t now_us) {
    if (state_ != State::watched) {
        return {};
    }
    const double elapsed_s = now_us > switched_us_ ? static_cast<double>(now_us - switched_us_) / 1e6 : 0;
    if (decisions_ < options_.min_decisions || elapsed_s < options_.min_seconds) {
        return {};
    }
    const Window recent = tail(watch_blocks_, watch_blocks_.back().index, options_.window_seconds);
    const double limit = margin() + options_.noise_factor * noise();
    Verdict verdict;
    verdict.text = fmt::format(
        "reward {:+.2f} against the snapshot before over {} decisions, limit -{:.2f} (margin {:.2f} + noise {:.2f})",
        recent.mean, recent.count, limit, margin(), limit - margin());
    // A window with a handful of decisions says nothing about the last seconds.
    if (options_.rollback && recent.count >= std::max<uint64_t>(1, options_.min_decisions / 2) &&
        recent.mean < -limit) {
        verdict.roll_back = true;
        return verdict;
    }
    if (elapsed_s >= options_.seconds) {
        verdict.became_trusted = true;
        state_ = State::trusted;
        rebase();
        watch_blocks_.clear();
        watch_flows_.clear();
    }
    return verdict;
}

std::string SwitchPolicy::describe() const {
    if (state_ == State::trusted) {
        return baseline_decisions_ == 0 ? "no rewards yet" : fmt::format("trusted, mean reward {:.2f}", all_.mean);
    }
    if (watch_blocks_.empty()) {
        return "watched, no decisions yet";
    }
    const Window recent = tail(watch_blocks_, watch_blocks_.back().index, options_.window_seconds);
    return fmt::format("watched, reward {:+.2f} against the snapshot before over {} decisions, limit -{:.2f}",
                       recent.mean, decisions_, margin() + options_.noise_factor * noise());
}

}  // namespace adapath
