// What BPF programs cost, by the kernel's own statistics.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/common/unique_fd.h"

namespace adapath::arena {

// While it lives, the kernel counts every BPF program's run time. An invalid descriptor: it can't (before 5.8, or no
// privilege).
UniqueFd count_bpf_run_time();

struct BpfTime {
    uint64_t ns = 0;
    uint64_t runs = 0;
};
// The programs that a pinned struct_ops map put in the place of the kernel's functions.
Result<std::vector<uint32_t>> struct_ops_programs(const std::string& pin_path);
// Of all of them together. What a program calls by tail calls counts as its own.
Result<BpfTime> bpf_run_time(const std::vector<uint32_t>& program_ids);

}  // namespace adapath::arena
