// What a server may say of the gateway's cameras. It is authenticated, not trusted: what it says ends up in the kernel.
#pragma once

#include <cstdint>
#include <string>

#include "userspace/proto/select.pb.h"

namespace adapath::relay {

// Why a report is not to be believed; empty where it is. `cameras`: how many are configured; `now_us`: the gateway's
// CLOCK_MONOTONIC.
[[nodiscard]] std::string wrong_with(const pb::CameraReport& report, unsigned cameras, uint64_t now_us);

}  // namespace adapath::relay
