// Counts of times in microseconds in logarithmic buckets: bounded memory whatever is counted, a known largest error of
// every percentile.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace adapath {

// 2^sub_bits buckets an octave, so a percentile is at most 1 / 2^sub_bits too high. Values of 2^(octaves + sub_bits)
// and above count as that.
template <unsigned sub_bits, unsigned octaves>
class BasicHistogram {
public:
    void add(uint64_t us) {
        counts_[bucket_of(us)]++;
        total_++;
        sum_ += us;
        max_ = std::max(max_, us);
    }
    void clear() { *this = BasicHistogram(); }
    [[nodiscard]] uint64_t total() const { return total_; }
    [[nodiscard]] uint64_t max() const { return max_; }
    // Exact; 0 when empty.
    [[nodiscard]] double mean() const {
        return total_ == 0 ? 0 : static_cast<double>(sum_) / static_cast<double>(total_);
    }
    // The upper end of the bucket that the fraction (0 to 1) of all values does not exceed; 0 when empty.
    [[nodiscard]] uint64_t quantile(double fraction) const {
        const double wanted = fraction * static_cast<double>(total_);
        uint64_t seen = 0;
        for (size_t bucket = 0; bucket < counts_.size(); bucket++) {
            seen += counts_[bucket];
            if (seen > 0 && static_cast<double>(seen) >= wanted) {
                return std::min(upper_end(bucket), max_);
            }
        }
        return max_;
    }
    // visit(upper end, count) of each bucket that holds anything.
    template <typename Visit>
    void for_each(Visit&& visit) const {
        for (size_t bucket = 0; bucket < counts_.size(); bucket++) {
            if (counts_[bucket] != 0) {
                visit(upper_end(bucket), counts_[bucket]);
            }
        }
    }
    BasicHistogram& operator+=(const BasicHistogram& other) {
        for (size_t bucket = 0; bucket < counts_.size(); bucket++) {
            counts_[bucket] += other.counts_[bucket];
        }
        total_ += other.total_;
        sum_ += other.sum_;
        max_ = std::max(max_, other.max_);
        return *this;
    }

private:
    static size_t bucket_of(uint64_t us) {
        us = std::min(us, (uint64_t{1} << (octaves + sub_bits)) - 1);
        if (us < (1U << sub_bits)) {
            return us;
        }
        const unsigned shift = static_cast<unsigned>(std::bit_width(us)) - sub_bits - 1;
        return ((shift + 1) << sub_bits) + ((us >> shift) & ((1U << sub_bits) - 1));
    }
    static uint64_t upper_end(size_t bucket) {
        if (bucket < (1U << sub_bits)) {
            return bucket;
        }
        const unsigned shift = static_cast<unsigned>(bucket >> sub_bits) - 1;
        const uint64_t sub = bucket & ((1U << sub_bits) - 1);
        return (((1U << sub_bits) + sub + 1) << shift) - 1;
    }

    std::array<uint64_t, (octaves + 1) << sub_bits> counts_{};
    uint64_t total_ = 0;
    uint64_t sum_ = 0;
    uint64_t max_ = 0;
};

// The emulator's own lateness: 6 % are enough, and it is copied with every report. Up to about 70 minutes.
using Histogram = BasicHistogram<4, 28>;
// Delays that policies are judged by: at most 0.8 % too high, up to about 134 s, 22 KB.
using DelayHistogram = BasicHistogram<7, 20>;

}  // namespace adapath
