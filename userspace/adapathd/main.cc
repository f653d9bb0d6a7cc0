// adapathd: keeps snapshots deciding in the datapath, and collects what came of their decisions.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <cstdio>

#include "userspace/adapathd/backends.h"
#include "userspace/adapathd/config.h"
#include "userspace/adapathd/control_service.h"
#include "userspace/adapathd/daemon.h"
#include "userspace/adapathd/privileges.h"
#include "userspace/common/log.h"
#include "userspace/common/notify.h"
#include "userspace/common/stop.h"
#include "userspace/common/text.h"

namespace {

using namespace adapath;

int fail(const std::string& message) {
    fmt::print(stderr, "adapathd: {}\n", message);
    return 1;
}

int take_away(const pb::DaemonConfig& config) {
    if (Status status = check_privileges(config.backend()); !status) {
        return fail(status.error().message);
    }
    Result<std::string> removed = remove_kernel_side(config);
    if (!removed) {
        return fail(removed.error().message);
    }
    fmt::print("adapathd: {}\n", *removed);
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App cli{
        "adapathd: runs neural networks in the datapath, collects what they decide, installs what was learned and "
        "rolls back "
        "what does badly.\nStops on SIGINT or SIGTERM; the kernel side goes on deciding unless --detach-on-exit is "
        "given."};
    cli.set_version_flag("--version", kVersion);
    std::string config_path;
    std::string backend;
    std::string state_dir;
    std::string socket;
    std::string pin_dir;
    std::string cc_name;
    std::string log_level = "info";
    std::string train;
    uint32_t interval_ms = 0;
    bool check = false;
    bool print_default = false;
    bool foreground = false;
    bool detach = false;
    bool remove = false;
    cli.add_option("--config", config_path,
                   "Configuration file (Protobuf text format); without it every field has its default");
    cli.add_flag("--check-config", check, "Check the configuration, print nothing but errors, exit 0 or 1");
    cli.add_flag("--print-default-config", print_default,
                 "Print the shipped configuration with every field explained, and exit");
    cli.add_option(
        "--backend", backend,
        "Where snapshots run: bpf (kernel, through BPF), kmod (kernel, in adapath.ko), userspace (this process, "
        "asked by the kernel for each decision; to compare with), local (this process, simulated flows, no "
        "privileges) or host (encoders' processes, through shared memory) [bpf]");
    cli.add_option("--state-dir", state_dir, "Directory of sample log, snapshots and lock [/var/lib/adapath]");
    cli.add_option("--socket", socket, "Unix socket for adapathctl and adapath-trainer [/run/adapath/adapathd.sock]");
    cli.add_option("--pin-dir", pin_dir,
                   "Directory on a BPF file system for the kernel side (bpf) [/sys/fs/bpf/adapath]");
    cli.add_option(
        "--cc-name", cc_name,
        "Name that sockets ask for with TCP_CONGESTION, at most 15 characters (bpf; kmod: always adapath_k) [adapath]");
    cli.add_option("--interval", interval_ms, "Milliseconds between two batches of samples, 1..10000 [100]");
    cli.add_option("--train", train, "on or off: learn, and explore, from the start [on]")
        ->check(CLI::IsMember({"on", "off"}));
    cli.add_option("--log-level", log_level, "trace, debug, info, warning, error or off [info]");
    cli.add_flag("--foreground", foreground,
                 "Stay in the foreground (adapathd always does: this is for scripts that say so)");
    cli.add_flag("--detach-on-exit", detach,
                 "On exit, take the kernel side away as well: sockets opened later get no adapath (bpf), or the "
                 "fallback (kmod)");
    cli.add_flag("--remove", remove,
                 "Take away what an ended daemon of this --backend left running, and exit: detach and unpin (bpf, "
                 "userspace), or free "
                 "all slots so that the modules can be unloaded (kmod)");
    cli.footer(
        "Exit codes: 0 stopped as asked, 1 could not start (the reason is on standard error), 105 and up bad command "
        "line.");
    CLI11_PARSE(cli, argc, argv);

    if (print_default) {
        fmt::print("{}", default_config_text());
        return 0;
    }
    pb::DaemonConfig config;
    if (!config_path.empty()) {
        Result<pb::DaemonConfig> read = read_config(config_path);
        if (!read) {
            return fail(read.error().message);
        }
        config = *read;
    }
    const auto override_with = [](const std::string& value, auto set) {
        if (!value.empty()) {
            set(value);
        }
    };
    override_with(backend, [&](const std::string& value) { config.set_backend(value); });
    override_with(state_dir, [&](const std::string& value) { config.set_state_directory(value); });
    override_with(socket, [&](const std::string& value) { config.set_socket(value); });
    override_with(pin_dir, [&](const std::string& value) { config.set_pin_directory(value); });
    override_with(cc_name, [&](const std::string& value) { config.set_congestion_control(value); });
    override_with(train, [&](const std::string& value) { config.set_train(value == "on"); });
    if (interval_ms != 0) {
        config.set_interval_ms(interval_ms);
    }
    if (Status status = check_config(config, config_path.empty() ? "command line" : config_path); !status) {
        return fail(status.error().message);
    }
    if (check) {
        return 0;
    }
    if (Status status = setup_log("adapathd", log_level); !status) {
        return fail(status.error().message);
    }
    if (remove) {
        return take_away(config);
    }
    if (Status status = check_privileges(config.backend()); !status) {
        return fail(status.error().message);
    }

    // Before any other thread, so that they all leave the signals to it.
    StopToken stop;
    SignalWatcher signals(stop, [](int) { notify_stopping(); });

    Result<std::unique_ptr<Daemon>> daemon = Daemon::open(config);
    if (!daemon) {
        return fail(daemon.error().message);
    }
    Result<std::unique_ptr<ControlServer>> server =
        ControlServer::start(**daemon, config.socket(), config.socket_group());
    if (!server) {
        return fail(server.error().message);
    }
    const ActiveSnapshot active = (*daemon)->snapshots().active();
    const std::string ready = fmt::format(
        "{} backend, {}, serving {}", config.backend(),
        active.generation == 0 ? std::string("no snapshot yet: the fallback decides")
                               : fmt::format("generation {} ({}) decides", active.generation, short_hash(active.hash)),
        config.socket());
    spdlog::info("{}", ready);
    notify_ready(ready);
    (*daemon)->run(stop);
    const bool left_running = outlives_daemon(config.backend()) && !detach;
    spdlog::info("stopping{}", left_running ? ": the active snapshot goes on deciding" : "");
    server->reset();
    daemon->reset();
    if (detach && outlives_daemon(config.backend())) {
        if (Result<std::string> removed = remove_kernel_side(config); !removed) {
            return fail(removed.error().message);
        }
    }
    return 0;
}
