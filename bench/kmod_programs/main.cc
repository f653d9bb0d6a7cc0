// ns per query of the programs that the kernel module may run a network with: generated for it, generic, AVX2, AVX-512
// VNNI. All on the same weights and inputs, in turns within one benchmark, so that ratios hold on a machine whose speed
// wanders.
//
//   bench_kmod_programs [--benchmark_filter=30-32-16-1] [--benchmark_format=json] ...
//
// NETWORK/warm: parameters, code and inputs in the caches. NETWORK/cold: out of L1 and L2. NETWORK/cold_memory: out of
// all caches. Counters: <program>_ns, medians; <program>_x, how many times as fast as generated; and for SIMD
// <program>_state_ns, with the vector registers saved (XSAVEOPT) before and restored after it, which is what a query
// costs at most in the kernel: there kernel_fpu_begin() saves only where a process's registers are live, and the return
// to user mode restores.
#include <algorithm>
#include <chrono>
#include <map>
#include <memory>
#include <numeric>
#include <vector>

#include <cpuid.h>

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include "bench/kmod_programs/networks.h"

namespace adapath::bench {
namespace {

// Read between cold runs: more than any L2 of today, and more than a last-level cache.
constexpr int64_t kEvictL2Bytes = 4 << 20;
constexpr int64_t kEvictAllBytes = 128 << 20;

using Clock = std::chrono::steady_clock;

double nanoseconds(Clock::time_point begin, Clock::time_point end) {
    return std::chrono::duration<double, std::nano>(end - begin).count();
}

// On a busy machine the mean is that of the runs that were interrupted.
double median(std::vector<double> times) {
    if (times.empty()) return 0;
    std::nth_element(times.begin(), times.begin() + static_cast<ptrdiff_t>(times.size() / 2), times.end());
    return times[times.size() / 2];
}

// The clock's own time, which is not small against one run.
double clock_ns() {
    double least = 1e9;
    for (int i = 0; i < 1000; i++) {
        const auto begin = Clock::now();
        least = std::min(least, nanoseconds(begin, Clock::now()));
    }
    return least;
}

// This thread's extended state, as kernel_fpu_begin() saves it. The same registers are put back, less what ran in
// between.
class State {
public:
    static bool supported() {
        unsigned a = 0, b = 0, c = 0, d = 0;
        return __builtin_cpu_supports("avx2") && __get_cpuid_count(0xd, 1, &a, &b, &c, &d) && (a & 1) != 0;
    }
    void save() { asm volatile("xsaveopt64 %0" : "+m"(area_) : "a"(-1), "d"(-1) : "memory"); }
    void restore() {
        asm volatile("xrstor64 %0"
                     :
                     : "m"(area_), "a"(-1), "d"(-1)
                     : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                       "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    }

private:
    // As large as it is with every feature of today, AMX's tiles included.
    struct alignas(64) Area {
        uint8_t bytes[16384];
    } area_ = {};
};

// A program, and whether its registers are saved around it.
struct Variant {
    Program program;
    bool state;
    std::string name;
    std::vector<double> times;
};

std::vector<Variant> variants() {
    std::vector<Variant> all;
    for (const Program program : kPrograms) {
        if (!cpu_runs(program)) continue;
        all.push_back({program, false, name_of(program), {}});
        if ((program == Program::avx2 || program == Program::vnni) && State::supported()) {
            all.push_back({program, true, fmt::format("{}_state", name_of(program)), {}});
        }
    }
    return all;
}

void run(const Subject& subject, const Variant& variant, State& state, const uint8_t* in) {
    int32_t out[ADP_MAX_OUTPUTS];
    if (variant.state) state.save();
    subject.run(variant.program, in, out);
    if (variant.state) state.restore();
    benchmark::DoNotOptimize(out);
}

void report(benchmark::State& state, const Subject& subject, const std::vector<Variant>& all) {
    const double generated = median(all.front().times);
    for (const Variant& variant : all) {
        const double ns = median(variant.times);
        state.counters[variant.name + "_ns"] = ns;
        if (variant.program != Program::generated && ns > 0) state.counters[variant.name + "_x"] = generated / ns;
    }
    state.counters["multiplications"] = subject.multiplications();
    state.SetLabel(
        fmt::format("{} bytes of parameters, {} of SIMD block", subject.params_bytes(), subject.simd_bytes()));
}

void warm(benchmark::State& state, const Subject& subject) {
    std::vector<Variant> all = variants();
    const std::vector<InputCodes>& inputs = subject.inputs();
    auto saved = std::make_unique<State>();
    for (auto _ : state) {
        double round = 0;
        for (Variant& variant : all) {
            // Once untimed: the others have been at the caches and the branch predictor.
            for (const InputCodes& in : inputs) run(subject, variant, *saved, in.data());
            const auto begin = Clock::now();
            for (const InputCodes& in : inputs) run(subject, variant, *saved, in.data());
            variant.times.push_back(nanoseconds(begin, Clock::now()) / static_cast<double>(inputs.size()));
            round += variant.times.back();
        }
        state.SetIterationTime(round * 1e-9);
    }
    report(state, subject, all);
}

// Every run finds parameters, tables, inputs and code out of the caches, as after other work between two decisions.
void cold(benchmark::State& state, const Subject& subject, int64_t evict_bytes) {
    std::vector<Variant> all = variants();
    std::vector<uint64_t> other(static_cast<size_t>(evict_bytes) / sizeof(uint64_t), 1);
    const std::vector<InputCodes>& inputs = subject.inputs();
    const double clock = clock_ns();
    auto saved = std::make_unique<State>();
    size_t n = 0;
    for (auto _ : state) {
        double round = 0;
        for (Variant& variant : all) {
            benchmark::DoNotOptimize(std::accumulate(other.begin(), other.end(), uint64_t{0}));
            const uint8_t* in = inputs[n++ % inputs.size()].data();
            const auto begin = Clock::now();
            run(subject, variant, *saved, in);
            variant.times.push_back(std::max(0.0, nanoseconds(begin, Clock::now()) - clock));
            round += variant.times.back();
        }
        state.SetIterationTime(round * 1e-9);
    }
    report(state, subject, all);
}

}  // namespace
}  // namespace adapath::bench

int main(int argc, char** argv) {
    using namespace adapath::bench;
    benchmark::Initialize(&argc, argv);
    if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
    const auto subjects = make_subjects();
    if (!subjects) {
        fmt::print(stderr, "bench_kmod_programs: {}\n", subjects.error().message);
        return 1;
    }
    for (const auto& subject : *subjects) {
        const Subject& s = *subject;
        benchmark::RegisterBenchmark((s.name() + "/warm").c_str(), warm, std::cref(s))
            ->UseManualTime()
            ->Iterations(300);
        benchmark::RegisterBenchmark((s.name() + "/cold").c_str(), cold, std::cref(s), kEvictL2Bytes)
            ->UseManualTime()
            ->Iterations(200);
        benchmark::RegisterBenchmark((s.name() + "/cold_memory").c_str(), cold, std::cref(s), kEvictAllBytes)
            ->UseManualTime()
            ->Iterations(15);
    }
    benchmark::RunSpecifiedBenchmarks();
    benchmark::Shutdown();
    return 0;
}
