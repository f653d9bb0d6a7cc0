// See text.h.
#include "userspace/common/text.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "userspace/common/file.h"

namespace adapath {

std::string short_hash(std::string_view hash) { return std::string(hash.substr(0, 12)); }

bool is_hex(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(),
                                        [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

uint64_t hash_prefix(std::string_view hash) {
    uint64_t value = 0;
    const std::string_view digits = hash.substr(0, 16);
    if (digits.size() < 16 || !is_hex(digits)) {
        return 0;
    }
    std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
    return value;
}

std::string hash_prefix_text(uint64_t prefix) { return fmt::format("{:016x}", prefix); }

std::string rate_text(uint64_t bytes_per_second) {
    const double bits = static_cast<double>(bytes_per_second) * 8;
    if (bits >= 1e9) {
        return fmt::format("{:.2f} Gbit/s", bits / 1e9);
    }
    return bits >= 1e6 ? fmt::format("{:.2f} Mbit/s", bits / 1e6) : fmt::format("{:.0f} kbit/s", bits / 1e3);
}

uint64_t resident_bytes() {
    Result<std::string> statm = read_file("/proc/self/statm");
    if (!statm) {
        return 0;
    }
    const size_t space = statm->find(' ');
    if (space == std::string::npos) {
        return 0;
    }
    return strtoull(statm->c_str() + space, nullptr, 10) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace adapath
