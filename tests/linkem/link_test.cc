// The link: when packets leave, what is dropped or lost, and agreement with a slow model of the same rules.
#include "userspace/linkem/link.h"

#include <gtest/gtest.h>

#include <cmath>
#include <deque>
#include <random>
#include <vector>

namespace adapath {
namespace {

constexpr uint64_t ms = 1'000'000;

struct Seen {
    uint32_t size;
    bool lost;
    uint64_t arrived_ns;
    uint64_t left_ns;
    uint64_t due_ns;
    uint32_t tag;  // the packet's first bytes

    bool operator==(const Seen&) const = default;
};

Trace trace_of(const std::string& text) { return *Trace::parse(text, "test"); }

// A packet whose bytes follow from its tag, so that a torn one is noticed.
std::vector<uint8_t> packet_of(uint32_t tag, uint32_t size) {
    std::vector<uint8_t> packet(size);
    for (uint32_t i = 0; i < size; i++) {
        packet[i] = static_cast<uint8_t>(i < 4 ? tag >> (8 * i) : tag * 31 + i);
    }
    return packet;
}

bool push(Link& link, uint32_t tag, uint32_t size, uint64_t now_ns) { return link.push(packet_of(tag, size), now_ns); }

std::vector<Seen> poll(Link& link, uint64_t now_ns) {
    std::vector<Seen> out;
    link.poll(now_ns, [&](const LinkPacket& packet) {
        uint32_t tag = 0;
        std::memcpy(&tag, packet.data, std::min<size_t>(4, packet.size));
        EXPECT_EQ(std::vector<uint8_t>(packet.data, packet.data + packet.size), packet_of(tag, packet.size));
        out.push_back({packet.size, packet.lost, packet.arrived_ns, packet.left_ns, packet.due_ns, tag});
    });
    return out;
}

TEST(link, a_packet_waits_for_its_opportunity_and_then_for_the_delay) {
    Link link(trace_of("10\n"), {.delay_ns = 20 * ms});
    EXPECT_EQ(link.next_deadline_ns(), Link::never);
    EXPECT_TRUE(push(link, 1, 1500, 3 * ms));
    EXPECT_EQ(link.next_deadline_ns(), 30 * ms);
    EXPECT_TRUE(poll(link, 30 * ms - 1).empty());
    link.serve(10 * ms);
    EXPECT_EQ(link.queue_bytes(), 0U) << "it left the queue at 10 ms";
    const auto out = poll(link, 30 * ms);
    ASSERT_EQ(out.size(), 1U);
    EXPECT_EQ(out[0], (Seen{1500, false, 3 * ms, 10 * ms, 30 * ms, 1}));
    EXPECT_EQ(link.next_deadline_ns(), Link::never);
}

TEST(link, an_opportunity_at_the_time_of_arrival_is_too_early) {
    Link link(trace_of("10\n"), {.delay_ns = 0});
    push(link, 1, 100, 10 * ms);
    EXPECT_TRUE(poll(link, 20 * ms - 1).empty());
    EXPECT_EQ(poll(link, 20 * ms).size(), 1U);
}

TEST(link, a_packet_noticed_after_a_poll_keeps_its_opportunity) {
    Link link(trace_of("10\n"), {.delay_ns = 20 * ms});
    push(link, 1, 100, 5 * ms);
    EXPECT_TRUE(poll(link, 12 * ms).empty());
    push(link, 2, 100, 9 * ms);
    const auto out = poll(link, 30 * ms);
    ASSERT_EQ(out.size(), 2U);
    EXPECT_EQ(out[1].left_ns, 10 * ms);
}

TEST(link, no_opportunity_is_used_twice) {
    Link link(trace_of("10\n"), {.delay_ns = 0});
    push(link, 1, 1500, 5 * ms);
    EXPECT_EQ(poll(link, 10 * ms).size(), 1U);
    push(link, 2, 1500, 9 * ms);  // noticed too late: the opportunity at 10 ms is gone
    EXPECT_TRUE(poll(link, 20 * ms - 1).empty());
    EXPECT_EQ(poll(link, 20 * ms).size(), 1U);
}

TEST(link, unused_opportunities_are_lost) {
    Link link(trace_of("1\n2\n3\n100\n"), {.delay_ns = 0});
    push(link, 1, 1500, 50 * ms);
    push(link, 2, 1500, 50 * ms);
    const auto out = poll(link, 101 * ms);
    ASSERT_EQ(out.size(), 2U);
    EXPECT_EQ(out[0].left_ns, 100 * ms);
    EXPECT_EQ(out[1].left_ns, 101 * ms);
}

TEST(link, one_opportunity_carries_several_small_packets) {
    Link link(trace_of("10\n"), {.delay_ns = 0});
    for (uint32_t i = 0; i < 16; i++) {
        push(link, i, 100, 0);
    }
    EXPECT_EQ(poll(link, 10 * ms).size(), 15U);
    EXPECT_EQ(poll(link, 20 * ms).size(), 1U);
}

TEST(link, a_packet_is_served_in_parts) {
    Link link(trace_of("10\n"), {.delay_ns = 0});
    push(link, 1, 1000, 0);
    push(link, 2, 1000, 0);  // 500 bytes at 10 ms, 500 at 20 ms
    push(link, 3, 1000, 0);  // the other 1000 at 20 ms
    push(link, 4, 4000, 0);  // 1500 at 30 and 40 ms, 1000 at 50 ms
    const auto out = poll(link, 100 * ms);
    ASSERT_EQ(out.size(), 4U);
    EXPECT_EQ(out[0].left_ns, 10 * ms);
    EXPECT_EQ(out[1].left_ns, 20 * ms);
    EXPECT_EQ(out[2].left_ns, 20 * ms);
    EXPECT_EQ(out[3].left_ns, 50 * ms);
    // The rest of the opportunity at 50 ms does not wait for anybody.
    push(link, 5, 1500, 100 * ms);
    EXPECT_EQ(poll(link, 120 * ms).at(0).left_ns, 110 * ms);
}

TEST(link, drops_at_the_tail_by_bytes) {
    Link link(trace_of("10\n"), {.delay_ns = 0, .queue_bytes = 3000});
    EXPECT_TRUE(push(link, 1, 1500, 0));
    EXPECT_TRUE(push(link, 2, 1400, 0));
    EXPECT_FALSE(push(link, 3, 101, 0));
    EXPECT_TRUE(push(link, 4, 100, 0)) << "what fits is taken, even after a drop";
    EXPECT_FALSE(push(link, 5, 1, 0));
    EXPECT_EQ(link.queue_bytes(), 3000U);
    // The opportunity at 10 ms makes room before the packet of that time is looked at.
    EXPECT_TRUE(push(link, 6, 1500, 10 * ms));
    const LinkCounters& counters = link.counters();
    EXPECT_EQ(counters.arrived_packets, 6U);
    EXPECT_EQ(counters.dropped_packets, 2U);
    EXPECT_EQ(counters.dropped_bytes, 102U);
    std::vector<uint32_t> tags;
    for (const Seen& seen : poll(link, 1000 * ms)) {
        tags.push_back(seen.tag);
    }
    EXPECT_EQ(tags, (std::vector<uint32_t>{1, 2, 4, 6}));
    EXPECT_EQ(counters.delivered_packets, 4U);
    EXPECT_EQ(counters.delivered_bytes, 4500U);
}

TEST(link, a_packet_counts_until_its_last_byte_has_left) {
    Link link(trace_of("10\n"), {.delay_ns = 0, .queue_bytes = 4000});
    push(link, 1, 4000, 0);
    link.serve(20 * ms);
    EXPECT_EQ(link.queue_bytes(), 4000U);
    EXPECT_FALSE(push(link, 2, 1, 20 * ms));
    link.serve(30 * ms);
    EXPECT_EQ(link.queue_bytes(), 0U);
}

TEST(link, loss_has_its_rate_its_seed_and_its_price) {
    const auto run = [](uint64_t seed) {
        Link link(trace_of("1\n"), {.delay_ns = 0, .queue_bytes = 1 << 30, .loss = 0.1, .seed = seed});
        for (uint32_t i = 0; i < 20'000; i++) {
            push(link, i, 1500, 0);
        }
        return poll(link, 20'000 * ms);
    };
    const auto first = run(1);
    ASSERT_EQ(first.size(), 20'000U);
    EXPECT_EQ(first.back().left_ns, 20'000 * ms) << "a lost packet uses up its opportunity";
    size_t lost = 0;
    for (const Seen& seen : first) {
        lost += seen.lost ? 1 : 0;
    }
    EXPECT_NEAR(static_cast<double>(lost), 2'000, 5 * std::sqrt(20'000 * 0.1 * 0.9));
    EXPECT_EQ(first, run(1));
    EXPECT_NE(first, run(2));

    Link all(trace_of("1\n"), {.delay_ns = 0, .loss = 1});
    push(all, 1, 100, 0);
    EXPECT_TRUE(poll(all, 1 * ms).at(0).lost);
    EXPECT_EQ(all.counters().lost_packets, 1U);
    EXPECT_EQ(all.counters().delivered_packets, 0U);
}

TEST(link, reserve_without_commit_changes_nothing) {
    Link link(trace_of("1\n"), {.delay_ns = 0, .queue_bytes = 100'000});
    for (uint32_t i = 0; i < 2'000; i++) {
        link.reserve(1500);  // a read that found nothing
        const std::vector<uint8_t> packet = packet_of(i, 700);
        std::memcpy(link.reserve(1500), packet.data(), packet.size());
        EXPECT_TRUE(link.commit(700, i * ms));
        link.reserve(1500);
        const auto out = poll(link, (i + 1) * ms);
        ASSERT_EQ(out.size(), 1U);
        EXPECT_EQ(out[0].tag, i);
    }
    EXPECT_LE(link.memory_bytes(), 256U * 1024) << "one packet at a time must not need more memory";
}

// The ring holds 256 KiB at first; each packet has 24 bytes in front and is rounded up to 8. These sizes end exactly at
// the ring's end and then meet its first packet: exactly, one step before, one step after.
TEST(link, a_full_ring_overwrites_nothing) {
    for (uint32_t size = 3000; size <= 3040; size += 8) {
        Link link(trace_of("1\n"), {.delay_ns = 0, .queue_bytes = 10'000'000});
        uint32_t tag = 0;
        for (; tag < 172; tag++) {
            push(link, tag, 1496, 0);
        }
        EXPECT_EQ(poll(link, 2 * ms).size(), 2U);
        push(link, tag++, 680, 2 * ms);
        EXPECT_EQ(link.memory_bytes(), 256U * 1024);
        push(link, tag++, size, 2 * ms);
        EXPECT_EQ(link.memory_bytes(), (size <= 3016 ? 256U : 512U) * 1024) << size;
        const auto out = poll(link, 1000 * ms);
        ASSERT_EQ(out.size(), 172U);
        for (uint32_t i = 0; i < out.size(); i++) {
            EXPECT_EQ(out[i].tag, i + 2);
            EXPECT_EQ(out[i].arrived_ns, i < 170 ? 0 : 2 * ms);
        }
    }
}

TEST(link, poll_stops_at_its_limit_and_goes_on) {
    Link link(trace_of("1\n"), {.delay_ns = 0});
    for (uint32_t i = 0; i < 30; i++) {
        push(link, i, 50, 0);
    }
    uint32_t next = 0;
    const auto sink = [&](const LinkPacket& packet) { EXPECT_EQ(packet.data[0], next++); };
    EXPECT_EQ(link.poll(ms, sink, 20), 20U);
    EXPECT_EQ(link.next_deadline_ns(), ms) << "more is due at once";
    EXPECT_EQ(link.poll(ms, sink, 20), 10U);
}

TEST(link, delivers_the_capacity_of_a_trace) {
    auto trace = Trace::generate({.seed = 9, .duration_ms = 30'000});
    ASSERT_TRUE(trace);
    Link link(*trace, {.delay_ns = 0, .queue_bytes = 100'000});
    for (uint64_t t = 0; t < 60'000; t++) {
        while (link.queue_bytes() < 90'000) {
            push(link, 0, 1500, t * ms);
        }
        link.poll(t * ms, [](const LinkPacket&) {});
    }
    const uint64_t offered = trace->capacity_bytes(0, 59'999 * ms);
    EXPECT_LE(link.counters().delivered_bytes, offered);
    EXPECT_GT(link.counters().delivered_bytes + 1500, offered);
}

// The same rules, a byte at a time, with no ring and no skipping of idle opportunities.
class SlowLink {
public:
    SlowLink(const Trace& trace, uint64_t delay_ns, uint64_t queue_bytes)
        : trace_(trace), delay_ns_(delay_ns), queue_bytes_(queue_bytes) {}

    bool push(uint32_t tag, uint32_t size, uint64_t now_ns) {
        serve(now_ns);
        uint64_t used = size;
        for (const Waiting& waiting : queue_) {
            used += waiting.seen.size;
        }
        if (used > queue_bytes_) {
            return false;
        }
        queue_.push_back({{size, false, now_ns, 0, 0, tag}, size});
        return true;
    }
    std::vector<Seen> poll(uint64_t now_ns) {
        if (now_ns >= delay_ns_) {
            serve(now_ns - delay_ns_);
        }
        std::vector<Seen> out;
        while (!flying_.empty() && flying_.front().due_ns <= now_ns) {
            out.push_back(flying_.front());
            flying_.pop_front();
        }
        return out;
    }

private:
    struct Waiting {
        Seen seen;
        uint32_t left_bytes;
    };

    void serve(uint64_t now_ns) {
        for (; trace_.opportunity_ns(next_) <= now_ns; next_++) {
            for (uint64_t byte = 0; byte < trace_opportunity_bytes && !queue_.empty(); byte++) {
                if (--queue_.front().left_bytes == 0) {
                    Seen seen = queue_.front().seen;
                    seen.left_ns = trace_.opportunity_ns(next_);
                    seen.due_ns = seen.left_ns + delay_ns_;
                    flying_.push_back(seen);
                    queue_.pop_front();
                }
            }
        }
    }

    const Trace& trace_;
    uint64_t delay_ns_;
    uint64_t queue_bytes_;
    uint64_t next_ = 0;
    std::deque<Waiting> queue_;
    std::deque<Seen> flying_;
};

// Bursts, pauses, all sizes, small and large queues, so that the ring wraps, fills, empties and grows.
TEST(link, agrees_with_a_slow_model_of_the_same_rules) {
    for (uint32_t seed = 1; seed <= 12; seed++) {
        std::mt19937 random(seed);
        const auto pick = [&](uint64_t low, uint64_t high) {
            return std::uniform_int_distribution<uint64_t>(low, high)(random);
        };
        const auto trace = Trace::generate(
            {.seed = seed, .mean_mbit = static_cast<double>(pick(1, 60)), .duration_ms = 2'000, .outage_every_s = 1});
        ASSERT_TRUE(trace);
        const uint64_t delay_ns = pick(0, 300) * ms;
        const uint64_t queue_bytes = pick(3'000, 1'500'000);
        Link link(*trace, {.delay_ns = delay_ns, .queue_bytes = queue_bytes});
        SlowLink slow(*trace, delay_ns, queue_bytes);
        uint64_t now_ns = 0;
        uint64_t poll_ns = 0;
        uint64_t pushed = 0;
        uint64_t taken = 0;
        uint64_t came = 0;
        for (uint32_t tag = 0; tag < 6'000; tag++) {
            now_ns += pick(0, 9) == 0 ? pick(0, 20 * ms) : pick(0, ms / 2);
            const auto size = static_cast<uint32_t>(pick(0, 2) == 0 ? pick(4, 100) : pick(4, 1500));
            const bool fast_took = push(link, tag, size, now_ns);
            ASSERT_EQ(fast_took, slow.push(tag, size, now_ns)) << "seed " << seed << " tag " << tag;
            pushed++;
            taken += fast_took ? 1 : 0;
            if (pick(0, 3) == 0) {
                const uint64_t deadline_ns = link.next_deadline_ns();
                // Later pushes may lie before this poll, by up to the delay.
                poll_ns = std::max(poll_ns, now_ns + pick(0, delay_ns));
                const auto out = poll(link, poll_ns);
                ASSERT_EQ(out, slow.poll(poll_ns)) << "seed " << seed << " tag " << tag;
                if (!out.empty()) {
                    ASSERT_LE(deadline_ns, out[0].due_ns) << "a caller that waits for the deadline would be late";
                }
                came += out.size();
            }
        }
        now_ns += 100'000 * ms;
        const auto rest = poll(link, now_ns);
        ASSERT_EQ(rest, slow.poll(now_ns));
        EXPECT_EQ(came + rest.size(), taken);
        EXPECT_EQ(link.counters().arrived_packets, pushed);
        EXPECT_EQ(link.counters().delivered_packets, taken);
        EXPECT_EQ(link.counters().dropped_packets, pushed - taken);
        EXPECT_EQ(link.queue_bytes(), 0U);
        EXPECT_EQ(link.next_deadline_ns(), Link::never);
    }
}

// A caller that only ever wakes at the deadlines gets every packet at its due time.
TEST(link, waking_at_the_deadlines_is_enough) {
    const auto trace = Trace::generate({.seed = 4, .duration_ms = 2'000});
    ASSERT_TRUE(trace);
    Link link(*trace, {.delay_ns = 7 * ms, .queue_bytes = 10'000'000});
    for (uint32_t i = 0; i < 1'000; i++) {
        push(link, i, 40 + i, 0);
    }
    size_t count = 0;
    size_t wakes = 0;
    while (link.next_deadline_ns() != Link::never) {
        const uint64_t now_ns = link.next_deadline_ns();
        for (const Seen& seen : poll(link, now_ns)) {
            EXPECT_EQ(seen.due_ns, now_ns);
            count++;
        }
        ASSERT_LT(++wakes, 100'000U) << "deadlines that bring nothing for ever";
    }
    EXPECT_EQ(count, 1'000U);
}

}  // namespace
}  // namespace adapath
