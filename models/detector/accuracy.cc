// See accuracy.h.
#include "models/detector/accuracy.h"

#include <algorithm>
#include <vector>

namespace adapath {

namespace {

// The greatest matching of a bipartite graph: each box on the left in turn takes a partner, which may move its present
// one elsewhere (augmenting paths, breadth first). Detectors give some hundred boxes at most.
class Pairing {
public:
    Pairing(std::vector<std::vector<size_t>> partners, size_t right)
        : partners_(std::move(partners)), taken_by_(right, none) {}

    size_t count() {
        size_t pairs = 0;
        for (size_t left = 0; left < partners_.size(); left++) pairs += place(left) ? 1 : 0;
        return pairs;
    }
    // After count().
    [[nodiscard]] bool has_partner(size_t right) const { return taken_by_[right] != none; }

private:
    static constexpr size_t none = SIZE_MAX;

    bool place(size_t start) {
        std::vector<size_t> reached_from(taken_by_.size(), none);  // the left box that looked at this right one
        std::vector<size_t> queue{start};
        for (size_t next = 0; next < queue.size(); next++) {
            const size_t left = queue[next];
            for (size_t right : partners_[left]) {
                if (reached_from[right] != none) continue;
                reached_from[right] = left;
                if (taken_by_[right] != none) {
                    queue.push_back(taken_by_[right]);
                    continue;
                }
                settle(right, start, reached_from);
                return true;
            }
        }
        return false;
    }

    // Back along the path: each left box moves to the right one it looked at.
    void settle(size_t right, size_t start, const std::vector<size_t>& reached_from) {
        for (;;) {
            const size_t left = reached_from[right];
            const auto had = std::find(taken_by_.begin(), taken_by_.end(), left);
            const size_t before = had == taken_by_.end() ? none : static_cast<size_t>(had - taken_by_.begin());
            taken_by_[right] = left;
            if (left == start) return;
            right = before;
        }
    }

    std::vector<std::vector<size_t>> partners_;
    std::vector<size_t> taken_by_;
};

std::vector<Box> counted(std::span<const Box> boxes, double score) {
    std::vector<Box> kept;
    std::copy_if(boxes.begin(), boxes.end(), std::back_inserter(kept), [&](const Box& b) { return b.score >= score; });
    return kept;
}

// Of each on the left, those on the right that it can make a pair with.
Pairing pairing(std::span<const Box> left, std::span<const Box> right, double iou) {
    std::vector<std::vector<size_t>> partners(left.size());
    for (size_t i = 0; i < left.size(); i++)
        for (size_t j = 0; j < right.size(); j++)
            if (left[i].class_id == right[j].class_id &&
                intersection_over_union(left[i], right[j]) >= std::max(iou, 1e-9))
                partners[i].push_back(j);
    return {std::move(partners), right.size()};
}

}  // namespace

Matches& Matches::operator+=(const Matches& other) {
    found += other.found;
    missed += other.missed;
    wrong += other.wrong;
    return *this;
}

MeanF1& MeanF1::operator+=(const Matches& picture) {
    sum += picture.f1();
    pictures++;
    return *this;
}

MeanF1& MeanF1::operator+=(const MeanF1& other) {
    sum += other.sum;
    pictures += other.pictures;
    return *this;
}

double Matches::f1() const {
    const uint64_t all = 2 * found + missed + wrong;
    return all == 0 ? 1 : 2 * static_cast<double>(found) / static_cast<double>(all);
}

double intersection_over_union(const Box& a, const Box& b) {
    auto area = [](const Box& box) {
        return static_cast<double>(box.x1 - box.x0) * static_cast<double>(box.y1 - box.y0);
    };
    const double width = static_cast<double>(std::min(a.x1, b.x1)) - static_cast<double>(std::max(a.x0, b.x0));
    const double height = static_cast<double>(std::min(a.y1, b.y1)) - static_cast<double>(std::max(a.y0, b.y0));
    // Asked this way round, so that numbers that are none give none.
    if (!(width > 0 && height > 0 && area(a) > 0 && area(b) > 0)) return 0;
    const double both = width * height;
    const double ratio = both / (area(a) + area(b) - both);
    return ratio > 1 ? 1 : ratio > 0 ? ratio : 0;  // of infinite areas: no number, so 0
}

Matches match(std::span<const Box> reference, std::span<const Box> output, const AccuracyOptions& options) {
    const double sure = std::max(options.sure, options.score);
    std::vector<Box> truth;
    std::vector<Box> doubtful;
    for (const Box& box : counted(reference, options.score)) (box.score >= sure ? truth : doubtful).push_back(box);
    const std::vector<Box> found = counted(output, std::max(options.found, options.score));
    Pairing first = pairing(truth, found, options.iou);
    const size_t pairs = first.count();
    std::vector<Box> rest;
    for (size_t i = 0; i < found.size(); i++)
        if (!first.has_partner(i)) rest.push_back(found[i]);
    const size_t allowed = pairing(doubtful, rest, options.iou).count();
    return {.found = pairs, .missed = truth.size() - pairs, .wrong = rest.size() - allowed};
}

}  // namespace adapath
