// The same image network in LibTorch, which the generated program is compared with.
#pragma once

#include <memory>
#include <vector>

#include "codegen/image.h"

namespace adapath::bench {

class TorchPeer {
public:
    virtual ~TorchPeer() = default;
    // Real units, as run_float().
    virtual std::vector<float> run(const ImageCodes& picture) = 0;
};
// One thread.
std::unique_ptr<TorchPeer> torch_peer(const ImageFloatModel& model);

}  // namespace adapath::bench
