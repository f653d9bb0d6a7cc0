// Where the server wants to see better (DDS, SIGCOMM 2020): boxes that the vision network is not sure of.
#pragma once

#include <span>
#include <vector>

#include "models/detector/box.h"

namespace adapath::server {

// Of the picture's width and height, 0 to 1.
struct Region {
    float x0 = 0;
    float y0 = 0;
    float x1 = 0;
    float y1 = 0;

    bool operator==(const Region&) const = default;
};

struct RegionOptions {
    // Surer than this the network would be without help; less sure, there most likely is nothing.
    double low = 0.15;
    double high = 0.45;
    double padding = 0.1;  // of a box's width and height, on each side
    size_t most = 16;      // the best scores first
};

// The boxes of a chunk's pictures (all of one size) in the uncertain band, padded, those that touch each other made
// one.
class UncertainRegions {
public:
    explicit UncertainRegions(const RegionOptions& options) : options_(options) {}
    void add(std::span<const Box> boxes, int width, int height);
    [[nodiscard]] std::vector<Region> take();

private:
    struct Scored {
        Region region;
        float score;
    };
    RegionOptions options_;
    std::vector<Scored> found_;
};

}  // namespace adapath::server
