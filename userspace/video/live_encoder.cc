// See live_encoder.h.
#include "userspace/video/live_encoder.h"

#include <utility>

namespace adapath::video {

namespace {

class PlainEncoder final : public LiveEncoder {
public:
    explicit PlainEncoder(Encoder encoder) : encoder_(std::move(encoder)) {}

    Result<EncodedFrame> encode(const Picture& picture, double kbps, uint64_t /*now_ns*/) override {
        if (Status set = encoder_.set_kbps(kbps); !set) {
            return set.error();
        }
        return encoder_.encode(picture, std::exchange(anew_, false));
    }

    void begin_anew() override { anew_ = true; }

private:
    Encoder encoder_;
    bool anew_ = false;
};

}  // namespace

Result<std::unique_ptr<LiveEncoder>> open_plain_encoder(uint16_t /*camera*/, Size size, double fps, double kbps) {
    Result<Encoder> encoder = Encoder::open(size, fps, kbps);
    if (!encoder) {
        return encoder.error();
    }
    return std::unique_ptr<LiveEncoder>(std::make_unique<PlainEncoder>(std::move(*encoder)));
}

}  // namespace adapath::video
