// The network that is measured, and its program in the kernel.
#include "bench/inference/programs.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <random>

#include <linux/bpf.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>

#include <adapath/cc.h>
#include <adapath/net_bpf_test.h>

#include "models/cc_model.h"

namespace adapath::bench {

FloatModel cc_sized_model() {
    FloatModel model;
    Network& network = model.network;
    network = cc_network();
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (const LayerShape& shape : network.layers) {
        std::vector<float>& weights = model.weights.emplace_back(size_t{shape.inputs} * shape.outputs);
        std::vector<float>& biases = model.biases.emplace_back(shape.outputs);
        for (float& w : weights) w = normal(random) / std::sqrt(static_cast<float>(shape.inputs));
        for (float& b : biases) b = 0.1F * normal(random);
    }
    return model;
}

std::vector<InputCodes> cc_inputs(const Network& network, size_t count) {
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    std::vector<float> level = {ADP_CC_INFLATION_ZERO, ADP_CC_LATENCY_ZERO + 30,  ADP_CC_LATENCY_ZERO + 20,
                                ADP_CC_SEND_ZERO,      ADP_CC_DELIVERY_ZERO - 20, ADP_CC_LOSS_ZERO};
    InputCodes codes(network.input_count(), 128);
    std::vector<InputCodes> inputs;
    while (inputs.size() < count) {
        // As adp_cc_push_features() does: the history moves by one interval.
        std::copy(codes.begin() + ADP_CC_FEATURES, codes.begin() + ADP_CC_CONTEXT, codes.begin());
        for (size_t f = 0; f < level.size(); f++) {
            level[f] = std::clamp(level[f] + 12 * normal(random), 0.0F, 255.0F);
            codes[ADP_CC_CONTEXT - ADP_CC_FEATURES + f] = static_cast<uint8_t>(level[f]);
        }
        inputs.push_back(codes);
    }
    return inputs;
}

void KernelProgram::Close::operator()(bpf_object* object) const { bpf_object__close(object); }

Result<KernelProgram> KernelProgram::load(const QuantModel& model) {
    Result<std::string> source = emit_c(model.network, Target::bpf_test);
    if (!source) return source.error();
    Result<std::vector<uint8_t>> bytes = compile(*source, Target::bpf_test);
    if (!bytes) return bytes.error();
    Result<std::vector<uint8_t>> params = pack(model);
    if (!params) return params.error();

    KernelProgram program;
    libbpf_set_print(nullptr);
    program.object_.reset(bpf_object__open_mem(bytes->data(), bytes->size(), nullptr));
    if (!program.object_) return Error{fmt::format("opening the compiled program: {}", strerror(errno))};
    if (int error = bpf_object__load(program.object_.get())) {
        return Error{fmt::format("loading the program into the kernel: {}; run as root", strerror(-error))};
    }
    auto program_fd = [&](const char* name) {
        return bpf_program__fd(bpf_object__find_program_by_name(program.object_.get(), name));
    };
    program.network_fd_ = program_fd("adp_test_net");
    program.empty_fd_ = program_fd("adp_test_empty");
    program.io_fd_ = bpf_object__find_map_fd_by_name(program.object_.get(), "adp_test_io");
    int params_fd = bpf_object__find_map_fd_by_name(program.object_.get(), "adp_test_params");
    std::vector<uint8_t> value(ADP_PARAMS_BYTES);
    std::copy(params->begin(), params->end(), value.begin());
    uint32_t zero = 0;
    if (bpf_map_update_elem(params_fd, &zero, value.data(), BPF_ANY) != 0) {
        return Error{fmt::format("writing parameters to map adp_test_params: {}", strerror(errno))};
    }
    return program;
}

Result<double> KernelProgram::time(int fd, uint32_t repeat) {
    char packet[64] = {};
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet, .data_size_in = sizeof(packet),
                .repeat = static_cast<int>(repeat));
    if (bpf_prog_test_run_opts(fd, &options) != 0) return Error{fmt::format("BPF_PROG_TEST_RUN: {}", strerror(errno))};
    if (options.retval != 0) return Error{fmt::format("the program returned {} instead of 0", options.retval)};
    return static_cast<double>(options.duration);
}

Result<double> KernelProgram::time_network(const InputCodes& in, uint32_t repeat) {
    adp_test_io_value io = {};
    uint32_t entry = 0;
    std::copy(in.begin(), in.end(), io.in);
    if (bpf_map_update_elem(io_fd_, &entry, &io, BPF_ANY) != 0)
        return Error{fmt::format("map adp_test_io: {}", strerror(errno))};
    return time(network_fd_, repeat);
}

Result<double> KernelProgram::time_empty(uint32_t repeat) { return time(empty_fd_, repeat); }

Result<std::vector<int32_t>> KernelProgram::output(size_t count) {
    adp_test_io_value io = {};
    uint32_t entry = 0;
    if (bpf_map_lookup_elem(io_fd_, &entry, &io) != 0)
        return Error{fmt::format("map adp_test_io: {}", strerror(errno))};
    return std::vector<int32_t>(io.out, io.out + count);
}

}  // namespace adapath::bench
