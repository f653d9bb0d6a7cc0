// The cc program and its maps in the kernel: loaded and pinned, or adopted from the pins that an earlier daemon left.
#pragma once

#include <memory>
#include <string>

#include "codegen/result.h"
#include "userspace/adapathd/backend.h"
#include "userspace/bpf_backend/kernel_side.h"

namespace adapath {

struct CcSide final : KernelSide {
    UniqueFd flows_map;
    UniqueFd ids_map;
    UniqueFd answers_map;  // include/adapath/cc_answers.h; one entry where nobody is asked
    UniqueFd ops_map;      // the struct_ops map: registered while its only element exists
    Mapping answers_mapping;
    std::string congestion_control;

    // An array of ADP_CC_ANSWERS, where the kernel side asks userspace.
    [[nodiscard]] uint64_t* answers() const { return answers_mapping.as<uint64_t>(); }
    [[nodiscard]] NetworkProgramKind network_program() const override;
};

Result<std::unique_ptr<CcSide>> open_cc_side(const BpfBackendOptions& options);

// Makes libbpf load programs of section "adp_net/..." as struct_ops programs of tcp_congestion_ops.cong_control without
// a struct_ops map. Idempotent; call before opening an object that has one.
Status register_network_section();

// How many arguments the running kernel's tcp_congestion_ops.cong_control takes: 4 since 6.10, 2 before.
Result<uint32_t> cong_control_arguments();

}  // namespace adapath
