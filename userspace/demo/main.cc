// adapath-demo: runs the main job, shows its progress, and writes summary.json and report.html.
#include <fmt/format.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <random>

#include "codegen/version.h"
#include "userspace/common/file.h"
#include "userspace/common/log.h"
#include "userspace/common/stop.h"
#include "userspace/demo/demo.h"
#include "userspace/demo/plan.h"
#include "userspace/demo/report.h"
#include "userspace/demo/summary.h"

namespace {

using namespace adapath;
using namespace adapath::demo;

constexpr int exit_ok = 0;
constexpr int exit_criteria = 1;
constexpr int exit_usage = 2;
constexpr int exit_not_run = 3;
constexpr int exit_interrupted = 130;

int fail(const std::string& message, int code) {
    fmt::print(stderr, "adapath-demo: {}\n", message);
    return code;
}

int report(const Recording& recording, const Options& options) {
    const Summary summary = summarise(recording);
    const std::string json_path = options.out + "/summary.json";
    const std::string html_path = options.out + "/report.html";
    for (const auto& [path, text] :
         {std::pair{json_path, to_json(recording, summary)}, {html_path, to_html(recording, summary)}}) {
        if (Status written = write_file_durably(path, text); !written) {
            return fail(written.error().message, exit_not_run);
        }
    }
    fmt::print("{}\n  {}\n  {}\n\n", to_table(recording, summary, isatty(STDOUT_FILENO) == 1), json_path, html_path);
    if (summary.ok) {
        fmt::print("adapath-demo: all {} criteria are met\n", summary.criteria.size());
        return exit_ok;
    }
    std::string failed;
    for (const Criterion& criterion : summary.criteria) {
        if (!criterion.passed) {
            failed += (failed.empty() ? "" : ", ") + criterion.name;
        }
    }
    std::fflush(stdout);
    fmt::print(stderr, "adapath-demo: FAILED: {} (programs' logs: {}/log)\n", failed, options.out);
    return recording.interrupted ? exit_interrupted : exit_criteria;
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    options.bin = own_directory();
    CLI::App app{
        "Runs Adapath's main job: live video over a moving uplink whose congestion control learns and switches in the "
        "kernel.\n"
        "Results: OUT/summary.json and OUT/report.html; the programs' logs: OUT/log."};
    app.set_version_flag("--version", adapath::kVersion);
    app.name("adapath-demo");
    app.add_option("--duration", options.duration_s,
                   "Seconds of video; at least 30, since the scenario's parts need their time")
        ->capture_default_str();
    app.add_option("--cameras", options.cameras, "Cameras, one TCP flow each (backend local: simulated flows)")
        ->capture_default_str()
        ->check(CLI::Range(1, 64));
    app.add_option(
           "--backend", options.backend,
           "bpf: the kernel (root); kmod: the kernel, by adapath.ko, which is installed or loaded (root); local: one "
           "process, simulated flows, no privileges")
        ->capture_default_str()
        ->check(CLI::IsMember({"bpf", "kmod", "local"}));
    app.add_option("--trace", options.trace, "Uplink's trace in mahimahi's format (default: a generated LTE-like one)");
    app.add_option("--mean-rate", options.mean_rate, "Mean of the generated uplink, Mbit/s")
        ->capture_default_str()
        ->check(CLI::Range(0.5, 500.0));
    app.add_option("--delay", options.delay_ms, "Propagation delay each way, ms")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 1000.0));
    app.add_option("--queue-ms", options.queue_ms, "Bottleneck's droptail queue, ms at the mean rate")
        ->capture_default_str()
        ->check(CLI::Range(1.0, 10000.0));
    app.add_option("--clip", options.clip,
                   "Video file that the cameras play, anything that libav reads (default: the one that "
                   "'make deps' fetched, out/cache/clip/vtest.avi)");
    app.add_option("--size", options.size,
                   "Video's WIDTHxHEIGHT in pixels, even (default: the clip's); smaller where encoding is slow");
    app.add_option("--fps", options.fps, "Frames a second of each camera")
        ->capture_default_str()
        ->check(CLI::Range(1.0, 120.0));
    app.add_option("--switch-rate", options.switch_rate,
                   "Forced parameter switches a second, for 5 s; fewer where the machine is slow")
        ->capture_default_str()
        ->check(CLI::Range(1, 100));
    app.add_option("--patience", options.patience,
                   "Factor on how long the demo waits for its programs; more where the machine is slow")
        ->capture_default_str()
        ->check(CLI::Range(1.0, 100.0));
    app.add_option("--seed", options.seed, "Of the generated uplink and of all that is forced; 0 = by chance")
        ->capture_default_str();
    app.add_option("--out", options.out, "Directory of the results; made if missing")->capture_default_str();
    app.add_option("--bin", options.bin, "Directory of Adapath's other programs (default: this program's own)");
    app.add_option("--checkpoint", options.checkpoint, "Directory of the policy to start from")->capture_default_str();
    app.add_option("--select-seconds", options.select_s,
                   "Seconds of the part about the app select (backend bpf); 0: without it")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 3600.0));
    app.add_option("--qp-seconds", options.qp_s, "Seconds of the part about the app qp (backend bpf); 0: without it")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 3600.0));
    app.add_option("--qp-selector", options.qp_selector, "The quality selector that it starts from")
        ->capture_default_str();
    app.add_option("--select-checkpoint", options.select_checkpoint, "Directory of the selector to start from")
        ->capture_default_str();
    app.add_option("--certificates", options.certificates, "The script that makes certificates for that part")
        ->capture_default_str();
    app.footer(
        "Ctrl-C ends everything cleanly: namespaces, programs and the kernel side go.\n"
        "Exit codes: 0 every criterion met, 1 one failed, 2 bad options, 3 could not run, 130 interrupted.");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_ok : exit_usage;
    }
    if (!(options.duration_s >= shortest_demo_s) || options.duration_s > 86400) {
        return fail(
            fmt::format(
                "--duration {}: between {:.0f} and 86400 seconds, please: training, 5 s of forced switches and a roll "
                "back need that long (make demo DURATION=60)",
                options.duration_s, shortest_demo_s),
            exit_usage);
    }
    if (!options.trace.empty() && access(options.trace.c_str(), R_OK) != 0) {
        return fail(fmt::format("--trace {}: {}", options.trace, strerror(errno)), exit_usage);
    }
    if (options.clip.empty()) {
        options.clip = fetched_file("clip/vtest.avi");
    }
    if (options.seed == 0) {
        options.seed = 1 + std::random_device{}() % 1000000;
    }
    // The daemon takes absolute paths only, since a service has no directory that a person would think of.
    options.out = std::filesystem::absolute(options.out).lexically_normal().string();
    signal(SIGPIPE, SIG_IGN);
    StopToken stop;
    const SignalWatcher watcher(stop);
    const Result<Recording> recording = run_demo(options, stop);
    if (!recording) {
        return fail(recording.error().message, stop.requested() ? exit_interrupted : exit_not_run);
    }
    return report(*recording, options);
}
