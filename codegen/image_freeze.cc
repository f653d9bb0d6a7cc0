// The pipeline from a float image network to a snapshot.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "codegen/codegen.h"
#include "codegen/snapshot_hash.h"

namespace adapath {
namespace {

// Any fixed number: a freeze is repeatable.
constexpr uint64_t kVerifySeed = 0x61646170;

struct Programs {
    ImageProgram scalar;
    ImageProgram simd;
};

Status check_pictures(const ImageNetwork& network, std::span<const ImageCodes> pictures, const char* what) {
    for (size_t i = 0; i < pictures.size(); i++) {
        const ImageSize size = pictures[i].size;
        const size_t codes = network.inputs.size() * size.width * size.height;
        if (codes == 0 || pictures[i].codes.size() != codes) {
            return Error{fmt::format("{} picture {} of {}x{} has {} codes, network {} takes {} channels", what, i,
                                     size.width, size.height, pictures[i].codes.size(), describe(network),
                                     network.inputs.size())};
        }
    }
    return {};
}

// Windows spread over the latest pictures: the likeliest to be like what comes.
std::vector<ImageCodes> probes_of(const ImageNetwork& network, std::span<const ImageCodes> pictures, uint32_t side) {
    std::vector<ImageCodes> probes;
    size_t pixels = 0;
    const uint32_t stride = total_stride(network);
    const auto place = [&](uint32_t length, uint32_t part) {
        return length <= side ? 0 : (length - side) * part / 3 / stride * stride;
    };
    for (size_t n = 0; n < kImageProbes && !pictures.empty(); n++) {
        const ImageCodes& picture = pictures[pictures.size() - 1 - n % pictures.size()];
        const ImageSize size{std::min(side, picture.size.width), std::min(side, picture.size.height)};
        pixels += size_t{size.width} * size.height;
        if (pixels > kImageProbePixels) break;
        const auto number = static_cast<uint32_t>(n);
        probes.push_back(
            cut(network, picture,
                {place(picture.size.width, number % 4), place(picture.size.height, number / 4), size, {0, 0}}));
    }
    return probes;
}

}  // namespace

struct ImageFreezer::Cache {
    std::map<std::string, Programs> programs;  // by program_hash

    Result<Programs*> find(const ImageNetwork& network) {
        const std::string hash = program_hash(network);
        auto found = programs.find(hash);
        if (found == programs.end()) {
            Result<ImageProgram> scalar = ImageProgram::load(network, false);
            if (!scalar) return scalar.error();
            Result<ImageProgram> simd = ImageProgram::load(network, true);
            if (!simd) return simd.error();
            found = programs.emplace(hash, Programs{std::move(*scalar), std::move(*simd)}).first;
        }
        return &found->second;
    }
};

ImageFreezer::ImageFreezer() : cache_(std::make_unique<Cache>()) {}
ImageFreezer::~ImageFreezer() = default;

Result<Snapshot> ImageFreezer::freeze(const ImageFloatModel& model, std::span<const ImageCodes> calibration,
                                      std::span<const ImageCodes> held_out, const Options& options) {
    if (Status status = validate(model); !status) return status.error();
    if (Status status = check_pictures(model.network, calibration, "calibration"); !status) return status.error();
    if (Status status = check_pictures(model.network, held_out, "held-out"); !status) return status.error();
    Result<ImageQuantModel> quantised = quantise(model, calibration);
    if (!quantised) return quantised.error();
    if (const size_t bytes = params_bytes(model.network); bytes > ADP_PARAMS_BYTES) {
        return Error{fmt::format("{}: {} bytes of parameters, a slot holds {}: fewer channels", describe(model.network),
                                 bytes, ADP_PARAMS_BYTES)};
    }
    Result<Programs*> programs = cache_->find(model.network);
    if (!programs) return programs.error();
    const std::vector<uint8_t> params = pack(*quantised);
    const std::span<const ImageCodes> judges = held_out.empty() ? calibration : held_out;
    for (ImageProgram* program : {&(*programs)->scalar, &(*programs)->simd}) {
        Status same = verify(
            *quantised,
            [&](const ImageCodes& picture, std::vector<int32_t>& out) { return program->run(params, picture, out); },
            judges, options.random_pictures, kVerifySeed);
        if (!same) return same.error();
    }

    Snapshot snapshot;
    snapshot.provenance = options.provenance;
    snapshot.fidelity = measure_fidelity(model, *quantised, judges);
    const Fidelity& f = snapshot.fidelity;
    // Written so that a NaN fails.
    if (options.fidelity_limit > 0 && !(f.p99_error <= options.fidelity_limit)) {
        return Error{
            fmt::format("fidelity: the integers are {:.5f} of the output's range from the floats at p99 ({} numbers, "
                        "range {:.4g}, worst {:.5f}); the limit is {:.5f}; calibrate on pictures like those that come",
                        f.p99_error, f.samples, f.range, f.max_error, options.fidelity_limit)};
    }
    std::vector<ImageCodes> probes = probes_of(model.network, judges, options.probe_side);
    snapshot.image = ImageSnapshot{.model = std::move(*quantised), .reference = model, .probes = std::move(probes)};
    return seal(std::move(snapshot));
}

}  // namespace adapath
