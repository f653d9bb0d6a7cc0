// Several cameras out of one clip: each sees a window of it, from another picture on. The main rendition is the window
// as it is, the sub rendition the same pictures scaled down.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <adapath/select.h>

#include "codegen/result.h"
#include "userspace/video/clip.h"

struct SwsContext;

namespace adapath::camera {

struct Window {
    int x = 0;  // pixels of the clip, even
    int y = 0;
    video::Size size;

    bool operator==(const Window& other) const {
        return x == other.x && y == other.y && size.width == other.size.width && size.height == other.size.height;
    }
};

// All that decides which pictures a camera takes.
struct View {
    unsigned camera = 0;  // its number, from 0
    size_t clip = 0;      // index into the clips
    Window window;
    // The part of the clip that it plays, in a loop: `pictures` from `first` on, within [from, to).
    uint32_t from = 0;
    uint32_t to = 0;
    uint32_t first = 0;
    uint32_t pictures = 0;
    std::array<video::Size, ADP_SELECT_RENDITIONS> sizes;  // by enum adp_select_rendition

    // Which of the clip's pictures the camera's picture `index` is.
    [[nodiscard]] uint32_t clip_picture(uint64_t index) const {
        return from + static_cast<uint32_t>((first - from + index % pictures) % (to - from));
    }
};

struct LayoutOptions {
    unsigned cameras = 4;
    video::Size window{512, 384};
    video::Size sub;        // 0x0: half the window's sides
    uint32_t from = 0;      // pictures of each clip that are used: [from, to)
    uint32_t to = 0;        // 0: to its end
    uint32_t pictures = 0;  // that each camera plays before it begins again; 0: all of [from, to)
};

// What the layout has to know of a clip.
struct ClipShape {
    video::Size size;
    uint32_t pictures = 0;
};

// Camera i plays clip i modulo their number. Cameras of one clip look at its corners first, then between them, and
// start evenly spread over it.
Result<std::vector<View>> lay_out(const std::vector<ClipShape>& clips, const LayoutOptions& options);

// The pictures of one rendition, before any encoding. One thread at a time.
class ViewPictures {
public:
    // The clip outlives it.
    static Result<ViewPictures> open(const video::Clip& clip, const View& view, adp_select_rendition rendition);
    // Valid until the next call. `index` counts the camera's own pictures and wraps as the camera does.
    video::Picture picture(uint64_t index);
    [[nodiscard]] video::Size size() const { return size_; }

private:
    struct SwsDeleter {
        void operator()(SwsContext* context) const;
    };

    ViewPictures() = default;

    const video::Clip* clip_ = nullptr;
    View view_;
    video::Size size_;
    std::unique_ptr<SwsContext, SwsDeleter> scaler_;  // null where nothing is scaled
    std::vector<uint8_t> i420_;
};

}  // namespace adapath::camera
