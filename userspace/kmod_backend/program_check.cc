// See program_check.h.
#include "userspace/kmod_backend/program_check.h"

#include <adapath/netlink.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "userspace/kmod_backend/messages.h"

namespace adapath::kmod {

Status check_programs(const QuantModel& model, std::span<const InputCodes> checks, uint32_t chosen,
                      std::span<const uint32_t> others, const RunProgram& run) {
    std::vector<int32_t> expected;
    for (const InputCodes& codes : checks) {
        const std::vector<int32_t> outputs = interpret(model, codes);
        expected.insert(expected.end(), outputs.begin(), outputs.end());
    }
    std::vector<uint32_t> implementations = {ADP_RUN_CHOSEN};
    implementations.insert(implementations.end(), others.begin(), others.end());
    for (const uint32_t implementation : implementations) {
        const char* name = implementation_name(implementation == ADP_RUN_CHOSEN ? chosen : implementation);
        Result<std::vector<int32_t>> outputs = run(implementation, checks);
        if (!outputs) {
            return Error{fmt::format("running the {} program on the check inputs: {}", name, outputs.error().message)};
        }
        if (outputs->size() != expected.size()) {
            return Error{fmt::format("the {} program gave {} outputs where {} were asked for", name, outputs->size(),
                                     expected.size())};
        }
        const auto at = static_cast<size_t>(std::ranges::mismatch(*outputs, expected).in1 - outputs->begin());
        if (at < expected.size()) {
            return Error{fmt::format("the {} program gives {} where the reference interpreter gives {}, for input {}",
                                     name, (*outputs)[at], expected[at],
                                     fmt::join(checks[at * checks.size() / expected.size()], ","))};
        }
    }
    return {};
}

}  // namespace adapath::kmod
