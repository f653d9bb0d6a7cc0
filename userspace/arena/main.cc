// adapath-arena: runs congestion control policies side by side over emulated links, and judges them.
#include <fmt/format.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>

#include "codegen/version.h"
#include "userspace/arena/arena.h"
#include "userspace/arena/policy.h"
#include "userspace/arena/report.h"
#include "userspace/common/file.h"
#include "userspace/common/stop.h"

namespace {

using namespace adapath;
using namespace adapath::arena;

constexpr int exit_ok = 0;
constexpr int exit_cells_failed = 1;
constexpr int exit_usage = 2;
constexpr int exit_not_run = 3;
constexpr int exit_interrupted = 130;

int fail(const std::string& message, int code) {
    std::fputs(fmt::format("adapath-arena: {}\n", message).c_str(), stderr);
    return code;
}

int write_report(const std::string& out) {
    Result<std::string> text = make_report(out);
    if (!text) {
        return fail(text.error().message, exit_not_run);
    }
    fmt::print("{}", *text);
    std::fflush(stdout);
    return exit_ok;
}

// For CLI11: empty = it is one.
std::string why_no_pair(const std::string& pair) {
    const std::vector<std::string> known = policy_names();
    const size_t plus = pair.find('+');
    for (const std::string& name : {pair.substr(0, plus), plus == std::string::npos ? "" : pair.substr(plus + 1)}) {
        if (std::find(known.begin(), known.end(), name) == known.end()) {
            return fmt::format("'{}' is not two policies joined by '+'; there are: {}", pair, fmt::join(known, ", "));
        }
    }
    return {};
}

void add_matrix_options(CLI::App& app, Options& options) {
    app.add_option(
           "--trace", options.traces,
           "Trace of the link in mahimahi's format, or a directory of them; repeatable (default: generated ones)")
        ->check(CLI::ExistingPath);
    app.add_option("--generate", options.generate_mbit,
                   "Mean rate of a generated LTE-like trace, Mbit/s; repeatable (default: 2, 8 and 20 without --trace, "
                   "none with)")
        ->check(CLI::Range(0.1, 500.0));
    app.add_option("--seed", options.seeds,
                   "Where in a recorded trace the link begins, and what a generated one is made from; repeatable")
        ->capture_default_str();
    app.add_option("--policy", options.policies,
                   fmt::format("Policy under test; repeatable (default: {})", fmt::join(policy_names(), ", ")))
        ->check(CLI::IsMember(policy_names()));
    app.add_option("--traffic", options.traffic, "bulk, video, fairness, regimes or crowd; repeatable")
        ->capture_default_str()
        ->check(CLI::IsMember({"bulk", "video", "fairness", "regimes", "crowd"}));
    app.add_option("--seconds", options.seconds, "Seconds of each cell, a whole number")
        ->capture_default_str()
        ->check(CLI::Range(2, 3600));
    app.add_option("--pair", options.pairs,
                   "Two policies that share a link, as FIRST+SECOND; repeatable (default: adapath+adapath, "
                   "adapath+cubic, bbr+cubic, cubic+cubic)")
        ->check(CLI::Validator(why_no_pair, "FIRST+SECOND"));
    app.add_option("--fairness-rate", options.fairness_mbit, "Constant link of the pairs, Mbit/s; repeatable")
        ->capture_default_str()
        ->check(CLI::Range(0.1, 500.0));
    app.add_option("--fairness-trace", options.fairness_traces, "Trace that pairs share as well; repeatable")
        ->check(CLI::ExistingPath);
    app.add_option("--fairness-queue-ms", options.fairness_queue_ms, "Queue of the pairs' link, ms; 0 = as --queue-ms")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 10000.0));
    app.add_option("--second-after", options.second_flow_after_s, "Seconds after which a pair's second flow begins")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 3600.0));
}

