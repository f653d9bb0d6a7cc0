// adapath-qp-snapshot: a quality selector's checkpoint, frozen on a clip's pictures, as a snapshot for adapathd.
#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdio>
#include <ctime>
#include <vector>

#include "codegen/codegen.h"
#include "codegen/version.h"
#include "models/qp/selector.h"
#include "userspace/video/clip.h"

namespace {

using namespace adapath;

int fail(const std::string& message) {
    fmt::print(stderr, "adapath-qp-snapshot: {}\n", message);
    return 1;
}

// Activations are u8, and a selector has ten layers of them: of the output's range, measured 0.027 at p99 and 0.004 in
// the mean for models/qp. What counts is which blocks pass the threshold.
constexpr double kFidelityLimit = 1.0 / 20;

struct Options {
    std::string checkpoint;
    std::string clip;
    std::string size;
    std::string output;
    std::string note;
    uint32_t pictures = 24;
    double limit = kFidelityLimit;
    uint64_t memory_mb = 600;
};

int run(const Options& options) {
    Result<ImageFloatModel> model = read_selector(options.checkpoint);
    if (!model) return fail(model.error().message);
    video::Size size;
    if (!options.size.empty()) {
        Result<video::Size> parsed = video::parse_size(options.size);
        if (!parsed) return fail(parsed.error().message);
        size = *parsed;
    }
    Result<video::Clip> clip = video::Clip::load(options.clip, size, options.memory_mb << 20);
    if (!clip) return fail(clip.error().message);
    const auto luma = [&](uint64_t picture) {
        return LumaPlane{clip->picture(picture).y, static_cast<uint32_t>(clip->size().width),
                         static_cast<uint32_t>(clip->size().height), static_cast<uint32_t>(clip->size().width)};
    };
    // Chunks' first pictures, spread over the clip, of which every other one judges.
    std::vector<ImageCodes> calibration;
    std::vector<ImageCodes> held_out;
    for (uint32_t i = 0; i < options.pictures; i++) {
        const uint64_t picture = 1 + (clip->pictures() - 2) * i / options.pictures;
        (i % 2 == 0 ? calibration : held_out).push_back(selector_codes(luma(picture), luma(picture - 1)));
    }
    ImageFreezer::Options freeze;
    freeze.provenance = {std::string("adapath-qp-snapshot ") + kVersion, options.checkpoint, 0,
                         static_cast<int64_t>(std::time(nullptr)), options.note};
    freeze.fidelity_limit = options.limit;
    Result<Snapshot> snapshot = ImageFreezer().freeze(*model, calibration, held_out, freeze);
    if (!snapshot) return fail(fmt::format("{}: {}", options.checkpoint, snapshot.error().message));
    if (Status status = write_snapshot(*snapshot, options.output); !status) return fail(status.error().message);
    fmt::print("{}: {} {}, fidelity p99 {:.5f} of the output's range over {} numbers, hash {}\n", options.output,
               app_of(*snapshot), describe(*snapshot), snapshot->fidelity.p99_error, snapshot->fidelity.samples,
               snapshot->hash.substr(0, 16));
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "Freezes a quality selector (app qp) into a snapshot: integers, held to the interpreter bit for bit, measured "
        "against the floats on a clip's pictures. adapathctl install gives it to encoders.\n"
        "Exit codes: 0 done, 1 refused or failed, 105 and up bad command line."};
    app.set_version_flag("--version", kVersion);
    app.option_defaults()->always_capture_default();
    Options options;
    app.add_option("CHECKPOINT", options.checkpoint, "Selector, as adapath-train-qp writes it")->required();
    app.add_option("--clip", options.clip, "Video whose pictures it is fitted to and judged on")->required();
    app.add_option("--size", options.size, "WIDTHxHEIGHT in pixels, even (default: the clip's)");
    app.add_option("-o,--output", options.output, "Snapshot file to write")->required();
    app.add_option("--pictures", options.pictures, "Pictures of the clip; every other one judges")
        ->check(CLI::Range(2, 1000));
    app.add_option("--fidelity-limit", options.limit,
                   "Refuse where the p99 error against the floats is over this fraction of the output's range; 0 = "
                   "report only");
    app.add_option("--note", options.note, "Free text for the snapshot's provenance");
    app.add_option("--memory-mb", options.memory_mb, "Memory for the decoded clip, MB")->check(CLI::Range(1, 65536));
    CLI11_PARSE(app, argc, argv);
    return run(options);
}
