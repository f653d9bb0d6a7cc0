// See stream_format.h.
#include "userspace/video/stream_format.h"

#include "userspace/video/framing.h"

namespace adapath::video {

namespace {

class Framing final : public StreamFormat {
public:
    Result<std::vector<uint8_t>> frame(const adp_video_header& header, std::span<const uint8_t> access_unit) override {
        return frame_bytes(header, access_unit);
    }
    [[nodiscard]] std::vector<uint8_t> end(const adp_video_header& header) const override {
        return frame_bytes(header, {});
    }
};

}  // namespace

Result<std::unique_ptr<StreamFormat>> open_framing(uint16_t /*camera*/, Size /*size*/) {
    return std::unique_ptr<StreamFormat>(std::make_unique<Framing>());
}

}  // namespace adapath::video
