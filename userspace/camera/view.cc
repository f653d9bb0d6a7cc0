// Several cameras out of one clip.
#include "userspace/camera/view.h"

#include <cstring>

extern "C" {
#include <libswscale/swscale.h>
}

#include <fmt/format.h>

namespace adapath::camera {

namespace {

// Where windows lie, as twice their share of the room that they have: far from each other first.
constexpr std::array<std::array<int, 2>, 8> places = {{{0, 0}, {2, 2}, {2, 0}, {0, 2}, {1, 1}, {1, 0}, {0, 1}, {1, 2}}};

bool allowed(video::Size size) {
    return size.width % 2 == 0 && size.height % 2 == 0 && size.width >= 16 && size.height >= 16 && size.width <= 4096 &&
           size.height <= 4096;
}

void copy_plane(uint8_t* to, const uint8_t* from, int stride, int x, int y, int width, int height) {
    for (int row = 0; row < height; row++) {
        std::memcpy(to + static_cast<size_t>(row) * static_cast<size_t>(width),
                    from + static_cast<size_t>(y + row) * static_cast<size_t>(stride) + x, static_cast<size_t>(width));
    }
}

}  // namespace

Result<std::vector<View>> lay_out(const std::vector<ClipShape>& clips, const LayoutOptions& options) {
    if (clips.empty()) {
        return Error{"no clip to make cameras of"};
    }
    video::Size sub = options.sub;
    if (sub.width == 0) {
        sub = {options.window.width / 4 * 2, options.window.height / 4 * 2};
    }
    for (video::Size size : {options.window, sub}) {
        if (!allowed(size)) {
            return Error{fmt::format("pictures of {}x{}: both sides even, from 16 to 4096", size.width, size.height)};
        }
    }
    std::vector<View> views;
    for (unsigned i = 0; i < options.cameras; i++) {
        View view;
        view.camera = i;
        view.clip = i % clips.size();
        const ClipShape& clip = clips[view.clip];
        const unsigned of_this_clip = i / static_cast<unsigned>(clips.size());  // how many came before it
        const int room_x = clip.size.width - options.window.width;
        const int room_y = clip.size.height - options.window.height;
        if (room_x < 0 || room_y < 0) {
            return Error{fmt::format("a window of {}x{} does not fit into clip {} of {}x{}", options.window.width,
                                     options.window.height, view.clip, clip.size.width, clip.size.height)};
        }
        view.from = options.from;
        view.to = options.to == 0 ? clip.pictures : options.to;
        if (view.from >= view.to || view.to > clip.pictures) {
            return Error{fmt::format("pictures {} to {} of clip {}, which has {}", view.from, view.to, view.clip,
                                     clip.pictures)};
        }
        const std::array<int, 2>& place = places[of_this_clip % places.size()];
        view.window = {place[0] * room_x / 4 * 2, place[1] * room_y / 4 * 2, options.window};
        const uint64_t length = view.to - view.from;
        view.first = view.from + static_cast<uint32_t>(i * length / options.cameras);
        view.pictures = options.pictures == 0 ? static_cast<uint32_t>(length) : options.pictures;
        view.sizes[ADP_SELECT_SUB] = sub;
        view.sizes[ADP_SELECT_MAIN] = options.window;
        views.push_back(view);
    }
    return views;
}

void ViewPictures::SwsDeleter::operator()(SwsContext* context) const { sws_freeContext(context); }

Result<ViewPictures> ViewPictures::open(const video::Clip& clip, const View& view, adp_select_rendition rendition) {
    const Window& window = view.window;
    if (window.x < 0 || window.y < 0 || window.x % 2 != 0 || window.y % 2 != 0 || !allowed(window.size) ||
        window.x + window.size.width > clip.size().width || window.y + window.size.height > clip.size().height ||
        view.from >= view.to || view.to > clip.pictures() || view.pictures == 0) {
        return Error{fmt::format("camera {}'s view is not one of its clip", view.camera)};
    }
    ViewPictures pictures;
    pictures.clip_ = &clip;
    pictures.view_ = view;
    pictures.size_ = view.sizes[rendition];
    if (!allowed(pictures.size_)) {
        return Error{
            fmt::format("camera {}: pictures of {}x{}", view.camera, pictures.size_.width, pictures.size_.height)};
    }
    pictures.i420_.resize(picture_bytes(pictures.size_));
    if (pictures.size_.width != window.size.width || pictures.size_.height != window.size.height) {
        // Bit-exact, so that a camera's bytes are the same on each machine.
        pictures.scaler_.reset(sws_getContext(
            window.size.width, window.size.height, AV_PIX_FMT_YUV420P, pictures.size_.width, pictures.size_.height,
            AV_PIX_FMT_YUV420P, SWS_BICUBIC | SWS_ACCURATE_RND | SWS_BITEXACT, nullptr, nullptr, nullptr));
        if (pictures.scaler_ == nullptr) {
            return Error{fmt::format("cannot scale {}x{} to {}x{}", window.size.width, window.size.height,
                                     pictures.size_.width, pictures.size_.height)};
        }
    }
    return pictures;
}

video::Picture ViewPictures::picture(uint64_t index) {
    const video::Picture whole = clip_->picture(view_.clip_picture(index));
    const Window& w = view_.window;
    const int stride = clip_->size().width;
    const size_t luma = static_cast<size_t>(size_.width) * static_cast<size_t>(size_.height);
    uint8_t* y = i420_.data();
    uint8_t* u = y + luma;
    uint8_t* v = u + luma / 4;
    if (scaler_ == nullptr) {
        copy_plane(y, whole.y, stride, w.x, w.y, size_.width, size_.height);
        copy_plane(u, whole.u, stride / 2, w.x / 2, w.y / 2, size_.width / 2, size_.height / 2);
        copy_plane(v, whole.v, stride / 2, w.x / 2, w.y / 2, size_.width / 2, size_.height / 2);
    } else {
        const size_t at = static_cast<size_t>(w.y) * static_cast<size_t>(stride) + static_cast<size_t>(w.x);
        const size_t at_half =
            static_cast<size_t>(w.y / 2) * static_cast<size_t>(stride / 2) + static_cast<size_t>(w.x / 2);
        const uint8_t* from[4] = {whole.y + at, whole.u + at_half, whole.v + at_half, nullptr};
        const int from_strides[4] = {stride, stride / 2, stride / 2, 0};
        uint8_t* to[4] = {y, u, v, nullptr};
        const int to_strides[4] = {size_.width, size_.width / 2, size_.width / 2, 0};
        sws_scale(scaler_.get(), from, from_strides, 0, w.size.height, to, to_strides);
    }
    return {y, u, v};
}

}  // namespace adapath::camera
