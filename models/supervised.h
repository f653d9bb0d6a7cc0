// What the apps have in common that learn from what the server measures (select, qp): the examples that are learned
// from again, of which the newest count most; a batch of steps once enough are new; and whether training has settled
// and a switch is worth it (models/online.h). What a model, an example and a step are is the app's. No LibTorch here.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <utility>
#include <vector>

namespace adapath {

struct SupervisedStats {
    bool trained = false;  // false: not enough new examples yet, the rest is empty
    uint64_t batch = 0;    // number of this one, from 1
    uint64_t fresh = 0;    // new examples in it
    double error = 0;      // on them, before they were learned from; the unit is the app's
    double loss = 0;       // at the last step, the anchor's part included
    double change = 0;     // of the decisions by this batch, on recent inputs
};

// 0 without any.
[[nodiscard]] inline double mean_difference(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); i++) sum += std::abs(a[i] - b[i]);
    return a.empty() ? 0 : sum / static_cast<double>(a.size());
}

// How much an example counts that had only this chance to be measured: one over it, so that what is seldom measured
// weighs what it weighs in the world; but not more than `most`, or a single one would drown the others. No chance: it
// did not come about by one.
[[nodiscard]] inline float weight_of_chance(float chance, float most) {
    return chance > 0 ? std::clamp(1 / chance, 1.0F, most) : 1;
}

// Options: SelectOnlineOptions or QpOnlineOptions. Example: an input with its label. Input: what recent decisions are
// compared on.
template <typename Options, typename Example, typename Input>
class SupervisedTraining {
public:
    explicit SupervisedTraining(const Options& o) : options(o) {}
    virtual ~SupervisedTraining() = default;
    SupervisedTraining(const SupervisedTraining&) = delete;
    SupervisedTraining& operator=(const SupervisedTraining&) = delete;

    void remember(Input input) {
        recent_.push_back(std::move(input));
        if (recent_.size() > options.recent) recent_.pop_front();
    }
    void add(Example example) {
        examples_.push_back(std::move(example));
        if (examples_.size() > std::max(options.keep, options.batch)) examples_.pop_front();
        fresh_ = std::min(fresh_ + 1, examples_.size());
    }

    // One batch, if enough examples are new.
    SupervisedStats train() {
        SupervisedStats stats;
        if (fresh_ < std::max(options.batch, 1U)) return stats;
        std::vector<const Example*> chosen;
        for (size_t i = examples_.size() - fresh_; i < examples_.size(); i++) chosen.push_back(&examples_[i]);
        stats.error = error(chosen);
        const std::vector<float> before = decisions();
        for (uint32_t n = 0; n < options.steps; n++) {
            if (options.stop != nullptr && *options.stop) break;
            chosen.clear();
            // Half of them the newest, so that a change of the scene counts at once.
            for (uint32_t i = 0; i < std::max(options.minibatch, 1U); i++)
                chosen.push_back(&examples_[i % 2 == 0 ? examples_.size() - 1 - draw(fresh_) : draw(examples_.size())]);
            stats.loss = step(chosen);
        }
        stats.trained = true;
        stats.batch = last_.batch + 1;
        stats.fresh = fresh_;
        stats.change = mean_difference(before, decisions());
        settled_ = stats.change <= options.stable_change ? settled_ + 1 : 0;
        fresh_ = 0;
        last_ = stats;
        return stats;
    }
    // What was learned from these was just undone; the newest are learned from again with others.
    void forget() {
        examples_.clear();
        fresh_ = 0;
        settled_ = 0;
    }

    [[nodiscard]] bool stable() const { return settled_ >= std::max(options.stable_batches, 1U); }
    [[nodiscard]] bool necessary(double fidelity_loss) const { return fidelity_loss > options.necessary_loss; }
    [[nodiscard]] const std::deque<Input>& recent() const { return recent_; }
    [[nodiscard]] const SupervisedStats& last() const { return last_; }  // batch

    const Options options;

protected:
    // A number below `size`, at random.
    virtual size_t draw(size_t size) = 0;
    [[nodiscard]] virtual double error(const std::vector<const Example*>& fresh) = 0;
    // One step of gradient descent; the loss before it.
    virtual double step(const std::vector<const Example*>& chosen) = 0;
    // Of what has been learned so far, on recent inputs.
    [[nodiscard]] virtual std::vector<float> decisions() const = 0;

private:
    std::deque<Input> recent_;
    std::deque<Example> examples_;
    size_t fresh_ = 0;  // of the examples, the newest so many have not been learned from
    SupervisedStats last_;
    uint32_t settled_ = 0;  // batches in a row with little change
};

}  // namespace adapath
