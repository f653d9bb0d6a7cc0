// The app select on BPF: tc ingress on the cameras' interfaces, snapshots in slots as with cc. Also the view of the
// running kernel side that the relay and the daemon's feedback need (SelectPanel).
#pragma once

#include <adapath/select_bpf_maps.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/adapathd/backend.h"
#include "userspace/adapathd/select_cameras.h"
#include "userspace/adapathd/select_feed.h"
#include "userspace/common/mapping.h"
#include "userspace/common/unique_fd.h"

namespace adapath {

struct SelectBackendOptions {
    std::string pin_directory = "/sys/fs/bpf/adapath-select";  // state that outlives the daemon; one daemon a directory
    uint32_t ring_bytes = 1 << 20;                             // power of two, at least a page
    uint32_t wakeup_bytes = 64 * 1024;                         // fill mark
    // Where the cameras' packets come in; at most kSelectInterfaces, in the caller's network namespace.
    std::vector<std::string> interfaces;
    std::vector<SelectCamera> cameras;  // at most ADP_SELECT_CAMERAS; their place here is their number
};

// Loads, pins and attaches the kernel side, or adopts the one that is pinned: cameras and interfaces that stay the same
// go on undisturbed, others are added, changed or taken away. A second daemon on the same pin directory is refused.
Result<Backend> open_select_backend(const SelectBackendOptions& options);
// Detaches from every interface (in the caller's network namespace), takes away what qdiscs it made unless somebody
// else uses them by now, and unpins. All packets then pass.
Status remove_select_backend(const std::string& pin_directory);

// What userspace tells a running kernel side, and what it can see of it. The pins are the daemon's; this may be any
// process that may open them. Writes are single words: no lock, and no order between them.
class SelectPanel final : public SelectFeed {
public:
    static Result<SelectPanel> open(const std::string& pin_directory);

    Status set_market(const SelectMarket& market) override;
    [[nodiscard]] const adp_select_market& market() const { return *market_.as<adp_select_market>(); }
    Status set_seen(uint32_t camera, uint32_t objects, double confidence, double accuracy) override;
    Status set_measured(uint32_t camera, double sub_worth, double gain) override;
    // Read under its lock.
    [[nodiscard]] Result<adp_select_camera> camera(uint32_t camera) const override;

private:
    Mapping market_;
    Mapping feedback_;
    UniqueFd cameras_map_;
};

}  // namespace adapath
