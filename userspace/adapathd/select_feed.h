// What userspace tells the kernel side of the app select, and can see of it: one interface for every backend that runs
// it. Nothing here checks its arguments' sense; whoever takes them in does (feed_intake.h). An error is the kernel's.
#pragma once

#include <cstdint>

#include <adapath/select.h>

#include "codegen/result.h"

namespace adapath {

// What the uplink is worth (struct adp_select_market). Out of range: the nearest that is in it.
struct SelectMarket {
    double price = 0;         // accuracy for 1 MiB/s
    uint32_t main_limit = 0;  // bytes/s, 0 = none
    double used = 0;          // share of the uplink's budget, 0 to 2
    uint32_t cameras = 0;     // that share it
    double main_late = 0;     // share of the main streams' bytes that lately came too late or not at all
};

class SelectFeed {
public:
    virtual ~SelectFeed() = default;

    virtual Status set_market(const SelectMarket& market) = 0;
    // The server saw `objects` with that mean confidence in what it received, and was that accurate (0..1). `camera` is
    // its place in the configuration; one above ADP_SELECT_CAMERAS is ignored.
    virtual Status set_seen(uint32_t camera, uint32_t objects, double confidence, double accuracy) = 0;
    // Both renditions were measured.
    virtual Status set_measured(uint32_t camera, double sub_worth, double gain) = 0;
    // The camera's state; id 0: nothing is configured there.
    [[nodiscard]] virtual Result<adp_select_camera> camera(uint32_t camera) const = 0;
};

}  // namespace adapath
