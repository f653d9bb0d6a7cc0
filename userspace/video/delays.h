// Percentiles of delays in bounded memory: a camera may run for months. Buckets are 1/64 of an octave wide, so a
// percentile is at most 1.6 % above the exact one and never below it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace adapath::video {

class Delays {
public:
    void add(uint64_t us);
    void add_all(const Delays& other);

    [[nodiscard]] uint64_t count() const { return count_; }
    [[nodiscard]] uint64_t max_us() const { return max_us_; }
    [[nodiscard]] double mean_us() const {
        return count_ ? static_cast<double>(sum_us_) / static_cast<double>(count_) : 0;
    }
    // The smallest value that at least `percent` of the delays don't exceed (nearest rank), rounded up to its bucket's
    // end and never above the maximum. 0 without delays.
    [[nodiscard]] uint64_t percentile_us(double percent) const;

private:
    static constexpr int sub_bits = 6;
    static constexpr int octaves = 34;  // up to 2^40 us, twelve days; larger values count as that
    static constexpr size_t buckets = static_cast<size_t>(octaves + 1) << sub_bits;

    static size_t bucket_of(uint64_t us);
    static uint64_t upper_end(size_t bucket);

    std::array<uint64_t, buckets> counts_{};
    uint64_t count_ = 0;
    uint64_t sum_us_ = 0;
    uint64_t max_us_ = 0;
};

}  // namespace adapath::video
