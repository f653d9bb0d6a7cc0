// See policies.h.
#include "bench/video/policies.h"

#include <adapath/select.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "models/select_model.h"

namespace adapath::video_bench {
namespace {

constexpr size_t kCalibration = 512;
constexpr uint64_t kSeed = 1;

FloatModel zeros() {
    FloatModel model;
    model.network = select_network({4});
    for (const LayerShape& layer : model.network.layers) {
        model.weights.emplace_back(size_t{layer.inputs} * layer.outputs, 0.0F);
        model.biases.emplace_back(layer.outputs, 0.0F);
    }
    return model;
}

}  // namespace

FloatModel constant_select(float sub_worth, float gain) {
    FloatModel model = zeros();
    model.biases.back()[ADP_SELECT_OUT_SUB] = sub_worth;
    model.biases.back()[ADP_SELECT_OUT_GAIN] = gain;
    return model;
}

FloatModel threshold_select(double picture_bytes) {
    constexpr size_t input = size_t{ADP_SELECT_MAIN} * size_t{ADP_SELECT_FEATURES} + size_t{ADP_SELECT_PICTURE};
    FloatModel model = zeros();
    // As select.h codes it, to the nearest; half a code below the first that is to pass.
    const double code =
        std::clamp(std::floor(ADP_SELECT_BYTES_ZERO +
                              ADP_SELECT_BYTES_UNIT * (std::log2(std::max(1.0, picture_bytes)) - 10) + 0.5),
                   0.0, 255.0);
    const InputCode& read = model.network.inputs[input];
    // A step of one code moves the hidden unit's argument by 2: from tanh(-1) to tanh(1).
    const float weight = 2 / read.scale;
    model.weights[0][input] = weight;
    model.biases[0][0] = -weight * read.scale * (static_cast<float>(code) - 0.5F - static_cast<float>(read.zero_point));
    // From -1 to 1: what sub is worth goes from 1 to nothing (or it would come beside main as an insurance, bytes
    // costing nothing), and what main adds from nothing to 1.
    const size_t inputs = model.network.layers[1].inputs;
    model.biases[1][ADP_SELECT_OUT_SUB] = 0.45F;
    model.weights[1][size_t{ADP_SELECT_OUT_SUB} * inputs] = -0.65F;
    model.biases[1][ADP_SELECT_OUT_GAIN] = 0.4F;
    model.weights[1][size_t{ADP_SELECT_OUT_GAIN} * inputs] = 0.7F;
    return model;
}

Result<std::string> frozen(Freezer& freezer, const FloatModel& model, const std::string& note) {
    std::mt19937_64 random(kSeed);
    std::vector<InputCodes> codes(kCalibration, InputCodes(model.network.input_count()));
    for (InputCodes& vector : codes) {
        for (uint8_t& code : vector) {
            code = static_cast<uint8_t>(random());
        }
    }
    FreezeOptions options;
    options.provenance.trainer = "adapath-video-bench";
    options.provenance.note = note;
    options.provenance.created_unix_s = 1;  // the same policy is the same snapshot, and has the same name
    options.fidelity_limit = 0;
    Result<Snapshot> snapshot = freezer.freeze(model, codes, codes, options);
    return snapshot ? serialise(*snapshot) : Result<std::string>(snapshot.error());
}

}  // namespace adapath::video_bench
