// The daemon as a whole: backend, state directory, loop, snapshots, training's switch. The gRPC service and the tests
// call this.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "codegen/result.h"
#include "codegen/version.h"
#include "userspace/adapathd/app.h"
#include "userspace/adapathd/backend.h"
#include "userspace/adapathd/fanout.h"
#include "userspace/adapathd/feed_intake.h"
#include "userspace/adapathd/lock.h"
#include "userspace/adapathd/loop.h"
#include "userspace/adapathd/snapshot_manager.h"
#include "userspace/common/stop.h"
#include "userspace/proto/config.pb.h"
#include "userspace/proto/control.pb.h"

namespace adapath {

class Daemon {
public:
    // Takes the lock of the configured state directory, then opens the configured backend.
    static Result<std::unique_ptr<Daemon>> open(const pb::DaemonConfig& config);
    // On a backend that the caller opened.
    static Result<std::unique_ptr<Daemon>> open(const pb::DaemonConfig& config, StateLock lock, Backend backend);
    ~Daemon();
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;

    // One batch. An error leaves the daemon able to go on with the next.
    Status step() { return loop_->step(); }
    // Makes a step() that waits return.
    void wake() { backend_.collector->wake(); }
    // step() until the token is set, with systemd's watchdog fed.
    void run(StopToken& stop);
    // Ends every stream, so that the server can shut down.
    void close_streams();

    SnapshotManager& snapshots() { return *manager_; }
    Loop& loop() { return *loop_; }
    const App& app() const { return *app_; }

    void fill_status(pb::StatusReply& reply) const;
    void fill_snapshots(pb::ListSnapshotsReply& reply) const;

    // What the app is to aim for: takes effect at each flow's next decision, and is kept across restarts. Weights that
    // are not named keep their value; `reset`: back to the configuration's. The error says what is wrong with a weight.
    Status set_objective(const std::map<std::string, double>& weights, bool reset);
    void fill_objective(pb::ObjectiveReply& reply) const;

    // The trainer's stream: at most one.
    bool claim_trainer();
    void release_trainer();
    void set_train(bool on);
    void train_now();
    [[nodiscard]] bool train() const { return train_; }
    [[nodiscard]] uint32_t train_now_count() const { return train_now_; }
    [[nodiscard]] bool trainer_connected() const { return trainer_connected_; }

    // Where the server's reports come in; null for apps that have none (cc).
    FeedIntake* feed_intake() { return feed_intake_.get(); }

    using Events = Fanout<DaemonEvent>;
    std::shared_ptr<Events::Reader> watch_events() { return events_.subscribe(1 << 20); }

private:
    Daemon(const pb::DaemonConfig& config, const App& app, StateLock lock, Backend backend)
        : config_(config), app_(&app), lock_(std::move(lock)), backend_(std::move(backend)) {}
    Status start();
    void on_event(DaemonEvent event);
    // From the configuration, or what an operator set in an earlier life of this state directory.
    Status start_objective();
    Status apply_objective_locked(const Objective& objective, const std::string& source);

    const pb::DaemonConfig config_;
    const App* app_;
    StateLock lock_;
    Backend backend_;
    uint64_t started_us_ = 0;
    Events events_;
    std::atomic<bool> train_{true};
    std::atomic<uint32_t> train_now_{0};
    std::atomic<bool> trainer_connected_{false};
    std::unique_ptr<SnapshotManager> manager_;
    std::unique_ptr<Loop> loop_;
    std::unique_ptr<FeedIntake> feed_intake_;
    mutable std::mutex objective_mutex_;
    Objective objective_{};
    std::string objective_source_;
    // Facts of stored snapshots that do not change, so that listing them does not parse every file each time.
    mutable std::mutex facts_mutex_;
    mutable std::unordered_map<std::string, pb::SnapshotInfo> facts_;
};

}  // namespace adapath
