// May this process do what the backend needs? Asked before anything is touched, so that the answer can be a sentence.
#pragma once

#include <string>
#include <vector>

#include "codegen/result.h"

namespace adapath {

// Those of the bpf backend's capabilities that are not in the effective set, by name ("CAP_BPF").
std::vector<std::string> missing_capabilities();
// Empty status = go on. The error names what is missing and what would work.
Status check_privileges(const std::string& backend);

}  // namespace adapath
