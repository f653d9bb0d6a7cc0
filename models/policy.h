// A dense network in LibTorch, made from and turned back into a FloatModel. For the .cc files of adapath_models only:
// its users see ppo.h and online.h, which have no LibTorch in them.
#pragma once

#include <torch/torch.h>

#include <functional>
#include <iterator>
#include <vector>

#include "codegen/model.h"

namespace adapath {

class Mlp {
public:
    // The model's own weights where it has any, else random ones (Xavier; the last layer small, so that a new policy
    // starts out near "leave the rate alone"). Uses torch's generator: seed it before.
    explicit Mlp(const FloatModel& model);

    // Real-valued inputs [n, inputs] to outputs [n, outputs].
    torch::Tensor forward(const torch::Tensor& x) const;
    [[nodiscard]] std::vector<torch::Tensor> parameters() const;
    [[nodiscard]] FloatModel model() const;
    // Takes another model's weights; the same network.
    void assign(const FloatModel& model);

private:
    Network network_;
    std::vector<torch::Tensor> weights_;
    std::vector<torch::Tensor> biases_;
};

// Codes as the real numbers that the network's input codes stand for: [n, inputs]. `codes_of` says where in one of
// `all` its codes are.
template <typename All, typename CodesOf = std::identity>
torch::Tensor decode_codes(const Network& network, const All& all, CodesOf codes_of = {}) {
    torch::Tensor x = torch::empty({static_cast<int64_t>(std::size(all)), static_cast<int64_t>(network.inputs.size())},
                                   torch::kFloat32);
    float* out = x.data_ptr<float>();
    for (const auto& one : all)
        for (size_t i = 0; i < network.inputs.size(); i++)
            *out++ = network.inputs[i].scale *
                     static_cast<float>(std::invoke(codes_of, one)[i] - network.inputs[i].zero_point);
    return x;
}

}  // namespace adapath
