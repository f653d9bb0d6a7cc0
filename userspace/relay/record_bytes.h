// record.h's hello and records as bytes.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <adapath/select.h>

#include "userspace/relay/record.h"

namespace adapath::relay {

// 1 to 63 of A-Z a-z 0-9 . _ -
[[nodiscard]] bool is_gateway_name(std::string_view name);

[[nodiscard]] std::vector<uint8_t> hello_bytes(uint16_t camera, const std::string& gateway);
// A packet of at most ADP_RELAY_PACKET_MAX bytes.
[[nodiscard]] std::vector<uint8_t> record_bytes(adp_select_rendition rendition, uint8_t flags, uint64_t received_us,
                                                std::span<const uint8_t> packet);

}  // namespace adapath::relay
