// The netlink family "adapath" (include/adapath/netlink.h) as C++: what is asked and what is answered, and how both are
// put into messages. No socket and no kernel here; control.h talks.
#pragma once

#include <netlink/msg.h>

#include <adapath/abi.h>
#include <adapath/netlink.h>

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "codegen/model.h"
#include "codegen/result.h"

namespace adapath::kmod {

struct InstallRequest {
    uint32_t generation = 0;
    uint64_t hash = 0;
    uint64_t program_hash = 0;
    uint32_t schema = 0;
    uint32_t explore_q16 = 0;
    std::span<const LayerShape> layers;
    std::span<const uint8_t> params;
};

// What one run costs by one implementation, as the module measured it when it chose.
struct Measured {
    uint32_t implementation = 0;  // enum adp_implementation
    uint64_t picoseconds = 0;
};

// A slot that is not free.
struct KernelSlot {
    uint32_t slot = ADP_SLOT_NONE;
    uint32_t state = ADP_SLOT_FREE;  // enum adp_slot_state
    uint32_t generation = 0;
    uint64_t hash = 0;
    uint64_t program_hash = 0;
    uint32_t explore_q16 = 0;
    uint64_t bound = 0;
    uint32_t params_bytes = 0;
    uint32_t implementation = 0;  // the one that decides
    std::vector<Measured> measured;
    std::vector<LayerShape> layers;
};

struct AppState {
    std::string name;
    std::string interface;  // congestion control's name; empty without one
    std::string device;     // below /dev
    uint32_t abi_version = 0;
    uint32_t schema = 0;
    uint32_t inputs = 0;
    uint32_t outputs = 0;
    uint32_t record_bytes = 0;
    uint32_t wakeup_bytes = 0;
    uint32_t consistency = 0;  // enum adp_consistency
    uint32_t active = ADP_SLOT_NONE;
    uint32_t standby = ADP_SLOT_NONE;
    uint32_t canary = ADP_SLOT_NONE;
    uint32_t canary_share_q16 = 0;
    std::array<uint32_t, ADP_OBJECTIVES> objective_q16 = {};
    struct adp_stats stats = {};
    std::vector<KernelSlot> slots;
};

struct RunReply {
    std::vector<int32_t> outputs;  // raw, Q16: all of the first input, then of the second ...
    uint32_t implementation = 0;   // that really ran
    uint64_t elapsed_ns = 0;
};

// Why the kernel refused a request.
struct Refusal {
    int error = 0;          // errno, positive
    std::string message;    // the kernel's own words; empty where it has none
    std::string attribute;  // the name of the offending one; empty where none is named
};

struct MessageDeleter {
    void operator()(nl_msg* message) const { nlmsg_free(message); }
};
using Message = std::unique_ptr<nl_msg, MessageDeleter>;

// Inputs of one RUN request: as many vectors as the kernel takes and one attribute holds.
[[nodiscard]] size_t run_inputs_per_request(size_t inputs_per_vector);

// `family` is the number that genl_ctrl_resolve() gave; `app` may be empty where the command takes none.
Message request(int family, uint8_t command, const std::string& app, int flags = 0);
Message slot_request(int family, uint8_t command, const std::string& app, uint32_t slot);
Message install_request(int family, const std::string& app, const InstallRequest& install);
Message explore_request(int family, const std::string& app, uint32_t slot, uint32_t explore_q16);
Message configure_request(int family, const std::string& app, uint32_t wakeup_bytes, uint32_t consistency);
Message canary_request(int family, const std::string& app, uint32_t slot, uint32_t share_q16);
Message objective_request(int family, const std::string& app, const std::array<uint32_t, ADP_OBJECTIVES>& weights_q16);
// All inputs have the same length; at most run_inputs_per_request() of them.
Message run_request(int family, const std::string& app, uint32_t slot, uint32_t implementation,
                    std::span<const std::vector<uint8_t>> inputs);

Result<AppState> parse_app(const nlmsghdr* reply);
Result<uint32_t> parse_slot(const nlmsghdr* reply);
Result<RunReply> parse_run(const nlmsghdr* reply);
// "INSTALL", "params", "avx2": the words of netlink.h in lower case, as the module's documentation has them.
const char* command_name(uint8_t command);
const char* attribute_name(int attribute);
const char* implementation_name(uint32_t implementation);

// `message` is an NLMSG_ERROR with an error in it, `sent` the request that it answers, of a family whose attributes
// have these names.
Refusal parse_refusal(const nlmsghdr* message, const nlmsghdr* sent,
                      const char* (*name_of)(int attribute) = attribute_name);

}  // namespace adapath::kmod
