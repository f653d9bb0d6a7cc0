// A policy that an adapathd of its own serves, in the kernel's datapath, beside any other daemon of this machine.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "userspace/arena/policy.h"
#include "userspace/harness/child.h"
#include "userspace/harness/daemon_client.h"
#include "userspace/harness/daemon_side.h"

namespace adapath::arena {

struct DaemonPolicySettings {
    std::string name;
    std::string backend = "bpf";
    // Does the trainer learn while it runs? Then every cell begins with the checkpoint again.
    bool learns = false;
};

class DaemonPolicy : public Policy {
public:
    DaemonPolicy(DaemonPolicySettings settings, PolicyContext context);
    ~DaemonPolicy() override;

    Status prepare() override;
    [[nodiscard]] std::string congestion_control() const override { return congestion_control_; }
    [[nodiscard]] Result<Json> parts() const override;
    Status alive() override;
    [[nodiscard]] Result<PolicyCost> cost() override;
    void hold() override;
    void resume() override;
    [[nodiscard]] std::string daemon_socket() const override;
    [[nodiscard]] bool has_cost() const override { return true; }
    void stop() override;

private:
    Status start();
    Status start_daemon();
    Status start_trainer();
    void signal_all(int number);
    [[nodiscard]] std::string program(const char* name) const { return context_.bin + "/" + name; }
    [[nodiscard]] std::string log_of(const char* name) const { return context_.work + "/" + name + ".log"; }

    const DaemonPolicySettings settings_;
    const PolicyContext context_;
    std::string congestion_control_;
    std::vector<uint32_t> programs_;

    // In the order in which they are made, so that they go in the opposite one.
    std::optional<ShortDirectory> socket_directory_;
    std::unique_ptr<DaemonKernelSide> kernel_side_;
    std::optional<Child> daemon_;
    std::optional<Child> trainer_;
    std::unique_ptr<DaemonClient> client_;
};

}  // namespace adapath::arena
