// One daemon per state directory.
#pragma once

#include <string>

#include "codegen/result.h"
#include "userspace/common/unique_fd.h"

namespace adapath {

// Held while the object lives, and let go by the kernel whatever ends the process. The file holds the holder's pid.
class StateLock {
public:
    static Result<StateLock> take(const std::string& state_directory);

private:
    explicit StateLock(UniqueFd fd) : fd_(std::move(fd)) {}
    UniqueFd fd_;
};

}  // namespace adapath
