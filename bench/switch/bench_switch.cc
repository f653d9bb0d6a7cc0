// What a switch costs on the kernel that runs this: the flip alone, parameters from memory to active, and the
// turnaround from float weights to active, for the same network and for a new one, under a live flow. Needs root.
//
//   bench_switch --benchmark_format=json
#include <adapath/cc.h>
#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>

#include "codegen/codegen.h"
#include "userspace/linkem/tcp_flow.h"
#include "userspace/adapathd/backend.h"
#include "userspace/bpf_backend/cc_side.h"

namespace adapath {
namespace {

FloatModel cc_model(const std::vector<uint32_t>& hidden, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    FloatModel model;
    model.network.app = "cc";
    model.network.feature_schema = ADP_CC_SCHEMA;
    for (int i = 0; i < ADP_CC_INPUTS; ++i) model.network.inputs.push_back({1.0F / 32, i % 3 == 1 ? 0 : 128});
    uint32_t inputs = ADP_CC_INPUTS;
    for (size_t l = 0; l <= hidden.size(); ++l) {
        const uint32_t outputs = l == hidden.size() ? ADP_CC_OUTPUTS : hidden[l];
        model.network.layers.push_back({inputs, outputs, l == hidden.size() ? Activation::identity : Activation::tanh});
        std::vector<float> weights(static_cast<size_t>(inputs) * outputs);
        for (float& w : weights) w = normal(random) / std::sqrt(static_cast<float>(inputs));
        model.weights.push_back(weights);
        model.biases.emplace_back(outputs, 0.01F);
        inputs = outputs;
    }
    return model;
}

// Random walks, as histories of intervals are: what the daemon would hand over as recent samples.
std::vector<InputCodes> walks(size_t count) {
    std::mt19937_64 random(7);
    std::vector<InputCodes> all;
    InputCodes codes(ADP_CC_INPUTS, 128);
    for (size_t n = 0; n < count; ++n) {
        for (size_t i = 0; i + 3 < codes.size(); ++i) codes[i] = codes[i + 3];
        for (size_t i = codes.size() - 3; i < codes.size(); ++i)
            codes[i] = static_cast<uint8_t>(std::clamp<int>(codes[i] + static_cast<int>(random() % 41) - 20, 0, 255));
        all.push_back(codes);
    }
    return all;
}

// One kernel side, one live flow and one freezer for the whole run.
struct Fixture {
    BpfBackendOptions options;
    Backend backend;
    Freezer freezer;
    std::unique_ptr<TcpFlow> flow;
    std::vector<InputCodes> codes = walks(512);
    uint32_t generation = 0;

