// See hash.h.
#include "userspace/arena/hash.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <array>
#include <cstdlib>

#include "userspace/common/file.h"

namespace adapath::arena {

std::string sha256_text(std::string_view bytes) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned size = 0;
    if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) {
        std::abort();  // OpenSSL without SHA-256 is no OpenSSL
    }
    std::string text;
    for (unsigned i = 0; i < size; i++) {
        text += fmt::format("{:02x}", digest[i]);
    }
    return text;
}

Result<std::string> sha256_file(const std::string& path) {
    Result<std::string> bytes = read_file(path);
    if (!bytes) {
        return bytes.error();
    }
    return sha256_text(*bytes);
}

Result<nlohmann::ordered_json> file_hashes(const std::vector<std::pair<std::string, std::string>>& files) {
    nlohmann::ordered_json hashes = nlohmann::ordered_json::object();
    for (const auto& [name, path] : files) {
        Result<std::string> hash = sha256_file(path);
        if (!hash) {
            return hash.error();
        }
        hashes[name] = hash->substr(0, 16);
    }
    return hashes;
}

}  // namespace adapath::arena
