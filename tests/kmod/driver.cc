// See driver.h.
#include "tests/kmod/driver.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <fmt/format.h>

#include "tests/codegen/clang_fixtures.h"

namespace adapath::kmod_test {

// ---- modules ----

namespace {

std::vector<std::string>& loaded_here() {
    static std::vector<std::string> names;
    return names;
}

}  // namespace

bool module_loaded(const std::string& name) {
    std::ifstream modules("/proc/modules");
    std::string line;
    while (std::getline(modules, line)) {
        if (line.rfind(name + " ", 0) == 0) {
            return true;
        }
    }
    return false;
}

Status load_module(const std::string& path) {
    const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) {
        return Error{fmt::format("{}: {}", path, strerror(errno))};
    }
    if (syscall(SYS_finit_module, file.get(), "", 0) != 0) {
        return Error{fmt::format("load {}: {} (see dmesg)", path, strerror(errno))};
    }
    return {};
}

Status unload_module(const std::string& name) {
    if (syscall(SYS_delete_module, name.c_str(), O_NONBLOCK) != 0) {
        return Error{fmt::format("unload {}: {}", name, strerror(errno))};
    }
    return {};
}

std::vector<std::string> generated_modules() {
    std::vector<std::string> names;
    const char* directory = std::getenv("ADAPATH_MODULES");
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(directory != nullptr ? directory : "", error)) {
        const std::string name = entry.path().stem();
        if (name.rfind("adapath_net_", 0) == 0 && entry.path().extension() == ".ko") {
            names.push_back(name);
        }
    }
    std::sort(names.begin(), names.end());
    return names;
}

uint64_t hash_of_generated(const std::string& module) {
    return std::strtoull(module.substr(strlen("adapath_net_")).c_str(), nullptr, 16);
}

std::optional<Network> program_network(Genl& genl, uint64_t hash) {
    for (const std::vector<uint8_t>& message : genl.call(ADP_CMD_GET_PROGRAMS, Attributes(), true).messages) {
        const std::vector<Attribute> attributes = parse_attributes(message);
        const Attribute* that = find(attributes, ADP_A_PROGRAM_HASH);
        const Attribute* layers = find(attributes, ADP_A_LAYERS);
        if (that == nullptr || that->u64() != hash || layers == nullptr) {
            continue;
        }
        std::vector<uint32_t> widths;
        std::vector<Activation> activations;
        for (const Attribute& layer : parse_attributes(layers->value)) {
            const std::vector<Attribute> shape = parse_attributes(layer.value);
            const Attribute* inputs = find(shape, ADP_A_INPUTS);
            const Attribute* outputs = find(shape, ADP_A_OUTPUTS);
            const Attribute* activation = find(shape, ADP_A_ACTIVATION);
            if (inputs == nullptr || outputs == nullptr || activation == nullptr) {
                return std::nullopt;
            }
            if (widths.empty()) {
                widths.push_back(inputs->u32().value());
            }
            widths.push_back(outputs->u32().value());
            activations.push_back(static_cast<Activation>(activation->u32().value()));
        }
        if (widths.size() >= 2) {
            return test::network_of(widths, activations);
        }
    }
    return std::nullopt;
}

Status load_modules() {
    const char* directory = std::getenv("ADAPATH_MODULES");
    for (const char* name : {"adapath", "adapath_test"}) {
        if (module_loaded(name)) {
            continue;
        }
        if (directory == nullptr) {
            return Error{
                "ADAPATH_MODULES is not set: it names the directory with adapath.ko and adapath_test.ko for this "
                "kernel; "
                "run this in a VM, by tests/vm/run.sh"};
        }
        if (Status loaded = load_module(fmt::format("{}/{}.ko", directory, name)); !loaded) {
            return loaded;
        }
        loaded_here().emplace_back(name);
    }
    return {};
}

Status unload_modules() {
    std::vector<std::string>& names = loaded_here();
    while (!names.empty()) {
        // A test may have unloaded it by itself, and loaded it again.
        if (module_loaded(names.back())) {
            if (Status unloaded = unload_module(names.back()); !unloaded) {
                return unloaded;
            }
        }
        names.pop_back();
    }
    return {};
}

