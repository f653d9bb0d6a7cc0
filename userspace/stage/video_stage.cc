// See video_stage.h.
#include "userspace/stage/video_stage.h"

#include <adapath/select.h>
#include <fmt/format.h>

#include <filesystem>

#include "userspace/common/clock.h"
#include "userspace/common/file.h"

namespace adapath {
namespace {

using std::chrono::milliseconds;

constexpr const char* kLan = "10.78.0.";  // the gateway is .1, cameras are .10 and up
constexpr unsigned kFirstCamera = 10;
constexpr unsigned kSubPort = 5000;
constexpr unsigned kMainPort = 5001;
constexpr unsigned kNobodysPorts = 1000;  // above those
constexpr unsigned kVideoPort = 9100;
constexpr unsigned kVisionPort = 9101;
constexpr auto kLook = milliseconds(100);  // wait_for_daemon()'s

void append(std::vector<std::string>& to, const std::vector<std::string>& more) {
    to.insert(to.end(), more.begin(), more.end());
}

}  // namespace

Status make_stage_certificates(const std::string& script, const std::string& directory,
                               const std::vector<std::string>& names) {
    std::vector<std::string> argv = {"/bin/bash", script, "--server", uplink_server_address, directory};
    append(argv, names);
    Result<std::string> made =
        run_program({.name = "certificates", .argv = std::move(argv), .log = directory + ".log"}, milliseconds(60'000));
    return made ? Status() : Status(made.error());
}

VideoStage::VideoStage(const VideoStageOptions& options, StopToken& stop) : options_(options), stop_(stop) {
    files_.log = options_.work + "/log";
    files_.state = options_.work + "/state";
    files_.relay = options_.work + "/relay.jsonl";
    files_.server = options_.work + "/server.jsonl";
    files_.camera_log = log_of("adapath-camera");
    config_ = options_.work + "/adapathd.conf";
    pins_ = "/sys/fs/bpf/" + unique_cc_name(options_.uplink.prefix);
}

milliseconds VideoStage::patient(double seconds) const {
    return milliseconds(static_cast<int64_t>(seconds * 1000 * options_.patience));
}

Result<std::unique_ptr<VideoStage>> VideoStage::create(Trace up, const VideoStageOptions& options, StopToken& stop) {
    std::unique_ptr<VideoStage> stage(new VideoStage(options, stop));
    if (Status status = stage->set_up(std::move(up)); !status) {
        return Error{fmt::format("{}: {}", options.name, status.error().message)};
    }
    return stage;
}

VideoStage::~VideoStage() {
    // The daemon takes its kernel side away as it ends (--detach-on-exit), which has to happen before its namespace
    // goes.
    cameras_.reset();
    relay_.reset();
    server_.reset();
    trainer_.reset();
    client_.reset();
    daemon_.reset();
    std::error_code ignored;
    if (uplink_ && std::filesystem::exists(pins_, ignored)) {
        // It was killed.
        (void)run_program({.name = "adapathd --remove",
                           .argv = {options_.bin + "/adapathd", "--config", config_, "--remove"},
                           .namespace_fd = uplink_->gateway().fd(),
                           .log = log_of("adapathd")},
                          patient(20));
    }
}

Status VideoStage::set_up(Trace up) {
    std::error_code ignored;
    std::filesystem::remove_all(options_.work, ignored);  // only what an earlier stage left there
    for (const std::string& directory : {options_.work, files_.log, files_.state}) {
        if (Status made = make_directories(directory); !made) {
            return made;
        }
    }
    Result<ShortDirectory> directory = ShortDirectory::create();
    if (!directory) {
        return directory.error();
    }
    socket_directory_.emplace(std::move(*directory));
    socket_ = socket_directory_->path() + "/d.sock";
    if (Status status = make_network(std::move(up)); !status) {
        return status;
    }
    if (Status status = start_daemon(); !status) {
        return status;
    }
    if (Status status = start_trainer(); !status) {
        return status;
    }
    if (Status status = start_server(); !status) {
        return status;
    }
    return start_relay();
}

Status VideoStage::make_network(Trace up) {
    UplinkOptions link = options_.uplink;
    link.paused = true;
    Result<std::unique_ptr<Uplink>> uplink = Uplink::create(std::move(up), link);
    if (!uplink) {
        return uplink.error();
    }
    uplink_ = std::move(*uplink);
    Result<Namespace> lan = Namespace::create(Namespace::unique_name(link.prefix + "-lan-"));
    if (!lan) {
        return lan.error();
    }
    lan_.emplace(std::move(*lan));
    Status status = lan_->run([&]() -> Status {
        if (Status made = create_veth("cams", uplink_->gateway(), "lan0"); !made) {
            return made;
        }
        for (unsigned i = 0; i < options_.cameras; i++) {
            if (Status added = add_address("cams", fmt::format("{}{}/24", kLan, kFirstCamera + i)); !added) {
                return added;
            }
        }
        return set_link_up("cams");
    });
    if (!status) {
        return status;
    }
    return uplink_->gateway().run([&]() -> Status {
        if (Status added = add_address("lan0", fmt::format("{}1/24", kLan)); !added) {
            return added;
        }
        return set_link_up("lan0");
    });
}

Result<Child> VideoStage::start(const char* program, std::vector<std::string> arguments, const Namespace& where,
                                bool read_output) {
    std::vector<std::string> argv = {options_.bin + "/" + program};
    append(argv, arguments);
    return Child::start({.name = program,
                         .argv = std::move(argv),
                         .namespace_fd = where.fd(),
                         .log = log_of(program),
                         .read_output = read_output,
                         .environment = {"OMP_NUM_THREADS=1"}});
}

Status VideoStage::start_daemon() {
    std::string text = fmt::format(
        "app: \"select\"\nbackend: \"bpf\"\nstate_directory: \"{}\"\nsocket: \"{}\"\npin_directory: \"{}\"\ntrain: {}\n"
        "select {{\n  interface: \"lan0\"\n",
        files_.state, socket_, pins_, !options_.trainer_arguments.empty());
    for (unsigned i = 0; i < options_.cameras; i++) {
        // What goes to a port that nobody is told of ends at the gateway.
        const uint32_t taken = i < options_.renditions.size() ? options_.renditions[i] : ADP_SELECT_BOTH;
        const auto port = [&](uint32_t which, unsigned real) {
            return (taken >> which & 1) != 0 ? real : real + kNobodysPorts;
        };
        text += fmt::format(
            "  camera {{ name: \"camera-{}\" address: \"{}{}\" sub_port: {} main_port: {} payload_type: 96 }}\n", i,
            kLan, kFirstCamera + i, port(ADP_SELECT_SUB, kSubPort), port(ADP_SELECT_MAIN, kMainPort));
    }
    text += "}\n" + options_.daemon_config;
    if (Status written = write_file_durably(config_, text); !written) {
        return written;
    }
    Result<Child> daemon =
        start("adapathd", {"--config", config_, "--foreground", "--detach-on-exit"}, uplink_->gateway(), false);
    if (!daemon) {
        return daemon.error();
    }
    daemon_.emplace(std::move(*daemon));
    client_ = std::make_unique<DaemonClient>(socket_, options_.patience);
    if (Status answers = wait_for_daemon(*daemon_, *client_, static_cast<int>(patient(30) / kLook), stop_, socket_,
                                         log_of("adapathd"));
        !answers || options_.snapshot.empty()) {
        return answers;
    }
    Result<pb::InstallReply> installed = client_->install(options_.snapshot, true, "the stage's");
    return installed ? Status() : Status(installed.error());
}

Status VideoStage::start_trainer() {
    if (options_.trainer_arguments.empty()) {
        return {};
    }
    std::vector<std::string> arguments = {"--socket", socket_};
    append(arguments, options_.trainer_arguments);
    Result<Child> trainer = start("adapath-trainer", arguments, uplink_->gateway(), false);
    if (!trainer) {
        return trainer.error();
    }
    trainer_.emplace(std::move(*trainer));
    return {};
}

Status VideoStage::start_server() {
    std::vector<std::string> arguments = {"--listen",
                                          fmt::format("{}:{}", uplink_server_address, kVideoPort),
                                          "--vision-listen",
                                          fmt::format("{}:{}", uplink_server_address, kVisionPort),
                                          "--ca",
                                          options_.certificates + "/ca.crt",
                                          "--certificate",
                                          options_.certificates + "/server.crt",
                                          "--key",
                                          options_.certificates + "/server.key",
                                          "--results",
                                          files_.server};
    append(arguments, options_.server_arguments);
    Result<Child> server = start("adapath-server", arguments, uplink_->server(), true);
    if (!server) {
        return server.error();
    }
    server_.emplace(std::move(*server));
    Result<std::string> ready = server_->wait_line(patient(60), stop_);
    return ready ? Status() : Status(ready.error());
}

Status VideoStage::start_relay() {
    std::vector<std::string> arguments = {"--config",
                                          config_,
                                          "--server",
                                          fmt::format("{}:{}", uplink_server_address, kVideoPort),
                                          "--vision",
                                          fmt::format("{}:{}", uplink_server_address, kVisionPort),
                                          "--gateway",
                                          options_.name,
                                          "--ca",
                                          options_.certificates + "/ca.crt",
                                          "--certificate",
                                          fmt::format("{}/{}.crt", options_.certificates, options_.name),
                                          "--key",
                                          fmt::format("{}/{}.key", options_.certificates, options_.name),
                                          "--congestion-control",
                                          options_.congestion_control,
                                          "--stats",
                                          files_.relay};
    append(arguments, options_.relay_arguments);
    Result<Child> relay = start("adapath-relay", arguments, uplink_->gateway(), true);
    if (!relay) {
        return relay.error();
    }
    relay_.emplace(std::move(*relay));
    Result<std::string> ready = relay_->wait_line(patient(30), stop_);
    return ready ? Status() : Status(ready.error());
}

Status VideoStage::launch_cameras() {
    std::vector<std::string> arguments = {fmt::format("{}1", kLan),
                                          "--cameras",
                                          fmt::format("{}", options_.cameras),
                                          "--source",
                                          fmt::format("{}{}", kLan, kFirstCamera),
                                          "--sub-port",
                                          fmt::format("{}", kSubPort),
                                          "--main-port",
                                          fmt::format("{}", kMainPort)};
    append(arguments, options_.camera_arguments);
    Result<Child> cameras = start("adapath-camera", arguments, *lan_, true);
    if (!cameras) {
        return cameras.error();
    }
    cameras_.emplace(std::move(*cameras));
    return {};
}

Status VideoStage::start() {
    Result<std::string> ready = cameras_->wait_line(patient(600), stop_);
    if (!ready) {
        return ready.error();
    }
    uplink_->start();
    started_us_ = monotonic_us();
    return {};
}

Status VideoStage::alive() {
    for (std::optional<Child>* child : {&daemon_, &trainer_, &server_, &relay_, &cameras_}) {
        if (*child && !(*child)->running()) {
            return Error{fmt::format("{}: {}", options_.name, (*child)->obituary())};
        }
    }
    return {};
}

Status VideoStage::end(std::optional<Child>& child, double seconds) {
    if (!child) {
        return {};
    }
    child->stop(patient(seconds));
    Status status;
    if (child->exit_code() != 0) {
        status = Error{fmt::format("{}: {}", options_.name, child->obituary())};
    }
    child.reset();
    return status;
}

Status VideoStage::finish() {
    Status first;
    // What is on its way arrives before the next one down the path is stopped.
    for (std::optional<Child>* child : {&cameras_, &relay_, &server_}) {
        if (Status ended = end(*child, 30); !ended && first.ok()) {
            first = ended;
        }
    }
    uplink_->stop();
    return first;
}

}  // namespace adapath
