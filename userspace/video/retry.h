// When to try again to connect: after a pause, doubled from one failure to the next until a connection has lasted as
// long as the longest pause. A server that refuses takes the connection first, so that being connected says little.
// Pure: it is told the time, in any unit.
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

namespace adapath::video {

class Retry {
public:
    Retry(uint64_t least, uint64_t most) : least_(least), most_(most), pause_(least) {}

    // An attempt failed, or a connection broke. When the next attempt is due.
    uint64_t failed(uint64_t now) {
        const uint64_t due = now + pause_;
        pause_ = std::min(pause_ * 2, most_);
        down_ = true;
        return due;
    }
    void opened(uint64_t now) {
        opened_ = now;
        sound_ = false;
    }
    // Now and then while there is a connection. True once, where it has lasted after failures.
    bool back(uint64_t now) {
        if (sound_ || now - opened_ < most_) {
            return false;
        }
        sound_ = true;
        pause_ = least_;
        return std::exchange(down_, false);
    }
    // It failed, and no connection has lasted since: that has been said already.
    [[nodiscard]] bool down() const { return down_; }

private:
    uint64_t least_;
    uint64_t most_;
    uint64_t pause_;  // after the next failure
    uint64_t opened_ = 0;
    bool sound_ = true;  // nothing that has yet to last
    bool down_ = false;
};

}  // namespace adapath::video
