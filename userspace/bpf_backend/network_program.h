// A generated network program in the kernel: loaded from a snapshot's object onto the app's running maps, and the
// check that really runs it.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "codegen/codegen.h"
#include "userspace/bpf_backend/kernel_side.h"

struct bpf_object;

namespace adapath {

class NetworkProgram {
public:
    // The object comes from outside: only the maps and programs that the app's glue (include/adapath/<app>_net_bpf.h)
    // declares are accepted.
    static Result<std::unique_ptr<NetworkProgram>> load(const KernelSide& side, std::span<const uint8_t> object);
    ~NetworkProgram();

    // Runs the generated function (BPF_PROG_TEST_RUN of the object's test program, which has it inlined like the one
    // that decides) on these parameters, and holds every output to the reference interpreter.
    Status check(const QuantModel& model, std::span<const uint8_t> params, std::span<const InputCodes> inputs);
    [[nodiscard]] int fd() const;

private:
    NetworkProgram() = default;
    bpf_object* object_ = nullptr;
    Mapping params_;
    Mapping io_;
    int net_fd_ = -1;
    int test_fd_ = -1;
};

}  // namespace adapath
