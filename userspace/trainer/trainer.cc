// See trainer.h.
#include "userspace/trainer/trainer.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <thread>

#include "models/qp/selector.h"
#include "userspace/common/clock.h"
#include "userspace/common/file.h"
#include "userspace/common/notify.h"
#include "userspace/common/text.h"
#include "userspace/trainer/cc_learner.h"

namespace adapath {
namespace {

constexpr int kMessageLimit = 16 << 20;
constexpr size_t kQueueLimit = 256;  // batches; the daemon drops (and counts) what we are too slow for
constexpr size_t kCalibration = 512;
constexpr size_t kCalibrationPictures = 64;  // an image network takes about a millisecond for one, by the interpreter
constexpr double kFidelityLimit = 1.0 / 256;
// Activations are u8, and a selector has ten layers of them (adapath-qp-snapshot has the figures).
constexpr double kImageFidelityLimit = 1.0 / 20;

LearnedModel reference_of(Snapshot& snapshot) {
    return snapshot.image ? LearnedModel(std::move(snapshot.image->reference))
                          : LearnedModel(std::move(snapshot.reference));
}
// Snapshots of others may come without their floats.
bool has_weights(const LearnedModel& model) {
    return std::visit([](const auto& m) { return !m.weights.empty(); }, model);
}

}  // namespace

// The stream of samples, read by a thread of its own, since a blocking read can't be given up after a while.
struct Trainer::Stream {
    Stream(pb::Control::Stub& stub, const pb::SamplesRequest& request) : reader(stub.StreamSamples(&context, request)) {
        thread = std::thread([this] { read(); });
    }
    ~Stream() {
        context.TryCancel();
        {
            std::lock_guard lock(mutex);
            closed = true;
        }
        changed.notify_all();
        thread.join();
    }

    void read() {
        pb::SampleBatch batch;
        while (reader->Read(&batch)) {
            std::unique_lock lock(mutex);
            // Full: leave it to the daemon to drop. Training is behind; newer samples matter no less than older ones.
            changed.wait(lock, [this] { return queue.size() < kQueueLimit || closed; });
            if (closed) {
                break;
            }
            queue.push_back(std::move(batch));
            lock.unlock();
            changed.notify_all();
        }
        grpc::Status status = reader->Finish();
        std::lock_guard lock(mutex);
        ended = true;
        error = status.error_message();
        changed.notify_all();
    }

    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<pb::SampleBatch>> reader;
    std::mutex mutex;
    std::condition_variable changed;
    std::deque<pb::SampleBatch> queue;
    bool closed = false;
    bool ended = false;
    bool interrupted = false;
    std::string error;
    std::thread thread;
};

Trainer::Trainer(const TrainerOptions& options, LearnedModel start, std::unique_ptr<Learner> learner)
    : options_(options), learner_(std::move(learner)), start_(std::move(start)), tuner_(options.tuner) {
    if (const auto* policy = std::get_if<FloatModel>(&start_)) {
        base_ = *policy;
    }
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMessageLimit);
    arguments.SetMaxSendMessageSize(kMessageLimit);
    // gRPC's own backoff goes up to two minutes: a restarted daemon should be found within seconds.
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2000);
    stub_ =
        pb::Control::NewStub(grpc::CreateCustomChannel(options_.target, grpc::InsecureChannelCredentials(), arguments));
}

Trainer::~Trainer() { disconnect(); }

