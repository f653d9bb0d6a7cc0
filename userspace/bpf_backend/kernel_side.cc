// See kernel_side.h.
#include "userspace/bpf_backend/kernel_side.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <system_error>
#include <utility>

namespace adapath {
namespace {

constexpr long kBpfFsMagic = 0xcafe4a11;

std::string reason(int err) { return std::strerror(err < 0 ? -err : err); }

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

// The log of the verifier, kept for the error message where a load fails.
thread_local std::string libbpf_log;
int keep_log(libbpf_print_level level, const char* format, va_list arguments) {
    if (level == LIBBPF_DEBUG) return 0;
    // The verifier's log is one message, and why it refuses a program is at its end.
    va_list again;
    va_copy(again, arguments);
    const int bytes = vsnprintf(nullptr, 0, format, arguments);
    std::string message(bytes > 0 ? static_cast<size_t>(bytes) + 1 : 1, '\0');
    vsnprintf(message.data(), message.size(), format, again);
    va_end(again);
    message.pop_back();
    libbpf_log += message;
    if (libbpf_log.size() > 8192) libbpf_log.erase(0, libbpf_log.size() - 8192);
    return 0;
}

}  // namespace

Result<UniqueFd> lock_existing_pin_directory(const std::string& path, const std::string& apart) {
    UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid()) return Error{fmt::format("pin directory {}: {}", path, reason(errno))};
    if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
        return Error{fmt::format("pin directory {}: in use by another adapathd; stop it, or give this one another {}",
                                 path, apart)};
    return fd;
}

Result<UniqueFd> lock_pin_directory(const std::string& path, const std::string& apart) {
    if (Status status = make_pin_directory(path); !status) return status.error();
    return lock_existing_pin_directory(path, apart);
}

Status check_pins(const std::string& path, std::span<const std::string_view> names) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
        const std::string name = entry.path().filename().string();
        if (std::ranges::find(names, name) == names.end())
            return Error{fmt::format("pin directory {}: it holds '{}', which is not this app's: give another --pin-dir",
                                     path, name)};
    }
    if (error) return Error{fmt::format("pin directory {}: {}", path, error.message())};
    return {};
}

std::string pin_path(const std::string& directory, const char* name) { return directory + "/" + name; }

Status check_ring_bytes(uint32_t bytes) {
    if (bytes < static_cast<uint32_t>(getpagesize()) || (bytes & (bytes - 1)) != 0)
        return Error{fmt::format("ring of {} bytes: must be a power of two of at least {}", bytes, getpagesize())};
    return {};
}

Result<Mapping> map_array(const UniqueFd& map, size_t bytes, const char* what) {
    const size_t page = static_cast<size_t>(getpagesize());
    bytes = (bytes + page - 1) / page * page;
    void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, map.get(), 0);
    if (address == MAP_FAILED) return Error{fmt::format("mapping the {}: {}", what, reason(errno))};
    return Mapping(address, bytes);
}

Status map_slots(KernelSide& side) {
    Result<Mapping> control = map_array(side.control_map, sizeof(struct adp_control), "control map");
    if (!control) return control.error();
    side.control_mapping = std::move(*control);
    Result<Mapping> slots = map_array(side.slots_map, sizeof(struct adp_slot) * ADP_SLOTS, "slots");
    if (!slots) return slots.error();
    side.slots_mapping = std::move(*slots);
    return {};
}

void begin_control(KernelSide& side, uint32_t schema, uint32_t wakeup_bytes, bool flow_consistency) {
    side.control()->abi_version = ADP_ABI_VERSION;
    side.control()->wakeup_bytes = wakeup_bytes;
    side.control()->flow_consistency = flow_consistency ? 1 : 0;
    side.control()->schema = schema;
    side.control()->canary = ADP_SLOT_NONE;
    __atomic_store_n(&side.control()->active, ADP_SLOT_NONE, __ATOMIC_RELEASE);
}

Status check_control(const KernelSide& side, uint32_t schema, const std::string& remedy) {
    if (side.control()->abi_version != ADP_ABI_VERSION || side.control()->schema != schema)
        return Error{fmt::format("the kernel side under {} has ABI version {} and schema {}, this daemon {} and {}: {}",
                                 side.pin_directory, side.control()->abi_version, side.control()->schema,
                                 ADP_ABI_VERSION, schema, remedy)};
    return {};
}

void compare_ring(KernelSide& side, uint32_t ring_bytes) {
    bpf_map_info ring = {};
    uint32_t ring_info_bytes = sizeof(ring);
    if (bpf_map_get_info_by_fd(side.ring_map.get(), &ring, &ring_info_bytes) == 0 && ring.max_entries != ring_bytes)
        side.warnings.push_back(
            fmt::format("ring_bytes {}: the running kernel side has {}; it changes with 'adapathd --remove' "
                        "and a new start",
                        ring_bytes, ring.max_entries));
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

void keep_libbpf_log() {
    static std::once_flag once;
    std::call_once(once, [] { libbpf_set_print(keep_log); });
}

std::string take_libbpf_log() { return std::exchange(libbpf_log, {}); }

}  // namespace adapath
