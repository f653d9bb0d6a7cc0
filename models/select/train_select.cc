// adapath-train-select: measures what cameras' renditions are worth, trains the network of the app select on it in the
// simulator, and writes the checkpoint and its card.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>

#include "codegen/version.h"
#include "models/select/measure.h"
#include "userspace/common/file.h"
#include "userspace/video/decoder.h"

namespace {

using namespace adapath;
using Clock = std::chrono::steady_clock;

std::atomic<bool> stopping{false};
extern "C" void on_signal(int) { stopping = true; }

struct Options {
    std::string clip;
    std::string detector;
    std::string out = "models/select";
    std::string dataset;
    uint64_t seed = 1;
    uint32_t most = 0;
    int threads = 1;
};

Status measure(const Options& o) {
    auto detector = open_detector(o.detector);
    if (!detector) return detector.error();
    SelectMeasurement m;
    m.clip = o.clip;
    m.path = o.dataset;
    m.most = o.most;
    const auto start = Clock::now();
    size_t before = 0;
    m.progress = [&](size_t done, size_t all) {
        if (before == 0) before = done - 1;
        const double each =
            std::chrono::duration<double>(Clock::now() - start).count() / static_cast<double>(done - before);
        fmt::print(stderr, "\rmeasuring: {} of {} chunks, {:.0f} s to go ", done, all,
                   each * static_cast<double>(all - done));
        return !stopping;
    };
    Status status = measure_select(**detector, m);
    if (before != 0) fmt::print(stderr, "\n");
    return status;
}

Status run(const Options& o) {
    prepare_process(o.threads);
    return measure(o);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app(
        "Measures what the renditions of cameras are worth to the server's vision network, trains select's network on "
        "it in the simulator, and writes the checkpoint and its card. The measurement goes on where it was stopped.\n"
        "Exit codes: 0 done, 1 failed, 2 wrong usage.");
    app.set_version_flag("--version", adapath::kVersion);
    Options o;
    o.clip = adapath::fetched_file("clip/vtest.avi");
    o.detector = adapath::fetched_file("detector/centernet.json");
    app.add_option("--clip", o.clip, "Video")->capture_default_str();
    app.add_option("--detector", o.detector, "The server's vision network, *.json or *.pt")->capture_default_str();
    app.add_option("--out", o.out, "Folder for policy.model and CARD.md")->capture_default_str();
    app.add_option("--dataset", o.dataset, "Measured chunks, JSON lines [dataset.jsonl in the folder of --out]");
    app.add_option("--measure-most", o.most,
                   "Measure at most so many chunks more, then go on with what is there (0 = all)")
        ->capture_default_str();
    app.add_option("--seed", o.seed, "Seed")->capture_default_str();
    app.add_option("--threads", o.threads, "LibTorch's threads")->check(CLI::Range(1, 256))->capture_default_str();
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    if (o.dataset.empty()) o.dataset = o.out + "/dataset.jsonl";
    struct sigaction action = {};
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    adapath::video::quiet_libav();
    if (Status s = run(o); !s) {
        fmt::print(stderr, "adapath-train-select: {}\n", s.error().message);
        return 1;
    }
    return 0;
}
