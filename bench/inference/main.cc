// One decision of Aurora's network (30-32-16-1, tanh): ns as a generated program, native with warm and with cold caches
// (out of L1 and L2, and out of every cache), in the running kernel, and in LibTorch as the peer. All on the same
// weights and inputs; each program is checked against the reference interpreter before it is timed. cc/bpf needs
// root and is skipped with a message otherwise.
//
//   bench_inference [--benchmark_format=json] [--benchmark_min_time=SECONDS] ...
#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <numeric>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "bench/inference/programs.h"
#include "bench/inference/torch_peer.h"
#include "codegen/codegen.h"

namespace adapath::bench {
namespace {

constexpr size_t kInputs = 256;
// Read between cold runs: more than any L2 of today, and more than a last-level cache.
constexpr int64_t kEvictL2Bytes = 4 << 20;
constexpr int64_t kEvictAllBytes = 128 << 20;
// One measurement of cc/bpf: long enough that the kernel's clock does not matter.
constexpr uint32_t kRepeat = 10000;

struct Setup {
    FloatModel model;
    QuantModel quantised;
    std::vector<InputCodes> inputs;
    std::vector<std::vector<float>> features;
    std::vector<uint8_t> params;
    std::unique_ptr<HostProgram> host;
};

Result<Setup> set_up() {
    Setup setup;
    setup.model = cc_sized_model();
    setup.inputs = cc_inputs(setup.model.network, kInputs);
    for (const InputCodes& in : setup.inputs) setup.features.push_back(decode(setup.model.network, in));
    Result<QuantModel> quantised = quantise(setup.model, setup.inputs);
    if (!quantised) return quantised.error();
    setup.quantised = std::move(*quantised);
    Result<std::vector<uint8_t>> params = pack(setup.quantised);
    if (!params) return params.error();
    setup.params = std::move(*params);
    Result<HostProgram> host = HostProgram::load(setup.model.network);
    if (!host) return host.error();
    setup.host = std::make_unique<HostProgram>(std::move(*host));
    const Setup& s = setup;
    Status same = verify(
        s.quantised, [&s](const uint8_t* in, int32_t* out) { s.host->run(s.params.data(), in, out); }, s.inputs, 1000,
        1);
    if (!same) return same.error();
    return setup;
}

// On a busy machine the mean is that of the runs that were interrupted.
double median(std::vector<double> times) {
    if (times.empty()) return 0;
    std::nth_element(times.begin(), times.begin() + static_cast<ptrdiff_t>(times.size() / 2), times.end());
    return times[times.size() / 2];
}

void host(benchmark::State& state, const Setup& setup) {
    size_t n = 0;
    int32_t out = 0;
    for (auto _ : state) {
        setup.host->run(setup.params.data(), setup.inputs[n++ % kInputs].data(), &out);
        benchmark::DoNotOptimize(out);
    }
}

// Every run finds parameters, tables, inputs and code out of the caches, as after other work between two decisions.
void host_cold(benchmark::State& state, const Setup& setup, int64_t evict_bytes) {
    std::vector<uint64_t> other(static_cast<size_t>(evict_bytes) / sizeof(uint64_t), 1);
    std::vector<double> times;
    size_t n = 0;
    int32_t out = 0;
    auto now = [] { return std::chrono::steady_clock::now(); };
    // The clock's own time, which is not small against one run.
    double clock_s = 1;
    for (int i = 0; i < 1000; i++) {
        auto begin = now();
        clock_s = std::min(clock_s, std::chrono::duration<double>(now() - begin).count());
    }
    for (auto _ : state) {
        benchmark::DoNotOptimize(std::accumulate(other.begin(), other.end(), uint64_t{0}));
        auto begin = now();
        setup.host->run(setup.params.data(), setup.inputs[n++ % kInputs].data(), &out);
        benchmark::DoNotOptimize(out);
        auto end = now();
        times.push_back(std::max(0.0, std::chrono::duration<double>(end - begin).count() - clock_s));
        state.SetIterationTime(times.back());
    }
    state.counters["median_ns"] = median(times) * 1e9;
}

// The kernel's own time a run, minus that of the same program without the network, both measured here and now.
void bpf(benchmark::State& state, const Setup& setup) {
    Result<KernelProgram> program = KernelProgram::load(setup.quantised);
    if (!program) {
        state.SkipWithError(program.error().message.c_str());
        return;
    }
    size_t n = 0;
    std::vector<double> times;
    std::vector<double> empty_times;
    for (auto _ : state) {
        const InputCodes& in = setup.inputs[n++ % kInputs];
        Result<double> with = program->time_network(in, kRepeat);
        Result<double> without = program->time_empty(kRepeat);
        if (!with || !without) {
            state.SkipWithError((with ? without : with).error().message.c_str());
            return;
        }
        times.push_back(std::max(0.0, *with - *without));
        empty_times.push_back(*without);
        state.SetIterationTime(times.back() * 1e-9);
        if (n == 1) {
            // After the empty program, which writes to the same entry: run once more for the check.
            Result<double> again = program->time_network(in, 1);
            Result<std::vector<int32_t>> out = program->output(1);
            if (!again || !out || *out != interpret(setup.quantised, in)) {
                state.SkipWithError("the kernel's output is not the reference interpreter's");
                return;
            }
        }
    }
    state.counters["median_ns"] = median(times);
    state.counters["empty_program_ns"] = median(empty_times);
}

void torch_peer(benchmark::State& state, const Setup& setup) {
    TorchPeer peer(setup.model);
    float want = run_float(setup.model, setup.inputs[0])[0];
    if (std::abs(peer.run(setup.features[0]) - want) > 1e-4F) {
        state.SkipWithError("LibTorch and the float model disagree");
        return;
    }
    size_t n = 0;
    for (auto _ : state) benchmark::DoNotOptimize(peer.run(setup.features[n++ % kInputs]));
}

}  // namespace
}  // namespace adapath::bench

int main(int argc, char** argv) {
    using namespace adapath::bench;
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    adapath::Result<Setup> setup = set_up();
    if (!setup) {
        fmt::print(stderr, "bench_inference: {}\n", setup.error().message);
        return 1;
    }
    const Setup& s = *setup;
    benchmark::RegisterBenchmark("cc/host", host, std::cref(s));
    benchmark::RegisterBenchmark("cc/host_cold", host_cold, std::cref(s), kEvictL2Bytes)
        ->UseManualTime()
        ->Iterations(1000);
    benchmark::RegisterBenchmark("cc/host_cold_memory", host_cold, std::cref(s), kEvictAllBytes)
        ->UseManualTime()
        ->Iterations(50);
    benchmark::RegisterBenchmark("cc/bpf", bpf, std::cref(s))->UseManualTime()->Iterations(100);
    benchmark::RegisterBenchmark("cc/torch", torch_peer, std::cref(s));
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
