// bench_qp: what the app qp costs the sender for a 720p picture, beside what x264 costs for it, in one run and one
// thread: the selector's planes, the selector itself (generated C with and without this processor's vectors, and
// LibTorch's floats), the plan of the remembered background (of a camera that stands still, of one that pans, and of
// one whose noise looks like a movement), and encoding in two presets. The pictures are those of the clip, scaled up,
// every tenth an IDR picture. The selector runs once a chunk, all else once a picture.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "bench/image/torch_peer.h"
#include "codegen/image.h"
#include "models/qp/selector.h"
#include "userspace/common/file.h"
#include "userspace/qp/cameras.h"
#include "userspace/video/background.h"
#include "userspace/video/region_encoder.h"

namespace {

using namespace adapath;

constexpr video::Size size{1280, 720};
constexpr uint64_t group = 10;
constexpr uint64_t pictures = 60;

// Null with the state's error set: no clip.
const video::Clip* clip(benchmark::State& state) {
    static const auto loaded =
        video::Clip::load(fetched_file("clip/vtest.avi"), size, video::picture_bytes(size) * pictures);
    if (loaded) return &*loaded;
    state.SkipWithError(loaded.error().message.c_str());
    return nullptr;
}

void fail(benchmark::State& state, const Error& error) { state.SkipWithError(error.message.c_str()); }

void selector_planes(benchmark::State& state) {
    const video::Clip* video = clip(state);
    if (video == nullptr) return;
    uint64_t i = 0;
    for (auto _ : state) {
        const ImageCodes codes = selector_codes(*video, 1 + i++ % (pictures - 1));
        benchmark::DoNotOptimize(codes.codes.data());
    }
}

void selector_generated(benchmark::State& state, bool simd) {
    const video::Clip* video = clip(state);
    if (video == nullptr) return;
    auto model = read_selector("models/qp/selector.json");
    if (!model) return fail(state, model.error());
    const ImageCodes input = selector_codes(*video, 1);
    auto quant = quantise(*model, {{input}});
    if (!quant) return fail(state, quant.error());
    auto program = ImageProgram::load(model->network, simd);
    if (!program) return fail(state, program.error());
    const std::vector<uint8_t> params = pack(*quant);
    std::vector<int32_t> out;
    for (auto _ : state) {
        if (Status status = program->run(params, input, out); !status) return fail(state, status.error());
        benchmark::DoNotOptimize(out.data());
    }
    if (out != interpret(*quant, input)) state.SkipWithError("the program does not give the interpreter's bits");
}

void selector_torch_floats(benchmark::State& state) {
    const video::Clip* video = clip(state);
    if (video == nullptr) return;
    auto model = read_selector("models/qp/selector.json");
    if (!model) return fail(state, model.error());
    const ImageCodes input = selector_codes(*video, 1);
    const auto peer = bench::torch_peer(*model);
    for (auto _ : state) {
        const std::vector<float> out = peer->run(input);
        benchmark::DoNotOptimize(out.data());
    }
}

enum class Camera { still, pan, noisy };

Result<video::Clip> camera(Camera kind) {
    // What the pan wanders over is larger than the picture.
    const video::Size whole = kind == Camera::pan ? video::Size{1600, 900} : size;
    auto loaded = video::Clip::load(fetched_file("clip/vtest.avi"), whole, video::picture_bytes(whole) * pictures);
    if (!loaded || kind == Camera::still) return loaded;
    if (kind == Camera::pan) return panned(*loaded, size);
    std::mt19937 random(1);
    std::vector<uint8_t> bytes;
    for (uint64_t i = 0; i < pictures; i++) {
        const uint8_t* picture = loaded->picture(i).y;
        for (uint64_t p = 0; p < video::picture_bytes(size); p++)
            bytes.push_back(
                static_cast<uint8_t>(std::clamp<int>(picture[p] + static_cast<int>(random() % 11) - 5, 0, 255)));
    }
    return video::Clip::from_i420(std::move(bytes), size);
}

void background_plan(benchmark::State& state, Camera kind) {
    auto video = camera(kind);
    if (!video) return fail(state, video.error());
    video::BackgroundPlan plan(size);
    uint64_t i = 0;
    for (auto _ : state) {
        const video::PictureNote note = plan.next(video->picture(i), i % group == 0);
        benchmark::DoNotOptimize(note.blocks.data());
        i++;
    }
}

// The plan's notes as bytes, for the server.
void background_note(benchmark::State& state) {
    auto video = camera(Camera::still);
    if (!video) return fail(state, video.error());
    video::BackgroundPlan plan(size);
    std::vector<video::PictureNote> notes;
    for (uint64_t i = 0; i < pictures; i++) notes.push_back(plan.next(video->picture(i), i % group == 0));
    const int columns = video::empty_block_mask(size).columns;
    uint64_t i = 0;
    for (auto _ : state) {
        const uint64_t at = 1 + i++ % (pictures - 1);
        const std::vector<uint8_t> bytes = video::write_note(notes[at], columns, notes[at - 1].blocks);
        benchmark::DoNotOptimize(bytes.data());
    }
}

void encode(benchmark::State& state, const char* preset, Camera kind) {
    auto video = camera(kind);
    if (!video) return fail(state, video.error());
    auto encoder = video::RegionEncoder::open(size, {.preset = preset});
    if (!encoder) return fail(state, encoder.error());
    uint64_t i = 0;
    for (auto _ : state) {
        if (i % group == 0) {
            if (Status begun = encoder->begin_chunk(35); !begun) return fail(state, begun.error());
        }
        auto frame = encoder->encode(video->picture(i++));
        if (!frame) return fail(state, frame.error());
        benchmark::DoNotOptimize(frame->bytes.data());
    }
}

}  // namespace

BENCHMARK(selector_planes)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(selector_generated, scalar, false)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(selector_generated, simd, true)->Unit(benchmark::kMicrosecond);
BENCHMARK(selector_torch_floats)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(background_plan, still, Camera::still)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(background_plan, pan, Camera::pan)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(background_plan, noisy, Camera::noisy)->Unit(benchmark::kMicrosecond);
BENCHMARK(background_note)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(encode, ultrafast, "ultrafast", Camera::still)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(encode, veryfast, "veryfast", Camera::still)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(encode, pan_ultrafast, "ultrafast", Camera::pan)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(encode, pan_veryfast, "veryfast", Camera::pan)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(encode, noisy_ultrafast, "ultrafast", Camera::noisy)->Unit(benchmark::kMicrosecond);
BENCHMARK_CAPTURE(encode, noisy_veryfast, "veryfast", Camera::noisy)->Unit(benchmark::kMicrosecond);

BENCHMARK_MAIN();
