// Accuracy: how much of what the server's vision network finds at the highest quality it still finds in what arrived.
//
// As AccMPEG (MLSys 2022, section 2) measures it: the detector's own output on the highest quality is the truth, and
// accuracy is the F1 score of its output on the other quality, boxes matching at an intersection over union of 0.5.
// Over many pictures that is the mean of each one's F1 in AccMPEG's code (MeanF1); Matches adds up the counts instead.
#pragma once

#include <cstdint>
#include <span>

#include "models/detector/box.h"

namespace adapath {

struct AccuracyOptions {
    double iou = 0.5;    // two boxes of a class match from this intersection over union on
    double score = 0.3;  // boxes below this score do not count, on either side

    // Above `score`: boxes of the reference below this score are doubtful. Not to find them is not missing them, and to
    // find them is not wrong. An object whose score is at the limit is there in one quality and gone in the next by
    // chance, and a single parked car that is can outweigh all else a fixed camera sees. 0: none is doubtful.
    double sure = 0;
    // Boxes of the output count from here on, where some are doubtful: between `score` and `sure`, so that one of the
    // reference that is just sure need not be so in the output. 0: `score`.
    double found = 0;
};

// Counts add up over pictures: F1 of a chunk is that of the sums, so that a picture with one object does not weigh as
// much as one with twenty. That is steady over a chunk's few pictures. It makes light of pictures that are not there at
// all, though: with half of them missing and the others perfect it is 2/3, since nothing is wrong in them.
struct Matches {
    uint64_t found = 0;   // true positives
    uint64_t missed = 0;  // in the reference only: false negatives
    uint64_t wrong = 0;   // in the output only: false positives

    Matches& operator+=(const Matches& other);
    // 0 to 1. Nothing there and nothing found is 1.
    [[nodiscard]] double f1() const;

    bool operator==(const Matches&) const = default;
};

// The mean of F1 over pictures.
struct MeanF1 {
    double sum = 0;
    uint64_t pictures = 0;

    MeanF1& operator+=(const Matches& picture);
    MeanF1& operator+=(const MeanF1& other);
    [[nodiscard]] double f1() const { return pictures > 0 ? sum / static_cast<double>(pictures) : 0; }
};

// 0 to 1; boxes without area, or with numbers that are none, overlap with nothing.
[[nodiscard]] double intersection_over_union(const Box& a, const Box& b);

// As many pairs as can be made of boxes of the same class with enough overlap, each box in one pair at most. The
// greatest number, not the one that a greedy choice by score comes to: so the order of the boxes does not count, and
// reference and output may change places.
[[nodiscard]] Matches match(std::span<const Box> reference, std::span<const Box> output,
                            const AccuracyOptions& options = {});

}  // namespace adapath
