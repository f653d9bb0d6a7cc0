// What a float model says: the peer that the integers are measured against, and names for people.
#include "codegen/model.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include <fmt/format.h>

namespace adapath {

namespace {

double activate(Activation activation, double z) {
    switch (activation) {
        case Activation::identity:
            return z;
        case Activation::relu:
            return std::max(z, 0.0);
        case Activation::tanh:
            return std::tanh(z);
        case Activation::sigmoid:
            return 1.0 / (1.0 + std::exp(-z));
    }
    throw std::logic_error("activation outside its enum: the model was not validated");
}

const char* name_of(Activation activation) {
    switch (activation) {
        case Activation::identity:
            return "identity";
        case Activation::relu:
            return "relu";
        case Activation::tanh:
            return "tanh";
        case Activation::sigmoid:
            return "sigmoid";
    }
    return "unknown";
}

}  // namespace

std::vector<float> decode(const Network& network, const InputCodes& codes) {
    if (codes.size() != network.input_count()) {
        throw std::invalid_argument(
            fmt::format("decode: {} codes for a network of {} inputs", codes.size(), network.input_count()));
    }
    std::vector<float> real(codes.size());
    for (size_t i = 0; i < codes.size(); ++i) {
        real[i] = network.inputs[i].scale * static_cast<float>(codes[i] - network.inputs[i].zero_point);
    }
    return real;
}

std::vector<float> run_float(const FloatModel& model, const InputCodes& codes) {
    std::vector<float> in = decode(model.network, codes);
    for (size_t l = 0; l < model.network.layers.size(); ++l) {
        const LayerShape& shape = model.network.layers[l];
        std::vector<float> out(shape.outputs);
        for (uint32_t row = 0; row < shape.outputs; ++row) {
            double z = model.biases[l][row];
            for (uint32_t i = 0; i < shape.inputs; ++i) {
                z += double{model.weights[l][size_t{row} * shape.inputs + i]} * in[i];
            }
            out[row] = static_cast<float>(activate(shape.activation, z));
        }
        in = std::move(out);
    }
    return in;
}

std::string describe(const Network& network) {
    std::string text = fmt::format("{}", network.input_count());
    for (const LayerShape& layer : network.layers) {
        text += fmt::format("-{}", layer.outputs);
    }
    for (size_t l = 0; l < network.layers.size(); ++l) {
        text += fmt::format("{}{}", l == 0 ? ' ' : ',', name_of(network.layers[l].activation));
    }
    return text;
}

}  // namespace adapath
