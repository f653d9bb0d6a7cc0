// See scenario.h.
#include "models/select/scenario.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

namespace adapath {

namespace {

// Mean bytes of the main stream, a second, as the plan plays it.
double main_rate(const SelectCameraPlan& plan) {
    double bytes = 0;
    double pictures = 0;
    for (const SelectChunk& chunk : *plan.chunks) {
        for (const uint32_t picture : chunk.bytes[1]) bytes += picture;
        pictures += static_cast<double>(chunk.bytes[1].size());
    }
    return bytes * plan.scale[1] / pictures * plan.fps;
}

std::shared_ptr<const Trace> generated(double mean_mbit, uint64_t seed, double seconds) {
    TraceGenerator options;
    options.mean_mbit = mean_mbit;
    options.seed = seed;
    options.duration_ms = static_cast<uint32_t>(seconds * 1000);
    Result<Trace> trace = Trace::generate(options);
    // The options are in range by construction.
    return std::make_shared<const Trace>(std::move(*trace));
}

}  // namespace

SelectScenario random_select_scenario(const SelectDataset& dataset, Random& random, double seconds) {
    std::vector<const SelectView*> views;
    for (const SelectView& view : dataset.views)
        if (!view.held_out) views.push_back(&view);
    SelectScenario s;
    s.seconds = seconds;
    s.seed = random.next();
    s.rtt_s = random.log_uniform(0.01, 0.3);
    s.explore = random.log_uniform(0.02, 0.3);
    const auto count = 1 + static_cast<size_t>(random.uniform() * 12);
    // One installation's cameras resemble each other.
    const double common_scale = random.log_uniform(0.3, 10);
    const double common_fps = random.log_uniform(5, 25);
    const double report_s = random.log_uniform(0.05, 2);
    const double report_loss = random.uniform() < 0.15 ? random.uniform() : 0.02;
    double demand = 0;
    for (size_t i = 0; i < count; i++) {
        SelectCameraPlan plan;
        const SelectView& view = *views[static_cast<size_t>(random.uniform() * static_cast<double>(views.size()))];
        plan.chunks = &view.late;
        plan.first = static_cast<size_t>(random.uniform() * static_cast<double>(view.late.size()));
        plan.fps = random.uniform() < 0.7 ? common_fps : random.log_uniform(5, 25);
        const double scale = common_scale * random.log_uniform(0.6, 1.7);
        plan.scale = {scale * random.log_uniform(0.7, 1.4), scale};
        const double phase = random.uniform() * 1.5;
        plan.phase_s = {phase, random.uniform() < 0.6 ? phase : random.uniform() * 1.5};
        // So that what was measured last counts for more than what the sizes of these very views happen to go with.
        plan.sub_shift = 0.15 * random.normal();
        plan.report_s = report_s;
        plan.report_loss = random.uniform() < 0.05 ? 1 : report_loss;
        s.cameras.push_back(plan);
        demand += main_rate(plan);
    }
    s.trace = generated(std::clamp(demand * 8e-6 / random.log_uniform(0.5, 8), 0.1, 200.0), random.next(), seconds + 1);
    s.name = fmt::format("{} cameras", count);
    return s;
}

SelectScenario judged_select_scenario(const SelectDataset& dataset, std::shared_ptr<const Trace> trace,
                                      const std::string& name, uint32_t cameras, double demand) {
    std::vector<const SelectView*> views;
    for (const bool held_out : {true, false})
        for (const SelectView& view : dataset.views)
            if (view.held_out == held_out) views.push_back(&view);
    SelectScenario s;
    s.name = fmt::format("{}, {} cameras", name, cameras);
    double rate = 0;
    for (uint32_t i = 0; i < cameras; i++) {
        SelectCameraPlan plan;
        plan.chunks = &views[i % views.size()]->early;
        // The same view again somewhere else in it.
        plan.first = 7 * (i / views.size());
        plan.phase_s = {0.13 * i, 0.13 * i};
        s.cameras.push_back(plan);
        rate += main_rate(plan);
    }
    const double scale = demand * trace->mean_bytes_per_s() / rate;
    for (SelectCameraPlan& plan : s.cameras) plan.scale = {scale, scale};
    s.seconds = 120;
    s.trace = std::move(trace);
    return s;
}

SelectDataset made_up_cameras(uint64_t seed) {
    Random random(seed);
    SelectDataset dataset;
    for (int v = 0; v < 8; v++) {
        SelectView view;
        view.name = fmt::format("made-up-{}", v);
        const double main_idr = random.log_uniform(8000, 50000);
        const double share = random.uniform(0.1, 0.3);
        double busy = random.uniform();
        for (int i = 0; i < 80; i++) {
            busy = std::clamp(busy + 0.2 * random.normal(), 0.0, 1.0);
            SelectChunk chunk;
            chunk.first = static_cast<uint64_t>(10 * i);
            for (int p = 0; p < 10; p++) {
                const double bytes = (p == 0 ? main_idr : main_idr * (0.03 + 0.12 * busy)) * random.uniform(0.8, 1.25);
                chunk.bytes[1].push_back(static_cast<uint32_t>(bytes));
                chunk.bytes[0].push_back(static_cast<uint32_t>(1 + bytes * share));
            }
            chunk.objects = {6 * busy, 10 * busy};
            chunk.confidence = {0.5, 0.5};
            chunk.accuracy = {std::clamp(0.95 - 0.6 * busy + 0.1 * random.normal(), 0.0, 1.0), 1};
            (i < 40 ? view.early : view.late).push_back(std::move(chunk));
        }
        dataset.views.push_back(std::move(view));
    }
    return dataset;
}

Result<std::vector<NamedTrace>> judged_traces(const std::string& folder) {
    std::vector<NamedTrace> traces;
    std::error_code none;
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(folder, none))
        if (entry.is_regular_file()) files.push_back(entry.path());
    std::ranges::sort(files);
    for (const std::filesystem::path& file : files) {
        Result<Trace> trace = Trace::load(file.string());
        if (!trace) return trace.error();
        traces.push_back({file.stem().string(), std::make_shared<const Trace>(std::move(*trace))});
    }
    for (const auto& [mbit, seed] : {std::pair{2.0, 11U}, {6.0, 12U}, {12.0, 13U}})
        traces.push_back({fmt::format("generated-{:.0f}", mbit), generated(mbit, seed, 140)});
    return traces;
}

}  // namespace adapath