Result<std::unique_ptr<Trainer>> Trainer::open(const TrainerOptions& wanted) {
    TrainerOptions options = wanted;
    if (options.app != "cc" && options.app != "select" && options.app != "qp") {
        return Error{fmt::format("app '{}' is unknown: this trainer learns cc, select and qp", options.app)};
    }
    if (options.app == "qp") {
        options.learning = Learning::gradient;
        return open_qp(options);
    }
    const bool select = options.app == "select";
    if (select) {
        options.learning = Learning::gradient;
    }
    std::string directory = options.checkpoint;
    if (!options.save.empty()) {
        if (Status status = make_directories(options.save); !status) {
            return status.error();
        }
        if (options.learning == Learning::gradient && read_float_model(options.save + "/policy.model").ok()) {
            directory = options.save;
            spdlog::info("going on from what was learned before: {}", directory);
        }
    }
    Result<FloatModel> policy = read_float_model(directory + "/policy.model");
    if (!policy) {
        return Error{
            policy.error().message +
            fmt::format(": name a directory with policy.model{} with --checkpoint (models/{} in the source tree)",
                        select ? "" : " and value.model", options.app)};
    }
    const uint32_t schema = select ? ADP_SELECT_SCHEMA : ADP_CC_SCHEMA;
    const size_t inputs = select ? size_t{ADP_SELECT_INPUTS} : size_t{ADP_CC_INPUTS};
    if (policy->network.app != options.app || policy->network.feature_schema != schema ||
        policy->network.input_count() != inputs) {
        return Error{
            fmt::format("{}/policy.model is for app '{}' feature schema {} with {} inputs; this trainer learns app "
                        "'{}' schema {} with {}",
                        directory, policy->network.app, policy->network.feature_schema, policy->network.input_count(),
                        options.app, schema, inputs)};
    }
    if (select) {
        return std::unique_ptr<Trainer>(
            new Trainer(options, *policy, std::make_unique<SelectOnline>(*policy, options.select)));
    }
    FloatModel value;
    if (Result<FloatModel> read = read_float_model(directory + "/value.model")) {
        value = std::move(*read);
    } else if (options.learning == Learning::gradient) {
        spdlog::warn("{}: the value network begins anew", read.error().message);
    }
    std::unique_ptr<Trainer> trainer(
        new Trainer(options, *policy, std::make_unique<CcLearner>(*policy, value, options.online)));
    if (options.learning == Learning::turns) {
        if (Status status = trainer->restore_turns(); !status) {
            return status.error();
        }
    }
    return trainer;
}

Result<std::unique_ptr<Trainer>> Trainer::open_qp(const TrainerOptions& options) {
    const std::string name = fmt::format("/{}", QpOnline::file_name);
    Result<ImageFloatModel> start = read_selector(options.checkpoint + name);
    if (!start) {
        return Error{start.error().message +
                     fmt::format(": name a directory with {} with --checkpoint (models/qp in the source tree)",
                                 QpOnline::file_name)};
    }
    if (total_stride(start->network) != 16 / ADP_QP_CELL || widest_window(start->network) > ADP_QP_WINDOW) {
        return Error{
            fmt::format("{}{}: {} is no network that app qp runs", options.checkpoint, name, describe(start->network))};
    }
    auto learner = std::make_unique<QpOnline>(*start, options.qp);
    if (!options.save.empty()) {
        if (Status status = make_directories(options.save); !status) {
            return status.error();
        }
        if (access((options.save + name).c_str(), F_OK) == 0) {
            Result<ImageFloatModel> saved = read_selector(options.save + name);
            if (!saved) {
                return Error{saved.error().message + ": remove it to begin again from the checkpoint"};
            }
            if (saved->network != start->network) {
                return Error{
                    fmt::format("{}{} has another network than the checkpoint: {}, not {}; remove it to begin "
                                "again",
                                options.save, name, describe(saved->network), describe(start->network))};
            }
            spdlog::info("going on from what was learned before: {}", options.save);
            learner->restart_from(*saved);
        }
    }
    return std::unique_ptr<Trainer>(new Trainer(options, std::move(*start), std::move(learner)));
}

bool Trainer::connect() {
    pb::SamplesRequest request;
    request.set_trainer(true);
    auto stream = std::make_unique<Stream>(*stub_, request);
    std::lock_guard lock(stream_mutex_);
    stream_ = std::move(stream);
    greeted_ = false;
    return true;
}

void Trainer::disconnect() {
    std::unique_ptr<Stream> old;
    {
        std::lock_guard lock(stream_mutex_);
        old = std::move(stream_);
    }
    old.reset();
}

void Trainer::interrupt() {
    std::lock_guard lock(stream_mutex_);
    if (stream_) {
        std::lock_guard inner(stream_->mutex);
        stream_->interrupted = true;
        stream_->changed.notify_all();
    }
}

