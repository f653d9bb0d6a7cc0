// Image networks: small convolutional networks that give one or more numbers for each place of a picture, such as the
// quality selector of the app `qp`. As for the dense networks in codegen.h: a float model is quantised, proved, emitted
// as integer-only C (host target only), compiled, and agrees bit for bit with a reference interpreter. What a layer
// computes is defined in include/adapath/image.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/model.h"
#include "codegen/result.h"

namespace adapath {

enum class ImageLayerKind : uint8_t {
    convolution,  // 1x1 or 3x3, stride 1 or 2, zero padding: ceil(size / stride) places
    depthwise,    // 3x3, stride 1 or 2, each channel by itself; outputs == inputs
    pool,         // 2x2 means; outputs == inputs, no parameters
};

struct ImageLayerShape {
    ImageLayerKind kind = ImageLayerKind::convolution;
    uint32_t inputs = 0;   // channels
    uint32_t outputs = 0;  // channels
    uint32_t kernel = 1;   // 1 or 3; pool: 2
    uint32_t stride = 1;   // 1 or 2; pool: 2

    bool operator==(const ImageLayerShape&) const = default;
};

// Every convolution but the last layer is followed by relu; the last layer gives real numbers.
struct ImageNetwork {
    std::string app;
    uint32_t feature_schema = 0;
    std::vector<InputCode> inputs;  // one a channel; zero_point is the code of the border too
    std::vector<ImageLayerShape> layers;

    bool operator==(const ImageNetwork&) const = default;
};
// The outputs' width and height for a picture's.
struct ImageSize {
    uint32_t width = 0;
    uint32_t height = 0;
    bool operator==(const ImageSize&) const = default;
};
[[nodiscard]] ImageSize output_size(const ImageNetwork& network, ImageSize input);
// "2ch conv3x3/2-8 dw3x3 conv1x1-16 pool conv1x1-1"
[[nodiscard]] std::string describe(const ImageNetwork& network);

struct ImageFloatModel {
    ImageNetwork network;
    // Per layer: convolution [outputs][inputs][kernel][kernel], depthwise [channels][3][3]; row-major. Pool: empty.
    std::vector<std::vector<float>> weights;
    std::vector<std::vector<float>> biases;  // [outputs]
};

struct ImageQuantLayer {
    std::vector<int8_t> weights;
    std::vector<int32_t> bias;  // of the accumulators
    std::vector<int32_t> mult;
    uint8_t pre = 0;    // hidden layers
    uint8_t shift = 0;  // 1..30; last layer 0..40
    float scale = 1;    // of the codes that come out (hidden layers)
};
struct ImageQuantModel {
    ImageNetwork network;
    std::vector<ImageQuantLayer> layers;
};

// One picture: codes[(channel * height + y) * width + x].
struct ImageCodes {
    ImageSize size;
    std::vector<uint8_t> codes;
};

// Names the layer and the value.
Status validate(const ImageNetwork& network);
Status validate(const ImageFloatModel& model);
// Lengths and ranges, and the proof that no accumulator overflows for any picture.
Status validate(const ImageQuantModel& model);

// Activation ranges are those of the calibration pictures; at least one.
Result<ImageQuantModel> quantise(const ImageFloatModel& model, std::span<const ImageCodes> calibration);

// The float model's outputs, real units: [(channel * height + y) * width + x] of the output's size.
[[nodiscard]] std::vector<float> run_float(const ImageFloatModel& model, const ImageCodes& picture);
// The reference interpreter: plain loops, nothing shared with what is emitted. Q16.
[[nodiscard]] std::vector<int32_t> interpret(const ImageQuantModel& model, const ImageCodes& picture);

// Integer-only C for one network, any picture size: `void adp_image_run(const uint8_t *params, uint8_t *planes[],
// width, height, int32_t *out)`. Depends on the network alone, but for the shifts, which are part of the parameters.
Result<std::string> emit_c(const ImageNetwork& network);
// The block that the program runs on, and its size.
[[nodiscard]] size_t params_bytes(const ImageNetwork& network);
[[nodiscard]] std::vector<uint8_t> pack(const ImageQuantModel& model);
// The model that a block was packed from (but for the layers' scales, which no program needs), validated: a block that
// pack() would not have written is refused.
Result<ImageQuantModel> unpack(const ImageNetwork& network, std::span<const uint8_t> params);

// A network's description on its own, as the memory of backend `host` holds it.
[[nodiscard]] std::string serialise(const ImageNetwork& network);
Result<ImageNetwork> parse_image_network(std::string_view bytes);

// What one place of the outputs depends on: the part of the picture that makes it and nothing else. Run on this window
// alone, the interpreter gives at `at` what it gives for the whole picture at the place: the window begins at a
// multiple of the network's stride, holds all codes of the place's receptive field, and ends early only where the
// picture does, so that zero padding is where the picture's is.
struct ImageWindow {
    uint32_t x = 0;  // of its first code
    uint32_t y = 0;
    ImageSize size;
    ImageSize at;  // the place within the window's outputs: column, row
    bool operator==(const ImageWindow&) const = default;
};
// `column` and `row` are within output_size().
[[nodiscard]] ImageWindow window_of(const ImageNetwork& network, ImageSize picture, uint32_t column, uint32_t row);
[[nodiscard]] ImageCodes cut(const ImageNetwork& network, const ImageCodes& picture, const ImageWindow& window);
// Codes from one output to the next, and the largest window that any place can have.
[[nodiscard]] uint32_t total_stride(const ImageNetwork& network);
[[nodiscard]] uint32_t widest_window(const ImageNetwork& network);
// For a picture of that size: what a run costs.
[[nodiscard]] uint64_t multiply_accumulates(const ImageNetwork& network, ImageSize size);

// Bit for bit against interpret(), on these pictures, on random ones and on extremes of several sizes. `run` runs the
// program under test.
using ImageRunFunction = std::function<Status(const ImageCodes& picture, std::vector<int32_t>& out)>;
Status verify(const ImageQuantModel& model, const ImageRunFunction& run, std::span<const ImageCodes> pictures,
              uint32_t random_pictures, uint64_t seed);

// A program compiled and linked into this process.
class ImageProgram {
public:
    // simd: for this machine's processor, as wide as it goes; else for any of its architecture. The same bits.
    static Result<ImageProgram> load(const ImageNetwork& network, bool simd);
    ImageProgram(ImageProgram&&) noexcept;
    ImageProgram& operator=(ImageProgram&&) noexcept;
    ~ImageProgram();

    // The same code with planes of its own: for another thread.
    [[nodiscard]] ImageProgram another() const;

    // `params`: a pack()ed block of this network. Not for two threads at once: the planes between layers are kept.
    // `out` is resized. Pictures wider than ADP_IMAGE_WIDTH_MAX are refused.
    Status run(std::span<const uint8_t> params, const ImageCodes& picture, std::vector<int32_t>& out);

private:
    struct State;
    ImageProgram();
    std::unique_ptr<State> state_;
};

}  // namespace adapath
