// See region_live_encoder.h.
#include "userspace/qp/region_live_encoder.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "userspace/qp/live_selector.h"
#include "userspace/video/background_sei.h"
#include "userspace/video/chunk_quantiser.h"
#include "userspace/video/region_encoder.h"

namespace adapath {
namespace {

using namespace video;

// A chunk that sends the whole background may take this much of its budget: the later ones pay it back.
constexpr double first_of_epoch = 1.5;

// The rate controller tries out more by the frame, and takes it back by the frame where the link does not carry it. A
// chunk cannot be taken back: from one to the next the rate rises by this much at most. It falls as the controller
// says.
constexpr double rise = 1.25;

// A chunk in one quality for its label's sake may take this much of its budget: the later ones pay it back.
constexpr double explored_most = 1.5;

// Of what past chunks still leave waiting when one begins, so much of its budget is no surprise.
constexpr double carried = 0.25;

// The blocks that the regions touch.
BlockMask mask_of(std::span<const EncoderRequests::Region> regions, Size size) {
    BlockMask mask = empty_block_mask(size);
    // To whole blocks, outwards; a number outside the picture is at its edge.
    const auto first = [](float at, int pixels) {
        return static_cast<int>(std::clamp(at, 0.0F, 1.0F) * static_cast<float>(pixels)) / BlockMask::block;
    };
    for (const EncoderRequests::Region& region : regions) {
        if (!(region.x0 < region.x1 && region.y0 < region.y1)) {  // nor what is no number
            continue;
        }
        const int right = std::min(first(region.x1, size.width), mask.columns - 1);
        const int lower = std::min(first(region.y1, size.height), mask.rows - 1);
        for (int row = first(region.y0, size.height); row <= lower; row++) {
            for (int column = first(region.x0, size.width); column <= right; column++) {
                mask.high[static_cast<size_t>(row) * static_cast<size_t>(mask.columns) + static_cast<size_t>(column)] =
                    1;
            }
        }
    }
    return mask;
}

double share_of(const PictureNote& note, BlockUse use) {
    return static_cast<double>(std::ranges::count(note.blocks, use)) / static_cast<double>(note.blocks.size());
}

// The sender's side of one epoch: plan, numbers, and the notes as they go into the stream.
class Epoch {
public:
    explicit Epoch(Size size) : size_(size), plan_(size) {}

    // Of the picture that comes next; `asked` blocks are shown rather than recalled, which changes nothing for the
    // server's canvas.
    const PictureNote& next(const Picture& picture, bool idr, const BlockMask* asked) {
        if (idr) {
            before_.clear();
        }
        begins_ = idr;
        note_ = plan_.next(picture, idr);
        const size_t blocks = note_.blocks.size();
        size_t high = 0;
        size_t high_still = 0;
        shares_ = {share_of(note_, BlockUse::shown), 0, 0, share_of(note_, BlockUse::remembered)};
        for (size_t i = 0; asked != nullptr && i < blocks; i++) {
            if (asked->high[i] != 0 && note_.blocks[i] == BlockUse::recalled) {
                note_.blocks[i] = BlockUse::shown;
                high_still++;
            } else if (asked->high[i] != 0 && note_.blocks[i] == BlockUse::shown) {
                high++;
            }
        }
        shares_.high = static_cast<double>(high) / static_cast<double>(blocks);
        shares_.high_still = static_cast<double>(high_still) / static_cast<double>(blocks);
        shares_.shown -= shares_.high;
        return note_;
    }
    // The access unit with that note, valid until the next call.
    Result<std::span<const uint8_t>> noted(std::span<const uint8_t> access_unit) {
        Result<std::vector<uint8_t>> with = with_background_sei(
            access_unit, {begins_, number_of_epoch_, next_,
                          write_note(note_, (size_.width + BlockMask::block - 1) / BlockMask::block, before_)});
        if (!with) {
            return with.error();
        }
        next_++;
        before_ = note_.blocks;
        bytes_ = std::move(*with);
        return std::span<const uint8_t>(bytes_);
    }
    [[nodiscard]] const PictureNote& note() const { return note_; }
    // Of it.
    [[nodiscard]] const BackgroundShares& shares() const { return shares_; }
    [[nodiscard]] uint32_t number() const { return number_of_epoch_; }

private:
    Size size_;
    BackgroundPlan plan_;
    uint32_t number_of_epoch_ = std::random_device{}();
    uint32_t next_ = 0;
    bool begins_ = false;
    PictureNote note_;
    BackgroundShares shares_;
    std::vector<BlockUse> before_;
    std::vector<uint8_t> bytes_;
};

class RegionLiveEncoder final : public LiveEncoder {
public:
    RegionLiveEncoder(const RegionLiveOptions& options, uint16_t camera, Size size, double fps, RegionEncoder encoder,
                      std::shared_ptr<ProgramCache> programs)
        : options_(options),
          size_(size),
          fps_(fps),
          encoder_(std::move(encoder)),
          trials_(options.trials),
          quantiser_({.gap = options.gap, .pixels = static_cast<double>(size.width) * size.height}) {
        if (!options.directory.empty()) {
            LiveSelectorOptions selector{options.directory, camera, options.threshold, options.dilation};
            selector.samples = options.samples;
            // In a record a share has a byte.
            const double explore = options.background ? 0 : std::clamp(options.explore, 0.0, 1.0);
            selector.explore = static_cast<uint8_t>(std::min(std::ceil(explore * 256), 255.0));
            selector_.emplace(std::move(selector), std::move(programs));
        }
    }

