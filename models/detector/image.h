// A picture as the server's vision network takes it: plain bytes, so that its users need no LibTorch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace adapath {

// RGB, 8 bits a channel, rows without padding: the channels of pixel (x, y) begin at rgb[3 * (y * width + x)].
struct Image {
    int width = 0;
    int height = 0;
    std::vector<uint8_t> rgb;

    [[nodiscard]] size_t pixels() const { return static_cast<size_t>(width) * static_cast<size_t>(height); }
    // Sizes that are numbers of pixels, and as many bytes as they need.
    [[nodiscard]] bool sound() const { return width > 0 && height > 0 && rgb.size() == pixels() * 3; }
};

}  // namespace adapath
