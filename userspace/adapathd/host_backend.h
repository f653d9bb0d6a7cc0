// The backend `host`: snapshots run in other processes (the app qp: encoders), which share one memory file with the
// daemon (include/adapath/host.h). The daemon runs no snapshot's program here: it checks with the reference
// interpreter.
#pragma once

#include <string>

#include "codegen/result.h"
#include "userspace/adapathd/backend.h"
#include "userspace/host/host_memory.h"

namespace adapath {

struct HostBackendOptions {
    std::string directory;  // made where it is missing; one daemon each
    std::string group;      // whose members' processes may read snapshots and put samples
    HostApp app;
};
// Makes the file, or adopts the one that is there with all that it holds. A second daemon is refused.
Result<Backend> open_host_backend(const HostBackendOptions& options);
// Takes the file away: encoders notice within about a second and go on with one quality. Refused while a daemon runs.
Status remove_host_backend(const std::string& directory);

}  // namespace adapath
