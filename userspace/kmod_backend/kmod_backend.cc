// The kmod backend: slots live in adapath.ko, and every change of them is one request; samples come from its mapped
// ring.
#include <errno.h>
#include <fmt/format.h>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/capability.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "userspace/adapathd/backend.h"
#include "userspace/common/text.h"
#include "userspace/kmod_backend/control.h"
#include "userspace/kmod_backend/program_check.h"
#include "userspace/kmod_backend/ring_device.h"

namespace adapath {
namespace {

using kmod::AppState;
using kmod::Control;
using kmod::KernelSlot;
using kmod::RingDevice;

SlotState state_of(uint32_t kernel_state) {
    switch (kernel_state) {
        case ADP_SLOT_ACTIVE:
            return SlotState::active;
        case ADP_SLOT_READY:  // installed, not yet anybody's: it may be switched to, as the standby may
        case ADP_SLOT_STANDBY:
            return SlotState::standby;
        case ADP_SLOT_DRAINING:
            return SlotState::draining;
        case ADP_SLOT_CANARY:
            return SlotState::canary;
        default:
            return SlotState::free;
    }
}

class KmodInstaller final : public Installer {
public:
    KmodInstaller(std::shared_ptr<Control> control, std::string app)
        : control_(std::move(control)), app_(std::move(app)) {}

    Result<uint32_t> install(const Snapshot& snapshot, uint32_t generation,
                             std::span<const InputCodes> checks) override {
        Result<std::vector<uint8_t>> params = pack(snapshot.model);
        if (!params) {
            return params.error();
        }
        kmod::InstallRequest request;
        request.generation = generation;
        request.hash = hash_prefix(snapshot.hash);
        request.program_hash = hash_prefix(snapshot.program_hash);
        request.schema = snapshot.model.network.feature_schema;
        request.explore_q16 = static_cast<uint32_t>(std::lround(std::clamp(snapshot.explore, 0.0F, 1.0F) * 65536));
        request.layers = snapshot.model.network.layers;
        request.params = *params;
        Result<uint32_t> slot = control_->install(app_, request);
        if (!slot) {
            return slot.error();
        }
        if (Status status = check(*slot, snapshot.model, checks); !status) {
            if (Status discarded = control_->slot_command(ADP_CMD_DISCARD, app_, *slot); !discarded) {
                return Error{status.error().message + "; and it stays in its slot: " + discarded.error().message};
            }
            return status.error();
        }
        return slot;
    }

    Status switch_to(uint32_t slot) override { return control_->slot_command(ADP_CMD_SWITCH, app_, slot); }
    Status deactivate() override { return control_->app_command(ADP_CMD_DEACTIVATE, app_); }
    Status reclaim() override { return control_->app_command(ADP_CMD_RECLAIM, app_); }
    Status set_canary(uint32_t slot, double share) override {
        if (Status status = check_share(share); !status) {
            return status;
        }
        return control_->set_canary(app_, slot, to_q16(share));
    }
    Status end_canary() override { return control_->app_command(ADP_CMD_END_CANARY, app_); }
    Status set_objective(const Objective& weights) override {
        if (Status status = check_objective(weights); !status) {
            return status;
        }
        std::array<uint32_t, ADP_OBJECTIVES> weights_q16 = {};
        std::ranges::transform(weights, weights_q16.begin(), to_q16);
        return control_->set_objective(app_, weights_q16);
    }
    Status set_explore(uint32_t slot, uint32_t explore_q16) override {
        return control_->set_explore(app_, slot, explore_q16);
    }

    [[nodiscard]] std::vector<SlotInfo> slots() const override {
        std::vector<SlotInfo> infos(ADP_SLOTS);
        for (uint32_t i = 0; i < ADP_SLOTS; ++i) {
            infos[i].slot = i;
        }
        for (const KernelSlot& slot : state().slots) {
            SlotInfo& info = infos[slot.slot];
            info.state = state_of(slot.state);
            info.generation = slot.generation;
            info.hash = slot.hash;
            info.bound_flows = slot.bound;
            info.params_bytes = slot.params_bytes;
            info.program = kmod::implementation_name(slot.implementation);
            for (const kmod::Measured& measured : slot.measured) {
                info.measured.push_back({kmod::implementation_name(measured.implementation),
                                         static_cast<double>(measured.picoseconds) / 1e3});
            }
        }
        return infos;
    }
    [[nodiscard]] uint32_t active_slot() const override { return state().active; }
    [[nodiscard]] uint32_t standby_slot() const override { return state().standby; }

private:
    // As the kernel has it now. Where it can't be asked, which takes the module's removal under a running daemon, an
    // app without slots: nothing decides then.
    [[nodiscard]] AppState state() const {
        Result<AppState> app = control_->app(app_);
        if (!app) {
            spdlog::error("{}", app.error().message);
            return {};
        }
        return std::move(*app);
    }

