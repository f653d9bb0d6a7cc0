// See backends.h.
#include "userspace/adapathd/backends.h"

#include <fmt/format.h>
#include <sys/capability.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "userspace/adapathd/app.h"
#include "userspace/adapathd/app_backends.h"
#include "userspace/adapathd/local_backend.h"

#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#define CAP_BPF 39
#endif

namespace adapath {
namespace {

using NamedCapability = std::pair<cap_value_t, const char*>;

struct BackendKind {
    const char* name;
    Result<Backend> (*open)(const pb::DaemonConfig& config);
    Result<std::string> (*remove)(const pb::DaemonConfig& config);  // null: nothing of it outlives the daemon
    std::vector<NamedCapability> capabilities;
};

Error not_for(const pb::DaemonConfig& config) {
    return Error{fmt::format("app {} does not run on backend {}: {}", config.app(), config.backend(),
                             app_backends(config.app()).open_host != nullptr
                                 ? "its snapshots run in processes, use backend host"
                                 : "its snapshots run in the kernel, use backend bpf or kmod")};
}

Result<Backend> open_bpf(const pb::DaemonConfig& config) {
    const AppBackends& app = app_backends(config.app());
    return app.open_bpf != nullptr ? app.open_bpf(config) : Result<Backend>(not_for(config));
}

Result<Backend> open_host(const pb::DaemonConfig& config) {
    const AppBackends& app = app_backends(config.app());
    return app.open_host != nullptr ? app.open_host(config) : Result<Backend>(not_for(config));
}

Result<std::string> remove_host(const pb::DaemonConfig& config) {
    const AppBackends& app = app_backends(config.app());
    return app.remove_host != nullptr ? app.remove_host(config) : Result<std::string>(not_for(config));
}

Result<Backend> open_userspace(const pb::DaemonConfig& config) {
    const AppBackends& app = app_backends(config.app());
    if (app.open_userspace == nullptr) {
        return Error{fmt::format("app {} never asks userspace: use backend bpf", config.app())};
    }
    return app.open_userspace(config);
}

Result<std::string> remove_bpf(const pb::DaemonConfig& config) {
    const AppBackends& app = app_backends(config.app());
    return app.remove_bpf != nullptr ? app.remove_bpf(config) : Result<std::string>(not_for(config));
}

Result<Backend> open_kmod(const pb::DaemonConfig& config) {
    const AppBackends& app = app_backends(config.app());
    return app.open_kmod != nullptr ? app.open_kmod(config) : Result<Backend>(not_for(config));
}

Result<std::string> remove_kmod(const pb::DaemonConfig& config) {
    const AppBackends& app = app_backends(config.app());
    return app.remove_kmod != nullptr ? app.remove_kmod(config) : Result<std::string>(not_for(config));
}

Result<Backend> open_local(const pb::DaemonConfig& config) {
    const AppBackends& app = app_backends(config.app());
    if (app.simulate == nullptr) {
        return Error{fmt::format("nothing of app {} can be simulated here: use backend {}", config.app(),
                                 app.open_host != nullptr ? "host" : "bpf")};
    }
    Result<std::unique_ptr<DecisionSource>> source = app.simulate(config);
    if (!source) {
        return source.error();
    }
    Result<LocalBackend> opened =
        open_local_backend({config.ring_bytes(), config.wakeup_bytes(), 5}, std::move(*source));
    if (!opened) {
        return opened.error();
    }
    return std::move(opened->backend);
}

const std::vector<BackendKind>& kinds() {
    // bpf's CAP_PERFMON: programs that read kernel structures through their types need it. kmod needs no
    // CAP_SYS_MODULE: the kernel loads its own modules.
    static const std::vector<NamedCapability> for_bpf = {
        {CAP_BPF, "CAP_BPF"}, {CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {CAP_PERFMON, "CAP_PERFMON"}};
    static const std::vector<BackendKind> all = {
        {"bpf", open_bpf, remove_bpf, for_bpf},
        {"userspace", open_userspace, remove_bpf, for_bpf},
        {"kmod", open_kmod, remove_kmod, {{CAP_NET_ADMIN, "CAP_NET_ADMIN"}}},
        {"local", open_local, nullptr, {}},
        {"host", open_host, remove_host, {}},
    };
    return all;
}

const BackendKind* find_kind(const std::string& name) {
    const auto found = std::ranges::find_if(kinds(), [&](const BackendKind& kind) { return kind.name == name; });
    return found == kinds().end() ? nullptr : &*found;
}

Error unknown(const std::string& name) {
    return Error{fmt::format("backend '{}' is unknown: use {}", name, backend_names())};
}

}  // namespace

std::string backend_names() {
    std::string text;
    for (size_t i = 0; i < kinds().size(); ++i) {
        text += i == 0 ? "" : i + 1 == kinds().size() ? " or " : ", ";
        text += kinds()[i].name;
    }
    return text;
}

bool is_backend(const std::string& name) { return find_kind(name) != nullptr; }

Result<Backend> open_backend(const pb::DaemonConfig& config) {
    const BackendKind* kind = find_kind(config.backend());
    return kind != nullptr ? kind->open(config) : Result<Backend>(unknown(config.backend()));
}

bool outlives_daemon(const std::string& backend) {
    const BackendKind* kind = find_kind(backend);
    return kind != nullptr && kind->remove != nullptr;
}

Result<std::string> remove_kernel_side(const pb::DaemonConfig& config) {
    const BackendKind* kind = find_kind(config.backend());
    if (kind == nullptr) {
        return unknown(config.backend());
    }
    if (kind->remove == nullptr) {
        return Error{fmt::format("the {} backend leaves nothing behind that could be removed", kind->name)};
    }
    return kind->remove(config);
}

std::vector<std::string> missing_capabilities(const std::string& backend) {
    std::vector<std::string> missing;
    const BackendKind* kind = find_kind(backend);
    if (kind == nullptr) {
        return missing;
    }
    std::unique_ptr<std::remove_pointer_t<cap_t>, int (*)(void*)> caps(cap_get_proc(), cap_free);
    for (const auto& [value, name] : kind->capabilities) {
        cap_flag_value_t has = CAP_CLEAR;
        if (!caps || cap_get_flag(caps.get(), value, CAP_EFFECTIVE, &has) != 0 || has != CAP_SET) {
            missing.emplace_back(name);
        }
    }
    return missing;
}

}  // namespace adapath
