// See background.h.
#include "userspace/video/background.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

namespace adapath::video {

namespace {

constexpr int side = BlockMask::block;
// A block is the same but for noise: luma's mean difference, and that of any 4x4 pixels' sums (a small thing that has
// come is seen there), in levels.
constexpr int same_mean = 5;
constexpr int same_cell = 9;
constexpr int cell = 4;
// The search for the camera's movement, and how many pixels of a row or column it leaves out.
constexpr int most_movement = 8;
constexpr int movement_stride = 4;
constexpr int still_mean = 2;  // levels of difference that a still camera has
// Of a note: bits that a distance between runs always has.
constexpr int distance_bits = 3;

// alike() for a block that the picture's edge does not cut: loops of fixed length, which compilers turn into vectors.
bool whole_alike(const uint8_t* a, int a_stride, const uint8_t* b, int b_stride) {
    int all = 0;
    for (int y = 0; y < side; y += cell) {
        int16_t sums[side] = {};
        int16_t absolute[side] = {};
        for (int j = 0; j < cell; j++, a += a_stride, b += b_stride) {
            for (int x = 0; x < side; x++) {
                auto difference = static_cast<int16_t>(a[x] - b[x]);
                sums[x] = static_cast<int16_t>(sums[x] + difference);
                absolute[x] = static_cast<int16_t>(absolute[x] + (difference < 0 ? -difference : difference));
            }
        }
        for (int x = 0; x < side; x += cell) {
            int sum = sums[x] + sums[x + 1] + sums[x + 2] + sums[x + 3];
            all += absolute[x] + absolute[x + 1] + absolute[x + 2] + absolute[x + 3];
            if (std::abs(sum) > same_cell * cell * cell) {
                return false;
            }
        }
    }
    return all <= same_mean * side * side;
}

// Are two blocks of luma the same but for noise?
bool alike(const uint8_t* a, int a_stride, const uint8_t* b, int b_stride, int width, int height) {
    if (width == side && height == side) {
        return whole_alike(a, a_stride, b, b_stride);
    }
    int all = 0;
    for (int y = 0; y < height; y += cell) {
        for (int x = 0; x < width; x += cell) {
            int h = std::min(cell, height - y);
            int w = std::min(cell, width - x);
            int sum = 0;
            for (int j = 0; j < h; j++) {
                for (int i = 0; i < w; i++) {
                    int difference = a[(y + j) * a_stride + x + i] - b[(y + j) * b_stride + x + i];
                    sum += difference;
                    all += std::abs(difference);
                }
            }
            if (std::abs(sum) > same_cell * w * h) {
                return false;
            }
        }
    }
    return all <= same_mean * width * height;
}

void copy(const uint8_t* from, int from_stride, uint8_t* to, int to_stride, int width, int height) {
    for (int y = 0; y < height; y++) {
        std::memcpy(to + static_cast<std::ptrdiff_t>(y) * to_stride,
                    from + static_cast<std::ptrdiff_t>(y) * from_stride, static_cast<size_t>(width));
    }
}

Picture picture_of(const std::vector<uint8_t>& i420, Size size) {
    const uint8_t* y = i420.data();
    const uint8_t* u = y + static_cast<std::ptrdiff_t>(size.width) * size.height;
    return {y, u, u + static_cast<std::ptrdiff_t>(size.width) * size.height / 4};
}

// A block that was remembered is recalled from then on, if nothing changes.
BlockUse expected(BlockUse before) { return before == BlockUse::remembered ? BlockUse::recalled : before; }

// The two that it is not.
std::array<BlockUse, 2> others(BlockUse use) {
    switch (use) {
        case BlockUse::shown:
            return {BlockUse::remembered, BlockUse::recalled};
        case BlockUse::remembered:
            return {BlockUse::shown, BlockUse::recalled};
        case BlockUse::recalled:
            break;
    }
    return {BlockUse::shown, BlockUse::remembered};
}

// People are taller than wide: columns make longer runs than rows. The block's number at that place of the walk.
size_t walk(size_t place, size_t columns, size_t blocks) {
    size_t rows = blocks / columns;
    return place % rows * columns + place / rows;
}

class BitWriter {
public:
    void bit(uint32_t value) {
        if (used_ % 8 == 0) {
            bytes_.push_back(0);
        }
        bytes_.back() = static_cast<uint8_t>(bytes_.back() | (value & 1) << (7 - used_ % 8));
        used_++;
    }
    // Exp-Golomb, as in H.264, with `low` bits of the number as they are.
    void number(uint32_t value, int low = 0) {
        for (int i = 0; i < low; i++) {
            bit(value >> i);
        }
        value >>= low;
        int length = 0;
        while ((uint64_t{value} + 1) >> (length + 1) != 0) {
            length++;
        }
        for (int i = 0; i < length; i++) {
            bit(0);
        }
        for (int i = length; i >= 0; i--) {
            bit(static_cast<uint32_t>((uint64_t{value} + 1) >> i));
        }
    }
    std::vector<uint8_t> take() { return std::move(bytes_); }

private:
    std::vector<uint8_t> bytes_;
    size_t used_ = 0;
};

// Reads zeros behind the end, and remembers that it did.
class BitReader {
public:
    explicit BitReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}
    uint32_t bit() {
        if (next_ >= bytes_.size() * 8) {
            failed_ = true;
            return 0;
        }
        uint32_t value = bytes_[next_ / 8] >> (7 - next_ % 8) & 1;
        next_++;
        return value;
    }
    uint32_t number(int low = 0) {
        uint32_t rest = 0;
        for (int i = 0; i < low; i++) {
            rest |= bit() << i;
        }
        int length = 0;
        while (bit() == 0) {
            if (++length > 24 || failed_) {  // no number here has so many digits
                failed_ = true;
                return 0;
            }
        }
        uint32_t value = 1;
        for (int i = 0; i < length; i++) {
            value = value << 1 | bit();
        }
        return (value - 1) << low | rest;
    }
    [[nodiscard]] bool failed() const { return failed_; }
    [[nodiscard]] size_t bytes_read() const { return (next_ + 7) / 8; }

private:
    std::span<const uint8_t> bytes_;
    size_t next_ = 0;
    bool failed_ = false;
};

// Signed even numbers: 0, 2, -2, 4, ...
uint32_t folded(int value) { return static_cast<uint32_t>(value > 0 ? value - 1 : -value); }
int unfolded(uint32_t value) {
    int number = static_cast<int>(value);
    return number % 2 != 0 ? number + 1 : -number;
}

}  // namespace

