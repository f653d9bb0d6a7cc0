// See torch_peer.h.
#include "bench/image/torch_peer.h"

#include <torch/torch.h>

namespace adapath::bench {
namespace {

class Peer final : public TorchPeer {
public:
    explicit Peer(const ImageFloatModel& model) : model_(model) {
        for (size_t i = 0; i < model.network.layers.size(); i++) {
            const ImageLayerShape& layer = model.network.layers[i];
            if (layer.kind == ImageLayerKind::pool) {
                weights_.emplace_back();
                biases_.emplace_back();
                continue;
            }
            const int64_t group_inputs = layer.kind == ImageLayerKind::depthwise ? 1 : layer.inputs;
            weights_.push_back(
                torch::tensor(model.weights[i]).view({layer.outputs, group_inputs, layer.kernel, layer.kernel}));
            biases_.push_back(torch::tensor(model.biases[i]));
        }
    }

    std::vector<float> run(const ImageCodes& picture) override {
        const torch::InferenceMode guard;
        const auto channels = static_cast<int64_t>(model_.network.inputs.size());
        torch::Tensor x = torch::from_blob(const_cast<uint8_t*>(picture.codes.data()),
                                           {1, channels, picture.size.height, picture.size.width}, torch::kUInt8)
                              .to(torch::kFloat);
        for (int64_t c = 0; c < channels; c++) {
            const InputCode& code = model_.network.inputs[static_cast<size_t>(c)];
            x.select(1, c).sub_(code.zero_point).mul_(code.scale);
        }
        for (size_t i = 0; i < weights_.size(); i++) {
            const ImageLayerShape& layer = model_.network.layers[i];
            if (layer.kind == ImageLayerKind::pool) {
                x = torch::avg_pool2d(x, 2, 2, 0, true);
                continue;
            }
            x = torch::conv2d(x, weights_[i], biases_[i], layer.stride, layer.kernel / 2, 1,
                              layer.kind == ImageLayerKind::depthwise ? layer.inputs : 1);
            if (i + 1 < weights_.size()) x.relu_();
        }
        x = x.contiguous();
        return {x.data_ptr<float>(), x.data_ptr<float>() + x.numel()};
    }

private:
    ImageFloatModel model_;
    std::vector<torch::Tensor> weights_;
    std::vector<torch::Tensor> biases_;
};

}  // namespace

std::unique_ptr<TorchPeer> torch_peer(const ImageFloatModel& model) {
    torch::set_num_threads(1);
    return std::make_unique<Peer>(model);
}

}  // namespace adapath::bench
