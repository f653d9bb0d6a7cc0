// See price.h.
#include "userspace/relay/price.h"

#include <algorithm>
#include <cmath>

#include <adapath/select.h>

namespace adapath::relay {

namespace {

constexpr double mib = 1 << 20;
constexpr double price_max = ADP_SELECT_PRICE_MAX_Q16 / 65536.0;
// Of the whole uplink's price, in accuracy. Below the least it costs nothing: a main stream that took all of the uplink
// would then be worth it for a fiftieth of accuracy. The most is beyond what drives away a sub stream that takes a
// thousandth of the uplink.
constexpr double whole_min = 0.02;
constexpr double whole_max = 1000;
// In e-folds of the price a second, as PriceOptions::balance. A budget is an average: what one second took too much of
// the next makes up for, so it may answer faster than a queue has to be kept short.
constexpr double budget_balance = 1;
constexpr double budget_spent_s = 10;  // what is saved is spent over some such time
constexpr double budget_least = 0.5;   // of the budget, where it is overdrawn
// When the uplink is the limit again it is believed to be at most so many times as wide as when it last was: it was
// only thought to grow, for as long as it had room.
constexpr double grown_most = 2;
// Estimates of less are not believed: prices would be infinite.
constexpr double capacity_min = 1000;
constexpr double capacity_max = 4e9;

// A measurement that is no number is none.
double sound(double value) { return std::isfinite(value) ? std::max(value, 0.0) : 0; }

}  // namespace

Price PriceController::step(const Uplink& uplink, double seconds) {
    const double dt = std::clamp(sound(seconds), 0.0, 1.0);
    const double delivered = sound(uplink.delivered_rate);
    const double offered = sound(uplink.offered_rate);
    const double weight = 1 - std::exp(-dt / options_.smooth_s);

    silent_s_ = delivered > 0 || uplink.app_limited ? 0 : silent_s_ + dt;
    const bool outage = options_.outage_s > 0 && silent_s_ >= options_.outage_s;
    // One interval's rate may be above the link's: acknowledgements come in bunches.
    delivered_ += (delivered - delivered_) * weight;
    if (outage) {
        // Whatever the capacity was, it is not this that tells what it will be.
    } else if (uplink.app_limited) {
        if (capacity_ > 0) {
            capacity_ = std::max(capacity_ * (1 + options_.growth * dt), delivered_);
        }
    } else if (capacity_ == 0) {
        capacity_ = delivered;
        measured_ = capacity_;
    } else {
        capacity_ = std::min(capacity_, std::max(grown_most * measured_, delivered_));
        capacity_ += (delivered - capacity_) * weight;
        measured_ = capacity_;
    }
    offered_ += (offered - offered_) * weight;
    if (capacity_ > 0) {
        capacity_ = std::clamp(capacity_, capacity_min, capacity_max);
    }

    const double kept = std::exp(-dt / options_.late_memory_s);
    main_ = main_ * kept + sound(uplink.main_rate) * dt;
    main_late_ = main_late_ * kept + sound(uplink.main_late_rate) * dt;

    // What cameras did not ask for is not saved, but it does make up for what was overdrawn.
    const double saved_most = options_.budget * options_.budget_saved_s;
    saved_ = std::clamp(saved_ + (options_.budget - delivered_) * dt, -saved_most,
                        uplink.app_limited ? std::max(saved_, 0.0) : saved_most);
    const double budget = std::max(options_.budget + saved_ / budget_spent_s, options_.budget * budget_least);
    // Of the uplink, or of the budget where that is less.
    const bool budgeted = options_.budget > 0 && (capacity_ == 0 || capacity_ >= budget);
    const double capacity = budgeted ? budget : capacity_;
    Price result;
    if (capacity == 0) {
        return result;  // the uplink was never the limit, or is dead from the start: nothing to say
    }
    // As if a second's capacity had come in time as well.
    result.main_late = std::min(main_late_ / (main_ + capacity), 1.0);
    delay_s_ = std::max(sound(uplink.backlog_bytes) / capacity - sound(uplink.base_rtt_s), 0.0);
    // A queue is the uplink's, and says nothing of a budget.
    const double late_s = budgeted ? 0 : std::min(delay_s_, options_.delay_max_s) - options_.target_s;
    // What is left of an uplink is for when it drops. A budget does not.
    const double load = budgeted ? 1 : options_.load;
    const double balance = budgeted ? budget_balance : options_.balance;
    const double slope = (offered / (capacity * load) - 1) * balance + late_s * options_.delay;
    // A budget has no queue that would drop what is too much: its price may rise to where nobody is left, which is an
    // accuracy of 1 of each.
    const double crowd = budgeted ? std::max(options_.crowd, 1.0) : options_.crowd;
    const double most = uplink.cameras > 0 ? std::min(crowd * uplink.cameras, whole_max) : whole_max;
    // Begun at nothing, all main streams would pass until the price has grown: seconds of the whole uplink, which a
    // budget then has to save for most of a minute.
    if (budgeted && whole_price_ == 0 && uplink.cameras > 0) {
        whole_price_ = std::min(options_.crowd * uplink.cameras, most);
    }
    const double step = outage ? 0 : std::clamp(slope, -options_.fall_max, options_.rise_max) * dt;
    whole_price_ = std::clamp(std::max(whole_price_, whole_min) * std::exp(step), whole_min, most);
    if (whole_price_ > whole_min) {
        const double urgent = std::exp(options_.urgency * std::min(delay_s_, options_.delay_max_s));
        result.price = std::min(std::min(whole_price_ * urgent, most) / capacity * mib, price_max);
    }
    // What does not fit the uplink never comes; what is above a budget's mean can be had half of the time.
    result.main_limit = capacity_ > 0 ? static_cast<uint32_t>(std::max(capacity_, 1.0)) : 0;
    result.used = std::min(offered_ / capacity, 2.0);
    return result;
}

}  // namespace adapath::relay
