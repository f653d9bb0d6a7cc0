// See control.h.
#include "userspace/kmod_backend/control.h"

#include <errno.h>
#include <fmt/format.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/genl.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>

namespace adapath::kmod {
namespace {

constexpr int kSocketBytes = 256 * 1024;   // a message of 80 KiB either way
constexpr int kMessageBytes = 128 * 1024;  // the largest answer
constexpr int kPatienceSeconds = 30;       // the kernel answers within the request: longer means that it never will

Status no_family() {
    utsname name = {};
    uname(&name);
    if (access("/sys/module/adapath", F_OK) == 0) {
        return Error{
            "adapath.ko is loaded, but not to be seen from here: its netlink family lives in the host's network "
            "namespace. Start adapathd there (docker run --network=host, nsenter -t 1 -n), or use --backend=bpf"};
    }
    if (access("/proc/modules", F_OK) != 0) {
        return Error{
            fmt::format("this kernel ({}) can't load modules (it was built without CONFIG_MODULES), so there is no "
                        "adapath.ko: use --backend=bpf, which needs none",
                        name.release)};
    }
    return Error{fmt::format(
        "adapath.ko is not loaded, and the kernel did not find it: install the modules for kernel {} and load "
        "them with 'modprobe adapath_cc' (its reason for refusing is in dmesg; secure boot asks for a "
        "signature), or use --backend=bpf, which needs no module",
        name.release)};
}

struct Exchange {
    const nlmsghdr* sent = nullptr;
    const std::function<Status(const nlmsghdr*)>* on_reply = nullptr;
    Status status;  // of on_reply: the first that failed
    Refusal refusal;
    bool done = false;
};

int on_valid(nl_msg* message, void* argument) {
    auto* exchange = static_cast<Exchange*>(argument);
    if (*exchange->on_reply && exchange->status.ok()) {
        exchange->status = (*exchange->on_reply)(nlmsg_hdr(message));
    }
    return NL_OK;
}

int on_end(nl_msg* message, void* argument) {
    auto* exchange = static_cast<Exchange*>(argument);
    const nlmsghdr* header = nlmsg_hdr(message);
    // The end of a dump carries an error number of its own.
    if (header->nlmsg_type == NLMSG_DONE && nlmsg_datalen(header) >= static_cast<int>(sizeof(int))) {
        int error = 0;
        std::memcpy(&error, nlmsg_data(header), sizeof(error));
        exchange->refusal.error = error < 0 ? -error : 0;
    }
    exchange->done = true;
    return NL_STOP;
}

int on_error(sockaddr_nl* /*from*/, nlmsgerr* error, void* argument) {
    auto* exchange = static_cast<Exchange*>(argument);
    // libnl 3.7 does not read extended acknowledgements, but hands over a pointer into the message that holds them.
    const auto* header = reinterpret_cast<const nlmsghdr*>(reinterpret_cast<const char*>(error) - NLMSG_HDRLEN);
    exchange->refusal = parse_refusal(header, exchange->sent);
    exchange->done = true;
    return NL_STOP;
}

struct CallbackDeleter {
    void operator()(nl_cb* callbacks) const { nl_cb_put(callbacks); }
};

Error out_of_memory() { return Error{"no memory for a netlink message"}; }

}  // namespace

Error refused(uint8_t command, const std::string& app, const Refusal& refusal) {
    const std::string what =
        fmt::format("adapath.ko refuses {}{}{}", command_name(command), app.empty() ? "" : " for app ", app);
    if (refusal.error == EPERM) {
        return Error{what +
                     ": CAP_NET_ADMIN on the host is needed: start adapathd as root or through its systemd unit"};
    }
    std::string why = refusal.message.empty() ? std::strerror(refusal.error) : refusal.message;
    if (!refusal.attribute.empty()) {
        why += fmt::format(" (attribute {})", refusal.attribute);
    }
    return Error{what + ": " + why};
}

Result<std::unique_ptr<Control>> Control::open() {
    std::unique_ptr<Control> control(new Control);
    if (Status status = control->connect(); !status) {
        return status.error();
    }
    return control;
}

Status Control::connect() {
    socket_.reset(nl_socket_alloc());
    if (socket_ == nullptr) {
        return out_of_memory();
    }
    nl_sock* socket = socket_.get();
    if (int err = genl_connect(socket); err < 0) {
        return Error{fmt::format("opening a generic netlink socket: {}", nl_geterror(err))};
    }
    const int one = 1;
    const timeval patience = {kPatienceSeconds, 0};
    const int fd = nl_socket_get_fd(socket);
    // CAP_ACK: a refusal of 64 KiB of parameters need not bring them back. Kernels know both options since 4.12.
    if (setsockopt(fd, SOL_NETLINK, NETLINK_EXT_ACK, &one, sizeof(one)) != 0 ||
        setsockopt(fd, SOL_NETLINK, NETLINK_CAP_ACK, &one, sizeof(one)) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) != 0) {
        return Error{fmt::format("setting up a netlink socket: {}", std::strerror(errno))};
    }
    nl_socket_set_msg_buf_size(socket, kMessageBytes);
    if (int err = nl_socket_set_buffer_size(socket, kSocketBytes, kSocketBytes); err < 0) {
        return Error{fmt::format("setting up a netlink socket: {}", nl_geterror(err))};
    }
    family_ = genl_ctrl_resolve(socket, ADP_GENL_NAME);
    if (family_ == -NLE_OBJ_NOTFOUND) {
        return no_family();
    }
    if (family_ < 0) {
        return Error{
            fmt::format("asking the kernel for the netlink family '{}': {}", ADP_GENL_NAME, nl_geterror(family_))};
    }
    return {};
}

