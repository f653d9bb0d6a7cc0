// Loading, pinning and adopting the kernel side of the app cc.
#include "userspace/bpf_backend/cc_side.h"

#include <adapath/cc.h>
#include <adapath/cc_answers.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

#include "cc_bpf.skel.h"

namespace adapath {
namespace {

// What two daemons with cc need to keep apart.
constexpr const char* kApart = "--pin-dir and --cc-name";

std::string reason(int err) { return std::strerror(err < 0 ? -err : err); }

// The fields of CcSide and the names they are pinned under.
struct Pin {
    const char* name;
    UniqueFd CcSide::* fd;
};
constexpr std::array<Pin, 10> kPins = {{
    {"control", &CcSide::control_map},
    {"slots", &CcSide::slots_map},
    {"stats", &CcSide::stats_map},
    {"ring", &CcSide::ring_map},
    {"nets", &CcSide::nets_map},
    {"finish", &CcSide::finish_map},
    {"flows", &CcSide::flows_map},
    {"flow_ids", &CcSide::ids_map},
    {"answers", &CcSide::answers_map},
    // Last: its pin says that all of the above are complete.
    {"ops", &CcSide::ops_map},
}};

Status check_own_pins(const std::string& directory) {
    std::array<std::string_view, kPins.size()> names;
    std::ranges::transform(kPins, names.begin(), [](const Pin& pin) { return std::string_view(pin.name); });
    return check_pins(directory, names);
}

struct SkeletonDeleter {
    void operator()(cc_bpf* skeleton) const { cc_bpf::destroy(skeleton); }
};

// Where tcp_congestion_ops and its members are in the running kernel's BTF. Read once: it takes some milliseconds.
struct CongestionOpsBtf {
    int error = 0;
    uint32_t type_id = 0;
    uint32_t cong_control_member = 0;
    uint32_t cong_control_arguments = 0;
};

CongestionOpsBtf read_congestion_ops_btf() {
    CongestionOpsBtf found;
    btf* kernel = btf__load_vmlinux_btf();
    if (kernel == nullptr) {
        found.error = errno;
        return found;
    }
    int id = btf__find_by_name_kind(kernel, "tcp_congestion_ops", BTF_KIND_STRUCT);
    if (id < 0) {
        found.error = -id;
    } else {
        found.type_id = static_cast<uint32_t>(id);
        found.error = ENOENT;
        const btf_type* type = btf__type_by_id(kernel, found.type_id);
        const btf_member* member = btf_members(type);
        for (uint32_t i = 0; i < btf_vlen(type); ++i, ++member) {
            if (std::strcmp(btf__name_by_offset(kernel, member->name_off), "cong_control") != 0) continue;
            const btf_type* pointer = btf__type_by_id(kernel, member->type);
            const btf_type* function = btf__type_by_id(kernel, pointer->type);
            found.cong_control_member = i;
            found.cong_control_arguments = btf_vlen(function);
            found.error = 0;
        }
    }
    btf__free(kernel);
    return found;
}

const CongestionOpsBtf& congestion_ops_btf() {
    static const CongestionOpsBtf found = read_congestion_ops_btf();
    return found;
}

// libbpf loads a struct_ops program only where a struct_ops map of the same object refers to it. Programs that are
// reached by tail calls alone have none, so they come to the load as another type, and become struct_ops here, at the
// last moment.
int prepare_network_program(bpf_program* program, bpf_prog_load_opts* options, long /*cookie*/) {
    const CongestionOpsBtf& ops = congestion_ops_btf();
    if (ops.error != 0) return -ops.error;
    if (int err = bpf_program__set_type(program, BPF_PROG_TYPE_STRUCT_OPS); err != 0) return err;
    options->attach_btf_id = ops.type_id;
    // libbpf takes this one from the program, after this call.
    return bpf_program__set_expected_attach_type(program, static_cast<bpf_attach_type>(ops.cong_control_member));
}

Status map_shared(CcSide& side, bool asks_userspace) {
    if (Status status = map_slots(side); !status) return status;
    if (!asks_userspace) return {};
    Result<Mapping> answers = map_array(side.answers_map, sizeof(uint64_t) * ADP_CC_ANSWERS, "answers");
    if (!answers) return answers.error();
    side.answers_mapping = std::move(*answers);
    return {};
}

Status load_fresh(CcSide& side, const BpfBackendOptions& options) {
    const CongestionOpsBtf& ops = congestion_ops_btf();
    if (ops.error != 0)
        return Error{
            fmt::format("the kernel's BTF has no tcp_congestion_ops ({}): a kernel with CONFIG_DEBUG_INFO_BTF is "
                        "needed, or --backend=local",
                        reason(ops.error))};
    (void)take_libbpf_log();
    std::unique_ptr<cc_bpf, SkeletonDeleter> skeleton(cc_bpf::open());
    if (!skeleton) return Error{fmt::format("opening the cc program: {}", reason(errno))};
    skeleton->rodata->cong_control_has_ack = ops.cong_control_arguments == 4;
    skeleton->rodata->flow_consistency = options.flow_consistency;
    skeleton->rodata->ask_userspace = options.ask_userspace;
    bpf_map__set_max_entries(skeleton->maps.adp_cc_ring, options.ring_bytes);
    if (options.ask_userspace) bpf_map__set_max_entries(skeleton->maps.adp_cc_answers, ADP_CC_ANSWERS);
    // The skeleton calls a char array in a struct_ops "unsupported" because it has no setter; the bytes are the live
    // ones.
    auto& name = skeleton->struct_ops.adp_cc_ops->__unsupported_5;
    std::memset(name, 0, sizeof(name));
    std::memcpy(name, options.congestion_control.data(), options.congestion_control.size());

    if (int err = cc_bpf::load(skeleton.get()); err != 0)
        return Error{fmt::format("loading the cc program: {}\n{}", reason(err), take_libbpf_log())};

    const std::array<std::pair<UniqueFd CcSide::*, bpf_map*>, kPins.size()> maps = {{
        {&CcSide::control_map, skeleton->maps.adp_cc_control_map},
        {&CcSide::slots_map, skeleton->maps.adp_cc_slots},
        {&CcSide::stats_map, skeleton->maps.adp_cc_stats},
        {&CcSide::ring_map, skeleton->maps.adp_cc_ring},
        {&CcSide::nets_map, skeleton->maps.adp_cc_nets},
        {&CcSide::finish_map, skeleton->maps.adp_cc_finish},
        {&CcSide::flows_map, skeleton->maps.adp_cc_flows},
        {&CcSide::ids_map, skeleton->maps.adp_cc_flow_ids},
        {&CcSide::answers_map, skeleton->maps.adp_cc_answers},
        {&CcSide::ops_map, skeleton->maps.adp_cc_ops},
    }};
    for (auto [member, map] : maps) {
        side.*member = UniqueFd(dup(bpf_map__fd(map)));
        if (!(side.*member).valid()) return Error{fmt::format("keeping map {}: {}", bpf_map__name(map), reason(errno))};
    }
    if (Status status = map_shared(side, options.ask_userspace); !status) return status;
    begin_control(side, ADP_CC_SCHEMA, options.wakeup_bytes, options.flow_consistency);

    const uint32_t zero = 0;
    const int apply = bpf_program__fd(skeleton->progs.adp_cc_apply);
    if (bpf_map_update_elem(side.finish_map.get(), &zero, &apply, BPF_ANY) != 0)
        return Error{fmt::format("joining the cc programs: {}", reason(errno))};

    bpf_link* link = bpf_map__attach_struct_ops(skeleton->maps.adp_cc_ops);
    if (link == nullptr) {
        const int err = errno;
        return Error{fmt::format("registering congestion control '{}': {}{}", options.congestion_control, reason(err),
                                 err == EEXIST
                                     ? "; another one of that name is registered: stop the daemon that owns it "
                                       "(adapathd --remove), or choose another --cc-name. Where no daemon and no pin "
                                       "is left of it: bpftool struct_ops unregister name adp_cc_ops"
                                     : "")};
    }
    // Registered until its element is deleted: the daemon's end must not end it.
    bpf_link__disconnect(link);
    bpf_link__destroy(link);

    for (const Pin& pin : kPins) {
        const std::string path = pin_path(side.pin_directory, pin.name);
        if (bpf_obj_pin((side.*(pin.fd)).get(), path.c_str()) != 0) {
            const int err = errno;
            bpf_map_delete_elem(side.ops_map.get(), &zero);
            for (const Pin& made : kPins) unlink(pin_path(side.pin_directory, made.name).c_str());
            return Error{fmt::format("pinning {}: {}", path, reason(err))};
        }
    }
    side.congestion_control = options.congestion_control;
    return {};
}

// The name under which the pinned struct_ops map is registered. Its value begins with bookkeeping of the kernel's own,
// then comes the structure itself at a cache line's boundary; the offset of `name` is looked up in the kernel's BTF.
Result<std::string> registered_name(int ops_map) {
    btf* kernel = btf__load_vmlinux_btf();
    if (kernel == nullptr) return Error{"the kernel has no BTF"};
    const auto offset_of = [&](const char* type_name, const char* member_name) -> long {
        int id = btf__find_by_name_kind(kernel, type_name, BTF_KIND_STRUCT);
        if (id < 0) return -1;
        const btf_type* type = btf__type_by_id(kernel, static_cast<uint32_t>(id));
        const btf_member* member = btf_members(type);
        for (uint32_t i = 0; i < btf_vlen(type); ++i, ++member) {
            if (std::strcmp(btf__name_by_offset(kernel, member->name_off), member_name) == 0)
                return static_cast<long>(btf_member_bit_offset(type, i) / 8);
        }
        return -1;
    };
    const long data = offset_of("bpf_struct_ops_tcp_congestion_ops", "data");
    const long name = offset_of("tcp_congestion_ops", "name");
    btf__free(kernel);
    bpf_map_info info = {};
    uint32_t info_bytes = sizeof(info);
    if (data < 0 || name < 0 || bpf_map_get_info_by_fd(ops_map, &info, &info_bytes) != 0)
        return Error{"the pinned congestion control can't be read"};
    std::vector<char> value(info.value_size);
    const uint32_t zero = 0;
    if (static_cast<size_t>(data + name + 16) > value.size() || bpf_map_lookup_elem(ops_map, &zero, value.data()) != 0)
        return Error{fmt::format("the pinned congestion control can't be read: {}", reason(errno))};
    const char* text = value.data() + data + name;
    return std::string(text, strnlen(text, 16));
}

Status adopt(CcSide& side, const BpfBackendOptions& options) {
    for (const Pin& pin : kPins) {
        side.*(pin.fd) = UniqueFd(bpf_obj_get(pin_path(side.pin_directory, pin.name).c_str()));
        if (!(side.*(pin.fd)).valid())
            return Error{fmt::format("adopting {}/{}: {}; 'adapathd --remove' clears the directory for a fresh start",
                                     side.pin_directory, pin.name, reason(errno))};
    }
    bpf_map_info answers = {};
    uint32_t answers_info_bytes = sizeof(answers);
    if (bpf_map_get_info_by_fd(side.answers_map.get(), &answers, &answers_info_bytes) != 0 ||
        (answers.max_entries == ADP_CC_ANSWERS) != options.ask_userspace)
        return Error{fmt::format(
            "the kernel side under {} is backend {}'s: 'adapathd --remove' detaches it (live flows go on with CUBIC), "
            "then start again; or use another --pin-dir and --cc-name",
            side.pin_directory, options.ask_userspace ? "bpf" : "userspace")};
    if (Status status = map_shared(side, options.ask_userspace); !status) return status;
    if (Status status = check_control(
            side, ADP_CC_SCHEMA, "'adapathd --remove' detaches it (live flows go on with CUBIC), then start again");
        !status)
        return status;
    Result<std::string> name = registered_name(side.ops_map.get());
    if (!name) return name.error();
    if (*name != options.congestion_control)
        return Error{
            fmt::format("the kernel side under {} is registered as '{}', not '{}': use --cc-name {}, or another "
                        "--pin-dir",
                        side.pin_directory, *name, options.congestion_control, *name)};
    side.control()->wakeup_bytes = options.wakeup_bytes;
    compare_ring(side, options.ring_bytes);
    if ((side.control()->flow_consistency != 0) != options.flow_consistency)
        side.warnings.push_back(
            fmt::format("consistency: the running kernel side has '{}'; it changes with 'adapathd "
                        "--remove' and a new start",
                        side.control()->flow_consistency != 0 ? "flow" : "decision"));
    side.congestion_control = *name;
    side.adopted = true;
    return {};
}

}  // namespace

Status register_network_section() {
    static std::once_flag once;
    static int result = 0;
    std::call_once(once, [] {
        keep_libbpf_log();
        libbpf_prog_handler_opts options = {};
        options.sz = sizeof(options);
        options.prog_prepare_load_fn = prepare_network_program;
        result = libbpf_register_prog_handler("adp_net+", BPF_PROG_TYPE_SCHED_CLS, static_cast<bpf_attach_type>(0),
                                              &options);
    });
    if (result < 0) return Error{fmt::format("libbpf refuses the section handler: {}", reason(result))};
    return {};
}

Result<uint32_t> cong_control_arguments() {
    const CongestionOpsBtf& ops = congestion_ops_btf();
    if (ops.error != 0) return Error{fmt::format("the kernel's BTF has no tcp_congestion_ops: {}", reason(ops.error))};
    return ops.cong_control_arguments;
}

NetworkProgramKind CcSide::network_program() const {
    return {
        "adp_cc_net",
        {{"adp_cc_flows", flows_map.get()}, {"adp_cc_slots", slots_map.get()}, {"adp_cc_finish", finish_map.get()}}};
}

Result<std::unique_ptr<CcSide>> open_cc_side(const BpfBackendOptions& options) {
    if (options.congestion_control.empty() || options.congestion_control.size() > 15)
        return Error{
            fmt::format("congestion control name '{}' must have 1 to 15 characters", options.congestion_control)};
    if (Status status = check_ring_bytes(options.ring_bytes); !status) return status.error();
    if (Status status = register_network_section(); !status) return status.error();

    auto side = std::make_unique<CcSide>();
    side->pin_directory = options.pin_directory;
    Result<UniqueFd> lock = lock_pin_directory(options.pin_directory, kApart);
    if (!lock) return lock.error();
    side->lock = std::move(*lock);
    if (Status status = check_own_pins(options.pin_directory); !status) return status.error();

    // The pin of `ops` is made last; without it the others are what a killed daemon left half done.
    if (access(pin_path(options.pin_directory, "ops").c_str(), F_OK) == 0) {
        if (Status status = adopt(*side, options); !status) return status.error();
    } else {
        for (const Pin& pin : kPins) unlink(pin_path(options.pin_directory, pin.name).c_str());
        if (Status status = load_fresh(*side, options); !status) return status.error();
    }
    if (Status status = make_grace_maps(*side); !status) return status.error();
    return side;
}

namespace {

// The lock is the caller's business.
Status remove_locked(const std::string& pin_directory) {
    const uint32_t zero = 0;
    UniqueFd ops(bpf_obj_get(pin_path(pin_directory, "ops").c_str()));
    if (ops.valid() && bpf_map_delete_elem(ops.get(), &zero) != 0 && errno != ENOENT && errno != EINPROGRESS)
        return Error{fmt::format("unregistering the congestion control under {}: {}", pin_directory, reason(errno))};
    for (const Pin& pin : kPins) unlink(pin_path(pin_directory, pin.name).c_str());
    if (rmdir(pin_directory.c_str()) != 0) return Error{fmt::format("removing {}: {}", pin_directory, reason(errno))};
    return {};
}

}  // namespace

Status remove_bpf_backend(const std::string& pin_directory) {
    if (access(pin_directory.c_str(), F_OK) != 0)
        return Error{fmt::format("pin directory {}: {}: nothing to remove", pin_directory, reason(errno))};
    Result<UniqueFd> lock = lock_existing_pin_directory(pin_directory, kApart);
    if (!lock) return lock.error();
    if (Status status = check_own_pins(pin_directory); !status) return status;
    return remove_locked(pin_directory);
}

}  // namespace adapath
