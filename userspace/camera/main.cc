// adapath-camera: IP cameras made of a clip.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "codegen/version.h"
#include "userspace/camera/encoded.h"
#include "userspace/camera/player.h"
#include "userspace/camera/view.h"
#include "userspace/common/file.h"
#include "userspace/video/report.h"
#include "userspace/video/tool.h"

using namespace adapath;
using namespace adapath::camera;
using adapath::video::exit_failed;
using adapath::video::exit_ok;
using adapath::video::exit_usage;
using adapath::video::Json;

namespace {

struct Options {
    std::vector<std::string> clips;
    std::string host;
    std::string source;
    std::string window = "512x384";
    std::string sub_size;
    LayoutOptions layout;
    EncodingOptions encoding;
    PlayOptions play;
    unsigned sub_port = 5000;
    unsigned main_port = 5001;
    unsigned port_step = 0;
    uint32_t seed = 1;
    unsigned payload_type = 96;
    uint64_t memory_mb = 1200;
    bool list = false;
    bool sizes = false;
    bool verbose = false;
};

// Another one for each seed, camera and rendition; the same each time.
uint32_t ssrc_of(uint32_t seed, unsigned camera, uint32_t rendition) {
    uint32_t x = seed * 0x9e3779b9U + camera * ADP_SELECT_RENDITIONS + rendition + 1;
    x = (x ^ x >> 16) * 0x85ebca6bU;
    x = (x ^ x >> 13) * 0xc2b2ae35U;
    return x ^ x >> 16;
}

Json quality_json(const Quality& quality) {
    return quality.qp != 0 ? Json{{"qp", quality.qp}} : Json{{"kbps", quality.kbps}};
}

// One line a camera: what another program needs to make the same pictures, and where they go.
Json camera_json(const View& view, const Route& route, const Options& options) {
    Json json;
    json["camera"] = view.camera;
    json["clip"] = options.clips[view.clip];
    json["window"] = {{"x", view.window.x},
                      {"y", view.window.y},
                      {"width", view.window.size.width},
                      {"height", view.window.size.height}};
    json["from"] = view.from;
    json["to"] = view.to;
    json["first"] = view.first;
    json["pictures"] = view.pictures;
    json["fps"] = options.encoding.fps;
    json["group"] = options.encoding.group;
    json["preset"] = options.encoding.preset;
    json["address"] = route.source;
    json["host"] = route.host;
    json["payload_type"] = options.payload_type;
    for (const adp_select_rendition which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
        Json rendition{{"width", view.sizes[which].width},
                       {"height", view.sizes[which].height},
                       {"port", route.ports[which]},
                       {"ssrc", route.ssrcs[which]}};
        rendition.update(quality_json(options.encoding.quality[which]));
        json[which == ADP_SELECT_SUB ? "sub" : "main"] = rendition;
    }
    return json;
}

Result<std::vector<Route>> routes_of(const Options& options) {
    std::vector<Route> routes;
    for (unsigned i = 0; i < options.layout.cameras; i++) {
        Route route;
        route.host = options.host;
        if (!options.source.empty()) {
            Result<std::string> address = address_plus(options.source, i);
            if (!address) {
                return Error{"--source: " + address.error().message};
            }
            route.source = *address;
        }
        const std::array<unsigned, ADP_SELECT_RENDITIONS> first = {options.sub_port, options.main_port};
        for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; which++) {
            const unsigned port = first[which] + i * options.port_step;
            if (port > 65535) {
                return Error{fmt::format("camera {} would have port {}: lower --port-step", i, port)};
            }
            route.ports[which] = static_cast<uint16_t>(port);
            route.ssrcs[which] = ssrc_of(options.seed, i, which);
        }
        routes.push_back(route);
    }
    return routes;
}

// Says how far it is, once it has taken 2 s and every 2 s from then on.
class Progress {
public:
    explicit Progress(uint64_t pictures) : pictures_(pictures) {}
    void done(uint64_t pictures) {
        const auto now = std::chrono::steady_clock::now();
        if (now - said_ >= std::chrono::seconds(2)) {
            said_ = now;
            spdlog::info("encoding: {} of {} pictures", pictures, pictures_);
        }
    }

private:
    uint64_t pictures_;
    std::chrono::steady_clock::time_point said_ = std::chrono::steady_clock::now();
};