    Fixture() {
        options.congestion_control = fmt::format("adpb{:08x}", std::random_device()());
        options.pin_directory = "/sys/fs/bpf/" + options.congestion_control;
        Result<Backend> opened = open_bpf_backend(options);
        if (!opened) {
            fmt::print(stderr, "bench_switch: {}\n", opened.error().message);
            std::exit(1);
        }
        backend = std::move(*opened);
        auto started = TcpFlow::start(over_loopback(options.congestion_control));
        if (!started) {
            fmt::print(stderr, "bench_switch: {}\n", started.error().message);
            backend = {};
            (void)remove_bpf_backend(options.pin_directory);
            std::exit(1);
        }
        flow = std::move(*started);
    }
    ~Fixture() {
        flow.reset();
        backend = {};
        (void)remove_bpf_backend(options.pin_directory);
    }
    Snapshot freeze(const FloatModel& model) {
        FreezeOptions freeze_options;
        freeze_options.fidelity_limit = 0;
        Result<Snapshot> snapshot = freezer.freeze(model, codes, std::span(codes).first(128), freeze_options);
        if (!snapshot) throw std::runtime_error(snapshot.error().message);
        return std::move(*snapshot);
    }
    uint32_t install(const Snapshot& snapshot) {
        Result<uint32_t> slot = backend.installer->install(snapshot, ++generation, std::span(codes).first(64));
        if (!slot) throw std::runtime_error(slot.error().message);
        return *slot;
    }
    void reclaim() { (void)backend.installer->reclaim(); }
};

Fixture& fixture() {
    static Fixture shared;
    return shared;
}

// The store alone, through the installer's bookkeeping.
void flip(benchmark::State& state) {
    Fixture& f = fixture();
    const uint32_t a = f.install(f.freeze(cc_model({32, 16}, 1)));
    (void)f.backend.installer->switch_to(a);
    const uint32_t b = f.install(f.freeze(cc_model({32, 16}, 2)));
    (void)f.backend.installer->switch_to(b);
    bool first = true;
    for (auto _ : state) {
        (void)f.backend.installer->switch_to(first ? a : b);
        first = !first;
    }
}
BENCHMARK(flip)->Name("switch/flip");

// Packed parameters in memory to active: what a switch to new parameters of the same network costs. No system call.
void parameters(benchmark::State& state) {
    Fixture& f = fixture();
    const Snapshot snapshot = f.freeze(cc_model({32, 16}, 3));
    Result<std::vector<uint8_t>> packed = pack(snapshot.model);
    // A kernel side of its own, really loaded and mapped, whose slots no flow uses: the fixture's generations stay in
    // order.
    BpfBackendOptions options = f.options;
    options.congestion_control += "p";
    options.pin_directory += "p";
    {
        Result<std::unique_ptr<CcSide>> side = open_cc_side(options);
        if (!side) {
            state.SkipWithError(side.error().message.c_str());
            return;
        }
        struct adp_slot* slots = (*side)->slots();
        struct adp_control* control = (*side)->control();
        uint32_t next = 0;
        for (auto _ : state) {
            struct adp_slot& slot = slots[next];
            std::memcpy(slot.params, packed->data(), packed->size());
            slot.params_bytes = static_cast<uint32_t>(packed->size());
            slot.generation = next + 1;
            __atomic_store_n(&control->active, next, __ATOMIC_RELEASE);
            next = (next + 1) % ADP_SLOTS;
        }
    }
    (void)remove_bpf_backend(options.pin_directory);
    state.SetBytesProcessed(static_cast<int64_t>(state.iterations() * packed->size()));
}
BENCHMARK(parameters)->Name("switch/parameters_copy_and_flip");

// Weights of a frozen model to active through the installer, without checks: pack, copy, flip, bookkeeping.
void install_parameters(benchmark::State& state) {
    Fixture& f = fixture();
    const Snapshot snapshot = f.freeze(cc_model({32, 16}, 3));
    (void)f.backend.installer->switch_to(f.install(snapshot));
    for (auto _ : state) {
        state.PauseTiming();
        f.reclaim();
        state.ResumeTiming();
        Result<uint32_t> slot = f.backend.installer->install(snapshot, ++f.generation, {});
        (void)f.backend.installer->switch_to(*slot);
    }
}
BENCHMARK(install_parameters)->Name("switch/parameters_installed")->Iterations(50);

// Float weights to active, verification on host and in the kernel included; the network is known.
void same_network(benchmark::State& state) {
    Fixture& f = fixture();
    (void)f.backend.installer->switch_to(f.install(f.freeze(cc_model({32, 16}, 4))));
    uint64_t seed = 100;
    for (auto _ : state) {
        state.PauseTiming();
        f.reclaim();
        const FloatModel model = cc_model({32, 16}, ++seed);
        state.ResumeTiming();
        (void)f.backend.installer->switch_to(f.install(f.freeze(model)));
    }
}
BENCHMARK(same_network)->Name("turnaround/same_network")->Unit(benchmark::kMillisecond)->Iterations(30);

// The same for a network that was never seen: emitted, compiled twice (kernel and host), loaded, verified.
void new_network(benchmark::State& state) {
    Fixture& f = fixture();
    uint32_t width = 40;
    for (auto _ : state) {
        state.PauseTiming();
        f.reclaim();
        const FloatModel model = cc_model({width++, 24}, 5);
        state.ResumeTiming();
        (void)f.backend.installer->switch_to(f.install(f.freeze(model)));
    }
}
BENCHMARK(new_network)->Name("turnaround/new_network")->Unit(benchmark::kMillisecond)->Iterations(10);

// What the collector adds to a switch: nothing. What reclaiming costs, off the critical path: one grace period.
void grace(benchmark::State& state) {
    Fixture& f = fixture();
    const Snapshot snapshot = f.freeze(cc_model({32, 16}, 6));
    for (auto _ : state) {
        state.PauseTiming();
        (void)f.backend.installer->switch_to(f.install(snapshot));
        state.ResumeTiming();
        f.reclaim();
    }
}
BENCHMARK(grace)->Name("reclaim/grace_period")->Unit(benchmark::kMillisecond)->Iterations(20);

}  // namespace
}  // namespace adapath

BENCHMARK_MAIN();
