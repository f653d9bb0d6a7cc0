// What the kernel sides of all apps have in common: slots and what decides with them, pinned, mapped into this process.
// Knows nothing of snapshots; bpf_backend.cc does. An app's own maps and how it is attached are in its <app>_side.cc.
#pragma once

#include <adapath/abi.h>

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codegen/result.h"
#include "userspace/common/mapping.h"
#include "userspace/common/unique_fd.h"

namespace adapath {

// How a generated network program of the app is joined to the running kernel side (include/adapath/<app>_net_bpf.h).
struct NetworkProgramKind {
    struct Map {
        const char* name;
        int fd;  // of the running map that takes its place
    };
    const char* program = "";
    std::vector<Map> maps;
};

struct KernelSide {
    KernelSide() = default;
    KernelSide(const KernelSide&) = delete;
    KernelSide& operator=(const KernelSide&) = delete;
    virtual ~KernelSide() = default;

    // Pinned, all of them: what the kernel side uses must outlive the daemon.
    UniqueFd control_map;
    UniqueFd slots_map;
    UniqueFd stats_map;
    UniqueFd ring_map;
    UniqueFd nets_map;    // slot -> network program
    UniqueFd finish_map;  // 0 -> the program that applies a decision
    // Not pinned: an array of maps whose update waits for a grace period, see wait_for_readers().
    UniqueFd grace_outer;
    UniqueFd grace_inner;

    UniqueFd lock;  // flock on the pin directory: one daemon at a time
    Mapping control_mapping;
    Mapping slots_mapping;
    bool adopted = false;
    std::string pin_directory;
    std::vector<std::string> warnings;

    [[nodiscard]] struct adp_control* control() const { return control_mapping.as<struct adp_control>(); }
    [[nodiscard]] struct adp_slot* slots() const { return slots_mapping.as<struct adp_slot>(); }
    [[nodiscard]] virtual NetworkProgramKind network_program() const = 0;

    // Returns when every decision that was running at the call has ended.
    [[nodiscard]] Status wait_for_readers() const;
};

// The parts that every app's open and remove are made of.

// Makes the directory, which must be on a bpffs, and locks it. `apart`: what a second daemon needs besides another
// --pin-dir, for the message.
Result<UniqueFd> lock_pin_directory(const std::string& path, const std::string& apart);
// The same for a directory that has to be there.
Result<UniqueFd> lock_existing_pin_directory(const std::string& path, const std::string& apart);
// Nothing but these is pinned there: or a daemon of one app would take another's directory for its own half-done work.
[[nodiscard]] Status check_pins(const std::string& path, std::span<const std::string_view> names);
[[nodiscard]] std::string pin_path(const std::string& directory, const char* name);
// A power of two of at least a page.
[[nodiscard]] Status check_ring_bytes(uint32_t bytes);
// Maps control and slots; on a fresh kernel side, control_map and slots_map are all that is needed.
[[nodiscard]] Status map_slots(KernelSide& side);
[[nodiscard]] Result<Mapping> map_array(const UniqueFd& map, size_t bytes, const char* what);
// Of a kernel side that was just loaded: nothing decides yet.
void begin_control(KernelSide& side, uint32_t schema, uint32_t wakeup_bytes, bool flow_consistency);
// Of one that an earlier daemon left: the same ABI and schema, or an error that ends in `remedy`.
[[nodiscard]] Status check_control(const KernelSide& side, uint32_t schema, const std::string& remedy);
// A warning where the ring of an adopted kernel side has another size.
void compare_ring(KernelSide& side, uint32_t ring_bytes);
[[nodiscard]] Status make_grace_maps(KernelSide& side);

// Sends libbpf's messages to take_libbpf_log() from now on. Idempotent.
void keep_libbpf_log();
// What libbpf and the verifier said since the last call, in this thread: the reason behind a failed load.
std::string take_libbpf_log();

}  // namespace adapath
