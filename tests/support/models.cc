// See models.h.
#include "tests/support/models.h"

#include <random>

#include <adapath/select.h>

#include "models/select_model.h"
#include "tests/codegen/random_models.h"

namespace adapath::testing {

FloatModel random_cc_model(const std::vector<uint32_t>& hidden, Activation activation, uint64_t seed) {
    std::vector<LayerShape> layers;
    uint32_t inputs = ADP_CC_INPUTS;
    for (const uint32_t outputs : hidden) {
        layers.push_back({inputs, outputs, activation});
        inputs = outputs;
    }
    layers.push_back({inputs, ADP_CC_OUTPUTS, Activation::identity});
    std::mt19937_64 random(seed);
    FloatModel model = testing_support::random_weights(testing_support::cc_network(layers), random);
    model.biases.back()[0] = 3;
    return model;
}

std::vector<InputCodes> random_cc_codes(size_t count, uint64_t seed) {
    std::mt19937_64 random(seed);
    return testing_support::uniform_codes(ADP_CC_INPUTS, count, random);
}

std::vector<InputCodes> flow_like_codes(size_t count, uint64_t seed) {
    std::mt19937_64 random(seed);
    return testing_support::kernel_codes(count, random);
}

FloatModel random_select_model(const std::vector<uint32_t>& hidden, uint64_t seed) {
    std::mt19937_64 random(seed);
    return testing_support::random_weights(select_network(hidden), random);
}

std::vector<InputCodes> random_select_codes(size_t count, uint64_t seed) {
    std::mt19937_64 random(seed);
    return testing_support::uniform_codes(ADP_SELECT_INPUTS, count, random);
}

Result<Snapshot> freeze_for_test(const FloatModel& model, std::span<const InputCodes> calibration,
                                 const FreezeOptions& options) {
    static Freezer freezer;
    FreezeOptions lenient = options;
    lenient.fidelity_limit = 0;
    lenient.random_inputs = 100;
    return freezer.freeze(model, calibration, calibration.first(std::min<size_t>(calibration.size(), 100)), lenient);
}

}  // namespace adapath::testing
