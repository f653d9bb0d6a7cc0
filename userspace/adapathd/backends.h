// The backends that this program was built with: the one place that knows them by name.
#pragma once

#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/adapathd/backend.h"
#include "userspace/proto/config.pb.h"

namespace adapath {

// "bpf, kmod, local or host": for messages. Every name that a configuration may hold, whether this build has that
// backend or not.
std::string backend_names();
bool is_backend(const std::string& name);

// As the configuration says. Errors say what this machine, or this build, lacks and what would work.
Result<Backend> open_backend(const pb::DaemonConfig& config);

// Does what runs in the kernel go on when the daemon ends?
bool outlives_daemon(const std::string& backend);
// Takes that away; the text says what was done. Refused while a daemon runs on it.
Result<std::string> remove_kernel_side(const pb::DaemonConfig& config);

// Capabilities that the backend needs, by name ("CAP_BPF"), and that are not in this process's effective set.
std::vector<std::string> missing_capabilities(const std::string& backend);

}  // namespace adapath