Canvas::Canvas(Size picture) : picture_(picture), size_{picture.width * 3, picture.height * 3} {
    columns_ = (picture.width + side - 1) / side;
    rows_ = (picture.height + side - 1) / side;
    auto pixels = static_cast<size_t>(size_.width) * static_cast<size_t>(size_.height);
    luma_.resize(pixels);
    u_.resize(pixels / 4);
    v_.resize(pixels / 4);
    known_.resize(pixels);
    forget();
}

void Canvas::forget() {
    std::fill(known_.begin(), known_.end(), uint8_t{0});
    x_ = picture_.width / 2 * 2;
    y_ = picture_.height / 2 * 2;
}

bool Canvas::move(int right, int down) {
    x_ += right;
    y_ += down;
    if (x_ >= 0 && y_ >= 0 && x_ + picture_.width <= size_.width && y_ + picture_.height <= size_.height) {
        return false;
    }
    forget();
    return true;
}

Canvas::Box Canvas::box_of(int block) const {
    int x = block % columns_ * side;
    int y = block / columns_ * side;
    return {x, y, std::min(picture_.width, x + side), std::min(picture_.height, y + side)};
}

bool Canvas::known(int block) const {
    Box box = box_of(block);
    for (int y = box.y0; y < box.y1; y++) {
        const uint8_t* row = known_.data() + static_cast<std::ptrdiff_t>(y_ + y) * size_.width + x_;
        if (std::memchr(row + box.x0, 0, static_cast<size_t>(box.x1 - box.x0)) != nullptr) {
            return false;
        }
    }
    return true;
}

