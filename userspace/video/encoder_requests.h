// What the server asks of a camera's encoder: from the thread that hears its reports to the one that encodes, which
// takes it with its next chunk. Any thread.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace adapath::video {

class EncoderRequests {
public:
    // Of the picture's width and height, 0 to 1.
    struct Region {
        float x0 = 0;
        float y0 = 0;
        float x1 = 0;
        float y1 = 0;
    };
    struct Lost {
        uint32_t epoch = 0;
        bool no_room = false;
    };
    static constexpr size_t most_regions = 256;

    // Where it wants to see better in the next chunk. They take the place of those before; of more than most_regions
    // the first ones count.
    void ask(std::vector<Region> regions) {
        regions.resize(std::min(regions.size(), most_regions));
        const std::lock_guard lock(mutex_);
        waiting_.regions = std::move(regions);
    }
    // The remembered background of that epoch is not there (BackgroundLost of select.proto).
    void lost(Lost lost) {
        const std::lock_guard lock(mutex_);
        waiting_.lost = lost;
    }

    struct Taken {
        std::vector<Region> regions;
        std::optional<Lost> lost;
    };
    [[nodiscard]] Taken take() {
        const std::lock_guard lock(mutex_);
        return std::exchange(waiting_, {});
    }

private:
    std::mutex mutex_;
    Taken waiting_;
};

}  // namespace adapath::video
