// The two clocks in use: monotonic (the samples' own) and the wall's (for people).
#pragma once

#include <time.h>

#include <cstdint>

namespace adapath {

inline uint64_t clock_ns(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1000000000ULL + static_cast<uint64_t>(now.tv_nsec);
}

// CLOCK_MONOTONIC, which is what bpf_ktime_get_ns() and the samples' time_us count.
inline uint64_t monotonic_ns() { return clock_ns(CLOCK_MONOTONIC); }
inline uint64_t monotonic_us() { return monotonic_ns() / 1000; }
inline int64_t unix_us() { return static_cast<int64_t>(clock_ns(CLOCK_REALTIME) / 1000); }

}  // namespace adapath
