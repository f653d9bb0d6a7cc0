// See cc_model.h.
#include "models/cc_model.h"

#include <adapath/cc.h>

namespace adapath {

Network cc_network(const std::vector<uint32_t>& hidden) {
    Network network;
    network.app = "cc";
    network.feature_schema = ADP_CC_SCHEMA;
    for (int i = 0; i < ADP_CC_HISTORY; i++) {
        network.inputs.push_back({1.0F / ADP_CC_INFLATION_UNIT, ADP_CC_INFLATION_ZERO});
        network.inputs.push_back({1.0F / ADP_CC_LATENCY_UNIT, ADP_CC_LATENCY_ZERO});
        network.inputs.push_back({1.0F / ADP_CC_LATENCY_UNIT, ADP_CC_LATENCY_ZERO});
        network.inputs.push_back({1.0F / ADP_CC_SEND_UNIT, ADP_CC_SEND_ZERO});
        network.inputs.push_back({1.0F / ADP_CC_DELIVERY_UNIT, ADP_CC_DELIVERY_ZERO});
        // A percent of loss is 5 codes: weighed so that it is a tenth, not a fiftieth.
        network.inputs.push_back({0.02F, ADP_CC_LOSS_ZERO});
    }
    // Those that are there once are brought to about -2..2: their own zeros and units, in codes.
    network.inputs.push_back({1.0F / 32, 5 * ADP_CC_WINDOW_UNIT});  // 32 packets
    network.inputs.push_back({1.0F / 32, 5 * ADP_CC_BASE_UNIT});    // 33 ms
    network.inputs.push_back({1.0F / ADP_CC_LATENCY_UNIT, ADP_CC_LATENCY_ZERO});
    network.inputs.push_back({1.0F / 64, 3 * ADP_CC_AGE_UNIT});            // 7 intervals
    network.inputs.push_back({1.0F / 64, ADP_CC_DELAY_WEIGHT_ZERO - 64});  // 1/4
    network.inputs.push_back({1.0F / 64, 96});                             // 8
    uint32_t width = ADP_CC_INPUTS;
    for (uint32_t h : hidden) {
        network.layers.push_back({width, h, Activation::tanh});
        width = h;
    }
    network.layers.push_back({width, ADP_CC_OUTPUTS, Activation::identity});
    return network;
}

Network cc_value_network(const std::vector<uint32_t>& hidden) { return cc_network(hidden); }

FloatModel adversarial_cc(float output) {
    FloatModel model;
    model.network = cc_network();
    for (const LayerShape& layer : model.network.layers) {
        model.weights.emplace_back(size_t{layer.inputs} * layer.outputs, 0.0F);
        model.biases.emplace_back(layer.outputs, 0.0F);
    }
    model.biases.back()[0] = output;
    return model;
}

}  // namespace adapath
