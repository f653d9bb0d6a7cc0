// See select_cameras.h.
#include "userspace/adapathd/select_cameras.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <array>
#include <map>
#include <set>

namespace adapath {

std::optional<adp_address> parse_camera_address(const std::string& text) {
    adp_address address = {};
    in_addr v4 = {};
    std::array<uint8_t, 16> v6 = {};
    if (inet_pton(AF_INET, text.c_str(), &v4) == 1) {
        adp_address_v4(&address, ntohl(v4.s_addr));
        return address;
    }
    if (inet_pton(AF_INET6, text.c_str(), v6.data()) == 1) {
        adp_address_v6(&address, v6.data());
        return address;
    }
    return std::nullopt;
}

Status check_select_cameras(const std::vector<SelectCamera>& cameras) {
    if (cameras.size() > ADP_SELECT_CAMERAS)
        return Error{fmt::format("{} cameras: at most {}", cameras.size(), ADP_SELECT_CAMERAS)};
    std::set<std::string> names;
    // By address and port.
    std::map<std::array<uint32_t, 5>, std::string> taken;
    for (const SelectCamera& camera : cameras) {
        if (camera.name.empty() || !names.insert(camera.name).second)
            return Error{fmt::format("camera '{}': give each camera a name of its own", camera.name)};
        const std::optional<adp_address> address = parse_camera_address(camera.address);
        if (!address)
            return Error{fmt::format("camera '{}': address '{}' is neither an IPv4 nor an IPv6 address", camera.name,
                                     camera.address)};
        if (camera.payload_type > 127)
            return Error{fmt::format("camera '{}': payload type {}: use 0 to 127 (96 and up are usual)", camera.name,
                                     camera.payload_type)};
        for (const uint16_t port : {camera.sub_port, camera.main_port}) {
            if (port == 0)
                return Error{fmt::format("camera '{}': give sub_port and main_port, 1 to 65535", camera.name)};
            const auto& word = address->word;
            const auto [other, is_new] = taken.try_emplace({word[0], word[1], word[2], word[3], port}, camera.name);
            if (!is_new)
                return Error{
                    fmt::format("camera '{}': {} port {} is taken by camera '{}': a rendition is found by its "
                                "camera's address and its port",
                                camera.name, camera.address, port, other->second)};
        }
    }
    return {};
}

}  // namespace adapath
