// What the server's vision network found in a picture.
#pragma once

#include <vector>

namespace adapath {

// In pixels of the picture, x to the right and y down; 0 <= x0 < x1 <= width, and so on.
struct Box {
    float x0 = 0;
    float y0 = 0;
    float x1 = 0;
    float y1 = 0;
    float score = 0;   // 0 to 1
    int class_id = 0;  // Detector::class_name() has the word

    bool operator==(const Box&) const = default;
};

}  // namespace adapath
