// See select_model.h.
#include "models/select_model.h"

#include <adapath/select.h>

namespace adapath {

// Scales and zeros of its own where the codes' would leave an input far from -2..2.
Network select_network(const std::vector<uint32_t>& hidden) {
    Network network;
    network.app = "select";
    network.feature_schema = ADP_SELECT_SCHEMA;
    for (int rendition = 0; rendition < ADP_SELECT_RENDITIONS; rendition++) {
        network.inputs.push_back({1.0F / 48, 6 * ADP_SELECT_RATE_UNIT});                           // 64 KiB/s
        network.inputs.push_back({1.0F / 48, ADP_SELECT_BYTES_ZERO + 4 * ADP_SELECT_BYTES_UNIT});  // 16 KiB
        network.inputs.push_back({1.0F / 48, ADP_SELECT_BYTES_ZERO + ADP_SELECT_BYTES_UNIT});      // 2 KiB
        network.inputs.push_back({1.0F / ADP_SELECT_MOTION_UNIT, ADP_SELECT_MOTION_ZERO});
        network.inputs.push_back({1.0F / 48, ADP_SELECT_LENGTH_ZERO});
        network.inputs.push_back({0.02F, ADP_SELECT_LOSS_ZERO});
    }
    network.inputs.push_back({1.0F / 32, ADP_SELECT_RATIO_ZERO + 3 * ADP_SELECT_RATIO_UNIT});  // 8 times
    network.inputs.push_back({1.0F / 32, 2 * ADP_SELECT_AGE_UNIT});                            // 3 s
    network.inputs.push_back({1.0F / ADP_SELECT_FLAG_UNIT, ADP_SELECT_FLAG_ZERO});
    network.inputs.push_back({1.0F / ADP_SELECT_FLAG_UNIT, ADP_SELECT_FLAG_ZERO});
    network.inputs.push_back({1.0F / 64, 2 * ADP_SELECT_OBJECTS_UNIT});  // 3
    network.inputs.push_back({1.0F / 64, 128});
    network.inputs.push_back({1.0F / 64, 128});
    network.inputs.push_back({1.0F / 64, ADP_SELECT_GAIN_ZERO});
    network.inputs.push_back({1.0F / 48, 2 * ADP_SELECT_AGE_UNIT});
    network.inputs.push_back({1.0F / 48, 4 * ADP_SELECT_AGE_UNIT});     // 15 s
    network.inputs.push_back({1.0F / 64, 2 * ADP_SELECT_OTHERS_UNIT});  // 4
    network.inputs.push_back({1.0F / 64, 1 * ADP_SELECT_USED_UNIT});
    uint32_t width = ADP_SELECT_INPUTS;
    for (uint32_t h : hidden) {
        network.layers.push_back({width, h, Activation::tanh});
        width = h;
    }
    network.layers.push_back({width, ADP_SELECT_OUTPUTS, Activation::identity});
    return network;
}

}  // namespace adapath
