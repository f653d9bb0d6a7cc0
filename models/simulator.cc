// The simulator's engine. The link is first in, first out, so a packet's fate is known when it enters: its departure,
// its loss and its ACK's arrival are computed at once and no global event heap is needed. What remains are four kinds
// of event per flow (ACK, send, source, timeout), of which the earliest is taken.
#include "models/simulator.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace adapath {

namespace {

constexpr int64_t never = std::numeric_limits<int64_t>::max();
constexpr int64_t ns_per_s = 1'000'000'000;
constexpr int64_t rto_min_ns = 200'000'000;     // TCP_RTO_MIN
constexpr int64_t rto_max_ns = 120 * ns_per_s;  // TCP_RTO_MAX
constexpr size_t sojourn_bins = 20'000;

int64_t to_ns(double seconds) { return std::llround(seconds * 1e9); }

// First in, first out over a power-of-two ring: std::deque allocates and frees blocks all the time at this turnover.
template <typename T>
class Fifo {
public:
    [[nodiscard]] bool empty() const { return head_ == tail_; }
    [[nodiscard]] size_t size() const { return tail_ - head_; }
    T& front() { return items_[head_ & (items_.size() - 1)]; }
    const T& front() const { return items_[head_ & (items_.size() - 1)]; }
    void pop() { head_++; }
    void clear() { head_ = tail_; }
    void push(const T& item) {
        if (size() == items_.size()) grow();
        items_[tail_++ & (items_.size() - 1)] = item;
    }

private:
    void grow() {
        std::vector<T> larger(items_.size() * 2);
        for (size_t i = 0; i < size(); i++) larger[i] = items_[(head_ + i) & (items_.size() - 1)];
        tail_ = size();
        head_ = 0;
        items_ = std::move(larger);
    }
    std::vector<T> items_ = std::vector<T>(64);
    size_t head_ = 0;
    size_t tail_ = 0;
};

struct QueuedPacket {
    int64_t departs_ns;
    int64_t arrived_ns;
    uint32_t bytes;
    bool lost;
};

struct Ack {
    int64_t arrives_ns;
    int64_t sent_ns;
    uint64_t packet;  // number of the transmission
    bool app_limited;
};

struct Flow {
    FlowOptions options;
    adp_cc_flow cc = {};
    bool started = false;
    bool acked_once = false;

    Fifo<Ack> acks;          // of packets that arrive, in order
    Fifo<uint64_t> dropped;  // of packets that do not: value of `passed` at which 3 later ones have been delivered
    uint64_t passed = 0;     // transmissions that get or got through
    uint64_t arrived = 0;    // of them, ACKs seen
    uint64_t forgotten = 0;  // transmissions before this number were given up by a timeout

    uint64_t sent = 0;
    uint64_t delivered = 0;
    uint64_t lost = 0;
    uint64_t timeouts = 0;
    uint64_t decisions = 0;
    uint64_t in_flight = 0;
    uint64_t to_retransmit = 0;
    uint32_t cwnd = ADP_CUBIC_CWND_INIT;

    double srtt_us = 0;
    double rttvar_us = 0;
    uint32_t min_rtt_us = 0;
    int64_t rto_backoff = 1;

    int64_t pacing_ns = 0;  // the next burst may not leave before
    int64_t next_send_ns = never;
    int64_t next_timeout_ns = never;
    int64_t next_source_ns = never;
    double backlog_bytes = 0;
    uint64_t app_limited_until = 0;  // value of `delivered`; 0 = not limited (tcp_rate.c's app_limited)
};

}  // namespace

// ---- Random ----

Random::Random(uint64_t seed) : state_{} {
    for (uint64_t& word : state_) {
        seed += 0x9e3779b97f4a7c15ULL;
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
        word = z ^ (z >> 31);
    }
}

uint64_t Random::next() {
    auto rotate = [](uint64_t v, int k) { return v << k | v >> (64 - k); };
    const uint64_t result = rotate(state_[1] * 5, 7) * 9;
    const uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = rotate(state_[3], 45);
    return result;
}

