// The trainer's loop: samples in, batches of training, and a snapshot out when training has settled on something that
// differs enough from what decides now. Speaks to one daemon; outlives its restarts.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "codegen/codegen.h"
#include "codegen/result.h"
#include "models/learner.h"
#include "models/online.h"
#include "models/qp/online.h"
#include "models/select/online.h"
#include "models/tuner.h"
#include "userspace/common/stop.h"
#include "userspace/proto/control.grpc.pb.h"

namespace adapath {

enum class Learning : uint8_t {
    turns,     // two numbers of the policy, by turns of seconds (models/tuner.h)
    gradient,  // all of its weights, by PPO on explored decisions (models/online.h); select and qp: supervised, by
               // what the server said of chunks (models/select/online.h, models/qp/online.h)
};

struct TrainerOptions {
    std::string target = "unix:/run/adapath/adapathd.sock";  // gRPC's name of the daemon
    std::string app = "cc";                                  // or select, or qp
    std::string checkpoint;  // directory with policy.model and, for cc, value.model; qp: selector.json
    std::string save;        // directory to keep what was learned in; read first at a start. Empty = nowhere
    Learning learning = Learning::turns;  // select and qp: always gradient
    double explore = 0.1;  // gradient: standard deviation of the noise that snapshots ask for, units of the action
    double select_explore = 0.05;  // select: share of the rounds in which both renditions are to pass
    double min_interval_s = 5;     // gradient: between two snapshots, so that each is judged before the next comes;
                                   // turns: before what was rolled back takes its turn again
    // Largest p99 error of the integers, fraction of the output's range; 0 = any. None: the app's usual one, which is
    // wider for qp, whose activations have 8 bits in ten layers (docs/quantisation.md).
    std::optional<double> fidelity_limit;
    // Where what was sent was rolled back and nothing but the fallback decides, the checkpoint is sent again after this
    // long; doubled each time in a row. Without a snapshot there is nothing to learn from.
    double retry_s = 60;
    double retry_most_s = 3600;
    bool dry_run = false;  // learn and report, send nothing
    OnlineOptions online;
    SelectOnlineOptions select;
    QpOnlineOptions qp;
    TunerOptions tuner;
};

struct TrainerCounters {
    uint64_t samples = 0;
    uint64_t batches = 0;  // gradient
    uint64_t reports = 0;  // select, qp: of the server, with a label in them
    uint64_t frozen = 0;
    uint64_t installed = 0;
    uint64_t refused = 0;
    uint64_t connects = 0;
};

class Trainer {
public:
    // Reads the models; the daemon need not run yet.
    static Result<std::unique_ptr<Trainer>> open(const TrainerOptions& options);
    ~Trainer();

    // Connects if need be, takes what has come (waits up to `wait` for it), trains at most one batch, and sends a
    // snapshot if it is time. False: not connected; try again after a while.
    bool step(std::chrono::milliseconds wait);
    // step() until the token is set, with growing pauses while the daemon is away.
    void run(StopToken& stop);
    // Told to the daemon at the next connection, once.
    void ask_train(bool on) { ask_train_ = on; }
    // Makes a step() that waits return, from another thread.
    void interrupt();

    [[nodiscard]] const TrainerCounters& counters() const { return counters_; }
    [[nodiscard]] const Tuner& tuner() const { return tuner_; }
    [[nodiscard]] const Learner& learner() const { return *learner_; }
    [[nodiscard]] std::string progress() const;

private:
    struct Stream;
    Trainer(const TrainerOptions& options, LearnedModel start, std::unique_ptr<Learner> learner);
    static Result<std::unique_ptr<Trainer>> open_qp(const TrainerOptions& options);

    bool connect();
    void disconnect();
    void take(const pb::SampleBatch& batch);
    void follow_active(const std::string& hash);
    void follow_trial(const pb::SampleBatch& batch);
    void follow_foreign(const std::string& hash, const FloatModel& model);
    void plan_retry();
    Result<Snapshot> freeze(const LearnedModel& model, const std::string& reason);
    Result<Snapshot> freeze_image(const ImageFloatModel& model, const Provenance& provenance);
    struct Sent {
        Snapshot snapshot;
        pb::InstallReply reply;
    };
    Result<Sent> install(const LearnedModel& model, const std::string& reason, bool turn);
    bool send(const std::string& reason);
    // Turns.
    void follow_turns();
    Status bring(const std::string& reason);
    void in_place(const std::string& hash, uint32_t generation, uint64_t switches);
    void leave_turns();
    void save_turns();
    [[nodiscard]] Status restore_turns();
    [[nodiscard]] std::vector<InputCodes> calibration() const;
    void save();

    TrainerOptions options_;
    std::unique_ptr<Learner> learner_;
    LearnedModel start_;  // for calibration in the simulator, before there are samples
    Freezer freezer_;
    ImageFreezer image_freezer_;
    std::unique_ptr<pb::Control::Stub> stub_;
    std::unique_ptr<Stream> stream_;
    std::mutex stream_mutex_;  // the pointer, against interrupt()

    std::optional<bool> ask_train_;
    bool greeted_ = false;  // the stream's first batch has come
    bool train_ = false;
    uint32_t train_now_ = 0;  // last count seen
    bool send_now_ = false;
    std::string active_hash_;
    uint64_t switches_ = 0;      // the daemon's count when that was so
    std::string sent_hash_;      // the newest that this trainer had installed
    std::string trial_hash_;     // the same while it is on trial
    LearnedModel active_model_;  // what decides now, where that is known
    bool active_known_ = false;
    uint64_t last_send_us_ = 0;
    uint64_t retry_us_ = 0;  // when the checkpoint is sent again; 0 = no need
    double retry_s_ = 0;     // the pause before it
    // Turns: settings of base_ that have a snapshot, which one decides, and since when none could be brought.
    Tuner tuner_;
    FloatModel base_;
    bool base_is_checkpoint_ = true;
    std::vector<std::pair<TunerSetting, std::string>> frozen_;
    std::optional<TunerSetting> turn_;
    bool restored_ = false;  // the tuner goes on from what was saved: whatever decides at first is not taken over
    uint64_t next_try_us_ = 0;
    TrainerCounters counters_;
};

}  // namespace adapath
