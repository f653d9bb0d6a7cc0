// Gathers what an emulated link says of itself, second by second, and what its flows received meanwhile.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <mutex>
#include <vector>

#include "userspace/arena/cell.h"
#include "userspace/linkem/emulator.h"

namespace adapath::arena {

class LinkRecorder {
public:
    // Seconds after that many are left out. Those in which the daemons stand still are told apart as well.
    explicit LinkRecorder(size_t seconds, Standstill apart = {}) : wanted_(seconds), apart_(apart) {}

    // Called by the link's thread.
    void add(const EmulatorStats& stats);
    // Says what a flow's (or a crowd's) receiver has got so far; called by the link's thread until forget().
    void watch(std::function<uint64_t()> received);
    void forget();
    [[nodiscard]] bool complete() const { return complete_.load(std::memory_order_acquire); }

    // After the link's end, or once complete.
    [[nodiscard]] Json figures();
    [[nodiscard]] Json series();
    [[nodiscard]] std::vector<uint64_t> received();  // by flow

private:
    const size_t wanted_;
    const Standstill apart_;
    std::atomic<bool> complete_{false};
    std::mutex mutex_;
    std::vector<std::function<uint64_t()>> flows_;
    std::vector<uint64_t> received_before_;
    std::vector<Second> seconds_;
    DelayHistogram delay_;
    DelayHistogram apart_delay_;
    uint64_t apart_capacity_bytes_ = 0;
    uint64_t apart_delivered_bytes_ = 0;
    Histogram late_;
    LinkCounters counters_;
    uint64_t capacity_bytes_ = 0;
    uint64_t write_errors_ = 0;
};

}  // namespace adapath::arena
