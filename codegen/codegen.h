// The passes of codegen, one function each, and the pipeline over them. The light half (everything but compile() and
// HostProgram) is library adapath_snapshot: no clang, no LibTorch; the daemon links it. The rest is adapath_codegen.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <adapath/layout.h>

#include "codegen/image.h"
#include "codegen/model.h"
#include "codegen/result.h"

namespace adapath {

// ---- adapath_snapshot: validate.cc, quantise.cc, prove.cc, pack.cc, interpreter.cc, fidelity.cc, snapshot.cc ----

// Limits of abi.h; names the layer and the value.
Status validate(const Network& network);
Status validate(const FloatModel& model);  // and no NaN or infinity
Status validate(const QuantModel& model);  // every length, shift and range: nothing after it needs to check again

// See layout.h.
inline constexpr uint32_t kGeneratorVersion = ADP_GENERATOR_VERSION;

// Shapes of the parameters that depend on the network alone (never on weights), so that retraining never changes a
// program.
struct LayerLayout {
    uint32_t input_max = 0;     // greatest input code: ADP_INPUT_CODE_MAX in the first layer, else ADP_HIDDEN_CODE_MAX
    uint32_t chunk_inputs = 0;  // inputs a chunk, ADP_CHUNK_INPUTS(input_max); the last chunk may have fewer
    uint32_t chunks = 0;
    uint32_t triples = 0;        // 64-bit weight words a row, over all chunks
    uint32_t row_words = 0;      // 64-bit words a row: chunks + triples + 2
    uint32_t offset = 0;         // bytes from the start of the parameters
    uint32_t table_offset = 0;   // bytes; layers with the same activation share one table
    uint32_t table_entries = 0;  // of 2 bytes each (u16 codes; s16 for the last layer); 0 = none
    uint8_t shift = 0;

