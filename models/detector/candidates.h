// Inside models/detector: what every kind of detector gives, as tensors with gradients, and what is made of it. For the
// .cc files here only; others see detector.h, which has no LibTorch in it.
#pragma once

#include <torch/torch.h>

#include <span>
#include <string>

#include "codegen/result.h"
#include "models/detector/box.h"

namespace adapath {

// Everything that the network takes for an object with any score at all, N of them.
struct Candidates {
    torch::Tensor boxes;    // [N, 4] float: x0, y0, x1, y1 in pixels
    torch::Tensor scores;   // [N] float, 0 to 1
    torch::Tensor classes;  // [N] int64
};

// A network that takes pictures; TorchDetector (detector.cc) does the rest.
class CandidateNetwork {
public:
    virtual ~CandidateNetwork() = default;
    // `image`: [1, 3, height, width] float, RGB, 0-255, height and width whole multiples of stride(). May throw what
    // LibTorch throws; an Error is the network's own.
    virtual Result<Candidates> run(const torch::Tensor& image) = 0;
    [[nodiscard]] virtual int64_t stride() const = 0;
    [[nodiscard]] virtual std::string class_name(int class_id) const = 0;
};

Result<std::unique_ptr<CandidateNetwork>> open_centernet(const std::string& path);
Result<std::unique_ptr<CandidateNetwork>> open_torchscript(const std::string& path);

}  // namespace adapath
