// See select_control.h.
#include "userspace/kmod_backend/select_control.h"

#include <errno.h>
#include <fmt/format.h>
#include <net/if.h>
#include <netlink/attr.h>
#include <netlink/genl/genl.h>

#include <array>
#include <cstring>
#include <optional>

namespace adapath::kmod {
namespace {

constexpr size_t kMessageBytes = 32 * 1024;  // all cameras, of 48 bytes each, and the headers

constexpr std::array<const char*, ADP_SELECT_CMD_COUNT_> kCommands = {"?",         "GET",        "GET_CAMERA",
                                                                      "CONFIGURE", "SET_MARKET", "SET_FEEDBACK"};
constexpr std::array<const char*, ADP_SELECT_A_COUNT_> kAttributes = {
    "?",        "pad",       "abi_version", "interfaces",   "interface", "cameras", "camera",
    "address",  "sub_port",  "main_port",   "payload_type", "place",     "id",      "state",
    "feedback", "price",     "main_limit",  "used",         "sharing",   "objects", "confidence",
    "accuracy", "sub_worth", "gain",        "main_late"};
// std::array fills up with null where a name was forgotten.
static_assert(kCommands.back() != nullptr && kAttributes.back() != nullptr);

const char* select_attribute_name(int attribute) {
    return attribute >= 0 && static_cast<size_t>(attribute) < kAttributes.size()
               ? kAttributes[static_cast<size_t>(attribute)]
               : "?";
}

constexpr GenlFamily kFamily = {ADP_SELECT_GENL_NAME, "adapath_select", select_attribute_name};

Error not_of_one_version() {
    return Error{"adapath_select.ko answered what this adapathd can't read: are both of one version?"};
}

using Attributes = std::array<nlattr*, ADP_SELECT_A_COUNT_>;

bool parse(const nlmsghdr* reply, Attributes& attributes) {
    auto* header = const_cast<nlmsghdr*>(reply);
    return genlmsg_valid_hdr(header, 0) != 0 &&
           genlmsg_parse(header, 0, attributes.data(), ADP_SELECT_A_MAX, nullptr) >= 0;
}

// A number or a record of just that size.
template <typename T>
bool read(nlattr* attribute, T& value) {
    if (attribute == nullptr || nla_len(attribute) != static_cast<int>(sizeof(value))) {
        return false;
    }
    std::memcpy(&value, nla_data(attribute), sizeof(value));
    return true;
}

Result<SelectState> parse_state(const nlmsghdr* reply) {
    Attributes a = {};
    SelectState state;
    if (!parse(reply, a) || !read(a[ADP_SELECT_A_ABI_VERSION], state.abi_version) ||
        !read(a[ADP_SELECT_A_PRICE], state.market.price_q16) ||
        !read(a[ADP_SELECT_A_MAIN_LIMIT], state.market.main_limit) ||
        !read(a[ADP_SELECT_A_USED], state.market.used_q16) || !read(a[ADP_SELECT_A_SHARING], state.market.cameras) ||
        !read(a[ADP_SELECT_A_MAIN_LATE], state.market.main_late_q16) || a[ADP_SELECT_A_INTERFACES] == nullptr) {
        return not_of_one_version();
    }
    nlattr* nest = a[ADP_SELECT_A_INTERFACES];
    int left = nla_len(nest);
    for (auto* one = static_cast<nlattr*>(nla_data(nest)); nla_ok(one, left); one = nla_next(one, &left)) {
        uint32_t ifindex = 0;
        if (!read(one, ifindex)) {
            return not_of_one_version();
        }
        state.interfaces.push_back(ifindex);
    }
    return state;
}

Result<SelectCameraState> parse_camera(const nlmsghdr* reply) {
    Attributes a = {};
    SelectCameraState state;
    if (!parse(reply, a) || !read(a[ADP_SELECT_A_PLACE], state.place) || !read(a[ADP_SELECT_A_STATE], state.camera) ||
        !read(a[ADP_SELECT_A_FEEDBACK], state.feedback)) {
        return not_of_one_version();
    }
    return state;
}

// For commands with exactly one answer.
template <typename T, typename Parse>
Result<T> only(const std::function<Status(const GenlSocket::OnReply&)>& talk, Parse parse) {
    std::optional<T> kept;
    Status status = talk([&](const nlmsghdr* reply) -> Status {
        Result<T> parsed = parse(reply);
        if (!parsed) {
            return parsed.error();
        }
        kept = std::move(*parsed);
        return {};
    });
    if (!status) {
        return status.error();
    }
    return kept ? Result<T>(std::move(*kept)) : not_of_one_version();
}

}  // namespace

SelectControl::SelectControl() : socket_(kFamily) {}

Result<std::unique_ptr<SelectControl>> SelectControl::open() {
    std::unique_ptr<SelectControl> control(new SelectControl);
    if (Status status = control->socket_.connect(); !status) {
        return status.error();
    }
    return control;
}

Message SelectControl::request(uint8_t command, int flags) const {
    Message message(nlmsg_alloc_size(kMessageBytes));
    // The message has room for the largest request by construction, so that no put can fail.
    if (message != nullptr) {
        genlmsg_put(message.get(), NL_AUTO_PORT, NL_AUTO_SEQ, socket_.number(), 0, flags, command,
                    ADP_SELECT_GENL_VERSION);
    }
    return message;
}

Status SelectControl::talk(const Message& message, const GenlSocket::OnReply& on_reply) {
    const uint8_t command = message == nullptr ? uint8_t{0} : genlmsg_hdr(nlmsg_hdr(message.get()))->cmd;
    return socket_.talk(message, kCommands.at(command), on_reply, [&](const Refusal& refusal) {
        return refused(fmt::format("adapath_select.ko refuses {}", kCommands.at(command)), refusal);
    });
}

Result<SelectState> SelectControl::state() {
    const Message message = request(ADP_SELECT_CMD_GET);
    return only<SelectState>([&](const GenlSocket::OnReply& on_reply) { return talk(message, on_reply); }, parse_state);
}

Result<SelectCameraState> SelectControl::camera(uint32_t place) {
    const Message message = request(ADP_SELECT_CMD_GET_CAMERA);
    if (message != nullptr) {
        nla_put_u32(message.get(), ADP_SELECT_A_PLACE, place);
    }
    return only<SelectCameraState>([&](const GenlSocket::OnReply& on_reply) { return talk(message, on_reply); },
                                   parse_camera);
}

Result<std::vector<SelectCameraState>> SelectControl::cameras() {
    std::vector<SelectCameraState> all;
    Status status = talk(request(ADP_SELECT_CMD_GET_CAMERA, NLM_F_DUMP), [&](const nlmsghdr* reply) -> Status {
        Result<SelectCameraState> camera = parse_camera(reply);
        if (!camera) {
            return camera.error();
        }
        all.push_back(*camera);
        return {};
    });
    if (!status) {
        return status.error();
    }
    return all;
}

Status SelectControl::configure(const std::vector<std::string>& interfaces, const std::vector<SelectCamera>& cameras) {
    const Message message = request(ADP_SELECT_CMD_CONFIGURE);
    if (message == nullptr) {
        return talk(message);
    }
    nl_msg* m = message.get();
    nlattr* nest = nla_nest_start(m, ADP_SELECT_A_INTERFACES | NLA_F_NESTED);
    for (const std::string& name : interfaces) {
        const unsigned int ifindex = if_nametoindex(name.c_str());
        if (ifindex == 0) {
            return Error{fmt::format("interface '{}': {}", name, std::strerror(errno))};
        }
        nla_put_u32(m, ADP_SELECT_A_INTERFACE, ifindex);
    }
    // libnl takes an empty nest back with nla_nest_end(): these have to be there all the same.
    nla_nest_end_keep_empty(m, nest);
    nest = nla_nest_start(m, ADP_SELECT_A_CAMERAS | NLA_F_NESTED);
    for (const SelectCamera& camera : cameras) {
        const std::optional<adp_address> parsed = parse_camera_address(camera.address);
        if (!parsed) {
            return Error{fmt::format("camera '{}': address '{}'", camera.name, camera.address)};
        }
        std::array<uint8_t, 16> address = {};
        for (size_t i = 0; i < address.size(); ++i) {
            address[i] = static_cast<uint8_t>(parsed->word[i / 4] >> (24 - 8 * (i % 4)));
        }
        nlattr* one = nla_nest_start(m, ADP_SELECT_A_CAMERA | NLA_F_NESTED);
        nla_put(m, ADP_SELECT_A_ADDRESS, address.size(), address.data());
        nla_put_u16(m, ADP_SELECT_A_SUB_PORT, camera.sub_port);
        nla_put_u16(m, ADP_SELECT_A_MAIN_PORT, camera.main_port);
        nla_put_u8(m, ADP_SELECT_A_PAYLOAD_TYPE, camera.payload_type);
        nla_nest_end(m, one);
    }
    nla_nest_end_keep_empty(m, nest);
    return talk(message);
}

Status SelectControl::set_market(const adp_select_market& market) {
    const Message message = request(ADP_SELECT_CMD_SET_MARKET);
    if (message != nullptr) {
        nla_put_u32(message.get(), ADP_SELECT_A_PRICE, market.price_q16);
        nla_put_u32(message.get(), ADP_SELECT_A_MAIN_LIMIT, market.main_limit);
        nla_put_u32(message.get(), ADP_SELECT_A_USED, market.used_q16);
        nla_put_u32(message.get(), ADP_SELECT_A_SHARING, market.cameras);
        nla_put_u32(message.get(), ADP_SELECT_A_MAIN_LATE, market.main_late_q16);
    }
    return talk(message);
}

Status SelectControl::set_seen(uint32_t place, uint32_t objects, uint32_t confidence_q16, uint32_t accuracy_q16) {
    const Message message = request(ADP_SELECT_CMD_SET_FEEDBACK);
    if (message != nullptr) {
        nla_put_u32(message.get(), ADP_SELECT_A_PLACE, place);
        nla_put_u32(message.get(), ADP_SELECT_A_OBJECTS, objects);
        nla_put_u32(message.get(), ADP_SELECT_A_CONFIDENCE, confidence_q16);
        nla_put_u32(message.get(), ADP_SELECT_A_ACCURACY, accuracy_q16);
    }
    return talk(message);
}

Status SelectControl::set_measured(uint32_t place, uint32_t sub_worth_q16, int32_t gain_q16) {
    const Message message = request(ADP_SELECT_CMD_SET_FEEDBACK);
    if (message != nullptr) {
        nla_put_u32(message.get(), ADP_SELECT_A_PLACE, place);
        nla_put_u32(message.get(), ADP_SELECT_A_SUB_WORTH, sub_worth_q16);
        nla_put_s32(message.get(), ADP_SELECT_A_GAIN, gain_q16);
    }
    return talk(message);
}

}  // namespace adapath::kmod
