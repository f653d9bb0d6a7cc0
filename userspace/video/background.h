// The background that sender and server both remember, so that it need not be sent again with every IDR picture.
//
// A camera's background is sent in good quality once. From then on the sender gives its macroblocks the worst
// quantiser, and the server puts what it remembers in their place before its network looks. So the network sees a good
// background always (a bad one costs it objects elsewhere: it looks at the whole picture), and bits go to what moves.
//
// What the server has to do is told with each picture, in a few bytes (PictureNote). A decoder that knows nothing of it
// still shows the picture, with a coarse background. The camera may move by whole pixels: the canvas is larger than the
// picture, and the note says how far the picture has moved on it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "codegen/result.h"
#include "userspace/video/block_mask.h"
#include "userspace/video/clip.h"

namespace adapath::video {

// A place that pictures are windows of. 4:2:0, a pixel known or not. Windows keep to even places.
class Canvas {
public:
    // Room for the picture to move by its own size each way; a picture that leaves it starts a new canvas. 16 bytes for
    // each of the picture's pixels.
    explicit Canvas(Size picture);

    // The picture moves that many pixels to the right and down, even numbers. True if it left the canvas, and all was
    // forgotten.
    bool move(int right, int down);

    // Blocks by number, row by row.
    [[nodiscard]] bool known(int block) const;  // every pixel of it
    [[nodiscard]] bool like(int block,
                            const Picture& picture) const;  // known, and the picture is the same but for noise
    void remember(int block, const Picture& picture);
    // Into a picture of the size, I420 without padding. Only where known.
    void show(int block, std::span<uint8_t> i420) const;
    void forget();

    [[nodiscard]] int blocks() const { return columns_ * rows_; }

private:
    struct Box {
        int x0, y0, x1, y1;  // in the picture
    };
    [[nodiscard]] Box box_of(int block) const;
    [[nodiscard]] bool all_known(const Box& box) const;
    [[nodiscard]] std::ptrdiff_t known_at(int x, int y) const;  // in known_, of the picture's pixel

    Size picture_;
    Size size_;
    int columns_ = 0;
    int rows_ = 0;
    int x_ = 0;  // of the picture's upper left corner
    int y_ = 0;
    std::vector<uint8_t> luma_;
    std::vector<uint8_t> u_;
    std::vector<uint8_t> v_;
    std::vector<uint8_t> known_;         // one for 2x2 pixels
    std::vector<uint8_t> known_blocks_;  // of the picture where it is now
};

// What the server does with one picture's macroblocks.
enum class BlockUse : uint8_t {
    shown,       // as decoded
    remembered,  // as decoded, and put on the canvas
    recalled     // taken from the canvas
};

struct PictureNote {
    int right = 0;  // how far the picture has moved since the one before it
    int down = 0;
    std::vector<BlockUse> blocks;

    bool operator==(const PictureNote&) const = default;
};

// Quantisers of the blocks by their use.
struct BackgroundQuality {
    int shown = 38;
    int remembered = 30;  // sent seldom, seen always
    int recalled = 51;    // never seen
};
// What goes with that quantiser (1 to 51) of what is shown: where that is coarse, a fine background costs more than it
// brings (docs/qp.md), and where it is finer than BackgroundQuality{}'s background, this is as fine.
[[nodiscard]] BackgroundQuality background_quality(int shown);
// Of a picture of that size, which the note is about.
[[nodiscard]] QuantiserMap quantisers(const PictureNote& note, Size size, const BackgroundQuality& quality);

// As bytes: the movement, then the blocks against the note before it (whose blocks may be none, at an IDR picture: then
// against all shown), arithmetically coded by what the neighbours are. What was expected costs a byte.
[[nodiscard]] std::vector<uint8_t> write_note(const PictureNote& note, int columns, std::span<const BlockUse> before);
// Hostile bytes are an error or a note of that many blocks. Bytes that were cut off, and those of a note that came
// after another one than `before`, are an error 255 times in 256; bytes that are left over, always.
Result<PictureNote> read_note(std::span<const uint8_t> bytes, int columns, int rows, std::span<const BlockUse> before);

// How far the picture's window has moved since `before`, in even pixels, at most 8 each way; nothing if that does not
// explain the change well.
struct Movement {
    int right = 0;
    int down = 0;
};
[[nodiscard]] Movement movement(const Picture& before, const Picture& now, Size size);

// The sender's side: what each block of the next picture is.
class BackgroundPlan {
public:
    struct Options {
        // A block of the background is sent anew after so many IDR pictures, a few blocks each time: what was lost on
        // the way, and a slow change of light, mend themselves.
        int renew = 40;
    };
    explicit BackgroundPlan(Size size);
    BackgroundPlan(Size size, const Options& options);

    // Of every picture, in order.
    PictureNote next(const Picture& picture, bool idr);

private:
    Size size_;
    Options options_;
    Canvas canvas_;                // of pictures as they were before encoding
    std::vector<uint8_t> before_;  // the picture before, luma
    std::vector<uint8_t> now_;
    std::vector<uint8_t> sampled_before_;  // the pixels of it that the search for movement compares
    Movement moved_;
    uint64_t idrs_ = 0;
};

// The server's side.
class BackgroundView {
public:
    explicit BackgroundView(Size size);
    // A decoded picture, I420 without padding, becomes what the network looks at.
    Status apply(const PictureNote& note, std::span<uint8_t> i420);

private:
    Size size_;
    Canvas canvas_;
};

}  // namespace adapath::video
