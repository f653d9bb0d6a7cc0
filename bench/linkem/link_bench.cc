// Packets a second of the link's core, without any system call.
#include <benchmark/benchmark.h>

#include <vector>

#include "userspace/linkem/link.h"

namespace adapath {
namespace {

constexpr uint64_t ms = 1'000'000;

// A stream at 9/10 of the rate, one millisecond at a time, as a paced sender would give it. Arguments: Mbit/s, packet
// bytes.
void link_stream(benchmark::State& state) {
    const auto mbit = static_cast<double>(state.range(0));
    const auto size = static_cast<uint32_t>(state.range(1));
    Link link(*Trace::constant(mbit), {.delay_ns = 20 * ms, .queue_bytes = 10'000'000});
    const std::vector<uint8_t> packet(size, 0x5a);
    const auto burst = static_cast<uint64_t>(mbit * 125 * 0.9 / size) + 1;
    uint64_t now_ns = 0;
    uint64_t bytes = 0;
    for (auto _ : state) {
        now_ns += ms;
        for (uint64_t i = 0; i < burst; i++) {
            link.push(packet, now_ns);
        }
        link.poll(now_ns, [&](const LinkPacket& out) { bytes += out.data[out.size - 1]; });
        benchmark::DoNotOptimize(link.next_deadline_ns());
    }
    benchmark::DoNotOptimize(bytes);
    state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(burst));
    state.SetBytesProcessed(state.items_processed() * size);
}
BENCHMARK(link_stream)->Args({200, 1500})->Args({200, 100})->Args({2000, 1500})->ArgNames({"Mbit/s", "bytes"});

// One packet at a time through an idle link over a long recorded-like trace: each push must find the trace's next
// opportunity.
void link_idle(benchmark::State& state) {
    Link link(*Trace::generate({.seed = 1}), {.delay_ns = 20 * ms, .queue_bytes = 10'000'000});
    const std::vector<uint8_t> packet(1500, 0x5a);
    uint64_t now_ns = 0;
    for (auto _ : state) {
        now_ns += 5'000 * ms;
        link.push(packet, now_ns);
        now_ns = link.next_deadline_ns();
        link.poll(now_ns, [](const LinkPacket& out) { benchmark::DoNotOptimize(out.data); });
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(link_idle);

// A queue that is always full: most packets are dropped.
void link_full(benchmark::State& state) {
    Link link(*Trace::constant(10), {.delay_ns = 20 * ms, .queue_bytes = 150'000});
    const std::vector<uint8_t> packet(1500, 0x5a);
    uint64_t now_ns = 0;
    for (auto _ : state) {
        now_ns += 60'000;
        link.push(packet, now_ns);
        link.poll(now_ns, [](const LinkPacket& out) { benchmark::DoNotOptimize(out.data); });
    }
    state.SetItemsProcessed(state.iterations());
}
BENCHMARK(link_full);

void trace_capacity(benchmark::State& state) {
    const Trace trace = *Trace::generate({.seed = 1});
    uint64_t at = 0;
    for (auto _ : state) {
        at += 123'456'789;
        benchmark::DoNotOptimize(trace.capacity_bytes(at, at + 100 * ms));
    }
}
BENCHMARK(trace_capacity);

}  // namespace
}  // namespace adapath
