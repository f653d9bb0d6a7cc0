// The app select in the kernel modules: adapath.ko's slots and samples, and adapath_select.ko's cameras.
#pragma once

#include <adapath/select.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/adapathd/backend.h"
#include "userspace/adapathd/select_cameras.h"
#include "userspace/adapathd/select_feed.h"

namespace adapath {

namespace kmod {
class SelectControl;
}

struct SelectKmodOptions {
    uint32_t record_bytes = sizeof(adp_select_sample);  // as KmodBackendOptions
    uint32_t wakeup_bytes = 64 * 1024;                  // fill mark of one CPU's ring
    // Where the cameras' packets come in; at most kSelectInterfaces, in the host's network namespace.
    std::vector<std::string> interfaces;
    std::vector<SelectCamera> cameras;  // at most ADP_SELECT_CAMERAS; their place here is their number
};

// Takes over what the modules hold of the app, and configures them: cameras and interfaces that stay the same go on
// undisturbed. The kernel loads both modules by itself where they are installed. A second daemon is refused.
Result<Backend> open_select_kmod_backend(const SelectKmodOptions& options);
// No hook, no camera, no snapshot: all packets pass, and the modules can be unloaded. Refused while a daemon runs.
Status remove_select_kmod_backend();

// What userspace tells the module, and what it can see of it: what SelectPanel is to the BPF kernel side. Needs
// CAP_NET_ADMIN. Each call is one request to the kernel, answered when it is done; from any thread.
class KmodSelectPanel final : public SelectFeed {
public:
    static Result<KmodSelectPanel> open();
    KmodSelectPanel(KmodSelectPanel&&) noexcept;
    KmodSelectPanel& operator=(KmodSelectPanel&&) noexcept;
    ~KmodSelectPanel() override;

    // price: accuracy for 1 MiB/s. main_limit: bytes/s, 0 = none. used: share of the uplink's budget.
    Status set_market(const SelectMarket& market) override;
    // Without its time.
    [[nodiscard]] Result<adp_select_market> market() const;
    // The server saw `objects` with that mean confidence in what it received, and was that accurate (0..1). An error
    // for a camera that is not configured, here and in the following.
    Status set_seen(uint32_t camera, uint32_t objects, double confidence, double accuracy) override;
    // Both renditions were measured.
    Status set_measured(uint32_t camera, double sub_worth, double gain) override;
    // The camera's state, read under its lock.
    [[nodiscard]] Result<adp_select_camera> camera(uint32_t camera) const override;

private:
    explicit KmodSelectPanel(std::unique_ptr<kmod::SelectControl> control);
    std::unique_ptr<kmod::SelectControl> control_;
};

}  // namespace adapath