double Random::log_uniform(double low, double high) { return low * std::exp(uniform() * std::log(high / low)); }

double Random::normal() {
    const double radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(2 * M_PI * uniform());
}

// ---- Capacity ----

Capacity Capacity::constant(double bytes_per_s) { return steps({{3600, bytes_per_s}}); }

Capacity Capacity::steps(const std::vector<Step>& steps) {
    Capacity c;
    int64_t at_ns = 0;
    for (const Step& step : steps) {
        at_ns += to_ns(step.seconds);
        c.levels_.push_back({at_ns, step.bytes_per_s * 1e-9});
    }
    return c;
}

Capacity Capacity::from_trace(std::shared_ptr<const Trace> trace, uint64_t offset_ns) {
    Capacity c;
    c.trace_ = std::move(trace);
    c.offset_ns_ = offset_ns;
    c.opportunity_ = c.trace_->count_until(offset_ns);
    c.left_ = trace_opportunity_bytes;
    return c;
}

int64_t Capacity::finish_ns(int64_t start_ns, uint32_t bytes) {
    if (!trace_) {
        const int64_t period_ns = levels_.back().until_ns;
        int64_t base_ns = start_ns / period_ns * period_ns;
        size_t level = 0;
        while (levels_[level].until_ns <= start_ns - base_ns) level++;
        double left = bytes;
        int64_t now_ns = start_ns;
        for (;;) {
            const double fits =
                static_cast<double>(base_ns + levels_[level].until_ns - now_ns) * levels_[level].bytes_per_ns;
            if (left <= fits) return now_ns + std::llround(left / levels_[level].bytes_per_ns);
            left -= fits;
            now_ns = base_ns + levels_[level].until_ns;
            if (++level == levels_.size()) {
                level = 0;
                base_ns += period_ns;
            }
        }
    }
    // An opportunity that comes while nothing waits is lost; one in use may carry what still fits.
    const uint64_t start = static_cast<uint64_t>(start_ns) + offset_ns_;
    if (trace_->opportunity_ns(opportunity_) < start) {
        opportunity_ = trace_->count_until(start - 1);
        left_ = trace_opportunity_bytes;
    }
    while (bytes > left_) {
        bytes -= left_;
        opportunity_++;
        left_ = trace_opportunity_bytes;
    }
    left_ -= bytes;
    const int64_t done = static_cast<int64_t>(trace_->opportunity_ns(opportunity_) - offset_ns_);
    if (left_ == 0) {
        opportunity_++;
        left_ = trace_opportunity_bytes;
    }
    return std::max(done, start_ns);
}

double Capacity::bytes_between(int64_t from_ns, int64_t to_ns) const {
    if (to_ns <= from_ns) return 0;
    if (!trace_) {
        auto bytes_until = [this](int64_t ns) {
            const int64_t period_ns = levels_.back().until_ns;
            double bytes = 0;
            double whole = 0;
            int64_t from = 0;
            for (const Level& level : levels_) {
                whole += static_cast<double>(level.until_ns - from) * level.bytes_per_ns;
                const int64_t part_ns = std::clamp<int64_t>(ns % period_ns - from, 0, level.until_ns - from);
                bytes += static_cast<double>(part_ns) * level.bytes_per_ns;
                from = level.until_ns;
            }
            const int64_t periods = ns / period_ns;
            return bytes + whole * static_cast<double>(periods);
        };
        return bytes_until(to_ns) - bytes_until(from_ns);
    }
    return static_cast<double>(
        trace_->capacity_bytes(static_cast<uint64_t>(from_ns) + offset_ns_, static_cast<uint64_t>(to_ns) + offset_ns_));
}

// ---- LinkStats ----

