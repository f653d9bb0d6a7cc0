// What the daemon asks of a place that runs snapshots: bpf, kmod, or local. One Installer (slots and the switch) and
// one Collector (samples), both of one app. Nothing above this interface knows which backend it has.
#pragma once

#include <chrono>
#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "codegen/codegen.h"
#include "codegen/result.h"
#include "userspace/adapathd/objective.h"
#include "userspace/adapathd/select_feed.h"
#include "userspace/linkem/histogram.h"

namespace adapath {

// canary: on trial, decides for a share of the flows.
enum class SlotState : uint8_t { free, active, standby, draining, canary };
[[nodiscard]] constexpr const char* slot_state_name(SlotState state) {
    switch (state) {
        case SlotState::free:
            return "free";
        case SlotState::active:
            return "active";
        case SlotState::standby:
            return "standby";
        case SlotState::draining:
            return "draining";
        case SlotState::canary:
            return "canary";
    }
    return "?";
}

// A share of the flows or a weight as the kernel side has it. Both are checked by whoever took them in.
[[nodiscard]] inline uint32_t to_q16(double value) { return static_cast<uint32_t>(std::lround(value * 65536.0)); }
[[nodiscard]] Status check_share(double share);
[[nodiscard]] Status check_objective(const Objective& weights);

// What one run of a snapshot costs by one of the programs that could run it here.
struct ProgramTime {
    std::string program;
    double ns = 0;
};

struct SlotInfo {
    uint32_t slot = 0;
    SlotState state = SlotState::free;
    uint32_t generation = 0;  // 0 = nothing in it
    uint64_t hash = 0;        // first 8 bytes of the content hash, big-endian as printed
    uint64_t bound_flows = 0;
    uint32_t params_bytes = 0;
    std::string program{};                // how it is run: "bpf", "generated", "avx512-vnni", "interpreter"
    std::vector<ProgramTime> measured{};  // where the backend chose among several: what each was found to cost
};

// What asking userspace for each decision costs; since the daemon started.
struct AskingStats {
    uint64_t questions = 0;
    uint64_t answers = 0;    // written for the kernel to find
    uint64_t applied = 0;    // found by an ACK in time
    uint64_t overtaken = 0;  // the flow asked again first
    uint64_t unknown = 0;    // questions for a snapshot that is not here, or of an unknown kind
    Histogram answer_us;     // from the ACK that asked to the answer's being there
    Histogram applied_us;    // to the ACK that found it
    double cpu_s = 0;        // of the answering thread
};

// Monotonic since the kernel side was loaded (not since the daemon started). The names are those of struct adp_stats.
struct BackendStats {
    uint64_t decisions = 0;
    uint64_t fallbacks = 0;
    uint64_t program_missing = 0;
    uint64_t samples = 0;
    uint64_t samples_lost = 0;
    uint64_t flows_opened = 0;
    uint64_t flows_closed = 0;
    uint64_t acks = 0;
    std::optional<AskingStats> asking{};  // where decisions are asked for
};

class Installer {
public:
    virtual ~Installer() = default;

    // Makes the snapshot ready in a free slot: program (loaded only if that network is new here), checked bit for bit
    // against the reference interpreter by really running it on `checks`, parameters written. Decides nothing yet.
    // Waits for a grace period only when every slot but active and standby is draining. Returns the slot.
    virtual Result<uint32_t> install(const Snapshot& snapshot, uint32_t generation,
                                     std::span<const InputCodes> checks) = 0;
    // The flip: one aligned store (bpf: no system call; kmod: one request). The slot that was active becomes standby;
    // the old standby drains. To the slot on trial: its promotion, none of its flows goes back in between. To any other
    // one: ends the trial.
    virtual Status switch_to(uint32_t slot) = 0;
    // A trial: the slot, which was installed and never switched to, decides for this share (above 0, up to 1) of the
    // flows (adp_flow_in_share()), the active one for the others. At most one slot is on trial, and only beside an
    // active one. Again for the same slot: another share.
    virtual Status set_canary(uint32_t slot, double share) = 0;
    // The active one decides for all; the slot drains. Without a trial, nothing.
    virtual Status end_canary() = 0;
    // What the app's flows are to aim for, from each one's next decision on.
    virtual Status set_objective(const Objective& weights) = 0;
    // No snapshot: the fallback decides.
    virtual Status deactivate() = 0;
    // Frees drained slots. May wait for a grace period (milliseconds): call it off the critical path, after a switch.
    virtual Status reclaim() = 0;
    [[nodiscard]] virtual std::vector<SlotInfo> slots() const = 0;
    // Of the slot's snapshot; used for adoption after a restart.
    [[nodiscard]] virtual uint32_t active_slot() const = 0;   // ADP_SLOT_NONE = fallback
    [[nodiscard]] virtual uint32_t standby_slot() const = 0;  // ADP_SLOT_NONE = nothing to roll back to
    virtual Status set_explore(uint32_t slot, uint32_t explore_q16) = 0;
};

class Collector {
public:
    virtual ~Collector() = default;

