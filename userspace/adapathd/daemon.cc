// See daemon.h.
#include "userspace/adapathd/daemon.h"

#include <fmt/format.h>
#include <errno.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <sstream>

#include "userspace/adapathd/backends.h"
#include "userspace/adapathd/config.h"
#include "userspace/common/clock.h"
#include "userspace/common/file.h"
#include "userspace/common/notify.h"
#include "userspace/common/text.h"

namespace adapath {
Result<std::unique_ptr<Daemon>> Daemon::open(const pb::DaemonConfig& config) {
    if (Status status = make_directories(config.state_directory()); !status) {
        return Error{status.error().message + ": give another with --state-dir"};
    }
    Result<StateLock> lock = StateLock::take(config.state_directory());
    if (!lock) {
        return lock.error();
    }
    Result<Backend> backend = open_backend(config);
    if (!backend) {
        return backend.error();
    }
    return open(config, std::move(*lock), std::move(*backend));
}

Result<std::unique_ptr<Daemon>> Daemon::open(const pb::DaemonConfig& config, StateLock lock, Backend backend) {
    const App* app = find_app(config.app());
    if (app == nullptr) {
        return Error{fmt::format("app '{}' is unknown: this program knows {}", config.app(), app_names())};
    }
    std::unique_ptr<Daemon> daemon(new Daemon(config, *app, std::move(lock), std::move(backend)));
    if (Status status = daemon->start(); !status) {
        return status.error();
    }
    return daemon;
}

Status Daemon::start() {
    started_us_ = monotonic_us();
    train_ = config_.train();
    Result<SnapshotStore> store = SnapshotStore::open(config_.state_directory());
    if (!store) {
        return store.error();
    }
    const std::string samples = config_.state_directory() + "/samples";
    Result<SampleLog> log = SampleLog::open(samples, *app_, uint64_t{config_.sample_log_mb()} << 20);
    if (!log) {
        return log.error();
    }
    const EventSink sink = [this](DaemonEvent event) { on_event(std::move(event)); };
    SnapshotManager::Options options;
    options.explore = train_;
    options.refuse_seconds = config_.watch().refuse_seconds();
    options.store_limit_bytes = uint64_t{config_.snapshot_store_mb()} << 20;
    SnapshotManager::Hooks hooks;
    hooks.recent = [this] { return loop_->recent_inputs(); };
    hooks.on_switch = [this](uint32_t to, bool watch, bool turn) { loop_->on_switch(to, watch, turn); };
    hooks.plan_trial = [this](bool asked) { return loop_->plan_trial(asked); };
    hooks.on_trial = [this](uint32_t generation) { loop_->on_trial(generation); };
    hooks.recall = [this](uint32_t generation) { return loop_->recall(generation); };
    manager_ = std::make_unique<SnapshotManager>(*app_, *backend_.installer, std::move(*store), options, sink,
                                                 std::move(hooks));
    Loop::Options loop_options;
    loop_options.interval = std::chrono::milliseconds(config_.interval_ms());
    loop_options.watch = watch_options(config_.watch());
    loop_options.trial = trial_options(config_.canary());
    loop_options.trials_possible = !backend_.flow_consistency;
    loop_ = std::make_unique<Loop>(*app_, *backend_.collector, *manager_, std::move(*log), samples, loop_options, sink);
    if (const uint32_t any = app_->reported_cameras(); backend_.select_feed != nullptr || any > 0) {
        feed_intake_ = std::make_unique<FeedIntake>(
            backend_.select_feed.get(), any > 0 ? any : static_cast<uint32_t>(config_.select().camera_size()),
            [this](const pb::CameraReport& report) { return loop_->add_report(report.SerializeAsString()); });
    }
    if (Status status = start_objective(); !status) {
        return status;
    }
    manager_->adopt();
    manager_->restore();
    for (const std::string& warning : backend_.warnings) {
        on_event({.kind = "error", .text = warning});
    }
    return {};
}

namespace {

// A line a weight: "throughput 1".
std::string objective_file(const App& app, const Objective& weights) {
    std::string text;
    for (size_t i = 0; i < app.objective().size(); i++) {
        text += fmt::format("{} {:.17g}\n", app.objective()[i].name, weights[i]);
    }
    return text;
}

Result<Objective> parse_objective_file(const App& app, const std::string& text) {
    std::map<std::string, double> weights;
    std::istringstream lines(text);
    std::string name;
    double value = 0;
    while (lines >> name >> value) {
        weights[name] = value;
    }
    if (!lines.eof() || weights.empty()) {
        return Error{"not a list of weights"};
    }
    return app.objective_of(weights);
}

constexpr const char* kSetByOperator = "adapathctl objective";

}  // namespace

Status Daemon::start_objective() {
    std::lock_guard lock(objective_mutex_);
    const std::string path = config_.state_directory() + "/objective";
    if (access(path.c_str(), F_OK) == 0) {
        Result<std::string> text = read_file(path);
        Result<Objective> kept = text ? parse_objective_file(*app_, *text) : Result<Objective>(text.error());
        if (kept) {
            return apply_objective_locked(*kept, kSetByOperator);
        }
        on_event({.kind = "error",
                  .text = fmt::format("{}: {}; the configuration's objective is used: set it again with adapathctl "
                                      "objective",
                                      path, kept.error().message)});
    }
    Result<Objective> configured = configured_objective(config_, *app_);
    if (!configured) {
        return configured.error();
    }
    return apply_objective_locked(*configured, config_.has_objective() ? "configuration" : "default");
}

Status Daemon::apply_objective_locked(const Objective& objective, const std::string& source) {
    if (Status status = backend_.installer->set_objective(objective); !status) {
        return status;
    }
    objective_ = objective;
    objective_source_ = source;
    if (app_->objective().empty()) {
        return {};
    }
    on_event({.kind = "objective",
              .text = fmt::format("the objective is {} ({})", app_->objective_text(objective), source)});
    for (const std::string& warning : app_->objective_warnings(objective)) {
        spdlog::warn("objective: {}", warning);
    }
    return {};
}

Status Daemon::set_objective(const std::map<std::string, double>& weights, bool reset) {
    std::lock_guard lock(objective_mutex_);
    const std::string path = config_.state_directory() + "/objective";
    if (reset) {
        Result<Objective> configured = configured_objective(config_, *app_);
        if (!configured) {
            return configured.error();
        }
        if (unlink(path.c_str()) != 0 && errno != ENOENT) {
            return Error{errno_text(path)};
        }
        return apply_objective_locked(*configured, config_.has_objective() ? "configuration" : "default");
    }
    std::map<std::string, double> all = weights;
    const Objective in_force = app_->effective(objective_);
    for (size_t i = 0; i < app_->objective().size(); i++) {
        all.try_emplace(std::string(app_->objective()[i].name), in_force[i]);
    }
    Result<Objective> wanted = app_->objective_of(all);
    if (!wanted) {
        return wanted.error();
    }
    // On disk first: what was acknowledged survives.
    if (Status status = write_file_durably(path, objective_file(*app_, *wanted)); !status) {
        return status;
    }
    return apply_objective_locked(*wanted, kSetByOperator);
}

void Daemon::fill_objective(pb::ObjectiveReply& reply) const {
    std::lock_guard lock(objective_mutex_);
    const Objective in_force = app_->effective(objective_);
    for (size_t i = 0; i < app_->objective().size(); i++) {
        const ObjectiveWeight& weight = app_->objective()[i];
        pb::ObjectiveWeight* out = reply.add_weights();
        out->set_name(std::string(weight.name));
        out->set_value(in_force[i]);
        out->set_meaning(std::string(weight.meaning));
        out->set_by_default(weight.by_default);
        out->set_trained_lowest(weight.trained_lowest);
        out->set_trained_highest(weight.trained_highest);
    }
    reply.set_source(objective_source_);
    for (const std::string& warning : app_->objective_warnings(objective_)) {
        reply.add_warnings(warning);
    }
}

Daemon::~Daemon() { close_streams(); }

void Daemon::close_streams() {
    events_.close();
    if (loop_) {
        loop_->close_streams();
    }
}

void Daemon::on_event(DaemonEvent event) {
    if (event.time_us == 0) {
        event.time_us = monotonic_us();
    }
    event.unix_us = unix_us();
    if (event.kind == "error") {
        spdlog::error("{}", event.text);
    } else if (event.kind == "refuse" || event.kind == "rollback" || event.kind == "lost") {
        spdlog::warn("{}", event.text);
    } else {
        spdlog::info("{}", event.text);
    }
    const size_t bytes = sizeof(event) + event.text.size();
    events_.publish(std::make_shared<const DaemonEvent>(std::move(event)), bytes, 1);
}

void Daemon::run(StopToken& stop) {
    uint64_t status_us = 0;
    std::string last_error;
    while (!stop.requested()) {
        if (Status status = step(); !status) {
            if (status.error().message != last_error) {  // the same line every interval tells nothing new
                last_error = status.error().message;
                on_event({.kind = "error", .text = last_error});
            }
            stop.wait_for(std::chrono::milliseconds(config_.interval_ms()));
        }
        notify_watchdog();
        const uint64_t now_us = monotonic_us();
        if (now_us - status_us >= 5000000) {
            status_us = now_us;
            const ActiveSnapshot active = manager_->active();
            notify_status(active.generation == 0
                              ? "no snapshot: the fallback decides"
                              : fmt::format("generation {} ({}) decides", active.generation, short_hash(active.hash)));
        }
    }
}

bool Daemon::claim_trainer() {
    bool expected = false;
    if (!trainer_connected_.compare_exchange_strong(expected, true)) {
        return false;
    }
    on_event({.kind = "train", .text = "trainer connected"});
    return true;
}

void Daemon::release_trainer() {
    trainer_connected_ = false;
    on_event({.kind = "train", .text = "trainer gone: the active snapshot goes on deciding"});
}

void Daemon::set_train(bool on) {
    if (train_.exchange(on) != on) {
        manager_->set_explore(on);
        on_event({.kind = "train", .text = on ? "training on" : "training off: no exploration noise either"});
    }
    loop_->announce();
}

void Daemon::train_now() {
    train_now_++;
    on_event({.kind = "train", .text = "training asked to send what it has learned"});
    loop_->announce();
}

namespace {

void fill_latency(const Histogram& from, pb::Latency& to) {
    to.set_p50_us(from.quantile(0.5));
    to.set_p99_us(from.quantile(0.99));
    to.set_max_us(from.max());
    from.for_each([&](uint64_t up_to_us, uint64_t count) {
        pb::LatencyBucket* bucket = to.add_buckets();
        bucket->set_up_to_us(up_to_us);
        bucket->set_count(count);
    });
}

void fill_asking(const AskingStats& from, pb::AskingStatus& to) {
    to.set_questions(from.questions);
    to.set_answers(from.answers);
    to.set_applied(from.applied);
    to.set_overtaken(from.overtaken);
    to.set_unknown(from.unknown);
    fill_latency(from.answer_us, *to.mutable_answer());
    fill_latency(from.applied_us, *to.mutable_apply());
    to.set_cpu_s(from.cpu_s);
}

}  // namespace

void Daemon::fill_status(pb::StatusReply& reply) const {
    const uint64_t now_us = monotonic_us();
    const ActiveSnapshot active = manager_->active();
    const ManagerCounters counters = manager_->counters();
    const BackendStats stats = backend_.collector->stats();
    const LoopView view = loop_->view();
    reply.set_version(kVersion);
    reply.set_app(std::string(app_->name()));
    reply.set_backend(backend_.name);
    reply.set_congestion_control(backend_.congestion_control);
    reply.set_state_directory(config_.state_directory());
    reply.set_uptime_s(static_cast<double>(now_us - started_us_) / 1e6);
    reply.set_adopted(backend_.adopted);
    reply.set_active_generation(active.generation);
    reply.set_active_hash(active.hash);
    reply.set_active_slot(active.slot);
    reply.set_train_mode(train_ ? "on" : "off");
    reply.set_trainer_connected(trainer_connected_);
    reply.set_decisions(stats.decisions);
    reply.set_fallbacks(stats.fallbacks);
    reply.set_samples(stats.samples);
    reply.set_samples_lost(stats.samples_lost);
    reply.set_program_missing(stats.program_missing);
    reply.set_acks(stats.acks);
    if (stats.asking) {
        fill_asking(*stats.asking, *reply.mutable_asking());
    }
    if (feed_intake_ != nullptr) {
        feed_intake_->fill(*reply.mutable_feed());
    }
    reply.set_decisions_explained(view.explained);
    reply.set_decisions_unexplained(view.unexplained);
    reply.set_last_unexplained(view.last_unexplained);
    reply.set_sequence_gaps(view.gaps);
    reply.set_log_bytes(view.log_bytes);
    reply.set_reward(view.reward);
    reply.set_watch(view.watch);
    const SnapshotOnTrial on_trial = manager_->on_trial();
    reply.set_canary_generation(on_trial.generation);
    reply.set_canary_hash(on_trial.hash);
    reply.set_canary_share(on_trial.share_q16 / 65536.0);
    reply.set_canary(view.trial);
    reply.set_trials(counters.trials);
    reply.set_trials_passed(counters.trials_passed);
    reply.set_trials_failed(counters.trials_failed);
    {
        std::lock_guard lock(objective_mutex_);
        reply.set_objective(app_->objective_text(objective_));
        reply.set_objective_source(objective_source_);
    }
    reply.set_switches_parameter(counters.switches_parameter);
    reply.set_switches_network(counters.switches_network);
    reply.set_switches_trained(counters.switches_trained);
    reply.set_rollbacks(counters.rollbacks);
    reply.set_installs_refused(counters.installs_refused);
    reply.set_last_refusal(counters.last_refusal);
    reply.set_resident_bytes(resident_bytes());
    reply.set_pid(static_cast<uint32_t>(getpid()));
    reply.set_socket(config_.socket());
    for (const SlotInfo& slot : manager_->slots()) {
        pb::SlotStatus* out = reply.add_slots();
        out->set_slot(slot.slot);
        out->set_state(slot_state_name(slot.state));
        out->set_generation(slot.generation);
        out->set_hash(slot.generation != 0 ? hash_prefix_text(slot.hash) : "");
        out->set_bound_flows(slot.bound_flows);
        out->set_params_bytes(slot.params_bytes);
        out->set_program(slot.program);
        for (const ProgramTime& time : slot.measured) {
            pb::ProgramTime* measured = out->add_measured();
            measured->set_program(time.program);
            measured->set_ns(time.ns);
        }
    }
    for (const FlowView& flow : view.flows) {
        pb::FlowStatus* out = reply.add_flows();
        out->set_flow(flow.flow);
        out->set_local_port(flow.local_port);
        out->set_remote_port(flow.remote_port);
        out->set_decisions(flow.decisions);
        out->set_rate_bytes_per_s(flow.rate);
        out->set_rtt_ms(flow.rtt_us / 1e3);
        out->set_min_rtt_ms(flow.min_rtt_us / 1e3);
        out->set_reward(flow.reward);
        out->set_age_s(now_us > flow.time_us ? static_cast<double>(now_us - flow.time_us) / 1e6 : 0);
    }
}

void Daemon::fill_snapshots(pb::ListSnapshotsReply& reply) const {
    const std::unordered_map<uint32_t, GenerationView> generations = loop_->generations();
    for (const SnapshotManager::Stored& stored : manager_->stored()) {
        pb::SnapshotInfo info;
        {
            std::lock_guard lock(facts_mutex_);
            auto found = facts_.find(stored.hash);
            if (found != facts_.end()) {
                info = found->second;
            } else if (Result<std::string> bytes = manager_->snapshot_bytes(stored.hash, 0)) {
                if (Result<Snapshot> snapshot = parse_snapshot(*bytes, stored.hash)) {
                    info.set_network(describe(*snapshot));
                    info.set_trainer(snapshot->provenance.trainer);
                    info.set_created_unix_s(snapshot->provenance.created_unix_s);
                    info.set_fidelity_p99(snapshot->fidelity.p99_error);
                    facts_[stored.hash] = info;
                } else {
                    info.set_network("damaged: " + snapshot.error().message);
                }
            }
        }
        info.set_hash(stored.hash);
        info.set_state(stored.state);
        info.set_rolled_back(stored.rolled_back);
        double rewards = 0;
        double sum = 0;
        for (uint32_t generation : stored.generations) {
            info.add_generations(generation);
            if (auto found = generations.find(generation); found != generations.end()) {
                info.set_decisions(info.decisions() + found->second.decisions);
                rewards += static_cast<double>(found->second.rewards);
                sum += found->second.reward_sum;
            }
        }
        info.set_reward(rewards > 0 ? sum / rewards : 0);
        *reply.add_snapshots() = std::move(info);
    }
}

}  // namespace adapath
