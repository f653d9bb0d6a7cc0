// The collecting half of the daemon: batch after batch, every decision is explained, logged, handed on, and its reward
// held against the snapshot that made it.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "codegen/result.h"
#include "userspace/adapathd/app.h"
#include "userspace/adapathd/backend.h"
#include "userspace/adapathd/fanout.h"
#include "userspace/adapathd/sample_log.h"
#include "userspace/adapathd/snapshot_manager.h"
#include "userspace/adapathd/switch_policy.h"
#include "userspace/adapathd/trial.h"
#include "userspace/adapathd/verifier.h"

namespace adapath {

struct FlowView {
    uint64_t flow = 0;
    uint16_t local_port = 0;
    uint16_t remote_port = 0;
    uint64_t decisions = 0;
    uint64_t rate = 0;
    uint32_t rtt_us = 0;
    uint32_t min_rtt_us = 0;
    double reward = 0;
    uint64_t time_us = 0;  // of its last sample
};
struct GenerationView {
    uint64_t decisions = 0;
    uint64_t rewards = 0;
    double reward_sum = 0;
};
struct LoopView {
    uint64_t samples = 0;
    uint64_t explained = 0;
    uint64_t unexplained = 0;
    uint64_t gaps = 0;
    uint64_t log_bytes = 0;
    double reward = 0;  // mean over live flows
    std::string last_unexplained;
    std::string watch;
    std::string trial;            // figures; empty where nothing is on trial
    std::vector<FlowView> flows;  // heard of within the last minute
};

class Loop {
public:
    struct Options {
        std::chrono::milliseconds interval{100};
        WatchOptions watch;
        TrialOptions trial;
        bool trials_possible = true;          // false: a flow keeps the snapshot that it began with
        size_t stream_limit_bytes = 4 << 20;  // that a slow reader may lag behind
    };
    // What a reader gets at a time: whole records, and what was reported on decisions of which all samples were
    // published before or with it (serialised, of the app's own kind).
    struct Batch {
        std::string records{};
        std::vector<std::string> reports{};
    };
    using Samples = Fanout<Batch>;

    // `state_directory` is where the log is, for continuing the flows' sequence numbers after a restart.
    Loop(const App& app, Collector& collector, SnapshotManager& manager, SampleLog log, std::string log_directory,
         const Options& options, EventSink events);

    // One batch: waits for it, then does all of the above. An error leaves the loop able to go on.
    Status step();

    // Called by the manager; they take this loop's lock after the manager's.
    void on_switch(uint32_t to, bool watch, bool turn = false);
    [[nodiscard]] std::vector<InputCodes> recent_inputs() const;
    // Over the flows that were judged within the last seconds: those of an idle application can't be compared.
    [[nodiscard]] Result<uint32_t> plan_trial(bool asked) const;
    void on_trial(uint32_t generation);
    // Before the first step(): the log's last rewards of that generation become the baseline. False: it has too few.
    bool recall(uint32_t generation);

    struct Subscription {
        std::shared_ptr<Samples::Reader> reader;
        SampleLog::Position log_end;  // what the log holds up to here, the reader will not get
    };
    Subscription subscribe();
    // Goes to the readers behind all samples that are in the ring now. False: too many wait already. Any thread.
    bool add_report(std::string report);
    // Wakes every reader with an empty batch: something about training changed.
    void announce();
    void close_streams() { samples_.close(); }
    Status read_log(const SampleLog::Position& until, const LogSink& sink) const;

    [[nodiscard]] LoopView view() const;
    [[nodiscard]] std::unordered_map<uint32_t, GenerationView> generations() const;

private:
    struct Flow {
        FlowView view;
        uint32_t seq = 0;
        uint32_t generation = 0;
        bool accountable = false;
        bool rewarded = false;
        uint64_t judged_us = 0;  // when it last earned a reward that counts
    };
    bool account(const DecodedSample& sample);  // true: the first of its flow
    void tell_of_flows(std::span<const DecodedSample* const> first);
    struct PastReward {
        uint64_t flow;
        uint64_t time_us;
        double reward;
        uint32_t generation;
    };
    // Live flows, with what each earned lately.
    [[nodiscard]] Trial::Baselines live_baselines_locked() const;
    void judge_snapshots(uint32_t mismatched_generation, uint64_t now_us);
    void publish(std::span<const std::byte> records, std::vector<std::string> reports);
    void forget_old_flows(uint64_t now_us);
    void report_losses(uint64_t now_us);

    const App& app_;
    Collector& collector_;
    SnapshotManager& manager_;
    const std::string log_directory_;
    const Options options_;
    EventSink events_;
    Verifier verifier_;             // of step()'s thread alone
    std::vector<std::byte> batch_;  // likewise
    uint64_t lost_reported_ = 0;
    uint64_t losses_looked_us_ = 0;
    uint64_t log_error_us_ = 0;
    uint32_t trusted_told_ = 0;

    std::mutex reports_mutex_;
    std::vector<std::string> reports_;  // since the last step() began
    size_t report_bytes_ = 0;           // of them

    mutable std::mutex
        publish_mutex_;  // log and fan-out together, so that a new reader misses nothing and gets nothing twice
    SampleLog log_;
    Samples samples_;

    mutable std::mutex mutex_;  // all below; never held while the manager is called
    SwitchPolicy policy_;
    Trial trial_;
    std::deque<PastReward> past_;  // from the log, until the first step()
    std::unordered_map<uint64_t, Flow> flows_;
    std::unordered_map<uint32_t, GenerationView> generations_;
    std::vector<InputCodes> recent_;
    size_t recent_next_ = 0;
    LoopView totals_;
    uint64_t swept_us_ = 0;
};

}  // namespace adapath
