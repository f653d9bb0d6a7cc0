// The server's side of the remembered background (userspace/video/background.h): one rendition of a camera, from its
// notes (userspace/video/background_sei.h) to the pictures that the network looks at.
//
// Notes build on each other: each knows what all before it in its epoch put on the canvas. So a gap in their numbers (a
// chunk that did not arrive) is the end of the epoch here: what is recalled from then on is shown as decoded, and the
// sender is asked to start anew, again at each IDR picture until it does.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "codegen/result.h"
#include "userspace/server/depacketiser.h"
#include "userspace/video/av.h"
#include "userspace/video/background.h"
#include "userspace/video/background_sei.h"

namespace adapath::server {

// What all canvases of a server may take together: a stranger's parameter sets say how large they are.
class BackgroundRoom {
public:
    explicit BackgroundRoom(size_t bytes) : most_(bytes) {}
    [[nodiscard]] bool take(size_t bytes);
    void give(size_t bytes) { taken_ -= bytes; }
    [[nodiscard]] size_t taken() const { return taken_; }

private:
    const size_t most_;
    std::atomic<size_t> taken_ = 0;
};

class RememberedBackground {
public:
    struct Counters {
        uint64_t notes = 0;       // followed
        uint64_t epochs = 0;      // begun
        uint64_t lost = 0;        // epochs that ended in a gap, or of which the beginning is missing
        uint64_t as_decoded = 0;  // pictures with a note that could not be followed
        uint64_t malformed = 0;   // of them: the note makes no sense
        uint64_t no_room = 0;     // epochs that were not begun for want of memory
        uint64_t blocks = 0;      // of the pictures with notes that were followed
        uint64_t recalled = 0;    // of them

        Counters& operator+=(const Counters& other);
        [[nodiscard]] bool any() const { return notes + as_decoded > 0; }
    };
    struct Seen {
        video::AvFrame frame;  // what to look at; null: the picture as it was decoded
        // Where the sender has to start anew: said at each IDR picture.
        struct Lost {
            uint32_t epoch = 0;
            bool no_room = false;
        };
        std::optional<Lost> lost;
    };

    // The room outlives it.
    explicit RememberedBackground(BackgroundRoom& room) : room_(room) {}
    RememberedBackground(const RememberedBackground&) = delete;
    RememberedBackground& operator=(const RememberedBackground&) = delete;
    ~RememberedBackground() { forget(); }

    // Of each picture that was decoded, in order.
    Seen picture(const AccessUnit& unit, const AVFrame& decoded);

    [[nodiscard]] const Counters& counters() const { return counters_; }

private:
    Status follow(const video::BackgroundSei& sei, const AccessUnit& unit, const AVFrame& decoded, Seen& seen);
    Status begin(uint32_t epoch, const AVFrame& decoded);
    void lose();
    void forget();

    BackgroundRoom& room_;
    size_t taken_ = 0;
    std::unique_ptr<video::BackgroundView> view_;  // null: nothing is followed
    video::Size size_;
    std::optional<uint32_t> epoch_;  // the last that was seen
    bool no_room_ = false;           // for it
    uint32_t number_ = 0;            // of the next picture
    std::vector<video::BlockUse> before_;
    Counters counters_;
};

}  // namespace adapath::server
