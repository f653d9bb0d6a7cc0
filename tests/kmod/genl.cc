// See genl.h.
#include "tests/kmod/genl.h"

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <adapath/select_netlink.h>
#include <fmt/format.h>

namespace adapath::kmod_test {

namespace {

constexpr size_t kReceiveBytes = 1 << 18;
// Of both families.
static_assert(ADP_GENL_VERSION == ADP_SELECT_GENL_VERSION);
constexpr int kAnswerMs = 30000;

size_t align4(size_t n) { return (n + 3) & ~size_t{3}; }

template <typename T>
void append(std::vector<uint8_t>& to, const T& value) {
    const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
    to.insert(to.end(), bytes, bytes + sizeof(value));
}

template <typename T>
T load(const uint8_t* from) {
    T value;
    memcpy(&value, from, sizeof(value));
    return value;
}

std::vector<uint8_t> message(uint16_t type, uint16_t flags, uint32_t sequence, std::span<const uint8_t> payload) {
    nlmsghdr header{};
    header.nlmsg_len = static_cast<uint32_t>(NLMSG_HDRLEN + payload.size());
    header.nlmsg_type = type;
    header.nlmsg_flags = flags;
    header.nlmsg_seq = sequence;
    std::vector<uint8_t> out;
    append(out, header);
    out.insert(out.end(), payload.begin(), payload.end());
    return out;
}

std::vector<uint8_t> genl_payload(uint8_t command, std::span<const uint8_t> attributes) {
    genlmsghdr header{};
    header.cmd = command;
    header.version = ADP_GENL_VERSION;
    std::vector<uint8_t> out;
    append(out, header);
    out.insert(out.end(), attributes.begin(), attributes.end());
    return out;
}

// An NLMSG_ERROR or NLMSG_DONE with its extended acknowledgement.
void read_acknowledgement(const nlmsghdr& header, std::span<const uint8_t> payload, Reply& reply) {
    if (payload.size() < sizeof(int)) {
        reply.error = EBADMSG;
        return;
    }
    reply.error = -load<int>(payload.data());
    if (!(header.nlmsg_flags & NLM_F_ACK_TLVS)) {
        return;
    }
    size_t skip = sizeof(int);
    if (header.nlmsg_type == NLMSG_ERROR) {
        const auto request = load<nlmsghdr>(payload.data() + sizeof(int));
        skip += (header.nlmsg_flags & NLM_F_CAPPED) ? sizeof(nlmsghdr) : align4(request.nlmsg_len);
    }
    if (skip > payload.size()) {
        return;
    }
    for (const Attribute& a : parse_attributes(payload.subspan(skip))) {
        switch (a.type) {
            case NLMSGERR_ATTR_MSG:
                reply.message = a.string();
                break;
            case NLMSGERR_ATTR_OFFS:
                reply.has_offset = true;
                reply.offset = a.u32().value_or(0);
                break;
            case NLMSGERR_ATTR_MISS_TYPE:
                reply.has_missing = true;
                break;
            default:
                break;
        }
    }
}

template <typename T>
std::optional<T> exactly(std::span<const uint8_t> value) {
    if (value.size() != sizeof(T)) {
        return std::nullopt;
    }
    return load<T>(value.data());
}

}  // namespace

Attributes& Attributes::bytes(uint16_t type, std::span<const uint8_t> value) {
    nlattr header{};
    header.nla_len = static_cast<uint16_t>(NLA_HDRLEN + value.size());
    header.nla_type = type;
    append(data_, header);
    data_.insert(data_.end(), value.begin(), value.end());
    data_.resize(align4(data_.size()));
    return *this;
}

Attributes& Attributes::u32(uint16_t type, uint32_t value) {
    return bytes(type, {reinterpret_cast<const uint8_t*>(&value), sizeof(value)});
}

Attributes& Attributes::u64(uint16_t type, uint64_t value) {
    return bytes(type, {reinterpret_cast<const uint8_t*>(&value), sizeof(value)});
}

Attributes& Attributes::string(uint16_t type, std::string_view value) {
    const std::string terminated(value);
    return bytes(type, {reinterpret_cast<const uint8_t*>(terminated.c_str()), terminated.size() + 1});
}

Attributes& Attributes::nest(uint16_t type, const Attributes& inner) {
    return bytes(type | NLA_F_NESTED, inner.data());
}

Attributes& Attributes::raw(std::span<const uint8_t> bytes) {
    data_.insert(data_.end(), bytes.begin(), bytes.end());
    return *this;
}

std::optional<uint32_t> Attribute::u32() const { return exactly<uint32_t>(value); }
std::optional<uint64_t> Attribute::u64() const { return exactly<uint64_t>(value); }
std::string Attribute::string() const {
    return {reinterpret_cast<const char*>(value.data()),
            strnlen(reinterpret_cast<const char*>(value.data()), value.size())};
}

std::vector<Attribute> parse_attributes(std::span<const uint8_t> bytes) {
    std::vector<Attribute> out;
    while (bytes.size() >= NLA_HDRLEN) {
        const auto header = load<nlattr>(bytes.data());
        if (header.nla_len < NLA_HDRLEN || header.nla_len > bytes.size()) {
            break;
        }
        out.push_back({static_cast<uint16_t>(header.nla_type & NLA_TYPE_MASK),
                       bytes.subspan(NLA_HDRLEN, header.nla_len - NLA_HDRLEN)});
        bytes = bytes.subspan(std::min(align4(header.nla_len), bytes.size()));
    }
    return out;
}

const Attribute* find(const std::vector<Attribute>& attributes, uint16_t type) {
    const auto found =
        std::find_if(attributes.begin(), attributes.end(), [type](const Attribute& a) { return a.type == type; });
    return found == attributes.end() ? nullptr : &*found;
}

Result<Genl> Genl::open(const std::string& family) {
    UniqueFd socket(::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC));
    if (!socket.valid()) {
        return Error{fmt::format("generic netlink socket: {}", strerror(errno))};
    }
    const int one = 1;
    const int buffer = 1 << 20;
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    if (setsockopt(socket.get(), SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one)) != 0 ||
        setsockopt(socket.get(), SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one)) != 0 ||
        setsockopt(socket.get(), SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)) != 0 ||
        bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        return Error{fmt::format("generic netlink socket: {}", strerror(errno))};
    }
    Genl genl(std::move(socket), GENL_ID_CTRL);
    Attributes name;
    name.string(CTRL_ATTR_FAMILY_NAME, family);
    const Reply reply =
        genl.transact(GENL_ID_CTRL, NLM_F_REQUEST | NLM_F_ACK, genl_payload(CTRL_CMD_GETFAMILY, name.data()));
    if (!reply.ok()) {
        return Error{fmt::format("netlink family \"{}\": {}; load its module", family, strerror(reply.error))};
    }
    for (const std::vector<uint8_t>& one_message : reply.messages) {
        for (const Attribute& a : parse_attributes(one_message)) {
            if (a.type == CTRL_ATTR_FAMILY_ID && a.value.size() == sizeof(uint16_t)) {
                genl.family_ = load<uint16_t>(a.value.data());
                return genl;
            }
        }
    }
    return Error{fmt::format("netlink family \"{}\": the kernel gave no number", family)};
}

