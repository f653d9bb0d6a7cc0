// Sends encoded cameras as RTP over UDP in real time, in a loop, until it is stopped: one address a camera, a port a
// rendition.
#pragma once

#include <array>
#include <cstdint>
#include <stop_token>
#include <string>
#include <vector>

#include <adapath/select.h>

#include "codegen/result.h"
#include "userspace/camera/encoded.h"

namespace adapath::camera {

// Where a camera sends from and to.
struct Route {
    std::string source;                                      // address; empty: the kernel's choice
    std::string host;                                        // address or name
    std::array<uint16_t, ADP_SELECT_RENDITIONS> ports = {};  // by enum adp_select_rendition
    std::array<uint32_t, ADP_SELECT_RENDITIONS> ssrcs = {};
};

struct PlayOptions {
    double fps = 10;
    double duration_s = 0;  // 0: until stopped
    uint8_t payload_type = 96;
    size_t packet_bytes = 1400;
    uint32_t group = 1;  // pictures over whose time the cameras' starts are spread: a chunk's, so that theirs are too
    // Share of a picture's time over which its packets are spread.
    double spread = 0.5;
};

struct PlayTotals {
    std::array<uint64_t, ADP_SELECT_RENDITIONS> pictures = {};
    std::array<uint64_t, ADP_SELECT_RENDITIONS> packets = {};
    std::array<uint64_t, ADP_SELECT_RENDITIONS> bytes = {};  // of UDP payload
    uint64_t unsent = 0;   // packets that the kernel refused (no route, a full device queue, nobody there)
    uint64_t resyncs = 0;  // times that the program was so late that it went on from now
};

// The address `base` plus `number`; IPv4 or IPv6.
Result<std::string> address_plus(const std::string& base, unsigned number);

// Both renditions' pictures go out at the same time, cameras spread evenly over a picture's time. An error where a
// socket can't be had. Returns when the token is stopped or the duration is over.
Result<std::vector<PlayTotals>> play(const std::vector<EncodedCamera>& cameras, const std::vector<Route>& routes,
                                     const PlayOptions& options, const std::stop_token& stop);

}  // namespace adapath::camera