    using Sink = std::function<void(std::span<const std::byte> record)>;
    // Waits until the interval is over or the fill mark is reached, then hands over everything that is in the ring,
    // oldest first. Returns how many records. 0 after an interval without any.
    virtual Result<size_t> collect(std::chrono::milliseconds interval, const Sink& sink) = 0;
    // Makes a collect() that waits in another thread return at once.
    virtual void wake() = 0;
    [[nodiscard]] virtual BackendStats stats() const = 0;
};

struct Backend {
    std::string name;                     // "bpf", "userspace", "kmod", "local"
    std::string congestion_control;       // what a socket asks for with TCP_CONGESTION
    bool adopted = false;                 // took over a kernel side that was already running
    bool flow_consistency = false;        // a flow keeps the snapshot that it began with: none is ever on trial
    std::vector<std::string> warnings{};  // what the options ask for and the adopted kernel side does not do
    std::unique_ptr<Installer> installer;
    std::unique_ptr<Collector> collector;
    std::unique_ptr<SelectFeed> select_feed{};  // app select only
};

struct BpfBackendOptions {
    std::string congestion_control = "adapath";         // at most 15 characters
    std::string pin_directory = "/sys/fs/bpf/adapath";  // state that outlives the daemon; one daemon per directory
    uint32_t ring_bytes = 1 << 20;                      // power of two, at least a page
    uint32_t wakeup_bytes = 64 * 1024;                  // fill mark
    bool flow_consistency = false;                      // a flow keeps the snapshot it began with
    // For comparison: each decision is asked of this process, which runs the snapshot's float model ("Restructuring
    // Endhost Congestion Control", SIGCOMM 2018), and applied an answer later. The backend's name is then "userspace".
    bool ask_userspace = false;
};
// Loads and pins the kernel side, or adopts the one that is pinned. Errors say what this machine lacks and what would
// work. A second daemon on the same pin directory is refused.
Result<Backend> open_bpf_backend(const BpfBackendOptions& options);
// Detaches and unpins everything under the directory. Live flows go on under their socket's own reference until they
// end.
Status remove_bpf_backend(const std::string& pin_directory);
// What this machine lacks for the bpf backend: empty = nothing. One line each: what is missing, and what would work.
[[nodiscard]] std::vector<std::string> bpf_backend_obstacles();

struct KmodBackendOptions {
    std::string app = "cc";             // registered by the module adapath_<app>
    uint32_t record_bytes = 0;          // of a sample as the caller knows it; the module's must be the same. 0 = any
    uint32_t wakeup_bytes = 64 * 1024;  // fill mark of one CPU's ring
    bool flow_consistency = false;      // a flow keeps the snapshot it began with
};
// Takes over what adapath.ko holds of the app: nothing at first, later what the last daemon left. The kernel loads
// adapath.ko by itself where it is installed; errors say what this machine lacks and what would work. A second daemon
// on the app is refused.
Result<Backend> open_kmod_backend(const KmodBackendOptions& options);
// Frees every slot, so that the modules can be unloaded: the fallback decides, and flows that are bound keep theirs
// until they end. Refused while a daemon runs.
Status remove_kmod_backend(const std::string& app);
// What this machine lacks for the kmod backend: empty = nothing. Asking loads adapath.ko where it is installed.
[[nodiscard]] std::vector<std::string> kmod_backend_obstacles(const std::string& app = "cc");

}  // namespace adapath
