// Protobuf messages as JSON that scripts can calculate with: 64-bit numbers are numbers (Protobuf's own mapping makes
// them strings), every field is there, bytes are left out.
#pragma once

#include <google/protobuf/message.h>

#include <nlohmann/json.hpp>

namespace adapath {

nlohmann::ordered_json to_json(const google::protobuf::Message& message);

}  // namespace adapath