Reply Genl::call(uint8_t command, const Attributes& attributes, bool dump) {
    return transact(family_, static_cast<uint16_t>(NLM_F_REQUEST | NLM_F_ACK | (dump ? NLM_F_DUMP : 0)),
                    genl_payload(command, attributes.data()));
}

Reply Genl::send_raw(std::span<const uint8_t> genl_message, uint16_t flags) {
    return transact(family_, flags | NLM_F_REQUEST | NLM_F_ACK, genl_message);
}

std::optional<int> Genl::send_datagram(std::span<const uint8_t> datagram) {
    if (::send(socket_.get(), datagram.data(), datagram.size(), 0) < 0) {
        return errno;
    }
    std::vector<uint8_t> buffer(kReceiveBytes);
    std::optional<int> answer;
    pollfd waiting{socket_.get(), POLLIN, 0};
    // Whatever comes is drawn off, so that the next call finds its own answer first.
    while (poll(&waiting, 1, answer ? 0 : 20) > 0) {
        const ssize_t received = recv(socket_.get(), buffer.data(), buffer.size(), 0);
        if (received >= static_cast<ssize_t>(NLMSG_HDRLEN + sizeof(int)) && !answer) {
            const auto header = load<nlmsghdr>(buffer.data());
            answer = header.nlmsg_type == NLMSG_ERROR ? -load<int>(buffer.data() + NLMSG_HDRLEN) : 0;
        }
    }
    return answer;
}

