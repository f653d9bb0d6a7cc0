// The cameras that the app qp is trained and measured on: one clip, seen in several ways (regimes).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "models/detector/image.h"
#include "models/qp/selector.h"
#include "userspace/video/clip.h"

namespace adapath {

struct Regime {
    enum class View {
        half,   // half of the clip's width and height
        pan,    // synthetic motion: a window of half the width and height that wanders over the clip, to and fro
        native  // the clip's own size
    };
    std::string name;
    View view = View::half;
    uint32_t group = 10;  // pictures of a chunk
};

// half-10, pan-10, native-10, native-30.
[[nodiscard]] const std::vector<Regime>& regimes();

// A window that wanders over the clip: 4 pixels a picture to the side and 2 up or down, whatever the clip's frame rate,
// to and fro within the clip's pictures. The window's sides are even.
Result<video::Clip> panned(const video::Clip& clip, video::Size window);

// The whole clip as the regime's camera sees it. Sides of half and pan are cut to even numbers.
Result<video::Clip> open_camera(const std::string& clip, Regime::View view);

// Pictures `first` to `first + count - 1` for the detector.
Result<std::vector<Image>> images(const video::Clip& clip, uint64_t first, uint64_t count);

// What the quality selector sees of the chunk that begins with that picture.
[[nodiscard]] ImageCodes selector_codes(const video::Clip& clip, uint64_t first);

}  // namespace adapath
