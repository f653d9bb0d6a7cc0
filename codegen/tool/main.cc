// adapath-codegen: models and snapshots by hand. Freeze a float model, see what a network becomes, look into snapshot
// files and check them.
//
// Exit codes: 0 done; 1 refused or failed, with the reason on stderr; what CLI11 gives (over 100) for wrong arguments.
#include <csignal>
#include <cmath>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <map>
#include <random>
#include <sstream>

#include <CLI/CLI.hpp>
#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <adapath/abi.h>
#include <adapath/cc.h>

#include "codegen/codegen.h"
#include "codegen/module_tree.h"
#include "codegen/version.h"

namespace adapath {
namespace {

const std::string kTool = std::string("adapath-codegen ") + kVersion;
constexpr const char* kFileMagic = "ADAPSNAP";

const char* name_of(Activation activation) {
    switch (activation) {
        case Activation::identity:
            return "identity";
        case Activation::relu:
            return "relu";
        case Activation::tanh:
            return "tanh";
        case Activation::sigmoid:
            return "sigmoid";
    }
    return "unknown";
}

std::vector<std::string> split(const std::string& text, char separator) {
    std::vector<std::string> parts;
    std::stringstream stream(text);
    for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
    return parts;
}

int fail(const std::string& message) {
    fmt::print(stderr, "adapath-codegen: {}\n", message);
    return 1;
}

// A .codes file: one byte a code, vectors one after the other, without a header.
Result<std::vector<InputCodes>> read_codes(const std::string& path, size_t inputs) {
    std::ifstream file(path, std::ios::binary);
    if (!file)
        return Error{
            fmt::format("{}: can't be opened; give a .codes file (one byte a code, {} a vector)", path, inputs)};
    std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    if (bytes.empty() || bytes.size() % inputs != 0) {
        return Error{fmt::format(
            "{}: {} bytes are not a whole number of vectors of {} codes; was it recorded for another network?", path,
            bytes.size(), inputs)};
    }
    std::vector<InputCodes> vectors;
    for (size_t at = 0; at < bytes.size(); at += inputs) {
        vectors.emplace_back(bytes.begin() + static_cast<ptrdiff_t>(at),
                             bytes.begin() + static_cast<ptrdiff_t>(at + inputs));
    }
    return vectors;
}

// A random walk a code, where each vector of the app cc's size is the last one moved on by one interval of features:
// like the kernel's histories, but of no link in particular.
std::vector<InputCodes> random_walk(size_t inputs, size_t count, uint64_t seed) {
    const size_t history = inputs == ADP_CC_INPUTS ? ADP_CC_CONTEXT : 0;
    const size_t kept = history > 0 ? history - ADP_CC_FEATURES : 0;  // from here on each code walks by itself
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    std::vector<double> level(inputs - kept, 128);
    InputCodes codes(inputs, 128);
    std::vector<InputCodes> vectors;
    while (vectors.size() < count) {
        std::copy_n(codes.begin() + (history > 0 ? ADP_CC_FEATURES : 0), kept, codes.begin());
        for (size_t f = 0; f < level.size(); f++) {
            level[f] = std::clamp(level[f] + 12 * normal(random), 0.0, 255.0);
            codes[kept + f] = static_cast<uint8_t>(level[f]);
        }
        vectors.push_back(codes);
    }
    return vectors;
}

int freeze(const std::string& path, const std::string& calibration, const std::string& output, double limit,
           float explore, const std::string& note) {
    Result<FloatModel> model = read_float_model(path);
    if (!model) return fail(model.error().message);
    std::vector<InputCodes> codes;
    if (calibration.empty()) {
        fmt::print(
            stderr,
            "adapath-codegen: warning: no --calibration: fitting to a random walk, which is like no real link; the "
            "fidelity below holds for such inputs only\n");
        codes = random_walk(model->network.input_count(), 8192, 1);
    } else {
        Result<std::vector<InputCodes>> read = read_codes(calibration, model->network.input_count());
        if (!read) return fail(read.error().message);
        codes = std::move(*read);
    }
    // The later half judges: what comes next is like what came last.
    size_t half = codes.size() > 1 ? codes.size() / 2 : codes.size();
    std::span<const InputCodes> all(codes);

    FreezeOptions options;
    options.provenance = {kTool, path, 0, static_cast<int64_t>(std::time(nullptr)), note};
    options.explore = explore;
    options.fidelity_limit = limit;
    Freezer freezer;
    Result<Snapshot> snapshot = freezer.freeze(*model, all.first(half), all.subspan(half), options);
    if (!snapshot) return fail(fmt::format("{}: {}", path, snapshot.error().message));
    if (Status status = write_snapshot(*snapshot, output); !status) return fail(status.error().message);
    fmt::print("{}: {} {}, fidelity p99 {:.5f} of the output's range over {} samples, hash {}\n", output,
               snapshot->model.network.app, describe(snapshot->model.network), snapshot->fidelity.p99_error,
               snapshot->fidelity.samples, snapshot->hash.substr(0, 16));
    return 0;
}

bool is_snapshot(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::string magic(8, '\0');
    return file.read(magic.data(), 8) && magic == kFileMagic;
}

// The network of either kind of file.
Result<Network> read_network(const std::string& path) {
    if (is_snapshot(path)) {
        Result<Snapshot> snapshot = read_snapshot(path);
        if (!snapshot) return snapshot.error();
        if (snapshot->image) {
            return Error{fmt::format("{}: {} is an image network: it runs in processes only, use --target host", path,
                                     describe(*snapshot))};
        }
        return snapshot->model.network;
    }
    Result<FloatModel> model = read_float_model(path);
    if (!model) return model.error();
    return model->network;
}

// To `directory` as a kernel module's source tree; without one, as C to stdout.
int emit(const std::string& path, const std::string& target, const std::string& directory, bool build,
         const ModuleBuildOptions& options) {
    if (target != "kmod" && !directory.empty())
        return fail(fmt::format("--out is for --target kmod; {} prints its C", target));
    if (build && directory.empty()) return fail("--build needs --target kmod and --out DIR");
    if (!build && !(options.kdir.empty() && options.sources.empty() && options.symvers.empty())) {
        return fail("--kdir, --sources and --symvers are for --build");
    }
    if (target == "host" && is_snapshot(path)) {
        Result<Snapshot> snapshot = read_snapshot(path);
        if (!snapshot) return fail(snapshot.error().message);
        if (snapshot->image) {
            Result<std::string> source = emit_c(snapshot->image->model.network);
            if (!source) return fail(fmt::format("{}: {}", path, source.error().message));
            fmt::print("{}", *source);
            return 0;
        }
    }
    Result<Network> network = read_network(path);
    if (!network) return fail(network.error().message);
    if (directory.empty()) {
        const std::map<std::string, Target> targets = {
            {"bpf", Target::bpf}, {"host", Target::host}, {"kmod", Target::kmod}};
        Result<std::string> source = emit_c(*network, targets.at(target));
        if (!source) return fail(fmt::format("{}: {}", path, source.error().message));
        fmt::print("{}", *source);
        return 0;
    }
    Result<std::string> name = write_module_tree(*network, directory);
    if (!name) return fail(fmt::format("{}: {}", path, name.error().message));
    if (!build) {
        fmt::print("{}: {}.c, Kbuild and Makefile of {} {}\n", directory, *name, network->app, describe(*network));
        return 0;
    }
    Result<BuiltModule> built = build_module(directory, *name, options);
    if (!built) return fail(built.error().message);
    fmt::print("{}: {} {} for kernel {}\n", built->path, network->app, describe(*network), built->release);
    fmt::print("install (as root; sign it first where Secure Boot asks for signed modules):\n");
    fmt::print("  install -D -m 644 {} /lib/modules/{}/extra/{}.ko && depmod {}\n", built->path, built->release, *name,
               built->release);
    fmt::print("adapath.ko then loads it by itself when a snapshot of this network is installed\n");
    return 0;
}

nlohmann::json network_json(const Network& network, const NetworkLayout& layout) {
    nlohmann::json layers = nlohmann::json::array();
    for (size_t l = 0; l < network.layers.size(); l++) {
        const LayerShape& shape = network.layers[l];
        const LayerLayout& where = layout.layers[l];
        layers.push_back({{"inputs", shape.inputs},
                          {"outputs", shape.outputs},
                          {"activation", name_of(shape.activation)},
                          {"chunks", where.chunks},
                          {"row_words", where.row_words},
                          {"offset", where.offset},
                          {"table_offset", where.table_offset},
                          {"table_entries", where.table_entries},
                          {"shift", where.shift}});
    }
    return {{"app", network.app},
            {"feature_schema", network.feature_schema},
            {"shape", describe(network)},
            {"inputs", network.input_count()},
            {"outputs", network.output_count()},
            {"parameters_bytes", layout.bytes},
            {"layers", layers}};
}

void print_network(const Network& network, const NetworkLayout& layout) {
    fmt::print("app         {} (feature schema {})\n", network.app, network.feature_schema);
    fmt::print("network     {}\n", describe(network));
    fmt::print("parameters  {} of {} bytes\n", layout.bytes, ADP_PARAMS_BYTES);
    for (size_t l = 0; l < network.layers.size(); l++) {
        const LayerLayout& where = layout.layers[l];
        fmt::print("  layer {}   {} -> {} {}: {} words a row in {} chunk{} at byte {}", l + 1, network.layers[l].inputs,
                   network.layers[l].outputs, name_of(network.layers[l].activation), where.row_words, where.chunks,
                   where.chunks == 1 ? "" : "s", where.offset);
        if (where.table_entries > 0) fmt::print(", table of {} at byte {}", where.table_entries, where.table_offset);
        fmt::print("\n");
    }
}

nlohmann::json network_json(const ImageNetwork& network) {
    return {{"app", network.app},
            {"feature_schema", network.feature_schema},
            {"shape", describe(network)},
            {"inputs", network.inputs.size()},
            {"outputs", network.layers.back().outputs},
            {"parameters_bytes", params_bytes(network)},
            {"window", widest_window(network)},
            {"stride", total_stride(network)}};
}

void print_network(const ImageNetwork& network) {
    fmt::print("app         {} (feature schema {})\n", network.app, network.feature_schema);
    fmt::print("network     {}\n", describe(network));
    fmt::print("parameters  {} of {} bytes\n", params_bytes(network), ADP_PARAMS_BYTES);
    fmt::print("window      an output depends on at most {0}x{0} codes, outputs are {1} codes apart\n",
               widest_window(network), total_stride(network));
}

int show(const std::string& path, bool as_json) {
    if (!is_snapshot(path)) {
        Result<FloatModel> model = read_float_model(path);
        if (!model) return fail(model.error().message);
        Result<NetworkLayout> layout = network_layout(model->network);
        if (!layout) return fail(fmt::format("{}: {}", path, layout.error().message));
        if (as_json) {
            fmt::print(
                "{}\n",
                nlohmann::json{{"kind", "float model"}, {"network", network_json(model->network, *layout)}}.dump(2));
        } else {
            fmt::print("float model {}\n", path);
            print_network(model->network, *layout);
        }
        return 0;
    }
    Result<Snapshot> snapshot = read_snapshot(path);
    if (!snapshot) return fail(snapshot.error().message);
    const Network& network = snapshot->model.network;
    Result<NetworkLayout> layout = snapshot->image ? NetworkLayout{} : network_layout(network);
    if (!layout) return fail(fmt::format("{}: {}", path, layout.error().message));
    const size_t probes = snapshot->image ? snapshot->image->probes.size() : snapshot->probes.size();
    const Fidelity& f = snapshot->fidelity;
    const Provenance& p = snapshot->provenance;
    if (as_json) {
        nlohmann::json json = {{"kind", "snapshot"},
                               {"hash", snapshot->hash},
                               {"program_hash", snapshot->program_hash},
                               {"generator_version", kGeneratorVersion},
                               {"network", snapshot->image ? network_json(snapshot->image->model.network)
                                                           : network_json(network, *layout)},
                               {"fidelity",
                                {{"samples", f.samples},
                                 {"range", f.range},
                                 {"mean_error", f.mean_error},
                                 {"p99_error", f.p99_error},
                                 {"max_error", f.max_error}}},
                               {"provenance",
                                {{"trainer", p.trainer},
                                 {"source", p.source},
                                 {"samples", p.samples},
                                 {"created_unix_s", p.created_unix_s},
                                 {"note", p.note}}},
                               {"explore", snapshot->explore},
                               {"probes", probes},
                               {"source_c_bytes", snapshot->source_c.size()},
                               {"bpf_object_bytes", snapshot->bpf_object.size()}};
        // Strings in a file may be anything; what is not UTF-8 is replaced rather than thrown at the operator.
        fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
        return 0;
    }
    fmt::print("snapshot    {}\n", snapshot->hash);
    fmt::print("program     {} (C {} bytes, BPF object {} bytes)\n", snapshot->program_hash, snapshot->source_c.size(),
               snapshot->bpf_object.size());
    if (snapshot->image) {
        print_network(snapshot->image->model.network);
    } else {
        print_network(network, *layout);
    }
    fmt::print("fidelity    p99 {:.5f}, mean {:.5f}, worst {:.5f} of the output's range {:.4g} over {} samples\n",
               f.p99_error, f.mean_error, f.max_error, f.range, f.samples);
    fmt::print("explore     {:g}\n", snapshot->explore);
    fmt::print("probes      {}\n", probes);
    char created[32] = "unknown";
    std::time_t seconds = p.created_unix_s;
    if (std::tm utc = {}; seconds > 0 && gmtime_r(&seconds, &utc))
        std::strftime(created, sizeof(created), "%F %T UTC", &utc);
    fmt::print("created     {} by {}\n", created, p.trainer.empty() ? "unknown" : p.trainer);
    if (!p.source.empty()) fmt::print("source      {}\n", p.source);
    if (p.samples > 0) fmt::print("trained on  {} samples\n", p.samples);
    if (!p.note.empty()) fmt::print("note        {}\n", p.note);
    return 0;
}

int check_image(const std::string& path, const ImageSnapshot& image, uint64_t random_pictures, uint64_t seed) {
    const std::vector<uint8_t> params = pack(image.model);
    const auto pictures = static_cast<uint32_t>(std::min<uint64_t>(random_pictures, 1U << 20));
    for (const bool simd : {false, true}) {
        Result<ImageProgram> program = ImageProgram::load(image.model.network, simd);
        if (!program) return fail(fmt::format("{}: {}", path, program.error().message));
        Status same = verify(
            image.model,
            [&](const ImageCodes& picture, std::vector<int32_t>& out) { return program->run(params, picture, out); },
            image.probes, pictures, seed);
        if (!same) return fail(fmt::format("{}: {}", path, same.error().message));
    }
    fmt::print(
        "{}: sound: hash, ranges and program agree, scalar and in vectors; {} probes and {} random pictures bit for "
        "bit\n",
        path, image.probes.size(), pictures);
    return 0;
}

// Everything that can be checked without a kernel: the file (hash, shapes, ranges, proof), its program compiled anew
// against the interpreter, and its C against what this version generates.
int check(const std::string& path, uint64_t random_inputs, uint64_t seed) {
    Result<Snapshot> snapshot = read_snapshot(path);
    if (!snapshot) return fail(snapshot.error().message);
    // A picture has a thousand times the codes of a vector.
    if (snapshot->image) return check_image(path, *snapshot->image, (random_inputs + 999) / 1000, seed);
    const Network& network = snapshot->model.network;
    Result<HostProgram> program = HostProgram::load(network);
    if (!program) return fail(fmt::format("{}: {}", path, program.error().message));
    Result<std::vector<uint8_t>> params = pack(snapshot->model);
    if (!params) return fail(fmt::format("{}: {}", path, params.error().message));
    Status same = verify(
        snapshot->model, [&](const uint8_t* in, int32_t* out) { program->run(params->data(), in, out); },
        snapshot->probes, random_inputs, seed);
    if (!same) return fail(fmt::format("{}: {}", path, same.error().message));
    if (!snapshot->source_c.empty()) {
        Result<std::string> source = emit_c(network, Target::bpf);
        if (!source) return fail(fmt::format("{}: {}", path, source.error().message));
        if (*source != snapshot->source_c) {
            return fail(
                fmt::format("{}: its C is not what generator version {} makes of its network: freeze the model again",
                            path, kGeneratorVersion));
        }
        Result<std::vector<uint8_t>> object = compile(*source, Target::bpf);
        if (!object) return fail(fmt::format("{}: {}", path, object.error().message));
        if (*object != snapshot->bpf_object) {
            return fail(
                fmt::format("{}: its BPF object is not what this version's compiler makes of its C (another version of "
                            "Adapath, or changed by hand): freeze the model again",
                            path));
        }
    }
    fmt::print("{}: sound: hash, ranges and program agree; {} probes and {} random inputs bit for bit\n", path,
               snapshot->probes.size(), random_inputs);
    return 0;
}

int random_model(const std::string& shape, const std::string& activations, const std::string& app, uint64_t seed,
                 const std::string& output) {
    FloatModel model;
    std::vector<uint32_t> widths;
    for (const std::string& part : split(shape, '-')) {
        char* end = nullptr;
        unsigned long width = std::strtoul(part.c_str(), &end, 10);
        if (part.empty() || *end != '\0' || width == 0 || width > ADP_MAX_WIDTH) {
            return fail(fmt::format("--network {}: \"{}\" is not a width of 1 to {}", shape, part, ADP_MAX_WIDTH));
        }
        widths.push_back(static_cast<uint32_t>(width));
    }
    std::vector<std::string> names = split(activations, ',');
    if (widths.size() < 2 || names.size() != widths.size() - 1) {
        return fail(fmt::format("--activations {}: {} for a network of {} layers; give one a layer", activations,
                                names.size(), widths.empty() ? 0 : widths.size() - 1));
    }
    model.network.app = app;
    model.network.feature_schema = ADP_CC_SCHEMA;
    for (uint32_t i = 0; i < widths[0]; i++) {
        const InputCode cc_codes[] = {{1.0F / ADP_CC_INFLATION_UNIT, ADP_CC_INFLATION_ZERO},
                                      {1.0F / ADP_CC_LATENCY_UNIT, ADP_CC_LATENCY_ZERO},
                                      {1.0F / ADP_CC_SEND_UNIT, ADP_CC_SEND_ZERO}};
        model.network.inputs.push_back(cc_codes[i % std::size(cc_codes)]);
    }
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (size_t l = 0; l + 1 < widths.size(); l++) {
        bool known = false;
        for (Activation a : {Activation::identity, Activation::relu, Activation::tanh, Activation::sigmoid}) {
            if (names[l] != name_of(a)) continue;
            model.network.layers.push_back({widths[l], widths[l + 1], a});
            known = true;
        }
        if (!known)
            return fail(fmt::format("--activations: \"{}\" is none of identity, relu, tanh, sigmoid", names[l]));
        std::vector<float>& weights = model.weights.emplace_back(size_t{widths[l]} * widths[l + 1]);
        std::vector<float>& biases = model.biases.emplace_back(widths[l + 1]);
        for (float& w : weights) w = normal(random) / std::sqrt(static_cast<float>(widths[l]));
        for (float& b : biases) b = 0.1F * normal(random);
    }
    if (Status status = validate(model); !status) return fail(status.error().message);
    if (Status status = write_float_model(model, output); !status) return fail(status.error().message);
    fmt::print("{}: {} with random weights\n", output, describe(model.network));
    return 0;
}

}  // namespace
}  // namespace adapath

