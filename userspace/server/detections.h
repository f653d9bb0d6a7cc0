// What the vision network found in pictures that it has seen before: the same picture, the same network, the same
// boxes.
//
// A picture is known by a hash of its decoded pixels, so it does not matter which program decoded it: a bench or a
// training may look at a clip beforehand, and a server on a machine that is too slow for the network then plays the
// clip in real time. Boxes are kept from a low score on (least_score), so that every use of them finds what it needs.
//
// The file: JSON lines, {"detections":1,"model":HASH,"score":0.1} first, then
// {"key":HEX,"boxes":[[x0,y0,x1,y1,score,class],...]}. It is only ever added to, a line at a time, by any number of
// programs. A line that a crash cut off is passed over (and counted), and the next one begins on a line of its own. It
// grows with every new picture: it is meant for experiments, not for a server that runs for months.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "codegen/result.h"
#include "models/detector/box.h"
#include "models/detector/detector.h"
#include "userspace/common/unique_fd.h"

struct AVFrame;

namespace adapath {

// The first half of SHA-256 over size, pixel format, colour space, range and every row of every plane.
struct PictureKey {
    std::array<uint8_t, 16> bytes{};

    bool operator==(const PictureKey&) const = default;
    [[nodiscard]] std::string text() const;  // 32 hex digits
};
// An error where libav does not keep the pixels in plain planes (hardware formats).
Result<PictureKey> picture_key(const AVFrame& frame);

// SHA-256, as hex, of a detector's file, and for a TF.js graph model (*.json) of the weights that it names.
Result<std::string> model_hash(const std::string& path);

// Thread-safe.
class Detections {
public:
    // Boxes below it are not kept.
    static constexpr double least_score = 0.1;

    struct Options {
        std::string model{};    // model_hash(); empty: whatever the file says, for reading only
        std::string file{};     // empty: in memory only
        size_t most = 100'000;  // pictures in memory; the oldest makes room
    };
    // A file of another model, or that is no such file, is an error.
    static Result<std::unique_ptr<Detections>> open(const Options& options);

    // `counts`: as a hit or a miss.
    [[nodiscard]] std::optional<std::vector<Box>> find(const PictureKey& key, bool counts = true);
    // Keeps the first one where two threads looked at the same picture. An error is the file's; memory has it all the
    // same.
    Status put(const PictureKey& key, std::vector<Box> boxes);

    [[nodiscard]] size_t size() const;
    [[nodiscard]] const std::string& model() const { return options_.model; }
    struct Counters {
        uint64_t hits = 0;
        uint64_t misses = 0;
        uint64_t loaded = 0;       // pictures, from the file
        uint64_t passed_over = 0;  // lines of the file that were cut off or are none
        uint64_t evicted = 0;
    };
    [[nodiscard]] Counters counters() const;

private:
    struct KeyHash {
        size_t operator()(const PictureKey& key) const;
    };

    explicit Detections(Options options) : options_(std::move(options)) {}
    Status load();
    bool remember(const PictureKey& key, std::vector<Box> boxes);

    Options options_;
    UniqueFd fd_;
    mutable std::mutex mutex_;
    std::unordered_map<PictureKey, std::vector<Box>, KeyHash> known_;
    std::deque<PictureKey> order_;
    Counters counters_;
};

// The picture's boxes: those that are known, or what the network finds now, which is kept. What every program does that
// fills or uses a file of detections.
struct Looked {
    std::vector<Box> boxes;
    bool known = false;  // the network did not run
    Status kept{};       // an error is the file's, and in the log: memory has them all the same
};
Result<Looked> look_at(const AVFrame& frame, const PictureKey& key, Detector& detector, Detections& detections);

}  // namespace adapath
