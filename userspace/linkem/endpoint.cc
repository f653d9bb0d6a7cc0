// See endpoint.h.
#include "userspace/linkem/endpoint.h"

namespace adapath {

namespace {

// The device's own queue is drained as fast as packets come. It must only outlast the longest time that the emulator
// may not get a CPU, since what overflows here is a loss that the trace did not ask for.
constexpr uint32_t device_queue_packets = 8192;

}  // namespace

Result<UniqueFd> open_endpoint(const Namespace& where, const Endpoint& endpoint) {
    UniqueFd tun;
    const Status status = where.run([&]() -> Status {
        Result<UniqueFd> opened = open_tun(endpoint.device);
        if (!opened) {
            return opened.error();
        }
        // Router solicitations and the like would take capacity from what is measured. Without IPv6 there is no such
        // file.
        if (endpoint.address.find(':') == std::string::npos) {
            (void)set_sysctl("net/ipv6/conf/" + endpoint.device + "/disable_ipv6", "1");
        }
        if (Status up = set_link_up(endpoint.device, {.mtu = endpoint.mtu, .queue_packets = device_queue_packets});
            !up) {
            return up;
        }
        if (Status address = add_address(endpoint.device, endpoint.address); !address) {
            return address;
        }
        for (const std::string& route : endpoint.routes) {
            if (Status added = add_route(route, endpoint.device); !added) {
                return added;
            }
        }
        tun = std::move(*opened);
        return {};
    });
    if (!status) {
        return status.error();
    }
    return tun;
}

}  // namespace adapath