void add_regime_options(CLI::App& app, Options& options) {
    app.add_option("--regime-seconds", options.regimes.phase_s,
                   "Regimes: how long the link is what it is, three times; a whole number")
        ->capture_default_str()
        ->check(CLI::Range(5, 3600));
    app.add_option("--regime-rate", options.regimes.mbit, "Regimes: mean rate of all three, Mbit/s")
        ->capture_default_str()
        ->check(CLI::Range(0.5, 200.0));
    app.add_option("--regime-period", options.regimes.period_ms,
                   "Regimes: in the middle the link serves these flows once in so many ms ...")
        ->capture_default_str()
        ->check(CLI::Range(2.0, 5000.0));
    app.add_option("--regime-served", options.regimes.served_ms, "... for so many, that much faster")
        ->capture_default_str()
        ->check(CLI::Range(1.0, 5000.0));
    app.add_option("--regime-flows", options.regimes.flows, "Regimes: how many flows share the link")
        ->capture_default_str()
        ->check(CLI::Range(1, 64));
}

void add_crowd_options(CLI::App& app, Options& options) {
    app.add_option("--crowd-flows", options.crowd.flows, "Crowd: how many flows share the link")
        ->capture_default_str()
        ->check(CLI::Range(1, 5000));
    app.add_option("--crowd-rate", options.crowd_mbit, "Crowd: constant link, Mbit/s; repeatable")
        ->capture_default_str()
        ->check(CLI::Range(1.0, 2000.0));
    app.add_option("--crowd-queue-ms", options.crowd.queue_ms, "Crowd: the link's queue, ms")
        ->capture_default_str()
        ->check(CLI::Range(1.0, 10000.0));
}

void add_link_options(CLI::App& app, Options& options) {
    app.add_option("--delay", options.link.delay_ms, "Propagation delay each way, ms")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 1000.0));
    app.add_option("--queue-ms", options.link.queue_ms,
                   "Bottleneck's droptail queue, ms at the trace's mean rate; cellular uplinks are deep")
        ->capture_default_str()
        ->check(CLI::Range(1.0, 10000.0));
    app.add_option("--down-rate", options.link.down_mbit, "The way back, constant, Mbit/s")
        ->capture_default_str()
        ->check(CLI::Range(0.1, 10000.0));
    app.add_option("--loss", options.link.loss, "Share of packets lost on the air each way, 0 to 1")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 1.0));
    app.add_option(
           "--busy", options.busy,
           "So many threads of normal priority compute all the while, as encoders that never catch up; what they "
           "hold up is the policies' daemons")
        ->capture_default_str()
        ->check(CLI::Range(0, 256));
    app.add_option(
           "--daemon-stops", options.daemon_stops_s,
           "Bulk: after a third of the time the policies' daemons stand still for so many seconds, as one that hangs")
        ->capture_default_str()
        ->check(CLI::Range(0, 3600));
    app.add_option("--bulk-flows", options.bulk_flows,
                   "Bulk: so many flows of a policy share its link, as a gateway's cameras do")
        ->capture_default_str()
        ->check(CLI::Range(1, 64));
    app.add_option("--clip", options.video.clip,
                   "Video that the camera plays (default: the one that 'make deps' fetched, out/cache/clip/vtest.avi)");
    app.add_option("--size", options.video.size, "Its WIDTHxHEIGHT in pixels, even")->capture_default_str();
    app.add_option("--fps", options.video.fps, "Its frames a second")
        ->capture_default_str()
        ->check(CLI::Range(1.0, 120.0));
    app.add_option("--min-kbps", options.video.min_kbps, "Its least bitrate, kbit/s")
        ->capture_default_str()
        ->check(CLI::Range(50.0, 200000.0));
    app.add_option("--max-kbps", options.video.max_kbps, "Its highest bitrate, kbit/s")
        ->capture_default_str()
        ->check(CLI::Range(50.0, 200000.0));
}

void add_program_options(CLI::App& app, Options& options) {
    app.add_option("--out", options.out, "Directory of the results; made if missing")->capture_default_str();
    app.add_flag("--fresh", options.fresh, "Start over: forget the results that are there");
    app.add_option("--bin", options.bin, "Directory of Adapath's other programs (default: this program's own)");
    app.add_option("--checkpoint", options.checkpoint, "Directory of the policy to start from")
        ->capture_default_str()
        ->check(CLI::ExistingDirectory);
    app.add_option("--trainer-argument", options.trainer_arguments, "Argument for adapath-trainer; repeatable")
        ->allow_extra_args(false);
    app.add_option("--daemon-config", options.daemon_config, "Text for the end of adapathd's configuration");
}

