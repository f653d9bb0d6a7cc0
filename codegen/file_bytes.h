// Whole files, for the two formats of codegen: read with a limit, written atomically.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "codegen/result.h"

namespace adapath {

// Every file begins with 8 bytes of magic and a little-endian u32 format version.
inline constexpr size_t kFileHeaderBytes = 12;
std::string file_header(std::string_view magic, uint32_t version);
// The bytes behind a sound header. `what` is for the errors: "an Adapath snapshot".
Result<std::string_view> strip_header(std::string_view bytes, std::string_view magic, uint32_t version,
                                      std::string_view what, std::string_view name);

Result<std::string> read_file(const std::string& path, size_t limit);
// Temporary file in the same folder, fsync, rename: a reader sees the old file or the new one, whatever happens.
Status write_file(const std::string& path, std::string_view bytes);

}  // namespace adapath
