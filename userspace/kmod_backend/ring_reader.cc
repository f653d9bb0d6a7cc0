// See ring_reader.h.
#include "userspace/kmod_backend/ring_reader.h"

#include <adapath/abi.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace adapath::kmod {

Result<RingReader> RingReader::create(const adp_ring_info* info, size_t mapped_bytes, adp_ring_tails* tails) {
    const adp_ring_info& i = *info;
    if (i.version != ADP_ABI_VERSION) {
        return Error{fmt::format(
            "the sample ring has ABI version {}, this adapathd {}: install module and daemon of one version", i.version,
            ADP_ABI_VERSION)};
    }
    const bool sound =
        i.cpus >= 1 && i.cpus <= ADP_RING_MAX_CPUS && i.record_bytes >= 1 &&
        i.stride >= uint64_t{i.record_bytes} + ADP_RING_HEADER_BYTES && i.stride % 8 == 0 && i.records >= 1 &&
        (i.records & (i.records - 1)) == 0 && uint64_t{i.records} * i.stride <= i.cpu_bytes &&
        i.map_bytes == ADP_RING_INFO_BYTES + uint64_t{i.cpus} * i.cpu_bytes && i.map_bytes <= mapped_bytes;
    if (!sound) {
        return Error{fmt::format(
            "the sample ring's geometry makes no sense ({} CPUs of {} bytes, {} records of {} bytes every {}, "
            "{} in all): install module and daemon of one version",
            i.cpus, i.cpu_bytes, i.records, i.record_bytes, i.stride, i.map_bytes)};
    }
    return RingReader(info, tails);
}

const std::byte* RingReader::record(uint32_t cpu, uint64_t index) const {
    return reinterpret_cast<const std::byte*>(info_) + ADP_RING_INFO_BYTES + size_t{cpu} * info_->cpu_bytes +
           (index & (info_->records - 1)) * info_->stride;
}

uint64_t RingReader::number_of(uint32_t cpu, uint64_t index) const {
    uint64_t number = 0;
    std::memcpy(&number, record(cpu, index), sizeof(number));
    return number;
}

size_t RingReader::read(const Sink& sink) {
    const uint64_t newest = __atomic_load_n(&info_->last, __ATOMIC_ACQUIRE);
    const auto later = [](const Cursor& a, const Cursor& b) { return a.number > b.number; };
    heap_.clear();
    for (uint32_t cpu = 0; cpu < info_->cpus; ++cpu) {
        const uint64_t head = __atomic_load_n(&info_->heads[cpu].head, __ATOMIC_ACQUIRE);
        uint64_t tail = tails_->tail[cpu];
        if (head - tail > info_->records) {
            // Not ours: whoever else wrote there has cost these samples, which show as gaps in their flows' numbers.
            tail = head;
            __atomic_store_n(&tails_->tail[cpu], tail, __ATOMIC_RELEASE);
        }
        if (tail != head) {
            heap_.push_back({number_of(cpu, tail), tail, head, cpu});
        }
    }
    std::make_heap(heap_.begin(), heap_.end(), later);
    size_t records = 0;
    // Where each CPU's reading ended is stored at the end: until then nothing that was handed over may be written over.
    std::vector<std::pair<uint32_t, uint64_t>> ends;
    while (!heap_.empty()) {
        std::pop_heap(heap_.begin(), heap_.end(), later);
        Cursor& cursor = heap_.back();
        if (cursor.number > newest) {
            break;
        }
        sink({record(cursor.cpu, cursor.next) + ADP_RING_HEADER_BYTES, info_->record_bytes});
        ++records;
        ++cursor.next;
        if (cursor.next != cursor.head) {
            cursor.number = number_of(cursor.cpu, cursor.next);
            std::push_heap(heap_.begin(), heap_.end(), later);
        } else {
            ends.emplace_back(cursor.cpu, cursor.next);
            heap_.pop_back();
        }
    }
    for (const Cursor& cursor : heap_) {
        ends.emplace_back(cursor.cpu, cursor.next);
    }
    for (const auto& [cpu, tail] : ends) {
        // Pairs with the writer's load of the tail: our reads of the record come before it is written over.
        __atomic_store_n(&tails_->tail[cpu], tail, __ATOMIC_RELEASE);
    }
    return records;
}

uint64_t RingReader::lost() const {
    uint64_t sum = 0;
    for (uint32_t cpu = 0; cpu < info_->cpus; ++cpu) {
        sum += __atomic_load_n(&info_->heads[cpu].lost, __ATOMIC_RELAXED);
    }
    return sum;
}

}  // namespace adapath::kmod
