// See model_edit.h.
#include "userspace/demo/model_edit.h"

#include <fmt/format.h>

#include <random>

namespace adapath::demo {

FloatModel perturb(FloatModel model, double strength, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> noise(0, strength);
    const auto shake = [&](std::vector<std::vector<float>>& layers) {
        for (std::vector<float>& layer : layers) {
            for (float& value : layer) {
                value = static_cast<float>(value * (1 + noise(random)));
            }
        }
    };
    shake(model.weights);
    shake(model.biases);
    return model;
}

Result<FloatModel> widen(const FloatModel& model, const std::vector<uint32_t>& hidden) {
    const std::vector<LayerShape>& old = model.network.layers;
    if (hidden.size() + 1 != old.size()) {
        return Error{fmt::format("can't widen {}: it has {} hidden layers, {} widths were given",
                                 describe(model.network), old.size() - 1, hidden.size())};
    }
    FloatModel wide = model;
    for (size_t l = 0; l < old.size(); l++) {
        const bool last = l + 1 == old.size();
        const uint32_t old_inputs = old[l].inputs;
        const uint32_t old_outputs = old[l].outputs;
        const uint32_t inputs = l == 0 ? old_inputs : hidden[l - 1];
        const uint32_t outputs = last ? old_outputs : hidden[l];
        if (outputs < old_outputs) {
            return Error{fmt::format("can't widen {}: layer {} has {} outputs, {} are fewer", describe(model.network),
                                     l, old_outputs, outputs)};
        }
        wide.network.layers[l].inputs = inputs;
        wide.network.layers[l].outputs = outputs;
        wide.weights[l].assign(size_t{inputs} * outputs, 0.0F);
        wide.biases[l].resize(outputs);
        for (uint32_t row = 0; row < outputs; row++) {
            const uint32_t old_row = row % old_outputs;
            wide.biases[l][row] = model.biases[l][old_row];
            for (uint32_t column = 0; column < inputs; column++) {
                const uint32_t old_column = column % old_inputs;
                // How many neurons of the layer before now stand for the old one.
                const uint32_t copies = (inputs - old_column + old_inputs - 1) / old_inputs;
                wide.weights[l][size_t{row} * inputs + column] =
                    model.weights[l][size_t{old_row} * old_inputs + old_column] / static_cast<float>(copies);
            }
        }
    }
    return wide;
}

}  // namespace adapath::demo
