// adapath-linkem: a trace-driven link between two network namespaces. Options, devices, reports; the link itself is in
// link.h and the loop in emulator.h.
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "codegen/version.h"
#include "codegen/trace/trace.h"
#include "userspace/common/stop.h"
#include "userspace/linkem/emulator.h"
#include "userspace/linkem/endpoint.h"
#include "userspace/linkem/realtime.h"

namespace {

using namespace adapath;
using nlohmann::ordered_json;

constexpr int exit_ok = 0;
constexpr int exit_failed = 1;
constexpr int exit_usage = 2;

struct Options {
    std::string up_trace;
    double up_rate = 0;
    std::string generate;
    uint64_t seed = 1;
    double mean_rate = 8;
    double trace_s = 600;
    std::string down_trace;
    double down_rate = 50;
    double delay_ms = 20;
    uint64_t queue_bytes = 0;
    double queue_ms = 200;
    double loss = 0;
    std::string log;
    std::string netns_a;
    std::string netns_b;
    Endpoint a{.device = "uplink0", .address = "10.77.0.1/30", .routes = {}};
    Endpoint b{.device = "uplink1", .address = "10.77.0.2/30", .routes = {}};
    uint32_t mtu = 1500;
    double duration_s = 0;
    double stats_s = 1;
    int ready_fd = -1;
    bool no_realtime = false;
};

int fail(const Error& error, int code) {
    fmt::print(stderr, "adapath-linkem: {}\n", error.message);
    return code;
}

Result<Trace> up_trace(const Options& options) {
    if (!options.up_trace.empty()) {
        return Trace::load(options.up_trace);
    }
    if (options.up_rate > 0) {
        return Trace::constant(options.up_rate);
    }
    return Trace::generate({.seed = options.seed,
                            .mean_mbit = options.mean_rate,
                            .duration_ms = static_cast<uint32_t>(options.trace_s * 1000)});
}

Result<Trace> down_trace(const Options& options) {
    return options.down_trace.empty() ? Trace::constant(options.down_rate) : Trace::load(options.down_trace);
}

LinkOptions link_options(const Options& options, const Trace& trace, uint64_t seed) {
    const auto by_time = static_cast<uint64_t>(trace.mean_bytes_per_s() * options.queue_ms / 1000.0);
    return {
        .delay_ns = static_cast<uint64_t>(options.delay_ms * 1e6),
        // A queue that holds no packet would be a link that carries none.
        .queue_bytes = options.queue_bytes > 0 ? options.queue_bytes : std::max<uint64_t>(by_time, 2 * options.mtu),
        .loss = options.loss,
        .seed = seed,
    };
}

ordered_json counters_json(const DirectionStats& stats) {
    return {
        {"capacity_bytes", stats.capacity_bytes},
        {"arrived_bytes", stats.counters.arrived_bytes},
        {"arrived_packets", stats.counters.arrived_packets},
        {"delivered_bytes", stats.counters.delivered_bytes},
        {"delivered_packets", stats.counters.delivered_packets},
        {"dropped_packets", stats.counters.dropped_packets},
        {"lost_packets", stats.counters.lost_packets},
        {"queue_bytes", stats.queue_bytes},
        {"queue_packets", stats.queue_packets},
        {"write_errors", stats.write_errors},
        {"late_p50_us", stats.late.quantile(0.5)},
        {"late_p99_us", stats.late.quantile(0.99)},
        {"late_max_us", stats.late.max()},
    };
}

// Whole microseconds: more digits are of no use in a log.
double seconds(uint64_t ns) {
    const uint64_t us = ns / 1000;
    return static_cast<double>(us) / 1e6;
}

ordered_json stats_json(const char* kind, const EmulatorStats& stats) {
    return {
        {"event", kind},
        {"from_s", seconds(stats.from_ns)},
        {"to_s", seconds(stats.to_ns)},
        {"up", counters_json(stats.up)},
        {"down", counters_json(stats.down)},
    };
}

// "self", a namespace of that name (made if missing), or a new one where none is named.
Result<Namespace> side_namespace(const std::string& name, const char* side) {
    if (name == "self") {
        return Namespace::current();
    }
    return name.empty() ? Namespace::create(Namespace::unique_name(std::string("adapath-") + side))
                        : Namespace::open_or_create(name);
}

int emulate(const Options& options, StopEvent& stop) {
    Result<Trace> up = up_trace(options);
    if (!up) {
        return fail(up.error(), exit_usage);
    }
    Result<Trace> down = down_trace(options);
    if (!down) {
        return fail(down.error(), exit_usage);
    }
    const LinkOptions up_options = link_options(options, *up, options.seed);
    const LinkOptions down_options = link_options(options, *down, options.seed + 0x5eed);

    std::unique_ptr<BackgroundWriter> log;
    if (!options.log.empty()) {
        auto opened = BackgroundWriter::open(options.log);
        if (!opened) {
            return fail(opened.error(), exit_usage);
        }
        log = std::move(*opened);
    }
    // Declared before the emulator, so that the devices go first and then the namespaces.
    Result<Namespace> side_a = side_namespace(options.netns_a, "a");
    if (!side_a) {
        return fail(side_a.error(), exit_failed);
    }
    Result<Namespace> side_b = side_namespace(options.netns_b, "b");
    if (!side_b) {
        return fail(side_b.error(), exit_failed);
    }
    Endpoint end_a = options.a;
    Endpoint end_b = options.b;
    end_a.mtu = end_b.mtu = options.mtu;
    Result<UniqueFd> tun_a = open_endpoint(*side_a, end_a);
    if (!tun_a) {
        return fail(tun_a.error(), exit_failed);
    }
    Result<UniqueFd> tun_b = open_endpoint(*side_b, end_b);
    if (!tun_b) {
        return fail(tun_b.error(), exit_failed);
    }

    // Reports go out by a thread of their own: a slow reader of our output must not slow down the link.
    BackgroundWriter reports(UniqueFd(dup(STDOUT_FILENO)), "standard output");
    const auto report = [&](const ordered_json& line) {
        reports.append(line.dump() + "\n");
        reports.flush();
    };
    EmulatorOptions emulator_options{
        .mtu = options.mtu,
        .duration_ns = static_cast<uint64_t>(options.duration_s * 1e9),
        .stats_interval_ns = static_cast<uint64_t>(options.stats_s * 1e9),
        .on_stats = [&](const EmulatorStats& stats) { report(stats_json("stats", stats)); },
        .log = log.get(),
    };
    const ordered_json about{
        {"netns_a", side_a->name()},
        {"netns_b", side_b->name()},
        {"device_a", end_a.device},
        {"device_b", end_b.device},
        {"address_a", end_a.address},
        {"address_b", end_b.address},
        {"up_mean_mbit", up->mean_bytes_per_s() * 8e-6},
        {"down_mean_mbit", down->mean_bytes_per_s() * 8e-6},
        {"up_queue_bytes", up_options.queue_bytes},
        {"down_queue_bytes", down_options.queue_bytes},
        {"delay_ms", options.delay_ms},
    };
    auto emulator = Emulator::create(std::move(*tun_a), std::move(*tun_b), Link(std::move(*up), up_options),
                                     Link(std::move(*down), down_options), stop, std::move(emulator_options));
    if (!emulator) {
        return fail(emulator.error(), exit_failed);
    }
    ordered_json ready{{"event", "ready"}, {"realtime", !options.no_realtime && become_realtime()}};
    ready.update(about);
    report(ready);
    if (options.ready_fd >= 0) {
        const UniqueFd fd(options.ready_fd);
        if (write(fd.get(), "ready\n", 6) != 6) {
            return fail(Error{fmt::format("can't write to --ready-fd {}: {}", options.ready_fd, strerror(errno))},
                        exit_failed);
        }
    }
    const Status ended = (*emulator)->run();
    report(stats_json("total", (*emulator)->totals()));
    if (!ended) {
        return fail(ended.error(), exit_failed);
    }
    if (log) {
        if (Status closed = log->close(); !closed) {
            return fail(closed.error(), exit_failed);
        }
    }
    return exit_ok;
}

int generate(const Options& options) {
    const Result<Trace> trace = Trace::generate({.seed = options.seed,
                                                 .mean_mbit = options.mean_rate,
                                                 .duration_ms = static_cast<uint32_t>(options.trace_s * 1000)});
    if (!trace) {
        return fail(trace.error(), exit_usage);
    }
    trace->write(std::cout);
    std::cout.flush();
    if (!std::cout) {
        return fail(Error{"can't write the trace to standard output"}, exit_failed);
    }
    return exit_ok;
}

void add_options(CLI::App& app, Options& options) {
    auto* up_file =
        app.add_option("--up-trace", options.up_trace,
                       "Trace of the uplink: a line is the ms of one 1500-byte delivery opportunity (mahimahi)");
    auto* up_rate =
        app.add_option("--up-rate", options.up_rate, "Constant uplink, Mbit/s")->check(CLI::Range(0.012, 10000.0));
    auto* made =
        app.add_option("--generate", options.generate, "Generate the uplink's trace: lte (the default without --up-*)")
            ->check(CLI::IsMember({"lte"}));
    up_file->excludes(up_rate)->excludes(made);
    up_rate->excludes(made);
    app.add_option("--seed", options.seed, "Of the generated trace and of the losses")->capture_default_str();
    app.add_option("--mean-rate", options.mean_rate, "Of the generated trace, Mbit/s")->capture_default_str();
    app.add_option("--trace-length", options.trace_s, "Of the generated trace, seconds; then it repeats")
        ->capture_default_str()
        ->check(CLI::Range(1.0, 86400.0));
    auto* down_file = app.add_option("--down-trace", options.down_trace, "Trace of the downlink");
    app.add_option("--down-rate", options.down_rate, "Constant downlink, Mbit/s")
        ->capture_default_str()
        ->check(CLI::Range(0.012, 10000.0))
        ->excludes(down_file);
    app.add_option("--delay", options.delay_ms, "Propagation delay each way, ms")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 60000.0));
    auto* queue_bytes = app.add_option("--queue-bytes", options.queue_bytes, "Droptail queue each way, bytes")
                            ->check(CLI::Range(uint64_t{1500}, uint64_t{1} << 30));
    app.add_option("--queue-ms", options.queue_ms, "The same as time at the trace's mean rate, ms")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 60000.0))
        ->excludes(queue_bytes);
    app.add_option("--loss", options.loss, "Share of packets lost on the air each way, 0 to 1")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 1.0));
    app.add_option("--log", options.log, "File for a CSV line a packet: time,direction,event,bytes,queue,late (ns)");
    app.add_option(
        "--netns-a", options.netns_a,
        "Namespace of side a (gateway): made if missing and then removed at the end; \"self\" is the present one; "
        "default: a new one with a unique name");
    app.add_option("--netns-b", options.netns_b, "The same for side b (server)");
    app.add_option("--dev-a", options.a.device, "TUN device on side a")->capture_default_str();
    app.add_option("--dev-b", options.b.device, "TUN device on side b")->capture_default_str();
    app.add_option("--addr-a", options.a.address, "Address of side a")->capture_default_str();
    app.add_option("--addr-b", options.b.address, "Address of side b")->capture_default_str();
    app.add_option("--route-a", options.a.routes,
                   "Destination that side a reaches over the link (\"default\" or a CIDR); repeatable")
        ->allow_extra_args(false);
    app.add_option("--route-b", options.b.routes, "Destination that side b reaches over the link; repeatable")
        ->allow_extra_args(false);
    app.add_option("--mtu", options.mtu, "Of both devices, bytes")
        ->capture_default_str()
        ->check(CLI::Range(576U, 65535U));
    app.add_option("--duration", options.duration_s, "Seconds to run; 0 = until SIGINT or SIGTERM")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 1e7));
    app.add_option("--stats-interval", options.stats_s, "Seconds between the JSON lines on standard output; 0 = none")
        ->capture_default_str()
        ->check(CLI::Range(0.0, 86400.0));
    app.add_option(
        "--ready-fd", options.ready_fd,
        "Descriptor that gets \"ready\\n\" once packets flow (standard output gets a JSON line in any case)");
    app.add_flag("--no-realtime", options.no_realtime, "Don't ask for real-time scheduling (SCHED_FIFO 1)");
    app.footer(
        "Side a sends into the uplink, side b into the downlink. Standard output: JSON lines with the events ready, "
        "stats "
        "(each interval) and total.\nCounters are of the interval; late_* is the emulator's own delay in "
        "microseconds.\n"
        "Exit codes: 0 ended by the duration or a signal, 1 failed while running, 2 bad options or a bad trace.\n"
        "Needs root (CAP_NET_ADMIN and CAP_SYS_ADMIN) and /dev/net/tun.");
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    CLI::App app{
        "Emulates a link between two network namespaces: delivery opportunities of a trace, a droptail queue, a delay"};
    app.set_version_flag("--version", adapath::kVersion);
    app.name("adapath-linkem");
    add_options(app, options);
    CLI::App* generator = app.add_subcommand("generate", "Write a generated LTE-like trace to standard output");
    generator->add_option("--seed", options.seed, "The same seed always gives the same trace")->capture_default_str();
    generator->add_option("--mean-rate", options.mean_rate, "Mean of the whole trace, Mbit/s")->capture_default_str();
    generator->add_option("--duration", options.trace_s, "Seconds")
        ->capture_default_str()
        ->check(CLI::Range(1.0, 86400.0));
    app.require_subcommand(0, 1);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_ok : exit_usage;
    }
    if (generator->parsed()) {
        return generate(options);
    }
    signal(SIGPIPE, SIG_IGN);
    StopEvent stop;
    StopToken token;
    const SignalWatcher watcher(token, [&](int) { stop.request(); });
    return emulate(options, stop);
}
