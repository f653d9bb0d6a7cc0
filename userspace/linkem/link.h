// One direction of an emulated link: a droptail queue in bytes, served by a trace's delivery opportunities, then a
// constant propagation delay. Pure: time is given, never read, and nothing is waited for, so that tests are exact; the
// event loop around it is in emulator.h.
//
// A packet leaves the queue at the opportunity that covers its last byte. An opportunity carries up to 1500 bytes of
// any number of packets and parts of packets; what it can't use is lost, as airtime is. A packet that arrives at the
// very time of an opportunity is too late for it.
//
// Times are nanoseconds since the trace began.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>

#include "codegen/trace/trace.h"

namespace adapath {

struct LinkOptions {
    uint64_t delay_ns = 20'000'000;
    // A packet that would bring the queue above this is dropped. A packet counts until its last byte has left.
    uint64_t queue_bytes = 150'000;
    // Share of packets lost on the air, after the queue: they used up capacity.
    double loss = 0;
    uint64_t seed = 1;
};

// Monotonic. arrived = queued + dropped; delivered + lost + still inside = queued.
struct LinkCounters {
    uint64_t arrived_packets = 0;
    uint64_t arrived_bytes = 0;
    uint64_t dropped_packets = 0;  // the queue was full
    uint64_t dropped_bytes = 0;
    uint64_t lost_packets = 0;  // on the air
    uint64_t lost_bytes = 0;
    uint64_t delivered_packets = 0;
    uint64_t delivered_bytes = 0;
};

// What comes out. `data` is valid only during the call of the sink.
struct LinkPacket {
    const uint8_t* data = nullptr;
    uint32_t size = 0;
    bool lost = false;        // to be counted, not forwarded
    uint64_t arrived_ns = 0;  // at the queue
    uint64_t left_ns = 0;     // the queue: the opportunity's time
    uint64_t due_ns = 0;      // left_ns + delay
};

class Link {
public:
    static constexpr uint64_t never = std::numeric_limits<uint64_t>::max();

    Link(Trace trace, const LinkOptions& options);

    // Puts a packet in. False: dropped, the queue is full. Times must not decrease from push to push (or commit) and
    // from poll to poll; a push may lie before the last poll by up to the delay, since a poll only needs to know what
    // left the queue a delay ago: so a packet that was noticed late does not miss its opportunity.
    bool push(std::span<const uint8_t> packet, uint64_t now_ns);
    // The same without a copy: room for up to `size` bytes, valid until the next call of any other member, ...
    uint8_t* reserve(uint32_t size);
    // ... of which the first `size` (at least 1) are the packet.
    bool commit(uint32_t size, uint64_t now_ns);

    // Hands every packet that is due by now to `sink`, in order. The sink must not put packets into this link. Stops
    // after `limit` packets, so that a caller can read the clock between batches. Returns how many there were.
    template <typename Sink>
    size_t poll(uint64_t now_ns, Sink&& sink, size_t limit = std::numeric_limits<size_t>::max()) {
        if (now_ns >= options_.delay_ns) {
            serve(now_ns - options_.delay_ns);
        }
        size_t count = 0;
        for (; count < limit && flying_ > 0; count++) {
            const Record* record = record_at(head_);
            const uint64_t due_ns = record->left_ns + options_.delay_ns;
            if (due_ns > now_ns) {
                break;
            }
            if (record->lost) {
                counters_.lost_packets++;
                counters_.lost_bytes += record->size;
            } else {
                counters_.delivered_packets++;
                counters_.delivered_bytes += record->size;
            }
            sink(LinkPacket{data_of(record), record->size, record->lost, record->arrived_ns, record->left_ns, due_ns});
            head_ = after(head_);
            flying_--;
        }
        return count;
    }

    // No packet can come out before this time; `never` when the link is empty. Poll then.
    [[nodiscard]] uint64_t next_deadline_ns() const;

    // Lets the trace's opportunities up to now serve the queue. Only a reader of queue_bytes() needs to call it.
    void serve(uint64_t now_ns);
    [[nodiscard]] uint64_t queue_bytes() const { return queue_bytes_; }
    [[nodiscard]] uint64_t queue_packets() const { return waiting_; }
    [[nodiscard]] const LinkCounters& counters() const { return counters_; }
    [[nodiscard]] const Trace& trace() const { return trace_; }
    [[nodiscard]] const LinkOptions& options() const { return options_; }
    // Bytes of memory that packets are kept in.
    [[nodiscard]] size_t memory_bytes() const { return capacity_; }

private:
    // In front of each packet's bytes in the ring.
    struct Record {
        uint64_t arrived_ns;
        uint64_t left_ns;
        uint32_t size;  // `filler`: the rest of the ring up to its end is unused
        bool lost;
    };
    static constexpr uint32_t filler = std::numeric_limits<uint32_t>::max();

    static constexpr size_t record_bytes(uint32_t size) { return sizeof(Record) + ((size_t{size} + 7) & ~size_t{7}); }
    static const uint8_t* data_of(const Record* record) { return reinterpret_cast<const uint8_t*>(record + 1); }
    [[nodiscard]] Record* raw_at(uint64_t position) const {
        return reinterpret_cast<Record*>(ring_.get() + (position & (capacity_ - 1)));
    }
    // Where the record that `position` means really begins: at the ring's start if the rest of the ring is filler. Only
    // for positions of records that exist.
    [[nodiscard]] uint64_t skip_filler(uint64_t position) const {
        const size_t rest = capacity_ - (position & (capacity_ - 1));
        return rest < sizeof(Record) || raw_at(position)->size == filler ? position + rest : position;
    }
    [[nodiscard]] Record* record_at(uint64_t position) const { return raw_at(skip_filler(position)); }
    [[nodiscard]] uint64_t after(uint64_t position) const {
        position = skip_filler(position);
        return position + record_bytes(raw_at(position)->size);
    }
    void grow(size_t need);
    bool draw_loss();

    Trace trace_;
    LinkOptions options_;
    uint64_t loss_threshold_ = 0;  // of 2^53
    uint64_t random_state_ = 0;

    // All packets inside, in order, in one ring: first those in flight (left the queue, not yet due), then those
    // waiting. Positions only grow; the ring's size is a power of two. It doubles when it must, so that a packet costs
    // no allocation.
    std::unique_ptr<uint8_t[]> ring_;
    size_t capacity_ = 0;
    uint64_t head_ = 0;        // first in flight
    uint64_t waiting_at_ = 0;  // first waiting
    uint64_t tail_ = 0;
    size_t flying_ = 0;
    size_t waiting_ = 0;

    uint64_t queue_bytes_ = 0;
    uint64_t next_opportunity_ = 0;  // index; while nobody waits, of the first never used
    uint32_t served_bytes_ = 0;      // of the first waiting packet
    LinkCounters counters_;
};

}  // namespace adapath
