// What the uplink's bytes cost just now: a controller from what the uplink does to the market that the app select
// decides by (struct adp_select_market). Pure: no clock, no sockets; the relay and select's simulator step it alike.
//
// The law. Cameras answer to a price once a chunk, in steps (a rendition more or less), so the price has to move slowly
// against a chunk, and in proportion to itself: demand depends on its logarithm. With d the queueing delay, o the
// offered rate and C the uplink's capacity,
//     d/dt log(price * C) = (o / (load * C) - 1) * balance + (d - target) * delay
// which is PIE's law (RFC 8033) with the delay's derivative taken from its cause, so that it still tells when the queue
// is full and drops. price * C is what a whole uplink costs; holding that, not the price, lets a link that drops to
// half raise the price at once.
//
// To that comes, while it lasts, a factor for the queue that is there; and a bound, since an outage of a second should
// not cost seconds of sub streams after it.
//
// C is what is delivered while the uplink is the limit. While it is not, nobody knows C: it is thought to grow, so an
// uplink that is left idle gets cheaper, the faster the more of it is idle, until it costs nothing. When it is the
// limit again, what was only thought counts for little.
#pragma once

#include <cstdint>

namespace adapath::relay {

struct PriceOptions {
    double target_s = 0.15;  // queueing delay to keep, s
    // Gains, in e-folds of the price.
    double balance = 0.6;  // a second, when twice the capacity is offered
    double delay = 0.5;    // a second, when the delay is 1 s above the target
    // Bounds of the two together, e-folds/s. Upward it hurries, since the queue fills; downward each chunk has to show
    // first what it did.
    double rise_max = 2;
    double fall_max = 0.5;
    double growth = 0.2;       // of the capacity, a second, while the uplink is not the limit
    double smooth_s = 3;       // time constant of the measured capacity and of the rates
    double delay_max_s = 1.5;  // a longer delay counts as this
    double load = 0.85;        // share of the capacity that is to be offered
    // E-folds of the price, on top of all that, for each second of delay: gone as soon as the queue is, which what was
    // added up is not.
    double urgency = 0;
    // Nothing came through for so long: an outage. Nothing that is decided in it matters before it is over, and what
    // the uplink carries then is rather what it carried before: capacity and price stay what they are. 0: no such
    // thing.
    double outage_s = 0.5;
    double late_memory_s = 20;  // time constant of the share of main that is late
    // The whole uplink costs at most so much for each camera. An outage is the queue's to answer, by dropping what is
    // late: a price that it drove up would cost seconds of sub streams after it. Below this share of what all sub
    // streams ask for it is the queue that drops, lastingly too. A budget's price begins there, and may rise above it.
    double crowd = 0.25;
    // Bytes/s that the cameras may have on average, however wide the uplink is; 0: all of it. What the uplink had no
    // room for is saved, so much of it as comes in budget_saved_s.
    double budget = 0;
    double budget_saved_s = 20;
};

// Of the interval that just ended, sums over all cameras' connections.
struct Uplink {
    double backlog_bytes = 0;   // at its end: in the relay's queues and in the sockets, not acknowledged yet
    double delivered_rate = 0;  // bytes/s that the far end acknowledged
    double offered_rate = 0;    // bytes/s that came for the uplink, whether they were dropped later or not
    double base_rtt_s = 0;      // least round trip: so much backlog is under way, not waiting
    bool app_limited = false;   // all was sent at some time of it: the delivered rate is the cameras', not the uplink's
    uint32_t cameras = 0;       // that share it; 0: nobody knows
    // Bytes/s of the main streams: that came for the uplink, and that were dropped for want of room or got too late.
    double main_rate = 0;
    double main_late_rate = 0;
};

// As pb::Market, but for the number of cameras.
struct Price {
    double price = 0;         // accuracy for 1 MiB/s, 0 to 1024
    uint32_t main_limit = 0;  // bytes/s: no main stream of more; 0 = none
    double used = 0;          // offered / capacity, 0 to 2; 0 while the capacity is unknown
    // Share of the main streams' bytes that lately came too late or not at all. Where little or nothing of main comes
    // it fades: nobody knows any more.
    double main_late = 0;
};

class PriceController {
public:
    explicit PriceController(const PriceOptions& options = {}) : options_(options) {}

    // Call it about every 100 ms. `seconds`: since the last call.
    Price step(const Uplink& uplink, double seconds);

    [[nodiscard]] double delay_s() const { return delay_s_; }          // queueing delay at the last step
    [[nodiscard]] double capacity() const { return capacity_; }        // the uplink's, bytes/s; 0 = unknown
    [[nodiscard]] double delivered() const { return delivered_; }      // bytes/s, smoothed
    [[nodiscard]] double whole_price() const { return whole_price_; }  // accuracy for the whole uplink

private:
    PriceOptions options_;
    double capacity_ = 0;
    double measured_ = 0;   // what it was when the uplink last was the limit
    double delivered_ = 0;  // bytes/s, smoothed
    double offered_ = 0;    // bytes/s, smoothed, for `used`
    double delay_s_ = 0;
    double whole_price_ = 0;
    double saved_ = 0;     // of the budget, bytes; below 0: overdrawn
    double silent_s_ = 0;  // since something was delivered, while there was something to deliver
    // Of the main streams, bytes that count less the older they are.
    double main_ = 0;
    double main_late_ = 0;
};

}  // namespace adapath::relay
