// See messages.h.
#include "userspace/kmod_backend/messages.h"

#include <fmt/format.h>
#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/genl/genl.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace adapath::kmod {
namespace {

constexpr size_t kMessageBytes = 80 * 1024;  // the parameters of a full slot, the layers and the headers
constexpr size_t kAttributeBytes = 65528;    // nla_len is 16 bits wide and counts its own header

constexpr std::array<const char*, ADP_CMD_COUNT_> kCommands = {
    "?",       "GET_APP",     "GET_PROGRAMS", "INSTALL", "SWITCH", "ROLLBACK", "DEACTIVATE", "RECLAIM",
    "DISCARD", "SET_EXPLORE", "CONFIGURE",    "CLEAR",   "RUN",    "CANARY",   "END_CANARY"};
constexpr std::array<const char*, ADP_A_COUNT_> kAttributes = {"?",
                                                               "pad",
                                                               "app",
                                                               "slot",
                                                               "generation",
                                                               "hash",
                                                               "program_hash",
                                                               "explore",
                                                               "schema",
                                                               "layers",
                                                               "layer",
                                                               "inputs",
                                                               "outputs",
                                                               "activation",
                                                               "params",
                                                               "implementation",
                                                               "implementations",
                                                               "measured",
                                                               "picoseconds",
                                                               "slots",
                                                               "slot_info",
                                                               "state",
                                                               "bound",
                                                               "params_bytes",
                                                               "active",
                                                               "standby",
                                                               "stats",
                                                               "record_bytes",
                                                               "device",
                                                               "interface",
                                                               "wakeup_bytes",
                                                               "consistency",
                                                               "run_inputs",
                                                               "run_outputs",
                                                               "repeat",
                                                               "elapsed_ns",
                                                               "name",
                                                               "users",
                                                               "abi_version",
                                                               "id",
                                                               "objective",
                                                               "canary",
                                                               "share"};
constexpr std::array<const char*, ADP_RUN_COUNT_> kImplementations = {"chosen", "generic", "generated", "avx2",
                                                                      "avx512-vnni"};
// std::array fills up with null where a name was forgotten.
static_assert(kCommands.back() != nullptr && kAttributes.back() != nullptr && kImplementations.back() != nullptr);

// What each attribute has to be where it comes in a reply: libnl refuses one that is too short.
const nla_policy* policy() {
    static const std::array<nla_policy, ADP_A_COUNT_> all = [] {
        std::array<nla_policy, ADP_A_COUNT_> p = {};
        for (int a : {ADP_A_SLOT,    ADP_A_GENERATION, ADP_A_EXPLORE,        ADP_A_SCHEMA,       ADP_A_INPUTS,
                      ADP_A_OUTPUTS, ADP_A_ACTIVATION, ADP_A_IMPLEMENTATION, ADP_A_STATE,        ADP_A_PARAMS_BYTES,
                      ADP_A_ACTIVE,  ADP_A_STANDBY,    ADP_A_RECORD_BYTES,   ADP_A_WAKEUP_BYTES, ADP_A_CONSISTENCY,
                      ADP_A_CANARY,  ADP_A_SHARE,      ADP_A_REPEAT,         ADP_A_USERS,        ADP_A_ABI_VERSION}) {
            p[a].type = NLA_U32;
        }
        for (int a : {ADP_A_HASH, ADP_A_PROGRAM_HASH, ADP_A_PICOSECONDS, ADP_A_BOUND, ADP_A_ELAPSED_NS}) {
            p[a].type = NLA_U64;
        }
        for (int a : {ADP_A_APP, ADP_A_DEVICE, ADP_A_INTERFACE, ADP_A_NAME}) {
            p[a].type = NLA_STRING;
        }
        for (int a : {ADP_A_LAYERS, ADP_A_LAYER, ADP_A_IMPLEMENTATIONS, ADP_A_MEASURED, ADP_A_SLOTS, ADP_A_SLOT_INFO}) {
            p[a].type = NLA_NESTED;
        }
        return p;
    }();
    return all.data();
}

// The attributes of a message or of a nest, looked up by number.
class Attributes {
public:
    static Result<Attributes> of(const nlmsghdr* message) {
        Attributes found;
        if (!genlmsg_valid_hdr(const_cast<nlmsghdr*>(message), 0) ||
            genlmsg_parse(const_cast<nlmsghdr*>(message), 0, found.at_.data(), ADP_A_MAX,
                          const_cast<nla_policy*>(policy())) < 0) {
            return Error{"adapath.ko answered with a message that this adapathd can't read: are both of one version?"};
        }
        return found;
    }
    static Result<Attributes> of(nlattr* nest) {
        Attributes found;
        if (nla_parse_nested(found.at_.data(), ADP_A_MAX, nest, const_cast<nla_policy*>(policy())) < 0) {
            return Error{fmt::format("adapath.ko answered with a damaged '{}': are module and adapathd of one version?",
                                     attribute_name(nla_type(nest)))};
        }
        return found;
    }
    [[nodiscard]] nlattr* at(int attribute) const { return at_[static_cast<size_t>(attribute)]; }
    [[nodiscard]] uint32_t u32(int attribute, uint32_t otherwise = 0) const {
        return at(attribute) != nullptr ? nla_get_u32(at(attribute)) : otherwise;
    }
    [[nodiscard]] uint64_t u64(int attribute) const {
        return at(attribute) != nullptr ? nla_get_u64(at(attribute)) : 0;
    }
    [[nodiscard]] std::string text(int attribute) const {
        if (at(attribute) == nullptr) {
            return {};
        }
        const char* data = static_cast<const char*>(nla_data(at(attribute)));
        return {data, strnlen(data, static_cast<size_t>(nla_len(at(attribute))))};
    }

private:
    std::array<nlattr*, ADP_A_COUNT_> at_ = {};
};

// Calls `each` with every element of a nest.
template <typename Each>
Status for_each(nlattr* nest, const Each& each) {
    if (nest == nullptr) {
        return {};
    }
    int left = nla_len(nest);
    for (auto* element = static_cast<nlattr*>(nla_data(nest)); nla_ok(element, left);
         element = nla_next(element, &left)) {
        Result<Attributes> found = Attributes::of(element);
        if (!found) {
            return found.error();
        }
        if (Status status = each(*found); !status) {
            return status;
        }
    }
    return {};
}

Result<KernelSlot> parse_slot_info(const Attributes& a) {
    KernelSlot slot;
    slot.slot = a.u32(ADP_A_SLOT, ADP_SLOT_NONE);
    slot.state = a.u32(ADP_A_STATE);
    slot.generation = a.u32(ADP_A_GENERATION);
    slot.hash = a.u64(ADP_A_HASH);
    slot.program_hash = a.u64(ADP_A_PROGRAM_HASH);
    slot.explore_q16 = a.u32(ADP_A_EXPLORE);
    slot.bound = a.u64(ADP_A_BOUND);
    slot.params_bytes = a.u32(ADP_A_PARAMS_BYTES);
    slot.implementation = a.u32(ADP_A_IMPLEMENTATION);
    Status status = for_each(a.at(ADP_A_IMPLEMENTATIONS), [&](const Attributes& m) -> Status {
        slot.measured.push_back({m.u32(ADP_A_IMPLEMENTATION), m.u64(ADP_A_PICOSECONDS)});
        return {};
    });
    if (!status) {
        return status.error();
    }
    status = for_each(a.at(ADP_A_LAYERS), [&](const Attributes& l) -> Status {
        slot.layers.push_back(
            {l.u32(ADP_A_INPUTS), l.u32(ADP_A_OUTPUTS), static_cast<Activation>(l.u32(ADP_A_ACTIVATION))});
        return {};
    });
    if (!status) {
        return status.error();
    }
    if (slot.slot >= ADP_SLOTS) {
        return Error{fmt::format("adapath.ko reports a slot {}: this adapathd knows {}, so they are not of one version",
                                 slot.slot, ADP_SLOTS)};
    }
    return slot;
}

nlattr* begin_nest(nl_msg* message, int attribute) { return nla_nest_start(message, attribute | NLA_F_NESTED); }

}  // namespace

