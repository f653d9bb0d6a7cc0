// How many bits a second a camera's encoder may spend, so that the video follows what the socket delivers. Pure: it is
// told what the socket says once per frame, and holds no clock and no file descriptor.
//
// The signal is the unsent backlog (what the application has produced and TCP has not put on the wire yet), not the
// RTT: how much may be queued in the network is the congestion control's decision, and the encoder must not take it
// over.
#pragma once

#include <cstdint>

namespace adapath::video {

struct RateOptions {
    double min_kbps = 300;
    double max_kbps = 12000;
    double start_kbps = 1500;
    double fps = 25;
    bool adaptive = true;   // false: start_kbps for ever
    bool saturate = false;  // never leave the socket idle: backlog is wanted, and paid for with skipped frames
};

// What was found when a frame was due.
struct RateInput {
    uint64_t now_ns = 0;
    uint64_t unsent_bytes = 0;   // not on the wire yet: in the process and in the socket
    uint64_t delivery_rate = 0;  // bytes/s, tcpi_delivery_rate
    bool app_limited = true;     // tcpi_delivery_rate_app_limited: the rate above says nothing about the link
    uint32_t srtt_us = 0;
    bool skipped = false;  // the socket took nothing for a whole frame time: the frame was not encoded
};

class RateController {
public:
    explicit RateController(const RateOptions& options);

    // Once per frame; returns the target in kbit/s, which holds until the next call.
    double update(const RateInput& input);
    [[nodiscard]] double kbps() const { return kbps_; }

private:
    void follow(const RateInput& input);
    void saturate(const RateInput& input);

    RateOptions options_;
    double kbps_;
    double congested_kbps_ = 0;  // where the link last turned out to be full; 0 = never
    uint64_t congested_ns_ = 0;  // when
    uint64_t last_cut_ns_ = 0;
    double link_kbps_ = 0;  // last delivery rate that the link, not the application, limited; 0 = not known
    uint64_t link_ns_ = 0;  // when
};

}  // namespace adapath::video
