// Bounds what strangers can make a server write into its log: some lines at once, then one a second. The others are
// counted, and the next line says how many they were.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <utility>

namespace adapath::server {

// For any thread. Times are now_ns()'s.
class LineLimit {
public:
    explicit LineLimit(size_t at_once) : at_once_(std::max<size_t>(at_once, 1)), room_(at_once_) {}

    // Nothing: the line is left out, and counted. Else it may be written, and so many before it were left out.
    [[nodiscard]] std::optional<uint64_t> admit(uint64_t now_ns) {
        std::lock_guard lock(mutex_);
        if (!take_room(now_ns)) {
            left_out_++;
            return std::nullopt;
        }
        return std::exchange(left_out_, 0);
    }
    // So many lines were left out that no other line has come to tell of; 0: none, or it is not time to say so.
    [[nodiscard]] uint64_t rest(uint64_t now_ns) {
        std::lock_guard lock(mutex_);
        return left_out_ > 0 && take_room(now_ns) ? std::exchange(left_out_, 0) : 0;
    }
    // At the end, whatever the time.
    [[nodiscard]] uint64_t last_rest() {
        std::lock_guard lock(mutex_);
        return std::exchange(left_out_, 0);
    }
    [[nodiscard]] bool has_rest() const {
        std::lock_guard lock(mutex_);
        return left_out_ > 0;
    }

private:
    bool take_room(uint64_t now_ns) {
        constexpr uint64_t second_ns = 1'000'000'000;
        const uint64_t due = now_ns > since_ns_ ? (now_ns - since_ns_) / second_ns : 0;
        if (room_ + due >= at_once_) {
            room_ = at_once_;
            since_ns_ = now_ns;
        } else {
            room_ += due;
            since_ns_ += due * second_ns;
        }
        if (room_ == 0) return false;
        room_--;
        return true;
    }

    const size_t at_once_;
    mutable std::mutex mutex_;
    size_t room_;            // lines that may be written now
    uint64_t since_ns_ = 0;  // another one is due a second after this
    uint64_t left_out_ = 0;
};

}  // namespace adapath::server
