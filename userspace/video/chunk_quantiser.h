// The quantisers of a chunk whose bytes are to keep to a budget: chosen before its first picture, from what past chunks
// cost. Pure: no encoder, no clock.
//
// Bytes are taken to halve with every 6 quantisers (x264 at these rates: 5 to 7). What a chunk of a camera costs at one
// quantiser moves slowly, so the chunks before say what the next will cost; what they took too much is taken back over
// the next.
#pragma once

#include <cstdint>

#include "userspace/video/background.h"
#include "userspace/video/region_encoder.h"

namespace adapath::video {

struct ChunkQuantiserOptions {
    int gap = 8;        // quantisers between the high and the low quality
    int best = 10;      // the high quality is never better: what nobody would see the difference to
    int worst = 51;     // H.264's
    double pixels = 0;  // of a picture: for the first chunk, of which nothing is known
};

// What the first picture of a chunk with the remembered background is made of, shares of its blocks; the rest is
// recalled.
struct BackgroundShares {
    double shown = 0;
    // In the high quality, because the server asked for it; not in `shown`.
    double high = 0;        // of what would be shown
    double high_still = 0;  // of what would be recalled
    double remembered = 0;
};

class ChunkQuantiser {
public:
    explicit ChunkQuantiser(const ChunkQuantiserOptions& options);

    // `share` of the blocks will be high; without regions both qualities are the same.
    [[nodiscard]] QualityPair choose(double budget_bytes, unsigned pictures, bool regions, double share) const;
    // With the remembered background: the gap is that of the blocks in high quality to those that are shown.
    [[nodiscard]] BackgroundQuality choose(double budget_bytes, unsigned pictures,
                                           const BackgroundShares& shares) const;
    // What the chunk came to that was encoded so, and what it was to come to.
    void learn(const QualityPair& quality, double share, unsigned pictures, double bytes, double budget_bytes);
    void learn(const BackgroundQuality& quality, const BackgroundShares& shares, unsigned pictures, double bytes,
               double budget_bytes);
    // The same of a chunk that was not sent: nothing is owed for it.
    void observe(const QualityPair& quality, double share, unsigned pictures, double bytes);
    void observe(const BackgroundQuality& quality, const BackgroundShares& shares, unsigned pictures, double bytes);

private:
    // A picture's bytes at these qualities, where one at quantiser 0 takes 1.
    [[nodiscard]] static double units(const QualityPair& quality, double share);
    [[nodiscard]] double units(const BackgroundQuality& quality, const BackgroundShares& shares) const;
    [[nodiscard]] double wanted(double budget_bytes, unsigned pictures, double cost) const;
    void owe(double bytes, double budget_bytes);

    ChunkQuantiserOptions options_;
    double cost_[2] = {0, 0};  // a picture's bytes by the above, without regions and with; 0: not known
    double background_cost_ = 0;
    double owed_ = 0;  // bytes beyond the budgets, to be taken back
};

}  // namespace adapath::video