    // Inputs of chunk c: all full but the last. `inputs` is the layer's.
    [[nodiscard]] uint32_t inputs_of_chunk(uint32_t c, uint32_t inputs) const {
        return c + 1 < chunks ? chunk_inputs : inputs - c * chunk_inputs;
    }
};
struct NetworkLayout {
    std::vector<LayerLayout> layers;
    uint32_t bytes = 0;  // <= ADP_PARAMS_BYTES
};
Result<NetworkLayout> network_layout(const Network& network);

// Float to integers. `calibration` decides activation ranges and how weights round; at least 1 vector.
Result<QuantModel> quantise(const FloatModel& model, std::span<const InputCodes> calibration);

// Proves for every row that no accumulator of the packed program can leave its lane and no 64-bit product can overflow,
// for any input. The error names layer, row and range.
Status prove(const QuantModel& model);

// The block that goes into a slot (layout in include/adapath/net.h). Requires prove().
Result<std::vector<uint8_t>> pack(const QuantModel& model);

// The reference interpreter: defines what a snapshot computes. Plain loops over the logical model, no packing, and no
// code shared with emit or pack. Every target agrees with it bit for bit. Outputs in Q16.
[[nodiscard]] std::vector<int32_t> interpret(const QuantModel& model, std::span<const uint8_t> codes);

// A float model in a file (Protobuf, codegen/proto/snapshot.proto): checkpoints, and adapath-codegen's input.
Result<FloatModel> read_float_model(const std::string& path);
Status write_float_model(const FloatModel& model, const std::string& path);

// How far the integers are from the floats, in fractions of the float output's range over the samples (max - min).
struct Fidelity {
    uint64_t samples = 0;
    double range = 0;       // of the float output, real units
    double mean_error = 0;  // fraction of range
    double p99_error = 0;
    double max_error = 0;
};
Fidelity measure_fidelity(const FloatModel& reference, const QuantModel& model, std::span<const InputCodes> samples);
// A sample is one number of one picture's outputs.
Fidelity measure_fidelity(const ImageFloatModel& reference, const ImageQuantModel& model,
                          std::span<const ImageCodes> pictures);

// host_simd: for this very processor, loops in vectors; never for the kernel.
enum class Target : uint8_t { bpf, bpf_test, host, kmod, host_simd };

// Integer-only C for one network. Depends on the network alone. `bpf` ends in the app's glue
// (include/adapath/<app>_net_bpf.h), `bpf_test` in a tc program for BPF_PROG_TEST_RUN, `host` in `void
// adp_net_run(const uint8_t *params, const uint8_t *in, int32_t *out)`, `kmod` in the constants of struct adp_program
// and `#include "net_module.h"` (kmod/). The bpf targets refuse a network whose activations do not fit BPF's stack; the
// others take every network that validates.
Result<std::string> emit_c(const Network& network, Target target);

// The kernel module that carries a network's program: "adapath_net_" and the first 16 hex digits of its program hash,
// the name that adapath.ko asks for when a snapshot with that program is installed.
[[nodiscard]] std::string module_name(const Network& network);

// A snapshot: immutable, named by the hash of its content. See codegen/proto/snapshot.proto for the file.
struct Provenance {
    std::string trainer;   // program and version
    std::string source;    // checkpoint or data that it was trained from
    uint64_t samples = 0;  // trained on
    int64_t created_unix_s = 0;
    std::string note;
};
// An image network's part of a snapshot, which then has no dense model, no BPF program and no dense probes.
struct ImageSnapshot {
    ImageQuantModel model;
    ImageFloatModel reference;       // weights may be empty in a foreign file
    std::vector<ImageCodes> probes;  // small windows: what the daemon checks costs it time (kImageProbes)
};
inline constexpr size_t kImageProbes = 16;
inline constexpr size_t kImageProbePixels = 16384;  // of all of them together

struct Snapshot {
    QuantModel model;
    FloatModel reference;  // what it was frozen from; weights may be empty in a foreign file
    Fidelity fidelity;
    Provenance provenance;
    float explore = 0;                // standard deviation of the exploration noise
    std::vector<InputCodes> probes;   // recent inputs, for the daemon's own check
    std::string source_c;             // for target bpf
    std::vector<uint8_t> bpf_object;  // ELF; may be empty for the local backend
    std::string program_hash;         // hex SHA-256 over network + generator version: same hash = same program
    std::string hash;                 // hex SHA-256 over everything but itself
    std::optional<ImageSnapshot> image;
};
// Of whichever model it has.
[[nodiscard]] const std::string& app_of(const Snapshot& snapshot);
[[nodiscard]] uint32_t schema_of(const Snapshot& snapshot);
[[nodiscard]] std::string describe(const Snapshot& snapshot);
// Serialise with the hash filled in; parse checks magic, version, hash, validate(), prove(). Errors are reasons for an
// operator.
Result<std::string> serialise(const Snapshot& snapshot);
Result<Snapshot> parse_snapshot(std::string_view bytes, std::string_view name_for_errors);
Status write_snapshot(const Snapshot& snapshot, const std::string& path);  // atomically: temporary file + rename
Result<Snapshot> read_snapshot(const std::string& path);
// The same snapshot with its hash (and program_hash) computed.
Result<Snapshot> seal(Snapshot snapshot);

// ---- adapath_codegen: compile.cc, host_program.cc, verify.cc, freeze.cc ----

// In-process clang: no subprocess, no file. The shared headers are embedded. Errors carry clang's diagnostics. Not for
// target kmod: kernel modules are built by the kernel's own build (module_tree.h).
Result<std::vector<uint8_t>> compile(const std::string& source_c, Target target);

// A program of target `host`, loaded into this process.
class HostProgram {
public:
    static Result<HostProgram> load(const Network& network);  // emit + compile + link in memory
    HostProgram(HostProgram&&) noexcept;
    HostProgram& operator=(HostProgram&&) noexcept;
    ~HostProgram();
    // params: a pack()ed block; in: input_count() codes; out: output_count() values in Q16.
    void run(const uint8_t* params, const uint8_t* in, int32_t* out) const { entry_(params, in, out); }

private:
    struct Image;
    HostProgram();
    std::unique_ptr<Image> image_;
    void (*entry_)(const uint8_t*, const uint8_t*, int32_t*) = nullptr;
};

// Bit for bit against interpret() on the given inputs, on random ones and on extremes (all 0, all 255, each row's
// worst). `run` runs the program under test. The error names the input and both outputs.
using RunFunction = std::function<void(const uint8_t* in, int32_t* out)>;
Status verify(const QuantModel& model, const RunFunction& run, std::span<const InputCodes> inputs,
              uint64_t random_inputs, uint64_t seed);

struct FreezeOptions {
    Provenance provenance;
    float explore = 0;
    uint64_t random_inputs = 1000;
    size_t max_probes = 64;
    double fidelity_limit = 1.0 / 256;  // p99; worse is an error with the measured figure. 0 = report only
};
// The pipeline: quantise, prove, emit, compile, verify, measure, seal. Programs are cached by network, so that freezing
// new weights compiles nothing.
class Freezer {
public:
    Freezer();
    ~Freezer();
    Result<Snapshot> freeze(const FloatModel& model, std::span<const InputCodes> calibration,
                            std::span<const InputCodes> held_out, const FreezeOptions& options);
    // The cached host program for a network, for running what was frozen.
    Result<const HostProgram*> host_program(const Network& network);

private:
    struct Cache;
    std::unique_ptr<Cache> cache_;
};

// The same for image networks, whose program is compiled for this machine only: scalar and in its vectors, both held to
// the interpreter.
class ImageFreezer {
public:
    struct Options {
        Provenance provenance;
        uint32_t random_pictures = 8;
        double fidelity_limit = 1.0 / 64;  // p99; see docs/quantisation.md for why it is wider. 0 = report only
        // Probes are cut out of the pictures that judge, this many codes wide and high at most.
        uint32_t probe_side = 32;
    };
    ImageFreezer();
    ~ImageFreezer();
    Result<Snapshot> freeze(const ImageFloatModel& model, std::span<const ImageCodes> calibration,
                            std::span<const ImageCodes> held_out, const Options& options);

private:
    struct Cache;
    std::unique_ptr<Cache> cache_;
};

}  // namespace adapath