    // Runs the installed snapshot as a decision would, by the program that was chosen and by every other one that the
    // module may run it with, and holds each output to the reference interpreter.
    Status check(uint32_t slot, const QuantModel& model, std::span<const InputCodes> checks) {
        Result<AppState> app = control_->app(app_);
        if (!app) {
            return app.error();
        }
        const auto installed = std::ranges::find(app->slots, slot, &KernelSlot::slot);
        if (installed == app->slots.end()) {
            return Error{fmt::format("slot {} is empty although adapath.ko has just filled it", slot)};
        }
        std::vector<uint32_t> implementations;
        for (const kmod::Measured& measured : installed->measured) {
            implementations.push_back(measured.implementation);
        }
        return kmod::check_programs(model, checks, installed->implementation, implementations,
                                    [&](uint32_t implementation, std::span<const InputCodes> inputs) {
                                        return control_->run(app_, slot, implementation, inputs);
                                    });
    }

    std::shared_ptr<Control> control_;
    const std::string app_;
};

class KmodCollector final : public Collector {
public:
    static Result<std::unique_ptr<KmodCollector>> open(std::shared_ptr<Control> control, std::string app,
                                                       RingDevice device) {
        UniqueFd wake(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        if (!wake.valid()) {
            return Error{fmt::format("opening the sample ring: {}", std::strerror(errno))};
        }
        return std::unique_ptr<KmodCollector>(
            new KmodCollector(std::move(control), std::move(app), std::move(device), std::move(wake)));
    }

    Result<size_t> collect(std::chrono::milliseconds interval, const Sink& sink) override {
        // The device is readable from the fill mark on, and not by what merely waits in the ring.
        pollfd fds[] = {{wake_.get(), POLLIN, 0}, {device_.fd(), POLLIN, 0}};
        if (poll(fds, 2, static_cast<int>(interval.count())) < 0 && errno != EINTR) {
            return Error{fmt::format("waiting for samples: {}", std::strerror(errno))};
        }
        if ((fds[0].revents & POLLIN) != 0) {
            uint64_t count = 0;
            (void)!::read(wake_.get(), &count, sizeof(count));
        }
        // Even where the app is gone: what was mapped stays, with the samples that are in it.
        const size_t records = device_.reader().read(sink);
        if (records == 0 && (fds[1].revents & (POLLHUP | POLLERR)) != 0) {
            return Error{fmt::format(
                "the module that brings app {} was unloaded: load it again (modprobe adapath_{}) and restart "
                "adapathd",
                app_, app_)};
        }
        return records;
    }

    void wake() override {
        const uint64_t one = 1;
        (void)!write(wake_.get(), &one, sizeof(one));
    }

    [[nodiscard]] BackendStats stats() const override {
        Result<AppState> app = control_->app(app_);
        if (!app) {
            return {};
        }
        const struct adp_stats& s = app->stats;
        return {s.decisions,    s.fallbacks,    s.program_missing, s.samples,
                s.samples_lost, s.flows_opened, s.flows_closed,    s.acks};
    }

private:
    KmodCollector(std::shared_ptr<Control> control, std::string app, RingDevice device, UniqueFd wake)
        : control_(std::move(control)), app_(std::move(app)), device_(std::move(device)), wake_(std::move(wake)) {}

    std::shared_ptr<Control> control_;
    const std::string app_;
    RingDevice device_;
    UniqueFd wake_;
};

bool has_net_admin() {
    cap_t set = cap_get_proc();
    cap_flag_value_t value = CAP_CLEAR;
    const bool known = set != nullptr && cap_get_flag(set, CAP_NET_ADMIN, CAP_EFFECTIVE, &value) == 0;
    if (set != nullptr) {
        cap_free(set);
    }
    return known && value == CAP_SET;
}

// The family is there: is the app?
Result<AppState> find_kernel_app(Control& control, const std::string& name) {
    // Asked for by its name, the kernel loads the module that brings it where it can.
    if (Result<AppState> app = control.app(name); app) {
        return app;
    }
    Result<std::vector<AppState>> apps = control.apps();
    if (!apps) {
        return apps.error();
    }
    std::string others;
    for (AppState& app : *apps) {
        if (app.name == name) {
            return std::move(app);
        }
        others += (others.empty() ? "" : ", ") + app.name;
    }
    return Error{fmt::format("adapath.ko is loaded but has no app '{}'{}: load its module with 'modprobe adapath_{}'",
                             name, others.empty() ? "" : " (it has " + others + ")", name)};
}

std::string all_obstacles(const std::vector<std::string>& obstacles) {
    std::string text = "the kmod backend can't run here:";
    for (const std::string& obstacle : obstacles) {
        text += "\n  - " + obstacle;
    }
    return text;
}

}  // namespace

std::vector<std::string> kmod_backend_obstacles(const std::string& app) {
    std::vector<std::string> missing;
    if (!has_net_admin()) {
        missing.emplace_back(
            "this process lacks CAP_NET_ADMIN: start it as root, or by the systemd unit, which grants just that");
    }
    Result<std::unique_ptr<Control>> control = Control::open();
    if (!control) {
        missing.push_back(control.error().message);
    } else if (Result<AppState> found = find_kernel_app(**control, app); !found) {
        missing.push_back(found.error().message);
    }
    return missing;
}

Result<Backend> open_kmod_backend(const KmodBackendOptions& options) {
    if (const std::vector<std::string> obstacles = kmod_backend_obstacles(options.app); !obstacles.empty()) {
        return Error{all_obstacles(obstacles) +
                     "\n  --backend=local runs the same loop in one process, without privileges"};
    }
    Result<std::unique_ptr<Control>> opened = Control::open();
    if (!opened) {
        return opened.error();
    }
    std::shared_ptr<Control> control = std::move(*opened);
    Result<AppState> app = find_kernel_app(*control, options.app);
    if (!app) {
        return app.error();
    }
    if (app->abi_version != ADP_ABI_VERSION) {
        return Error{fmt::format(
            "adapath.ko has ABI version {}, this adapathd {}: install both of one version, then unload the old "
            "modules (adapathd --backend=kmod --remove; rmmod adapath_{} adapath)",
            app->abi_version, ADP_ABI_VERSION, options.app)};
    }
    if (options.record_bytes != 0 && app->record_bytes != options.record_bytes) {
        return Error{fmt::format(
            "a sample of app {} has {} bytes in the module and {} in this adapathd: install both of one version",
            options.app, app->record_bytes, options.record_bytes)};
    }
    // From here on this is the only daemon: nothing was changed before.
    Result<UniqueFd> fd = kmod::open_ring_device(app->device);
    if (!fd) {
        return fd.error();
    }
    Result<RingDevice> device = RingDevice::map(std::move(*fd), app->device);
    if (!device) {
        return device.error();
    }
    Status configured = control->configure(options.app, options.wakeup_bytes,
                                           options.flow_consistency ? ADP_CONSISTENT_FLOW : ADP_CONSISTENT_DECISION);
    if (!configured) {
        return configured.error();
    }
    Backend backend;
    for (const KernelSlot& slot : app->slots) {
        backend.adopted = true;
        // Installed by a daemon that ended before it had switched: nobody's, and nothing to roll back to.
        if (slot.state == ADP_SLOT_READY) {
            if (Status status = control->slot_command(ADP_CMD_DISCARD, options.app, slot.slot); !status) {
                return status.error();
            }
        }
    }
    backend.name = "kmod";
    backend.flow_consistency = options.flow_consistency;
    backend.congestion_control = app->interface;
    backend.installer = std::make_unique<KmodInstaller>(control, options.app);
    Result<std::unique_ptr<KmodCollector>> collector = KmodCollector::open(control, options.app, std::move(*device));
    if (!collector) {
        return collector.error();
    }
    backend.collector = std::move(*collector);
    return backend;
}

Status remove_kmod_backend(const std::string& app) {
    if (const std::vector<std::string> obstacles = kmod_backend_obstacles(app); !obstacles.empty()) {
        return Error{all_obstacles(obstacles)};
    }
    Result<std::unique_ptr<Control>> control = Control::open();
    if (!control) {
        return control.error();
    }
    Result<AppState> found = find_kernel_app(**control, app);
    if (!found) {
        return found.error();
    }
    // Not under a daemon that runs.
    Result<UniqueFd> alone = kmod::open_ring_device(found->device);
    if (!alone) {
        return alone.error();
    }
    return (*control)->app_command(ADP_CMD_CLEAR, app);
}

}  // namespace adapath
