// A simulator of one bottleneck link and the flows on it, fast enough to train on (thousands of times real time). Every
// flow is driven by include/adapath/cc.h exactly as the BPF program drives a socket: what a policy sees here is bit for
// bit what it sees in the kernel.
//
// The link is a droptail queue before a server (constant rate, steps or a trace's delivery opportunities), then random
// loss, then propagation. ACKs come back on an uncongested path, one a packet, or in clumps where `ack_tick_s` is set,
// as over LTE, whose grants batch them. The sender follows Linux: pacing in bursts of about a millisecond (at least 2
// packets), cwnd as a cap, loss by 3 later deliveries (SACK) or a retransmission timeout of at least 200 ms, srtt by
// 1/8, RTT samples from retransmissions too (TCP timestamps), minimum RTT over the whole run (the kernel's window is
// 300 s). Not modelled: reordering, the receiver's window, delayed ACKs, tail loss probes.
#pragma once

#include <adapath/cc.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "codegen/trace/trace.h"

namespace adapath {

// xoshiro256**, seeded by splitmix64: the standard library's distributions differ between implementations, and a seed
// here must mean the same run everywhere.
class Random {
public:
    explicit Random(uint64_t seed);
    uint64_t next();
    uint32_t bits32() { return static_cast<uint32_t>(next() >> 32); }
    double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }  // [0, 1)
    double uniform(double low, double high) { return low + (high - low) * uniform(); }
    double log_uniform(double low, double high);
    double normal();  // mean 0, standard deviation 1

private:
    std::array<uint64_t, 4> state_;
};

// When bytes get through the link.
class Capacity {
public:
    static Capacity constant(double bytes_per_s);
    // One step after the other, for ever.
    struct Step {
        double seconds;
        double bytes_per_s;
    };
    static Capacity steps(const std::vector<Step>& steps);
    // Starts `offset_ns` into the trace.
    static Capacity from_trace(std::shared_ptr<const Trace> trace, uint64_t offset_ns = 0);

    // When a packet that may begin at `start_ns` has left. Calls come in order of time.
    int64_t finish_ns(int64_t start_ns, uint32_t bytes);
    // Bytes offered in (from_ns, to_ns].
    [[nodiscard]] double bytes_between(int64_t from_ns, int64_t to_ns) const;

private:
    Capacity() = default;
    struct Level {
        int64_t until_ns;  // within a period
        double bytes_per_ns;
    };
    std::vector<Level> levels_;  // empty with a trace
    std::shared_ptr<const Trace> trace_;
    uint64_t offset_ns_ = 0;
    uint64_t opportunity_ = 0;  // index of the one in use
    uint32_t left_ = 0;         // bytes that it can still carry
};

// Overhead of Ethernet-less IPv4 and TCP with timestamps; mss + this is what the link carries.
inline constexpr uint32_t sim_header_bytes = 52;

struct LinkOptions {
    Capacity capacity = Capacity::constant(1.25e6);
    double rtt_s = 0.04;             // propagation, both ways together
    uint64_t queue_bytes = 150'000;  // waiting or in transmission
    double loss = 0;                 // probability per packet, after the queue
    double ack_tick_s = 0;           // ACKs arrive only at multiples of this; 0 = each by itself
    uint32_t ack_packets = 2;        // of one tick, how many packets one ACK covers at most
};

// What the application writes. The default always has data.
struct SourceOptions {
    double bytes_per_s = 0;         // 0 = unlimited
    double frame_interval_s = 0.1;  // it writes bytes_per_s * frame_interval_s at once, as a camera does
};

struct FlowOptions {
    double start_s = 0;
    double end_s = 0;     // it stops sending then; 0 = never
    uint32_t mss = 1448;  // bytes
    bool cubic = false;   // the fallback decides for this flow, whatever the policy: a neighbour
    SourceOptions source;
};

struct FlowStats {
    uint64_t sent = 0;       // packets, with retransmissions
    uint64_t delivered = 0;  // packets, as the sender knows from ACKs
    uint64_t lost = 0;       // packets, as the sender marked them
    uint64_t timeouts = 0;
    uint64_t decisions = 0;  // of the policy
    uint32_t in_flight = 0;  // packets, now
};

// Counted since the last reset_stats(); queued_* are as of now.
struct LinkStats {
    int64_t since_ns = 0;
    uint64_t arrived = 0;        // packets
    uint64_t dropped_queue = 0;  // packets: the queue was full
    uint64_t departed = 0;       // packets that left the queue
    uint64_t lost = 0;           // of them, lost at random behind it
    uint64_t queued = 0;         // packets
    uint64_t queued_bytes = 0;
    uint64_t queued_before = 0;  // packets in the queue at the reset
    double offered_bytes = 0;    // capacity
    double carried_bytes = 0;    // departed, with headers
    // Departed packets by milliseconds from arrival to departure; the last bin takes the rest.
    std::vector<uint32_t> sojourn_ms;

    [[nodiscard]] double utilisation() const { return offered_bytes > 0 ? carried_bytes / offered_bytes : 0; }
    [[nodiscard]] double sojourn_percentile_ms(double fraction) const;
    [[nodiscard]] double mean_sojourn_ms() const;
};

// Codes in (ADP_CC_INPUTS), raw output in Q16 out.
using PolicyFunction = std::function<int32_t(const uint8_t* input)>;
using SampleFunction = std::function<void(const adp_cc_sample& sample)>;

class Simulator {
public:
    Simulator(LinkOptions link, const std::vector<FlowOptions>& flows, uint64_t seed);
    ~Simulator();
    Simulator(const Simulator&) = delete;
    Simulator& operator=(const Simulator&) = delete;

    // Takes effect at each flow's next interval, like a switch. An empty function means no snapshot: the fallback
    // decides. `explore_q16` is the noise's standard deviation.
    void set_policy(PolicyFunction policy, uint32_t generation, uint32_t explore_q16);
    // What the flows are to aim for, from the next interval on; see enum adp_cc_weight. The default: cc.h's.
    void set_objective(const adp_cc_objective& objective);
    // The link changes, from the next packet on: loss behind the queue, as a probability.
    void set_loss(double loss);
    // Called for every closed interval, in order of time.
    void set_samples(SampleFunction on_sample);

    void run_until(double time_s);
    // As run_until, but also ends (returns true) once `decisions` more have been made by the policy.
    bool run_decisions(uint64_t decisions, double time_limit_s);

    [[nodiscard]] double now_s() const;
    [[nodiscard]] LinkStats link_stats() const;
    // What the link could have carried.
    [[nodiscard]] double offered_bytes(double from_s, double to_s) const;
    [[nodiscard]] FlowStats flow_stats(size_t flow) const;
    [[nodiscard]] const adp_cc_flow& flow(size_t flow) const;
    void reset_stats();

private:
    class Engine;
    std::unique_ptr<Engine> engine_;
};

}  // namespace adapath
