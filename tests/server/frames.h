// Frames without a decoder, and a network that finds what the test says.
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

extern "C" {
#include <libavutil/frame.h>
}

#include "models/detector/detector.h"
#include "userspace/video/av.h"

namespace adapath::testing {

// YUV 4:2:0, all of one grey; `mark` in the first pixel makes it another picture.
inline video::AvFrame grey_frame(int width, int height, uint8_t luma, uint8_t mark = 0) {
    video::AvFrame frame(av_frame_alloc());
    frame->width = width;
    frame->height = height;
    frame->format = AV_PIX_FMT_YUV420P;
    if (av_frame_get_buffer(frame.get(), 0) != 0) return nullptr;
    for (int plane = 0; plane < 3; plane++)
        for (int y = 0; y < (plane == 0 ? height : height / 2); y++)
            std::fill_n(frame->data[plane] + static_cast<ptrdiff_t>(y) * frame->linesize[plane], frame->linesize[plane],
                        plane == 0 ? luma : uint8_t{128});
    frame->data[0][0] = mark;
    return frame;
}

// A gate that the network waits at, so that a test decides when it is behind.
class Gate {
public:
    void open() {
        {
            std::lock_guard lock(mutex_);
            open_ = true;
        }
        changed_.notify_all();
    }
    void pass() {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return open_; });
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool open_ = false;
};

class FakeDetector : public Detector {
public:
    using Look = std::function<Result<std::vector<Box>>(const Image&)>;
    explicit FakeDetector(Look look) : look_(std::move(look)) {}
    Result<std::vector<Box>> detect(const Image& image, double) override { return look_(image); }
    Result<double> soft_accuracy(const Image&, std::span<const Box>) override { return 1.0; }
    // 1 in the left half, 0 in the right one.
    Result<PixelGradient> gradient(const Image& image, std::span<const Box>) override {
        PixelGradient gradient;
        for (int y = 0; y < image.height; y++)
            for (int x = 0; x < image.width * 3; x++) gradient.rgb.push_back(x < image.width * 3 / 2 ? 1.0F : 0.0F);
        return gradient;
    }
    [[nodiscard]] std::string class_name(int class_id) const override { return "thing " + std::to_string(class_id); }

private:
    Look look_;
};

}  // namespace adapath::testing