const char* command_name(uint8_t command) { return command < kCommands.size() ? kCommands[command] : "?"; }
const char* attribute_name(int attribute) {
    return attribute >= 0 && static_cast<size_t>(attribute) < kAttributes.size()
               ? kAttributes[static_cast<size_t>(attribute)]
               : "?";
}
const char* implementation_name(uint32_t implementation) {
    return implementation < kImplementations.size() ? kImplementations[implementation] : "unknown";
}

size_t run_inputs_per_request(size_t inputs_per_vector) {
    return std::clamp<size_t>(kAttributeBytes / std::max<size_t>(inputs_per_vector, 1), 1, ADP_RUN_MAX_INPUTS);
}

Message request(int family, uint8_t command, const std::string& app, int flags) {
    Message message(nlmsg_alloc_size(kMessageBytes));
    // The message has room for the largest request by construction, so that no put can fail.
    if (message != nullptr) {
        genlmsg_put(message.get(), NL_AUTO_PORT, NL_AUTO_SEQ, family, 0, flags, command, ADP_GENL_VERSION);
        if (!app.empty()) {
            nla_put_string(message.get(), ADP_A_APP, app.c_str());
        }
    }
    return message;
}

Message slot_request(int family, uint8_t command, const std::string& app, uint32_t slot) {
    Message message = request(family, command, app);
    if (message != nullptr) {
        nla_put_u32(message.get(), ADP_A_SLOT, slot);
    }
    return message;
}

