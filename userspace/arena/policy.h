// A congestion control policy under test: how it is started and stopped, what a socket asks for, and what it costs.
//
// To add one: write a class (or give DaemonPolicy other settings), and name it in make_policy() and policy_names().
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "codegen/result.h"
#include "userspace/arena/cell.h"
#include "userspace/common/stop.h"

namespace adapath::arena {

struct PolicyContext {
    std::string bin;                               // directory of Adapath's programs
    std::string checkpoint;                        // directory of policy.model and value.model
    std::string work;                              // directory for logs and state; one policy's own
    std::vector<std::string> trainer_arguments{};  // besides those that the arena needs itself
    std::string daemon_config{};                   // text for the end of adapathd's configuration
    bool bpf_time_is_counted = false;              // see count_bpf_run_time()
    StopToken* stop = nullptr;
};

// How many took how long: counts by the upper end of their bucket, us.
using Times = std::map<uint64_t, uint64_t>;

// Of a policy that is asked in userspace for each decision.
struct PolicyAsking {
    uint64_t questions = 0;
    uint64_t applied = 0;    // answers that an ACK found in time
    uint64_t overtaken = 0;  // the flow asked again first
    Times answer_us;         // from the ACK that asked to the answer's being there
    Times apply_us;          // to the ACK that applied it
};

// What a policy used since it was started; differences of two are a cell's.
struct PolicyCost {
    double daemon_cpu_s = 0;   // utime + stime of adapathd
    double trainer_cpu_s = 0;  // of adapath-trainer, threads included
    bool has_bpf = false;      // the kernel gave run times
    double bpf_cpu_s = 0;      // of the policy's programs in the datapath
    uint64_t bpf_runs = 0;
    uint64_t decisions = 0;
    uint64_t acks = 0;
    uint64_t switches = 0;
    uint64_t rollbacks = 0;
    std::optional<PolicyAsking> asking;
};

class Policy {
public:
    virtual ~Policy() = default;
    // Before each cell: starts what is missing, and brings a policy that learns back to its checkpoint.
    virtual Status prepare() = 0;
    // What TCP_CONGESTION is set to; after prepare().
    [[nodiscard]] virtual std::string congestion_control() const = 0;
    // Hashes of what it is made of, by name; part of the cell's key.
    [[nodiscard]] virtual Result<Json> parts() const = 0;
    // An error where something that it needs has died.
    virtual Status alive() { return {}; }
    [[nodiscard]] virtual Result<PolicyCost> cost() { return PolicyCost{}; }
    // Its processes stand still until resume(), as if they hung. Nothing where it has none.
    virtual void hold() {}
    virtual void resume() {}
    // Of the daemon that collects what it decides; empty where there is none.
    [[nodiscard]] virtual std::string daemon_socket() const { return {}; }
    // Does it run anything of its own, whose cost can be told?
    [[nodiscard]] virtual bool has_cost() const { return false; }
    virtual void stop() {}
};

std::vector<std::string> policy_names();
Result<std::unique_ptr<Policy>> make_policy(const std::string& name, const PolicyContext& context);

}  // namespace adapath::arena
