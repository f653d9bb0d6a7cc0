// A dense network in LibTorch, made from and turned back into a FloatModel. For the .cc files of adapath_models only:
// its users see ppo.h and online.h, which have no LibTorch in them.
#pragma once

#include <torch/torch.h>

#include <vector>

#include "codegen/model.h"
#include "models/segments.h"

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

// Codes as the real numbers that the network's input codes stand for: [n, inputs].
torch::Tensor decode_codes(const Network& network, std::span<const CcCodes> codes);

}  // namespace adapath
