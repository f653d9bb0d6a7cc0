// Reads the samples of adapath.ko's per-CPU rings in the order that they were made (include/adapath/ring.h). Works on
// memory alone, so that it can be tested without a kernel; ring_device.h maps the real thing.
#pragma once

#include <adapath/ring.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "codegen/result.h"

namespace adapath::kmod {

class RingReader {
public:
    using Sink = std::function<void(std::span<const std::byte> record)>;

    // `info` begins the read-only mapping of `mapped_bytes`; both mappings outlive the reader. The geometry is checked
    // against the mapping, so that reading can't leave it.
    static Result<RingReader> create(const adp_ring_info* info, size_t mapped_bytes, adp_ring_tails* tails);

    // Hands over all that was complete at the call, oldest first; frees it once all of it was handed over, so that a
    // reader that dies in between leaves it to the next. Returns how many.
    size_t read(const Sink& sink);
    // Lost for want of room, over all CPUs.
    [[nodiscard]] uint64_t lost() const;

private:
    struct Cursor {
        uint64_t number;  // of the record at `next`
        uint64_t next;
        uint64_t head;
        uint32_t cpu;
    };
    RingReader(const adp_ring_info* info, adp_ring_tails* tails) : info_(info), tails_(tails) {}
    [[nodiscard]] const std::byte* record(uint32_t cpu, uint64_t index) const;
    [[nodiscard]] uint64_t number_of(uint32_t cpu, uint64_t index) const;

    const adp_ring_info* info_;
    adp_ring_tails* tails_;
    std::vector<Cursor> heap_;
};

}  // namespace adapath::kmod