bool Canvas::like(int block, const Picture& picture) const {
    Box box = box_of(block);
    return known(block) && alike(luma_.data() + static_cast<std::ptrdiff_t>(y_ + box.y0) * size_.width + x_ + box.x0,
                                 size_.width, picture.y + static_cast<std::ptrdiff_t>(box.y0) * picture_.width + box.x0,
                                 picture_.width, box.x1 - box.x0, box.y1 - box.y0);
}

void Canvas::remember(int block, const Picture& picture) {
    Box box = box_of(block);
    int width = box.x1 - box.x0;
    int height = box.y1 - box.y0;
    std::ptrdiff_t to = static_cast<std::ptrdiff_t>(y_ + box.y0) * size_.width + x_ + box.x0;
    copy(picture.y + static_cast<std::ptrdiff_t>(box.y0) * picture_.width + box.x0, picture_.width, luma_.data() + to,
         size_.width, width, height);
    std::ptrdiff_t from = static_cast<std::ptrdiff_t>(box.y0 / 2) * (picture_.width / 2) + box.x0 / 2;
    to = static_cast<std::ptrdiff_t>((y_ + box.y0) / 2) * (size_.width / 2) + (x_ + box.x0) / 2;
    copy(picture.u + from, picture_.width / 2, u_.data() + to, size_.width / 2, width / 2, height / 2);
    copy(picture.v + from, picture_.width / 2, v_.data() + to, size_.width / 2, width / 2, height / 2);
    for (int y = box.y0; y < box.y1; y++) {
        std::fill_n(known_.begin() + static_cast<std::ptrdiff_t>(y_ + y) * size_.width + x_ + box.x0, width,
                    uint8_t{1});
    }
}

void Canvas::show(int block, std::span<uint8_t> i420) const {
    if (!known(block)) {
        return;
    }
    Box box = box_of(block);
    int width = box.x1 - box.x0;
    int height = box.y1 - box.y0;
    uint8_t* y = i420.data();
    uint8_t* u = y + static_cast<std::ptrdiff_t>(picture_.width) * picture_.height;
    uint8_t* v = u + static_cast<std::ptrdiff_t>(picture_.width) * picture_.height / 4;
    copy(luma_.data() + static_cast<std::ptrdiff_t>(y_ + box.y0) * size_.width + x_ + box.x0, size_.width,
         y + static_cast<std::ptrdiff_t>(box.y0) * picture_.width + box.x0, picture_.width, width, height);
    std::ptrdiff_t from = static_cast<std::ptrdiff_t>((y_ + box.y0) / 2) * (size_.width / 2) + (x_ + box.x0) / 2;
    std::ptrdiff_t to = static_cast<std::ptrdiff_t>(box.y0 / 2) * (picture_.width / 2) + box.x0 / 2;
    copy(u_.data() + from, size_.width / 2, u + to, picture_.width / 2, width / 2, height / 2);
    copy(v_.data() + from, size_.width / 2, v + to, picture_.width / 2, width / 2, height / 2);
}

QuantiserMap quantisers(const PictureNote& note, Size size, const BackgroundQuality& quality) {
    QuantiserMap map{(size.width + side - 1) / side, (size.height + side - 1) / side, {}};
    for (BlockUse use : note.blocks) {
        map.qp.push_back(static_cast<uint8_t>(use == BlockUse::shown        ? quality.shown
                                              : use == BlockUse::remembered ? quality.remembered
                                                                            : quality.recalled));
    }
    return map;
}

