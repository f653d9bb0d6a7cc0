// How each app's kernel side is opened: what its part of the configuration means to the backends. The one place,
// besides apps.h, to add a line for a new app.
#pragma once

#include <memory>
#include <string>

#include "codegen/result.h"
#include "userspace/adapathd/backend.h"
#include "userspace/adapathd/local_backend.h"
#include "userspace/proto/config.pb.h"

namespace adapath {

struct AppBackends {
    const char* app;
    // The app's own part of the configuration. The error begins with the field's name.
    Status (*check)(const pb::DaemonConfig& config);
    // Null where the app runs in processes.
    Result<Backend> (*open_bpf)(const pb::DaemonConfig& config);
    // Takes away what open_bpf() left in the kernel; the text says what was done.
    Result<std::string> (*remove_bpf)(const pb::DaemonConfig& config);
    Result<Backend> (*open_kmod)(const pb::DaemonConfig& config);
    Result<std::string> (*remove_kmod)(const pb::DaemonConfig& config);
    // Null where the app's kernel side never asks userspace.
    Result<Backend> (*open_userspace)(const pb::DaemonConfig& config);
    // Null where nothing of the app can be simulated here.
    Result<std::unique_ptr<DecisionSource>> (*simulate)(const pb::DaemonConfig& config);
    // Null where the app runs in the kernel: snapshots in other processes. An app has these or those of bpf.
    Result<Backend> (*open_host)(const pb::DaemonConfig& config);
    Result<std::string> (*remove_host)(const pb::DaemonConfig& config);
};

// Of an app in the registry.
const AppBackends& app_backends(const std::string& app);

}  // namespace adapath
