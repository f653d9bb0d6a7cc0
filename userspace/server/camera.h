// One camera of a gateway, as the server knows it: its two renditions' chunks, what the vision network found in their
// pictures, and what it says of them to the gateway.
//
// A chunk begins with an IDR picture and ends with the next of its rendition. Which chunks come is the gateway's
// choice, so the next one may be long in coming: a chunk is also over when the other rendition has gone on without it,
// or after two seconds of silence. Should it go on after all, what follows is reported apart (`continued`), under the
// same time.
//
// Pictures of the two renditions belong together when they came to the relay within half a picture's time of each
// other. Where both renditions came for at least half of a chunk's time, the sub stream is held against the main
// stream: counts of all pairs that were looked at are added up, F1 is taken of the sums.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <adapath/select.h>

#include "models/detector/accuracy.h"
#include "models/detector/block_map.h"
#include "models/detector/box.h"
#include "userspace/proto/select.pb.h"
#include "userspace/server/background.h"
#include "userspace/server/depacketiser.h"
#include "userspace/server/detections.h"
#include "userspace/server/regions.h"
#include "userspace/server/vision_pool.h"
#include "userspace/video/av.h"

namespace adapath::server {

// What to look at, and what to make of it; the same for all cameras.
struct VisionOptions {
    unsigned every = 1;  // looks at each n-th picture
    double score = 0.3;  // boxes below do not count (models/detector/accuracy.h)
    double iou = 0.5;
    bool regions = false;
    RegionOptions region_options;
    double gradients = 0;  // share of the main stream's chunks that are labelled for the app qp: those with both
                           // renditions, and those of cameras that have this one only (that app's own)
    unsigned gradient_pictures = 3;  // of such a chunk
    std::string pictures;            // directory for sample pictures with their boxes; empty: none
    double picture_every = 10;       // seconds, for each camera and rendition
};

enum class Look {
    none,      // without a network, or not its turn
    waiting,   // in the queue
    seen,      // boxes are there
    left_out,  // the network was behind
    failed,    // it could not
};

// What became of one decoded picture.
struct PictureResult {
    uint64_t received_us = 0;  // the relay's clock, its first packet
    uint64_t arrived_ns = 0;   // the server's CLOCK_MONOTONIC, its last packet
    uint64_t decoded_ns = 0;
    uint32_t timestamp = 0;  // RTP's
    uint32_t bytes = 0;
    int width = 0;
    int height = 0;
    int64_t tick = 0;  // number of the picture's moment, the same in both renditions
    PictureKey key{};  // where it was looked at
    Look look = Look::none;
    std::vector<Box> boxes;
    uint64_t work = 0;  // VisionPool::Work::id
};

struct ChunkResult {
    uint32_t rendition = 0;
    uint64_t chunk_us = 0;
    bool continued = false;
    uint64_t received = 0;     // whole pictures
    uint64_t undecodable = 0;  // of them
    uint64_t incomplete = 0;   // pictures that lacked something, or depended on one that did
    uint64_t bytes = 0;
    std::vector<PictureResult> pictures;  // decoded
    // What was said of it.
    std::optional<double> accuracy;  // as in Seen
    bool measured = false;
    std::optional<Matches> matches;  // sub against main, where both came; all pairs of pictures added up ...
    double sub_worth = 0;            // ... and the mean of their F1, which is what accuracy is (MeanF1)
    uint64_t compared = 0;           // pictures
};

struct CameraCounters {
    std::array<Depacketiser::Counters, ADP_SELECT_RENDITIONS> streams;  // of connections that ended, and as last told
    uint64_t chunks = 0;
    uint64_t decoded = 0;
    uint64_t undecodable = 0;
    uint64_t seen = 0;
    uint64_t cached = 0;    // of them, without running the network
    uint64_t left_out = 0;  // pictures
    uint64_t failed = 0;
    uint64_t measured = 0;  // chunks
    RememberedBackground::Counters background;
    uint64_t background_asked = 0;  // times that the sender was asked to start anew
};

// What the sub streams were worth when last measured, of all cameras that are known.
class Worths {
public:
    void set(const std::string& gateway, uint32_t camera, double worth);
    void forget(const std::string& gateway);
    // Of a camera that never was measured: the mean of its gateway's others; 0.5, which says nothing, where there are
    // none.
    [[nodiscard]] double usual(const std::string& gateway) const;

private:
    mutable std::mutex mutex_;
    std::map<std::string, std::map<uint32_t, double>> worths_;
};

class Camera : public std::enable_shared_from_this<Camera> {
public:
    // What all cameras share. Outlives them; `pool` and `detections` are null where nothing looks at pictures.
    struct Shared {
        VisionOptions vision;
        VisionPool* pool = nullptr;  // without a network: for sample pictures only
        bool network = false;        // the pool's threads have one
        Detections* detections = nullptr;
        // Called under the camera's mutex, in order. Neither may call back.
        std::function<void(const std::string& gateway, pb::CameraReport report)> on_report;
        std::function<void(const std::string& gateway, uint32_t camera, const ChunkResult& chunk)> on_chunk;
        Worths worths;
        std::atomic<uint64_t> sample_pictures = 0;  // written so far
    };

