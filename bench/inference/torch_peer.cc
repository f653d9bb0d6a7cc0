// The float network in LibTorch, as its users would run it: nn::Sequential, inference mode, batch 1, one thread.
#include "bench/inference/torch_peer.h"

#include <algorithm>

#include <ATen/Parallel.h>
#include <torch/torch.h>

namespace adapath::bench {

struct TorchPeer::Net {
    torch::nn::Sequential layers;
    torch::Tensor input;
};

TorchPeer::TorchPeer(const FloatModel& model) : net_(std::make_unique<Net>()) {
    // More threads only cost: the whole network is smaller than one thread's hand-over.
    at::set_num_threads(1);
    torch::NoGradGuard no_grad;
    for (size_t l = 0; l < model.network.layers.size(); l++) {
        const LayerShape& shape = model.network.layers[l];
        torch::nn::Linear linear(shape.inputs, shape.outputs);
        std::copy(model.weights[l].begin(), model.weights[l].end(), linear->weight.data_ptr<float>());
        std::copy(model.biases[l].begin(), model.biases[l].end(), linear->bias.data_ptr<float>());
        net_->layers->push_back(linear);
        switch (shape.activation) {
            case Activation::identity:
                break;
            case Activation::relu:
                net_->layers->push_back(torch::nn::ReLU());
                break;
            case Activation::tanh:
                net_->layers->push_back(torch::nn::Tanh());
                break;
            case Activation::sigmoid:
                net_->layers->push_back(torch::nn::Sigmoid());
                break;
        }
    }
    net_->layers->eval();
    net_->input = torch::zeros({1, static_cast<int64_t>(model.network.input_count())});
}

TorchPeer::~TorchPeer() = default;

float TorchPeer::run(std::span<const float> features) {
    c10::InferenceMode guard;
    std::copy(features.begin(), features.end(), net_->input.data_ptr<float>());
    return *net_->layers->forward(net_->input).data_ptr<float>();
}

}  // namespace adapath::bench