double LinkStats::sojourn_percentile_ms(double fraction) const {
    uint64_t total = 0;
    for (uint32_t n : sojourn_ms) total += n;
    const double target = fraction * static_cast<double>(total);
    double seen = 0;
    for (size_t i = 0; i < sojourn_ms.size(); i++) {
        seen += sojourn_ms[i];
        if (seen >= target && seen > 0) return static_cast<double>(i);
    }
    return 0;
}

double LinkStats::mean_sojourn_ms() const {
    double total = 0;
    double sum = 0;
    for (size_t i = 0; i < sojourn_ms.size(); i++) {
        total += sojourn_ms[i];
        sum += sojourn_ms[i] * (static_cast<double>(i) + 0.5);
    }
    return total > 0 ? sum / total : 0;
}

// ---- Engine ----

class Simulator::Engine {
public:
    Engine(LinkOptions link, const std::vector<FlowOptions>& flows, uint64_t seed)
        : link_(std::move(link)),
          random_(seed),
          rtt_ns_(to_ns(link_.rtt_s)),
          tick_ns_(to_ns(link_.ack_tick_s)),
          flows_(flows.size()) {
        stats_.sojourn_ms.assign(sojourn_bins, 0);
        for (size_t i = 0; i < flows.size(); i++) {
            Flow& f = flows_[i];
            f.options = flows[i];
            f.cc.id = i + 1;
            // The handshake takes one round trip and gives the first RTT sample.
            f.next_send_ns = to_ns(flows[i].start_s) + rtt_ns_;
            if (flows[i].source.bytes_per_s > 0) f.next_source_ns = f.next_send_ns;
        }
    }

    // Ends at `until_ns` or after `decision_limit` decisions, whichever is first.
    void run(int64_t until_ns, uint64_t decision_limit) {
        decisions_left_ = decision_limit;
        while (decisions_left_ > 0) {
            Flow* first = nullptr;
            int64_t when = until_ns;
            for (Flow& f : flows_) {
                const int64_t t = next_event(f);
                if (t < when) {
                    when = t;
                    first = &f;
                }
            }
            if (!first) {
                now_ns_ = std::max(now_ns_, until_ns);
                break;
            }
            now_ns_ = when;
            handle(*first);
        }
        drain_queue(now_ns_);
    }

    LinkStats stats() const {
        LinkStats s = stats_;
        s.queued = queue_.size();
        s.queued_bytes = queued_bytes_;
        s.offered_bytes = link_.capacity.bytes_between(stats_.since_ns, now_ns_);
        return s;
    }

    [[nodiscard]] double offered_bytes(int64_t from_ns, int64_t to_ns) const {
        return link_.capacity.bytes_between(from_ns, to_ns);
    }

    void reset_stats() {
        drain_queue(now_ns_);
        stats_ = {};
        stats_.sojourn_ms.assign(sojourn_bins, 0);
        stats_.since_ns = now_ns_;
        stats_.queued_before = queue_.size();
    }

    void set_loss(double loss) { link_.loss = loss; }

    PolicyFunction policy;
    SampleFunction on_sample;
    uint32_t generation = 0;
    uint32_t explore_q16 = 0;
    adp_cc_objective objective = {};

    [[nodiscard]] int64_t now_ns() const { return now_ns_; }
    [[nodiscard]] const Flow& flow(size_t i) const { return flows_.at(i); }
    [[nodiscard]] bool decisions_done() const { return decisions_left_ == 0; }

private:
    static int64_t next_event(const Flow& f) {
        int64_t t = std::min({f.next_send_ns, f.next_timeout_ns, f.next_source_ns});
        if (!f.acks.empty()) t = std::min(t, f.acks.front().arrives_ns);
        return t;
    }

