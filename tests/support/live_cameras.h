// Cameras that send in real time, over whatever way the test has to the kernel side.
#pragma once

#include <adapath/select.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <thread>
#include <tuple>
#include <vector>

#include "tests/support/rtp_camera.h"

namespace adapath::testing {

// Cameras that send in real time, a picture every `picture` of their own; which chunk each packet is of, and whether it
// passed.
class LiveCameras {
public:
    using Send = std::function<bool(uint32_t camera, uint32_t rendition, const Bytes& packet)>;
    struct Chunk {
        uint32_t sent = 0;
        uint32_t passed = 0;
        [[nodiscard]] bool whole() const { return sent == passed; }
    };

    // staggered: their groups begin at different pictures, so that decisions are spread over time.
    LiveCameras(uint32_t count, std::chrono::microseconds picture, uint32_t group, uint64_t seed,
                bool staggered = false)
        : picture_(picture) {
        std::mt19937_64 random(seed);
        for (uint32_t i = 0; i < count; ++i) {
            for (const uint32_t which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
                RtpRendition r;
                r.ssrc = static_cast<uint32_t>(random());
                r.sequence = static_cast<uint16_t>(random());
                r.timestamp = static_cast<uint32_t>(random());
                r.group = group;
                r.pictures = staggered ? i % group : 0;
                r.idr_bytes = which == ADP_SELECT_SUB ? 3000 : 12000;
                r.picture_bytes = which == ADP_SELECT_SUB ? 800 : 3000;
                streams_.push_back({i, which, r});
            }
        }
    }
    // One picture of each rendition.
    void step(const Send& send) {
        for (Stream& s : streams_) {
            const uint32_t number = s.r.pictures / s.r.group;
            for (const Bytes& packet : s.r.picture()) {
                Chunk& chunk = chunks_[{s.camera, s.rendition, number}];
                ++chunk.sent;
                chunk.passed += send(s.camera, s.rendition, packet) ? 1 : 0;
            }
        }
    }
    void run_for(std::chrono::milliseconds time, const Send& send) {
        const auto begin = std::chrono::steady_clock::now();
        for (int64_t i = 0; i * picture_ < time; ++i) {
            std::this_thread::sleep_until(begin + i * picture_);
            step(send);
        }
    }
    [[nodiscard]] size_t halves() const {
        size_t count = 0;
        for (const auto& [key, chunk] : chunks_) count += chunk.passed == 0 || chunk.whole() ? 0 : 1;
        return count;
    }
    [[nodiscard]] size_t passed(uint32_t camera, uint32_t rendition) const {
        size_t count = 0;
        for (const auto& [key, chunk] : chunks_)
            count += std::get<0>(key) == camera && std::get<1>(key) == rendition && chunk.passed > 0 ? 1 : 0;
        return count;
    }
    // Pairs of chunks of which not just one passed, from chunk `from` on.
    [[nodiscard]] size_t pairs_not_one(uint32_t from) const {
        size_t count = 0;
        for (const auto& [key, chunk] : chunks_) {
            const auto& [camera, rendition, number] = key;
            if (rendition != ADP_SELECT_SUB || number < from) continue;
            const auto main = chunks_.find({camera, ADP_SELECT_MAIN, number});
            if (main == chunks_.end()) continue;
            count += (chunk.passed > 0) + (main->second.passed > 0) == 1 ? 0 : 1;
        }
        return count;
    }
    [[nodiscard]] size_t chunks() const { return chunks_.size(); }
    RtpRendition& rendition(uint32_t camera, uint32_t which) { return streams_[2 * camera + which].r; }

private:
    struct Stream {
        uint32_t camera;
        uint32_t rendition;
        RtpRendition r;
    };
    std::chrono::microseconds picture_;
    std::vector<Stream> streams_;
    std::map<std::tuple<uint32_t, uint32_t, uint32_t>, Chunk> chunks_;
};

}  // namespace adapath::testing