std::vector<uint8_t> write_note(const PictureNote& note, int columns, std::span<const BlockUse> before) {
    BitWriter out;
    bool moved = note.right != 0 || note.down != 0;
    out.bit(moved ? 1 : 0);
    if (moved) {
        out.number(folded(note.right));
        out.number(folded(note.down));
    }
    size_t count = note.blocks.size();
    auto use = [&](size_t i) { return note.blocks[walk(i, static_cast<size_t>(columns), count)]; };
    auto foreseen = [&](size_t i) {
        return before.empty() ? BlockUse::shown : expected(before[walk(i, static_cast<size_t>(columns), count)]);
    };
    size_t done = 0;
    for (size_t i = 0; i < count;) {
        if (use(i) == foreseen(i)) {
            i++;
            continue;
        }
        size_t end = i + 1;
        while (end < count && use(end) == use(i) && foreseen(end) == foreseen(i)) {
            end++;
        }
        out.bit(1);  // one more run
        out.number(static_cast<uint32_t>(i - done), distance_bits);
        out.bit(use(i) == others(foreseen(i))[1] ? 1 : 0);
        out.number(static_cast<uint32_t>(end - i - 1));
        done = i = end;
    }
    out.bit(0);
    return out.take();
}

Result<PictureNote> read_note(std::span<const uint8_t> bytes, int columns, int rows, std::span<const BlockUse> before) {
    auto count = static_cast<size_t>(columns) * static_cast<size_t>(rows);
    if (columns <= 0 || rows <= 0 || (!before.empty() && before.size() != count)) {
        return Error{fmt::format("a note on {}x{} blocks after one on {}", columns, rows, before.size())};
    }
    BitReader in(bytes);
    PictureNote note;
    if (in.bit() != 0) {
        note.right = unfolded(in.number());
        note.down = unfolded(in.number());
        if (std::abs(note.right) > most_movement || std::abs(note.down) > most_movement || note.right % 2 != 0 ||
            note.down % 2 != 0) {
            return Error{fmt::format("a note of a picture that moved by {} and {} pixels", note.right, note.down)};
        }
    }
    for (size_t i = 0; i < count; i++) {
        note.blocks.push_back(before.empty() ? BlockUse::shown : expected(before[i]));
    }
    size_t done = 0;
    while (in.bit() != 0) {
        uint64_t start = done + uint64_t{in.number(distance_bits)};
        size_t second = in.bit();
        uint64_t end = start + in.number() + 1;
        if (in.failed() || end > count) {
            return Error{"a note with more blocks than the picture has"};
        }
        BlockUse use = others(note.blocks[walk(start, static_cast<size_t>(columns), count)])[second];
        for (size_t i = start; i < end; i++) {
            note.blocks[walk(i, static_cast<size_t>(columns), count)] = use;
        }
        done = end;
    }
    if (in.failed() || in.bytes_read() != bytes.size()) {
        return Error{fmt::format("a note of {} bytes that ends elsewhere", bytes.size())};
    }
    return note;
}

Movement movement(const Picture& before, const Picture& now, Size size) {
    auto difference = [&](int right, int down) {
        uint64_t sum = 0;
        for (int y = most_movement; y < size.height - most_movement; y += movement_stride) {
            const uint8_t* a = now.y + static_cast<std::ptrdiff_t>(y) * size.width;
            const uint8_t* b = before.y + static_cast<std::ptrdiff_t>(y + down) * size.width + right;
            for (int x = most_movement; x < size.width - most_movement; x += movement_stride) {
                sum += static_cast<uint64_t>(std::abs(a[x] - b[x]));
            }
        }
        return sum;
    };
    const uint64_t still = difference(0, 0);
    uint64_t looked_at = static_cast<uint64_t>(std::max(0, size.width - 2 * most_movement)) *
                         static_cast<uint64_t>(std::max(0, size.height - 2 * most_movement)) /
                         (movement_stride * movement_stride);
    if (still <= looked_at * still_mean) {
        return {};
    }
    Movement best;
    uint64_t least = still;
    for (int down = -most_movement; down <= most_movement; down += 2) {
        for (int right = -most_movement; right <= most_movement; right += 2) {
            uint64_t one = difference(right, down);
            if (one < least) {
                least = one;
                best = {right, down};
            }
        }
    }
    // What moves in the picture must not look like a movement of it.
    return least * 2 < still ? best : Movement{};
}

