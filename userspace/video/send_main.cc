// adapath-video-send: N cameras that play a clip live over TCP, to adapath-video-recv or to adapath-server.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <grpc/support/log.h>
#include <spdlog/spdlog.h>

#include "codegen/version.h"
#include "userspace/camera/record_stream.h"
#include "userspace/qp/live_selector.h"
#include "userspace/qp/region_live_encoder.h"
#include "userspace/relay/feedback.h"
#include "userspace/relay/record_bytes.h"
#include "userspace/relay/vision_options.h"
#include "userspace/video/camera.h"
#include "userspace/video/clip.h"
#include "userspace/video/destination.h"
#include "userspace/video/report.h"
#include "userspace/video/tool.h"

using namespace adapath;
using namespace adapath::video;

namespace {

struct Options {
    std::string clip;
    std::string server;
    unsigned cameras = 1;
    unsigned first_camera = 0;
    std::string congestion_control;
    double fps = 25;
    std::string size;
    double start_kbps = 1500;
    double min_kbps = 300;
    double max_kbps = 12000;
    double duration_s = 0;
    std::string stats;
    std::string summary;
    bool adaptive = true;
    bool saturate = false;
    int lowat_kb = 16;
    uint64_t memory_mb = 600;
    bool verbose = false;
    RegionLiveOptions qp;             // neither directory nor background: one quality, as the bitrate asks for
    relay::FeedbackOptions feedback;  // its gateway empty: our own framing, for adapath-video-recv
    relay::VisionKeys keys;
};

// A report is the encoder's of that camera.
void hand_on(const pb::CameraReport& report, unsigned first_camera,
             const std::vector<std::unique_ptr<Camera>>& cameras) {
    if (report.camera() < first_camera || report.camera() - first_camera >= cameras.size()) {
        return;
    }
    EncoderRequests* requests = cameras[report.camera() - first_camera]->requests();
    if (requests == nullptr) {
        return;
    }
    if (report.has_regions()) {
        std::vector<EncoderRequests::Region> regions;
        for (const pb::Regions::Region& region : report.regions().regions()) {
            regions.push_back({region.x0(), region.y0(), region.x1(), region.y1()});
        }
        requests->ask(std::move(regions));
    } else if (report.has_background_lost()) {
        requests->lost({report.background_lost().epoch(), report.background_lost().no_room()});
    }
}

Json feedback_json(const relay::Feedback::Counters& counters) {
    return {{"server", counters.server_there}, {"daemon", counters.daemon_there}, {"reports", counters.reports},
            {"refused", counters.refused},     {"forwarded", counters.forwarded}, {"lost", counters.lost},
            {"watches", counters.watches},     {"feeds", counters.feeds}};
}

int run(const Options& options) {
    SignalStop signals;
    setup_logging("adapath-video-send", options.verbose);
    // gRPC has its own words for each attempt that fails; ours are said once.
    gpr_set_log_function([](gpr_log_func_args* said) { spdlog::debug("gRPC: {}", said->message); });
    auto fail = [](const Error& error, int code = exit_failed) {
        spdlog::error("{}", error.message);
        return code;
    };

    Result<HostPort> server = parse_host_port(options.server, "--server");
    if (!server) {
        return fail(server.error(), exit_usage);
    }
    Size size;
    if (!options.size.empty()) {
        Result<Size> parsed = parse_size(options.size);
        if (!parsed) {
            return fail(parsed.error(), exit_usage);
        }
        size = *parsed;
    }
    std::unique_ptr<LineFile> stats;
    if (!options.stats.empty()) {
        Result<std::unique_ptr<LineFile>> opened = LineFile::open(options.stats);
        if (!opened) {
            return fail(opened.error());
        }
        stats = std::move(*opened);
    }

    Result<Clip> clip = Clip::load(options.clip, size, options.memory_mb << 20);
    if (!clip) {
        return fail(clip.error());
    }
    spdlog::info("clip {}: {} pictures of {}x{}, {} MB{}", options.clip, clip->pictures(), clip->size().width,
                 clip->size().height, clip->bytes() >> 20,
                 clip->truncated() ? "; the rest is over the budget (--memory-mb) and left out" : "");

    ConnectOptions connection;
    connection.congestion_control = options.congestion_control;
    connection.notsent_lowat = options.lowat_kb * 1024;
    auto report = [&stats](const CameraStats& camera) {
        if (stats) {
            stats->write(second_json(camera, now_ns()).dump());
        }
    };
    if (!options.qp.directory.empty() && !options.qp.background) {
        // Nothing that a sender hears says whether they pay (docs/qp.md), so that it cannot be left to a trial.
        spdlog::warn(
            "--qp alone: two qualities by the selector's mask mostly took more bytes than one quality for the same "
            "accuracy, and whether they save here is not found out; --qp-background saves, and stops where it does "
            "not");
    }
    const bool regions = !options.qp.directory.empty() || options.qp.background;
    const LiveEncoderFactory encoder = regions ? region_encoders(options.qp) : LiveEncoderFactory(open_plain_encoder);
    relay::FeedbackOptions feedback_options = options.feedback;
    feedback_options.cameras = options.first_camera + options.cameras;
    if (!feedback_options.vision.empty()) {
        Result<HostPort> vision = parse_host_port(feedback_options.vision, "--vision");
        if (!vision) {
            return fail(vision.error(), exit_usage);
        }
        if (Status read = relay::read_keys(options.keys, feedback_options); !read) {
            return fail(read.error());
        }
    }
    // A receiver of measurements counts a broken connection as a failure, and so does its sender. A server's cameras go
    // on: it may restart, and the link may be gone for a while.
    std::optional<Destination> destination;
    if (!options.feedback.gateway.empty()) {
        destination.emplace(*server);
    }
    std::vector<std::unique_ptr<Camera>> cameras;
    for (unsigned i = 0; i < options.cameras; i++) {
        CameraOptions camera;
        camera.camera = static_cast<uint16_t>(options.first_camera + i);
        camera.rate.fps = options.fps;
        camera.rate.start_kbps = options.start_kbps;
        camera.rate.min_kbps = options.min_kbps;
        camera.rate.max_kbps = options.max_kbps;
        camera.rate.adaptive = options.adaptive;
        camera.rate.saturate = options.saturate;
        camera.first_picture = static_cast<uint64_t>(i) * clip->pictures() / options.cameras;
        // Real cameras don't take their pictures at the same moment.
        camera.start_delay_ns = static_cast<uint64_t>(i * 1e9 / options.fps / options.cameras);
        camera.encoder = encoder;
        if (!options.feedback.gateway.empty()) {
            camera.format = camera::record_streams(options.feedback.gateway);
            camera.destination = &*destination;
        }
        camera.duration_ns = static_cast<uint64_t>(options.duration_s * 1e9);
        Result<std::unique_ptr<Camera>> connected =
            Camera::connect(camera, *clip, *server, connection, signals.token(), report);
        if (!connected) {
            return signals.stopped() ? static_cast<int>(exit_ok) : fail(connected.error());
        }
        cameras.push_back(std::move(*connected));
    }
    spdlog::info("{} cameras to {} with {}, {} fps, {}", options.cameras, options.server,
                 options.congestion_control.empty() ? "the kernel's congestion control" : options.congestion_control,
                 options.fps,
                 options.saturate   ? "saturating"
                 : options.adaptive ? fmt::format("{} to {} kbit/s each", options.min_kbps, options.max_kbps)
                                    : fmt::format("{} kbit/s each", options.start_kbps));

    // Ends before the cameras that its reports go to.
    feedback_options.on_report = [&cameras, first = options.first_camera](const pb::CameraReport& told) {
        hand_on(told, first, cameras);
    };
    std::optional<relay::Feedback> feedback;
    if (!feedback_options.vision.empty()) {
        feedback.emplace(feedback_options);
    }
    {
        std::vector<std::jthread> threads;
        for (const std::unique_ptr<Camera>& camera : cameras) {
            threads.emplace_back([&camera] {
                for (;;) {
                    Result<bool> more = camera->step();
                    if (!more) {
                        spdlog::error("{}", more.error().message);
                        return;
                    }
                    if (!*more) {
                        return;
                    }
                }
            });
        }
    }

    const relay::Feedback::Counters told = feedback ? feedback->counters() : relay::Feedback::Counters{};
    const bool watched = feedback.has_value();
    feedback.reset();
    std::vector<CameraStats> all;
    bool failed = false;
    for (const std::unique_ptr<Camera>& camera : cameras) {
        all.push_back(camera->stats());
        failed = failed || !camera->stats().error.empty();
    }
    Json summary = summary_json(all);
    if (watched) {
        summary["feedback"] = feedback_json(told);
    }
    summary["cpu_seconds"] = cpu_seconds();
    summary["fps"] = options.fps;
    summary["width"] = clip->size().width;
    summary["height"] = clip->size().height;
    if (!options.summary.empty()) {
        if (Status written = write_json(summary, options.summary); !written) {
            return fail(written.error());
        }
    }
    const Json& total = summary["total"];
    spdlog::info("{} frames sent, {} skipped before encoding, {} missed for want of CPU, {} kbit/s, {} retransmits",
                 total["frames_sent"].dump(), total["frames_skipped"].dump(), total["frames_overrun"].dump(),
                 total["kbps"].dump(), total["retransmits"].dump());
    if (const uint64_t away = total["frames_away"]; away > 0) {
        spdlog::warn("{} frames were not encoded while the server was away", away);
    }
    if (stats) {
        if (Status written = stats->status(); !written) {
            return fail(written.error());
        }
    }
    return failed ? exit_failed : exit_ok;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "Plays a clip as N live cameras: H.264 (x264, zero latency) over one TCP connection each. The bitrate follows "
        "what "
        "each socket delivers; a frame that the socket does not want in time is skipped before it is encoded.\n"
        "To adapath-video-recv, or with --gateway to adapath-server as that gateway's cameras; with --vision the "
        "server's "
        "reports come back: regions that it wants to see better, and lost backgrounds. While that server is away, "
        "video "
        "is dropped, and the connection tried again and again.\n"
        "Exit codes: 0 done (also after SIGINT or SIGTERM), 1 a stream or file failed, 2 wrong usage."};
    app.set_version_flag("--version", adapath::kVersion);
    Options options;
    std::vector<const CLI::Option*> needing_either;  // --qp or --qp-background
    app.add_option("--clip", options.clip,
                   "Video file, anything that libav reads; played in a loop, one picture a frame")
        ->required();
    app.add_option("--server", options.server,
                   "HOST:PORT of adapath-video-recv; with --gateway, of adapath-server (its --listen)")
        ->required();
    app.add_option("--cameras", options.cameras, "Number of cameras; each starts elsewhere in the clip")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    app.add_option("--first-camera", options.first_camera,
                   "Number of the first camera, for several senders to one receiver")
        ->check(CLI::Range(0, 65000))
        ->capture_default_str();
    app.add_option("--cc", options.congestion_control, "TCP congestion control (default: the kernel's)");
    app.add_option("--fps", options.fps, "Frames per second of each camera")
        ->check(CLI::Range(1.0, 120.0))
        ->capture_default_str();
    app.add_option("--size", options.size, "WIDTHxHEIGHT in pixels, even (default: the clip's)");
    app.add_option("--start-kbps", options.start_kbps,
                   "First bitrate of each camera, kbit/s; the only one with --no-adaptive")
        ->check(CLI::Range(50.0, 200000.0))
        ->capture_default_str();
    app.add_option("--min-kbps", options.min_kbps, "Least bitrate of each camera, kbit/s")
        ->check(CLI::Range(50.0, 200000.0))
        ->capture_default_str();
    CLI::Option* max_kbps = app.add_option("--max-kbps", options.max_kbps,
                                           "Highest bitrate of each camera, kbit/s (with --saturate: 50000)")
                                ->check(CLI::Range(50.0, 200000.0))
                                ->capture_default_str();
    app.add_option("--duration", options.duration_s, "Seconds to stream; 0 = until stopped")
        ->check(CLI::Range(0.0, 1e7))
        ->capture_default_str();
    app.add_option("--stats", options.stats, "JSON lines, one a second and camera, to this file; - is stdout");
    app.add_option("--summary", options.summary, "JSON summary to this file at the end; - is stdout");
    app.add_flag("--adaptive,!--no-adaptive", options.adaptive, "Let the bitrate follow the socket (default: yes)");
    CLI::Option* saturate =
        app.add_flag("--saturate", options.saturate,
                     "Never leave the socket idle: encode at whatever it takes, at the price of skipped frames");
    app.add_option("--notsent-lowat", options.lowat_kb, "TCP_NOTSENT_LOWAT, KiB: data the socket may hold unsent")
        ->check(CLI::Range(1, 4096))
        ->capture_default_str();
    app.add_option("--memory-mb", options.memory_mb, "Memory for the decoded clip, MB; pictures beyond it are left out")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str();
    CLI::Option* gateway =
        app.add_option("--gateway", options.feedback.gateway,
                       "Send to adapath-server, under this gateway's name (letters, digits, '.', '_', '-'): RTP in the "
                       "relay's records, the main rendition")
            ->check([](const std::string& name) {
                return relay::is_gateway_name(name) ? std::string() : "1 to 63 of letters, digits, '.', '_' and '-'";
            });
    CLI::Option* vision = relay::add_vision_options(app, options.feedback, options.keys)->needs(gateway);
    app.add_option("--daemon", options.feedback.daemon,
                   "unix:PATH of adapathd's socket: it gets the server's reports too, to learn from")
        ->needs(vision);
    CLI::Option* qp = app.add_option("--qp", options.qp.directory,
                                     "Regions of two qualities: the directory that adapathd's app qp shares "
                                     "(host_directory). Without a snapshot there, each chunk has one quality. Mostly "
                                     "costs bytes at equal accuracy; with --qp-background its samples are all that is "
                                     "made of it");
    CLI::Option* background =
        app.add_flag("--qp-background", options.qp.background,
                     "The server remembers the background (adapath-server only): what stands still is sent once, what "
                     "moves gets the bytes. Where that does not save bytes, chunks are of one quality; some are "
                     "encoded "
                     "twice to find out (at first 5 of 35, then ever fewer; while it saves, 1 of 30)")
            ->needs(gateway);
    app.add_flag("--qp-background-always", options.qp.always, "Without finding out: the background, saving or not")
        ->needs(background);
    const auto with_qp = [&](CLI::Option* option) { option->needs(qp)->capture_default_str(); };
    const auto with_either = [&](CLI::Option* option) {
        option->capture_default_str();
        needing_either.push_back(option);
    };
    with_qp(app.add_option("--qp-threshold", options.qp.threshold,
                           "Macroblocks with at least this logit get the high quality")
                ->check(CLI::Range(-1000.0, 1000.0)));
    with_qp(app.add_option("--qp-dilation", options.qp.dilation, "And those so many macroblocks away")
                ->check(CLI::Range(0, 255)));
    with_qp(app.add_option("--qp-samples", options.qp.samples,
                           "Macroblocks a chunk that adapathd is told of, some 2 KB each: more of them prove and teach "
                           "more; those that it does not fetch in time are lost")
                ->check(CLI::Range(1U, kQpSamplesMost)));
    with_qp(app.add_option("--qp-explore", options.qp.explore,
                           "Share of the chunks that have one quality whatever the selector says, so that the server's "
                           "labels, from which it learns, do not lean to what it chose; 0: none. Without "
                           "--qp-background only, with which it has no say")
                ->check(CLI::Range(0.0, 0.99)));
    with_either(app.add_option("--qp-gap", options.qp.gap,
                               "Quantisers between the two qualities; with --qp-background, between what is shown and "
                               "regions that the server asks for")
                    ->check(CLI::Range(1, 30)));
    with_either(app.add_option("--qp-group", options.qp.group, "Pictures a chunk, the first of them a key frame")
                    ->check(CLI::Range(1, 1000)));
    app.add_flag("--verbose", options.verbose, "Debug messages, x264's and libav's among them");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_ok : exit_usage;
    }
    auto usage = [](const char* message) {
        std::fprintf(stderr, "adapath-video-send: %s\n", message);
        return static_cast<int>(exit_usage);
    };
    for (const CLI::Option* option : needing_either) {
        if (option->count() > 0 && qp->count() == 0 && background->count() == 0) {
            return usage((option->get_name() + " needs --qp or --qp-background").c_str());
        }
    }
    if (options.saturate && !options.adaptive) {
        return usage("--saturate and --no-adaptive exclude each other");
    }
    if (saturate->count() > 0 && max_kbps->count() == 0) {
        options.max_kbps = 50000;
    }
    if (options.min_kbps > options.max_kbps) {
        return usage("--min-kbps is above --max-kbps");
    }
    return run(options);
}
