// A tc ingress hook of one interface: our classifier on it, and the qdisc that it needs.
#pragma once

#include <cstdint>
#include <string>

#include "codegen/result.h"

namespace adapath {

struct TcAttachment {
    bool made_qdisc = false;  // there was no clsact qdisc before
};

// Attaches the program behind the clsact qdisc's ingress, making the qdisc where there is none. Somebody else's filters
// stay; ours has a priority of its own.
Result<TcAttachment> attach_to_ingress(uint32_t ifindex, int program);
// Is this very program attached there?
bool is_attached_to_ingress(uint32_t ifindex, int program);
// Takes the program away where it is attached, and the qdisc where `made_qdisc` and no filter is left on it. An
// interface that is gone is fine.
Status detach_from_ingress(uint32_t ifindex, int program, bool made_qdisc);

}  // namespace adapath
