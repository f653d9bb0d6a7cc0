// Hex SHA-256, which names traces, programs, checkpoints and cells.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "codegen/result.h"

namespace adapath::arena {

std::string sha256_text(std::string_view bytes);
Result<std::string> sha256_file(const std::string& path);
// Of files (name and path each): name -> the first 16 digits, in their order.
Result<nlohmann::ordered_json> file_hashes(const std::vector<std::pair<std::string, std::string>>& files);

}  // namespace adapath::arena
