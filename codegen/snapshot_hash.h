// The two names of a snapshot: of its content and of its program.
#pragma once

#include <string>
#include <string_view>

#include "codegen/image.h"
#include "codegen/model.h"
#include "codegen/proto/snapshot.pb.h"

namespace adapath {

// Hex SHA-256 over the message, serialised deterministically without its hash field.
std::string content_hash(const pb::Snapshot& message);
// Hex SHA-256 over the network and kGeneratorVersion.
std::string program_hash(const Network& network);
std::string program_hash(const ImageNetwork& network);
// How much of it names a program where a number does: in module names, in the kernel's struct adp_program and netlink
// family.
inline constexpr size_t kModuleHashDigits = 16;

}  // namespace adapath
