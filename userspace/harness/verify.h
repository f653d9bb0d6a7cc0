// `adapathctl verify` over a daemon's log: every decision run again by a program that shares nothing with the daemon
// but the interpreter.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include "codegen/result.h"

namespace adapath {

struct VerifiedLog {
    uint64_t decisions = 0;
    uint64_t explained = 0;
    uint64_t unexplained = 0;
    uint64_t gaps = 0;  // samples missing by sequence number
    uint64_t generations = 0;
};

// `bin`: directory of Adapath's programs. `log`: file for the tool's own messages; empty: none. Decisions that are not
// reproduced are no error: they are counted.
Result<VerifiedLog> verify_log(const std::string& bin, const std::string& app, const std::string& state_directory,
                               const std::string& log, std::chrono::milliseconds timeout);

}  // namespace adapath
