// Installer and collector over any app's kernel side: what an app's open function makes a Backend of.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/adapathd/backend.h"
#include "userspace/bpf_backend/kernel_side.h"

namespace adapath {

class Answerer;

// With an answerer, the kernel side asks it instead of running programs.
std::unique_ptr<Installer> make_bpf_installer(std::shared_ptr<KernelSide> side,
                                              std::shared_ptr<Answerer> answerer = nullptr);
Result<std::unique_ptr<Collector>> open_bpf_collector(std::shared_ptr<KernelSide> side);
// The obstacles (bpf_backend_obstacles()) as an error.
Error no_bpf_backend(const std::vector<std::string>& obstacles);

}  // namespace adapath
