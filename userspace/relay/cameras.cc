// The cameras that the relay carries.
#include "userspace/relay/cameras.h"

#include <charconv>
#include <set>
#include <utility>

#include <arpa/inet.h>

#include <fmt/format.h>

namespace adapath::relay {

Result<std::vector<RelayCamera>> cameras_of(const pb::SelectConfig& config) {
    if (config.camera_size() == 0 || config.camera_size() > ADP_SELECT_CAMERAS) {
        return Error{fmt::format("{} cameras: there must be 1 to {} (select {{ camera {{ ... }} }}, or --camera)",
                                 config.camera_size(), ADP_SELECT_CAMERAS)};
    }
    std::vector<RelayCamera> cameras;
    std::set<std::pair<std::string, uint32_t>> taken;
    for (const pb::CameraConfig& camera : config.camera()) {
        std::array<uint8_t, 16> bytes{};
        RelayCamera result;
        result.name = camera.name();
        result.address = camera.address();
        size_t length = 0;
        if (inet_pton(AF_INET, result.address.c_str(), bytes.data()) == 1) {
            length = 4;
        } else if (inet_pton(AF_INET6, result.address.c_str(), bytes.data()) == 1) {
            length = 16;
        } else {
            return Error{
                fmt::format("camera '{}': address '{}' is neither IPv4 nor IPv6", result.name, result.address)};
        }
        if (camera.payload_type() > 127) {
            return Error{fmt::format("camera '{}': payload type {}: at most 127", result.name, camera.payload_type())};
        }
        result.payload_type = static_cast<uint8_t>(camera.payload_type());
        const std::array<uint32_t, ADP_SELECT_RENDITIONS> ports = {camera.sub_port(), camera.main_port()};
        for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; which++) {
            if (ports[which] < 1 || ports[which] > 65535) {
                return Error{fmt::format("camera '{}': port {}: 1 to 65535", result.name, ports[which])};
            }
            // By its bytes: an address can be written in several ways.
            const std::string key(reinterpret_cast<const char*>(bytes.data()), length);
            if (!taken.emplace(key, ports[which]).second) {
                return Error{fmt::format("camera '{}': {} to port {} is another rendition's already", result.name,
                                         result.address, ports[which])};
            }
            result.ports[which] = static_cast<uint16_t>(ports[which]);
        }
        cameras.push_back(result);
    }
    return cameras;
}

Result<pb::CameraConfig> parse_camera(const std::string& text) {
    std::vector<std::string> parts(1);
    for (const char c : text) {
        if (c == ',') {
            parts.emplace_back();
        } else {
            parts.back() += c;
        }
    }
    const Error wrong{
        fmt::format("camera '{}': expected NAME,ADDRESS,SUB_PORT,MAIN_PORT or with ,PAYLOAD_TYPE after it", text)};
    if (parts.size() != 4 && parts.size() != 5) {
        return wrong;
    }
    pb::CameraConfig camera;
    camera.set_name(parts[0]);
    camera.set_address(parts[1]);
    std::array<uint32_t, 3> numbers = {0, 0, camera.payload_type()};
    for (size_t i = 2; i < parts.size(); i++) {
        const char* end = parts[i].data() + parts[i].size();
        const auto [stop, error] = std::from_chars(parts[i].data(), end, numbers[i - 2]);
        if (error != std::errc() || stop != end) {
            return wrong;
        }
    }
    camera.set_sub_port(numbers[0]);
    camera.set_main_port(numbers[1]);
    camera.set_payload_type(numbers[2]);
    return camera;
}

}  // namespace adapath::relay
