// One way to set up logging for every program: to standard error, without times where journald adds its own.
#pragma once

#include <string>

#include "codegen/result.h"

namespace adapath {

// level: trace, debug, info, warning, error
Status setup_log(const std::string& program, const std::string& level);

}  // namespace adapath
