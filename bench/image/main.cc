// What one map of a 720p picture costs: the shape of the app qp's quality selector (quarter-scale luma and its
// difference to the frame before, a number for each macroblock), as generated integer C and as LibTorch's floats, in
// one run.
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cmath>
#include <random>

#include "bench/image/torch_peer.h"

namespace {

using namespace adapath;

constexpr ImageSize picture_size{320, 180};  // of 1280x720

ImageFloatModel selector() {
    ImageFloatModel model;
    model.network.app = "qp";
    model.network.inputs = {{1.0F / 255, 0}, {1.0F / 128, 128}};
    const auto add = [&](ImageLayerKind kind, uint32_t outputs, uint32_t kernel, uint32_t stride) {
        const uint32_t inputs = model.network.layers.empty() ? 2 : model.network.layers.back().outputs;
        model.network.layers.push_back(
            {.kind = kind, .inputs = inputs, .outputs = outputs, .kernel = kernel, .stride = stride});
    };
    add(ImageLayerKind::convolution, 16, 3, 2);
    add(ImageLayerKind::depthwise, 16, 3, 2);
    add(ImageLayerKind::convolution, 32, 1, 1);
    add(ImageLayerKind::depthwise, 32, 3, 1);
    add(ImageLayerKind::convolution, 48, 1, 1);
    add(ImageLayerKind::depthwise, 48, 3, 1);
    add(ImageLayerKind::convolution, 32, 1, 1);
    add(ImageLayerKind::convolution, 1, 1, 1);
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (const ImageLayerShape& layer : model.network.layers) {
        const uint32_t row = (layer.kind == ImageLayerKind::depthwise ? 1 : layer.inputs) * layer.kernel * layer.kernel;
        std::vector<float>& weights = model.weights.emplace_back(size_t{row} * layer.outputs);
        for (float& w : weights) w = 1.4F * normal(random) / std::sqrt(static_cast<float>(row));
        model.biases.emplace_back(layer.outputs, 0.1F);
    }
    return model;
}

ImageCodes picture() {
    ImageCodes codes{.size = picture_size, .codes = {}};
    std::mt19937 random(2);
    for (uint32_t y = 0; y < picture_size.height; y++) {
        for (uint32_t x = 0; x < picture_size.width; x++) {
            codes.codes.push_back(static_cast<uint8_t>((x / 3 + y + random() % 16) % 256));
        }
    }
    for (uint32_t i = 0; i < picture_size.width * picture_size.height; i++) {
        codes.codes.push_back(static_cast<uint8_t>(120 + random() % 16));
    }
    return codes;
}

void fail(benchmark::State& state, const Error& error) { state.SkipWithError(error.message.c_str()); }

void generated(benchmark::State& state, bool simd) {
    const ImageFloatModel model = selector();
    const ImageCodes input = picture();
    Result<ImageQuantModel> quant = quantise(model, {{input}});
    if (!quant) return fail(state, quant.error());
    Result<ImageProgram> program = ImageProgram::load(model.network, simd);
    if (!program) return fail(state, program.error());
    const std::vector<uint8_t> params = pack(*quant);
    std::vector<int32_t> out;
    for (auto _ : state) {
        if (Status status = program->run(params, input, out); !status) return fail(state, status.error());
        benchmark::DoNotOptimize(out.data());
    }
    if (out != interpret(*quant, input)) state.SkipWithError("the program does not give the interpreter's bits");
}

void torch_floats(benchmark::State& state) {
    const ImageFloatModel model = selector();
    const ImageCodes input = picture();
    const auto peer = bench::torch_peer(model);
    std::vector<float> out;
    for (auto _ : state) {
        out = peer->run(input);
        benchmark::DoNotOptimize(out.data());
    }
    const std::vector<float> expected = run_float(model, input);
    for (size_t i = 0; i < expected.size(); i++) {
        if (out.size() != expected.size() || std::abs(out[i] - expected[i]) > 1e-3F * (1 + std::abs(expected[i]))) {
            return state.SkipWithError("LibTorch does not give the float model's numbers");
        }
    }
}

}  // namespace

BENCHMARK_CAPTURE(generated, scalar, false)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(generated, simd, true)->Unit(benchmark::kMicrosecond);
BENCHMARK(torch_floats)->Unit(benchmark::kMicrosecond);

BENCHMARK_MAIN();
