// Snapshots as bytes and files: sealed with their names (hashes) on the way out, checked on the way in.
#include <array>
#include <stdexcept>

#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <openssl/evp.h>

#include "codegen/codegen.h"
#include "codegen/file_bytes.h"
#include "codegen/proto_convert.h"
#include "codegen/snapshot_hash.h"

namespace adapath {

namespace {

constexpr std::string_view kMagic = "ADAPSNAP";
constexpr uint32_t kFormat = 1;
// Parameters and a program are some 100 KiB; what is larger is not a snapshot, and reading it would cost the daemon its
// memory.
constexpr size_t kMaxBytes = 16 << 20;

std::string sha256_hex(std::string_view bytes) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
    unsigned int size = 0;
    if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) {
        throw std::runtime_error("OpenSSL has no SHA-256");
    }
    std::string hex;
    for (unsigned int i = 0; i < size; ++i) {
        hex += fmt::format("{:02x}", digest[i]);
    }
    return hex;
}

// Equal messages give equal bytes.
template <typename Message>
std::string serialise_deterministically(const Message& message) {
    std::string bytes;
    {
        google::protobuf::io::StringOutputStream stream(&bytes);
        google::protobuf::io::CodedOutputStream coded(&stream);
        coded.SetSerializationDeterministic(true);
        message.SerializeToCodedStream(&coded);
    }
    return bytes;
}

}  // namespace

std::string content_hash(const pb::Snapshot& message) {
    if (message.hash().empty()) {
        return sha256_hex(serialise_deterministically(message));
    }
    pb::Snapshot unnamed = message;
    unnamed.clear_hash();
    return sha256_hex(serialise_deterministically(unnamed));
}

std::string program_hash(const Network& network) {
    pb::Network message;
    to_proto(network, &message);
    return sha256_hex(fmt::format("adapath program, generator {}\n", kGeneratorVersion) +
                      serialise_deterministically(message));
}

std::string program_hash(const ImageNetwork& network) {
    return sha256_hex(fmt::format("adapath image program, generator {}\n", kGeneratorVersion) + serialise(network));
}

std::string serialise(const ImageNetwork& network) {
    pb::ImageNetwork message;
    to_proto(network, &message);
    return serialise_deterministically(message);
}

Result<ImageNetwork> parse_image_network(std::string_view bytes) {
    pb::ImageNetwork message;
    if (!message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
        return Error{fmt::format("{} bytes that describe no image network", bytes.size())};
    }
    return from_proto(message);
}

const std::string& app_of(const Snapshot& snapshot) {
    return snapshot.image ? snapshot.image->model.network.app : snapshot.model.network.app;
}

uint32_t schema_of(const Snapshot& snapshot) {
    return snapshot.image ? snapshot.image->model.network.feature_schema : snapshot.model.network.feature_schema;
}

std::string describe(const Snapshot& snapshot) {
    return snapshot.image ? describe(snapshot.image->model.network) : describe(snapshot.model.network);
}

std::string module_name(const Network& network) {
    return "adapath_net_" + program_hash(network).substr(0, kModuleHashDigits);
}

Result<Snapshot> seal(Snapshot snapshot) {
    // An image network's validate() is its proof.
    if (Status s = snapshot.image ? validate(snapshot.image->model) : prove(snapshot.model); !s) {
        return s.error();
    }
    snapshot.program_hash =
        snapshot.image ? program_hash(snapshot.image->model.network) : program_hash(snapshot.model.network);
    snapshot.hash.clear();
    pb::Snapshot message;
    to_proto(snapshot, &message);
    snapshot.hash = content_hash(message);
    return snapshot;
}

Result<std::string> serialise(const Snapshot& snapshot) {
    const Result<Snapshot> sealed = seal(snapshot);
    if (!sealed) {
        return sealed.error();
    }
    pb::Snapshot message;
    to_proto(*sealed, &message);
    std::string bytes = file_header(kMagic, kFormat) + serialise_deterministically(message);
    if (bytes.size() > kMaxBytes) {
        return Error{
            fmt::format("snapshot of {} bytes, {} is the limit; give it fewer probes", bytes.size(), kMaxBytes)};
    }
    // What nobody could read back must not be written (text that is no UTF-8, probes of another length).
    if (Result<Snapshot> back = parse_snapshot(bytes, "snapshot as serialised"); !back) {
        return back.error();
    }
    return bytes;
}

Result<Snapshot> parse_snapshot(std::string_view bytes, std::string_view name_for_errors) {
    if (bytes.size() > kMaxBytes) {
        return Error{fmt::format("{}: {} bytes, a snapshot has at most {}", name_for_errors, bytes.size(), kMaxBytes)};
    }
    const Result<std::string_view> body = strip_header(bytes, kMagic, kFormat, "an Adapath snapshot", name_for_errors);
    if (!body) {
        return body.error();
    }
    pb::Snapshot message;
    if (!message.ParseFromArray(body->data(), static_cast<int>(body->size()))) {
        return Error{
            fmt::format("{}: truncated or damaged: what follows the header is no snapshot message", name_for_errors)};
    }
    Result<Snapshot> snapshot = from_proto(message);
    if (!snapshot) {
        return Error{fmt::format("{}: {}", name_for_errors, snapshot.error().message)};
    }
    return snapshot;
}

Status write_snapshot(const Snapshot& snapshot, const std::string& path) {
    const Result<std::string> bytes = serialise(snapshot);
    if (!bytes) {
        return Error{fmt::format("{}: {}", path, bytes.error().message)};
    }
    return write_file(path, *bytes);
}

Result<Snapshot> read_snapshot(const std::string& path) {
    const Result<std::string> bytes = read_file(path, kMaxBytes);
    if (!bytes) {
        return bytes.error();
    }
    return parse_snapshot(*bytes, path);
}

}  // namespace adapath