void Trainer::take(const pb::SampleBatch& batch) {
    if (!greeted_) {
        greeted_ = true;
        counters_.connects++;
        train_now_ = batch.train_now();
        spdlog::info("connected to {}: training is {}, {}", options_.target, batch.train() ? "on" : "off",
                     batch.active_hash().empty() ? "no snapshot decides yet"
                                                 : "snapshot " + short_hash(batch.active_hash()) + " decides");
        if (batch.active_hash().empty()) {
            send_now_ = true;  // the first start: the checkpoint decides until something better is learned
        }
    }
    if (ask_train_) {
        grpc::ClientContext context;
        context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
        pb::TrainRequest request;
        pb::TrainReply reply;
        request.set_mode(*ask_train_ ? pb::TrainRequest::ON : pb::TrainRequest::OFF);
        if (grpc::Status status = stub_->Train(&context, request, &reply); status.ok()) {
            ask_train_.reset();  // what comes next in the stream says so
        } else {
            spdlog::warn("training could not be turned {}: {}", *ask_train_ ? "on" : "off", status.error_message());
        }
    }
    if (batch.train() != train_) {
        train_ = batch.train();
        spdlog::info("training is {}", train_ ? "on" : "off");
    }
    if (batch.train_now() != train_now_) {
        train_now_ = batch.train_now();
        send_now_ = true;
    }
    if (batch.switches() >= switches_) {  // else it was under way while this trainer's own snapshot was installed
        switches_ = batch.switches();
        follow_trial(batch);
        follow_active(batch.active_hash());
    }
    if (!batch.records().empty()) {
        if (batch.schema() != learner_->schema() || batch.record_bytes() != learner_->record_bytes()) {
            spdlog::error(
                "the daemon's records have schema {} ({} bytes), this trainer's (app {}) {} ({}): use the daemon's "
                "app, "
                "and build both from one source",
                batch.schema(), batch.record_bytes(), options_.app, learner_->schema(), learner_->record_bytes());
            return;
        }
        const std::span<const std::byte> records = std::as_bytes(std::span(batch.records()));
        counters_.samples += records.size() / learner_->record_bytes();
        if (train_) {
            learner_->add(records, options_.learning == Learning::gradient);
        }
        if (train_ && options_.learning == Learning::turns) {
            tuner_.add(cc_samples_of(records));
        }
    }
    for (const pb::CameraReport& report : batch.reports()) {
        if (train_ && report.has_measured()) {
            counters_.reports++;
            learner_->add_measured(report.camera_id(), report.chunk_us(), report.measured().sub_worth(),
                                   report.measured().gain());
        }
        if (train_ && report.has_blocks()) {
            counters_.reports++;
            const pb::BlockWeights& blocks = report.blocks();
            learner_->add_blocks(report.camera_id(), report.chunk_us(), blocks.columns(), blocks.rows(),
                                 {blocks.weights().data(), static_cast<size_t>(blocks.weights_size())});
        }
    }
}

// Keeps the float model of what decides at hand: necessity is measured against it. A snapshot that is not the newest
// one sent from here means that the daemon rolled back or an operator switched: learning goes on from there.
void Trainer::follow_active(const std::string& hash) {
    if (hash == active_hash_) {
        return;
    }
    active_hash_ = hash;
    active_known_ = false;
    if (hash.empty()) {
        if (turn_) {
            tuner_.refused();
            turn_.reset();
        }
        plan_retry();
        return;
    }
    retry_us_ = 0;
    if (options_.learning == Learning::turns) {
        const auto ours = std::find_if(frozen_.begin(), frozen_.end(), [&](const auto& f) { return f.second == hash; });
        if (ours != frozen_.end()) {
            if (turn_ && ours->first != *turn_) {
                // The daemon has rolled it back. Where that was the best one, the daemon knows something that the tuner
                // does not: not again at once.
                if (*turn_ == tuner_.best()) {
                    next_try_us_ = monotonic_us() + static_cast<uint64_t>(options_.min_interval_s * 1e6);
                }
                tuner_.refused();
                turn_.reset();
            }
            return;
        }
        if (restored_) {
            return;  // what was saved takes its place at once
        }
    }
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
    pb::SnapshotSelector selector;
    selector.set_hash(hash);
    pb::SnapshotFile file;
    if (grpc::Status status = stub_->GetSnapshot(&context, selector, &file); !status.ok()) {
        spdlog::warn("snapshot {} could not be fetched: {}", short_hash(hash), status.error_message());
        return;
    }
    Result<Snapshot> snapshot = parse_snapshot(file.data(), "snapshot " + short_hash(hash));
    if (!snapshot) {
        spdlog::warn("{}", snapshot.error().message);
        return;
    }
    LearnedModel model = reference_of(*snapshot);
    if (!has_weights(model) || model.index() != start_.index()) {
        return;  // a foreign snapshot without its floats: nothing to compare with
    }
    active_model_ = std::move(model);
    active_known_ = true;
    if (options_.learning == Learning::turns) {
        follow_foreign(hash, std::get<FloatModel>(active_model_));
        return;
    }
    if (!sent_hash_.empty() && hash != sent_hash_ && same_network(active_model_, start_)) {
        spdlog::info("snapshot {} decides instead of {}: learning goes on from it", short_hash(hash),
                     short_hash(sent_hash_));
        learner_->restart_from(active_model_);
        sent_hash_.clear();
    }
}