// ---- the test module's device ----

Result<Driver> Driver::open() {
    UniqueFd fd(::open(ADPT_DEVICE, O_RDWR | O_CLOEXEC));
    if (!fd.valid()) {
        return Error{fmt::format("{}: {}", ADPT_DEVICE, strerror(errno))};
    }
    return Driver(std::move(fd));
}

int Driver::request(unsigned long command, void* argument) {
    return ioctl(fd_.get(), command, argument) == 0 ? 0 : -errno;
}

int Driver::unregister_app(uint32_t app) {
    return ioctl(fd_.get(), ADPT_IOC_UNREGISTER, static_cast<unsigned long>(app)) == 0 ? 0 : -errno;
}

int Driver::vectors(uint32_t app, uint32_t count, uint32_t models, const std::vector<uint8_t>& inputs,
                    const std::vector<int32_t>& outputs) {
    adpt_vectors v{};
    v.app = app;
    v.count = count;
    v.models = models;
    v.inputs = reinterpret_cast<uint64_t>(inputs.data());
    v.outputs = reinterpret_cast<uint64_t>(outputs.data());
    return request(ADPT_IOC_VECTORS, &v);
}

int Driver::start(const adpt_start& start) {
    adpt_start copy = start;
    return request(ADPT_IOC_START, &copy);
}

adpt_report Driver::report() {
    adpt_report report{};
    if (request(ADPT_IOC_REPORT, &report) != 0) {
        report.last_error = -EIO;
    }
    return report;
}

int Driver::query(adpt_query& query, const std::vector<uint8_t>& input) {
    query.input = reinterpret_cast<uint64_t>(input.data());
    return request(ADPT_IOC_QUERY, &query);
}

int Driver::bind(uint32_t app, uint32_t flow, bool* bound) {
    adpt_flow request_flow{};
    request_flow.app = app;
    request_flow.flow = flow;
    const int result = request(ADPT_IOC_BIND, &request_flow);
    if (bound != nullptr) {
        *bound = request_flow.bound != 0;
    }
    return result;
}

int Driver::unbind(uint32_t app, uint32_t flow) {
    adpt_flow request_flow{};
    request_flow.app = app;
    request_flow.flow = flow;
    return request(ADPT_IOC_UNBIND, &request_flow);
}

int Driver::emit(uint32_t app, uint32_t cpu, uint64_t first, uint32_t count) {
    adpt_emit request_emit{};
    request_emit.app = app;
    request_emit.cpu = cpu;
    request_emit.first = first;
    request_emit.count = count;
    return request(ADPT_IOC_EMIT, &request_emit);
}

adpt_app app_description(const std::string& name, uint32_t inputs, uint32_t outputs) {
    adpt_app app{};
    strncpy(app.name, name.c_str(), sizeof(app.name) - 1);
    app.schema = ADPT_SCHEMA;
    app.inputs = inputs;
    app.outputs = outputs;
    for (int i = 0; i < ADP_MAX_OUTPUTS; ++i) {
        app.lowest[i] = -ADPT_LIMIT;
        app.highest[i] = ADPT_LIMIT;
    }
    app.record_bytes = sizeof(adpt_record);
    app.ring_records = 64;
    return app;
}

// ---- snapshots ----

Network network_between(uint32_t inputs, uint32_t outputs, std::mt19937_64& random, uint32_t max_layers,
                        uint32_t max_width) {
    for (;;) {
        const auto layers = static_cast<uint32_t>(1 + random() % max_layers);
        std::vector<uint32_t> widths{inputs};
        std::vector<Activation> activations;
        for (uint32_t l = 0; l < layers; ++l) {
            widths.push_back(l + 1 == layers ? outputs : static_cast<uint32_t>(1 + random() % max_width));
            activations.push_back(static_cast<Activation>(random() % 4));
        }
        Network network = test::network_of(widths, activations);
        if (network_layout(network)) {
            return network;
        }
    }
}

InstallRequest request_for(const std::string& app, uint32_t schema, const QuantModel& model, uint32_t generation) {
    InstallRequest request;
    request.app = app;
    request.generation = generation;
    request.hash = 0xfeed000000000000ULL + generation;
    request.program_hash = 1;
    request.schema = schema;
    request.layers = model.network.layers;
    request.params = pack(model).value();
    return request;
}

