// Rivals that are tuned in hindsight, over the very link that they will meet: the best fixed mix of renditions and the
// best threshold on frame size. A fluid model of the relay and the uplink stands for the real thing here: each camera
// has a queue for each rendition, sub goes first, what is left of the link's capacity is shared equally by those that
// wait, and what waits for too long is dropped by the chunk, as the relay does.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "bench/video/pictures.h"
#include "codegen/trace/trace.h"

namespace adapath::video_bench {

struct OfflineOptions {
    double begin_s = 10;  // of the trace; what is scored
    double seconds = 60;
    double delay_s = 0.02;  // propagation
    double late_s = 1;      // as ScoreOptions
    // adapath-relay's defaults, by its own factors for sub streams and for chunks that have not begun (chunk_filter.h).
    double queue_s = 0.5;    // older than that, and the main stream's next chunk is dropped
    double drop_s = 0.8;     // a picture that waited so long goes, and the rest of its chunk; but
    double sockets_s = 0.1;  // earlier by so much: what waits in sockets is past dropping
    double overhead = 1.06;  // bytes on the link for a byte of video: RTP, TCP and IP headers
    uint32_t group = 10;     // pictures of a chunk
};

struct OfflineScore {
    double f1 = 0;        // mean over cameras and their pictures
    double rate = 0;      // bytes/s that were delivered
    double sub_rate = 0;  // that the sub streams alone would need
};

// Which renditions of a camera's chunk are sent: a set as in select.h. The chunk begins at that place of the loop.
using OfflineChoice = std::function<uint32_t(size_t camera, uint32_t place)>;

[[nodiscard]] OfflineScore play_offline(std::span<const MeasuredCamera> cameras, const Trace& trace,
                                        const OfflineChoice& choice, const OfflineOptions& options);

struct TunedMix {
    std::vector<uint32_t> renditions;  // of each camera
    OfflineScore score{.f1 = -1};
};

// The assignment of none, sub and main to cameras with the greatest F1; of equals the one of fewer bytes. Exhaustive to
// 8 cameras; above, by changing one camera at a time while that helps.
// `insured`: sub may come beside main.
[[nodiscard]] TunedMix best_mix(std::span<const MeasuredCamera> cameras, const Trace& trace,
                                const OfflineOptions& options, bool insured = false);

struct TunedThreshold {
    double bytes = 0;  // mean size of a main chunk's P pictures from which on main is sent (threshold_select())
    OfflineScore score{.f1 = -1};
};

// The best of some 24, among them always and never.
[[nodiscard]] TunedThreshold best_threshold(std::span<const MeasuredCamera> cameras, const Trace& trace,
                                            const OfflineOptions& options);

}  // namespace adapath::video_bench
