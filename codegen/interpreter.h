// One layer of the reference interpreter, for the quantiser, which calibrates each layer on what the layers before it
// really give.
#pragma once

#include <cstdint>
#include <span>

#include "codegen/model.h"

namespace adapath {

// in: inputs codes; out: outputs values, codes for a hidden layer, Q16 for the last one. The layer must be valid.
void interpret_layer(const LayerShape& shape, const QuantLayer& layer, bool last, std::span<const int32_t> in,
                     std::span<int32_t> out);

}  // namespace adapath
