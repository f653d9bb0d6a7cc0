// Holds an image program to the reference interpreter, bit for bit.
#include <fmt/format.h>

#include <random>

#include "codegen/image.h"

namespace adapath {

namespace {

// Sides around a block of 16 pixels (where vectors end), and single rows and columns.
constexpr ImageSize kSizes[] = {{32, 32}, {1, 1}, {17, 5}, {48, 3}, {5, 40}, {33, 20}};

Status check(const ImageQuantModel& model, const ImageRunFunction& run, const ImageCodes& picture,
             std::vector<int32_t>& out) {
    const std::vector<int32_t> want = interpret(model, picture);
    // A program that writes nothing must not pass on what the last run left.
    out.resize(want.size());
    for (size_t i = 0; i < want.size(); i++) out[i] = ~want[i];
    if (Status status = run(picture, out); !status) return status;
    for (size_t i = 0; i < want.size(); i++) {
        if (out.size() != want.size() || out[i] != want[i])
            return Error{
                fmt::format("program and reference interpreter differ: network {}, a picture of {}x{}, output {} of "
                            "{}: program {}, reference {}",
                            describe(model.network), picture.size.width, picture.size.height, i, want.size(),
                            i < out.size() ? out[i] : 0, want[i])};
    }
    return {};
}

}  // namespace

Status verify(const ImageQuantModel& model, const ImageRunFunction& run, std::span<const ImageCodes> pictures,
              uint32_t random_pictures, uint64_t seed) {
    if (Status status = validate(model); !status) return status;
    std::vector<int32_t> out;
    const size_t channels = model.network.inputs.size();
    for (const ImageCodes& picture : pictures) {
        if (picture.codes.size() != channels * picture.size.width * picture.size.height || picture.codes.empty())
            return Error{fmt::format("verify: a picture of {}x{} with {} codes for a network of {} channels",
                                     picture.size.width, picture.size.height, picture.codes.size(), channels)};
        if (Status status = check(model, run, picture, out); !status) return status;
    }
    std::mt19937_64 random(seed);
    for (const ImageSize size : kSizes) {
        ImageCodes picture{size, std::vector<uint8_t>(channels * size.width * size.height)};
        for (const uint8_t end : {uint8_t{0}, uint8_t{255}}) {
            picture.codes.assign(picture.codes.size(), end);
            if (Status status = check(model, run, picture, out); !status) return status;
        }
        // Corners of the inputs' box at random: where sums are far from their middle.
        for (uint8_t& code : picture.codes) code = random() % 2 == 0 ? 0 : 255;
        if (Status status = check(model, run, picture, out); !status) return status;
    }
    for (uint32_t n = 0; n < random_pictures; n++) {
        const ImageSize size{1 + static_cast<uint32_t>(random() % 64), 1 + static_cast<uint32_t>(random() % 48)};
        ImageCodes picture{size, std::vector<uint8_t>(channels * size.width * size.height)};
        for (uint8_t& code : picture.codes) code = static_cast<uint8_t>(random());
        if (Status status = check(model, run, picture, out); !status) return status;
    }
    return {};
}

}  // namespace adapath
