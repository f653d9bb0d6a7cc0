// adapath-trainer: learns from a daemon's samples and sends it snapshots.
#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <atomic>

#include "codegen/version.h"
#include "userspace/common/log.h"
#include "userspace/common/notify.h"
#include "userspace/common/stop.h"
#include "userspace/trainer/trainer.h"

int main(int argc, char** argv) {
    using namespace adapath;
    CLI::App cli{
        "adapath-trainer: learns from adapathd's samples, and sends a snapshot when training has settled on something "
        "that\n"
        "differs enough from what decides. Needs no privileges but the use of the socket. Waits for the daemon, and "
        "goes on over its\n"
        "restarts. Stops on SIGINT or SIGTERM."};
    cli.set_version_flag("--version", adapath::kVersion);
    TrainerOptions options;
    std::string socket = "/run/adapath/adapathd.sock";
    std::string address;
    std::string train;
    std::string log_level = "info";
    std::string learning = "turns";
    cli.add_option("--app", options.app, "The daemon's app: cc, select or qp")
        ->capture_default_str()
        ->check(CLI::IsMember({"cc", "select", "qp"}));
    cli.add_option("--socket", socket, "adapathd's Unix socket")->capture_default_str()->envname("ADAPATH_SOCKET");
    cli.add_option("--address", address,
                   "HOST:PORT of a daemon on another machine instead (behind a tunnel: nothing is encrypted)");
    cli.add_option("--checkpoint", options.checkpoint,
                   "Directory with policy.model (cc: and value.model; qp: selector.json) to start from "
                   "[/usr/share/adapath/ and the "
                   "app]");
    cli.add_option("--save", options.save, "Directory to keep what was learned in, and to go on from [nowhere]");
    cli.add_option("--train", train, "on or off: tell the daemon, once, whether to train [leave it as it is]")
        ->check(CLI::IsMember({"on", "off"}));
    cli.add_option("--learn", learning,
                   "App cc. turns: two numbers of the policy, each setting deciding for all flows for some seconds, "
                   "and what they "
                   "earned compared;\ngradient: all of its weights, by PPO on decisions with noise")
        ->capture_default_str()
        ->check(CLI::IsMember({"turns", "gradient"}));
    cli.add_option("--turn-seconds", options.tuner.turn_s, "Turns: how long a setting decides at a time")
        ->capture_default_str()
        ->check(CLI::Range(1.0, 600.0));
    cli.add_option(
           "--rest-seconds", options.tuner.rest_s,
           "Turns: how long what decides is left alone where nothing better was found (doubled each time in a row; a "
           "change of the link ends it)")
        ->capture_default_str()
        ->check(CLI::NonNegativeNumber);
    cli.add_option("--explore", options.explore,
                   "Gradient: standard deviation of the exploration noise, in units of the action (0..1)")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 1.0));
    cli.add_option("--select-explore", options.select_explore,
                   "App select: share of the chunks of which both renditions are sent, to be measured by the server")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 1.0));
    cli.add_option("--select-batch", options.select.batch,
                   "App select: what the server measured of so many chunks makes a batch")
        ->capture_default_str()
        ->check(CLI::Range(1, 65536));
    cli.add_option("--qp-batch", options.qp.batch,
                   "App qp: so many blocks that the server weighed and that a sample tells of make a batch")
        ->capture_default_str()
        ->check(CLI::Range(1, 65536));
    cli.add_option("--qp-keep", options.qp.keep, "App qp: so many of the latest are learned from again")
        ->capture_default_str()
        ->check(CLI::Range(1, 1 << 20));
    cli.add_option("--qp-share", options.qp.share,
                   "App qp: this share of a camera's blocks is to have the high quality: those that matter most")
        ->capture_default_str()
        ->check(CLI::Range(0.001, 0.999));
    cli.add_option("--batch", options.online.batch,
                   "Gradient (as all that follows down to --min-interval): decisions in a training batch")
        ->capture_default_str()
        ->check(CLI::Range(16, 65536));
    cli.add_option(
           "--stable-change", options.online.stable_change,
           "Settled (also select, and qp, whose default is 0.06): outputs move by less than this fraction of the "
           "range per batch")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 1.0));
    cli.add_option("--stable-batches", options.online.stable_batches, "... for so many batches in a row")
        ->capture_default_str();
    cli.add_option("--necessary-loss", options.online.necessary_loss,
                   "Worth a switch (also select and qp): difference from what decides, fraction of the range")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 1.0));
    cli.add_option("--policy-rate", options.online.policy_rate, "Learning rate of the policy")->capture_default_str();
    cli.add_option("--least-explained", options.online.least_explained,
                   "The policy moves only after batches whose rewards the value network explained so well (share of "
                   "their variance; -100 = always)")
        ->capture_default_str();
    cli.add_option("--anchor", options.online.anchor,
                   "How strongly the policy is held to what the checkpoint would decide; 0 = not")
        ->capture_default_str()
        ->check(CLI::NonNegativeNumber);
    cli.add_option("--min-interval", options.min_interval_s, "Seconds between two snapshots")
        ->capture_default_str()
        ->check(CLI::NonNegativeNumber);
    cli.add_option("--fidelity-limit", options.fidelity_limit,
                   "Largest p99 error of the integers, fraction of the output range; 0 = any [1/256; qp: 1/20]");
    cli.add_option("--threads", options.online.threads, "Threads of LibTorch")
        ->capture_default_str()
        ->check(CLI::Range(1, 64));
    cli.add_option("--seed", options.online.seed, "Seed of the training")->capture_default_str();
    cli.add_flag("--dry-run", options.dry_run, "Learn and report, but send no snapshot");
    cli.add_option("--log-level", log_level, "trace, debug, info, warning, error or off")->capture_default_str();
    cli.footer(
        "Exit codes: 0 stopped as asked, 1 could not start (the reason is on standard error), 105 and up bad command "
        "line.");
    CLI11_PARSE(cli, argc, argv);

    if (Status status = setup_log("adapath-trainer", log_level); !status) {
        fmt::print(stderr, "adapath-trainer: {}\n", status.error().message);
        return 1;
    }
    if (options.checkpoint.empty()) {
        options.checkpoint = "/usr/share/adapath/" + options.app;
    }
    // Settled and worth a switch: each app has its own defaults.
    if (cli.count("--stable-change") > 0) {
        options.select.stable_change = options.qp.stable_change = options.online.stable_change;
    }
    if (cli.count("--stable-batches") > 0) {
        options.select.stable_batches = options.qp.stable_batches = options.online.stable_batches;
    }
    if (cli.count("--necessary-loss") > 0) {
        options.select.necessary_loss = options.qp.necessary_loss = options.online.necessary_loss;
    }
    options.select.threads = options.online.threads;
    options.select.seed = options.online.seed;
    options.qp.threads = options.online.threads;
    options.qp.seed = options.online.seed;
    options.learning = learning == "turns" ? Learning::turns : Learning::gradient;
    options.target = address.empty() ? "unix:" + socket : address;
    std::atomic<bool> stop_training{false};
    options.online.stop = &stop_training;
    options.select.stop = &stop_training;
    options.qp.stop = &stop_training;

    StopToken stop;
    std::atomic<Trainer*> running{nullptr};
    // Blocks the signals before LibTorch and gRPC start their threads.
    SignalWatcher signals(stop, [&](int) {
        stop_training = true;
        notify_stopping();
        if (Trainer* trainer = running.load()) {
            trainer->interrupt();
        }
    });
    Result<std::unique_ptr<Trainer>> trainer = Trainer::open(options);
    if (!trainer) {
        fmt::print(stderr, "adapath-trainer: {}\n", trainer.error().message);
        return 1;
    }
    if (!train.empty()) {
        (*trainer)->ask_train(train == "on");
    }
    running = trainer->get();
    notify_ready((*trainer)->progress());
    (*trainer)->run(stop);
    running = nullptr;
    spdlog::info("stopped: {}", (*trainer)->progress());
    return 0;
}
