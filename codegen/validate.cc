// Is a model well-formed? Models come from files and peers that nobody should have to trust: what passes here can be
// indexed without a further check by every later pass.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

#include <fmt/format.h>

#include <adapath/abi.h>
#include <adapath/net.h>

#include "codegen/codegen.h"

namespace adapath {

namespace {

constexpr int32_t kMaxZeroPoint = 1 << 20;
constexpr size_t kMaxAppName = 15;

template <typename... Args>
Error error(fmt::format_string<Args...> format, Args&&... args) {
    return Error{fmt::format(format, std::forward<Args>(args)...)};
}

bool is_curve(Activation a) { return a == Activation::tanh || a == Activation::sigmoid; }

// The name becomes part of generated C and of file names, so it must be a plain identifier.
bool is_app_name(const std::string& name) {
    if (name.empty() || name.size() > kMaxAppName || name[0] < 'a' || name[0] > 'z') {
        return false;
    }
    return std::all_of(name.begin(), name.end(),
                       [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'; });
}

Status check_finite(const std::vector<float>& values, const char* what, size_t layer) {
    for (size_t i = 0; i < values.size(); ++i) {
        if (!std::isfinite(values[i])) {
            return error("layer {}: {} {} is {}; the training diverged", layer + 1, what, i, values[i]);
        }
    }
    return {};
}

Status check_size(size_t size, size_t wanted, const char* what, size_t layer) {
    if (size != wanted) {
        return error("layer {}: {} {}, the network has {}", layer + 1, size, what, wanted);
    }
    return {};
}

Status check_layer(const LayerShape& shape, const QuantLayer& layer, const LayerLayout& layout, size_t l, bool last) {
    const size_t cells = size_t{shape.inputs} * shape.outputs;
    if (Status s = check_size(layer.weights.size(), cells, "weights", l); !s) {
        return s;
    }
    if (Status s = check_size(layer.mult.size(), shape.outputs, "multipliers", l); !s) {
        return s;
    }
    if (Status s = check_size(layer.bias.size(), shape.outputs, "biases", l); !s) {
        return s;
    }
    const size_t code_entries = last ? 0 : layout.table_entries;
    const size_t output_entries = last && is_curve(shape.activation) ? layout.table_entries : 0;
    if (Status s = check_size(layer.code_table.size(), code_entries, "codes in its table", l); !s) {
        return s;
    }
    if (Status s = check_size(layer.output_table.size(), output_entries, "outputs in its table", l); !s) {
        return s;
    }
    if (layer.shift != layout.shift) {
        return error("layer {}: shift {}, this network's programs use {}", l + 1, layer.shift, layout.shift);
    }
    const auto lowest = std::find(layer.weights.begin(), layer.weights.end(), std::numeric_limits<int8_t>::min());
    if (lowest != layer.weights.end()) {
        return error("layer {}: weight {} is -128, the range is -127..127", l + 1, lowest - layer.weights.begin());
    }
    for (size_t i = 0; i < layer.code_table.size(); ++i) {
        if (layer.code_table[i] > ADP_HIDDEN_CODE_MAX) {
            return error("layer {}: table entry {} is {}, the greatest code is {}", l + 1, i, layer.code_table[i],
                         ADP_HIDDEN_CODE_MAX);
        }
    }
    if (!std::isfinite(layer.scale) || layer.scale <= 0) {
        return error("layer {}: scale of its codes is {}, must be over 0", l + 1, layer.scale);
    }
    if (layer.zero_point < -kMaxZeroPoint || layer.zero_point > kMaxZeroPoint) {
        return error("layer {}: zero point {}, the range is -{}..{}", l + 1, layer.zero_point, kMaxZeroPoint,
                     kMaxZeroPoint);
    }
    return {};
}

}  // namespace

Status validate(const Network& network) {
    if (!is_app_name(network.app)) {
        return error("network: app name of {} characters must be 1 to {} of a-z, 0-9, _ and begin with a letter",
                     network.app.size(), kMaxAppName);
    }
    if (network.inputs.empty() || network.inputs.size() > ADP_MAX_WIDTH) {
        return error("network: {} inputs, the range is 1..{}", network.inputs.size(), ADP_MAX_WIDTH);
    }
    for (size_t i = 0; i < network.inputs.size(); ++i) {
        const InputCode& code = network.inputs[i];
        if (!std::isfinite(code.scale) || code.scale <= 0) {
            return error("network: scale of input {} is {}, must be over 0", i, code.scale);
        }
        if (code.zero_point < -kMaxZeroPoint || code.zero_point > kMaxZeroPoint) {
            return error("network: zero point of input {} is {}, the range is -{}..{}", i, code.zero_point,
                         kMaxZeroPoint, kMaxZeroPoint);
        }
    }
    if (network.layers.empty() || network.layers.size() > ADP_MAX_LAYERS) {
        return error("network: {} layers, the range is 1..{}", network.layers.size(), ADP_MAX_LAYERS);
    }
    size_t inputs = network.inputs.size();
    for (size_t l = 0; l < network.layers.size(); ++l) {
        const LayerShape& layer = network.layers[l];
        if (layer.inputs != inputs) {
            return error("layer {}: {} inputs, {} gives {}", l + 1, layer.inputs,
                         l == 0 ? std::string("the network") : fmt::format("layer {}", l), inputs);
        }
        const uint32_t limit = l + 1 == network.layers.size() ? ADP_MAX_OUTPUTS : ADP_MAX_WIDTH;
        if (layer.outputs == 0 || layer.outputs > limit) {
            return error("layer {}: {} outputs, the range is 1..{}", l + 1, layer.outputs, limit);
        }
        if (layer.activation > Activation::sigmoid) {
            return error("layer {}: activation {} is unknown to this version", l + 1,
                         static_cast<unsigned>(layer.activation));
        }
        inputs = layer.outputs;
    }
    return {};
}

Status validate(const FloatModel& model) {
    if (Status s = validate(model.network); !s) {
        return s;
    }
    const size_t layers = model.network.layers.size();
    if (model.weights.size() != layers || model.biases.size() != layers) {
        return error("float model: weights for {} layers and biases for {}, the network has {}", model.weights.size(),
                     model.biases.size(), layers);
    }
    for (size_t l = 0; l < layers; ++l) {
        const LayerShape& shape = model.network.layers[l];
        if (Status s = check_size(model.weights[l].size(), size_t{shape.inputs} * shape.outputs, "weights", l); !s) {
            return s;
        }
        if (Status s = check_size(model.biases[l].size(), shape.outputs, "biases", l); !s) {
            return s;
        }
        if (Status s = check_finite(model.weights[l], "weight", l); !s) {
            return s;
        }
        if (Status s = check_finite(model.biases[l], "bias", l); !s) {
            return s;
        }
    }
    return {};
}

Status validate(const QuantModel& model) {
    const Result<NetworkLayout> layout = network_layout(model.network);
    if (!layout) {
        return layout.error();
    }
    const size_t layers = model.network.layers.size();
    if (model.layers.size() != layers) {
        return error("parameters for {} layers, the network has {}", model.layers.size(), layers);
    }
    for (size_t l = 0; l < layers; ++l) {
        const bool last = l + 1 == layers;
        if (Status s = check_layer(model.network.layers[l], model.layers[l], layout->layers[l], l, last); !s) {
            return s;
        }
        // A slot holds a shared table once, so its users must mean the same one.
        for (size_t k = 0; k < l && !last; ++k) {
            if (layout->layers[k].table_offset == layout->layers[l].table_offset &&
                model.layers[k].code_table != model.layers[l].code_table) {
                return error("layers {} and {} share a table, theirs differ", k + 1, l + 1);
            }
        }
    }
    return {};
}

}  // namespace adapath
