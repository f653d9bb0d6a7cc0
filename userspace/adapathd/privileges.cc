// See privileges.h.
#include "userspace/adapathd/privileges.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/capability.h>

#include <memory>
#include <utility>

#ifndef CAP_PERFMON
#define CAP_PERFMON 38
#define CAP_BPF 39
#endif

namespace adapath {

std::vector<std::string> missing_capabilities() {
    // CAP_PERFMON: struct_ops programs read kernel structures through their types.
    constexpr std::pair<cap_value_t, const char*> kNeeded[] = {
        {CAP_BPF, "CAP_BPF"}, {CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {CAP_PERFMON, "CAP_PERFMON"}};
    std::vector<std::string> missing;
    std::unique_ptr<std::remove_pointer_t<cap_t>, int (*)(void*)> caps(cap_get_proc(), cap_free);
    for (const auto& [value, name] : kNeeded) {
        cap_flag_value_t has = CAP_CLEAR;
        if (!caps || cap_get_flag(caps.get(), value, CAP_EFFECTIVE, &has) != 0 || has != CAP_SET) {
            missing.emplace_back(name);
        }
    }
    return missing;
}

Status check_privileges(const std::string& backend) {
    if (backend != "bpf") {
        return {};
    }
    const std::vector<std::string> missing = missing_capabilities();
    if (missing.empty()) {
        return {};
    }
    return Error{fmt::format(
        "the bpf backend needs {}, which this process does not have: start adapathd as root or through its systemd "
        "unit (systemctl start adapathd), or without privileges over simulated flows with --backend=local",
        fmt::join(missing, ", "))};
}

}  // namespace adapath