    Result<EncodedFrame> encode(const Picture& picture, double kbps, uint64_t now_ns) override {
        const bool first = pictures_ == 0;
        if (first) {
            if (Status begun = begin_chunk(picture, kbps, now_ns); !begun) {
                return begun.error();
            }
        }
        Result<EncodedFrame> frame =
            chunk_.background ? encode_noted(encoder_, *sent_, picture, first) : encoder_.encode(picture);
        if (!frame) {
            return frame.error();
        }
        const auto bytes = static_cast<double>(frame->bytes.size());
        if (chunk_.both) {
            Result<EncodedFrame> other =
                chunk_.background ? other_->encode(picture) : encode_noted(*other_, *tried_, picture, first);
            if (!other) {
                return other.error();
            }
            other_bytes_ += static_cast<double>(other->bytes.size());
            background_.also++;
        }
        if (chunk_.background) {
            noted_++;
            background_.shown += share_of(sent_->note(), BlockUse::shown);
            background_.remembered += share_of(sent_->note(), BlockUse::remembered);
        }
        bytes_ += bytes;
        waiting_ = static_cast<double>(planned_backlog(kbps, now_ns));
        if (first) {
            // What a chunk before took beyond its budget was not meant: the rate controller is to see it.
            waiting_ = std::min(waiting_, budget_ * carried);
        }
        waiting_ += bytes;
        waited_ns_ = now_ns;
        if (++pictures_ == options_.group) {
            end_chunk(picture);
        }
        return frame;
    }

    void begin_anew() override {
        // Of a chunk that is cut short nothing is learned: its key frame is most of it.
        if (pictures_ > 0) {
            cut_++;
        }
        pictures_ = 0;
        bytes_ = 0;
        waiting_ = 0;
        before_.clear();
        (void)requests_.take();  // about what is lost
        if (sent_) {
            background_.lost++;
            sent_.reset();
            if (!options_.always) {
                trials_.lost();
            }
        }
    }

    [[nodiscard]] uint64_t planned_backlog(double kbps, uint64_t now_ns) const override {
        const double drained = kbps * 125 * static_cast<double>(now_ns - waited_ns_) / 1e9;
        return static_cast<uint64_t>(std::max(0.0, waiting_ - drained));
    }

    [[nodiscard]] std::optional<RegionStats> regions() const override {
        RegionStats stats;
        stats.chunks = chunks_;
        stats.cut = cut_;
        stats.uniform = chunks_;
        if (selector_) {
            const LiveSelectorStats& selector = selector_->stats();
            stats.decided = selector.decisions;
            stats.explored = selector.explored;
            stats.uniform = selector.uniform;
            stats.samples_lost = selector.samples_lost;
            stats.generation = selector.generation;
            stats.switches = selector.switches;
            stats.share = selector.decisions == 0 ? 0 : shares_ / static_cast<double>(selector.decisions);
            stats.state = selector.state;
        } else {
            stats.state = "no selector";
        }
        stats.qp_high = quality_.high;
        stats.qp_low = quality_.low;
        stats.bytes_over_budget = all_budgets_ > 0 ? all_bytes_ / all_budgets_ : 0;
        stats.asked = asked_chunks_;
        stats.asked_share = asked_chunks_ == 0 ? 0 : asked_shares_ / static_cast<double>(asked_chunks_);
        if (options_.background) {
            stats.background = background_;
            stats.background->sending = chunk_.background;
            stats.background->trials = trials_.trials();
            stats.background->ratio = trials_.ratio();
            const double noted = static_cast<double>(std::max<uint64_t>(noted_, 1));
            stats.background->shown /= noted;
            stats.background->remembered /= noted;
        }
        return stats;
    }

    [[nodiscard]] EncoderRequests* requests() override { return &requests_; }

private:
    [[nodiscard]] QpPicture luma(const uint8_t* y) const {
        const auto width = static_cast<uint32_t>(size_.width);
        return {y, width, static_cast<uint32_t>(size_.height), width};
    }

