// The select program and its maps in the kernel: loaded, pinned and attached, or adopted from the pins that an earlier
// daemon left.
#pragma once

#include <memory>
#include <string>

#include "codegen/result.h"
#include "userspace/bpf_backend/kernel_side.h"
#include "userspace/bpf_backend/select_backend.h"

namespace adapath {

struct SelectSide final : KernelSide {
    UniqueFd cameras_map;
    UniqueFd ports_map;
    UniqueFd market_map;
    UniqueFd feedback_map;
    UniqueFd links_map;  // where the program is attached: SelectLink by place
    UniqueFd ids_map;    // the last camera number given out
    UniqueFd program;    // adp_select_ingress
    Mapping ports_mapping;

    [[nodiscard]] NetworkProgramKind network_program() const override;
};

// A value of links_map.
struct SelectLink {
    uint32_t ifindex;  // 0 = nothing here
    uint32_t made_qdisc;
};

Result<std::unique_ptr<SelectSide>> open_select_side(const SelectBackendOptions& options);

}  // namespace adapath