QuantModel constant_model(int32_t output) {
    QuantModel model;
    model.network = test::network_of({ADPT_INPUTS, ADPT_OUTPUTS}, {Activation::identity});
    QuantLayer layer;
    layer.shift = network_layout(model.network).value().layers[0].shift;
    layer.weights.assign(size_t{ADPT_INPUTS} * ADPT_OUTPUTS, 0);
    layer.mult.assign(ADPT_OUTPUTS, 1);
    layer.bias.assign(ADPT_OUTPUTS, int64_t{output} * (int64_t{1} << layer.shift));
    model.layers.push_back(std::move(layer));
    return model;
}

std::vector<uint8_t> telling_inputs(const QuantModel& model, size_t count, std::mt19937_64& random) {
    const size_t width = model.network.input_count();
    const QuantLayer& first = model.layers[0];
    std::vector<uint8_t> out;
    for (size_t n = 0; n < count; ++n) {
        for (size_t i = 0; i < width; ++i) {
            uint8_t code = 0;
            if (n == 0 || n == 1) {
                code = n == 0 ? 0 : 255;
            } else if (n == 2 || n == 3) {
                code = i % 2 == n % 2 ? 0 : 255;
            } else if (n < 12) {
                // A row's greatest sum and its least.
                const size_t row = (n / 2) % model.network.layers[0].outputs;
                code = (first.weights[row * width + i] > 0) == (n % 2 == 0) ? 255 : 0;
            } else {
                code = static_cast<uint8_t>(random());
            }
            out.push_back(code);
        }
    }
    return out;
}

std::vector<int32_t> interpret_all(const QuantModel& model, std::span<const uint8_t> inputs) {
    const size_t width = model.network.input_count();
    std::vector<int32_t> out;
    for (size_t at = 0; at + width <= inputs.size(); at += width) {
        const std::vector<int32_t> one = interpret(model, inputs.subspan(at, width));
        out.insert(out.end(), one.begin(), one.end());
    }
    return out;
}

// ---- the ring ----

std::unique_ptr<RingMapping> RingMapping::open(const std::string& device, int* error) {
    std::unique_ptr<RingMapping> ring(new RingMapping);
    ring->fd_.reset(::open(("/dev/" + device).c_str(), O_RDWR | O_CLOEXEC));
    if (!ring->fd_.valid()) {
        *error = errno;
        return nullptr;
    }
    void* tails = mmap(nullptr, ADP_RING_TAILS_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd_.get(), 0);
    if (tails == MAP_FAILED) {
        *error = errno;
        return nullptr;
    }
    ring->tails_ = static_cast<adp_ring_tails*>(tails);
    void* info = mmap(nullptr, ADP_RING_INFO_BYTES, PROT_READ, MAP_SHARED, ring->fd_.get(), ADP_RING_DATA_OFFSET);
    if (info == MAP_FAILED) {
        *error = errno;
        return nullptr;
    }
    const size_t whole = static_cast<const adp_ring_info*>(info)->map_bytes;
    munmap(info, ADP_RING_INFO_BYTES);
    void* all = mmap(nullptr, whole, PROT_READ, MAP_SHARED, ring->fd_.get(), ADP_RING_DATA_OFFSET);
    if (all == MAP_FAILED) {
        *error = errno;
        return nullptr;
    }
    ring->info_ = static_cast<const adp_ring_info*>(all);
    ring->map_bytes_ = whole;
    *error = 0;
    return ring;
}

RingMapping::~RingMapping() {
    if (tails_ != nullptr) {
        munmap(tails_, ADP_RING_TAILS_BYTES);
    }
    if (info_ != nullptr) {
        munmap(const_cast<adp_ring_info*>(info_), map_bytes_);
    }
}

const uint8_t* RingMapping::record(uint32_t cpu, uint64_t index) const {
    return reinterpret_cast<const uint8_t*>(info_) + ADP_RING_INFO_BYTES + size_t{cpu} * info_->cpu_bytes +
           (index & (info_->records - 1)) * info_->stride;
}

}  // namespace adapath::kmod_test
