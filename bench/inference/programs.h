// The network that is measured, and its program in the kernel.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "codegen/codegen.h"

struct bpf_object;

namespace adapath::bench {

// The app cc's shape with weights as training leaves them (random, seeded), and inputs like a random walk of its
// features.
FloatModel cc_sized_model();
std::vector<InputCodes> cc_inputs(const Network& network, size_t count);

// A program of target bpf_test in the running kernel.
class KernelProgram {
public:
    // An Error also where the process may not load BPF programs.
    static Result<KernelProgram> load(const QuantModel& model);
    KernelProgram(KernelProgram&&) noexcept = default;

    // ns a run: of the network's program, and of the same program without the network. Mean over `repeat` runs.
    Result<double> time_network(const InputCodes& in, uint32_t repeat);
    Result<double> time_empty(uint32_t repeat);
    // What the last network run put out.
    Result<std::vector<int32_t>> output(size_t count);

private:
    struct Close {
        void operator()(bpf_object* object) const;
    };
    KernelProgram() = default;
    Result<double> time(int fd, uint32_t repeat);

    std::unique_ptr<bpf_object, Close> object_;
    int network_fd_ = -1;
    int empty_fd_ = -1;
    int io_fd_ = -1;
};

}  // namespace adapath::bench
