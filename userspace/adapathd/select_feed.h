// What userspace tells the kernel side of the app select, and can see of it: one interface for every backend that runs
// it. Nothing here checks its arguments' sense; whoever takes them in does (feed_intake.h). An error is the kernel's.
#pragma once

#include <cstdint>

#include <adapath/select.h>

#include "codegen/result.h"

namespace adapath {

class SelectFeed {
public:
    virtual ~SelectFeed() = default;

    // price: accuracy for 1 MiB/s. main_limit: bytes/s, 0 = none. used: share of the uplink's budget. Out of range: the
    // nearest that is in it.
    virtual Status set_market(double price, uint32_t main_limit, double used, uint32_t cameras) = 0;
    // The server saw `objects` with that mean confidence in what it received, and was that accurate (0..1). `camera` is
    // its place in the configuration; one above ADP_SELECT_CAMERAS is ignored.
    virtual Status set_seen(uint32_t camera, uint32_t objects, double confidence, double accuracy) = 0;
    // Both renditions were measured.
    virtual Status set_measured(uint32_t camera, double sub_worth, double gain) = 0;
    // The camera's state; id 0: nothing is configured there.
    [[nodiscard]] virtual Result<adp_select_camera> camera(uint32_t camera) const = 0;
};

}  // namespace adapath
