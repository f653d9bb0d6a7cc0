// The peer: the float network in LibTorch. Apart, because LibTorch's headers take long to compile.
#pragma once

#include <memory>
#include <span>

#include "codegen/model.h"

namespace adapath::bench {

class TorchPeer {
public:
    explicit TorchPeer(const FloatModel& model);
    ~TorchPeer();
    // One decision: features (real units) in, the first output out. Batch 1, one thread, inference mode.
    float run(std::span<const float> features);

private:
    struct Net;
    std::unique_ptr<Net> net_;
};

}  // namespace adapath::bench
