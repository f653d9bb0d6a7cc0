// See background_trials.h.
#include "userspace/video/background_trials.h"

#include <algorithm>
#include <cmath>

namespace adapath::video {

namespace {

// Above this ratio, the next look is soon.
constexpr double little_saving = 0.9;

}  // namespace

BackgroundTrials::Chunk BackgroundTrials::next() {
    Chunk chunk;
    chunk.background = sending_;
    if (sending_) {
        chunk.begins = anew_;
        // A background that was just sent has not begun to pay.
        chunk.both = wait_ == 0 && age_ > 0;
        anew_ = false;
        age_++;
    } else {
        chunk.both = wait_ == 0;
        chunk.begins = chunk.both && in_trial_ == 0;
    }
    wait_ -= wait_ > 0 ? 1 : 0;
    return chunk;
}

void BackgroundTrials::learn(double background, double uniform) {
    if (background <= 0 || uniform <= 0) {
        return;
    }
    if (sending_) {
        // One chunk may be an odd one; two are believed.
        const double look = background / uniform;
        ratio_ = std::sqrt(last_ * look);
        last_ = look;
        wait_ = look > little_saving ? options_.soon : options_.every;
        if (ratio_ > 1) {
            stop(options_.every);
        }
        return;
    }
    double* sums = in_trial_ == 0 ? first_ : rest_;
    if (in_trial_ <= 1) {
        sums[0] = sums[1] = 0;
    }
    sums[0] += background;
    sums[1] += uniform;
    if (++in_trial_ < options_.length) {
        return;
    }
    trials_++;
    const unsigned after = in_trial_ - 1;
    in_trial_ = 0;
    // The first chunk sends the background: what that costs more is spread over the chunks it is good for.
    const double once = std::max(0.0, first_[0] - first_[1]) / options_.horizon;
    ratio_ = after == 0 ? first_[0] / first_[1] : (rest_[0] / after + once) / (rest_[1] / after);
    if (ratio_ <= 1 - options_.margin) {
        sending_ = anew_ = true;
        last_ = ratio_;
        age_ = 0;
        pause_ = 0;
        wait_ = options_.every;
    } else {
        stop(options_.every);
    }
}

void BackgroundTrials::stop(unsigned pause) {
    sending_ = anew_ = false;
    in_trial_ = 0;
    pause_ = std::clamp(pause_ * 2, pause, std::max(pause, options_.every_most));
    wait_ = pause_;
}

bool BackgroundTrials::lost() {
    if (!sending_) {
        return false;
    }
    if (age_ < options_.least_epoch) {
        stop(options_.every);
        return false;
    }
    anew_ = true;
    age_ = 0;
    return true;
}

void BackgroundTrials::refused() { stop(options_.every_most); }

}  // namespace adapath::video