int run(Options& options) {
    video::SignalStop signals;
    video::setup_logging("adapath-camera", options.verbose);
    const auto fail = [](const Error& error, int code = exit_failed) {
        spdlog::error("{}", error.message);
        return code;
    };
    Result<video::Size> window = video::parse_size(options.window);
    if (!window) {
        return fail(window.error(), exit_usage);
    }
    options.layout.window = *window;
    if (!options.sub_size.empty()) {
        Result<video::Size> sub = video::parse_size(options.sub_size);
        if (!sub) {
            return fail(sub.error(), exit_usage);
        }
        options.layout.sub = *sub;
    }
    Result<std::vector<Route>> routes = routes_of(options);
    if (!routes) {
        return fail(routes.error(), exit_usage);
    }

    std::vector<video::Clip> clips;
    std::vector<ClipShape> shapes;
    for (const std::string& path : options.clips) {
        Result<video::Clip> clip = video::Clip::load(path, {}, (options.memory_mb << 20) / options.clips.size());
        if (!clip) {
            return fail(clip.error());
        }
        spdlog::info("clip {}: {} pictures of {}x{}{}", path, clip->pictures(), clip->size().width, clip->size().height,
                     clip->truncated() ? "; the rest is over the budget (--memory-mb) and left out" : "");
        shapes.push_back({clip->size(), clip->pictures()});
        clips.push_back(std::move(*clip));
    }
    Result<std::vector<View>> views = lay_out(shapes, options.layout);
    if (!views) {
        return fail(views.error(), exit_usage);
    }
    std::unique_ptr<video::LineFile> listed;
    if (options.list) {
        listed = std::move(*video::LineFile::open("-"));
    }
    const auto end_of_list = [&]() -> int {
        const Status written = listed->status();
        return written ? static_cast<int>(exit_ok) : fail(written.error());
    };
    if (listed && !options.sizes) {
        for (const View& view : *views) {
            listed->write(camera_json(view, (*routes)[view.camera], options).dump());
        }
        return end_of_list();
    }

    uint64_t pictures = 0;
    for (const View& view : *views) {
        pictures += uint64_t{view.pictures} * ADP_SELECT_RENDITIONS;
    }
    Progress progress(pictures);
    std::vector<EncodedCamera> cameras;
    uint64_t before = 0;
    for (const View& view : *views) {
        Result<EncodedCamera> camera = encode(clips[view.clip], view, options.encoding, [&](uint64_t done) {
            progress.done(before + done);
            return !signals.stopped();
        });
        if (!camera) {
            return signals.stopped() ? static_cast<int>(exit_ok) : fail(camera.error());
        }
        before += uint64_t{view.pictures} * ADP_SELECT_RENDITIONS;
        cameras.push_back(std::move(*camera));
    }
    clips.clear();  // hundreds of MB that nobody needs any more

    for (const EncodedCamera& camera : cameras) {
        std::array<double, ADP_SELECT_RENDITIONS> kbps{};
        for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; which++) {
            const EncodedRendition& rendition = camera.renditions[which];
            kbps[which] = static_cast<double>(rendition.bytes()) * 8e-3 * options.encoding.fps / rendition.pictures();
        }
        const View& view = camera.view;
        spdlog::info("camera {}: window {}x{} at {},{}, from picture {}; main {:.0f} kbit/s, sub {:.0f} kbit/s",
                     view.camera, view.window.size.width, view.window.size.height, view.window.x, view.window.y,
                     view.first, kbps[ADP_SELECT_MAIN], kbps[ADP_SELECT_SUB]);
        if (listed) {
            Json json = camera_json(view, (*routes)[view.camera], options);
            for (const adp_select_rendition which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
                std::vector<uint32_t> bytes;
                for (uint32_t i = 0; i < camera.renditions[which].pictures(); i++) {
                    bytes.push_back(camera.renditions[which].bytes(i));
                }
                json[which == ADP_SELECT_SUB ? "sub" : "main"]["bytes"] = bytes;
            }
            listed->write(json.dump());
        }
    }
    if (listed) {
        return end_of_list();
    }

    options.play.fps = options.encoding.fps;
    options.play.group = options.encoding.group;
    options.play.payload_type = static_cast<uint8_t>(options.payload_type);
    fmt::print("ready {} cameras to {}\n", cameras.size(), options.host);
    std::fflush(stdout);
    Result<std::vector<PlayTotals>> totals = play(cameras, *routes, options.play, signals.token());
    if (!totals) {
        return fail(totals.error());
    }
    uint64_t unsent = 0;
    for (size_t i = 0; i < totals->size(); i++) {
        const PlayTotals& t = (*totals)[i];
        unsent += t.unsent;
        spdlog::info("camera {}: {} pictures; main {} packets, {} KB; sub {} packets, {} KB", i,
                     t.pictures[ADP_SELECT_MAIN], t.packets[ADP_SELECT_MAIN], t.bytes[ADP_SELECT_MAIN] / 1000,
                     t.packets[ADP_SELECT_SUB], t.bytes[ADP_SELECT_SUB] / 1000);
        if (t.resyncs != 0) {
            spdlog::warn("camera {}: more than a second late {} times", i, t.resyncs);
        }
    }
    if (unsent != 0) {
        spdlog::warn("{} packets were not taken by the kernel or had nobody to receive them", unsent);
    }
    return exit_ok;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "Plays windows of a clip as IP cameras: each sends a main and a sub rendition of its pictures as RTP with "
        "H.264\n"
        "(RFC 6184) over UDP, IDR pictures of both at the same time. All is encoded once at the start, then sent in "
        "real\n"
        "time, in a loop. Prints \"ready N cameras to HOST\" on standard output when it begins to send.\n"
        "Exit codes: 0 done (also after SIGINT or SIGTERM), 1 a file or socket failed, 2 wrong usage."};
    app.set_version_flag("--version", adapath::kVersion);
    Options options;
    CLI::Option* host = app.add_option("host", options.host, "The gateway's address or name");
    app.add_option("--clip", options.clips,
                   "Video file, anything that libav reads; several: camera i plays the (i modulo their number)th "
                   "(default: the one that 'make deps' fetched, out/cache/clip/vtest.avi)");
    app.add_option("--cameras", options.layout.cameras, "Number of cameras")
        ->check(CLI::Range(1, 256))
        ->capture_default_str();
    app.add_option("--window", options.window,
                   "WIDTHxHEIGHT of each camera's window in the clip's pixels, even; the main rendition's size")
        ->capture_default_str();
    app.add_option("--sub-size", options.sub_size, "WIDTHxHEIGHT of the sub rendition, even (default: half)");
    app.add_option("--from", options.layout.from, "First of the clip's pictures that are used")->capture_default_str();
    app.add_option("--to", options.layout.to, "The one after the last; 0 = to its end")->capture_default_str();
    app.add_option("--pictures", options.layout.pictures,
                   "Pictures that each camera plays before it begins again; 0 = as many as are used")
        ->capture_default_str();
    app.add_option("--fps", options.encoding.fps, "Pictures per second of each camera")
        ->check(CLI::Range(0.5, 120.0))
        ->capture_default_str();
    app.add_option("--group", options.encoding.group, "Pictures from one IDR picture to the next")
        ->check(CLI::Range(1, 100000))
        ->capture_default_str();
    app.add_option("--preset", options.encoding.preset, "x264's preset")->capture_default_str();
    for (const adp_select_rendition which : {ADP_SELECT_MAIN, ADP_SELECT_SUB}) {
        const std::string name = which == ADP_SELECT_MAIN ? "main" : "sub";
        Quality& quality = options.encoding.quality[which];
        CLI::Option* qp =
            app.add_option("--" + name + "-qp", quality.qp, "Quantiser of the " + name + " rendition's pictures")
                ->check(CLI::Range(1, 51))
                ->capture_default_str();
        app.add_option("--" + name + "-kbps", quality.kbps, "Its bitrate instead, kbit/s")
            ->check(CLI::Range(1.0, 1e6))
            ->excludes(qp)
            ->each([&quality](const std::string&) { quality.qp = 0; });
    }
    app.add_option("--source", options.source,
                   "Address that the first camera sends from; each other one has the next (default: the kernel's "
                   "choice, the same for all)");
    app.add_option("--sub-port", options.sub_port, "UDP port of the first camera's sub rendition")
        ->check(CLI::Range(1, 65535))
        ->capture_default_str();
    app.add_option("--main-port", options.main_port, "UDP port of the first camera's main rendition")
        ->check(CLI::Range(1, 65535))
        ->capture_default_str();
    app.add_option("--port-step", options.port_step, "What each camera's ports lie above those of the one before it")
        ->capture_default_str();
    app.add_option("--payload-type", options.payload_type, "RTP payload type")
        ->check(CLI::Range(96, 127))
        ->capture_default_str();
    app.add_option("--packet-bytes", options.play.packet_bytes, "Most bytes of a packet's UDP payload")
        ->check(CLI::Range(100, 9000))
        ->capture_default_str();
    app.add_option("--spread", options.play.spread, "Share of a picture's time over which its packets are spread")
        ->check(CLI::Range(0.0, 1.0))
        ->capture_default_str();
    app.add_option("--seed", options.seed, "Of the SSRCs")->capture_default_str();
    app.add_option("--duration", options.play.duration_s, "Seconds to send; 0 = until stopped")
        ->check(CLI::Range(0.0, 1e7))
        ->capture_default_str();
    app.add_option("--memory-mb", options.memory_mb,
                   "Memory for the decoded clips, MB; pictures beyond it are left out")
        ->check(CLI::Range(1, 65536))
        ->capture_default_str();
    CLI::Option* list = app.add_flag("--list", options.list,
                                     "Print the cameras as JSON lines (clip, window, pictures, sizes, ports, "
                                     "addresses) and send nothing");
    app.add_flag("--list-bytes", options.sizes, "With --list: encode, and print each picture's bytes too")->needs(list);
    app.add_flag("--verbose", options.verbose, "Debug messages, libav's among them");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_ok : exit_usage;
    }
    if (host->count() == 0 && !options.list) {
        std::fprintf(stderr, "adapath-camera: to which HOST? (or --list)\n");
        return exit_usage;
    }
    if (options.clips.empty()) {
        options.clips = {fetched_file("clip/vtest.avi")};
    }
    return run(options);
}
