// See traces.h.
#include "userspace/arena/traces.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <sstream>

#include "userspace/arena/hash.h"

namespace adapath::arena {

Result<std::vector<TraceSource>> sources_at(const std::string& path) {
    std::error_code error;
    std::vector<TraceSource> sources;
    const auto add = [&](const std::filesystem::path& file) {
        sources.push_back({.kind = TraceSource::Kind::file, .name = file.filename().string(), .path = file.string()});
    };
    if (!std::filesystem::is_directory(path, error)) {
        add(path);
        return sources;
    }
    for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
        if (entry.is_regular_file() && entry.path().filename().string().front() != '.') {
            add(entry.path());
        }
    }
    if (error || sources.empty()) {
        return Error{fmt::format("--trace {}: {}", path,
                                 error ? error.message() : "the directory holds no file; put mahimahi traces there")};
    }
    std::sort(sources.begin(), sources.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
    return sources;
}

TraceSource generated_source(double mean_mbit) {
    return {.kind = TraceSource::Kind::generated,
            .name = fmt::format("generated LTE-like {:g} Mbit/s", mean_mbit),
            .path = {},
            .mean_mbit = mean_mbit};
}

TraceSource constant_source(double mbit) {
    return {.kind = TraceSource::Kind::constant,
            .name = fmt::format("constant {:g} Mbit/s", mbit),
            .path = {},
            .mean_mbit = mbit};
}

Result<SeededTrace> seeded(const TraceSource& source, uint64_t seed) {
    Result<Trace> trace = source.kind == TraceSource::Kind::file ? Trace::load(source.path)
                          : source.kind == TraceSource::Kind::generated
                              ? Trace::generate({.seed = seed, .mean_mbit = source.mean_mbit})
                              : Trace::constant(source.mean_mbit);
    if (!trace) {
        return trace.error();
    }
    if (source.kind == TraceSource::Kind::file && seed != 1) {
        // Multiples of the golden ratio never come close to each other, however many are taken.
        double whole = 0;
        const double share = std::modf(static_cast<double>(seed - 1) * 0.6180339887498949, &whole);
        trace = trace->begun_at(share);
    }
    std::ostringstream lines;
    trace->write(lines);
    return SeededTrace{.name = source.name, .hash = sha256_text(lines.str()), .seed = seed, .trace = std::move(*trace)};
}

Result<SeededTrace> regimes_trace(const RegimeSettings& settings) {
    const auto phase_ms = static_cast<uint64_t>(std::llround(settings.phase_s * 1000));
    const double per_ms = settings.mbit * 1e6 / 8 / 1000 / static_cast<double>(trace_opportunity_bytes);
    std::string lines;
    double due = 0;
    for (uint64_t ms = 1; ms <= 3 * phase_ms; ms++) {
        const bool changed = ms > phase_ms && ms <= 2 * phase_ms;
        if (!changed) {
            due += per_ms;
        } else if (std::fmod(static_cast<double>(ms - phase_ms - 1), settings.period_ms) < settings.served_ms) {
            due += per_ms * settings.period_ms / settings.served_ms;
        }
        const double whole = std::floor(due);
        due -= whole;
        for (int i = 0; i < static_cast<int>(whole); i++) {
            lines += fmt::format("{}\n", ms);
        }
    }
    Result<Trace> trace = Trace::parse(lines, "the regimes' link");
    if (!trace) {
        return trace.error();
    }
    return SeededTrace{.name = fmt::format("{:g} Mbit/s, changed twice", settings.mbit),
                       .hash = sha256_text(lines),
                       .seed = 1,
                       .trace = std::move(*trace)};
}

Bound omniscient_bound(const Trace& trace, const LinkSettings& link, double seconds) {
    // What leaves the queue in the last moments is still on its way at the end.
    const double until_s = std::max(0.0, seconds - link.delay_ms / 1000);
    return {.delivered_bytes = trace.capacity_bytes(0, static_cast<uint64_t>(until_s * 1e9)),
            .delay_ms = link.delay_ms};
}

}  // namespace adapath::arena
