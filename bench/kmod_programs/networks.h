// Networks of several sizes that fit a slot, each ready to be run by every program that the kernel module has for it.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "codegen/codegen.h"
#include "kmod/userspace/shared.h"

namespace adapath::bench {

enum class Program { generated, generic, avx2, vnni };
inline constexpr Program kPrograms[] = {Program::generated, Program::generic, Program::avx2, Program::vnni};
const char* name_of(Program program);
bool cpu_runs(Program program);

// One network with random weights, and inputs. Every program was checked against the reference interpreter.
class Subject {
public:
    // Widths as "30-32-16-1"; tanh for the network of cc, ReLU for others.
    static Result<std::unique_ptr<Subject>> make(const std::vector<uint32_t>& widths);

    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] uint32_t multiplications() const { return multiplications_; }
    [[nodiscard]] const std::vector<InputCodes>& inputs() const { return inputs_; }
    [[nodiscard]] uint32_t params_bytes() const { return layout_.bytes; }
    [[nodiscard]] uint32_t simd_bytes() const { return adp_kernel_simd_bytes(&layout_); }
    void run(Program program, const uint8_t* in, int32_t* out) const;

private:
    struct Free {
        void operator()(uint8_t* bytes) const;
    };
    using Block = std::unique_ptr<uint8_t, Free>;
    Subject() = default;
    static Block block(size_t size);

    std::string name_;
    uint32_t multiplications_ = 0;
    std::vector<InputCodes> inputs_;
    adp_layout layout_{};
    Block params_;
    Block simd_;
    std::unique_ptr<HostProgram> host_;
};

// From one that no SIMD pays for to what fills a slot; the second is the committed checkpoint's.
std::vector<std::vector<uint32_t>> network_widths();
Result<std::vector<std::unique_ptr<Subject>>> make_subjects();

}  // namespace adapath::bench
