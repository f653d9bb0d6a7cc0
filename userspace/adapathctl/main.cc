// adapathctl: the operator's hand on adapathd.
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <iostream>
#include <map>
#include <string>

#include "codegen/version.h"
#include "userspace/adapathctl/commands.h"
#include "userspace/adapathd/apps.h"

int main(int argc, char** argv) {
    using namespace adapath;
    CLI::App cli{"adapathctl: see and steer what decides in the datapath."};
    cli.set_version_flag("--version", adapath::kVersion);
    cli.require_subcommand(1);
    cli.fallthrough();
    std::string socket = "/run/adapath/adapathd.sock";
    bool json = false;
    cli.add_option("--socket", socket, "adapathd's Unix socket")->capture_default_str()->envname("ADAPATH_SOCKET");
    cli.add_flag("--json", json, "Print JSON: one object, or one object a line for samples and watch");

    std::string what;
    std::string reason;
    std::string state_dir;
    std::string app = "cc";
    std::string mode;
    bool no_switch = false;
    bool canary = false;
    bool reset = false;
    bool follow = false;
    bool include_log = false;
    uint64_t count = 20;
    uint64_t events = 0;

    CLI::App* status = cli.add_subcommand("status", "What decides, how well, and what was counted");
    CLI::App* snapshots = cli.add_subcommand("snapshots", "All stored snapshots");
    CLI::App* show = cli.add_subcommand("show", "One snapshot: the active one, or by hash, generation or file");
    show->add_option("WHAT", what, "Hash (its first digits), generation, or file; default: the active snapshot");
    CLI::App* install = cli.add_subcommand("install", "Check a snapshot file, install it and switch to it");
    install->add_option("FILE", what, "Snapshot file (.snap)")->required();
    install->add_flag("--no-switch", no_switch, "Only install: it decides nothing yet");
    install->add_flag("--canary", canary,
                      "First a trial on some of the flows, as for what training sends; at once where too few are live");
    install->add_option("--reason", reason, "For the event log");
    CLI::App* switch_to = cli.add_subcommand("switch", "Switch to a snapshot that was installed before");
    switch_to->add_option("WHAT", what, "Hash (its first digits) or generation")->required();
    switch_to->add_flag("--canary", canary, "First a trial on some of the flows; at once where too few are live");
    switch_to->add_option("--reason", reason, "For the event log");
    CLI::App* rollback = cli.add_subcommand(
        "rollback",
        "Back to what decided before; to the fallback where nothing did. While a snapshot is on trial: "
        "ends that trial, no more");
    rollback->add_option("--reason", reason, "For the event log");
    CLI::App* train = cli.add_subcommand("train", "Training: on, off, or send what has been learned now");
    train->add_option("MODE", mode, "on | off (no exploration noise either) | now")
        ->required()
        ->check(CLI::IsMember({"on", "off", "now"}));
    CLI::App* objective = cli.add_subcommand("objective",
                                             "What the flows are to aim for: shows it, or sets weights (0 to 256; "
                                             "those not named stay), at once, for flows that "
                                             "run too, without training; kept across restarts");
    std::map<std::string, double> weights;
    for (const App* known : all_apps()) {
        for (const ObjectiveWeight& weight : known->objective()) {
            objective->add_option_function<double>(
                "--" + std::string(weight.name),
                [&weights, name = std::string(weight.name)](double value) { weights[name] = value; },
                fmt::format("App {}: worth {}; default {:.4g}", known->name(), weight.meaning, weight.by_default));
        }
    }
    objective->add_flag("--reset", reset, "Back to the configuration's");
    CLI::App* samples = cli.add_subcommand("samples", "Decisions as they are made");
    samples->add_flag("--follow", follow, "Go on until Ctrl-C");
    samples->add_option("--count", count, "Samples to print")->capture_default_str()->check(CLI::PositiveNumber);
    samples->add_flag("--log", include_log, "Begin with the log on disk");
    CLI::App* verify = cli.add_subcommand(
        "verify",
        "Was every decision made by a snapshot reproduced bit for bit? Asks the daemon, or reads a state directory");
    verify->add_option("--state-dir", state_dir, "Verify this directory's log and snapshots; the daemon need not run");
    verify->add_option("--app", app, "App of the state directory")->capture_default_str();
    CLI::App* watch =
        cli.add_subcommand("watch", "Events as they happen: installs, trials, switches, roll backs, refusals, losses");
    watch->add_option("--count", events, "End after so many events; 0 = go on until Ctrl-C")->capture_default_str();
    cli.footer("Exit codes: 0 done; 1 failed, or verify found an unexplained decision; 105 and up bad command line.");
    CLI11_PARSE(cli, argc, argv);

    Client client(socket);
    Result<int> result = 0;
    if (*status) {
        result = client.status(std::cout, json);
    } else if (*snapshots) {
        result = client.snapshots(std::cout, json);
    } else if (*show) {
        result = client.show(what, std::cout, json);
    } else if (*install) {
        result = client.install(what, !no_switch, reason, std::cout, json, canary);
    } else if (*switch_to) {
        result = client.switch_to(what, reason, std::cout, json, canary);
    } else if (*rollback) {
        result = client.rollback(reason, std::cout, json);
    } else if (*train) {
        result = client.train(mode, std::cout, json);
    } else if (*objective) {
        result = client.objective(weights, reset, std::cout, json);
    } else if (*samples) {
        result = client.samples(follow ? 0 : count, include_log, std::cout, json);
    } else if (*verify) {
        result = state_dir.empty() ? client.verify(std::cout, json) : verify_directory(state_dir, app, std::cout, json);
    } else if (*watch) {
        result = client.watch(events, std::cout, json);
    }
    std::cout.flush();
    if (!result) {
        fmt::print(stderr, "adapathctl: {}\n", result.error().message);
        return 1;
    }
    return *result;
}