Reply Genl::transact(uint16_t type, uint16_t flags, std::span<const uint8_t> payload) {
    Reply reply;
    const uint32_t sequence = sequence_++;
    const std::vector<uint8_t> request = message(type, flags, sequence, payload);
    if (::send(socket_.get(), request.data(), request.size(), 0) != static_cast<ssize_t>(request.size())) {
        reply.error = errno;
        reply.sent = false;
        return reply;
    }
    std::vector<uint8_t> buffer(kReceiveBytes);
    for (;;) {
        pollfd waiting{socket_.get(), POLLIN, 0};
        const int ready = poll(&waiting, 1, kAnswerMs);
        if (ready < 0 && errno == EINTR) {
            continue;
        }
        if (ready <= 0) {
            reply.error = ready == 0 ? ETIMEDOUT : errno;
            return reply;
        }
        const ssize_t received = recv(socket_.get(), buffer.data(), buffer.size(), 0);
        if (received < 0) {
            reply.error = errno;
            return reply;
        }
        size_t at = 0;
        while (at + NLMSG_HDRLEN <= static_cast<size_t>(received)) {
            const auto header = load<nlmsghdr>(buffer.data() + at);
            if (header.nlmsg_len < NLMSG_HDRLEN || at + header.nlmsg_len > static_cast<size_t>(received)) {
                break;
            }
            const std::span<const uint8_t> content(buffer.data() + at + NLMSG_HDRLEN, header.nlmsg_len - NLMSG_HDRLEN);
            at += align4(header.nlmsg_len);
            if (header.nlmsg_seq != sequence) {
                continue;  // of an earlier message, a wrong one
            }
            if (header.nlmsg_type == NLMSG_ERROR || header.nlmsg_type == NLMSG_DONE) {
                read_acknowledgement(header, content, reply);
                return reply;
            }
            if (content.size() >= GENL_HDRLEN) {
                reply.messages.emplace_back(content.begin() + GENL_HDRLEN, content.end());
            }
        }
    }
}

// ---- GET_APP ----

namespace {

Slot slot_of(std::span<const uint8_t> bytes) {
    Slot slot;
    for (const Attribute& a : parse_attributes(bytes)) {
        switch (a.type) {
            case ADP_A_SLOT:
                slot.slot = a.u32().value();
                break;
            case ADP_A_STATE:
                slot.state = a.u32().value();
                break;
            case ADP_A_GENERATION:
                slot.generation = a.u32().value();
                break;
            case ADP_A_HASH:
                slot.hash = a.u64().value();
                break;
            case ADP_A_PROGRAM_HASH:
                slot.program_hash = a.u64().value();
                break;
            case ADP_A_EXPLORE:
                slot.explore = a.u32().value();
                break;
            case ADP_A_BOUND:
                slot.bound = a.u64().value();
                break;
            case ADP_A_PARAMS_BYTES:
                slot.params_bytes = a.u32().value();
                break;
            case ADP_A_IMPLEMENTATION:
                slot.implementation = a.u32().value();
                break;
            case ADP_A_IMPLEMENTATIONS:
                for (const Attribute& measured : parse_attributes(a.value)) {
                    const std::vector<Attribute> inner = parse_attributes(measured.value);
                    const Attribute* how = find(inner, ADP_A_IMPLEMENTATION);
                    const Attribute* cost = find(inner, ADP_A_PICOSECONDS);
                    if (how != nullptr && cost != nullptr) {
                        slot.implementations.push_back({how->u32().value(), cost->u64().value()});
                    }
                }
                break;
            default:
                break;
        }
    }
    return slot;
}

}  // namespace

Result<App> get_app(Genl& genl, std::string_view name) {
    Attributes request;
    request.string(ADP_A_APP, name);
    const Reply reply = genl.call(ADP_CMD_GET_APP, request);
    if (!reply.ok()) {
        return Error{fmt::format("GET_APP {}: {} ({})", name, strerror(reply.error), reply.message)};
    }
    if (reply.messages.size() != 1) {
        return Error{fmt::format("GET_APP {}: {} messages instead of one", name, reply.messages.size())};
    }
    App app;
    for (const Attribute& a : parse_attributes(reply.messages[0])) {
        switch (a.type) {
            case ADP_A_APP:
                app.name = a.string();
                break;
            case ADP_A_ID:
                app.id = a.u32().value();
                break;
            case ADP_A_SCHEMA:
                app.schema = a.u32().value();
                break;
            case ADP_A_INPUTS:
                app.inputs = a.u32().value();
                break;
            case ADP_A_OUTPUTS:
                app.outputs = a.u32().value();
                break;
            case ADP_A_ACTIVE:
                app.active = a.u32().value();
                break;
            case ADP_A_STANDBY:
                app.standby = a.u32().value();
                break;
            case ADP_A_RECORD_BYTES:
                app.record_bytes = a.u32().value();
                break;
            case ADP_A_WAKEUP_BYTES:
                app.wakeup_bytes = a.u32().value();
                break;
            case ADP_A_CONSISTENCY:
                app.consistency = a.u32().value();
                break;
            case ADP_A_CANARY:
                app.canary = a.u32().value();
                break;
            case ADP_A_SHARE:
                app.share = a.u32().value();
                break;
            case ADP_A_OBJECTIVE:
                for (size_t i = 0; i + 4 <= a.value.size(); i += 4) {
                    app.objective.push_back(load<uint32_t>(a.value.data() + i));
                }
                break;
            case ADP_A_ABI_VERSION:
                app.abi_version = a.u32().value();
                break;
            case ADP_A_DEVICE:
                app.device = a.string();
                break;
            case ADP_A_INTERFACE:
                app.interface = a.string();
                break;
            case ADP_A_STATS:
                for (size_t i = 0; i + 8 <= a.value.size(); i += 8) {
                    app.stats.push_back(load<uint64_t>(a.value.data() + i));
                }
                break;
            case ADP_A_SLOTS:
                for (const Attribute& info : parse_attributes(a.value)) {
                    const Slot slot = slot_of(info.value);
                    app.slots[slot.slot] = slot;
                }
                break;
            default:
                break;
        }
    }
    return app;
}

