// How many bits a second a camera's encoder may spend.
#include "userspace/video/rate_controller.h"

#include <algorithm>

namespace adapath::video {

namespace {

// A frame. Doubles in 18 frames: a camera at 25 fps goes from 1.5 to 8 Mbit/s in under 2 s.
constexpr double fast_growth = 1.04;
// Near the rate at which the link was last full: about 10 % a second at 25 fps, so that probing costs few skipped
// frames. Once well above it, the link has become another one.
constexpr double slow_growth = 1.004;
constexpr double near_below = 0.9;
constexpr double near_above = 1.1;
// Without a full link for this long, what was known of it is old.
constexpr uint64_t forget_ns = 5'000'000'000;
// A delivery rate older than this is no measure of a moving link.
constexpr uint64_t link_age_ns = 1'000'000'000;

constexpr double cut = 0.85;  // of what the link delivered
constexpr double saturate_cut = 0.97;
constexpr double saturate_excess =
    1.3;  // over the delivery rate: enough to keep the socket full, at most 1 frame in 4 skipped

}  // namespace

RateController::RateController(const RateOptions& options)
    : options_(options),
      kbps_(options.adaptive ? std::clamp(options.start_kbps, options.min_kbps, options.max_kbps)
                             : options.start_kbps) {}

double RateController::update(const RateInput& input) {
    if (!input.app_limited && input.delivery_rate > 0) {
        link_kbps_ = static_cast<double>(input.delivery_rate) * 8 / 1000;
        link_ns_ = input.now_ns;
    } else if (input.now_ns - link_ns_ > link_age_ns) {
        link_kbps_ = 0;
    }
    if (!options_.adaptive) {
        return kbps_;
    }
    if (options_.saturate) {
        saturate(input);
    } else {
        follow(input);
    }
    kbps_ = std::clamp(kbps_, options_.min_kbps, options_.max_kbps);
    return kbps_;
}

void RateController::follow(const RateInput& input) {
    double frame_bytes = kbps_ * 1000 / 8 / options_.fps;
    if (input.skipped || static_cast<double>(input.unsent_bytes) > frame_bytes) {
        // The effect of a cut is seen a round trip later at the earliest, and the backlog needs a frame or two to
        // drain.
        auto wait_ns = std::max<uint64_t>(input.srtt_us * 1000ULL, static_cast<uint64_t>(2e9 / options_.fps));
        if (last_cut_ns_ != 0 && input.now_ns - last_cut_ns_ < wait_ns) {
            return;
        }
        double delivered = link_kbps_ > 0 ? std::min(kbps_, link_kbps_) : kbps_;
        congested_kbps_ = delivered;
        congested_ns_ = input.now_ns;
        last_cut_ns_ = input.now_ns;
        // Halved at the most: one short stall must not cost the whole picture.
        kbps_ = std::max(delivered * cut, kbps_ / 2);
        return;
    }
    // A congestion control that paces (BBR, a learned one) learns of more bandwidth only from a sender that offers more
    // than it lets through: a socket that is nearly drained must be offered more too, or both would wait for each other
    // for ever.
    if (static_cast<double>(input.unsent_bytes) > frame_bytes / 2) {
        return;
    }
    if (congested_kbps_ > 0 && input.now_ns - congested_ns_ > forget_ns) {
        congested_kbps_ = 0;
    }
    bool near = kbps_ >= congested_kbps_ * near_below && kbps_ <= congested_kbps_ * near_above;
    kbps_ *= near || input.unsent_bytes > 0 ? slow_growth : fast_growth;
}

void RateController::saturate(const RateInput& input) {
    if (!input.skipped) {
        double frame_bytes = kbps_ * 1000 / 8 / options_.fps;
        if (static_cast<double>(input.unsent_bytes) < frame_bytes / 2) {
            kbps_ *= fast_growth;
        }
        return;
    }
    kbps_ *= saturate_cut;
    if (link_kbps_ > 0) {
        kbps_ = std::min(kbps_, link_kbps_ * saturate_excess);
    }
}

}  // namespace adapath::video