    void handle(Flow& f) {
        if (!f.started) {
            start(f);
        } else if (!f.acks.empty() && f.acks.front().arrives_ns <= now_ns_) {
            on_acks(f);
        } else if (f.next_source_ns <= now_ns_) {
            // Frames that wait for longer than a second are the application's to throw away, not this model's to keep.
            const SourceOptions& source = f.options.source;
            f.backlog_bytes =
                std::min(f.backlog_bytes + source.bytes_per_s * source.frame_interval_s, source.bytes_per_s);
            f.next_source_ns += to_ns(source.frame_interval_s);
        } else if (f.next_timeout_ns <= now_ns_) {
            on_timeout(f);
        } else {
            send_burst(f);
        }
        schedule_send(f);
    }

    void start(Flow& f) {
        f.started = true;
        const auto rtt_us = static_cast<uint32_t>(std::max<int64_t>(rtt_ns_ / 1000, 1));
        f.srtt_us = rtt_us;
        f.rttvar_us = rtt_us / 2.0;
        f.min_rtt_us = rtt_us;
        adp_cc_init(&f.cc, now_us(), f.options.mss, rtt_us, ADP_CUBIC_CWND_INIT, 0, 0);
        adp_cc_set_cwnd(&f.cc, rtt_us, f.options.mss);
        f.cwnd = f.cc.sums.cwnd;
        f.pacing_ns = now_ns_;
    }

    [[nodiscard]] adp_u64 now_us() const { return static_cast<adp_u64>(now_ns_ / 1000); }

    [[nodiscard]] bool has_data(const Flow& f) const {
        if (f.options.end_s > 0 && now_ns_ >= to_ns(f.options.end_s)) return f.to_retransmit > 0;
        return f.to_retransmit > 0 || f.options.source.bytes_per_s <= 0 || f.backlog_bytes >= f.options.mss;
    }

    void schedule_send(Flow& f) {
        f.next_send_ns = f.in_flight < f.cwnd && has_data(f) ? std::max(f.pacing_ns, now_ns_) : never;
    }

    void send_burst(Flow& f) {
        // sk_pacing_rate >> 10: about a millisecond's worth (tcp_tso_autosize), at least tcp_min_tso_segs.
        const uint64_t least = 2;
        const uint64_t quantum = std::clamp<uint64_t>((f.cc.rate >> 10) / f.options.mss, least, 44);
        uint64_t n = 0;
        while (n < quantum && f.in_flight < f.cwnd && has_data(f)) {
            send_one(f);
            n++;
        }
        f.pacing_ns = now_ns_ + static_cast<int64_t>(n * f.options.mss * ns_per_s / f.cc.rate);
        if (!has_data(f) && f.in_flight < f.cwnd)
            f.app_limited_until = std::max<uint64_t>(f.delivered + f.in_flight, 1);
    }

    void send_one(Flow& f) {
        if (f.to_retransmit > 0)
            f.to_retransmit--;
        else if (f.options.source.bytes_per_s > 0)
            f.backlog_bytes -= f.options.mss;
        const uint64_t number = f.sent++;
        if (f.in_flight++ == 0) arm_timeout(f);

        const int64_t ack_ns = through_link(f.options.mss + sim_header_bytes);
        if (ack_ns == never) {
            f.dropped.push(f.passed + 3);
            return;
        }
        f.passed++;
        f.acks.push({ack_ns, now_ns_, number, f.app_limited_until != 0});
    }

    // When the ACK comes back, or `never`.
    int64_t through_link(uint32_t bytes) {
        drain_queue(now_ns_);
        stats_.arrived++;
        if (queued_bytes_ + bytes > link_.queue_bytes) {
            stats_.dropped_queue++;
            return never;
        }
        const int64_t departs_ns = link_.capacity.finish_ns(std::max(now_ns_, last_departure_ns_), bytes);
        last_departure_ns_ = departs_ns;
        const bool lost = link_.loss > 0 && random_.uniform() < link_.loss;
        queue_.push({departs_ns, now_ns_, bytes, lost});
        queued_bytes_ += bytes;
        if (lost) return never;
        const int64_t back_ns = departs_ns + rtt_ns_;
        return tick_ns_ ? (back_ns + tick_ns_ - 1) / tick_ns_ * tick_ns_ : back_ns;
    }