int main(int argc, char** argv) {
    CLI::App app{"Freezes float models into integer snapshots, and shows and checks what became of them."};
    app.set_version_flag("--version", adapath::kVersion);
    app.require_subcommand(1);
    app.option_defaults()->always_capture_default();

    std::string path;
    std::string output;
    std::string calibration;
    std::string note;
    double limit = 1.0 / 256;
    float explore = 0;
    CLI::App* freeze = app.add_subcommand("freeze", "Quantise, prove, emit, compile, verify and seal a float model");
    freeze->add_option("MODEL", path, "float model file")->required();
    freeze->add_option(
        "--calibration", calibration,
        "recorded inputs (.codes: one byte a code, vectors one after the other); the later half judges fidelity. "
        "Without it: a random walk, with a warning");
    freeze->add_option("-o,--output", output, "snapshot file to write")->required();
    freeze->add_option(
        "--fidelity-limit", limit,
        "refuse where the p99 error against the floats is over this fraction of the output's range; 0 = report only");
    freeze->add_option("--explore", explore,
                       "standard deviation of the exploration noise, in units of the action, 0 to 1");
    freeze->add_option("--note", note, "free text for the snapshot's provenance");

    std::string target = "bpf";
    CLI::App* emit = app.add_subcommand(
        "emit", "Print the C of a model's or snapshot's program, or write and build its kernel module");
    std::string directory;
    bool build = false;
    adapath::ModuleBuildOptions module_build;
    emit->add_option("FILE", path, "float model or snapshot file")->required();
    emit->add_option("--target", target, "bpf, host or kmod")->check(CLI::IsMember({"bpf", "host", "kmod"}));
    emit->add_option("--out", directory,
                     "with kmod: directory to write the module's sources to (adapath_net_<program hash>.c, Kbuild, "
                     "Makefile) instead "
                     "of printing its C");
    emit->add_flag("--build", build, "with --out: build the module there and say how to install it");
    emit->add_option("--kdir", module_build.kdir,
                     "with --build: the kernel's build directory; without it /lib/modules/<running release>/build");
    emit->add_option(
        "--sources", module_build.sources,
        "with --build: Adapath's sources, with include/ and kmod/; without it " + adapath::installed_sources());
    emit->add_option(
        "--symvers", module_build.symvers,
        "with --build: Module.symvers of adapath.ko's build; without it kmod/Module.symvers of the sources");

    bool as_json = false;
    CLI::App* show = app.add_subcommand("show", "Network, layout, fidelity, provenance, sizes and hashes of a file");
    show->add_option("FILE", path, "snapshot or float model file")->required();
    show->add_flag("--json", as_json, "machine-readable");

    uint64_t random_inputs = 10000;
    uint64_t seed = 1;
    CLI::App* check =
        app.add_subcommand("verify", "Check a snapshot file: hash, ranges, and its program against the interpreter");
    check->add_option("FILE", path, "snapshot file")->required();
    check->add_option(
        "--random", random_inputs,
        "random inputs besides the file's probes and the extremes; of an image network a picture for each thousand");
    check->add_option("--seed", seed, "of the random inputs");

    std::string shape = "30-32-16-1";
    std::string activations = "tanh,tanh,identity";
    std::string app_name = "cc";
    CLI::App* random = app.add_subcommand("random", "Write a float model with random weights, for experiments");
    random->add_option("--network", shape, "widths from input to output");
    random->add_option("--activations", activations, "one a layer: identity, relu, tanh, sigmoid");
    random->add_option("--app", app_name, "app that it is for");
    random->add_option("--seed", seed, "of the weights");
    random->add_option("-o,--output", output, "float model file to write")->required();

    CLI11_PARSE(app, argc, argv);
    // Files are written by rename, so an interrupt leaves nothing behind: the default action of SIGINT is right. A
    // closed pipe (`emit | head`) is not an error worth a message.
    std::signal(SIGPIPE, SIG_DFL);
    if (*freeze) return adapath::freeze(path, calibration, output, limit, explore, note);
    if (*emit) return adapath::emit(path, target, directory, build, module_build);
    if (*show) return adapath::show(path, as_json);
    if (*check) return adapath::check(path, random_inputs, seed);
    return adapath::random_model(shape, activations, app_name, seed, output);
}
