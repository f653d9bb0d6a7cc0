// Percentiles of delays in bounded memory: a histogram whose buckets double in width every 64.
#include "userspace/video/delays.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace adapath::video {

// Values below 64 have a bucket each; above, the first 6 bits after the leading one choose the bucket within the
// octave.
size_t Delays::bucket_of(uint64_t us) {
    us = std::min<uint64_t>(us, (1ULL << (sub_bits + octaves)) - 1);
    if (us < (1U << sub_bits)) {
        return us;
    }
    int octave = std::bit_width(us) - 1 - sub_bits;  // 0 for 64..127
    return (static_cast<size_t>(octave + 1) << sub_bits) + ((us >> octave) - (1U << sub_bits));
}

uint64_t Delays::upper_end(size_t bucket) {
    if (bucket < (1U << sub_bits)) {
        return bucket;
    }
    size_t octave = (bucket >> sub_bits) - 1;
    uint64_t lead = (bucket & ((1U << sub_bits) - 1)) + (1U << sub_bits);
    return ((lead + 1) << octave) - 1;
}

void Delays::add(uint64_t us) {
    counts_[bucket_of(us)]++;
    count_++;
    sum_us_ += us;
    max_us_ = std::max(max_us_, us);
}

void Delays::add_all(const Delays& other) {
    for (size_t bucket = 0; bucket < buckets; bucket++) {
        counts_[bucket] += other.counts_[bucket];
    }
    count_ += other.count_;
    sum_us_ += other.sum_us_;
    max_us_ = std::max(max_us_, other.max_us_);
}

uint64_t Delays::percentile_us(double percent) const {
    if (count_ == 0) {
        return 0;
    }
    auto rank = static_cast<uint64_t>(std::ceil(percent / 100.0 * static_cast<double>(count_)));
    rank = std::clamp<uint64_t>(rank, 1, count_);
    uint64_t seen = 0;
    for (size_t bucket = 0; bucket < buckets; bucket++) {
        seen += counts_[bucket];
        if (seen >= rank) {
            return std::min(upper_end(bucket), max_us_);
        }
    }
    return max_us_;
}

}  // namespace adapath::video
