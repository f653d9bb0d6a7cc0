// See select_backend.h.
#include "userspace/kmod_backend/select_backend.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "userspace/kmod_backend/control.h"
#include "userspace/kmod_backend/ring_device.h"
#include "userspace/kmod_backend/select_control.h"

namespace adapath {
namespace {

constexpr const char* kApp = "select";

int32_t q16(double value, double lowest, double highest) {
    return static_cast<int32_t>(std::lround(std::clamp(value, lowest, highest) * ADP_Q16_ONE));
}
uint32_t share_q16(double value) { return static_cast<uint32_t>(q16(value, 0, 1)); }

}  // namespace

Result<Backend> open_select_kmod_backend(const SelectKmodOptions& options) {
    if (Status status = check_select_cameras(options.cameras); !status) {
        return status.error();
    }
    // First: by its family's name the kernel loads the module, and adapath.ko along with it.
    Result<std::unique_ptr<kmod::SelectControl>> control = kmod::SelectControl::open();
    if (!control) {
        return control.error();
    }
    KmodBackendOptions slots;
    slots.app = kApp;
    slots.record_bytes = options.record_bytes;
    slots.wakeup_bytes = options.wakeup_bytes;
    Result<Backend> backend = open_kmod_backend(slots);
    if (!backend) {
        return backend.error();
    }
    // From here on this is the only daemon.
    Result<kmod::SelectState> state = (*control)->state();
    if (!state) {
        return state.error();
    }
    if (state->abi_version != ADP_ABI_VERSION) {
        return Error{fmt::format(
            "adapath_select.ko has ABI version {}, this adapathd {}: install both of one version, then unload the old "
            "module (rmmod adapath_select)",
            state->abi_version, ADP_ABI_VERSION)};
    }
    if (Status status = (*control)->configure(options.interfaces, options.cameras); !status) {
        return status.error();
    }
    backend->adopted = backend->adopted || !state->interfaces.empty();
    Result<KmodSelectPanel> panel = KmodSelectPanel::open();
    if (!panel) {
        return panel.error();
    }
    backend->select_feed = std::make_unique<KmodSelectPanel>(std::move(*panel));
    return backend;
}

Status remove_select_kmod_backend() {
    Result<std::unique_ptr<kmod::SelectControl>> select = kmod::SelectControl::open();
    if (!select) {
        return select.error();
    }
    Result<std::unique_ptr<kmod::Control>> control = kmod::Control::open();
    if (!control) {
        return control.error();
    }
    Result<kmod::AppState> app = (*control)->app(kApp);
    if (!app) {
        return app.error();
    }
    // Not under a daemon that runs.
    Result<UniqueFd> alone = kmod::open_ring_device(app->device);
    if (!alone) {
        return alone.error();
    }
    if (Status status = (*select)->configure({}, {}); !status) {
        return status;
    }
    return (*control)->app_command(ADP_CMD_CLEAR, kApp);
}

KmodSelectPanel::KmodSelectPanel(std::unique_ptr<kmod::SelectControl> control) : control_(std::move(control)) {}
KmodSelectPanel::KmodSelectPanel(KmodSelectPanel&&) noexcept = default;
KmodSelectPanel& KmodSelectPanel::operator=(KmodSelectPanel&&) noexcept = default;
KmodSelectPanel::~KmodSelectPanel() = default;

Result<KmodSelectPanel> KmodSelectPanel::open() {
    Result<std::unique_ptr<kmod::SelectControl>> control = kmod::SelectControl::open();
    if (!control) {
        return control.error();
    }
    return KmodSelectPanel(std::move(*control));
}

Status KmodSelectPanel::set_market(const SelectMarket& told) {
    adp_select_market market = {};
    market.price_q16 = static_cast<adp_u32>(q16(told.price, 0, ADP_SELECT_PRICE_MAX_Q16 / 65536.0));
    market.main_limit = told.main_limit;
    market.used_q16 = static_cast<adp_u32>(q16(told.used, 0, 2));
    market.cameras = told.cameras;
    market.main_late_q16 = share_q16(told.main_late);
    return control_->set_market(market);
}

Result<adp_select_market> KmodSelectPanel::market() const {
    Result<kmod::SelectState> state = control_->state();
    if (!state) {
        return state.error();
    }
    return state->market;
}

Status KmodSelectPanel::set_seen(uint32_t camera, uint32_t objects, double confidence, double accuracy) {
    return control_->set_seen(camera, objects, share_q16(confidence), share_q16(accuracy));
}

Status KmodSelectPanel::set_measured(uint32_t camera, double sub_worth, double gain) {
    return control_->set_measured(camera, share_q16(sub_worth), q16(gain, -1, 1));
}

Result<adp_select_camera> KmodSelectPanel::camera(uint32_t camera) const {
    Result<kmod::SelectCameraState> state = control_->camera(camera);
    if (!state) {
        return state.error();
    }
    return state->camera;
}

}  // namespace adapath
