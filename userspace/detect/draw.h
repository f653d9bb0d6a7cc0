// Drawing over pictures: boxes with their words, and maps of macroblocks.
#pragma once

#include <string>

#include "models/detector/block_map.h"
#include "models/detector/box.h"
#include "models/detector/image.h"

namespace adapath {

struct Colour {
    uint8_t red = 0;
    uint8_t green = 0;
    uint8_t blue = 0;
};

// A colour of the class's own, bright enough to be seen.
[[nodiscard]] Colour class_colour(int class_id);

// A frame two pixels wide, and `text` in small capitals above it (inside where there is no room). What lies outside of
// the picture is left out.
void draw_box(Image& image, const Box& box, const std::string& text, Colour colour);

// Each block's value as red over the picture (made grey): its share of the map's 99th percentile, so that single blocks
// do not hide all others.
void draw_map(Image& image, const BlockMap& map);

}  // namespace adapath
