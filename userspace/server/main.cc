// adapath-server: receives the gateways' cameras, runs the vision network on what came, and tells the gateways what it
// was worth.
#include <sys/resource.h>

#include <cstdio>
#include <memory>
#include <set>
#include <stop_token>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <grpc/support/log.h>
#include <spdlog/spdlog.h>

#include <CLI/CLI.hpp>

#include "codegen/version.h"
#include "userspace/common/file.h"
#include "userspace/common/log.h"
#include "userspace/common/notify.h"
#include "userspace/common/stop.h"
#include "userspace/server/results.h"
#include "userspace/server/vision_service.h"
#include "userspace/video/decoder.h"
#include "userspace/video/report.h"

namespace {

using namespace adapath;
using namespace adapath::server;

constexpr int exit_ok = 0;      // also after SIGINT or SIGTERM: everything was written
constexpr int exit_failed = 1;  // the world failed
constexpr int exit_usage = 2;

struct Options {
    std::string listen = "0.0.0.0:7700";
    std::string vision_listen = "0.0.0.0:7701";
    std::vector<std::string> gateways;
    VisionServiceOptions tls;
    std::string model;
    bool without_vision = false;
    std::string detections;
    size_t cached = 100'000;
    unsigned threads = 1;
    size_t queue = 8;
    VisionOptions vision;
    ServerOptions server;
    size_t background_mb = 512;
    std::string results;
    bool boxes = false;
    std::string log_level = "info";
};

// A connection takes two descriptors; shells often give 1024.
void raise_descriptor_limit() {
    rlimit limit{};
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

// gRPC writes of every handshake that fails, to stderr: whoever likes could fill the log with it.
void quiet_grpc() {
    gpr_set_log_function([](gpr_log_func_args* args) { spdlog::debug("gRPC: {}", args->message); });
}

int run(Options& options) {
    const auto fail = [](const Error& error, int code = exit_failed) {
        spdlog::error("{}", error.message);
        return code;
    };
    // A handler in a thread of its own: BLAS has started threads before main(), which a blocked signal would not spare.
    std::stop_source stop;
    StopToken stopped;
    const SignalWatcher signals(stopped, [&stop](int) {
        spdlog::info("stopping; once more to end at once");
        notify_stopping();
        stop.request_stop();
    });
    video::quiet_libav();
    quiet_grpc();
    raise_descriptor_limit();

    Result<video::HostPort> at = video::parse_host_port(options.listen, "--listen");
    if (!at) return fail(at.error(), exit_usage);
    Result<video::HostPort> vision_at = video::parse_host_port(options.vision_listen, "--vision-listen");
    if (!vision_at) return fail(vision_at.error(), exit_usage);
    for (const std::string& name : options.gateways)
        if (!is_gateway_name(name))
            return fail(Error{fmt::format("--gateway '{}': a name is 1 to 63 of A-Z a-z 0-9 . _ -", name)}, exit_usage);
    if (options.tls.insecure && !is_loopback(vision_at->host))
        return fail(Error{fmt::format("--insecure is for loopback addresses, and --vision-listen {} is none",
                                      options.vision_listen)},
                    exit_usage);
    const bool tls = !options.tls.ca.empty() && !options.tls.certificate.empty() && !options.tls.key.empty();
    if (!tls && !options.tls.insecure)
        return fail(
            Error{
                "reports are served over mutual TLS: give --ca, --certificate and --key (scripts/certificates.sh makes "
                "some), or --insecure with --vision-listen on a loopback address"},
            exit_usage);
    const double low = options.vision.region_options.low;
    if (low < Detections::least_score || low > options.vision.region_options.high)
        return fail(Error{fmt::format("--region-low {}: from {} to --region-high", low, Detections::least_score)},
                    exit_usage);
    if (options.without_vision && options.vision.gradients > 0)
        return fail(Error{"--gradients needs the vision network: not with --without-vision"}, exit_usage);

    std::unique_ptr<video::LineFile> results;
    if (!options.results.empty()) {
        Result<std::unique_ptr<video::LineFile>> opened = video::LineFile::open(options.results);
        if (!opened) return fail(opened.error());
        results = std::move(*opened);
    }
    if (!options.vision.pictures.empty())
        if (Status made = make_directories(options.vision.pictures); !made) return fail(made.error());

    Camera::Shared shared;
    shared.vision = options.vision;
    std::unique_ptr<Detections> detections;
    std::unique_ptr<VisionPool> pool;
    if (!options.without_vision || !options.detections.empty()) {
        Detections::Options cache{.model = "", .file = options.detections, .most = options.cached};
        if (!options.without_vision) {
            Result<std::string> hash = model_hash(options.model);
            if (!hash)
                return fail(
                    Error{hash.error().message + ": 'make deps' fetches the default network; or --without-vision"});
            cache.model = *hash;
        }
        Result<std::unique_ptr<Detections>> opened = Detections::open(cache);
        if (!opened) return fail(opened.error());
        detections = std::move(*opened);
        const Detections::Counters counters = detections->counters();
        if (!options.detections.empty())
            spdlog::info("{}: boxes of {} pictures; {} lines passed over", options.detections, counters.loaded,
                         counters.passed_over);
    }
    if (!options.without_vision || !options.vision.pictures.empty()) {
        VisionPool::Options pooling{.threads = options.threads, .queue = options.queue, .open = {}};
        if (!options.without_vision) {
            // Pictures side by side keep the cores busier than one picture on all of them.
            prepare_process(1);
            pooling.open = [&options] { return open_detector(options.model); };
        }
        Result<std::unique_ptr<VisionPool>> started = VisionPool::start(pooling);
        if (!started) return fail(started.error());
        pool = std::move(*started);
    }
    shared.pool = pool.get();
    shared.network = !options.without_vision;
    shared.detections = detections.get();
    ReportHub reports;
    shared.on_report = [&reports](const std::string& gateway, pb::CameraReport report) {
        reports.publish(gateway, std::move(report));
    };
    const ResultOptions writing{
        .same_clock = options.server.same_clock, .boxes = options.boxes, .score = options.vision.score};
    shared.on_chunk = [&](const std::string& gateway, uint32_t camera, const ChunkResult& chunk) {
        if (results) results->write(chunk_json(gateway, camera, chunk, writing).dump());
    };

    options.server.listen = *at;
    options.server.background_bytes = options.background_mb << 20;
    options.server.gateways.insert(options.gateways.begin(), options.gateways.end());
    Result<std::unique_ptr<Server>> server = Server::listen(options.server, shared, stop.get_token());
    if (!server) return fail(server.error());
    options.tls.listen = *vision_at;
    Result<std::unique_ptr<VisionServer>> vision = VisionServer::start(reports, options.tls);
    if (!vision) return fail(vision.error());
    std::printf("ready %s:%u vision %s:%d\n", at->host.empty() ? "*" : at->host.c_str(), (*server)->port(),
                vision_at->host.empty() ? "*" : vision_at->host.c_str(), (*vision)->port());
    std::fflush(stdout);
    notify_ready(fmt::format("video at {}, reports at {}", options.listen, options.vision_listen));

    const Status ran = (*server)->run();
    // In this order: no more pictures, then no more boxes, so that every chunk is written; the gateways hear the last
    // of it.
    if (pool) pool->stop();
    Json summary = summary_json(**server, reports, detections.get(), options.server.same_clock);
    vision->reset();
    if (results) results->write(Json{{"summary", summary}}.dump());
    uint64_t chunks = 0;
    uint64_t decoded = 0;
    uint64_t seen = 0;
    uint64_t left_out = 0;
    for (const Json& camera : summary["cameras"]) {
        chunks += camera["chunks"].get<uint64_t>();
        decoded += camera["decoded"].get<uint64_t>();
        seen += camera["seen"].get<uint64_t>();
        left_out += camera["left_out"].get<uint64_t>();
    }
    const ServerCounters counters = (*server)->counters();
    spdlog::info(
        "{} cameras, {} chunks, {} pictures decoded, {} looked at, {} left out; {} reports, {} dropped; {} "
        "connections, {} "
        "refused, {} malformed, {} broken",
        summary["cameras"].size(), chunks, decoded, seen, left_out, reports.counters().reports,
        reports.counters().dropped, counters.connections, counters.refused, counters.malformed, counters.broken);
    server->reset();
    if (!ran) return fail(ran.error());
    if (results)
        if (Status written = results->status(); !written) return fail(written.error());
    return exit_ok;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "The far end of the gateways' cameras: receives them from adapath-relay, decodes, runs the vision network, and "
        "tells each "
        "gateway over gRPC what its chunks were worth. Prints \"ready ADDR:PORT vision ADDR:PORT\" on stdout when it "
        "listens; runs "
        "until SIGINT or SIGTERM.\n"
        "Exit codes: 0 stopped, and everything was written; 1 a file or socket failed; 2 wrong usage."};
    app.set_version_flag("--version", adapath::kVersion);
    Options options;
    options.model = fetched_file("detector/centernet.json");
    VisionOptions& vision = options.vision;

    app.add_option("--listen", options.listen,
                   "ADDR:PORT for the relays' video, in plain TCP; port 0 lets the kernel choose")
        ->capture_default_str();
    app.add_option("--gateway", options.gateways,
                   "Let in this gateway's cameras, and no others' (repeatable; default: all)");
    app.add_option("--most-gateways", options.server.most_gateways, "Gateways that are remembered")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str();
    app.add_option("--most-cameras", options.server.most_cameras, "Cameras of a gateway")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str();
    app.add_option("--most-connections", options.server.most_connections, "Connections at a time")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str();
    app.add_option("--most-connections-a-peer", options.server.most_connections_a_peer, "Of them, from one address")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str();
    app.add_option("--background-mb", options.background_mb,
                   "Memory for the backgrounds that senders ask to be remembered, MB of all cameras together (23 bytes "
                   "a pixel: 20 MB for a camera of 1280x720); one that finds no room is told")
        ->check(CLI::Range(0, 65536))
        ->capture_default_str();

    app.add_option("--vision-listen", options.vision_listen, "ADDR:PORT for the gateways that listen to reports (gRPC)")
        ->capture_default_str()
        ->group("Reports");
    app.add_option("--ca", options.tls.ca, "PEM: who signed the gateways' certificates")->group("Reports");
    app.add_option("--certificate", options.tls.certificate, "PEM: the server's certificate")->group("Reports");
    app.add_option("--key", options.tls.key, "PEM: its key")->group("Reports");
    app.add_flag("--insecure", options.tls.insecure, "No TLS and no names checked; on a loopback address only")
        ->group("Reports");

    app.add_option("--model", options.model,
                   "Detector: the TF.js CenterNet that 'make deps' fetched, or your own TorchScript (*.pt, "
                   "see docs/detector.md)")
        ->capture_default_str()
        ->group("Vision");
    app.add_flag("--without-vision", options.without_vision,
                 "Run no network: decode and measure only; with --detections, boxes of the pictures that are known")
        ->group("Vision");
    app.add_option("--detections", options.detections,
                   "What the network found, kept in this file: the same picture is not looked at "
                   "twice. It grows with every new picture")
        ->group("Vision");
    app.add_option("--cached", options.cached, "Pictures whose boxes are kept in memory")
        ->check(CLI::Range(1, 100'000'000))
        ->capture_default_str()
        ->group("Vision");
    app.add_option("--threads", options.threads, "Pictures that are looked at at a time")
        ->check(CLI::Range(1, 256))
        ->capture_default_str()
        ->group("Vision");
    app.add_option("--queue", options.queue, "Pictures of a camera that wait; beyond it some are left out")
        ->check(CLI::Range(2, 1024))
        ->capture_default_str()
        ->group("Vision");
    app.add_option("--every", vision.every, "Look at each n-th picture of a chunk")
        ->check(CLI::Range(1, 1000))
        ->capture_default_str()
        ->group("Vision");
    app.add_option("--score", vision.score, "Boxes below do not count for accuracy")
        ->check(CLI::Range(Detections::least_score, 1.0))
        ->capture_default_str()
        ->group("Vision");
    app.add_option("--iou", vision.iou, "Intersection over union from which on two boxes match")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str()
        ->group("Vision");
    app.add_flag("--regions", vision.regions, "Ask for regions that the network is unsure of (DDS)")->group("Vision");
    app.add_option("--region-low", vision.region_options.low, "Boxes of this score are unsure,")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str()
        ->group("Vision");
    app.add_option("--region-high", vision.region_options.high, "and up to this one")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str()
        ->group("Vision");
    app.add_option("--most-regions", vision.region_options.most, "Regions of a chunk, the best scores first")
        ->check(CLI::Range(1, 256))
        ->capture_default_str()
        ->group("Vision");
    app.add_option("--gradients", vision.gradients,
                   "Accuracy gradients, the labels of the app qp, for this share of the chunks of "
                   "which both renditions came (about 2.4 pictures' cost each), and of the chunks of cameras that have "
                   "one rendition only (adapath-video-send --qp), whose pictures are made worse here to compare")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str()
        ->group("Vision");

    app.add_option("--results", options.results, "JSON lines, one a chunk, last a summary, to this file; - is stdout")
        ->group("Output");
    app.add_flag("--boxes", options.boxes, "With each picture's boxes")->group("Output");
    app.add_flag("--same-clock", options.server.same_clock, "The gateways run on this machine: tell delays")
        ->group("Output");
    app.add_option("--pictures", vision.pictures, "Sample pictures with their boxes drawn, as PNG, into this directory")
        ->group("Output");
    app.add_option("--picture-every", vision.picture_every, "Seconds between two of a camera's rendition")
        ->check(CLI::Range(0.1, 86400.0))
        ->capture_default_str()
        ->group("Output");
    app.add_option("--log-level", options.log_level, "trace, debug, info, warning, error or off")
        ->capture_default_str()
        ->group("Output");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_ok : exit_usage;
    }
    if (Status log = setup_log("adapath-server", options.log_level); !log) {
        fmt::print(stderr, "adapath-server: {}\n", log.error().message);
        return exit_usage;
    }
    return run(options);
}
