// See tc_hook.h.
#include "userspace/bpf_backend/tc_hook.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/pkt_sched.h>
#include <net/if.h>
#include <netlink/netlink.h>
#include <netlink/route/classifier.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "userspace/bpf_backend/kernel_side.h"

namespace adapath {
namespace {

// Ours alone, so that an attachment is found again. Low numbers, which run first, are left to the operator.
constexpr uint32_t kPriority = 0xada;
constexpr uint32_t kHandle = 1;

bpf_tc_hook hook_of(uint32_t ifindex, bpf_tc_attach_point point) {
    bpf_tc_hook hook = {};
    hook.sz = sizeof(hook);
    hook.ifindex = static_cast<int>(ifindex);
    hook.attach_point = point;
    return hook;
}

bpf_tc_opts filter() {
    bpf_tc_opts options = {};
    options.sz = sizeof(options);
    options.handle = kHandle;
    options.priority = kPriority;
    return options;
}

std::string name_of(uint32_t ifindex) {
    std::array<char, IF_NAMESIZE> name = {};
    return if_indextoname(ifindex, name.data()) != nullptr ? name.data() : fmt::format("interface {}", ifindex);
}

uint32_t program_id(int program) {
    bpf_prog_info info = {};
    uint32_t bytes = sizeof(info);
    return bpf_prog_get_info_by_fd(program, &info, &bytes) == 0 ? info.id : 0;
}

// Filters on either side of the clsact qdisc; -1 where they can't be listed.
int filters_left(uint32_t ifindex) {
    std::unique_ptr<nl_sock, void (*)(nl_sock*)> socket(nl_socket_alloc(), nl_socket_free);
    if (!socket || nl_connect(socket.get(), NETLINK_ROUTE) < 0) return -1;
    int count = 0;
    for (const uint32_t side : {TC_H_MIN_INGRESS, TC_H_MIN_EGRESS}) {
        nl_cache* cache = nullptr;
        if (rtnl_cls_alloc_cache(socket.get(), static_cast<int>(ifindex), TC_H_MAKE(TC_H_CLSACT, side), &cache) < 0)
            return -1;
        count += nl_cache_nitems(cache);
        nl_cache_free(cache);
    }
    return count;
}

}  // namespace

Result<TcAttachment> attach_to_ingress(uint32_t ifindex, int program) {
    keep_libbpf_log();
    TcAttachment attachment;
    bpf_tc_hook hook = hook_of(ifindex, BPF_TC_INGRESS);
    int err = bpf_tc_hook_create(&hook);
    if (err != 0 && err != -EEXIST)
        return Error{fmt::format("making the clsact qdisc of {}: {}", name_of(ifindex), std::strerror(-err))};
    attachment.made_qdisc = err == 0;
    bpf_tc_opts options = filter();
    options.prog_fd = program;
    err = bpf_tc_attach(&hook, &options);
    if (err != 0) {
        (void)take_libbpf_log();
        if (attachment.made_qdisc) (void)detach_from_ingress(ifindex, program, true);
        return Error{fmt::format(
            "attaching to the ingress of {}: {}{}", name_of(ifindex), std::strerror(-err),
            err == -EEXIST
                ? fmt::format("; another adapathd's filter is there: stop that daemon and 'adapathd --remove' "
                              "what it left, or 'tc filter del dev {} ingress pref {}'",
                              name_of(ifindex), kPriority)
                : "")};
    }
    return attachment;
}

bool is_attached_to_ingress(uint32_t ifindex, int program) {
    keep_libbpf_log();
    const bpf_tc_hook hook = hook_of(ifindex, BPF_TC_INGRESS);
    bpf_tc_opts options = filter();
    const bool attached = bpf_tc_query(&hook, &options) == 0 && options.prog_id == program_id(program);
    (void)take_libbpf_log();
    return attached;
}

Status detach_from_ingress(uint32_t ifindex, int program, bool made_qdisc) {
    if (is_attached_to_ingress(ifindex, program)) {
        const bpf_tc_hook hook = hook_of(ifindex, BPF_TC_INGRESS);
        const bpf_tc_opts options = filter();
        if (const int err = bpf_tc_detach(&hook, &options); err != 0)
            return Error{fmt::format("detaching from the ingress of {}: {}", name_of(ifindex), std::strerror(-err))};
    }
    if (made_qdisc && filters_left(ifindex) == 0) {
        bpf_tc_hook both = hook_of(ifindex, static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
        (void)bpf_tc_hook_destroy(&both);
        (void)take_libbpf_log();
    }
    return {};
}

}  // namespace adapath
