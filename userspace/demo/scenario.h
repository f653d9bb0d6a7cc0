// What the demo forces on the daemon while the video runs: training on and off, a burst of switches, another network, a
// bad snapshot. A thread of its own; one step after the other, each waiting for what it needs to see.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>
#include <thread>

#include "codegen/codegen.h"
#include "userspace/common/stop.h"
#include "userspace/demo/plan.h"
#include "userspace/demo/recorder.h"
#include "userspace/demo/recording.h"

namespace adapath::demo {

// Compiles the programs of all that will be forced, so that the burst goes at the loop's own pace and not at that of a
// compiler that has just been started: half a minute where the processor is emulated.
Status compile_ahead(Freezer& freezer, const std::string& checkpoint_file);

class Scenario {
public:
    // `start_us` is the plan's second 0, CLOCK_MONOTONIC. `quit` ends it early.
    Scenario(const Plan& plan, uint64_t start_us, uint64_t seed, Freezer& freezer, DaemonClient& client,
             Recorder& recorder, StopToken& quit);
    ~Scenario();
    Scenario(const Scenario&) = delete;
    Scenario& operator=(const Scenario&) = delete;

    // Waits for its end.
    void join();
    // For the status line.
    [[nodiscard]] std::string phase();
    // After join().
    void take(Recording& recording);

private:
    void run();
    Status burst();
    Status other_network();
    Status bad_snapshot();
    bool wait_until(double second);  // false = quit
    void enter(const std::string& phase);
    Result<FloatModel> active_model();
    Result<Snapshot> freeze(const FloatModel& model, const std::string& note, double fidelity_limit);
    Result<pb::InstallReply> install(const Snapshot& snapshot, const std::string& reason);

    const Plan plan_;
    const uint64_t start_us_;
    const uint64_t seed_;
    Freezer& freezer_;
    DaemonClient& client_;
    Recorder& recorder_;
    StopToken& quit_;
    std::mutex mutex_;  // phases_ and forced_
    std::vector<Phase> phases_;
    Forced forced_;
    std::thread thread_;
};

}  // namespace adapath::demo
