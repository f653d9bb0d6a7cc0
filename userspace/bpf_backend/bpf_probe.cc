// What this machine lacks for the bpf backend.
#include <fmt/format.h>
#include <sys/capability.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "userspace/adapathd/backend.h"

namespace adapath {
namespace {

bool has_capability(cap_value_t capability) {
    cap_t set = cap_get_proc();
    if (set == nullptr) return false;
    cap_flag_value_t value = CAP_CLEAR;
    const bool known = cap_get_flag(set, capability, CAP_EFFECTIVE, &value) == 0;
    cap_free(set);
    return known && value == CAP_SET;
}

}  // namespace

std::vector<std::string> bpf_backend_obstacles() {
    std::vector<std::string> missing;
    utsname name = {};
    int major = 0;
    int minor = 0;
    if (uname(&name) == 0 && std::sscanf(name.release, "%d.%d", &major, &minor) == 2 && major < 6)
        missing.push_back(
            fmt::format("kernel {} is too old: 6.0 or newer is needed, for congestion controls in BPF that set "
                        "the pacing rate",
                        name.release));
    if (access("/sys/kernel/btf/vmlinux", R_OK) != 0)
        missing.push_back(
            "the kernel has no BTF (/sys/kernel/btf/vmlinux): a kernel built with CONFIG_DEBUG_INFO_BTF is needed; "
            "Debian's are");
    struct statfs fs = {};
    if (statfs("/sys/fs/bpf", &fs) != 0 || static_cast<unsigned long>(fs.f_type) != 0xcafe4a11)
        missing.push_back("no bpffs at /sys/fs/bpf: mount it with 'mount -t bpf bpf /sys/fs/bpf'");
    // CAP_PERFMON: the verifier asks it of every program that reads struct sock (is_perfmon_prog_type(), since 5.8).
    const std::vector<std::pair<cap_value_t, const char*>> needed = {
        {CAP_BPF, "CAP_BPF"}, {CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {CAP_PERFMON, "CAP_PERFMON"}};
    std::string lacking;
    for (auto [capability, text] : needed) {
        if (!has_capability(capability)) lacking += (lacking.empty() ? "" : ", ") + std::string(text);
    }
    if (!lacking.empty())
        missing.push_back(fmt::format(
            "this process lacks {}: start it as root, or by the systemd unit, which grants just these", lacking));
    return missing;
}

}  // namespace adapath