    void drain_queue(int64_t until_ns) {
        while (!queue_.empty() && queue_.front().departs_ns <= until_ns) {
            const QueuedPacket& p = queue_.front();
            stats_.departed++;
            stats_.lost += p.lost ? 1 : 0;
            stats_.carried_bytes += p.bytes;
            stats_.sojourn_ms[std::min<size_t>((p.departs_ns - p.arrived_ns) / 1'000'000, sojourn_bins - 1)]++;
            queued_bytes_ -= p.bytes;
            queue_.pop();
        }
    }

    void arm_timeout(Flow& f) {
        if (f.in_flight == 0) {
            f.next_timeout_ns = never;
            return;
        }
        const auto rto_ns = std::max(static_cast<int64_t>((f.srtt_us + 4 * f.rttvar_us) * 1000), rto_min_ns);
        f.next_timeout_ns = now_ns_ + std::min(rto_ns * f.rto_backoff, rto_max_ns);
    }

    // Everything in flight is given up; one packet probes the path until an ACK comes. ACKs of what was given up may
    // still come (an outage, not a loss): they count as delivered and save the retransmission. The kernel's
    // rate_sample.losses counts only what an ACK marks, so these losses are not reported to cc.h either.
    void on_timeout(Flow& f) {
        f.timeouts++;
        f.lost += f.in_flight;
        f.to_retransmit += f.in_flight;
        f.in_flight = 0;
        f.dropped.clear();
        f.forgotten = f.sent;
        f.cwnd = 1;
        f.rto_backoff = std::min<int64_t>(f.rto_backoff * 2, 1024);
        f.pacing_ns = now_ns_;
        f.next_timeout_ns = never;  // armed again by the probe
    }

    void update_rtt(Flow& f, double sample_us) {
        const double error = sample_us - f.srtt_us;
        f.srtt_us += error / 8;
        f.rttvar_us += (std::abs(error) - f.rttvar_us) / 4;
    }

    // One ACK that covers up to ack_packets of those that arrive at this very time.
    void on_acks(Flow& f) {
        adp_cc_ack a = {};
        while (!f.acks.empty() && f.acks.front().arrives_ns <= now_ns_ && a.acked < std::max(link_.ack_packets, 1U)) {
            const Ack& k = f.acks.front();
            a.acked++;
            f.arrived++;
            f.delivered++;
            if (k.packet >= f.forgotten)
                f.in_flight--;
            else if (f.to_retransmit > 0)
                f.to_retransmit--;
            const auto rtt_us = static_cast<uint32_t>(std::max<int64_t>((now_ns_ - k.sent_ns) / 1000, 1));
            // The kernel: srtt from the oldest packet, rate_sample.rtt_us from the newest.
            if (a.acked == 1) update_rtt(f, rtt_us);
            f.min_rtt_us = std::min(f.min_rtt_us, rtt_us);
            a.rtt_us = rtt_us;
            a.app_limited = k.app_limited ? 1 : 0;
            f.acks.pop();
            if (tick_ns_ == 0) break;
        }
        if (f.app_limited_until != 0 && f.delivered > f.app_limited_until) f.app_limited_until = 0;
        while (!f.dropped.empty() && f.arrived >= f.dropped.front()) {
            f.dropped.pop();
            f.in_flight--;
            f.lost++;
            f.to_retransmit++;
            a.lost++;
        }
        f.rto_backoff = 1;
        arm_timeout(f);

        a.now_us = now_us();
        a.srtt_us = static_cast<uint32_t>(f.srtt_us);
        a.min_rtt_us = f.min_rtt_us;
        a.delivered = static_cast<uint32_t>(f.delivered);
        a.sent = static_cast<uint32_t>(f.sent);
        a.in_flight = static_cast<uint32_t>(f.in_flight);
        a.mss = f.options.mss;
        if (adp_cc_on_ack(&f.cc, &a) == ADP_CC_INTERVAL_CLOSED) decide(f, a);
        f.cwnd = f.cc.sums.cwnd;
    }