Status Control::talk(const Message& message, const std::string& app, const OnReply& on_reply) {
    if (message == nullptr) {
        return out_of_memory();
    }
    std::lock_guard lock(mutex_);
    return talk_locked(message.get(), app, on_reply);
}

Status Control::talk_locked(nl_msg* message, const std::string& app, const OnReply& on_reply) {
    if (socket_ == nullptr) {
        if (Status status = connect(); !status) {
            return status;
        }
        nlmsg_hdr(message)->nlmsg_type = static_cast<uint16_t>(family_);
    }
    std::unique_ptr<nl_cb, CallbackDeleter> callbacks(nl_cb_alloc(NL_CB_DEFAULT));
    if (callbacks == nullptr) {
        return out_of_memory();
    }
    Exchange exchange;
    exchange.sent = nlmsg_hdr(message);
    exchange.on_reply = &on_reply;
    nl_cb_set(callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM, on_valid, &exchange);
    nl_cb_set(callbacks.get(), NL_CB_ACK, NL_CB_CUSTOM, on_end, &exchange);
    nl_cb_set(callbacks.get(), NL_CB_FINISH, NL_CB_CUSTOM, on_end, &exchange);
    nl_cb_err(callbacks.get(), NL_CB_CUSTOM, on_error, &exchange);
    const uint8_t command = genlmsg_hdr(nlmsg_hdr(message))->cmd;
    int result = nl_send_auto(socket_.get(), message);
    while (result >= 0 && !exchange.done) {
        result = nl_recvmsgs(socket_.get(), callbacks.get());
    }
    if (!exchange.done) {
        // What was left unheard would be taken for the answer to the next request: that one gets a new socket.
        socket_.reset();
        return Error{fmt::format("netlink request {} to adapath.ko: {}", command_name(command), nl_geterror(result))};
    }
    if (exchange.refusal.error != 0) {
        return refused(command, app, exchange.refusal);
    }
    return exchange.status;
}

Result<std::vector<AppState>> Control::apps() {
    std::vector<AppState> all;
    Status status = talk(request(family_, ADP_CMD_GET_APP, "", NLM_F_DUMP), "", [&](const nlmsghdr* reply) -> Status {
        Result<AppState> app = parse_app(reply);
        if (!app) {
            return app.error();
        }
        all.push_back(std::move(*app));
        return {};
    });
    if (!status) {
        return status.error();
    }
    return all;
}

namespace {

// For commands with exactly one answer.
template <typename T, typename Parse>
auto keep(std::optional<T>& kept, Parse parse) {
    return [&kept, parse](const nlmsghdr* reply) -> Status {
        Result<T> parsed = parse(reply);
        if (!parsed) {
            return parsed.error();
        }
        kept = std::move(*parsed);
        return {};
    };
}

Error no_answer(uint8_t command) {
    return Error{fmt::format("adapath.ko acknowledged {} and answered nothing: are module and adapathd of one version?",
                             command_name(command))};
}

}  // namespace

Result<AppState> Control::app(const std::string& name) {
    std::optional<AppState> app;
    if (Status status = talk(request(family_, ADP_CMD_GET_APP, name), name, keep(app, parse_app)); !status) {
        return status.error();
    }
    return app ? Result<AppState>(std::move(*app)) : no_answer(ADP_CMD_GET_APP);
}

Result<uint32_t> Control::install(const std::string& app, const InstallRequest& install) {
    std::optional<uint32_t> slot;
    if (Status status = talk(install_request(family_, app, install), app, keep(slot, parse_slot)); !status) {
        return status.error();
    }
    return slot ? Result<uint32_t>(*slot) : no_answer(ADP_CMD_INSTALL);
}

Status Control::slot_command(uint8_t command, const std::string& app, uint32_t slot) {
    return talk(slot_request(family_, command, app, slot), app);
}

Status Control::app_command(uint8_t command, const std::string& app) {
    return talk(request(family_, command, app), app);
}

Status Control::set_explore(const std::string& app, uint32_t slot, uint32_t explore_q16) {
    return talk(explore_request(family_, app, slot, explore_q16), app);
}

Status Control::configure(const std::string& app, uint32_t wakeup_bytes, uint32_t consistency) {
    return talk(configure_request(family_, app, wakeup_bytes, consistency), app);
}

Status Control::set_canary(const std::string& app, uint32_t slot, uint32_t share_q16) {
    return talk(canary_request(family_, app, slot, share_q16), app);
}

Status Control::set_objective(const std::string& app, const std::array<uint32_t, ADP_OBJECTIVES>& weights_q16) {
    return talk(objective_request(family_, app, weights_q16), app);
}

Result<std::vector<int32_t>> Control::run(const std::string& app, uint32_t slot, uint32_t implementation,
                                          std::span<const std::vector<uint8_t>> inputs) {
    std::vector<int32_t> outputs;
    while (!inputs.empty()) {
        const auto part = inputs.first(std::min(inputs.size(), run_inputs_per_request(inputs.front().size())));
        inputs = inputs.subspan(part.size());
        std::optional<RunReply> reply;
        if (Status status = talk(run_request(family_, app, slot, implementation, part), app, keep(reply, parse_run));
            !status) {
            return status.error();
        }
        if (!reply) {
            return no_answer(ADP_CMD_RUN);
        }
        if (implementation != ADP_RUN_CHOSEN && reply->implementation != implementation) {
            return Error{fmt::format("adapath.ko was asked to run the {} program and ran the {} one",
                                     implementation_name(implementation), implementation_name(reply->implementation))};
        }
        outputs.insert(outputs.end(), reply->outputs.begin(), reply->outputs.end());
    }
    return outputs;
}

}  // namespace adapath::kmod
