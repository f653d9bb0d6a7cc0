// See background.h.
#include "userspace/server/background.h"

#include <algorithm>
#include <utility>

extern "C" {
#include <libavutil/buffer.h>
#include <libavutil/imgutils.h>
}

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace adapath::server {

using video::BlockMask;
using video::BlockUse;

namespace {

constexpr size_t bytes_a_pixel = 23;  // of a canvas: 22.5 (background.h)
// What reads planes may read a little behind their end.
constexpr size_t behind_bytes = 64;

// The picture again, its planes one behind the other without padding, as a view takes them.
Result<video::AvFrame> copy_of(const AVFrame& decoded, size_t bytes) {
    video::AvFrame frame(av_frame_alloc());
    AVBufferRef* buffer = frame ? av_buffer_alloc(bytes + behind_bytes) : nullptr;
    if (buffer == nullptr) return Error{"out of memory for a picture"};
    frame->buf[0] = buffer;
    frame->format = decoded.format;
    frame->width = decoded.width;
    frame->height = decoded.height;
    std::fill_n(buffer->data + bytes, behind_bytes, uint8_t{0});
    if (av_frame_copy_props(frame.get(), &decoded) < 0 ||
        av_image_fill_arrays(frame->data, frame->linesize, buffer->data, AV_PIX_FMT_YUV420P, decoded.width,
                             decoded.height, 1) != static_cast<int>(bytes))
        return Error{"a picture's planes could not be laid out"};
    av_image_copy(frame->data, frame->linesize, const_cast<const uint8_t**>(decoded.data), decoded.linesize,
                  AV_PIX_FMT_YUV420P, decoded.width, decoded.height);
    return frame;
}

}  // namespace

bool BackgroundRoom::take(size_t bytes) {
    size_t taken = taken_;
    do {
        if (bytes > most_ || taken > most_ - bytes) return false;
    } while (!taken_.compare_exchange_weak(taken, taken + bytes));
    return true;
}

RememberedBackground::Counters& RememberedBackground::Counters::operator+=(const Counters& other) {
    notes += other.notes;
    epochs += other.epochs;
    lost += other.lost;
    as_decoded += other.as_decoded;
    malformed += other.malformed;
    no_room += other.no_room;
    blocks += other.blocks;
    recalled += other.recalled;
    return *this;
}

void RememberedBackground::forget() {
    view_.reset();
    room_.give(std::exchange(taken_, 0));
}

void RememberedBackground::lose() {
    if (view_ != nullptr) counters_.lost++;
    forget();
}

RememberedBackground::Seen RememberedBackground::picture(const AccessUnit& unit, const AVFrame& decoded) {
    Seen seen;
    Result<std::optional<video::BackgroundSei>> sei = video::find_background_sei(unit.bytes);
    if (sei && !*sei) return seen;
    const Status followed = sei ? follow(**sei, unit, decoded, seen) : Status(sei.error());
    if (!followed) {
        if (counters_.malformed++ == 0)
            spdlog::warn("a note on the background is not followed: {}; others will only be counted",
                         followed.error().message);
        lose();
        seen.frame.reset();
    }
    if (view_ == nullptr) {
        counters_.as_decoded++;
        if (unit.idr && epoch_) seen.lost = Seen::Lost{*epoch_, no_room_};
    }
    return seen;
}

// An error: the note makes no sense. What only cannot be followed is none.
Status RememberedBackground::follow(const video::BackgroundSei& sei, const AccessUnit& unit, const AVFrame& decoded,
                                    Seen& seen) {
    if (sei.begins != unit.idr)
        return Error{sei.begins ? "a group's first note with a picture in the middle"
                                : "an IDR picture with a note on the one before"};
    if (sei.begins) {
        before_.clear();
        if (epoch_ != sei.epoch) {
            // The last one is over, without a gap.
            forget();
            epoch_ = sei.epoch;
            no_room_ = false;
            if (sei.number == 0) {
                if (Status begun = begin(sei.epoch, decoded); !begun) return begun;
            } else {
                counters_.lost++;  // the beginning came to nobody here
            }
        } else if (sei.number != number_) {
            lose();
        }
    } else if ((sei.number & 0xff) != (number_ & 0xff)) {
        lose();
    }
    if (view_ == nullptr) return {};
    if (decoded.width != size_.width || decoded.height != size_.height || decoded.format != AV_PIX_FMT_YUV420P)
        return Error{fmt::format("a picture of {}x{}, in an epoch of {}x{}", decoded.width, decoded.height, size_.width,
                                 size_.height)};
    const int columns = (size_.width + BlockMask::block - 1) / BlockMask::block;
    const int rows = (size_.height + BlockMask::block - 1) / BlockMask::block;
    Result<video::PictureNote> note = video::read_note(sei.note, columns, rows, before_);
    if (!note) return note.error();
    Result<video::AvFrame> frame = copy_of(decoded, video::picture_bytes(size_));
    if (!frame) return frame.error();
    if (Status applied = view_->apply(*note, {(*frame)->buf[0]->data, video::picture_bytes(size_)}); !applied)
        return applied;
    counters_.notes++;
    counters_.blocks += note->blocks.size();
    counters_.recalled += static_cast<uint64_t>(std::ranges::count(note->blocks, BlockUse::recalled));
    before_ = std::move(note->blocks);
    number_++;
    seen.frame = std::move(*frame);
    return {};
}

Status RememberedBackground::begin(uint32_t epoch, const AVFrame& decoded) {
    // A decoder's frame may be of any format that H.264 has; the sender's are of one.
    if (decoded.format != AV_PIX_FMT_YUV420P || decoded.width % 2 != 0 || decoded.height % 2 != 0 ||
        decoded.width < 16 || decoded.height < 16 || decoded.width > 4096 || decoded.height > 4096)
        return Error{fmt::format("epoch {} on pictures of {}x{} in format {}: even sides of 16 to 4096, in 4:2:0",
                                 epoch, decoded.width, decoded.height, decoded.format)};
    const size_t bytes = static_cast<size_t>(decoded.width) * static_cast<size_t>(decoded.height) * bytes_a_pixel;
    if (!room_.take(bytes)) {
        no_room_ = true;
        counters_.no_room++;
        return {};
    }
    taken_ = bytes;
    size_ = {decoded.width, decoded.height};
    view_ = std::make_unique<video::BackgroundView>(size_);
    number_ = 0;
    counters_.epochs++;
    return {};
}

}  // namespace adapath::server
