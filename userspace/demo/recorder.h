// Listens to the daemon while the demo runs: its samples, its events and its status, over the control protocol that
// every operator's tool uses.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <unordered_set>
#include <vector>

#include <adapath/cc.h>

#include "codegen/codegen.h"
#include "codegen/result.h"
#include "userspace/common/stop.h"
#include "userspace/demo/recording.h"
#include "userspace/harness/daemon_client.h"

namespace adapath::demo {

class Recorder {
public:
    explicit Recorder(DaemonClient& client);
    ~Recorder();
    Recorder(const Recorder&) = delete;
    Recorder& operator=(const Recorder&) = delete;

    // Ends both streams and waits for their threads. What was recorded stays.
    void stop();

    // Marks switches by what the demo knows of them.
    void mark_burst(uint32_t generation);
    void mark_bad(uint32_t generation);

    // Waits until `condition` (called under the lock) is true; false after the timeout or when the program stops.
    bool wait(std::chrono::milliseconds timeout, const StopToken& stop, const std::function<bool()>& condition);
    [[nodiscard]] uint64_t first_sample_us();
    [[nodiscard]] size_t sample_count();
    // Valid inside wait()'s condition too: the lock is recursive.
    [[nodiscard]] std::optional<SwitchPoint> switch_to(uint32_t generation);
    [[nodiscard]] std::optional<SwitchPoint> rollback_of(uint32_t generation);
    // The newest distinct inputs, for freezing: `count` at most.
    [[nodiscard]] std::vector<InputCodes> recent_inputs(size_t count);
    // Mean of the last second, for the status line.
    struct Now {
        double rtt_ms = 0;
        double reward = 0;
        double delivered_mbit = 0;  // sum over flows
        size_t decisions = 0;
    };
    [[nodiscard]] Now now();
    void take(Recording& recording);

private:
    void read_samples();
    void read_events();
    void add_sample(const adp_cc_sample& sample);
    void add_event(const pb::Event& event);

    DaemonClient& client_;
    grpc::ClientContext samples_context_;
    grpc::ClientContext events_context_;
    std::recursive_mutex mutex_;
    std::condition_variable_any changed_;
    std::vector<SamplePoint> samples_;
    uint64_t dropped_ = 0;
    std::vector<SwitchPoint> switches_;
    std::deque<InputCodes> inputs_;
    std::unordered_set<uint32_t> burst_;
    uint32_t bad_ = 0;
    std::string schema_error_;
    std::thread samples_thread_;
    std::thread events_thread_;
};

}  // namespace adapath::demo
