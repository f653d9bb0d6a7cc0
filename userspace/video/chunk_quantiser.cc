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
// Of a block that stands still, against one that moves: it costs bytes in the IDR picture only, and there is less in
// it. From the clip of pedestrians (the IDR picture is 57 % of a group's bytes, of it half is background).
constexpr double still = 0.1;
// So a picture whose blocks mostly stand still costs so much less than one of shown blocks: until the first chunk.
constexpr double shown_over_mixed = 8;

void move(double& cost, double seen) { cost = cost == 0 ? seen : cost * std::pow(seen / cost, trust); }

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
    // units() of a pair is units() of the pair at 0 and its gap, times what the low quantiser takes away.
    const double low =
        halving * std::log2(units({-gap, 0}, regions ? share : 0) / wanted(budget_bytes, pictures, cost));
    const int least = std::min(options_.best + gap, options_.worst);
    const int chosen = static_cast<int>(std::lround(std::clamp<double>(low, least, options_.worst)));
    return {chosen - gap, chosen};
}

double ChunkQuantiser::units(const BackgroundQuality& quality, const BackgroundShares& shares) const {
    const auto at = [](int qp) { return std::exp2(-qp / halving); };
    const double recalled = std::max(0.0, 1 - shares.shown - shares.high - shares.high_still - shares.remembered);
    return shares.shown * at(quality.shown) +
           (shares.high + still * shares.high_still) * at(quality.shown - options_.gap) +
           still * (shares.remembered * at(quality.remembered) + recalled * at(quality.recalled));
}

// What is to be left of the cost at quantiser 0, after what is owed.
double ChunkQuantiser::wanted(double budget_bytes, unsigned pictures, double cost) const {
    const double corrected =
        budget_bytes - std::clamp(owed_ * pay_back, -pay_back_most * budget_bytes, pay_back_most * budget_bytes);
    return std::max(corrected, 1.0) / (std::max(cost, 1e-9) * std::max(pictures, 1U));
}

BackgroundQuality ChunkQuantiser::choose(double budget_bytes, unsigned pictures, const BackgroundShares& shares) const {
    double cost = background_cost_;
    // What chunks cost that recall most of their blocks says little of one that sends them all, and too little would be
    // many budgets.
    if (cost == 0 || shares.remembered > 0.5) {
        const double uniform = cost_[0] != 0 ? cost_[0] : cost_[1] != 0 ? cost_[1] : options_.pixels * first_cost;
        cost = std::max(cost, shown_over_mixed * uniform);
    }
    const double wanted_units = wanted(budget_bytes, pictures, cost);
    BackgroundQuality best = background_quality(options_.worst);
    double least = std::abs(std::log(units(best, shares) / wanted_units));
    for (int shown = options_.worst - 1;
         shown >= std::min(options_.best + (shares.high + shares.high_still > 0 ? options_.gap : 0), options_.worst);
         shown--) {
        const BackgroundQuality quality = background_quality(shown);
        const double off = std::abs(std::log(units(quality, shares) / wanted_units));
        if (off < least) {
            least = off;
            best = quality;
        }
    }
    return best;
}

void ChunkQuantiser::observe(const QualityPair& quality, double share, unsigned pictures, double bytes) {
    if (pictures != 0 && bytes > 0) {
        move(cost_[quality.high != quality.low ? 1 : 0], bytes / (pictures * units(quality, share)));
    }
}

void ChunkQuantiser::observe(const BackgroundQuality& quality, const BackgroundShares& shares, unsigned pictures,
                             double bytes) {
    if (pictures != 0 && bytes > 0) {
        move(background_cost_, bytes / (pictures * units(quality, shares)));
    }
}

void ChunkQuantiser::learn(const QualityPair& quality, double share, unsigned pictures, double bytes,
                           double budget_bytes) {
    if (pictures != 0 && bytes > 0) {
        observe(quality, share, pictures, bytes);
        owe(bytes, budget_bytes);
    }
}

void ChunkQuantiser::learn(const BackgroundQuality& quality, const BackgroundShares& shares, unsigned pictures,
                           double bytes, double budget_bytes) {
    if (pictures != 0 && bytes > 0) {
        observe(quality, shares, pictures, bytes);
        owe(bytes, budget_bytes);
    }
}

// A link that carried nothing for long is not made up for: one budget is the most that anything is owed.
void ChunkQuantiser::owe(double bytes, double budget_bytes) {
    owed_ = std::clamp(owed_ + bytes - budget_bytes, -budget_bytes, budget_bytes);
}

}  // namespace adapath::video