    Camera(Shared& shared, std::string gateway, uint32_t number);
    ~Camera();

    // From the connection's thread. The frame is only read.
    void picture(uint32_t rendition, const AccessUnit& unit, uint64_t arrived_ns, const AVFrame& frame);
    // A picture that was whole, and the decoder could make nothing of.
    void undecodable(uint32_t rendition, const AccessUnit& unit);
    void note_stream(uint32_t rendition, const Depacketiser::Counters& now);
    // What the notes on the background came to, of this connection; where one is lost, its sender is told.
    void note_background(uint32_t rendition, const RememberedBackground::Counters& now,
                         const std::optional<RememberedBackground::Seen::Lost>& lost, uint64_t chunk_us);
    // Nothing came for so long that what is open is taken to be over.
    void silence();
    // The connection is over; its counters go into the sums.
    void end();

    [[nodiscard]] CameraCounters counters() const;
    [[nodiscard]] uint32_t number() const { return number_; }

private:
    struct Chunk;
    using ChunkPtr = std::shared_ptr<Chunk>;
    struct Rendition;
    struct Pick;

    ChunkPtr open_chunk(uint32_t rendition, const AccessUnit& unit);
    void close(uint32_t rendition);
    void note_interval(uint32_t rendition, uint64_t received_us, uint32_t timestamp);
    [[nodiscard]] uint64_t interval_us() const;  // the shorter of both
    int64_t tick_of(uint32_t rendition, uint64_t received_us) const;
    [[nodiscard]] bool is_turn(int64_t tick) const;
    void look(const ChunkPtr& chunk, size_t index, const AVFrame& frame);
    bool fall_behind();
    void found(const ChunkPtr& chunk, size_t index, Look look, std::vector<Box> boxes, bool cached);
    void settle();
    [[nodiscard]] bool waits(const Chunk& chunk) const;
    [[nodiscard]] size_t sub_alone(const Chunk& main) const;
    void report(const ChunkPtr& chunk);
    void compare(Chunk& chunk);
    void report_regions(const Chunk& chunk);
    void prune();
    void forget_reported();

    [[nodiscard]] bool wants_sample(uint32_t rendition, uint64_t arrived_ns);
    void draw_sample(const Chunk& chunk, const PictureResult& picture, const AVFrame& frame);
    void pick(const ChunkPtr& chunk, size_t index, const AVFrame& frame);
    void match_picks();
    bool report_gradients(Chunk& chunk);
    bool report_own_gradients(Chunk& chunk);
    void report_blocks(uint64_t chunk_us, const BlockMap& map);

    Shared& shared_;
    const std::string gateway_;
    const uint32_t number_;
    std::unique_ptr<VisionPool::Queue> queue_;

    mutable std::mutex mutex_;
    std::array<std::unique_ptr<Rendition>, ADP_SELECT_RENDITIONS> renditions_;
    uint64_t stream_us_ = 0;  // the latest picture's time
    int64_t phase_ = 0;       // of the ticks that are looked at
    unsigned stride_ = 1;     // of them, each n-th; grows when the network is behind
    size_t fullest_ = 0;      // the queue, since the chunk began
    double gradient_share_ = 0;
    std::optional<double> worth_;
    CameraCounters counters_;
    bool failed_before_ = false;
    bool ended_ = false;
    uint64_t works_ = 0;
};

}  // namespace adapath::server