// What was sent decides no more, and nothing else does.
void Trainer::plan_retry() {
    const uint64_t now_us = monotonic_us();
    // What held for a while was not bad: the next pause is the first one again.
    const bool held = retry_s_ > 0 && static_cast<double>(now_us - last_send_us_) / 1e6 > 2 * retry_s_ + 60;
    retry_s_ = retry_s_ == 0 || held ? options_.retry_s : std::min(2 * retry_s_, options_.retry_most_s);
    retry_us_ = now_us + static_cast<uint64_t>(retry_s_ * 1e6);
    spdlog::warn(
        "the fallback decides, so there is nothing to learn from: the checkpoint is sent again in {:.0f} s "
        "(not while training is off)",
        retry_s_);
}

// What was sent is on trial no more: it decides, or it does not, and then learning goes on from what does.
void Trainer::follow_trial(const pb::SampleBatch& batch) {
    if (trial_hash_.empty() || batch.canary_hash() == trial_hash_) {
        return;
    }
    if (batch.active_hash() != trial_hash_) {
        spdlog::info("snapshot {} has not passed its trial", short_hash(trial_hash_));
        active_hash_.clear();
    }
    trial_hash_.clear();
}

// Inputs to calibrate on: the datapath's own; before there are any, a simulated uplink's.
std::vector<InputCodes> Trainer::calibration() const {
    std::vector<InputCodes> codes = learner_->recent_codes();
    if (codes.size() < kCalibration) {
        const std::vector<InputCodes> simulated = learner_->simulated_codes(std::get<FloatModel>(start_), kCalibration);
        codes.insert(codes.end(), simulated.begin(), simulated.end());
    }
    return codes;
}

Result<Snapshot> Trainer::freeze_image(const ImageFloatModel& model, const Provenance& provenance) {
    std::vector<ImageCodes> pictures = learner_->recent_pictures();
    if (pictures.size() > 2 * kCalibrationPictures) {
        pictures.erase(pictures.begin(), pictures.end() - static_cast<ptrdiff_t>(2 * kCalibrationPictures));
    }
    // Samples of one chunk follow each other: every other one judges.
    const bool enough = pictures.size() >= kCalibrationPictures;
    std::vector<ImageCodes> calibration_pictures;
    std::vector<ImageCodes> held_out;
    for (size_t i = 0; i < pictures.size(); i++) {
        (i % 2 == 0 ? calibration_pictures : held_out).push_back(std::move(pictures[i]));
    }
    // The made-up ones are calibrated on always: what a camera shows lately may lack the light of an hour later, and
    // activations that leave the calibrated range are cut off.
    std::vector<ImageCodes> simulated = learner_->simulated_pictures(kCalibrationPictures);
    for (size_t i = 0; i < simulated.size(); i++) {
        (enough || i % 2 == 0 ? calibration_pictures : held_out).push_back(std::move(simulated[i]));
    }
    ImageFreezer::Options freeze;
    freeze.provenance = provenance;
    freeze.fidelity_limit = options_.fidelity_limit.value_or(kImageFidelityLimit);
    return image_freezer_.freeze(model, calibration_pictures, held_out, freeze);
}

