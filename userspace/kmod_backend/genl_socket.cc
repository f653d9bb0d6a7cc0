// See genl_socket.h.
#include "userspace/kmod_backend/genl_socket.h"

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

#include <cstring>

namespace adapath::kmod {
namespace {

constexpr int kSocketBytes = 256 * 1024;   // a message of 80 KiB either way
constexpr int kMessageBytes = 128 * 1024;  // the largest answer
constexpr int kPatienceSeconds = 30;       // the kernel answers within the request: longer means that it never will

struct Exchange {
    const nlmsghdr* sent = nullptr;
    const GenlFamily* family = nullptr;
    const GenlSocket::OnReply* on_reply = nullptr;
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
    exchange->refusal = parse_refusal(header, exchange->sent, exchange->family->attribute_name);
    exchange->done = true;
    return NL_STOP;
}

struct CallbackDeleter {
    void operator()(nl_cb* callbacks) const { nl_cb_put(callbacks); }
};

// The kernel has no such family: what that means to an operator.
Error not_found(const GenlFamily& family) {
    utsname name = {};
    uname(&name);
    if (access(fmt::format("/sys/module/{}", family.name).c_str(), F_OK) == 0) {
        return Error{fmt::format(
            "{}.ko is loaded, but not to be seen from here: its netlink family lives in the host's network "
            "namespace. Start adapathd there (docker run --network=host, nsenter -t 1 -n), or use --backend=bpf",
            family.name)};
    }
    if (access("/proc/modules", F_OK) != 0) {
        return Error{
            fmt::format("this kernel ({}) can't load modules (it was built without CONFIG_MODULES), so there is no "
                        "{}.ko: use --backend=bpf, which needs none",
                        name.release, family.name)};
    }
    return Error{
        fmt::format("{}.ko is not loaded, and the kernel did not find it: install the modules for kernel {} and load "
                    "them with 'modprobe {}' (its reason for refusing is in dmesg; secure boot asks for a "
                    "signature), or use --backend=bpf, which needs no module",
                    family.name, name.release, family.load)};
}

Error out_of_memory() { return Error{"no memory for a netlink message"}; }

}  // namespace

Error refused(const std::string& what, const Refusal& refusal) {
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

Status GenlSocket::connect() {
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
    const int number = genl_ctrl_resolve(socket, family_.name);
    number_ = number;
    if (number == -NLE_OBJ_NOTFOUND) {
        return not_found(family_);
    }
    if (number < 0) {
        return Error{
            fmt::format("asking the kernel for the netlink family '{}': {}", family_.name, nl_geterror(number))};
    }
    return {};
}

Status GenlSocket::talk(const Message& message, const std::string& request, const OnReply& on_reply,
                        const OnRefusal& on_refusal) {
    if (message == nullptr) {
        return out_of_memory();
    }
    std::lock_guard lock(mutex_);
    if (socket_ == nullptr) {
        if (Status status = connect(); !status) {
            return status;
        }
        nlmsg_hdr(message.get())->nlmsg_type = static_cast<uint16_t>(number_);
    }
    std::unique_ptr<nl_cb, CallbackDeleter> callbacks(nl_cb_alloc(NL_CB_DEFAULT));
    if (callbacks == nullptr) {
        return out_of_memory();
    }
    Exchange exchange;
    exchange.sent = nlmsg_hdr(message.get());
    exchange.family = &family_;
    exchange.on_reply = &on_reply;
    nl_cb_set(callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM, on_valid, &exchange);
    nl_cb_set(callbacks.get(), NL_CB_ACK, NL_CB_CUSTOM, on_end, &exchange);
    nl_cb_set(callbacks.get(), NL_CB_FINISH, NL_CB_CUSTOM, on_end, &exchange);
    nl_cb_err(callbacks.get(), NL_CB_CUSTOM, on_error, &exchange);
    int result = nl_send_auto(socket_.get(), message.get());
    while (result >= 0 && !exchange.done) {
        result = nl_recvmsgs(socket_.get(), callbacks.get());
    }
    if (!exchange.done) {
        // What was left unheard would be taken for the answer to the next request: that one gets a new socket.
        socket_.reset();
        return Error{fmt::format("netlink request {} to {}.ko: {}", request, family_.name, nl_geterror(result))};
    }
    if (exchange.refusal.error != 0) {
        return on_refusal(exchange.refusal);
    }
    return exchange.status;
}

}  // namespace adapath::kmod