std::string fingerprint(const App& app) {
    std::string out = fmt::format(
        "{} schema {} {}->{} active {} standby {} canary {} share {} record {} wakeup {} consistency {} objective",
        app.name, app.schema, app.inputs, app.outputs, static_cast<int32_t>(app.active),
        static_cast<int32_t>(app.standby), static_cast<int32_t>(app.canary), app.share, app.record_bytes,
        app.wakeup_bytes, app.consistency);
    for (const uint32_t weight : app.objective) {
        out += fmt::format(" {}", weight);
    }
    for (const auto& [index, s] : app.slots) {
        out += fmt::format(
            "\n  slot {} state {} generation {} hash {:x} program {:x} explore {} bound {} bytes {} run by {}", index,
            s.state, s.generation, s.hash, s.program_hash, s.explore, s.bound, s.params_bytes, s.implementation);
    }
    return out;
}

// ---- commands ----

Attributes install_attributes(const InstallRequest& request) {
    Attributes layers;
    for (const LayerShape& shape : request.layers) {
        Attributes layer;
        layer.u32(ADP_A_INPUTS, shape.inputs)
            .u32(ADP_A_OUTPUTS, shape.outputs)
            .u32(ADP_A_ACTIVATION, static_cast<uint32_t>(shape.activation));
        layers.nest(ADP_A_LAYER, layer);
    }
    Attributes out;
    out.string(ADP_A_APP, request.app)
        .u32(ADP_A_GENERATION, request.generation)
        .u64(ADP_A_HASH, request.hash)
        .u64(ADP_A_PROGRAM_HASH, request.program_hash)
        .u32(ADP_A_SCHEMA, request.schema)
        .u32(ADP_A_EXPLORE, request.explore)
        .nest(ADP_A_LAYERS, layers)
        .bytes(ADP_A_PARAMS, request.params);
    return out;
}

Attributes canary_attributes(std::string_view app, uint32_t slot, uint32_t share) {
    Attributes a = slot_attributes(app, slot);
    a.u32(ADP_A_SHARE, share);
    return a;
}

Attributes slot_attributes(std::string_view app, uint32_t slot) {
    Attributes out;
    out.string(ADP_A_APP, app).u32(ADP_A_SLOT, slot);
    return out;
}

std::optional<uint32_t> installed_slot(const Reply& reply) {
    if (!reply.ok() || reply.messages.size() != 1) {
        return std::nullopt;
    }
    const std::vector<Attribute> attributes = parse_attributes(reply.messages[0]);
    const Attribute* slot = find(attributes, ADP_A_SLOT);
    return slot != nullptr ? slot->u32() : std::nullopt;
}

RunReply run_slot(Genl& genl, std::string_view app, uint32_t slot, std::span<const uint8_t> inputs,
                  uint32_t implementation, uint32_t repeat) {
    Attributes request = slot_attributes(app, slot);
    request.bytes(ADP_A_RUN_INPUTS, inputs);
    if (implementation != ADP_RUN_CHOSEN) {
        request.u32(ADP_A_IMPLEMENTATION, implementation);
    }
    if (repeat != 0) {
        request.u32(ADP_A_REPEAT, repeat);
    }
    RunReply out;
    out.reply = genl.call(ADP_CMD_RUN, request);
    for (const std::vector<uint8_t>& one : out.reply.messages) {
        for (const Attribute& a : parse_attributes(one)) {
            switch (a.type) {
                case ADP_A_RUN_OUTPUTS:
                    out.outputs.resize(a.value.size() / sizeof(int32_t));
                    memcpy(out.outputs.data(), a.value.data(), out.outputs.size() * sizeof(int32_t));
                    break;
                case ADP_A_IMPLEMENTATION:
                    out.implementation = a.u32().value();
                    break;
                case ADP_A_ELAPSED_NS:
                    out.elapsed_ns = a.u64().value();
                    break;
                default:
                    break;
            }
        }
    }
    return out;
}

}  // namespace adapath::kmod_test
