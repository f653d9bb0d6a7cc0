// bench_detector: the server's vision network a picture, on one thread: detect(), and gradient(), which is the same
// forward pass and the way back. ADAPATH_DETECTOR names another file than the one that `make deps` fetched.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>

#include "models/detector/detector.h"
#include "userspace/common/file.h"

namespace adapath {
namespace {

std::unique_ptr<Detector> detector;

// Anything but flat, so that no branch is all zeros; the cost hardly depends on what is to be seen.
Image picture(int width, int height) {
    Image image{width, height, {}};
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++)
                image.rgb.push_back(static_cast<uint8_t>(x * (c + 1) + y * (3 - c) + ((x * y) >> 6)));
    return image;
}

void detect(benchmark::State& state) {
    const Image image = picture(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)));
    for (auto _ : state) {
        auto boxes = detector->detect(image);
        if (!boxes) return state.SkipWithError(boxes.error().message.c_str());
        benchmark::DoNotOptimize(boxes->size());
    }
}

void gradient(benchmark::State& state) {
    const Image image = picture(static_cast<int>(state.range(0)), static_cast<int>(state.range(1)));
    auto reference = detector->detect(image, 0.05);
    if (!reference) return state.SkipWithError(reference.error().message.c_str());
    for (auto _ : state) {
        auto slopes = detector->gradient(image, *reference);
        if (!slopes) return state.SkipWithError(slopes.error().message.c_str());
        benchmark::DoNotOptimize(slopes->accuracy);
    }
}

void sizes(benchmark::internal::Benchmark* bench) {
    bench->Args({384, 288})->Args({512, 512})->Args({768, 576})->Args({1280, 720});
    bench->ArgNames({"width", "height"})->Unit(benchmark::kMillisecond)->MinWarmUpTime(0.3);
}
BENCHMARK(detect)->Apply(sizes);
BENCHMARK(gradient)->Apply(sizes);

}  // namespace
}  // namespace adapath

int main(int argc, char** argv) {
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    const char* file = std::getenv("ADAPATH_DETECTOR");
    adapath::prepare_process(1);
    auto opened = adapath::open_detector(file != nullptr ? file : adapath::fetched_file("detector/centernet.json"));
    if (!opened) {
        std::fprintf(stderr, "bench_detector: %s\n", opened.error().message.c_str());
        return 1;
    }
    adapath::detector = std::move(*opened);
    benchmark::RunSpecifiedBenchmarks();
    adapath::detector.reset();
    return 0;
}
