// adapath-video-send: N cameras that play a clip live over TCP.
#include <algorithm>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <CLI/CLI.hpp>
#include <spdlog/spdlog.h>

#include "codegen/version.h"
#include "userspace/qp/region_live_encoder.h"
#include "userspace/video/camera.h"
#include "userspace/video/clip.h"
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
    RegionLiveOptions qp;  // an empty directory: one quality, as the bitrate asks for
};

int run(const Options& options) {
    SignalStop signals;
    setup_logging("adapath-video-send", options.verbose);
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
    const LiveEncoderFactory encoder =
        options.qp.directory.empty() ? LiveEncoderFactory(open_plain_encoder) : region_encoders(options.qp);
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
        camera.duration_ns = static_cast<uint64_t>(options.duration_s * 1e9);
        Result<std::unique_ptr<Camera>> connected =
            Camera::connect(camera, *clip, *server, connection, signals.token(), report);
        if (!connected) {
            return signals.stopped() ? static_cast<int>(exit_ok) : fail(connected.error());
        }
        cameras.push_back(std::move(*connected));
    }
    spdlog::info("{} cameras to {} with {}, {} fps, {}", options.cameras, options.server,
                 cameras.front()->stats().congestion_control, options.fps,
                 options.saturate   ? "saturating"
                 : options.adaptive ? fmt::format("{} to {} kbit/s each", options.min_kbps, options.max_kbps)
                                    : fmt::format("{} kbit/s each", options.start_kbps));

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

    std::vector<CameraStats> all;
    bool failed = false;
    for (const std::unique_ptr<Camera>& camera : cameras) {
        all.push_back(camera->stats());
        failed = failed || !camera->stats().error.empty();
    }
    Json summary = summary_json(all);
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
        "Exit codes: 0 done (also after SIGINT or SIGTERM), 1 a stream or file failed, 2 wrong usage."};
    app.set_version_flag("--version", adapath::kVersion);
    Options options;
    app.add_option("--clip", options.clip,
                   "Video file, anything that libav reads; played in a loop, one picture a frame")
        ->required();
    app.add_option("--server", options.server, "Receiver's HOST:PORT")->required();
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
    CLI::Option* qp = app.add_option("--qp", options.qp.directory,
                                     "Regions of two qualities: the directory that adapathd's app qp shares "
                                     "(host_directory). Without a snapshot there, "
                                     "each chunk has one quality");
    const auto with_qp = [&](CLI::Option* option) { option->needs(qp)->capture_default_str(); };
    with_qp(app.add_option("--qp-threshold", options.qp.threshold,
                           "Macroblocks with at least this logit get the high quality")
                ->check(CLI::Range(-1000.0, 1000.0)));
    with_qp(app.add_option("--qp-dilation", options.qp.dilation, "And those so many macroblocks away")
                ->check(CLI::Range(0, 255)));
    with_qp(
        app.add_option("--qp-gap", options.qp.gap, "Quantisers between the two qualities")->check(CLI::Range(1, 30)));
    with_qp(app.add_option("--qp-group", options.qp.group, "Pictures a chunk, the first of them a key frame")
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
