// See record_bytes.h.
#include "userspace/relay/record_bytes.h"

#include <algorithm>
#include <cstring>

namespace adapath::relay {

namespace {

void put(uint8_t* to, uint64_t value, int bytes) {
    for (int i = bytes - 1; i >= 0; i--) {
        to[i] = static_cast<uint8_t>(value);
        value >>= 8;
    }
}

}  // namespace

bool is_gateway_name(std::string_view name) {
    return !name.empty() && name.size() < ADP_RELAY_GATEWAY_BYTES &&
           std::ranges::all_of(
               name,
               [](char c) {
                   return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
                          c == '_' || c == '-';
               });
}

std::vector<uint8_t> hello_bytes(uint16_t camera, const std::string& gateway) {
    adp_relay_hello hello{};
    put(hello.magic, ADP_RELAY_MAGIC, 4);
    hello.version = ADP_RELAY_VERSION;
    put(hello.camera, camera, 2);
    std::memcpy(hello.gateway, gateway.data(), std::min<size_t>(gateway.size(), ADP_RELAY_GATEWAY_BYTES - 1));
    const auto* bytes = reinterpret_cast<const uint8_t*>(&hello);
    return {bytes, bytes + sizeof hello};
}

std::vector<uint8_t> record_bytes(adp_select_rendition rendition, uint8_t flags, uint64_t received_us,
                                  std::span<const uint8_t> packet) {
    adp_relay_wire wire{};
    put(wire.length, packet.size(), 2);
    wire.rendition = static_cast<uint8_t>(rendition);
    wire.flags = flags;
    put(wire.received_us, received_us, 8);
    std::vector<uint8_t> bytes(sizeof wire + packet.size());
    std::memcpy(bytes.data(), &wire, sizeof wire);
    std::ranges::copy(packet, bytes.begin() + sizeof wire);
    return bytes;
}

}  // namespace adapath::relay