    // With the note of `epoch` and in its quality.
    Result<EncodedFrame> encode_noted(RegionEncoder& encoder, Epoch& epoch, const Picture& picture, bool first) {
        if (!first) {
            epoch.next(picture, false, asked_ ? &*asked_ : nullptr);
        }
        if (Status changed = encoder.change(quantisers_of(epoch.note())); !changed) {
            return changed.error();
        }
        Result<EncodedFrame> frame = encoder.encode(picture);
        if (!frame) {
            return frame.error();
        }
        Result<std::span<const uint8_t>> noted = epoch.noted(frame->bytes);
        if (!noted) {
            return noted.error();
        }
        return EncodedFrame{*noted, frame->key, frame->qp};
    }

    [[nodiscard]] QuantiserMap quantisers_of(const PictureNote& note) const {
        QuantiserMap map = quantisers(note, size_, background_quality_);
        for (size_t i = 0; asked_ && i < map.qp.size(); i++) {
            if (asked_->high[i] != 0) {
                map.qp[i] = std::min(map.qp[i], static_cast<uint8_t>(quality_.high));
            }
        }
        return map;
    }

    // What the server wants of this chunk.
    void heed(const EncoderRequests::Taken& taken) {
        asked_.reset();
        BlockMask mask = mask_of(taken.regions, size_);
        if (const double share = mask.share(); share > 0) {
            asked_shares_ += share;
            asked_chunks_++;
            asked_ = std::move(mask);
        }
        // Of an epoch that is over, nothing needs to be done.
        if (!taken.lost || !sent_ || taken.lost->epoch != sent_->number()) {
            return;
        }
        background_.lost++;
        sent_.reset();
        if (options_.always) {
            return;
        }
        if (taken.lost->no_room) {
            trials_.refused();
        } else {
            trials_.lost();
        }
    }

    Status begin_chunk(const Picture& picture, double kbps, uint64_t now_ns) {
        heed(requests_.take());
        LiveSelector::Decision decision;
        if (selector_) {
            decision =
                selector_->decide(luma(picture.y), luma(before_.empty() ? nullptr : before_.data()), now_ns / 1000);
        }
        shares_ += decision.mask ? decision.share : 0;
        kbps_ = kbps_ == 0 ? kbps : std::min(kbps, kbps_ * rise);
        budget_ = kbps_ * 125 * options_.group / fps_;
        chunk_ = {};
        mask_.reset();
        if (options_.background) {
            // The first chunk is uniform in any case: what it costs says how good a background there is room for.
            chunk_ = options_.always ? BackgroundTrials::Chunk{.background = chunks_ > 0} : trials_.next();
        }
        if (Status begun = chunk_.background ? begin_background(picture) : begin_uniform(picture, decision); !begun) {
            return begun;
        }
        if (selector_) {
            selector_->record({quality_.high, quality_.low, static_cast<uint64_t>(last_bytes_),
                               static_cast<uint64_t>(last_budget_), mask_ ? &*mask_ : nullptr});
        }
        chunks_++;
        return {};
    }

    Status begin_background(const Picture& picture) {
        const bool begins = chunk_.begins || !sent_;
        if (begins) {
            sent_.emplace(size_);
            background_.epochs++;
        }
        const PictureNote& note = sent_->next(picture, true, asked_ ? &*asked_ : nullptr);
        background_shares_ = sent_->shares();
        background_quality_ =
            quantiser_.choose(begins ? budget_ * first_of_epoch : budget_, options_.group, background_shares_);
        quality_ = {asked_ ? std::max(1, background_quality_.shown - options_.gap) : background_quality_.shown,
                    background_quality_.shown};
        background_.chunks++;
        if (Status begun = encoder_.begin_chunk(quantisers_of(note)); !begun) {
            return begun;
        }
        return chunk_.both ? begin_other() : Status{};
    }

    // One quality, or two by the selector's mask and what the server asked for.
    Status begin_uniform(const Picture& picture, const LiveSelector::Decision& decision) {
        sent_.reset();
        std::optional<BlockMask> mask = options_.background ? std::nullopt : decision.mask;
        if (mask && asked_) {
            for (size_t i = 0; i < mask->high.size(); i++) {
                mask->high[i] |= asked_->high[i];
            }
        } else if (asked_) {
            mask = asked_;
        }
        share_ = mask ? mask->share() : 0;
        // Nothing or all in high quality is one quality, and the encoder is spared its offsets.
        const bool regions = share_ > 0 && share_ < 1;
        share_ = regions ? share_ : 0;
        quality_ = quantiser_.choose(budget_, options_.group, regions, share_);
        if (regions) {
            mask_ = std::move(mask);
        }
        const bool explored = regions && decision.explored;
        if (explored) {
            // All of it as the high blocks would have been, as far as there is room.
            const QualityPair one = quantiser_.choose(budget_ * explored_most, options_.group, false, 0);
            quality_.high = quality_.low = std::max(quality_.high, one.low);
            share_ = 0;
        }
        Status begun =
            regions && !explored ? encoder_.begin_chunk(quality_, *mask_) : encoder_.begin_chunk(quality_.low);
        if (!begun || !chunk_.both) {
            return begun;
        }
        if (chunk_.begins || !tried_) {
            tried_.emplace(size_);
        }
        background_quality_ = background_quality(quality_.low);
        tried_->next(picture, true, asked_ ? &*asked_ : nullptr);
        background_shares_ = tried_->shares();
        return begin_other();
    }

