// The BPF programs under measurement and what the kernel counts about them: CUBIC for comparison, the cc program in
// which no decision is ever due, and how to find the running daemon's own.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/common/unique_fd.h"

namespace adapath::scale {

struct RunTime {
    uint64_t ns = 0;
    uint64_t runs = 0;
};
using RunTimes = std::map<std::string, RunTime>;  // by the program's name
RunTimes operator-(RunTimes later, const RunTimes& earlier);
RunTimes& operator+=(RunTimes& sum, const RunTimes& more);
RunTime total(const RunTimes& times);

// While one exists, the kernel counts time and runs of every BPF program (BPF_ENABLE_STATS): two clock reads a run.
Result<UniqueFd> enable_run_times();

// The programs of one loaded object.
class Programs {
public:
    // Those of the daemon whose kernel side is pinned under `pins`.
    static Result<Programs> of_daemon(const std::string& pins);
    static Result<Programs> of_ids(const std::vector<uint32_t>& ids);
    [[nodiscard]] RunTimes read() const;

private:
    std::vector<std::pair<std::string, UniqueFd>> programs_;
};

// A congestion control of this process's own, registered while the object lives.
class CongestionControl {
public:
    // CUBIC in BPF; flows that use it are held at `window_clamp` packets, also later under another one.
    static Result<std::unique_ptr<CongestionControl>> cubic(const std::string& name, uint32_t window_clamp);
    // bpf/cc.bpf.c in which no interval ends; a flow's window is its socket's clamp (cubic()'s argument).
    static Result<std::unique_ptr<CongestionControl>> never_due(const std::string& name);
    virtual ~CongestionControl() = default;

    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] const Programs& programs() const { return programs_; }
    // Of never_due(): samples made so far. 0, or it measures something else.
    [[nodiscard]] virtual uint64_t samples() const { return 0; }

protected:
    std::string name_;
    Programs programs_;
};

struct MapCost {
    std::string name;
    uint64_t memlock_bytes = 0;  // as the map's fdinfo says
    uint32_t value_bytes = 0;
    uint32_t entries = 0;
};
// The maps pinned under `pins`.
std::vector<MapCost> map_costs(const std::string& pins);

// Objects in use of the kernel's caches, by name; empty where /proc/slabinfo can't be read.
std::map<std::string, std::pair<uint64_t, uint64_t>> slab_objects();  // count, bytes of one

}  // namespace adapath::scale