Message install_request(int family, const std::string& app, const InstallRequest& install) {
    Message message = request(family, ADP_CMD_INSTALL, app);
    if (message == nullptr) {
        return message;
    }
    nl_msg* m = message.get();
    nla_put_u32(m, ADP_A_GENERATION, install.generation);
    nla_put_u64(m, ADP_A_HASH, install.hash);
    nla_put_u64(m, ADP_A_PROGRAM_HASH, install.program_hash);
    nla_put_u32(m, ADP_A_SCHEMA, install.schema);
    nla_put_u32(m, ADP_A_EXPLORE, install.explore_q16);
    nlattr* layers = begin_nest(m, ADP_A_LAYERS);
    for (const LayerShape& shape : install.layers) {
        nlattr* layer = begin_nest(m, ADP_A_LAYER);
        nla_put_u32(m, ADP_A_INPUTS, shape.inputs);
        nla_put_u32(m, ADP_A_OUTPUTS, shape.outputs);
        nla_put_u32(m, ADP_A_ACTIVATION, static_cast<uint32_t>(shape.activation));
        nla_nest_end(m, layer);
    }
    nla_nest_end(m, layers);
    nla_put(m, ADP_A_PARAMS, static_cast<int>(install.params.size()), install.params.data());
    return message;
}

Message explore_request(int family, const std::string& app, uint32_t slot, uint32_t explore_q16) {
    Message message = slot_request(family, ADP_CMD_SET_EXPLORE, app, slot);
    if (message != nullptr) {
        nla_put_u32(message.get(), ADP_A_EXPLORE, explore_q16);
    }
    return message;
}

Message configure_request(int family, const std::string& app, uint32_t wakeup_bytes, uint32_t consistency) {
    Message message = request(family, ADP_CMD_CONFIGURE, app);
    if (message != nullptr) {
        nla_put_u32(message.get(), ADP_A_WAKEUP_BYTES, wakeup_bytes);
        nla_put_u32(message.get(), ADP_A_CONSISTENCY, consistency);
    }
    return message;
}

Message canary_request(int family, const std::string& app, uint32_t slot, uint32_t share_q16) {
    Message message = slot_request(family, ADP_CMD_CANARY, app, slot);
    if (message != nullptr) {
        nla_put_u32(message.get(), ADP_A_SHARE, share_q16);
    }
    return message;
}

Message objective_request(int family, const std::string& app, const std::array<uint32_t, ADP_OBJECTIVES>& weights_q16) {
    Message message = request(family, ADP_CMD_CONFIGURE, app);
    if (message != nullptr) {
        nla_put(message.get(), ADP_A_OBJECTIVE, sizeof(weights_q16), weights_q16.data());
    }
    return message;
}

Message run_request(int family, const std::string& app, uint32_t slot, uint32_t implementation,
                    std::span<const std::vector<uint8_t>> inputs) {
    Message message = slot_request(family, ADP_CMD_RUN, app, slot);
    if (message == nullptr) {
        return message;
    }
    nla_put_u32(message.get(), ADP_A_IMPLEMENTATION, implementation);
    size_t bytes = 0;
    for (const std::vector<uint8_t>& input : inputs) {
        bytes += input.size();
    }
    nlattr* block = nla_reserve(message.get(), ADP_A_RUN_INPUTS, static_cast<int>(bytes));
    auto* to = static_cast<uint8_t*>(nla_data(block));
    for (const std::vector<uint8_t>& input : inputs) {
        to = std::copy(input.begin(), input.end(), to);
    }
    return message;
}

Result<AppState> parse_app(const nlmsghdr* reply) {
    Result<Attributes> found = Attributes::of(reply);
    if (!found) {
        return found.error();
    }
    const Attributes& a = *found;
    AppState app;
    app.name = a.text(ADP_A_APP);
    app.interface = a.text(ADP_A_INTERFACE);
    app.device = a.text(ADP_A_DEVICE);
    app.abi_version = a.u32(ADP_A_ABI_VERSION);
    app.schema = a.u32(ADP_A_SCHEMA);
    app.inputs = a.u32(ADP_A_INPUTS);
    app.outputs = a.u32(ADP_A_OUTPUTS);
    app.record_bytes = a.u32(ADP_A_RECORD_BYTES);
    app.wakeup_bytes = a.u32(ADP_A_WAKEUP_BYTES);
    app.consistency = a.u32(ADP_A_CONSISTENCY);
    app.active = a.u32(ADP_A_ACTIVE, ADP_SLOT_NONE);
    app.standby = a.u32(ADP_A_STANDBY, ADP_SLOT_NONE);
    app.canary = a.u32(ADP_A_CANARY, ADP_SLOT_NONE);
    app.canary_share_q16 = a.u32(ADP_A_SHARE);
    if (nlattr* objective = a.at(ADP_A_OBJECTIVE)) {
        std::memcpy(app.objective_q16.data(), nla_data(objective),
                    std::min<size_t>(sizeof(app.objective_q16), static_cast<size_t>(nla_len(objective))));
    }
    if (nlattr* stats = a.at(ADP_A_STATS)) {
        // A newer module may have more counters at the end, an older one fewer.
        std::memcpy(&app.stats, nla_data(stats),
                    std::min<size_t>(sizeof(app.stats), static_cast<size_t>(nla_len(stats))));
    }
    Status status = for_each(a.at(ADP_A_SLOTS), [&](const Attributes& s) -> Status {
        Result<KernelSlot> slot = parse_slot_info(s);
        if (!slot) {
            return slot.error();
        }
        app.slots.push_back(std::move(*slot));
        return {};
    });
    if (!status) {
        return status.error();
    }
    return app;
}

