// A camera's two renditions as H.264, encoded once: for the player, and for programs that need the bytes without
// sockets. The same clip, view and options give the same bytes.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include <adapath/select.h>

#include "codegen/result.h"
#include "userspace/camera/view.h"
#include "userspace/video/clip.h"

namespace adapath::camera {

struct Quality {
    int qp = 0;       // H.264 quantiser of all pictures, 1 to 51; 0: as `kbps` wants it
    double kbps = 0;  // mean bitrate, kbit/s; used where qp is 0
};

struct EncodingOptions {
    double fps = 10;      // pictures/s of every camera
    uint32_t group = 10;  // pictures of a chunk: an IDR picture, then the others. The loop's last may be shorter
    std::string preset = "veryfast";  // x264's; always with tuning zerolatency
    std::array<Quality, ADP_SELECT_RENDITIONS> quality = {{{36, 0}, {28, 0}}};  // by enum adp_select_rendition
};

// One rendition: access units (Annex B; IDR pictures have their parameter sets before them), one a picture.
class EncodedRendition {
public:
    [[nodiscard]] uint32_t pictures() const { return static_cast<uint32_t>(pictures_.size()); }
    [[nodiscard]] std::span<const uint8_t> access_unit(uint32_t picture) const {
        return std::span<const uint8_t>(data_).subspan(pictures_[picture].begin, pictures_[picture].bytes);
    }
    [[nodiscard]] uint32_t bytes(uint32_t picture) const { return pictures_[picture].bytes; }
    [[nodiscard]] bool key(uint32_t picture) const { return pictures_[picture].key; }
    [[nodiscard]] uint64_t bytes() const { return data_.size(); }

    void add(std::span<const uint8_t> access_unit, bool key);

private:
    struct Entry {
        size_t begin = 0;
        uint32_t bytes = 0;
        bool key = false;
    };
    std::vector<uint8_t> data_;
    std::vector<Entry> pictures_;
};

struct EncodedCamera {
    View view;
    std::array<EncodedRendition, ADP_SELECT_RENDITIONS> renditions;  // by enum adp_select_rendition
};

// `progress`, where there is one, is called after each picture with how many of both renditions are done; false stops
// the encoding with an error.
Result<EncodedCamera> encode(const video::Clip& clip, const View& view, const EncodingOptions& options,
                             const std::function<bool(uint64_t)>& progress = {});

}  // namespace adapath::camera
