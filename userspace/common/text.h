// Small text helpers shared by the tools.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace adapath {

// The first 12 characters of a content hash: enough to tell snapshots apart on a screen.
std::string short_hash(std::string_view hash);
// The first 8 bytes of a hex hash as a number, as slots hold it; 0 where it is no hash.
uint64_t hash_prefix(std::string_view hash);
// 16 hex digits.
std::string hash_prefix_text(uint64_t prefix);
bool is_hex(std::string_view text);
// "12.3 Mbit/s"
std::string rate_text(uint64_t bytes_per_second);
// Resident memory of this process; 0 where /proc does not say.
uint64_t resident_bytes();

}  // namespace adapath
