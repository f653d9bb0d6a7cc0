// The cameras that the relay carries: those of adapathd's configuration, at the same places.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <adapath/select.h>

#include "codegen/result.h"
#include "userspace/proto/config.pb.h"

namespace adapath::relay {

struct RelayCamera {
    std::string name;
    std::string address;                                     // IPv4 or IPv6, that it sends from
    std::array<uint16_t, ADP_SELECT_RENDITIONS> ports = {};  // by enum adp_select_rendition
    uint8_t payload_type = 96;
};

// Addresses and ports are checked: no two renditions may have the same address and port.
Result<std::vector<RelayCamera>> cameras_of(const pb::SelectConfig& config);
// "NAME,ADDRESS,SUB_PORT,MAIN_PORT[,PAYLOAD_TYPE]"
Result<pb::CameraConfig> parse_camera(const std::string& text);

}  // namespace adapath::relay
