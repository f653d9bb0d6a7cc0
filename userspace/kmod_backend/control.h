// The conversation with adapath.ko. What is said is in messages.h.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/kmod_backend/genl_socket.h"
#include "userspace/kmod_backend/messages.h"

namespace adapath::kmod {

class Control {
public:
    // Asks the kernel for the family, upon which the kernel loads the module by itself where it is installed. The error
    // says what is missing and what would work.
    static Result<std::unique_ptr<Control>> open();

    Result<std::vector<AppState>> apps();
    Result<AppState> app(const std::string& name);
    Result<uint32_t> install(const std::string& app, const InstallRequest& install);
    // SWITCH and DISCARD.
    Status slot_command(uint8_t command, const std::string& app, uint32_t slot);
    // DEACTIVATE, RECLAIM, END_CANARY and CLEAR.
    Status app_command(uint8_t command, const std::string& app);
    Status set_explore(const std::string& app, uint32_t slot, uint32_t explore_q16);
    Status configure(const std::string& app, uint32_t wakeup_bytes, uint32_t consistency);
    Status set_canary(const std::string& app, uint32_t slot, uint32_t share_q16);
    Status set_objective(const std::string& app, const std::array<uint32_t, ADP_OBJECTIVES>& weights_q16);
    // Any number of inputs of one length, in as many requests as they need. The outputs of all of them, in order.
    Result<std::vector<int32_t>> run(const std::string& app, uint32_t slot, uint32_t implementation,
                                     std::span<const std::vector<uint8_t>> inputs);

private:
    Control();
    // Every reply goes to `on_reply`.
    Status talk(const Message& message, const std::string& app, const GenlSocket::OnReply& on_reply = {});

    GenlSocket socket_;
};

// What a refusal means to an operator.
[[nodiscard]] Error refused(uint8_t command, const std::string& app, const Refusal& refusal);

}  // namespace adapath::kmod
