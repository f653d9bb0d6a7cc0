// adapath-video-recv: receives and decodes cameras, and measures every frame.
#include <cstdio>
#include <memory>
#include <string>

#include <CLI/CLI.hpp>
#include <spdlog/spdlog.h>

#include "codegen/version.h"
#include "userspace/video/receiver.h"
#include "userspace/video/report.h"
#include "userspace/video/tool.h"

using namespace adapath;
using namespace adapath::video;

namespace {

struct Options {
    std::string listen;
    unsigned cameras = 1;
    uint64_t late_ms = 400;
    uint64_t stall_ms = 500;
    std::string stats;
    std::string frames;
    std::string summary;
    bool verbose = false;
};

int run(const Options& options) {
    SignalStop signals;
    setup_logging("adapath-video-recv", options.verbose);
    auto fail = [](const Error& error, int code = exit_failed) {
        spdlog::error("{}", error.message);
        return code;
    };

    Result<HostPort> at = parse_host_port(options.listen, "--listen");
    if (!at) {
        return fail(at.error(), exit_usage);
    }
    std::unique_ptr<LineFile> stats;
    std::unique_ptr<LineFile> frames;
    for (auto [path, file] : {std::pair{&options.stats, &stats}, std::pair{&options.frames, &frames}}) {
        if (path->empty()) {
            continue;
        }
        Result<std::unique_ptr<LineFile>> opened = LineFile::open(*path);
        if (!opened) {
            return fail(opened.error());
        }
        *file = std::move(*opened);
    }
    if (frames) {
        frames->write(frames_csv_header());
    }

    ReceiverOptions receiving;
    receiving.listen = *at;
    receiving.cameras = options.cameras;
    receiving.late_ns = options.late_ms * 1'000'000;
    receiving.stall_ns = options.stall_ms * 1'000'000;
    if (frames) {
        receiving.on_frame = [&frames](const FrameRecord& record, const AVFrame*) {
            frames->write(frames_csv(record));
        };
    }
    if (stats) {
        receiving.on_second = [&stats](const StreamStats& stream, const StreamInterval& interval) {
            stats->write(second_json(stream, interval).dump());
        };
    }
    Result<std::unique_ptr<Receiver>> receiver = Receiver::listen(receiving, signals.token());
    if (!receiver) {
        return fail(receiver.error());
    }
    std::printf("ready %s:%u\n", at->host.empty() ? "*" : at->host.c_str(), (*receiver)->port());
    std::fflush(stdout);

    Status loop;
    for (;;) {
        Result<bool> more = (*receiver)->step();
        if (!more) {
            loop = more.error();
            signals.stop();  // end what is connected, so that the summary is complete
            (void)(*receiver)->step();
            break;
        }
        if (!*more) {
            break;
        }
    }

    std::vector<StreamStats> streams = (*receiver)->streams();
    Json summary = summary_json(streams);
    summary["rejected_connections"] = (*receiver)->rejected();
    summary["late_ms"] = options.late_ms;
    summary["cpu_seconds"] = cpu_seconds();
    if (!options.summary.empty()) {
        if (Status written = write_json(summary, options.summary); !written) {
            return fail(written.error());
        }
    }
    const Json& total = summary["total"];
    const Json& delay = total["delay_ms"];
    spdlog::info("{} frames sent, {} decoded, {} lost, {} late; delay p50 {} p95 {} p99 {} ms; {} stalls",
                 total["frames_sent"].dump(), total["frames_decoded"].dump(), total["frames_lost"].dump(),
                 total["frames_late"].dump(), delay["p50"].dump(), delay["p95"].dump(), delay["p99"].dump(),
                 total["stalls"].dump());
    if (!loop) {
        return fail(loop.error());
    }
    for (const std::unique_ptr<LineFile>* file : {&stats, &frames}) {
        if (*file) {
            if (Status written = (*file)->status(); !written) {
                return fail(written.error());
            }
        }
    }
    if (signals.stopped()) {
        return exit_ok;
    }
    for (const StreamStats& stream : streams) {
        if (!stream.ended) {
            return exit_failed;
        }
    }
    return exit_ok;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "Receives cameras from adapath-video-send, decodes every frame and measures it. Prints \"ready ADDR:PORT\" on "
        "stdout "
        "when it listens, and ends when all cameras have ended.\n"
        "Exit codes: 0 done (also after SIGINT or SIGTERM), 1 a stream broke off or a file failed, 2 wrong usage."};
    app.set_version_flag("--version", adapath::kVersion);
    Options options;
    app.add_option("--listen", options.listen, "ADDR:PORT to listen on; port 0 lets the kernel choose")->required();
    app.add_option("--cameras", options.cameras, "End when this many cameras have ended")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    app.add_option("--late-ms", options.late_ms, "A frame decoded later than this after capture is late, ms")
        ->check(CLI::Range(1, 60000))
        ->capture_default_str();
    app.add_option("--stall-ms", options.stall_ms, "A gap between decoded frames longer than this is a stall, ms")
        ->check(CLI::Range(1, 60000))
        ->capture_default_str();
    app.add_option("--stats", options.stats, "JSON lines, one a second and camera, to this file; - is stdout");
    app.add_option("--frames", options.frames,
                   "CSV, one line a frame: camera,frame,sent_ns,received_ns,decoded_ns,bytes,key,picture; times are "
                   "CLOCK_MONOTONIC ns; - is stdout");
    app.add_option("--summary", options.summary, "JSON summary to this file at the end; - is stdout");
    app.add_flag("--verbose", options.verbose, "Debug messages, libav's among them");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_ok : exit_usage;
    }
    return run(options);
}
