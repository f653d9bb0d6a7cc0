// See tuner.h.
#include "models/tuner.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

namespace adapath {

namespace {

// The better one first and last, so that a link that drifts favours neither: ABBA.
constexpr std::array<bool, 4> kChallengers = {false, true, true, false};

// One-sided points of Student's t for 1, 2, ... degrees of freedom (Fisher and Yates, "Statistical Tables"). The
// figures are looked at again after every pair, so a gain has to pass the sharper one.
constexpr std::array<double, 9> kStudent025 = {12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26};
constexpr std::array<double, 9> kStudent05 = {6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.89, 1.86, 1.83};

constexpr size_t kDirections = 4;
// Turns of the best setting that its newest two are held against.
constexpr size_t kLevelsLeast = 4;
constexpr size_t kLevels = 12;

struct Estimate {
    double mean = 0;
    double least = 0;  // of the mean, with 97.5 % confidence
    double most = 0;   // with 95 %
};

Estimate estimate(const std::vector<double>& values) {
    Estimate e;
    const auto n = static_cast<double>(values.size());
    for (double value : values) e.mean += value / n;
    double square = 0;
    for (double value : values) square += (value - e.mean) * (value - e.mean);
    const double error = std::sqrt(square / (n - 1) / n);
    const size_t freedom = std::min(values.size() - 2, kStudent05.size() - 1);
    e.least = e.mean - kStudent025[freedom] * error;
    e.most = e.mean + kStudent05[freedom] * error;
    return e;
}

}  // namespace

std::string describe(const TunerSetting& setting) {
    return setting == TunerSetting{} ? "the checkpoint's setting"
                                     : fmt::format("bias {:+.3f}, gain {:.2f}", setting.bias, setting.gain);
}

FloatModel apply_setting(const FloatModel& model, const TunerSetting& setting) {
    FloatModel tuned = model;
    for (float& weight : tuned.weights.back()) weight *= static_cast<float>(setting.gain);
    for (float& bias : tuned.biases.back())
        bias = bias * static_cast<float>(setting.gain) + static_cast<float>(setting.bias);
    return tuned;
}

Tuner::Tuner(const TunerOptions& options) : options_(options) { restart(); }

void Tuner::restart() {
    best_ = {};
    challenger_.reset();
    good_.clear();
    waiting_.clear();
    step_ = 1;
    direction_ = 1;  // less pressure first: several flows on one queue rather push too much than too little
    lost_in_a_row_ = 0;
    rest_s_ = options_.rest_s;
    levels_.clear();
    next_challenger();
}

void Tuner::pause() {
    if (challengers_turn()) generation_ = 0;
    index_ = 0;
    differences_.clear();
}

void Tuner::resume(const TunerSetting& best, const std::vector<TunerSetting>& good) {
    restart();
    best_ = best;
    good_ = good;
    if (good_.size() > options_.remembered) good_.erase(good_.begin(), good_.end() - options_.remembered);
    next_challenger();
}

bool Tuner::challengers_turn() const { return challenger_ && kChallengers[index_ % kChallengers.size()]; }

const TunerSetting& Tuner::wanted() const { return challengers_turn() ? *challenger_ : best_; }

void Tuner::decides(uint32_t generation) {
    generation_ = generation;
    begun_ = false;
    begin_turn();
}

void Tuner::refused() {
    generation_ = 0;
    if (challengers_turn()) {
        lost(-options_.hopeless);
    } else {
        // What decided so far is not to be had any more: where the weights began is the only thing that is sure.
        best_ = {};
        levels_.clear();
        waiting_.clear();
        rest();
    }
}

void Tuner::begin_turn() {
    turn_.clear();
    intervals_ = 0;
    begin_us_ = newest_us_;
}

void Tuner::add(std::span<const adp_cc_sample> samples) {
    for (const adp_cc_sample& sample : samples) add(sample);
}

void Tuner::add(const adp_cc_sample& sample) {
    if (generation_ == 0) return;
    if (!begun_) {
        if (sample.generation != generation_) return;
        begun_ = true;
        newest_us_ = sample.time_us;
        begin_turn();
    }
    newest_us_ = std::max(newest_us_, sample.time_us);
    const auto after = [&](double seconds) { return begin_us_ + static_cast<uint64_t>(seconds * 1e6); };
    // What a start, the fallback or an idle application earns says nothing; what is earned in a drain does.
    const bool counts = (sample.flags & (ADP_CC_FALLBACK_MADE | ADP_CC_START_MADE | ADP_CC_APP_LIMITED)) == 0 &&
                        sample.interval.us != 0 && sample.time_us >= after(options_.settle_s) &&
                        (sample.generation == 0 || sample.generation == generation_);
    if (counts) {
        Sum& sum = turn_[sample.flow];
        const auto us = static_cast<double>(sample.interval.us);
        sum.reward += us * adp_cc_reward(&sample.interval, &sample.objective) / 65536.0;
        sum.us += us;
        intervals_++;
    }
    if (newest_us_ >= after(options_.turn_s)) end_turn();
}

// Of the flows that both turns know: each weighs alike, whatever its path earns.
std::optional<double> Tuner::difference(const Turn& challenger, const Turn& best) {
    double sum = 0;
    size_t flows = 0;
    for (const auto& [flow, of] : challenger) {
        const auto other = best.find(flow);
        if (other == best.end()) continue;
        sum += of.reward / of.us - other->second.reward / other->second.us;
        flows++;
    }
    if (flows == 0) return std::nullopt;
    return sum / static_cast<double>(flows);
}

void Tuner::end_turn() {
    counters_.turns++;
    const TunerSetting before = wanted();
    if (intervals_ < options_.turn_intervals) {
        counters_.wasted_turns++;
        // Half a pair is no pair: from the first of it again.
        if (challenger_) index_ -= index_ % 2;
    } else if (!challengers_turn() && link_changed()) {
        counters_.changes_seen++;
        rest_s_ = options_.rest_s;
        wake();
    } else if (!challenger_) {
        rested_s_ += options_.turn_s;
        if (rested_s_ >= rest_s_) {
            rest_s_ = std::min(2 * rest_s_, options_.rest_most_s);
            step_ = 1;
            lost_in_a_row_ = 0;
            next_challenger();
        }
    } else if (index_ % 2 == 0) {
        first_of_pair_ = std::move(turn_);
        index_++;
    } else {
        end_pair();
    }
    if (wanted() == before) {
        begin_turn();  // the same goes on
    } else {
        generation_ = 0;
    }
}

void Tuner::end_pair() {
    const bool challengers = challengers_turn();
    const std::optional<double> d = challengers ? difference(turn_, first_of_pair_) : difference(first_of_pair_, turn_);
    if (!d) {
        index_--;  // other flows than before
        return;
    }
    differences_.push_back(*d);
    index_++;
    judge();
}

void Tuner::judge() {
    if (differences_.back() < -options_.hopeless && differences_.size() == 1) {
        lost(differences_.back());
        return;
    }
    if (differences_.size() < 2) return;
    const Estimate e = estimate(differences_);
    if (e.least > options_.least_gain) {
        won(e.mean);
    } else if (e.most < options_.least_gain || differences_.size() >= options_.most_pairs ||
               (differences_.size() >= options_.most_pairs / 2 && e.mean <= 0)) {
        lost(e.mean);
    }
}

void Tuner::stay_with(const TunerSetting& setting) {
    good_.erase(std::remove(good_.begin(), good_.end(), best_), good_.end());
    good_.push_back(best_);
    if (good_.size() > options_.remembered) good_.erase(good_.begin());
    best_ = setting;
    levels_.clear();
}

void Tuner::won(double gain) {
    counters_.comparisons++;
    counters_.improvements++;
    news_ = fmt::format("{} earns {:+.2f} against {} in {} pairs of turns: it stays", describe(*challenger_), gain,
                        describe(best_), differences_.size());
    stay_with(*challenger_);
    lost_in_a_row_ = 0;
    step_ = std::min(step_ * 1.5, 4.0);
    rest_s_ = options_.rest_s;
    next_challenger();
}

void Tuner::lost(double gain) {
    counters_.comparisons++;
    news_ = fmt::format("{} earns {:+.2f} against {} in {} pairs of turns: it goes", describe(*challenger_), gain,
                        describe(best_), differences_.size());
    if (!remembered_) {
        direction_ = (direction_ + 1) % kDirections;
        lost_in_a_row_++;
    }
    next_challenger();
}

std::optional<TunerSetting> Tuner::stepped(size_t direction) const {
    TunerSetting s = best_;
    const double sign = direction % 2 == 0 ? 1 : -1;
    if (direction < 2) {
        s.bias = std::clamp(s.bias + sign * step_ * options_.bias_step, -options_.bias_most, options_.bias_most);
    } else {
        s.gain =
            std::clamp(s.gain * std::pow(options_.gain_step, sign * step_), 1 / options_.gain_most, options_.gain_most);
    }
    if (s == best_) return std::nullopt;
    return s;
}

// Settings that were good before, then a step further in the direction of the last one, then the other directions; then
// smaller steps; then a rest.
void Tuner::next_challenger() {
    challenger_.reset();
    remembered_ = false;
    index_ = 0;
    differences_.clear();
    while (!waiting_.empty()) {
        const TunerSetting next = waiting_.back();
        waiting_.pop_back();
        if (next != best_) {
            challenger_ = next;
            remembered_ = true;
            return;
        }
    }
    while (true) {
        for (; lost_in_a_row_ < kDirections; lost_in_a_row_++) {
            challenger_ = stepped(direction_);
            if (challenger_) return;
            direction_ = (direction_ + 1) % kDirections;
        }
        lost_in_a_row_ = 0;
        step_ /= 2;
        if (step_ * options_.bias_step < options_.bias_least_step) {
            rest();
            return;
        }
    }
}

void Tuner::rest() {
    challenger_.reset();
    index_ = 0;
    differences_.clear();
    rested_s_ = 0;
}

// Is what the best setting earns another than it was? The two newest of its turns against those before: one alone may
// be an outage.
bool Tuner::link_changed() {
    double level = 0;
    for (const auto& [flow, of] : turn_) level += of.reward / of.us / static_cast<double>(turn_.size());
    levels_.push_back(level);
    if (levels_.size() < kLevelsLeast + 2) return false;
    if (levels_.size() > kLevels + 2) levels_.erase(levels_.begin());
    const size_t others = levels_.size() - 2;
    double mean = 0;
    double square = 0;
    for (size_t i = 0; i < others; i++) mean += levels_[i] / static_cast<double>(others);
    for (size_t i = 0; i < others; i++) square += (levels_[i] - mean) * (levels_[i] - mean);
    const double limit = options_.change + 4 * std::sqrt(square / static_cast<double>(others - 1));
    const double first = levels_[others] - mean;
    const double second = levels_[others + 1] - mean;
    if (std::min(std::abs(first), std::abs(second)) <= limit || (first > 0) != (second > 0)) return false;
    news_ = fmt::format("the reward went from {:.2f} to {:.2f}: the link is another one", mean, level);
    // What was right for the link that is gone may be very wrong now; where the weights began is sound everywhere.
    if (first < 0) stay_with({});
    return true;
}

void Tuner::wake() {
    levels_.clear();
    waiting_ = good_;  // the newest first
    step_ = 1;
    lost_in_a_row_ = 0;
    next_challenger();
}

std::string Tuner::take_news() { return std::exchange(news_, {}); }

}  // namespace adapath