    // The chunk once more, the other way: only its bytes are wanted.
    Status begin_other() {
        other_bytes_ = 0;
        if (!other_) {
            Result<RegionEncoder> opened = open(size_, fps_);
            if (!opened) {
                return opened.error();
            }
            other_.emplace(std::move(*opened));
        }
        if (!chunk_.background) {
            return other_->begin_chunk(quantisers_of(tried_->note()));
        }
        return asked_ ? other_->begin_chunk(quality_, *asked_) : other_->begin_chunk(quality_.low);
    }

    void end_chunk(const Picture& picture) {
        if (chunk_.background) {
            quantiser_.learn(background_quality_, background_shares_, pictures_, bytes_, budget_);
            if (chunk_.both) {
                quantiser_.observe(quality_, asked_ ? asked_->share() : 0, pictures_, other_bytes_);
                trials_.learn(bytes_, other_bytes_);
            }
        } else {
            quantiser_.learn(quality_, share_, pictures_, bytes_, budget_);
            if (chunk_.both) {
                quantiser_.observe(background_quality_, background_shares_, pictures_, other_bytes_);
                trials_.learn(other_bytes_, bytes_);
            }
        }
        last_bytes_ = bytes_;
        last_budget_ = budget_;
        all_bytes_ += bytes_;
        all_budgets_ += budget_;
        if (selector_) {
            before_.assign(picture.y,
                           picture.y + size_t{static_cast<size_t>(size_.width)} * static_cast<size_t>(size_.height));
        }
        bytes_ = 0;
        pictures_ = 0;
    }

public:
    // As fast as the one without regions.
    static Result<RegionEncoder> open(Size size, double fps) {
        return RegionEncoder::open(size, {.fps = fps, .preset = "ultrafast"});
    }

private:
    RegionLiveOptions options_;
    Size size_;
    double fps_;
    RegionEncoder encoder_;
    std::optional<LiveSelector> selector_;
    EncoderRequests requests_;
    BackgroundTrials trials_;
    ChunkQuantiser quantiser_;
    std::optional<RegionEncoder> other_;  // of chunks that are encoded both ways
    std::optional<Epoch> sent_;           // that the server follows
    std::optional<Epoch> tried_;          // of a trial, not sent
    std::vector<uint8_t> before_;         // luma of the last picture of the chunk before, for the selector
    // The chunk under way.
    unsigned pictures_ = 0;
    BackgroundTrials::Chunk chunk_;
    std::optional<BlockMask> asked_;  // where the server wants to see better; never empty
    double bytes_ = 0;
    double other_bytes_ = 0;
    double kbps_ = 0;  // that the budget is of
    double budget_ = 0;
    double share_ = 0;               // of the blocks, in high quality; 0: one quality
    std::optional<BlockMask> mask_;  // of the two qualities, obeyed or (explored) not
    QualityPair quality_{0, 0};
    BackgroundQuality background_quality_;
    BackgroundShares background_shares_;
    // Of all chunks.
    uint64_t chunks_ = 0;
    uint64_t cut_ = 0;  // that ended early, since a connection did
    double last_bytes_ = 0;
    double last_budget_ = 0;
    double shares_ = 0;
    double all_bytes_ = 0;
    double all_budgets_ = 0;
    uint64_t asked_chunks_ = 0;
    double asked_shares_ = 0;
    uint64_t noted_ = 0;          // pictures
    BackgroundStats background_;  // shares: sums
    double waiting_ = 0;          // planned_backlog() at waited_ns_
    uint64_t waited_ns_ = 0;
};

}  // namespace

LiveEncoderFactory region_encoders(const RegionLiveOptions& options) {
    return [options, programs = std::make_shared<ProgramCache>()](uint16_t camera, Size size, double fps,
                                                                  double) -> Result<std::unique_ptr<LiveEncoder>> {
        Result<RegionEncoder> encoder = RegionLiveEncoder::open(size, fps);
        if (!encoder) {
            return encoder.error();
        }
        return std::unique_ptr<LiveEncoder>(
            std::make_unique<RegionLiveEncoder>(options, camera, size, fps, std::move(*encoder), programs));
    };
}

}  // namespace adapath