BackgroundPlan::BackgroundPlan(Size size) : BackgroundPlan(size, Options{}) {}

BackgroundPlan::BackgroundPlan(Size size, const Options& options) : size_(size), options_(options), canvas_(size) {}

PictureNote BackgroundPlan::next(const Picture& picture, bool idr) {
    PictureNote note;
    note.blocks.assign(static_cast<size_t>(canvas_.blocks()), BlockUse::shown);
    Picture before;
    if (!before_.empty()) {
        before = picture_of(before_, size_);
        Movement moved = movement(before, picture, size_);
        note.right = moved.right;
        note.down = moved.down;
        canvas_.move(note.right, note.down);
    }
    auto still = [&](int block) {
        int columns = (size_.width + side - 1) / side;
        int x0 = block % columns * side;
        int y0 = block / columns * side;
        int width = std::min(size_.width - x0, side);
        int height = std::min(size_.height - y0, side);
        int then_x = x0 + note.right;
        int then_y = y0 + note.down;
        // What has just come into the picture was not there before: nothing says that it moves.
        if (before_.empty() || then_x < 0 || then_y < 0 || then_x + width > size_.width ||
            then_y + height > size_.height) {
            return true;
        }
        return alike(before.y + static_cast<std::ptrdiff_t>(then_y) * size_.width + then_x, size_.width,
                     picture.y + static_cast<std::ptrdiff_t>(y0) * size_.width + x0, size_.width, width, height);
    };
    for (int block = 0; block < canvas_.blocks(); block++) {
        auto turn = static_cast<uint64_t>(block) * 7919 + idrs_;
        bool renewed = idr && options_.renew > 0 && turn % static_cast<uint64_t>(options_.renew) == 0;
        BlockUse& use = note.blocks[static_cast<size_t>(block)];
        if (!renewed && canvas_.like(block, picture)) {
            use = BlockUse::recalled;
        } else if ((idr || !canvas_.known(block)) && still(block)) {
            use = BlockUse::remembered;
            canvas_.remember(block, picture);
        }
    }
    idrs_ += idr ? 1 : 0;
    before_.resize(picture_bytes(size_));
    size_t luma = static_cast<size_t>(size_.width) * static_cast<size_t>(size_.height);
    std::memcpy(before_.data(), picture.y, luma);
    std::memcpy(before_.data() + luma, picture.u, luma / 4);
    std::memcpy(before_.data() + luma + luma / 4, picture.v, luma / 4);
    return note;
}

BackgroundView::BackgroundView(Size size) : size_(size), canvas_(size) {}

Status BackgroundView::apply(const PictureNote& note, std::span<uint8_t> i420) {
    if (note.blocks.size() != static_cast<size_t>(canvas_.blocks()) || i420.size() != picture_bytes(size_)) {
        return Error{fmt::format("a note on {} blocks for a picture of {} bytes: {}x{} have {} and {}",
                                 note.blocks.size(), i420.size(), size_.width, size_.height, canvas_.blocks(),
                                 picture_bytes(size_))};
    }
    canvas_.move(note.right, note.down);
    const uint8_t* u = i420.data() + static_cast<std::ptrdiff_t>(size_.width) * size_.height;
    Picture picture{i420.data(), u, u + static_cast<std::ptrdiff_t>(size_.width) * size_.height / 4};
    for (int block = 0; block < canvas_.blocks(); block++) {
        BlockUse use = note.blocks[static_cast<size_t>(block)];
        if (use == BlockUse::remembered) {
            canvas_.remember(block, picture);
        } else if (use == BlockUse::recalled) {
            canvas_.show(block, i420);
        }
    }
    return {};
}

}  // namespace adapath::video
