// See policy.h.
#include "models/policy.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace adapath {

namespace {

torch::Tensor tensor_of(const std::vector<float>& values, const std::vector<int64_t>& shape) {
    return torch::from_blob(const_cast<float*>(values.data()), shape, torch::kFloat32).clone().set_requires_grad(true);
}

std::vector<float> values_of(const torch::Tensor& t) {
    const torch::Tensor c = t.detach().contiguous();
    return {c.data_ptr<float>(), c.data_ptr<float>() + c.numel()};
}

}  // namespace

Mlp::Mlp(const FloatModel& model) : network_(model.network) {
    for (size_t l = 0; l < network_.layers.size(); l++) {
        const LayerShape& shape = network_.layers[l];
        if (!model.weights.empty()) {
            weights_.push_back(tensor_of(model.weights.at(l), {shape.outputs, shape.inputs}));
            biases_.push_back(tensor_of(model.biases.at(l), {shape.outputs}));
            continue;
        }
        const double bound =
            std::sqrt(6.0 / (shape.inputs + shape.outputs)) * (l + 1 == network_.layers.size() ? 0.1 : 1);
        torch::Tensor w = torch::rand({shape.outputs, shape.inputs}) * (2 * bound) - bound;
        weights_.push_back(w.detach().set_requires_grad(true));
        biases_.push_back(torch::zeros({shape.outputs}).set_requires_grad(true));
    }
}

torch::Tensor Mlp::forward(const torch::Tensor& x) const {
    torch::Tensor y = x;
    for (size_t l = 0; l < weights_.size(); l++) {
        y = torch::addmm(biases_[l], y, weights_[l].t());
        switch (network_.layers[l].activation) {
            case Activation::identity:
                break;
            case Activation::relu:
                y = torch::relu(y);
                break;
            case Activation::tanh:
                y = torch::tanh(y);
                break;
            case Activation::sigmoid:
                y = torch::sigmoid(y);
                break;
        }
    }
    return y;
}

std::vector<torch::Tensor> Mlp::parameters() const {
    std::vector<torch::Tensor> all = weights_;
    all.insert(all.end(), biases_.begin(), biases_.end());
    return all;
}

FloatModel Mlp::model() const {
    FloatModel model;
    model.network = network_;
    for (size_t l = 0; l < weights_.size(); l++) {
        model.weights.push_back(values_of(weights_[l]));
        model.biases.push_back(values_of(biases_[l]));
    }
    return model;
}

void Mlp::assign(const FloatModel& model) {
    if (!(model.network == network_)) throw std::logic_error("Mlp::assign: another network");
    torch::NoGradGuard guard;
    for (size_t l = 0; l < weights_.size(); l++) {
        weights_[l].copy_(tensor_of(model.weights.at(l), {network_.layers[l].outputs, network_.layers[l].inputs}));
        biases_[l].copy_(tensor_of(model.biases.at(l), {network_.layers[l].outputs}));
    }
}

}  // namespace adapath
