// A clip in memory: decoded and scaled once, shared by all cameras, so that playing it costs no CPU beyond encoding.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codegen/result.h"

namespace adapath::video {

struct Size {
    int width = 0;
    int height = 0;
};

// One picture, YUV 4:2:0, planes without padding: width x height, then twice (width/2) x (height/2).
struct Picture {
    const uint8_t* y = nullptr;
    const uint8_t* u = nullptr;
    const uint8_t* v = nullptr;
};

class Clip {
public:
    // `size` 0x0: the clip's own, rounded down to even numbers. Pictures over the budget are left out; truncated()
    // tells.
    static Result<Clip> load(const std::string& path, Size size, uint64_t budget_bytes);
    // From raw pictures one after the other, for tests and generators.
    static Result<Clip> from_i420(std::vector<uint8_t> bytes, Size size);

    [[nodiscard]] Size size() const { return size_; }
    [[nodiscard]] uint32_t pictures() const { return pictures_; }
    [[nodiscard]] Picture picture(uint64_t index) const;  // index modulo pictures(): the clip is a loop
    [[nodiscard]] bool truncated() const { return truncated_; }
    [[nodiscard]] uint64_t bytes() const { return data_.size(); }

private:
    std::vector<uint8_t> data_;
    Size size_;
    uint32_t pictures_ = 0;
    bool truncated_ = false;
};

[[nodiscard]] constexpr uint64_t picture_bytes(Size size) {
    return static_cast<uint64_t>(size.width) * static_cast<uint64_t>(size.height) * 3 / 2;
}

// "768x576"; both even, 16 to 4096.
Result<Size> parse_size(const std::string& text);

}  // namespace adapath::video
