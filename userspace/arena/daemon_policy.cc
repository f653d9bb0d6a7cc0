// See daemon_policy.h.
#include "userspace/arena/daemon_policy.h"

#include <fmt/format.h>
#include <signal.h>
#include <time.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "userspace/arena/bpf_time.h"
#include "userspace/arena/hash.h"
#include "userspace/common/file.h"

namespace adapath::arena {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr auto poll_interval = milliseconds(100);
// On a machine that is busy with other things too.
constexpr int start_polls = 300;
constexpr int checkpoint_polls = 900;

// User and system time of all its threads, those that have ended included.
Result<double> cpu_seconds(const Child& child) {
    clockid_t clock = 0;
    timespec used{};
    if (const int error = clock_getcpuclockid(child.pid(), &clock); error != 0) {
        return Error{fmt::format("{}: can't read its CPU time: {}", child.name(), strerror(error))};
    }
    if (clock_gettime(clock, &used) != 0) {
        return Error{fmt::format("{}: can't read its CPU time: {}", child.name(), strerror(errno))};
    }
    return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) / 1e9;
}

Times times_of(const pb::Latency& latency) {
    Times times;
    for (const pb::LatencyBucket& bucket : latency.buckets()) {
        times[bucket.up_to_us()] += bucket.count();
    }
    return times;
}

}  // namespace

DaemonPolicy::DaemonPolicy(DaemonPolicySettings settings, PolicyContext context)
    : settings_(std::move(settings)), context_(std::move(context)) {}

DaemonPolicy::~DaemonPolicy() { stop(); }

void DaemonPolicy::stop() {
    client_.reset();
    trainer_.reset();
    daemon_.reset();
    kernel_side_.reset();
    socket_directory_.reset();
    programs_.clear();
}

Status DaemonPolicy::prepare() {
    if (!settings_.learns && daemon_ && daemon_->running()) {
        return {};
    }
    stop();
    Status started = start();
    if (!started) {
        stop();
    }
    return started;
}

Status DaemonPolicy::start() {
    const std::string state = context_.work + "/state";
    std::error_code ignored;
    std::filesystem::remove_all(state, ignored);  // only what an earlier run of this policy left there
    for (const std::string& directory : {context_.work, state}) {
        if (Status made = make_directories(directory); !made) {
            return made;
        }
    }
    auto directory = ShortDirectory::create();
    if (!directory) {
        return directory.error();
    }
    socket_directory_.emplace(std::move(*directory));
    congestion_control_ = unique_cc_name("adpa");
    if (Status started = start_daemon(); !started) {
        return started;
    }
    if (Status started = start_trainer(); !started) {
        return started;
    }
    if (!settings_.learns) {
        // It was needed to freeze the checkpoint.
        trainer_.reset();
    }
    if (settings_.backend != "kmod") {
        auto programs = struct_ops_programs("/sys/fs/bpf/" + congestion_control_ + "/ops");
        if (!programs) {
            return programs.error();
        }
        programs_ = std::move(*programs);
    }
    return {};
}

Status DaemonPolicy::start_daemon() {
    const std::string pins = "/sys/fs/bpf/" + congestion_control_;
    const std::string socket = socket_directory_->path() + "/d.sock";
    const std::string config = context_.work + "/adapathd.conf";
    const std::string text =
        fmt::format("# Made by adapath-arena.\ntrain: {}\ncongestion_control: \"{}\"\npin_directory: \"{}\"\n{}\n",
                    settings_.learns, congestion_control_, pins, context_.daemon_config);
    if (Status written = write_file_durably(config, text); !written) {
        return written;
    }
    // Its pins may be there although the daemon never answered.
    kernel_side_ = std::make_unique<DaemonKernelSide>(program("adapathd"), settings_.backend, pins, log_of("adapathd"));
    auto daemon = Child::start({.name = "adapathd",
                                .argv = {program("adapathd"), "--config", config, "--backend", settings_.backend,
                                         "--state-dir", context_.work + "/state", "--socket", socket, "--foreground"},
                                .log = log_of("adapathd")});
    if (!daemon) {
        return daemon.error();
    }
    daemon_.emplace(std::move(*daemon));
    client_ = std::make_unique<DaemonClient>(socket);
    return wait_for_daemon(*daemon_, *client_, start_polls, *context_.stop, socket, log_of("adapathd"));
}

