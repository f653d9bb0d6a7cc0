// See policy.h.
#include "userspace/arena/policy.h"

#include <fmt/format.h>

#include "userspace/arena/daemon_policy.h"

namespace adapath::arena {
namespace {

// One that the kernel has by itself.
class KernelPolicy : public Policy {
public:
    explicit KernelPolicy(std::string name) : name_(std::move(name)) {}
    Status prepare() override { return {}; }
    [[nodiscard]] std::string congestion_control() const override { return name_; }
    [[nodiscard]] Result<Json> parts() const override { return Json::object(); }

private:
    std::string name_;
};

}  // namespace

std::vector<std::string> policy_names() { return {"cubic", "bbr", "adapath", "adapath-online", "userspace"}; }

Result<std::unique_ptr<Policy>> make_policy(const std::string& name, const PolicyContext& context) {
    if (name == "cubic" || name == "bbr") {
        return std::unique_ptr<Policy>(std::make_unique<KernelPolicy>(name));
    }
    const DaemonPolicySettings daemons[] = {
        {.name = "adapath", .backend = "bpf", .learns = false},
        {.name = "adapath-online", .backend = "bpf", .learns = true},
        // The same checkpoint in float in the daemon, which the kernel asks for each decision.
        {.name = "userspace", .backend = "userspace", .learns = false},
    };
    for (const DaemonPolicySettings& settings : daemons) {
        if (name == settings.name) {
            return std::unique_ptr<Policy>(std::make_unique<DaemonPolicy>(settings, context));
        }
    }
    return Error{
        fmt::format("--policy {}: there is none of that name; there are: {}", name, fmt::join(policy_names(), ", "))};
}

}  // namespace adapath::arena