Result<Snapshot> Trainer::freeze(const LearnedModel& model, const std::string& reason) {
    FreezeOptions freeze;
    freeze.provenance.trainer = "adapath-trainer 0.1.0";
    freeze.provenance.source = options_.checkpoint;
    freeze.provenance.samples = counters_.samples;
    freeze.provenance.created_unix_s = time(nullptr);
    freeze.provenance.note = reason;
    if (const auto* image = std::get_if<ImageFloatModel>(&model)) {
        Result<Snapshot> snapshot = freeze_image(*image, freeze.provenance);
        (snapshot ? counters_.frozen : counters_.refused)++;
        return snapshot ? std::move(snapshot) : Result<Snapshot>(Error{"not frozen: " + snapshot.error().message});
    }
    // Every other input calibrates, the rest judges.
    std::vector<InputCodes> calibration_codes;
    std::vector<InputCodes> held_out;
    const std::vector<InputCodes> codes = calibration();
    for (size_t i = 0; i < codes.size(); i++) {
        (i % 2 == 0 ? calibration_codes : held_out).push_back(codes[i]);
    }
    if (options_.learning == Learning::gradient) {
        freeze.explore = static_cast<float>(options_.app == "select" ? options_.select_explore : options_.explore);
    }
    // In its turn a snapshot is judged by what it earns, as the integers that it is.
    freeze.fidelity_limit =
        options_.fidelity_limit.value_or(kFidelityLimit) * (options_.learning == Learning::turns ? 4 : 1);
    Result<Snapshot> snapshot = freezer_.freeze(std::get<FloatModel>(model), calibration_codes, held_out, freeze);
    if (snapshot) {
        counters_.frozen++;
    } else {
        counters_.refused++;
        return Error{"not frozen: " + snapshot.error().message};
    }
    return snapshot;
}

// Freezes the model and has the daemon make it decide; `turn` as in InstallRequest. With dry_run nothing is sent, and
// the reply is empty.
Result<Trainer::Sent> Trainer::install(const LearnedModel& model, const std::string& reason, bool turn) {
    const uint64_t begin_us = monotonic_us();
    last_send_us_ = begin_us;
    Result<Snapshot> snapshot = freeze(model, reason);
    if (!snapshot) {
        return snapshot.error();
    }
    const double freeze_ms = static_cast<double>(monotonic_us() - begin_us) / 1e3;
    if (options_.dry_run) {
        spdlog::info("would send {}: {} (frozen in {:.0f} ms, p99 {:.5f})", short_hash(snapshot->hash), reason,
                     freeze_ms, snapshot->fidelity.p99_error);
        return Sent{std::move(*snapshot), {}};
    }
    Result<std::string> bytes = serialise(*snapshot);
    if (!bytes) {
        return bytes.error();
    }
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    pb::InstallRequest request;
    pb::InstallReply reply;
    request.set_snapshot(std::move(*bytes));
    request.set_activate(true);
    request.set_trained(true);
    request.set_turn(turn);
    request.set_reason(reason);
    if (grpc::Status status = stub_->Install(&context, request, &reply); !status.ok()) {
        counters_.refused++;
        return Error{
            fmt::format("snapshot {} was not installed: {}", short_hash(snapshot->hash), status.error_message())};
    }
    counters_.installed++;
    spdlog::info(
        "generation {} ({}) {}: {}; frozen in {:.0f} ms (p99 {:.5f}), checked in {:.1f} ms, in place in {:.1f} "
        "ms, switched in {:.2f} us",
        reply.generation(), short_hash(reply.hash()),
        reply.on_trial() ? fmt::format("is on trial for {:.0f} % of the flows", 100 * reply.share()) : "decides",
        reason, freeze_ms, snapshot->fidelity.p99_error, reply.check_ms(), reply.install_ms(), reply.switch_us());
    return Sent{std::move(*snapshot), std::move(reply)};
}

bool Trainer::send(const std::string& reason) {
    Result<Sent> sent = install(learner_->model(), reason, false);
    if (!sent) {
        spdlog::error("{}", sent.error().message);
        return false;
    }
    if (options_.dry_run) {
        return true;
    }
    sent_hash_ = sent->snapshot.hash;
    if (sent->reply.on_trial()) {
        trial_hash_ = sent_hash_;
    } else {
        trial_hash_.clear();
        active_hash_ = sent_hash_;
    }
    switches_ = sent->reply.switches();
    active_model_ = reference_of(sent->snapshot);
    active_known_ = has_weights(active_model_);
    save();
    return true;
}

