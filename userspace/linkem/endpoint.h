// One end of the emulated link: a TUN device in a namespace, with address and routes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/common/unique_fd.h"
#include "userspace/linkem/netns.h"

namespace adapath {

struct Endpoint {
    std::string device;               // at most 15 characters
    std::string address;              // "10.77.0.1/30"
    std::vector<std::string> routes;  // destinations reached over the link: "192.168.7.0/24", "default"
    uint32_t mtu = 1500;
};

// Makes the device and sets it up. It goes when the descriptor is closed.
Result<UniqueFd> open_endpoint(const Namespace& where, const Endpoint& endpoint);

}  // namespace adapath
