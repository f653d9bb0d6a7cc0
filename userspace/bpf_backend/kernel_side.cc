// Loading, pinning and adopting the kernel side of the bpf backend.
#include "userspace/bpf_backend/kernel_side.h"

#include <adapath/cc.h>
#include <adapath/cc_answers.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "cc_bpf.skel.h"

namespace adapath {
namespace {

constexpr long kBpfFsMagic = 0xcafe4a11;

std::string reason(int err) { return std::strerror(err < 0 ? -err : err); }

// The fields of KernelSide and the names they are pinned under.
struct Pin {
    const char* name;
    UniqueFd KernelSide::* fd;
};
constexpr std::array<Pin, 10> kPins = {{
    {"control", &KernelSide::control_map},
    {"slots", &KernelSide::slots_map},
    {"stats", &KernelSide::stats_map},
    {"ring", &KernelSide::ring_map},
    {"nets", &KernelSide::nets_map},
    {"finish", &KernelSide::finish_map},
    {"flows", &KernelSide::flows_map},
    {"flow_ids", &KernelSide::ids_map},
    {"answers", &KernelSide::answers_map},
    // Last: its pin says that all of the above are complete.
    {"ops", &KernelSide::ops_map},
}};

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

Status make_pin_directory(const std::string& path) {
    const std::string parent = path.substr(0, path.find_last_of('/'));
    struct statfs fs = {};
    if (statfs(parent.c_str(), &fs) != 0)
        return Error{
            fmt::format("pin directory {}: {}: {}; it must be inside a mounted bpffs (mount -t bpf bpf /sys/fs/bpf)",
                        path, parent, reason(errno))};
    if (static_cast<unsigned long>(fs.f_type) != kBpfFsMagic)
        return Error{fmt::format("pin directory {}: {} is not a bpffs; mount one with 'mount -t bpf bpf /sys/fs/bpf'",
                                 path, parent)};
    if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
        return Error{fmt::format("pin directory {}: mkdir: {}", path, reason(errno))};
    return {};
}

Result<UniqueFd> lock_pin_directory(const std::string& path) {
    UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return Error{fmt::format("pin directory {}: {}", path, reason(errno))};
    if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
        return Error{
            fmt::format("pin directory {}: in use by another adapathd; stop it, or give this one another "
                        "--pin-dir and --cc-name",
                        path)};
    return fd;
}

std::string pin_path(const std::string& directory, const char* name) { return directory + "/" + name; }

Status map_shared(KernelSide& side, bool asks_userspace) {
    const size_t control_bytes = static_cast<size_t>(getpagesize());
    void* control = mmap(nullptr, control_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, side.control_map.get(), 0);
    if (control == MAP_FAILED) return Error{fmt::format("mapping the control map: {}", reason(errno))};
    side.control_mapping = Mapping(control, control_bytes);
    const size_t slots_bytes = sizeof(struct adp_slot) * ADP_SLOTS;
    void* slots = mmap(nullptr, slots_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, side.slots_map.get(), 0);
    if (slots == MAP_FAILED) return Error{fmt::format("mapping the slots: {}", reason(errno))};
    side.slots_mapping = Mapping(slots, slots_bytes);
    if (!asks_userspace) return {};
    const size_t answers_bytes = sizeof(uint64_t) * ADP_CC_ANSWERS;
    void* answers = mmap(nullptr, answers_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, side.answers_map.get(), 0);
    if (answers == MAP_FAILED) return Error{fmt::format("mapping the answers: {}", reason(errno))};
    side.answers_mapping = Mapping(answers, answers_bytes);
    return {};
}

Status make_grace_maps(KernelSide& side) {
    side.grace_inner = UniqueFd(bpf_map_create(BPF_MAP_TYPE_ARRAY, "adp_grace_in", 4, 4, 1, nullptr));
    if (!side.grace_inner.valid()) return Error{fmt::format("creating a map: {}", reason(errno))};
    bpf_map_create_opts options = {};
    options.sz = sizeof(options);
    options.inner_map_fd = static_cast<uint32_t>(side.grace_inner.get());
    side.grace_outer = UniqueFd(bpf_map_create(BPF_MAP_TYPE_ARRAY_OF_MAPS, "adp_grace", 4, 4, 1, &options));
    if (!side.grace_outer.valid()) return Error{fmt::format("creating a map of maps: {}", reason(errno))};
    return {};
}

// The log of the verifier, kept for the error message where a load fails.
thread_local std::string libbpf_log;
int keep_log(libbpf_print_level level, const char* format, va_list arguments) {
    if (level == LIBBPF_DEBUG) return 0;
    std::array<char, 2048> line = {};
    vsnprintf(line.data(), line.size(), format, arguments);
    libbpf_log += line.data();
    if (libbpf_log.size() > 8192) libbpf_log.erase(0, libbpf_log.size() - 8192);
    return 0;
}

Status load_fresh(KernelSide& side, const BpfBackendOptions& options) {
    const CongestionOpsBtf& ops = congestion_ops_btf();
    if (ops.error != 0)
        return Error{
            fmt::format("the kernel's BTF has no tcp_congestion_ops ({}): a kernel with CONFIG_DEBUG_INFO_BTF is "
                        "needed, or --backend=local",
                        reason(ops.error))};
    libbpf_log.clear();
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

    const std::array<std::pair<UniqueFd KernelSide::*, bpf_map*>, kPins.size()> maps = {{
        {&KernelSide::control_map, skeleton->maps.adp_cc_control_map},
        {&KernelSide::slots_map, skeleton->maps.adp_cc_slots},
        {&KernelSide::stats_map, skeleton->maps.adp_cc_stats},
        {&KernelSide::ring_map, skeleton->maps.adp_cc_ring},
        {&KernelSide::nets_map, skeleton->maps.adp_cc_nets},
        {&KernelSide::finish_map, skeleton->maps.adp_cc_finish},
        {&KernelSide::flows_map, skeleton->maps.adp_cc_flows},
        {&KernelSide::ids_map, skeleton->maps.adp_cc_flow_ids},
        {&KernelSide::answers_map, skeleton->maps.adp_cc_answers},
        {&KernelSide::ops_map, skeleton->maps.adp_cc_ops},
    }};
    for (auto [member, map] : maps) {
        side.*member = UniqueFd(dup(bpf_map__fd(map)));
        if (!(side.*member).valid()) return Error{fmt::format("keeping map {}: {}", bpf_map__name(map), reason(errno))};
    }
    if (Status status = map_shared(side, options.ask_userspace); !status) return status;
    side.control()->abi_version = ADP_ABI_VERSION;
    side.control()->wakeup_bytes = options.wakeup_bytes;
    side.control()->flow_consistency = options.flow_consistency;
    side.control()->schema = ADP_CC_SCHEMA;
    side.control()->canary = ADP_SLOT_NONE;
    __atomic_store_n(&side.control()->active, ADP_SLOT_NONE, __ATOMIC_RELEASE);

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

Status adopt(KernelSide& side, const BpfBackendOptions& options) {
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
    if (side.control()->abi_version != ADP_ABI_VERSION || side.control()->schema != ADP_CC_SCHEMA)
        return Error{fmt::format(
            "the kernel side under {} has ABI version {} and schema {}, this daemon {} and {}: 'adapathd "
            "--remove' detaches it (live flows go on with CUBIC), then start again",
            side.pin_directory, side.control()->abi_version, side.control()->schema, ADP_ABI_VERSION, ADP_CC_SCHEMA)};
    Result<std::string> name = registered_name(side.ops_map.get());
    if (!name) return name.error();
    if (*name != options.congestion_control)
        return Error{
            fmt::format("the kernel side under {} is registered as '{}', not '{}': use --cc-name {}, or another "
                        "--pin-dir",
                        side.pin_directory, *name, options.congestion_control, *name)};
    side.control()->wakeup_bytes = options.wakeup_bytes;
    bpf_map_info ring = {};
    uint32_t ring_info_bytes = sizeof(ring);
    if (bpf_map_get_info_by_fd(side.ring_map.get(), &ring, &ring_info_bytes) == 0 &&
        ring.max_entries != options.ring_bytes)
        side.warnings.push_back(
            fmt::format("ring_bytes {}: the running kernel side has {}; it changes with 'adapathd --remove' "
                        "and a new start",
                        options.ring_bytes, ring.max_entries));
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
        libbpf_set_print(keep_log);
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

Status KernelSide::wait_for_readers() const {
    // Replacing an inner map waits for an RCU grace period on every kernel (maybe_wait_bpf_programs(), since 4.20,
    // commit 1ae80cf31938); decisions run inside RCU read-side sections. membarrier() would not do on one CPU or with
    // nohz_full.
    const uint32_t zero = 0;
    const int inner = grace_inner.get();
    if (bpf_map_update_elem(grace_outer.get(), &zero, &inner, BPF_ANY) != 0)
        return Error{fmt::format("waiting for a grace period: {}", reason(errno))};
    return {};
}

Result<std::unique_ptr<KernelSide>> open_kernel_side(const BpfBackendOptions& options) {
    if (options.congestion_control.empty() || options.congestion_control.size() > 15)
        return Error{
            fmt::format("congestion control name '{}' must have 1 to 15 characters", options.congestion_control)};
    if (options.ring_bytes < static_cast<uint32_t>(getpagesize()) ||
        (options.ring_bytes & (options.ring_bytes - 1)) != 0)
        return Error{
            fmt::format("ring of {} bytes: must be a power of two of at least {}", options.ring_bytes, getpagesize())};
    if (Status status = register_network_section(); !status) return status.error();

    auto side = std::make_unique<KernelSide>();
    side->pin_directory = options.pin_directory;
    if (Status status = make_pin_directory(options.pin_directory); !status) return status.error();
    Result<UniqueFd> lock = lock_pin_directory(options.pin_directory);
    if (!lock) return lock.error();
    side->lock = std::move(*lock);

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
    Result<UniqueFd> lock = lock_pin_directory(pin_directory);
    if (!lock) return lock.error();
    return remove_locked(pin_directory);
}

std::string take_libbpf_log() { return std::exchange(libbpf_log, {}); }

}  // namespace adapath
