// See app_backends.h.
#include "userspace/adapathd/app_backends.h"

#include <adapath/cc.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include <adapath/qp.h>

#include "userspace/adapathd/cc_source.h"
#include "userspace/adapathd/host_backend.h"
#include "userspace/adapathd/select_cameras.h"
#ifdef ADAPATH_HAVE_BPF
#include "userspace/bpf_backend/select_backend.h"
#endif
#ifdef ADAPATH_HAVE_KMOD
#include "userspace/kmod_backend/select_backend.h"
#endif

namespace adapath {
namespace {

[[maybe_unused]] Error not_built(const char* name, const char* needs = "libbpf and clang") {
    return Error{fmt::format("this build has no {} backend (it needs {}): use another --backend", name, needs)};
}
[[maybe_unused]] constexpr const char* kKmodNeeds = "libnl-genl-3";

[[maybe_unused]] std::string kmod_removed(const std::string& app, const char* what_follows) {
    return fmt::format(
        "no snapshot of app {} is left in adapath.ko: {}, and 'rmmod adapath_{} adapath' unloads the modules", app,
        what_follows, app);
}

// ---- cc ----

Status check_cc(const pb::DaemonConfig&) { return {}; }

Result<Backend> open_cc_on_bpf([[maybe_unused]] const pb::DaemonConfig& config, [[maybe_unused]] bool ask_userspace) {
#ifdef ADAPATH_HAVE_BPF
    BpfBackendOptions options;
    options.congestion_control = config.congestion_control();
    options.pin_directory = config.pin_directory();
    options.ring_bytes = config.ring_bytes();
    options.wakeup_bytes = config.wakeup_bytes();
    options.flow_consistency = config.consistency() == "flow";
    options.ask_userspace = ask_userspace;
    return open_bpf_backend(options);
#else
    return not_built(ask_userspace ? "userspace" : "bpf");
#endif
}

Result<Backend> open_cc(const pb::DaemonConfig& config) { return open_cc_on_bpf(config, false); }
Result<Backend> open_cc_userspace(const pb::DaemonConfig& config) { return open_cc_on_bpf(config, true); }

Result<std::string> remove_cc([[maybe_unused]] const pb::DaemonConfig& config) {
#ifdef ADAPATH_HAVE_BPF
    if (Status status = remove_bpf_backend(config.pin_directory()); !status) {
        return status.error();
    }
    return fmt::format("removed {}; sockets that use it keep it until they close", config.pin_directory());
#else
    return not_built("bpf");
#endif
}

Result<Backend> open_cc_kmod([[maybe_unused]] const pb::DaemonConfig& config) {
#ifdef ADAPATH_HAVE_KMOD
    KmodBackendOptions options;
    options.app = config.app();
    options.record_bytes = sizeof(adp_cc_sample);
    options.wakeup_bytes = config.wakeup_bytes();
    options.flow_consistency = config.consistency() == "flow";
    return open_kmod_backend(options);
#else
    return not_built("kmod", kKmodNeeds);
#endif
}

Result<std::string> remove_cc_kmod([[maybe_unused]] const pb::DaemonConfig& config) {
#ifdef ADAPATH_HAVE_KMOD
    if (Status status = remove_kmod_backend(config.app()); !status) {
        return status.error();
    }
    return kmod_removed(config.app(), "its flows are decided by the fallback") + " once no flow uses them";
#else
    return not_built("kmod", kKmodNeeds);
#endif
}

Result<std::unique_ptr<DecisionSource>> simulate_cc(const pb::DaemonConfig& config) {
    const pb::LocalConfig& local = config.local();
    return make_cc_source(
        {local.flows(), local.mean_mbit(), local.seed(), local.rtt_ms(), local.queue_ms(), local.speed()});
}

// ---- select ----

// The configuration's cameras.
Result<std::vector<SelectCamera>> select_cameras(const pb::DaemonConfig& config) {
    std::vector<SelectCamera> cameras;
    for (const pb::CameraConfig& camera : config.select().camera()) {
        for (const uint32_t port : {camera.sub_port(), camera.main_port()}) {
            if (port > 65535) {
                return Error{fmt::format("camera '{}': port {}: use 1 to 65535", camera.name(), port)};
            }
        }
        if (camera.payload_type() > 127) {
            return Error{
                fmt::format("camera '{}': payload type {}: use 0 to 127", camera.name(), camera.payload_type())};
        }
        cameras.push_back({camera.name(), camera.address(), static_cast<uint16_t>(camera.sub_port()),
                           static_cast<uint16_t>(camera.main_port()), static_cast<uint8_t>(camera.payload_type())});
    }
    return cameras;
}

Status check_select(const pb::DaemonConfig& config) {
    Result<std::vector<SelectCamera>> cameras = select_cameras(config);
    if (!cameras) {
        return Error{"select.camera: " + cameras.error().message};
    }
    if (cameras->empty()) {
        return Error{"select.camera: there is none: name each camera, its address and its ports"};
    }
    const auto interfaces = static_cast<size_t>(config.select().interface_size());
    if (interfaces == 0 || interfaces > kSelectInterfaces) {
        return Error{fmt::format("select.interface: {} of them: name 1 to {} that the cameras' packets come in by",
                                 interfaces, kSelectInterfaces)};
    }
    if (Status status = check_select_cameras(*cameras); !status) {
        return Error{"select.camera: " + status.error().message};
    }
    if (config.consistency() != "decision") {
        return Error{
            fmt::format("consistency is '{}': app select decides once a chunk, by the newest snapshot: use "
                        "\"decision\"",
                        config.consistency())};
    }
    return {};
}

Result<Backend> open_select([[maybe_unused]] const pb::DaemonConfig& config) {
#ifdef ADAPATH_HAVE_BPF
    Result<std::vector<SelectCamera>> cameras = select_cameras(config);
    if (!cameras) {
        return cameras.error();
    }
    SelectBackendOptions options;
    options.pin_directory = config.pin_directory();
    options.ring_bytes = config.ring_bytes();
    options.wakeup_bytes = config.wakeup_bytes();
    options.interfaces.assign(config.select().interface().begin(), config.select().interface().end());
    options.cameras = std::move(*cameras);
    return open_select_backend(options);
#else
    return not_built("bpf");
#endif
}

Result<std::string> remove_select([[maybe_unused]] const pb::DaemonConfig& config) {
#ifdef ADAPATH_HAVE_BPF
    if (Status status = remove_select_backend(config.pin_directory()); !status) {
        return status.error();
    }
    return fmt::format("removed {} and the filters on its interfaces; all packets of the cameras pass",
                       config.pin_directory());
#else
    return not_built("bpf");
#endif
}

Result<Backend> open_select_kmod([[maybe_unused]] const pb::DaemonConfig& config) {
#ifdef ADAPATH_HAVE_KMOD
    Result<std::vector<SelectCamera>> cameras = select_cameras(config);
    if (!cameras) {
        return cameras.error();
    }
    SelectKmodOptions options;
    options.wakeup_bytes = config.wakeup_bytes();
    options.interfaces.assign(config.select().interface().begin(), config.select().interface().end());
    options.cameras = std::move(*cameras);
    return open_select_kmod_backend(options);
#else
    return not_built("kmod", kKmodNeeds);
#endif
}

Result<std::string> remove_select_kmod([[maybe_unused]] const pb::DaemonConfig& config) {
#ifdef ADAPATH_HAVE_KMOD
    if (Status status = remove_select_kmod_backend(); !status) {
        return status.error();
    }
    return kmod_removed(config.app(), "all packets of the cameras pass");
#else
    return not_built("kmod", kKmodNeeds);
#endif
}

// ---- qp ----

Status check_qp(const pb::DaemonConfig& config) {
    if (config.backend() != "host") {
        return Error{
            fmt::format("backend is '{}': app qp runs in the encoders' processes: use \"host\"", config.backend())};
    }
    if (config.host_directory().empty() || config.host_directory().front() != '/') {
        return Error{fmt::format("host_directory is '{}': give an absolute path", config.host_directory())};
    }
    if (config.consistency() != "decision") {
        return Error{
            fmt::format("consistency is '{}': app qp decides once a chunk, by the newest snapshot: use \"decision\"",
                        config.consistency())};
    }
    return {};
}

Result<Backend> open_qp(const pb::DaemonConfig& config) {
    return open_host_backend(
        {config.host_directory(), config.socket_group(), {"qp", ADP_QP_SCHEMA, sizeof(adp_qp_sample)}});
}

Result<std::string> remove_qp(const pb::DaemonConfig& config) {
    if (Status status = remove_host_backend(config.host_directory()); !status) {
        return status.error();
    }
    return fmt::format("removed {}; encoders that used it go on with one quality for the whole picture",
                       config.host_directory());
}

constexpr std::array<AppBackends, 3> kApps = {{
    {"cc", check_cc, open_cc, remove_cc, open_cc_kmod, remove_cc_kmod, open_cc_userspace, simulate_cc, nullptr,
     nullptr},
    {"select", check_select, open_select, remove_select, open_select_kmod, remove_select_kmod, nullptr, nullptr,
     nullptr, nullptr},
    {"qp", check_qp, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, open_qp, remove_qp},
}};

}  // namespace

const AppBackends& app_backends(const std::string& app) {
    const auto* found = std::ranges::find(kApps, app, &AppBackends::app);
    return found == kApps.end() ? kApps.front() : *found;
}

}  // namespace adapath
