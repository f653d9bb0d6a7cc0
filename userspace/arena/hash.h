// Hex SHA-256, which names traces, programs, checkpoints and cells.
#pragma once

#include <string>
#include <string_view>

#include "codegen/result.h"

namespace adapath::arena {

std::string sha256_text(std::string_view bytes);
Result<std::string> sha256_file(const std::string& path);

}  // namespace adapath::arena