Status DaemonPolicy::start_trainer() {
    std::vector<std::string> argv = {program("adapath-trainer"), "--socket", socket_directory_->path() + "/d.sock",
                                     "--checkpoint", context_.checkpoint};
    argv.insert(argv.end(), context_.trainer_arguments.begin(), context_.trainer_arguments.end());
    auto trainer = Child::start({.name = "adapath-trainer",
                                 .argv = argv,
                                 .log = log_of("adapath-trainer"),
                                 .environment = {"OMP_NUM_THREADS=1"}});
    if (!trainer) {
        return trainer.error();
    }
    trainer_.emplace(std::move(*trainer));
    // It freezes the checkpoint and installs it, since the daemon has nothing yet.
    for (int i = 0; i < checkpoint_polls && !context_.stop->requested(); i++) {
        if (Status running = alive(); !running) {
            return running;
        }
        if (auto status = client_->status(); status && status->active_generation() > 0) {
            return {};
        }
        context_.stop->wait_for(poll_interval);
    }
    return Error{context_.stop->requested()
                     ? std::string("interrupted")
                     : fmt::format("{}: the trainer installed no snapshot of {} (log: {})", settings_.name,
                                   context_.checkpoint, log_of("adapath-trainer"))};
}

Result<Json> DaemonPolicy::parts() const {
    Json parts = Json::object();
    // The trainer made the snapshot, whether it goes on learning or not.
    std::vector<std::pair<std::string, std::string>> files = {{"adapathd", program("adapathd")},
                                                              {"adapath-trainer", program("adapath-trainer")},
                                                              {"policy.model", context_.checkpoint + "/policy.model"}};
    if (settings_.learns) {
        files.emplace_back("value.model", context_.checkpoint + "/value.model");
    }
    if (!context_.trainer_arguments.empty()) {
        parts["trainer_arguments"] = context_.trainer_arguments;
    }
    Result<Json> hashes = file_hashes(files);
    if (!hashes) {
        return hashes.error();
    }
    parts.update(*hashes);
    if (!context_.daemon_config.empty()) {
        parts["daemon_config"] = context_.daemon_config;
    }
    return parts;
}

std::string DaemonPolicy::daemon_socket() const {
    return socket_directory_ ? socket_directory_->path() + "/d.sock" : std::string();
}

Status DaemonPolicy::alive() {
    for (std::optional<Child>* child : {&daemon_, &trainer_}) {
        if (*child && !(*child)->running()) {
            return Error{fmt::format("{}: {}", settings_.name, (*child)->obituary())};
        }
    }
    return {};
}

void DaemonPolicy::signal_all(int number) {
    for (std::optional<Child>* child : {&daemon_, &trainer_}) {
        if (*child && (*child)->running()) {
            (void)kill((*child)->pid(), number);
        }
    }
}

void DaemonPolicy::hold() { signal_all(SIGSTOP); }

void DaemonPolicy::resume() { signal_all(SIGCONT); }

Result<PolicyCost> DaemonPolicy::cost() {
    if (!daemon_ || !client_) {
        return Error{fmt::format("{}: adapathd does not run", settings_.name)};
    }
    PolicyCost cost;
    Result<double> daemon = cpu_seconds(*daemon_);
    if (!daemon) {
        return daemon.error();
    }
    cost.daemon_cpu_s = *daemon;
    if (trainer_) {
        Result<double> trainer = cpu_seconds(*trainer_);
        if (!trainer) {
            return trainer.error();
        }
        cost.trainer_cpu_s = *trainer;
    }
    if (!programs_.empty()) {
        Result<BpfTime> time = bpf_run_time(programs_);
        if (!time) {
            return time.error();
        }
        cost.has_bpf = time->runs > 0 || context_.bpf_time_is_counted;
        cost.bpf_cpu_s = static_cast<double>(time->ns) / 1e9;
        cost.bpf_runs = time->runs;
    }
    Result<pb::StatusReply> status = client_->status(seconds(10));
    if (!status) {
        return status.error();
    }
    cost.decisions = status->decisions();
    cost.acks = status->acks();
    cost.switches = status->switches_parameter() + status->switches_network();
    cost.rollbacks = status->rollbacks();
    if (status->has_asking()) {
        const pb::AskingStatus& asking = status->asking();
        cost.asking = PolicyAsking{.questions = asking.questions(),
                                   .applied = asking.applied(),
                                   .overtaken = asking.overtaken(),
                                   .answer_us = times_of(asking.answer()),
                                   .apply_us = times_of(asking.apply())};
    }
    return cost;
}

}  // namespace adapath::arena
