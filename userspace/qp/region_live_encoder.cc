// See region_live_encoder.h.
#include "userspace/qp/region_live_encoder.h"

#include <algorithm>

#include "userspace/qp/live_selector.h"
#include "userspace/video/chunk_quantiser.h"
#include "userspace/video/region_encoder.h"

namespace adapath {
namespace {

using namespace video;

class RegionLiveEncoder final : public LiveEncoder {
public:
    RegionLiveEncoder(const RegionLiveOptions& options, uint16_t camera, Size size, double fps, RegionEncoder encoder,
                      std::shared_ptr<ProgramCache> programs)
        : options_(options),
          size_(size),
          fps_(fps),
          encoder_(std::move(encoder)),
          selector_({options.directory, camera, options.threshold, options.dilation, 0}, std::move(programs)),
          quantiser_({.gap = options.gap, .pixels = static_cast<double>(size.width) * size.height}) {}

    Result<EncodedFrame> encode(const Picture& picture, double kbps, uint64_t now_ns) override {
        if (pictures_ == 0) {
            if (Status begun = begin_chunk(picture, kbps, now_ns); !begun) {
                return begun.error();
            }
        }
        Result<EncodedFrame> frame = encoder_.encode(picture);
        if (!frame) {
            return frame.error();
        }
        bytes_ += static_cast<double>(frame->bytes.size());
        waiting_ = static_cast<double>(planned_backlog(kbps, now_ns)) + static_cast<double>(frame->bytes.size());
        waited_ns_ = now_ns;
        if (++pictures_ == options_.group) {
            end_chunk(picture);
        }
        return frame;
    }

    [[nodiscard]] uint64_t planned_backlog(double kbps, uint64_t now_ns) const override {
        const double drained = kbps * 125 * static_cast<double>(now_ns - waited_ns_) / 1e9;
        return static_cast<uint64_t>(std::max(0.0, waiting_ - drained));
    }

    [[nodiscard]] std::optional<RegionStats> regions() const override {
        const LiveSelectorStats& selector = selector_.stats();
        RegionStats stats;
        stats.chunks = selector.decisions + selector.uniform;
        stats.decided = selector.decisions;
        stats.uniform = selector.uniform;
        stats.samples_lost = selector.samples_lost;
        stats.generation = selector.generation;
        stats.switches = selector.switches;
        stats.share = selector.decisions == 0 ? 0 : shares_ / static_cast<double>(selector.decisions);
        stats.qp_high = quality_.high;
        stats.qp_low = quality_.low;
        stats.bytes_over_budget = all_budgets_ > 0 ? all_bytes_ / all_budgets_ : 0;
        stats.state = selector.state;
        return stats;
    }

private:
    [[nodiscard]] QpPicture luma(const uint8_t* y) const {
        const auto width = static_cast<uint32_t>(size_.width);
        return {y, width, static_cast<uint32_t>(size_.height), width};
    }

    Status begin_chunk(const Picture& picture, double kbps, uint64_t now_ns) {
        const LiveSelector::Decision decision =
            selector_.decide(luma(picture.y), luma(before_.empty() ? nullptr : before_.data()), now_ns / 1000);
        const double budget = kbps * 125 * options_.group / fps_;
        // Nothing or all in high quality is one quality, and the encoder is spared its offsets.
        const bool regions = decision.mask && decision.share > 0 && decision.share < 1;
        quality_ = quantiser_.choose(budget, options_.group, regions, decision.share);
        Status begun = regions ? encoder_.begin_chunk(quality_, *decision.mask) : encoder_.begin_chunk(quality_.low);
        if (!begun) {
            return begun;
        }
        selector_.record(
            {quality_.high, quality_.low, static_cast<uint64_t>(last_bytes_), static_cast<uint64_t>(last_budget_)});
        budget_ = budget;
        share_ = regions ? decision.share : 0;
        shares_ += decision.mask ? decision.share : 0;
        return {};
    }

    void end_chunk(const Picture& picture) {
        quantiser_.learn(quality_, share_, pictures_, bytes_, budget_);
        last_bytes_ = bytes_;
        last_budget_ = budget_;
        all_bytes_ += bytes_;
        all_budgets_ += budget_;
        before_.assign(picture.y,
                       picture.y + size_t{static_cast<size_t>(size_.width)} * static_cast<size_t>(size_.height));
        bytes_ = 0;
        pictures_ = 0;
    }

    RegionLiveOptions options_;
    Size size_;
    double fps_;
    RegionEncoder encoder_;
    LiveSelector selector_;
    ChunkQuantiser quantiser_;
    std::vector<uint8_t> before_;  // luma of the last picture of the chunk before
    // The chunk under way.
    unsigned pictures_ = 0;
    double bytes_ = 0;
    double budget_ = 0;
    double share_ = 0;
    QualityPair quality_{0, 0};
    double last_bytes_ = 0;
    double last_budget_ = 0;
    double shares_ = 0;
    double all_bytes_ = 0;
    double all_budgets_ = 0;
    double waiting_ = 0;  // planned_backlog() at waited_ns_
    uint64_t waited_ns_ = 0;
};

}  // namespace

LiveEncoderFactory region_encoders(const RegionLiveOptions& options) {
    return [options, programs = std::make_shared<ProgramCache>()](uint16_t camera, Size size, double fps,
                                                                  double) -> Result<std::unique_ptr<LiveEncoder>> {
        // As fast as the one without regions.
        Result<RegionEncoder> encoder = RegionEncoder::open(size, {.fps = fps, .preset = "ultrafast"});
        if (!encoder) {
            return encoder.error();
        }
        return std::unique_ptr<LiveEncoder>(
            std::make_unique<RegionLiveEncoder>(options, camera, size, fps, std::move(*encoder), programs));
    };
}

}  // namespace adapath
