// May this process do what the backend needs? Asked before anything is touched, so that the answer can be a sentence.
#pragma once

#include <string>

#include "codegen/result.h"

namespace adapath {

// Empty status = go on. The error names what is missing and what would work.
Status check_privileges(const std::string& backend);

}  // namespace adapath