Result<uint32_t> parse_slot(const nlmsghdr* reply) {
    Result<Attributes> found = Attributes::of(reply);
    if (!found) {
        return found.error();
    }
    const uint32_t slot = found->u32(ADP_A_SLOT, ADP_SLOT_NONE);
    if (slot >= ADP_SLOTS) {
        return Error{"adapath.ko named no slot in its answer: are module and adapathd of one version?"};
    }
    return slot;
}

Result<RunReply> parse_run(const nlmsghdr* reply) {
    Result<Attributes> found = Attributes::of(reply);
    if (!found) {
        return found.error();
    }
    RunReply run;
    run.implementation = found->u32(ADP_A_IMPLEMENTATION);
    run.elapsed_ns = found->u64(ADP_A_ELAPSED_NS);
    if (nlattr* outputs = found->at(ADP_A_RUN_OUTPUTS)) {
        run.outputs.resize(static_cast<size_t>(nla_len(outputs)) / sizeof(int32_t));
        std::memcpy(run.outputs.data(), nla_data(outputs), run.outputs.size() * sizeof(int32_t));
    }
    return run;
}

Refusal parse_refusal(const nlmsghdr* message, const nlmsghdr* sent, const char* (*name_of)(int attribute)) {
    Refusal refusal;
    const auto* header = const_cast<nlmsghdr*>(message);
    const size_t bytes = static_cast<size_t>(nlmsg_datalen(header));
    if (bytes < sizeof(nlmsgerr)) {
        refusal.error = EPROTO;
        return refusal;
    }
    const auto* error = static_cast<const nlmsgerr*>(nlmsg_data(header));
    refusal.error = error->error < 0 ? -error->error : error->error;
    if ((message->nlmsg_flags & NLM_F_ACK_TLVS) == 0) {
        return refusal;
    }
    // The attributes come after what the kernel repeats of the request: its header alone where it was asked for that.
    size_t offset = sizeof(nlmsgerr);
    if ((message->nlmsg_flags & NLM_F_CAPPED) == 0 && error->msg.nlmsg_len >= sizeof(nlmsghdr)) {
        offset += NLMSG_ALIGN(error->msg.nlmsg_len - sizeof(nlmsghdr));
    }
    if (offset >= bytes) {
        return refusal;
    }
    std::array<nlattr*, NLMSGERR_ATTR_MAX + 1> at = {};
    auto* first = reinterpret_cast<nlattr*>(static_cast<char*>(nlmsg_data(header)) + offset);
    if (nla_parse(at.data(), NLMSGERR_ATTR_MAX, first, static_cast<int>(bytes - offset), nullptr) < 0) {
        return refusal;
    }
    if (nlattr* text = at[NLMSGERR_ATTR_MSG]) {
        const char* data = static_cast<const char*>(nla_data(text));
        refusal.message.assign(data, strnlen(data, static_cast<size_t>(nla_len(text))));
    }
    if (nlattr* where = at[NLMSGERR_ATTR_OFFS]; where != nullptr && nla_len(where) >= 4) {
        const uint32_t offending = nla_get_u32(where);
        if (sent != nullptr && offending + sizeof(nlattr) <= sent->nlmsg_len) {
            const auto* attribute = reinterpret_cast<const nlattr*>(reinterpret_cast<const char*>(sent) + offending);
            refusal.attribute = name_of(nla_type(attribute));
        }
    }
    if (nlattr* missing = at[NLMSGERR_ATTR_MISS_TYPE]; missing != nullptr && nla_len(missing) >= 4) {
        refusal.attribute = name_of(static_cast<int>(nla_get_u32(missing)));
        if (refusal.message.empty()) {
            refusal.message = "attribute missing";
        }
    }
    return refusal;
}

}  // namespace adapath::kmod
