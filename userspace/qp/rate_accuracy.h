// Rate against accuracy: what two ways of encoding cost at equal F1, and whether region quality pays for a camera.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "codegen/result.h"
#include "models/detector/accuracy.h"

namespace adapath {

// F1 over several pictures, see models/detector/accuracy.h.
enum class F1Kind {
    pooled,  // of their counts added up: a picture with many objects weighs more
    mean,    // of each one's own, as AccMPEG's code measures it
};

// What one setting (a quantiser, or a pair of them) made of some pictures.
struct RatePoint {
    double bytes = 0;
    // Of the same pictures: add_picture() keeps both.
    Matches matches;
    MeanF1 mean;

    void add_picture(const Matches& picture);
    RatePoint& operator+=(const RatePoint& other);
    [[nodiscard]] double f1(F1Kind kind) const { return kind == F1Kind::pooled ? matches.f1() : mean.f1(); }
};

// F1 over bytes through the points of one way of encoding. More bytes should find more; where measured points say
// otherwise, neighbours are pooled to one point, the means of their F1 and of their log(bytes) (isotonic regression),
// so that one lucky point does not make the curve. (The mean of the bytes, not the cheapest of them: that would favour
// whichever curve has more points.)
class RateCurve {
public:
    // At least two points with bytes.
    static Result<RateCurve> fit(std::span<const RatePoint> points, F1Kind kind = F1Kind::pooled);

    // The bytes at which the curve first reaches that F1, by linear interpolation of log(bytes); none where it does not
    // begin as low or end as high.
    [[nodiscard]] std::optional<double> bytes_at(double f1) const;
    [[nodiscard]] double least_f1() const { return knots_.front().f1; }
    [[nodiscard]] double most_f1() const { return knots_.back().f1; }

private:
    struct Knot {
        double log_bytes;
        double f1;
    };
    std::vector<Knot> knots_;
};

struct Saving {
    struct Level {
        double f1;
        double saving;  // 1 - bytes of the second way / bytes of the first
    };
    std::vector<Level> levels;
    double median = 0;
    double worst = 0;  // mean of that third of the levels that saves least
};

// At that many F1 levels, evenly over what both curves reach. An error where they have no F1 in common.
Result<Saving> saving(const RateCurve& uniform, const RateCurve& region, int levels = 11);

// A trial: the same chunks encoded in both ways, at several settings each.
struct TrialChunk {
    std::vector<RatePoint> uniform;  // by setting; the same settings in every chunk
    std::vector<RatePoint> region;
};

// Sums of the chunks, setting by setting, and what the second way saves.
Result<Saving> saving(std::span<const TrialChunk> chunks, F1Kind kind = F1Kind::pooled);

struct TrialOptions {
    double margin = 0.02;      // region quality has to save at least that
    double cost = 0.02;        // and at the worst third of the levels, costs at most that
    double confidence = 0.9;   // in at least that share of the resampled trials
    size_t least_chunks = 6;   // fewer are too much alike to be resampled
    uint32_t resamples = 200;  // trials of as many chunks, drawn from these with replacement
    uint64_t seed = 1;
};

// The fallback: does region quality pay for this camera? A few chunks tell little, and one or two of them can turn the
// figure; so not the saving decides but how surely it is over the margin. A median alone may hide that it costs at some
// levels, which are the ones that another part of the day, or another bit budget, asks for. All by F1Kind::pooled.
struct Verdict {
    bool pays = false;
    double saving = 0;     // of all chunks: the median over the levels
    double worst = 0;      // and that of the worst third
    double certainty = 0;  // share of resampled trials in which both are good enough
};
// A trial that cannot be judged (curves without a common F1) does not pay.
[[nodiscard]] Verdict judge_trial(std::span<const TrialChunk> chunks, const TrialOptions& options = {});

}  // namespace adapath
