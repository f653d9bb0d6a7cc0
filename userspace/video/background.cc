// See background.h.
#include "userspace/video/background.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include <fmt/format.h>

#include "userspace/video/luma_difference.h"

namespace adapath::video {

namespace {

constexpr int side = BlockMask::block;
// A block is the same but for noise: luma's mean difference, and that of any 4x4 pixels' sums (a small thing that has
// come is seen there), in levels.
constexpr int same_mean = 5;
constexpr int same_cell = 9;
constexpr int cell = 4;
// background_quality(): so much finer than what is shown, but no finer than BackgroundQuality{} says.
constexpr int finer_remembered = 10;
// The search for the camera's movement, and how many pixels of a row or column it leaves out.
constexpr int most_movement = 8;
constexpr int movement_stride = 4;
constexpr int still_mean = 2;  // levels of difference that a still camera has
// The search compares rows in such steps, so that it soon has seen something of all parts of the picture.
constexpr int row_steps = 8;
// What is known of a canvas: one flag for so many pixels each way. Everything on it keeps to even places.
constexpr int known_cell = 2;
constexpr uint64_t every_flag = 0x0101010101010101;

// alike() for a block that the picture's edge does not cut.
bool whole_alike(const uint8_t* a, int a_stride, const uint8_t* b, int b_stride) {
    BlockDifference difference = block_difference(a, a_stride, b, b_stride);
    if (difference.sum > same_mean * side * side) {
        return false;
    }
    // A cell's sum is no more than its absolute differences, nor than those of the piece that it is in.
    if (difference.most <= same_cell * cell * cell) {
        return true;
    }
    for (int y = 0; y < side; y += cell) {
        int sums[side] = {};
        for (int j = 0; j < cell; j++, a += a_stride, b += b_stride) {
            for (int x = 0; x < side; x++) {
                sums[x] += a[x] - b[x];
            }
        }
        for (int x = 0; x < side; x += cell) {
            if (std::abs(sums[x] + sums[x + 1] + sums[x + 2] + sums[x + 3]) > same_cell * cell * cell) {
                return false;
            }
        }
    }
    return true;
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

// A binary arithmetic coder: each bit takes as little as it was probable.
constexpr uint32_t certain = 1 << 16;
class ArithmeticWriter {
public:
    // `one`: the probability that the bit is 1, of `certain`.
    void bit(bool value, uint32_t one) {
        uint32_t middle = low_ + static_cast<uint32_t>((uint64_t{high_ - low_} * one) >> 16);
        (value ? high_ : low_) = value ? middle : middle + 1;
        while ((low_ ^ high_) >> 24 == 0) {
            bytes_.push_back(static_cast<uint8_t>(low_ >> 24));
            low_ <<= 8;
            high_ = high_ << 8 | 0xff;
        }
    }
    // The shortest bytes that mean this if zeros follow; at least one.
    std::vector<uint8_t> take() {
        for (int rest = 24; low_ != 0; rest -= 8) {
            uint64_t ending = (uint64_t{low_} + (uint64_t{1} << rest) - 1) >> rest << rest;
            if (ending <= high_) {
                for (int shift = 24; shift >= rest; shift -= 8) {
                    bytes_.push_back(static_cast<uint8_t>(ending >> shift));
                }
                break;
            }
        }
        while (bytes_.size() > 1 && bytes_.back() == 0) {
            bytes_.pop_back();
        }
        if (bytes_.empty()) {
            bytes_.push_back(0);
        }
        return std::move(bytes_);
    }

private:
    std::vector<uint8_t> bytes_;
    uint32_t low_ = 0;
    uint32_t high_ = UINT32_MAX;
};

// Reads zeros behind the end.
class ArithmeticReader {
public:
    explicit ArithmeticReader(std::span<const uint8_t> bytes) : bytes_(bytes) {
        for (int i = 0; i < 4; i++) {
            value_ = value_ << 8 | next();
        }
    }
    bool bit(uint32_t one) {
        uint32_t middle = low_ + static_cast<uint32_t>((uint64_t{high_ - low_} * one) >> 16);
        bool value = value_ <= middle;
        (value ? high_ : low_) = value ? middle : middle + 1;
        while ((low_ ^ high_) >> 24 == 0) {
            low_ <<= 8;
            high_ = high_ << 8 | 0xff;
            value_ = value_ << 8 | next();
        }
        return value;
    }

private:
    uint8_t next() { return at_ < bytes_.size() ? bytes_[at_++] : uint8_t{0}; }

    std::span<const uint8_t> bytes_;
    size_t at_ = 0;
    uint32_t low_ = 0;
    uint32_t high_ = UINT32_MAX;
    uint32_t value_ = 0;
};

// Signed even numbers: 0, 2, -2, 4, ...
uint32_t folded(int value) { return static_cast<uint32_t>(value > 0 ? value - 1 : -value); }
int unfolded(uint32_t value) {
    int number = static_cast<int>(value);
    return number % 2 != 0 ? number + 1 : -number;
}

// The note's bits one after the other, in both directions: what a bit is, and how probable it was thought to be. The
// probabilities begin as they were in the clip and follow what the note itself has.
template <typename Bit>
class NoteCode {
public:
    // `code(bit, one)`: writes the bit and gives it back, or gives the one that it reads.
    NoteCode(Bit code, bool nothing_before) : code_(std::move(code)) {
        constexpr std::array<uint32_t, neighbours + 1> changes{certain / 200, certain / 24, certain / 8, certain / 4,
                                                               certain / 2};
        for (size_t n = 0; n <= neighbours; n++) {
            changed_[n].fill(nothing_before ? certain / 2 : changes[n]);
        }
        for (auto& row : second_) {
            row.fill(certain / 2);
        }
    }

    // All of it, note.blocks being what was expected when it is read. False: what was read is no note.
    bool note(PictureNote& note, const std::vector<BlockUse>& foreseen, int columns) {
        if (!code_(note.right != 0 || note.down != 0 || note.blocks != foreseen, certain / 2)) {
            return true;
        }
        movement(note);
        blocks(note.blocks, foreseen, columns);
        uint32_t sum = sum_of(note);
        uint32_t number = 0;
        for (int i = sum_bits - 1; i >= 0; i--) {
            number |= static_cast<uint32_t>(code_((sum >> i & 1) != 0, certain / 2)) << i;
        }
        return number == sum;
    }

private:
    static constexpr size_t neighbours = 4;
    // A server that expected something else than the sender meant, or has not got all bytes, would read another note:
    // these say so, but for one in 256.
    static constexpr int sum_bits = 8;

    static uint32_t sum_of(const PictureNote& note) {
        uint32_t sum = 2166136261;  // FNV-1a
        auto add = [&](uint32_t number) { sum = (sum ^ number) * 16777619; };
        add(folded(note.right));
        add(folded(note.down));
        for (BlockUse use : note.blocks) {
            add(static_cast<uint32_t>(use));
        }
        return sum >> (32 - sum_bits);
    }

    void movement(PictureNote& note) {
        bool moved = code_(note.right != 0 || note.down != 0, certain / 16);
        for (int* way : {&note.right, &note.down}) {
            uint32_t number = 0;
            for (int i = 3; moved && i >= 0; i--) {
                number |= static_cast<uint32_t>(code_((folded(*way) >> i & 1) != 0, certain / 2)) << i;
            }
            *way = unfolded(number);
        }
    }

    // `blocks` holds what was expected of those that are still to come when they are read, and all of them when they
    // are written; `foreseen` all of what was expected.
    void blocks(std::vector<BlockUse>& blocks, std::span<const BlockUse> foreseen, int columns) {
        auto width = static_cast<size_t>(columns);
        for (size_t i = 0; i < blocks.size(); i++) {
            const bool left = i % width != 0;
            const bool right = i % width != width - 1;
            const bool above = i >= width;
            const bool below = i + width < blocks.size();
            // How many neighbours are something else than this one should be, and how many of those that are known are
            // new: changes keep together.
            const BlockUse use = foreseen[i];
            size_t others_near = (left && blocks[i - 1] != use ? 1 : 0) + (above && blocks[i - width] != use ? 1 : 0) +
                                 (right && foreseen[i + 1] != use ? 1 : 0) +
                                 (below && foreseen[i + width] != use ? 1 : 0);
            size_t new_near = (left && blocks[i - 1] == BlockUse::remembered ? 1 : 0) +
                              (above && blocks[i - width] == BlockUse::remembered ? 1 : 0);
            const std::array<BlockUse, 2> other = others(use);
            if (!follow(blocks[i] != use, changed_[others_near][new_near + (use == BlockUse::shown ? 3 : 0)])) {
                blocks[i] = use;
                continue;
            }
            bool second = follow(blocks[i] == other[1], second_[use == BlockUse::shown ? 1 : 0][new_near]);
            blocks[i] = other[second ? 1 : 0];
        }
    }

    bool follow(bool value, uint32_t& one) {
        bool bit = code_(value, one);
        // Never nearer to a certainty than 1 in 256 bits.
        one = bit ? one + ((certain - one) >> 4) : one - ((one - certain / 256) >> 4);
        return bit;
    }

    Bit code_;
    std::array<std::array<uint32_t, 6>, neighbours + 1> changed_;
    std::array<std::array<uint32_t, 3>, 2> second_;
};

}  // namespace

Canvas::Canvas(Size picture) : picture_(picture), size_{picture.width * 3, picture.height * 3} {
    columns_ = (picture.width + side - 1) / side;
    rows_ = (picture.height + side - 1) / side;
    auto pixels = static_cast<size_t>(size_.width) * static_cast<size_t>(size_.height);
    luma_.resize(pixels);
    u_.resize(pixels / 4);
    v_.resize(pixels / 4);
    known_.resize(pixels / (known_cell * known_cell));
    known_blocks_.resize(static_cast<size_t>(blocks()));
    forget();
}

void Canvas::forget() {
    std::fill(known_.begin(), known_.end(), uint8_t{0});
    std::fill(known_blocks_.begin(), known_blocks_.end(), uint8_t{0});
    x_ = picture_.width / 2 * 2;
    y_ = picture_.height / 2 * 2;
}

bool Canvas::move(int right, int down) {
    if (right == 0 && down == 0) {
        return false;
    }
    x_ += right;
    y_ += down;
    if (x_ >= 0 && y_ >= 0 && x_ + picture_.width <= size_.width && y_ + picture_.height <= size_.height) {
        for (int block = 0; block < blocks(); block++) {
            known_blocks_[static_cast<size_t>(block)] = all_known(box_of(block)) ? 1 : 0;
        }
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

std::ptrdiff_t Canvas::known_at(int x, int y) const {
    return static_cast<std::ptrdiff_t>((y_ + y) / known_cell) * (size_.width / known_cell) + (x_ + x) / known_cell;
}

bool Canvas::all_known(const Box& box) const {
    const auto width = static_cast<size_t>(box.x1 - box.x0) / known_cell;
    const uint8_t* flags = known_.data() + known_at(box.x0, box.y0);
    const std::ptrdiff_t next = size_.width / known_cell;
    uint64_t all = every_flag;
    static_assert(side / known_cell == sizeof(all));
    for (int y = box.y0; y < box.y1; y += known_cell, flags += next) {
        uint64_t row = every_flag;
        std::memcpy(&row, flags, width == sizeof(row) ? sizeof(row) : width);  // mostly of fixed length
        all &= row;
    }
    return all == every_flag;
}

bool Canvas::known(int block) const { return known_blocks_[static_cast<size_t>(block)] != 0; }

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
    for (int y = box.y0; y < box.y1; y += known_cell) {
        std::fill_n(known_.begin() + known_at(box.x0, y), width / known_cell, uint8_t{1});
    }
    known_blocks_[static_cast<size_t>(block)] = 1;
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

BackgroundQuality background_quality(int shown) {
    BackgroundQuality quality;
    quality.shown = shown;
    quality.remembered = std::min(shown, std::max(quality.remembered, shown - finer_remembered));
    return quality;
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

namespace {

std::vector<BlockUse> foreseen(std::span<const BlockUse> before, size_t count) {
    std::vector<BlockUse> uses(count, BlockUse::shown);
    std::transform(before.begin(), before.end(), uses.begin(), expected);
    return uses;
}

}  // namespace

std::vector<uint8_t> write_note(const PictureNote& note, int columns, std::span<const BlockUse> before) {
    ArithmeticWriter out;
    PictureNote as_written = note;
    NoteCode code(
        [&](bool bit, uint32_t one) {
            out.bit(bit, one);
            return bit;
        },
        before.empty());
    code.note(as_written, foreseen(before, note.blocks.size()), columns);
    return out.take();
}

Result<PictureNote> read_note(std::span<const uint8_t> bytes, int columns, int rows, std::span<const BlockUse> before) {
    auto count = static_cast<size_t>(columns) * static_cast<size_t>(rows);
    if (columns <= 0 || rows <= 0 || (!before.empty() && before.size() != count)) {
        return Error{fmt::format("a note on {}x{} blocks after one on {}", columns, rows, before.size())};
    }
    ArithmeticReader in(bytes);
    PictureNote note;
    const std::vector<BlockUse> as_expected = foreseen(before, count);
    note.blocks = as_expected;
    NoteCode code([&](bool, uint32_t one) { return in.bit(one); }, before.empty());
    if (!code.note(note, as_expected, columns)) {
        return Error{fmt::format("{} bytes that are no note after the one before", bytes.size())};
    }
    if (std::abs(note.right) > most_movement || std::abs(note.down) > most_movement) {
        return Error{fmt::format("a note of a picture that moved by {} and {} pixels", note.right, note.down)};
    }
    // What is read is one only if the same bytes are written of it: so none is too long.
    std::vector<uint8_t> again = write_note(note, columns, before);
    if (!std::equal(again.begin(), again.end(), bytes.begin(), bytes.end())) {
        return Error{fmt::format("a note of {} bytes that takes {}", bytes.size(), again.size())};
    }
    return note;
}

namespace {

// The pixels of a picture that the search compares: columns and rows from most_movement on, movement_stride apart.
int looked_at(int length) { return std::max(0, (length - 2 * most_movement + movement_stride - 1) / movement_stride); }

std::vector<uint8_t> sample(const uint8_t* luma, Size size) {
    int columns = looked_at(size.width);
    int rows = looked_at(size.height);
    std::vector<uint8_t> all(static_cast<size_t>(columns) * static_cast<size_t>(rows));
    for (int row = 0; row < rows; row++) {
        every_fourth(
            luma + static_cast<std::ptrdiff_t>(most_movement + row * movement_stride) * size.width + most_movement,
            columns, all.data() + static_cast<std::ptrdiff_t>(row) * columns);
    }
    return all;
}

// Of the picture before, what a movement by even numbers may compare with: its even rows, and of each first the
// columns 0, 4, ..., then the columns 2, 6, ...
class EvenPixels {
public:
    EvenPixels(const uint8_t* luma, Size size) : columns_((size.width + 3) / movement_stride) {
        pixels_.resize(static_cast<size_t>(size.height + 1) / 2 * 2 * static_cast<size_t>(columns_));
        for (int y = 0; y < size.height; y += 2) {
            const uint8_t* row = luma + static_cast<std::ptrdiff_t>(y) * size.width;
            uint8_t* to = pixels_.data() + static_cast<std::ptrdiff_t>(y) * columns_;
            every_fourth(row, columns_, to);
            every_fourth(row + 2, (size.width + 1) / movement_stride, to + columns_);
        }
    }
    // From the pixel at even x and y on, every fourth to the right.
    [[nodiscard]] const uint8_t* from(int x, int y) const {
        return pixels_.data() + static_cast<std::ptrdiff_t>(y + (x % movement_stride == 0 ? 0 : 1)) * columns_ +
               x / movement_stride;
    }

private:
    int columns_;
    std::vector<uint8_t> pixels_;
};

// movement(), of samples of both pictures. `likely` is compared first: after a good one, bad ones are soon out.
Movement movement(const std::vector<uint8_t>& sample_before, const std::vector<uint8_t>& sample_now,
                  const uint8_t* luma_before, Size size, const Movement& likely) {
    const int columns = looked_at(size.width);
    const int rows = looked_at(size.height);
    uint64_t still = 0;
    for (int row = 0; row < rows; row++) {
        std::ptrdiff_t at = static_cast<std::ptrdiff_t>(row) * columns;
        still += sum_of_differences(sample_before.data() + at, sample_now.data() + at, columns);
    }
    uint64_t area = static_cast<uint64_t>(std::max(0, size.width - 2 * most_movement)) *
                    static_cast<uint64_t>(std::max(0, size.height - 2 * most_movement)) /
                    (movement_stride * movement_stride);
    if (still <= area * still_mean) {
        return {};
    }
    const EvenPixels before(luma_before, size);
    constexpr int ways = most_movement + 1;  // even numbers from -most_movement to most_movement
    Movement best;
    // What moves in the picture must not look like a movement of it: less than half of the difference remains. Of equal
    // movements the first one counts.
    uint64_t least = (still - 1) / 2;
    int best_way = ways * ways;
    auto compare = [&](int way) {
        Movement one{way % ways * 2 - most_movement, way / ways * 2 - most_movement};
        uint64_t sum = 0;
        for (int start = 0; start < row_steps; start++) {
            for (int row = start; row < rows; row += row_steps) {
                sum += sum_of_differences(
                    sample_now.data() + static_cast<std::ptrdiff_t>(row) * columns,
                    before.from(most_movement + one.right, most_movement + row * movement_stride + one.down), columns);
                if (sum > least) {
                    return;
                }
            }
        }
        if (sum < least || way < best_way) {
            least = sum;
            best_way = way;
            best = one;
        }
    };
    int first = (likely.down + most_movement) / 2 * ways + (likely.right + most_movement) / 2;
    compare(first);
    for (int way = 0; way < ways * ways; way++) {
        if (way != first) {
            compare(way);
        }
    }
    return best;
}

}  // namespace

Movement movement(const Picture& before, const Picture& now, Size size) {
    return movement(sample(before.y, size), sample(now.y, size), before.y, size, {});
}

BackgroundPlan::BackgroundPlan(Size size) : BackgroundPlan(size, Options{}) {}

BackgroundPlan::BackgroundPlan(Size size, const Options& options) : size_(size), options_(options), canvas_(size) {}

PictureNote BackgroundPlan::next(const Picture& picture, bool idr) {
    PictureNote note;
    note.blocks.assign(static_cast<size_t>(canvas_.blocks()), BlockUse::shown);
    const bool first = before_.empty();
    // The copy comes first: it brings the picture from memory in the fastest way, and all else finds it in the cache.
    now_.assign(picture.y, picture.y + static_cast<std::ptrdiff_t>(size_.width) * size_.height);
    std::vector<uint8_t> sampled = sample(picture.y, size_);
    if (!first) {
        Movement moved = movement(sampled_before_, sampled, before_.data(), size_, moved_);
        note.right = moved.right;
        note.down = moved.down;
        canvas_.move(note.right, note.down);
        moved_ = moved;
    }
    sampled_before_ = std::move(sampled);
    auto still = [&](int x0, int y0) {
        int width = std::min(size_.width - x0, side);
        int height = std::min(size_.height - y0, side);
        int then_x = x0 + note.right;
        int then_y = y0 + note.down;
        // What has just come into the picture was not there before: nothing says that it moves.
        if (first || then_x < 0 || then_y < 0 || then_x + width > size_.width || then_y + height > size_.height) {
            return true;
        }
        return alike(before_.data() + static_cast<std::ptrdiff_t>(then_y) * size_.width + then_x, size_.width,
                     picture.y + static_cast<std::ptrdiff_t>(y0) * size_.width + x0, size_.width, width, height);
    };
    int block = 0;
    for (int y0 = 0; y0 < size_.height; y0 += side) {
        for (int x0 = 0; x0 < size_.width; x0 += side, block++) {
            auto turn = static_cast<uint64_t>(block) * 7919 + idrs_;
            bool renewed = idr && options_.renew > 0 && turn % static_cast<uint64_t>(options_.renew) == 0;
            BlockUse& use = note.blocks[static_cast<size_t>(block)];
            if (!renewed && canvas_.like(block, picture)) {
                use = BlockUse::recalled;
            } else if ((idr || !canvas_.known(block)) && still(x0, y0)) {
                use = BlockUse::remembered;
                canvas_.remember(block, picture);
            }
        }
    }
    std::swap(before_, now_);
    idrs_ += idr ? 1 : 0;
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
