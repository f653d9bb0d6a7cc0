// adapath-relay: what passes the gateway's select goes up to the server, and what the server says comes back.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <grpc/support/log.h>
#include <spdlog/spdlog.h>

#include "codegen/version.h"
#include "userspace/adapathd/config.h"
#include "userspace/common/notify.h"
#include "userspace/relay/cameras.h"
#include "userspace/relay/feedback.h"
#include "userspace/relay/record_bytes.h"
#include "userspace/relay/relay.h"
#include "userspace/relay/vision_options.h"
#include "userspace/video/report.h"
#include "userspace/video/tool.h"

using namespace adapath;
using namespace adapath::relay;
using adapath::video::exit_failed;
using adapath::video::exit_ok;
using adapath::video::exit_usage;
using adapath::video::Json;

namespace {

struct Options {
    std::string server;
    std::string config;
    std::vector<std::string> cameras;
    RelayOptions relay;
    FeedbackOptions feedback;
    VisionKeys keys;
    double queue_s = 0.5;
    double late_s = 0.8;
    unsigned queue_kb = 1024;
    double target_ms = PriceOptions{}.target_s * 1e3;
    double load = PriceOptions{}.load;
    double in_flight_ms = RelayOptions{}.in_flight_s * 1e3;
    double budget_kbps = 0;
    int lowat_kb = 4;
    std::string stats;
    std::string summary;
    bool no_daemon = false;
    bool verbose = false;
};

std::string host_name() {
    char name[ADP_RELAY_GATEWAY_BYTES] = "";
    return gethostname(name, sizeof name - 1) == 0 && is_gateway_name(name) ? name : "gateway";
}

Json feedback_json(const Feedback::Counters& counters) {
    return {{"server", counters.server_there}, {"daemon", counters.daemon_there}, {"reports", counters.reports},
            {"refused", counters.refused},     {"forwarded", counters.forwarded}, {"lost", counters.lost},
            {"markets", counters.markets},     {"watches", counters.watches},     {"feeds", counters.feeds}};
}

// The cameras, and where the daemon listens, from the daemon's own configuration or from the command line.
Status configure(Options& options) {
    pb::SelectConfig select;
    if (!options.config.empty()) {
        Result<pb::DaemonConfig> config = read_config(options.config);
        if (!config) {
            return config.error();
        }
        if (!config->has_select()) {
            return Error{options.config + ": it has no select { } with cameras"};
        }
        select = config->select();
        if (options.feedback.daemon.empty()) {
            options.feedback.daemon = "unix:" + config->socket();
        }
    }
    for (const std::string& text : options.cameras) {
        Result<pb::CameraConfig> camera = parse_camera(text);
        if (!camera) {
            return camera.error();
        }
        *select.add_camera() = *camera;
    }
    if (options.no_daemon) {
        options.feedback.daemon.clear();
    }
    Result<std::vector<RelayCamera>> cameras = cameras_of(select);
    if (!cameras) {
        return Error{options.config.empty() ? cameras.error().message
                                            : fmt::format("{}: {}", options.config, cameras.error().message)};
    }
    options.relay.cameras = *cameras;
    options.feedback.cameras = static_cast<unsigned>(cameras->size());
    return {};
}

int run(Options& options) {
    video::SignalStop signals;
    video::setup_logging("adapath-relay", options.verbose);
    // gRPC has its own words for each attempt that fails; ours are said once.
    gpr_set_log_function([](gpr_log_func_args* said) { spdlog::debug("gRPC: {}", said->message); });
    const auto fail = [](const Error& error, int code = exit_failed) {
        spdlog::error("{}", error.message);
        return code;
    };
    Result<video::HostPort> server = video::parse_host_port(options.server, "--server");
    if (!server) {
        return fail(server.error(), exit_usage);
    }
    options.relay.server = *server;
    if (!options.feedback.vision.empty()) {
        Result<video::HostPort> vision = video::parse_host_port(options.feedback.vision, "--vision");
        if (!vision) {
            return fail(vision.error(), exit_usage);
        }
    }
    if (Status configured = configure(options); !configured) {
        return fail(configured.error(), exit_usage);
    }
    if (Status read = read_keys(options.keys, options.feedback); !read) {
        return fail(read.error());
    }
    options.relay.connection.queue_bytes = size_t{options.queue_kb} << 10;
    options.relay.connection.queue_us = static_cast<uint64_t>(options.queue_s * 1e6);
    options.relay.connection.late_us = static_cast<uint64_t>(options.late_s * 1e6);
    options.relay.connection.notsent_lowat = options.lowat_kb * 1024;
    options.relay.price.target_s = options.target_ms * 1e-3;
    options.relay.price.load = options.load;
    options.relay.price.budget = options.budget_kbps * 1e3 / 8;
    options.relay.in_flight_s = options.in_flight_ms * 1e-3;
    options.feedback.gateway = options.relay.connection.gateway;
    std::unique_ptr<video::LineFile> stats;
    if (!options.stats.empty()) {
        Result<std::unique_ptr<video::LineFile>> opened = video::LineFile::open(options.stats);
        if (!opened) {
            return fail(opened.error());
        }
        stats = std::move(*opened);
    }

    Result<std::unique_ptr<Relay>> relay = Relay::open(options.relay);
    if (!relay) {
        return fail(relay.error());
    }
    options.feedback.on_report = [relay = relay->get()](const pb::CameraReport& report) {
        if (report.has_measured()) {
            relay->set_measured(report.camera(), report.measured().sub_worth(), report.measured().gain());
        }
    };
    auto feedback = std::make_unique<Feedback>(options.feedback);
    (*relay)->set_market_sink([&feedback](const Price& price, unsigned cameras) {
        pb::Market market;
        market.set_price(price.price);
        market.set_main_limit(price.main_limit);
        market.set_used(price.used);
        market.set_cameras(cameras);
        market.set_main_late(price.main_late);
        feedback->set_market(market);
        notify_watchdog();
    });
    (*relay)->set_stats_sink([&](const Json& line) {
        if (stats) {
            Json whole = line;
            whole["feedback"] = feedback_json(feedback->counters());
            stats->write(whole.dump());
        }
    });
    spdlog::info("gateway {}: {} cameras to {}; reports {}, daemon {}", options.feedback.gateway,
                 options.relay.cameras.size(), options.server,
                 options.feedback.vision.empty() ? "from nowhere (no --vision)" : "from " + options.feedback.vision,
                 options.feedback.daemon.empty() ? "none" : options.feedback.daemon);
    if (options.stats != "-") {
        fmt::print("ready {} cameras to {}\n", options.relay.cameras.size(), options.server);
        std::fflush(stdout);
    }
    notify_ready(fmt::format("{} cameras to {}", options.relay.cameras.size(), options.server));
    const Status ran = (*relay)->run(signals.token());
    notify_stopping();
    const Feedback::Counters counters = feedback->counters();
    feedback.reset();
    if (!ran) {
        return fail(ran.error());
    }
    Json summary = (*relay)->summary();
    summary["feedback"] = feedback_json(counters);
    for (const Json& camera : summary["cameras"]) {
        spdlog::info(
            "{}: {} records, {} KB; chunks dropped {} of {} (main) and {} of {} (sub), cut {}; {} connections, {} "
            "failures",
            camera["name"].get<std::string>(), camera["records"].get<uint64_t>(),
            camera["sent_bytes"].get<uint64_t>() / 1000, camera["main"]["dropped_chunks"].get<uint64_t>(),
            camera["main"]["chunks"].get<uint64_t>(), camera["sub"]["dropped_chunks"].get<uint64_t>(),
            camera["sub"]["chunks"].get<uint64_t>(),
            camera["main"]["cut_chunks"].get<uint64_t>() + camera["sub"]["cut_chunks"].get<uint64_t>(),
            camera["connections"].get<uint64_t>(), camera["failures"].get<uint64_t>());
    }
    if (!options.summary.empty()) {
        if (Status written = video::write_json(summary, options.summary); !written) {
            return fail(written.error());
        }
    }
    if (stats) {
        if (Status written = stats->status(); !written) {
            return fail(written.error());
        }
    }
    return exit_ok;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "Carries the cameras' RTP from this gateway to the server, one TCP connection a camera; tells adapathd what "
        "the "
        "uplink\n"
        "is worth, and hands it what the server's vision network says. Prints \"ready N cameras to HOST:PORT\" on "
        "standard\n"
        "output (not with --stats -). Needs no privileges.\n"
        "Exit codes: 0 stopped as asked (SIGINT or SIGTERM), 1 a socket or file failed, 2 wrong usage."};
    app.set_version_flag("--version", adapath::kVersion);
    Options options;
    options.relay.connection.gateway = host_name();
    app.add_option("--server", options.server, "adapath-server's HOST:PORT for video")->required();
    app.add_option("--config", options.config,
                   "adapathd's configuration: cameras (at the same places) and the daemon's socket");
    app.add_option("--camera", options.cameras,
                   "NAME,ADDRESS,SUB_PORT,MAIN_PORT[,PAYLOAD_TYPE] of a camera, after those of --config; repeat it");
    app.add_option("--gateway", options.relay.connection.gateway, "This gateway's name: letters, digits, '.', '_', '-'")
        ->check([](const std::string& name) {
            return is_gateway_name(name) ? std::string() : "1 to 63 of letters, digits, '.', '_' and '-'";
        })
        ->capture_default_str();
    app.add_option("--listen", options.relay.listen, "Address that the cameras send to (default: all)");
    app.add_option("--congestion-control", options.relay.connection.congestion_control,
                   "Of the uplink's connections; the kernel's default where it is not there or not allowed")
        ->capture_default_str();
    app.add_option(
           "--queue-seconds", options.queue_s,
           "Age of a rendition's queue from which on its new chunks are dropped; of a sub stream's three times that")
        ->check(CLI::Range(0.05, 60.0))
        ->capture_default_str();
    app.add_option("--late-seconds", options.late_s,
                   "Pictures that waited so long in the queue are dropped, with the rest of their chunk (of a sub "
                   "stream twice as "
                   "long, of a main chunk of which nothing was sent yet three quarters); 0: never")
        ->check(CLI::Range(0.0, 60.0))
        ->capture_default_str();
    app.add_option("--queue-kb", options.queue_kb, "Size of a rendition's queue from which on they are, KiB")
        ->check(CLI::Range(16U, 1U << 20))
        ->capture_default_str();
    app.add_option("--notsent-lowat", options.lowat_kb,
                   "TCP_NOTSENT_LOWAT, KiB: data a socket may hold unsent; at least two segments")
        ->check(CLI::Range(3, 4096))
        ->capture_default_str();
    app.add_option("--target-ms", options.target_ms, "Queueing delay that the price keeps the uplink at, ms")
        ->check(CLI::Range(5.0, 5000.0))
        ->capture_default_str();
    app.add_option("--load", options.load,
                   "Share of the uplink's capacity that the price lets be offered: the rest is for when it drops. "
                   "Above 1 more is "
                   "offered than fits, and dropped here, what gains least for its bytes first")
        ->check(CLI::Range(0.05, 10.0))
        ->capture_default_str();
    app.add_option("--in-flight-ms", options.in_flight_ms,
                   "What all connections together may have in flight: what the uplink carries in a round trip and so "
                   "long, ms; the rest waits here, where it can be dropped; 0: no limit")
        ->check(CLI::Range(50.0, 10000.0) | CLI::IsMember({"0"}))
        ->capture_default_str();
    app.add_option("--budget-kbps", options.budget_kbps,
                   "What the cameras may have of the uplink at most, kbit/s, on average over seconds: the price keeps "
                   "to it; 0: all of it")
        ->check(CLI::Range(0.0, 1e7))
        ->capture_default_str();
    add_vision_options(app, options.feedback, options.keys);
    CLI::Option* daemon =
        app.add_option("--daemon", options.feedback.daemon, "adapathd: unix:PATH (default: --config's socket)");
    app.add_flag("--no-daemon", options.no_daemon, "Tell no daemon anything")->excludes(daemon);
    app.add_option("--stats", options.stats, "A JSON line a second to this file; - is stdout");
    app.add_option("--summary", options.summary, "JSON summary to this file at the end; - is stdout");
    app.add_flag("--verbose", options.verbose, "Debug messages");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_ok : exit_usage;
    }
    if (options.config.empty() && options.cameras.empty()) {
        std::fprintf(stderr, "adapath-relay: which cameras? Give --config or --camera\n");
        return exit_usage;
    }
    return run(options);
}
