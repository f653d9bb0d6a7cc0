// The cameras of the app select as a configuration names them: the same for every kernel side.
#pragma once

#include <adapath/select.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "codegen/result.h"

namespace adapath {

struct SelectCamera {
    std::string name;     // for humans; unique
    std::string address;  // that its packets come from, IPv4 or IPv6
    uint16_t sub_port = 0;
    uint16_t main_port = 0;  // UDP, on this machine or behind it
    uint8_t payload_type = 96;
};
inline constexpr size_t kSelectInterfaces = 16;

// Ranges, addresses, and that no two renditions are found by the same address and port. The error names the camera.
[[nodiscard]] Status check_select_cameras(const std::vector<SelectCamera>& cameras);

// "10.0.0.1" or "fd00::1"; nullopt for what is neither.
[[nodiscard]] std::optional<adp_address> parse_camera_address(const std::string& text);

}  // namespace adapath