void Trainer::save() {
    if (options_.save.empty()) {
        return;
    }
    if (options_.learning == Learning::turns) {
        save_turns();
        return;
    }
    if (Status status = learner_->save(options_.save); !status) {
        spdlog::warn("{}", status.error().message);
    }
}

bool Trainer::step(std::chrono::milliseconds wait) {
    if (stream_ == nullptr) {
        connect();
    }
    std::deque<pb::SampleBatch> batches;
    bool ended = false;
    std::string error;
    {
        std::unique_lock lock(stream_->mutex);
        stream_->changed.wait_for(lock, wait,
                                  [this] { return !stream_->queue.empty() || stream_->ended || stream_->interrupted; });
        batches.swap(stream_->queue);
        ended = stream_->ended;
        error = stream_->error;
        stream_->interrupted = false;
    }
    stream_->changed.notify_all();
    for (const pb::SampleBatch& batch : batches) {
        take(batch);
    }
    if (ended && batches.empty()) {
        disconnect();
        if (greeted_) {
            spdlog::warn("the daemon is gone ({}): connecting again", error.empty() ? "it ended the stream" : error);
        } else {
            spdlog::debug("no daemon at {}: {}", options_.target, error);
        }
        greeted_ = false;
        // What it runs after a restart is asked anew.
        active_hash_.clear();
        trial_hash_.clear();
        switches_ = 0;
        turn_.reset();
        return false;
    }
    if (!greeted_) {
        return true;
    }
    if (options_.learning == Learning::turns) {
        follow_turns();
        return true;
    }
    if (train_) {
        if (const std::string trained = learner_->step(); !trained.empty()) {
            counters_.batches++;
            spdlog::info("{}, {:.1f} % from what decides{}", trained,
                         active_known_ ? 100 * learner_->fidelity_loss(active_model_) : 100.0,
                         learner_->stable() ? ", settled" : "");
            const double since_s = static_cast<double>(monotonic_us() - last_send_us_) / 1e6;
            if (learner_->stable() && since_s >= options_.min_interval_s && !send_now_ &&
                trial_hash_.empty()) {  // one at a time: the next is held against what came of this one
                if (!active_known_) {
                    send("settled; what decides is not known here");
                } else if (learner_->necessary(active_model_)) {
                    send(fmt::format("settled, and {:.1f} % of the output range from what decided",
                                     100 * learner_->fidelity_loss(active_model_)));
                }
            }
        }
    }
    if (retry_us_ != 0 && monotonic_us() >= retry_us_ && train_) {
        retry_us_ = 0;
        learner_->restart_from(start_);
        sent_hash_.clear();
        if (!send("the fallback decides: another try, with the checkpoint")) {
            plan_retry();
        }
    }
    if (send_now_) {
        send_now_ = false;
        send(!active_hash_.empty()    ? "asked for by train now"
             : counters_.batches == 0 ? "first snapshot, from the checkpoint"
                                      : "the daemon came back without a snapshot");
    }
    return true;
}

std::string Trainer::progress() const {
    if (options_.learning == Learning::turns) {
        const TunerCounters& turns = tuner_.counters();
        return fmt::format("{}, {} samples, {} turns, {} settings compared, {} were better, best: {}",
                           greeted_ ? "connected" : "waiting for the daemon", counters_.samples, turns.turns,
                           turns.comparisons, turns.improvements, describe(tuner_.best()));
    }
    return fmt::format("{}, {} samples, {} batches, {} snapshots installed, {}",
                       greeted_ ? "connected" : "waiting for the daemon", counters_.samples, counters_.batches,
                       counters_.installed, learner_->progress());
}

void Trainer::run(StopToken& stop) {
    std::chrono::milliseconds pause{100};
    bool told = false;
    uint64_t status_us = 0;
    while (!stop.requested()) {
        if (step(std::chrono::milliseconds(500))) {
            if (greeted_) {
                pause = std::chrono::milliseconds(100);
                told = false;
            }
        } else {
            if (!told) {
                spdlog::info("waiting for adapathd at {}", options_.target);
                told = true;
            }
            stop.wait_for(pause);
            pause = std::min(pause * 2, std::chrono::milliseconds(2000));
        }
        notify_watchdog();
        const uint64_t now_us = monotonic_us();
        if (now_us - status_us > 5000000) {
            status_us = now_us;
            notify_status(progress());
        }
    }
    leave_turns();
    save();
}

}  // namespace adapath