    // The BPF program's steps at the end of an interval, in its order.
    void decide(Flow& f, const adp_cc_ack& a) {
        uint32_t flags = 0;
        adp_s32 noise = 0;
        adp_s32 action = 0;
        f.cc.slot = 0;
        f.cc.generation = 0;
        adp_cc_set_objective(&f.cc, objective.throughput_q16, objective.delay_q16, objective.loss_q16);
        if (!policy || f.options.cubic) {
            flags = ADP_CC_FALLBACK_MADE;
            f.cc.slot = ADP_SLOT_NONE;
            adp_cc_enter_fallback(&f.cc, a.srtt_us, a.mss);
            adp_cc_fallback_rate(&f.cc, a.srtt_us, a.mss);
        } else {
            adp_cc_leave_fallback(&f.cc);
            flags = adp_cc_prepare(&f.cc, a.now_us, a.delivered);
            if (flags == 0) {
                f.cc.generation = generation;
                f.cc.output[0] = policy(f.cc.input);
                noise = explore_q16 ? adp_cc_noise(random_.bits32(), explore_q16) : 0;
                action = adp_cc_act(&f.cc, f.cc.output[0], noise);
                f.decisions++;
                decisions_left_--;
            }
        }
        adp_cc_set_cwnd(&f.cc, a.srtt_us, a.mss);
        if (on_sample) {
            adp_cc_sample s;
            adp_cc_fill_sample(&f.cc, &s, a.now_us, a.in_flight, flags, noise, action, flags ? 0 : explore_q16);
            on_sample(s);
        }
        f.cc.seq++;
    }

    LinkOptions link_;
    Random random_;
    int64_t rtt_ns_;
    int64_t tick_ns_;
    std::vector<Flow> flows_;
    Fifo<QueuedPacket> queue_;
    uint64_t queued_bytes_ = 0;
    int64_t last_departure_ns_ = 0;
    int64_t now_ns_ = 0;
    uint64_t decisions_left_ = 0;
    LinkStats stats_;
};

Simulator::Simulator(LinkOptions link, const std::vector<FlowOptions>& flows, uint64_t seed)
    : engine_(std::make_unique<Engine>(std::move(link), flows, seed)) {}
Simulator::~Simulator() = default;

void Simulator::set_policy(PolicyFunction policy, uint32_t generation, uint32_t explore_q16) {
    engine_->policy = std::move(policy);
    engine_->generation = generation;
    engine_->explore_q16 = explore_q16;
}

void Simulator::set_loss(double loss) { engine_->set_loss(loss); }
void Simulator::set_objective(const adp_cc_objective& objective) { engine_->objective = objective; }

void Simulator::set_samples(SampleFunction on_sample) { engine_->on_sample = std::move(on_sample); }

void Simulator::run_until(double time_s) { engine_->run(to_ns(time_s), std::numeric_limits<uint64_t>::max()); }

bool Simulator::run_decisions(uint64_t decisions, double time_limit_s) {
    engine_->run(to_ns(time_limit_s), decisions);
    return engine_->decisions_done();
}

double Simulator::now_s() const { return static_cast<double>(engine_->now_ns()) * 1e-9; }
LinkStats Simulator::link_stats() const { return engine_->stats(); }
const adp_cc_flow& Simulator::flow(size_t flow) const { return engine_->flow(flow).cc; }
double Simulator::offered_bytes(double from_s, double to_s) const {
    return engine_->offered_bytes(std::max<int64_t>(to_ns(from_s), 0), to_ns(to_s));
}
void Simulator::reset_stats() { engine_->reset_stats(); }

FlowStats Simulator::flow_stats(size_t flow) const {
    const Flow& f = engine_->flow(flow);
    return {f.sent, f.delivered, f.lost, f.timeouts, f.decisions, static_cast<uint32_t>(f.in_flight)};
}

}  // namespace adapath
