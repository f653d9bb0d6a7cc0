// The pipeline from a float model to a snapshot, and the cache of programs that makes retraining cost no compiler.
#include <cmath>
#include <map>
#include <mutex>
#include <optional>

#include <fmt/format.h>

#include "codegen/codegen.h"
#include "codegen/llvm_backend.h"
#include "codegen/snapshot_hash.h"

namespace adapath {
namespace {

// Any fixed number: a freeze is repeatable.
constexpr uint64_t kVerifySeed = 0x61646170;

struct BpfProgram {
    std::string source;
    std::vector<uint8_t> object;
};

// An app that runs in the kernel has glue for it; others (qp) run in a process and have host programs only.
bool has_bpf_glue(const std::string& app) {
    for (const EmbeddedHeader& header : embedded_headers()) {
        if (header.name == "adapath/" + app + "_net_bpf.h") return true;
    }
    return false;
}

Result<BpfProgram> make_bpf_program(const Network& network) {
    Result<std::string> source = emit_c(network, Target::bpf);
    if (!source) return source.error();
    Result<std::vector<uint8_t>> object = compile(*source, Target::bpf);
    if (!object) return object.error();
    return BpfProgram{std::move(*source), std::move(*object)};
}

Status check_inputs(const Network& network, std::span<const InputCodes> vectors, const char* what) {
    for (size_t i = 0; i < vectors.size(); i++) {
        if (vectors[i].size() != network.input_count()) {
            return Error{fmt::format("{} vector {} has {} codes, network {} has {} inputs", what, i, vectors[i].size(),
                                     describe(network), network.input_count())};
        }
    }
    return {};
}

}  // namespace

struct Freezer::Cache {
    struct Entry {
        std::optional<HostProgram> host;
        std::optional<BpfProgram> bpf;
    };

    // A compilation holds the lock: two freezes of one network should compile it once.
    std::mutex mutex;
    // By program_hash. Nodes stay where they are, so pointers to programs are good for the freezer's life; networks are
    // few.
    std::map<std::string, Entry> entries;

    Result<const HostProgram*> host(const Network& network) {
        if (Status status = validate(network); !status) return status.error();
        std::scoped_lock lock(mutex);
        Entry& entry = entries[program_hash(network)];
        if (!entry.host) {
            Result<HostProgram> program = HostProgram::load(network);
            if (!program) return program.error();
            entry.host = std::move(*program);
        }
        return &*entry.host;
    }

    Result<const BpfProgram*> bpf(const Network& network) {
        std::scoped_lock lock(mutex);
        Entry& entry = entries[program_hash(network)];
        if (!entry.bpf) {
            Result<BpfProgram> program = make_bpf_program(network);
            if (!program) return program.error();
            entry.bpf = std::move(*program);
        }
        return &*entry.bpf;
    }
};

Freezer::Freezer() : cache_(std::make_unique<Cache>()) {}
Freezer::~Freezer() = default;

Result<const HostProgram*> Freezer::host_program(const Network& network) { return cache_->host(network); }

Result<Snapshot> Freezer::freeze(const FloatModel& model, std::span<const InputCodes> calibration,
                                 std::span<const InputCodes> held_out, const FreezeOptions& options) {
    const Network& network = model.network;
    if (Status status = validate(model); !status) return status.error();
    if (!std::isfinite(options.explore) || options.explore < 0 || options.explore > 1) {
        return Error{fmt::format("explore {} is not a standard deviation of an action: use 0 to 1", options.explore)};
    }
    if (calibration.empty())
        return Error{"freezing needs at least one calibration vector: activation ranges come from them"};
    if (Status status = check_inputs(network, calibration, "calibration"); !status) return status.error();
    if (Status status = check_inputs(network, held_out, "held-out"); !status) return status.error();

    Result<QuantModel> quantised = quantise(model, calibration);
    if (!quantised) return quantised.error();
    if (Status status = prove(*quantised); !status) return status.error();

    Snapshot snapshot;
    snapshot.model = std::move(*quantised);
    snapshot.reference = model;
    snapshot.provenance = options.provenance;
    snapshot.explore = options.explore;
    if (has_bpf_glue(network.app)) {
        Result<const BpfProgram*> program = cache_->bpf(network);
        if (!program) return program.error();
        snapshot.source_c = (*program)->source;
        snapshot.bpf_object = (*program)->object;
    }

    Result<const HostProgram*> host = cache_->host(network);
    if (!host) return host.error();
    Result<std::vector<uint8_t>> params = pack(snapshot.model);
    if (!params) return params.error();
    // Held-out vectors where there are any: fidelity on what the rounding was fitted to would flatter.
    std::span<const InputCodes> samples = held_out.empty() ? calibration : held_out;
    RunFunction run = [&](const uint8_t* in, int32_t* out) { (*host)->run(params->data(), in, out); };
    if (Status status = verify(snapshot.model, run, samples, options.random_inputs, kVerifySeed); !status)
        return status.error();

    snapshot.fidelity = measure_fidelity(model, snapshot.model, samples);
    // Written so that a NaN fails.
    if (options.fidelity_limit > 0 && !(snapshot.fidelity.p99_error <= options.fidelity_limit)) {
        return Error{fmt::format(
            "fidelity: the integers are {:.5f} of the output's range from the floats at p99 ({} samples, range "
            "{:.4g}, worst {:.5f}); the limit is {:.5f}; calibrate on inputs like those that will come, or train "
            "with less extreme weights",
            snapshot.fidelity.p99_error, snapshot.fidelity.samples, snapshot.fidelity.range,
            snapshot.fidelity.max_error, options.fidelity_limit)};
    }
    // The latest samples are the likeliest to be like what comes.
    std::span<const InputCodes> probes = samples.last(std::min(samples.size(), options.max_probes));
    snapshot.probes.assign(probes.begin(), probes.end());
    return seal(std::move(snapshot));
}

}  // namespace adapath