int run(Options& options) {
    if (options.traces.empty() && options.generate_mbit.empty()) {
        options.generate_mbit = {2, 8, 20};
    }
    if (options.policies.empty()) {
        options.policies = policy_names();
    }
    if (options.pairs.empty()) {
        options.pairs = {"adapath+adapath", "adapath+cubic", "bbr+cubic", "cubic+cubic"};
    }
    for (std::vector<std::string>* list : {&options.policies, &options.pairs}) {
        std::vector<std::string> once;
        for (const std::string& name : *list) {
            if (std::find(once.begin(), once.end(), name) == once.end()) {
                once.push_back(name);
            }
        }
        *list = once;
    }
    if (options.video.clip.empty()) {
        options.video.clip = fetched_file("clip/vtest.avi");
    }
    if (options.regimes.served_ms > options.regimes.period_ms) {
        return fail(fmt::format("--regime-served {:g} ms is more than --regime-period {:g} ms",
                                options.regimes.served_ms, options.regimes.period_ms),
                    exit_usage);
    }
    if (options.seconds / 3 + options.daemon_stops_s > options.seconds) {
        return fail(fmt::format("--daemon-stops {} is more than two thirds of --seconds {}", options.daemon_stops_s,
                                options.seconds),
                    exit_usage);
    }
    const bool fairness =
        std::find(options.traffic.begin(), options.traffic.end(), "fairness") != options.traffic.end();
    if (fairness && options.second_flow_after_s >= options.seconds) {
        return fail(fmt::format("--second-after {:g} s: a pair's second flow would never begin in --seconds {}",
                                options.second_flow_after_s, options.seconds),
                    exit_usage);
    }
    // The daemon takes absolute paths only.
    options.out = std::filesystem::absolute(options.out).lexically_normal().string();
    signal(SIGPIPE, SIG_IGN);
    StopToken stop;
    const SignalWatcher watcher(stop);
    const Result<RunSummary> summary = run_arena(options, stop);
    if (!summary) {
        return fail(summary.error().message, stop.requested() ? exit_interrupted : exit_not_run);
    }
    if (summary->measured + summary->there_already > 0) {
        if (const int code = write_report(options.out); code != exit_ok) {
            return code;
        }
    }
    if (stop.requested()) {
        return fail("interrupted; what was finished is kept, the same command goes on from there", exit_interrupted);
    }
    if (!summary->failures.empty()) {
        return fail(
            fmt::format("{} failed: {}{} (programs' logs: {}/work and {}/logs); the same command tries them again",
                        summary->failures.size(), summary->failures.front(),
                        summary->failures.size() > 1 ? " and others, see above" : "", options.out, options.out),
            exit_cells_failed);
    }
    return exit_ok;
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    options.bin = own_directory();
    CLI::App app{
        "Runs congestion control policies side by side over emulated links, each on a link of its own with the same "
        "trace at the same time, and judges them.\nResults: OUT/results.jsonl, a line a cell, and OUT/report.html. Run "
        "again, it goes on where it was stopped."};
    app.set_version_flag("--version", adapath::kVersion);
    app.name("adapath-arena");
    add_matrix_options(app, options);
    add_regime_options(app, options);
    add_crowd_options(app, options);
    add_link_options(app, options);
    add_program_options(app, options);
    CLI::App* report = app.add_subcommand("report", "Make OUT/report.html again from the results, measure nothing");
    report->add_option("--out", options.out, "Directory of the results")->capture_default_str();
    app.require_subcommand(0, 1);
    app.footer(
        "Needs root and /dev/net/tun. Ctrl-C ends everything cleanly and keeps what was finished.\n"
        "Exit codes: 0 done, 1 some cells failed, 2 bad options, 3 could not run, 130 interrupted.");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_ok : exit_usage;
    }
    try {
        return report->parsed() ? write_report(options.out) : run(options);
    } catch (const std::exception& error) {
        // Caught only so that everything that was started is taken down on the way here.
        return fail(error.what(), exit_not_run);
    }
}
