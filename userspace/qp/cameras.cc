// See cameras.h.
#include "userspace/qp/cameras.h"

#include <fmt/format.h>

#include <cstring>

#include "userspace/detect/pictures.h"

namespace adapath {

namespace {

constexpr uint64_t clip_memory = uint64_t{2} << 30;

// 0, step, 2 step, ... and back again, within 0 to `most`.
int to_and_fro(uint64_t index, int step, int most) {
    if (most == 0) return 0;
    const auto at = static_cast<int>(index * static_cast<uint64_t>(step) % static_cast<uint64_t>(2 * most));
    return at <= most ? at : 2 * most - at;
}

void copy_window(const uint8_t* from, int from_width, int x, int y, video::Size size, std::vector<uint8_t>& to) {
    for (int row = 0; row < size.height; row++) {
        const uint8_t* start = from + static_cast<ptrdiff_t>(y + row) * from_width + x;
        to.insert(to.end(), start, start + size.width);
    }
}

}  // namespace

Result<video::Clip> panned(const video::Clip& clip, video::Size window) {
    const video::Size whole = clip.size();
    if (window.width > whole.width || window.height > whole.height)
        return Error{fmt::format("a window of {}x{} in pictures of {}x{}", window.width, window.height, whole.width,
                                 whole.height)};
    std::vector<uint8_t> bytes;
    bytes.reserve(video::picture_bytes(window) * clip.pictures());
    for (uint32_t i = 0; i < clip.pictures(); i++) {
        const video::Picture picture = clip.picture(i);
        // Even positions: chroma has half of the pixels.
        const int x = to_and_fro(i, 4, (whole.width - window.width) / 2 * 2);
        const int y = to_and_fro(i, 2, (whole.height - window.height) / 2 * 2);
        const video::Size chroma{window.width / 2, window.height / 2};
        copy_window(picture.y, whole.width, x, y, window, bytes);
        copy_window(picture.u, whole.width / 2, x / 2, y / 2, chroma, bytes);
        copy_window(picture.v, whole.width / 2, x / 2, y / 2, chroma, bytes);
    }
    return video::Clip::from_i420(std::move(bytes), window);
}

const std::vector<Regime>& regimes() {
    static const std::vector<Regime> all{{"half-10", Regime::View::half, 10},
                                         {"pan-10", Regime::View::pan, 10},
                                         {"native-10", Regime::View::native, 10},
                                         {"native-30", Regime::View::native, 30}};
    return all;
}

Result<video::Clip> open_camera(const std::string& path, Regime::View view) {
    auto native = video::Clip::load(path, {}, clip_memory);
    if (!native || view == Regime::View::native) return native;
    const video::Size half{native->size().width / 4 * 2, native->size().height / 4 * 2};
    if (view == Regime::View::pan) return panned(*native, half);
    return video::Clip::load(path, half, clip_memory);
}

Result<std::vector<Image>> images(const video::Clip& clip, uint64_t first, uint64_t count) {
    std::vector<Image> result;
    for (uint64_t i = 0; i < count; i++) {
        auto image = to_image(clip.picture(first + i), clip.size());
        if (!image) return image.error();
        result.push_back(std::move(*image));
    }
    return result;
}

ImageCodes selector_codes(const video::Clip& clip, uint64_t first) {
    const auto width = static_cast<uint32_t>(clip.size().width);
    const auto height = static_cast<uint32_t>(clip.size().height);
    LumaPlane before;
    if (first > 0) before = {clip.picture(first - 1).y, width, height, width};
    return selector_codes({clip.picture(first).y, width, height, width}, before);
}

}  // namespace adapath
