// What the backends share.
#include "userspace/adapathd/backend.h"

#include <fmt/format.h>

namespace adapath {

// Written so that NaN fails too.
Status check_share(double share) {
    if (!(share > 0) || !(share <= 1) || to_q16(share) == 0) {
        return Error{fmt::format("a share of {} of the flows: use more than 0, up to 1", share)};
    }
    return {};
}

Status check_objective(const Objective& weights) {
    for (const double weight : weights) {
        if (!(weight >= 0) || !(weight <= ADP_OBJECTIVE_MAX_Q16 / 65536.0)) {
            return Error{
                fmt::format("a weight of {} in the objective: use 0 to {}", weight, ADP_OBJECTIVE_MAX_Q16 / 65536)};
        }
    }
    return {};
}

}  // namespace adapath
