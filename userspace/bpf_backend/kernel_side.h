// The cc program and its maps in the kernel: loaded and pinned, or adopted from the pins that an earlier daemon left.
// Knows nothing of snapshots; bpf_backend.cc does.
#pragma once

#include <adapath/abi.h>

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/adapathd/backend.h"
#include "userspace/common/mapping.h"
#include "userspace/common/unique_fd.h"

struct bpf_program;

namespace adapath {

struct KernelSide {
    // Pinned, all of them: what flows use must outlive the daemon.
    UniqueFd control_map;
    UniqueFd slots_map;
    UniqueFd stats_map;
    UniqueFd ring_map;
    UniqueFd nets_map;    // slot -> network program
    UniqueFd finish_map;  // 0 -> adp_cc_apply
    UniqueFd flows_map;
    UniqueFd ids_map;
    UniqueFd answers_map;  // include/adapath/cc_answers.h; one entry where nobody is asked
    UniqueFd ops_map;      // the struct_ops map: registered while its only element exists
    // Not pinned: an array of maps whose update waits for a grace period, see wait_for_readers().
    UniqueFd grace_outer;
    UniqueFd grace_inner;

    UniqueFd lock;  // flock on the pin directory: one daemon at a time
    Mapping control_mapping;
    Mapping slots_mapping;
    Mapping answers_mapping;
    bool adopted = false;
    std::string congestion_control;
    std::string pin_directory;
    std::vector<std::string> warnings;

    [[nodiscard]] struct adp_control* control() const { return control_mapping.as<struct adp_control>(); }
    [[nodiscard]] struct adp_slot* slots() const { return slots_mapping.as<struct adp_slot>(); }

    // An array of ADP_CC_ANSWERS, where the kernel side asks userspace.
    [[nodiscard]] uint64_t* answers() const { return answers_mapping.as<uint64_t>(); }

    // Returns when every decision that was running at the call has ended.
    Status wait_for_readers() const;
};

Result<std::unique_ptr<KernelSide>> open_kernel_side(const BpfBackendOptions& options);

// Makes libbpf load programs of section "adp_net/..." as struct_ops programs of tcp_congestion_ops.cong_control without
// a struct_ops map. Idempotent; call before opening an object that has one.
Status register_network_section();

// How many arguments the running kernel's tcp_congestion_ops.cong_control takes: 4 since 6.10, 2 before.
Result<uint32_t> cong_control_arguments();

// What libbpf and the verifier said since the last call, in this thread: the reason behind a failed load.
std::string take_libbpf_log();

}  // namespace adapath
