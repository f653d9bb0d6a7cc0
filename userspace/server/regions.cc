// See regions.h.
#include "userspace/server/regions.h"

#include <algorithm>
#include <utility>

namespace adapath::server {

namespace {

// Of a whole chunk: the best are kept, so that merging stays cheap whatever the network gives.
constexpr size_t most_boxes = 1024;

bool touch(const Region& a, const Region& b) { return a.x0 <= b.x1 && b.x0 <= a.x1 && a.y0 <= b.y1 && b.y0 <= a.y1; }

}  // namespace

void UncertainRegions::add(std::span<const Box> boxes, int width, int height) {
    if (width < 1 || height < 1) return;
    const auto share = [](double value, int side) {
        return static_cast<float>(std::clamp(value / static_cast<double>(side), 0.0, 1.0));
    };
    for (const Box& box : boxes) {
        if (box.score < options_.low || box.score > options_.high) continue;
        const double x = options_.padding * static_cast<double>(box.x1 - box.x0);
        const double y = options_.padding * static_cast<double>(box.y1 - box.y0);
        found_.push_back(
            {{share(box.x0 - x, width), share(box.y0 - y, height), share(box.x1 + x, width), share(box.y1 + y, height)},
             box.score});
    }
}

std::vector<Region> UncertainRegions::take() {
    std::vector<Scored> found = std::exchange(found_, {});
    const auto better = [](const Scored& a, const Scored& b) { return a.score > b.score; };
    std::stable_sort(found.begin(), found.end(), better);
    if (found.size() > most_boxes) found.resize(most_boxes);
    // Each takes in what it touches; as it grows it may touch more.
    std::vector<Scored> merged;
    for (Scored next : found) {
        for (size_t i = 0; i < merged.size();) {
            if (!touch(merged[i].region, next.region)) {
                i++;
                continue;
            }
            const Region& other = merged[i].region;
            next.region = {std::min(next.region.x0, other.x0), std::min(next.region.y0, other.y0),
                           std::max(next.region.x1, other.x1), std::max(next.region.y1, other.y1)};
            next.score = std::max(next.score, merged[i].score);
            merged.erase(merged.begin() + static_cast<ptrdiff_t>(i));
            i = 0;
        }
        merged.push_back(next);
    }
    std::stable_sort(merged.begin(), merged.end(), better);
    if (merged.size() > options_.most) merged.resize(options_.most);
    std::vector<Region> regions;
    for (const Scored& one : merged) regions.push_back(one.region);
    return regions;
}

}  // namespace adapath::server
