// How far the integers are from the floats.
#include <algorithm>
#include <cmath>

#include "codegen/codegen.h"

namespace adapath {

namespace {

// An output that (nearly) never moves has no range to take a fraction of; below this the fraction is of this instead.
// One unit of the Q16 output is then 1/256 of it.
constexpr double kLeastRange = 1.0 / 256;

}  // namespace

Fidelity measure_fidelity(const FloatModel& reference, const QuantModel& model, std::span<const InputCodes> samples) {
    Fidelity result;
    result.samples = samples.size();
    if (samples.empty()) {
        return result;
    }
    const size_t outputs = model.network.output_count();
    std::vector<double> lowest(outputs, INFINITY);
    std::vector<double> highest(outputs, -INFINITY);
    std::vector<double> errors(samples.size() * outputs);
    for (size_t s = 0; s < samples.size(); ++s) {
        const std::vector<float> real = run_float(reference, samples[s]);
        const std::vector<int32_t> q16 = interpret(model, samples[s]);
        for (size_t o = 0; o < outputs; ++o) {
            lowest[o] = std::min<double>(lowest[o], real[o]);
            highest[o] = std::max<double>(highest[o], real[o]);
            errors[s * outputs + o] = std::abs(real[o] - q16[o] / 65536.0);
        }
    }
    // A sample's error is that of its worst output.
    std::vector<double> worst(samples.size(), 0);
    double sum = 0;
    for (size_t s = 0; s < samples.size(); ++s) {
        for (size_t o = 0; o < outputs; ++o) {
            const double range = std::max(highest[o] - lowest[o], kLeastRange);
            worst[s] = std::max(worst[s], errors[s * outputs + o] / range);
        }
        sum += worst[s];
    }
    for (size_t o = 0; o < outputs; ++o) {
        result.range = std::max(result.range, highest[o] - lowest[o]);
    }
    result.mean_error = sum / static_cast<double>(samples.size());
    // The least error that at least 99 % of the samples do not exceed.
    const size_t p99 = (samples.size() * 99 + 99) / 100 - 1;
    std::nth_element(worst.begin(), worst.begin() + static_cast<ptrdiff_t>(p99), worst.end());
    result.p99_error = worst[p99];
    result.max_error = *std::max_element(worst.begin() + static_cast<ptrdiff_t>(p99), worst.end());
    return result;
}

Fidelity measure_fidelity(const ImageFloatModel& reference, const ImageQuantModel& model,
                          std::span<const ImageCodes> pictures) {
    Fidelity result;
    const size_t channels = model.network.layers.back().outputs;
    std::vector<double> lowest(channels, INFINITY);
    std::vector<double> highest(channels, -INFINITY);
    std::vector<std::pair<size_t, double>> errors;  // of which channel
    for (const ImageCodes& picture : pictures) {
        const std::vector<float> real = run_float(reference, picture);
        const std::vector<int32_t> q16 = interpret(model, picture);
        const size_t places = real.size() / channels;
        for (size_t i = 0; i < real.size(); i++) {
            lowest[i / places] = std::min<double>(lowest[i / places], real[i]);
            highest[i / places] = std::max<double>(highest[i / places], real[i]);
            errors.emplace_back(i / places, std::abs(real[i] - q16[i] / 65536.0));
        }
    }
    result.samples = errors.size();
    if (errors.empty()) {
        return result;
    }
    std::vector<double> fractions;
    double sum = 0;
    for (const auto& [channel, error] : errors) {
        fractions.push_back(error / std::max(highest[channel] - lowest[channel], kLeastRange));
        sum += fractions.back();
    }
    for (size_t c = 0; c < channels; c++) {
        result.range = std::max(result.range, highest[c] - lowest[c]);
    }
    result.mean_error = sum / static_cast<double>(fractions.size());
    const size_t p99 = (fractions.size() * 99 + 99) / 100 - 1;
    std::nth_element(fractions.begin(), fractions.begin() + static_cast<ptrdiff_t>(p99), fractions.end());
    result.p99_error = fractions[p99];
    result.max_error = *std::max_element(fractions.begin() + static_cast<ptrdiff_t>(p99), fractions.end());
    return result;
}

}  // namespace adapath
