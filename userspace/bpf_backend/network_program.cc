// Loading and checking generated network programs.
#include "userspace/bpf_backend/network_program.h"

#include <adapath/net_bpf_test.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <array>
#include <cerrno>
#include <cstring>

namespace adapath {
namespace {

std::string reason(int err) { return std::strerror(err < 0 ? -err : err); }

Result<Mapping> map_of(bpf_object* object, const char* name, size_t bytes) {
    bpf_map* map = bpf_object__find_map_by_name(object, name);
    void* address = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bpf_map__fd(map), 0);
    if (address == MAP_FAILED) return Error{fmt::format("mapping {}: {}", name, reason(errno))};
    return Mapping(address, bytes);
}

size_t round_to_page(size_t bytes) {
    const size_t page = static_cast<size_t>(getpagesize());
    return (bytes + page - 1) / page * page;
}

}  // namespace

Result<std::unique_ptr<NetworkProgram>> NetworkProgram::load(const KernelSide& side, std::span<const uint8_t> object) {
    if (object.empty()) return Error{"the snapshot carries no BPF object: freeze it for target bpf"};
    std::unique_ptr<NetworkProgram> program(new NetworkProgram);
    bpf_object_open_opts options = {};
    options.sz = sizeof(options);
    options.object_name = "adp_net";
    program->object_ = bpf_object__open_mem(object.data(), object.size(), &options);
    if (program->object_ == nullptr)
        return Error{fmt::format("the snapshot's BPF object is not readable: {}", reason(errno))};

    const NetworkProgramKind kind = side.network_program();
    size_t found = 0;
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, program->object_) {
        const std::string name = bpf_map__name(map);
        if (name == "adp_test_params" || name == "adp_test_io") {
            ++found;
            continue;
        }
        bool known = false;
        for (const NetworkProgramKind::Map& shared : kind.maps) {
            if (name != shared.name) continue;
            known = true;
            ++found;
            if (int err = bpf_map__reuse_fd(map, shared.fd); err != 0)
                return Error{fmt::format("the snapshot's map {} does not fit the running one: {}", name, reason(err))};
        }
        if (!known)
            return Error{fmt::format("the snapshot's BPF object has a map '{}' that no network program needs", name)};
    }
    if (found != kind.maps.size() + 2)
        return Error{fmt::format("the snapshot's BPF object lacks the maps that {} has", kind.program)};

    bpf_program* net = nullptr;
    bpf_program* test = nullptr;
    bpf_program* each = nullptr;
    bpf_object__for_each_program(each, program->object_) {
        const std::string name = bpf_program__name(each);
        if (name == kind.program) {
            net = each;
        } else if (name == "adp_test_net") {
            test = each;
        } else if (name == "adp_test_empty") {
            bpf_program__set_autoload(each, false);
        } else {
            return Error{
                fmt::format("the snapshot's BPF object has a program '{}' that no network program needs", name)};
        }
    }
    if (net == nullptr || test == nullptr)
        return Error{fmt::format("the snapshot's BPF object lacks {} or adp_test_net", kind.program)};
    (void)take_libbpf_log();
    if (int err = bpf_object__load(program->object_); err != 0)
        return Error{fmt::format("the kernel refuses the snapshot's program: {}\n{}", reason(err), take_libbpf_log())};
    program->net_fd_ = bpf_program__fd(net);
    program->test_fd_ = bpf_program__fd(test);
    Result<Mapping> params = map_of(program->object_, "adp_test_params", round_to_page(sizeof(adp_test_params_value)));
    if (!params) return params.error();
    program->params_ = std::move(*params);
    Result<Mapping> io =
        map_of(program->object_, "adp_test_io", round_to_page(sizeof(adp_test_io_value) * ADP_TEST_ENTRIES));
    if (!io) return io.error();
    program->io_ = std::move(*io);
    return program;
}

NetworkProgram::~NetworkProgram() {
    if (object_ != nullptr) bpf_object__close(object_);
}

int NetworkProgram::fd() const { return net_fd_; }

Status NetworkProgram::check(const QuantModel& model, std::span<const uint8_t> params,
                             std::span<const InputCodes> inputs) {
    std::memcpy(params_.as<adp_test_params_value>()->bytes, params.data(), params.size());
    auto* io = io_.as<adp_test_io_value>();
    const size_t outputs = model.network.output_count();
    std::array<char, 64> packet = {};
    for (const InputCodes& codes : inputs) {
        std::memcpy(io[0].in, codes.data(), codes.size());
        __sk_buff context = {};
        bpf_test_run_opts run = {};
        run.sz = sizeof(run);
        run.data_in = packet.data();
        run.data_size_in = packet.size();
        run.ctx_in = &context;
        run.ctx_size_in = sizeof(context);
        run.repeat = 1;
        if (bpf_prog_test_run_opts(test_fd_, &run) != 0 || run.retval != TC_ACT_OK)
            return Error{fmt::format("running the program on a check input: {}", reason(errno))};
        const std::vector<int32_t> expected = interpret(model, codes);
        if (std::memcmp(io[0].out, expected.data(), outputs * sizeof(int32_t)) != 0)
            return Error{fmt::format("the program gives {} where the reference interpreter gives {}, for input {}",
                                     io[0].out[0], expected[0], fmt::join(codes, ","))};
    }
    return {};
}

}  // namespace adapath
