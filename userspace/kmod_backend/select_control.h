// The conversation with adapath_select.ko: the netlink family "adapath_select" (include/adapath/select_netlink.h).
#pragma once

#include <adapath/select.h>
#include <adapath/select_netlink.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/adapathd/select_cameras.h"
#include "userspace/kmod_backend/genl_socket.h"

namespace adapath::kmod {

struct SelectState {
    uint32_t abi_version = 0;
    std::vector<uint32_t> interfaces;  // ifindex
    adp_select_market market = {};     // without its time
};

struct SelectCameraState {
    uint32_t place = 0;
    adp_select_camera camera = {};
    adp_select_feedback feedback = {};
};

class SelectControl {
public:
    // Asks the kernel for the family, upon which the kernel loads the module by itself where it is installed. The error
    // says what is missing and what would work.
    static Result<std::unique_ptr<SelectControl>> open();

    Result<SelectState> state();
    Result<SelectCameraState> camera(uint32_t place);
    Result<std::vector<SelectCameraState>> cameras();
    // All of them; `cameras` were checked, and each one's place is its index. The error names a camera as the
    // configuration does.
    Status configure(const std::vector<std::string>& interfaces, const std::vector<SelectCamera>& cameras);
    // Only the fields that userspace gives; the kernel adds the time.
    Status set_market(const adp_select_market& market);
    Status set_seen(uint32_t place, uint32_t objects, uint32_t confidence_q16, uint32_t accuracy_q16);
    Status set_measured(uint32_t place, uint32_t sub_worth_q16, int32_t gain_q16);

private:
    SelectControl();
    [[nodiscard]] Message request(uint8_t command, int flags = 0) const;
    Status talk(const Message& message, const GenlSocket::OnReply& on_reply = {});

    GenlSocket socket_;
};

}  // namespace adapath::kmod
