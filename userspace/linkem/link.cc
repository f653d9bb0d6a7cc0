// See link.h.
#include "userspace/linkem/link.h"

#include <algorithm>

namespace adapath {

namespace {

constexpr size_t ring_start_bytes = 256 * 1024;

}  // namespace

Link::Link(Trace trace, const LinkOptions& options)
    : trace_(std::move(trace)),
      options_(options),
      loss_threshold_(static_cast<uint64_t>(std::clamp(options.loss, 0.0, 1.0) * 0x1p53)),
      random_state_(options.seed),
      ring_(new uint8_t[ring_start_bytes]),
      capacity_(ring_start_bytes) {}

bool Link::push(std::span<const uint8_t> packet, uint64_t now_ns) {
    const auto size = static_cast<uint32_t>(packet.size());
    std::memcpy(reserve(size), packet.data(), size);
    return commit(size, now_ns);
}

uint8_t* Link::reserve(uint32_t size) {
    const size_t need = record_bytes(size);
    for (;;) {
        const size_t used = flying_ + waiting_ > 0 ? tail_ - head_ : 0;
        const size_t rest = capacity_ - (tail_ & (capacity_ - 1));
        // A record never wraps: it goes to the ring's start if it does not fit before the end.
        const size_t skip = need > rest ? rest : 0;
        if (used + skip + need > capacity_) {
            grow(need);
            continue;
        }
        if (skip > 0) {
            if (rest >= sizeof(Record)) {
                raw_at(tail_)->size = filler;
            }
            tail_ += skip;
        }
        return reinterpret_cast<uint8_t*>(raw_at(tail_) + 1);
    }
}

bool Link::commit(uint32_t size, uint64_t now_ns) {
    serve(now_ns);
    counters_.arrived_packets++;
    counters_.arrived_bytes += size;
    if (queue_bytes_ + size > options_.queue_bytes) {
        counters_.dropped_packets++;
        counters_.dropped_bytes += size;
        return false;
    }
    Record* record = raw_at(tail_);
    record->arrived_ns = now_ns;
    record->left_ns = 0;
    record->size = size;
    record->lost = false;
    if (waiting_ == 0) {
        waiting_at_ = tail_;
        // Opportunities that passed while nobody waited are lost; one that was used (a push may lie before it) stays
        // used.
        next_opportunity_ = std::max(next_opportunity_, trace_.count_until(now_ns));
        served_bytes_ = 0;
    }
    if (flying_ + waiting_ == 0) {
        head_ = tail_;
    }
    tail_ += record_bytes(size);
    waiting_++;
    queue_bytes_ += size;
    return true;
}

void Link::serve(uint64_t now_ns) {
    while (waiting_ > 0) {
        const uint64_t opportunity_ns = trace_.opportunity_ns(next_opportunity_);
        if (opportunity_ns > now_ns) {
            return;
        }
        next_opportunity_++;
        uint32_t left_bytes = trace_opportunity_bytes;
        while (left_bytes > 0 && waiting_ > 0) {
            Record* record = record_at(waiting_at_);
            const uint32_t part = std::min(left_bytes, record->size - served_bytes_);
            left_bytes -= part;
            served_bytes_ += part;
            if (served_bytes_ < record->size) {
                break;
            }
            record->left_ns = opportunity_ns;
            record->lost = draw_loss();
            queue_bytes_ -= record->size;
            served_bytes_ = 0;
            waiting_at_ = after(waiting_at_);
            waiting_--;
            flying_++;
        }
    }
}

uint64_t Link::next_deadline_ns() const {
    if (flying_ > 0) {
        return record_at(head_)->left_ns + options_.delay_ns;
    }
    // The first waiting packet may need more than one opportunity; then this wakes its caller early, never late.
    return waiting_ > 0 ? trace_.opportunity_ns(next_opportunity_) + options_.delay_ns : never;
}

void Link::grow(size_t need) {
    size_t capacity = capacity_ * 2;
    const size_t used = flying_ + waiting_ > 0 ? tail_ - head_ : 0;
    while (capacity < used + need) {
        capacity *= 2;
    }
    std::unique_ptr<uint8_t[]> ring(new uint8_t[capacity]);
    uint64_t to = 0;
    uint64_t from = head_;
    uint64_t waiting_at = 0;
    for (size_t i = 0; i < flying_ + waiting_; i++) {
        from = skip_filler(from);
        const size_t bytes = record_bytes(raw_at(from)->size);
        if (i == flying_) {
            waiting_at = to;
        }
        std::memcpy(ring.get() + to, raw_at(from), bytes);
        from += bytes;
        to += bytes;
    }
    ring_ = std::move(ring);
    capacity_ = capacity;
    head_ = 0;
    waiting_at_ = waiting_at;
    tail_ = to;
}

bool Link::draw_loss() {
    if (loss_threshold_ == 0) {
        return false;
    }
    // SplitMix64: one seed, one series of losses, on every machine.
    random_state_ += 0x9e3779b97f4a7c15U;
    uint64_t z = random_state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
    return ((z ^ (z >> 31)) >> 11) < loss_threshold_;
}

}  // namespace adapath
