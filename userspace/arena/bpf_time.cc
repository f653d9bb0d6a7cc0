// See bpf_time.h.
#include "userspace/arena/bpf_time.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace adapath::arena {
namespace {

struct BtfDeleter {
    void operator()(btf* types) const { btf__free(types); }
};

// Offsets of the members that are pointers to functions.
std::vector<uint32_t> function_members(const btf* types, const btf_type* structure) {
    std::vector<uint32_t> offsets;
    const btf_member* member = btf_members(structure);
    for (uint32_t i = 0; i < btf_vlen(structure); ++i, ++member) {
        const btf_type* type = btf__type_by_id(types, member->type);
        if (btf_is_ptr(type) && btf_is_func_proto(btf__type_by_id(types, type->type))) {
            offsets.push_back(btf_member_bit_offset(structure, i) / 8);
        }
    }
    return offsets;
}

}  // namespace

UniqueFd count_bpf_run_time() { return UniqueFd(bpf_enable_stats(BPF_STATS_RUN_TIME)); }

Result<std::vector<uint32_t>> struct_ops_programs(const std::string& pin_path) {
    const UniqueFd map(bpf_obj_get(pin_path.c_str()));
    if (!map.valid()) {
        return Error{fmt::format("{}: {}", pin_path, strerror(errno))};
    }
    const std::unique_ptr<btf, BtfDeleter> types(btf__load_vmlinux_btf());
    bpf_map_info info = {};
    uint32_t info_bytes = sizeof(info);
    if (!types || bpf_map_get_info_by_fd(map.get(), &info, &info_bytes) != 0) {
        return Error{fmt::format("{}: can't read what it is: {}", pin_path, strerror(errno))};
    }
    // The value: bookkeeping, then `data`, the structure itself, in which the kernel shows a program's id for a
    // pointer.
    const btf_type* value_type = btf__type_by_id(types.get(), info.btf_vmlinux_value_type_id);
    std::vector<char> value(info.value_size);
    const uint32_t zero = 0;
    if (value_type == nullptr || !btf_is_struct(value_type) ||
        bpf_map_lookup_elem(map.get(), &zero, value.data()) != 0) {
        return Error{fmt::format("{}: no struct_ops map that can be read", pin_path)};
    }
    std::vector<uint32_t> ids;
    const btf_member* member = btf_members(value_type);
    for (uint32_t i = 0; i < btf_vlen(value_type); ++i, ++member) {
        if (std::strcmp(btf__name_by_offset(types.get(), member->name_off), "data") != 0) {
            continue;
        }
        const uint32_t data = btf_member_bit_offset(value_type, i) / 8;
        for (const uint32_t offset : function_members(types.get(), btf__type_by_id(types.get(), member->type))) {
            uint64_t id = 0;
            if (data + offset + sizeof(id) <= value.size()) {
                std::memcpy(&id, value.data() + data + offset, sizeof(id));
            }
            if (id != 0) {
                ids.push_back(static_cast<uint32_t>(id));
            }
        }
    }
    return ids;
}

Result<BpfTime> bpf_run_time(const std::vector<uint32_t>& program_ids) {
    BpfTime sum;
    for (const uint32_t id : program_ids) {
        const UniqueFd program(bpf_prog_get_fd_by_id(id));
        bpf_prog_info info = {};
        uint32_t info_bytes = sizeof(info);
        if (!program.valid() || bpf_prog_get_info_by_fd(program.get(), &info, &info_bytes) != 0) {
            return Error{fmt::format("BPF program {}: can't read its statistics: {}", id, strerror(errno))};
        }
        sum.ns += info.run_time_ns;
        sum.runs += info.run_cnt;
    }
    return sum;
}

}  // namespace adapath::arena
