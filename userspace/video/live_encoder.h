// What encodes a camera's pictures as they come: Encoder for one quality and a bitrate that every frame keeps to, or
// one that gives chunks regions of two qualities (userspace/qp/region_live_encoder.h).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "codegen/result.h"
#include "userspace/video/clip.h"
#include "userspace/video/encoder.h"
#include "userspace/video/encoder_requests.h"

namespace adapath::video {

// What an encoder with a remembered background did so far.
struct BackgroundStats {
    bool sending = false;   // the last chunk; else it was uniform
    uint64_t chunks = 0;    // sent with it
    uint64_t epochs = 0;    // begun
    uint64_t lost = 0;      // that the server asked to be begun anew, or that ended with a connection
    uint64_t trials = 0;    // ended
    double ratio = 0;       // its bytes over uniform quality's, as last measured; 0: not yet
    uint64_t also = 0;      // pictures that were encoded a second time, to be measured
    double shown = 0;       // shares of the blocks, of all pictures that were sent with it
    double remembered = 0;  // the rest: recalled
};

// What an encoder of regions did so far.
struct RegionStats {
    uint64_t chunks = 0;
    uint64_t cut = 0;       // of them, ended by begin_anew()
    uint64_t decided = 0;   // by a snapshot
    uint64_t explored = 0;  // of them, in one quality all the same
    uint64_t uniform = 0;   // by none
    uint64_t samples_lost = 0;
    uint32_t generation = 0;  // of the last chunk; 0: uniform
    uint64_t switches = 0;
    double share = 0;  // of the blocks that were high, over the chunks that a snapshot decided
    int qp_high = 0;   // of the last chunk
    int qp_low = 0;
    double bytes_over_budget = 0;               // all chunks' bytes over all their budgets
    std::string state;                          // why nothing decides; empty where a snapshot does
    uint64_t asked = 0;                         // chunks with regions that the server asked for
    double asked_share = 0;                     // of their blocks that are in those regions
    std::optional<BackgroundStats> background;  // where the encoder may use it
};

class LiveEncoder {
public:
    virtual ~LiveEncoder() = default;
    // The frame of a picture that was taken at this time, at a target of so many kbit/s.
    virtual Result<EncodedFrame> encode(const Picture& picture, double kbps, uint64_t now_ns) = 0;
    // What was encoded so far is lost to whoever gets the next frame: that begins anew, and nothing waits any more.
    virtual void begin_anew() = 0;
    // Bytes of what was encoded so far that the target rate would not have carried away by now, where the encoder means
    // them to wait: a key frame of its own quality is many frames' worth, which those after it make up for.
    [[nodiscard]] virtual uint64_t planned_backlog(double /*kbps*/, uint64_t /*now_ns*/) const { return 0; }
    [[nodiscard]] virtual std::optional<RegionStats> regions() const { return std::nullopt; }
    // Where the server's requests go; null where it heeds none.
    [[nodiscard]] virtual EncoderRequests* requests() { return nullptr; }
};

using LiveEncoderFactory =
    std::function<Result<std::unique_ptr<LiveEncoder>>(uint16_t camera, Size size, double fps, double kbps)>;
// One quality, the bitrate kept by every frame.
Result<std::unique_ptr<LiveEncoder>> open_plain_encoder(uint16_t camera, Size size, double fps, double kbps);

}  // namespace adapath::video
