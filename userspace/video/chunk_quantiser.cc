// See chunk_quantiser.h.
#include "userspace/video/chunk_quantiser.h"

#include <algorithm>
#include <cmath>

namespace adapath::video {

namespace {

constexpr double halving = 6;
// Of the first chunk: bytes a pixel at quantiser 0, from a camera clip of pedestrians in groups of ten pictures.
constexpr double first_cost = 1.5;
// Of what was learned from the chunk before, in the logarithm: a single odd chunk moves the next by half of its
// oddness.
constexpr double trust = 0.5;
// Of what is owed, this much is taken back from one chunk, and never more than this part of its budget.
constexpr double pay_back = 0.5;
constexpr double pay_back_most = 0.5;

}  // namespace

ChunkQuantiser::ChunkQuantiser(const ChunkQuantiserOptions& options) : options_(options) {}

double ChunkQuantiser::units(const QualityPair& quality, double share) {
    return share * std::exp2(-quality.high / halving) + (1 - share) * std::exp2(-quality.low / halving);
}

QualityPair ChunkQuantiser::choose(double budget_bytes, unsigned pictures, bool regions, double share) const {
    // What is known of the one kind of chunk is a guess at the other.
    double cost = cost_[regions ? 1 : 0];
    if (cost == 0) {
        cost = cost_[regions ? 0 : 1] != 0 ? cost_[regions ? 0 : 1] : options_.pixels * first_cost;
    }
    const int gap = regions ? options_.gap : 0;
    const double corrected =
        budget_bytes - std::clamp(owed_ * pay_back, -pay_back_most * budget_bytes, pay_back_most * budget_bytes);
    const double wanted = std::max(corrected, 1.0) / (std::max(cost, 1e-9) * std::max(pictures, 1U));
    // units() of a pair is units() of the pair at 0 and its gap, times what the low quantiser takes away.
    const double low = halving * std::log2(units({-gap, 0}, regions ? share : 0) / wanted);
    const int least = std::min(options_.best + gap, options_.worst);
    const int chosen = static_cast<int>(std::lround(std::clamp<double>(low, least, options_.worst)));
    return {chosen - gap, chosen};
}

void ChunkQuantiser::learn(const QualityPair& quality, double share, unsigned pictures, double bytes,
                           double budget_bytes) {
    if (pictures == 0 || bytes <= 0) {
        return;
    }
    double& cost = cost_[quality.high != quality.low ? 1 : 0];
    const double seen = bytes / (pictures * units(quality, share));
    cost = cost == 0 ? seen : cost * std::pow(seen / cost, trust);
    // A link that carried nothing for long is not made up for: one budget is the most that anything is owed.
    owed_ = std::clamp(owed_ + bytes - budget_bytes, -budget_bytes, budget_bytes);
}

}  // namespace adapath::video
