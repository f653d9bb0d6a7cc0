// A gateway and a server in namespaces of their own, joined by the link emulator, with TCP flows from one to the other;
// and a daemon as a process, driven over its socket.
#pragma once

#include <atomic>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <adapath/cc.h>
#include <nlohmann/json.hpp>

#include "codegen/codegen.h"
#include "codegen/trace/trace.h"
#include "tests/support/patience.h"
#include "userspace/linkem/netns.h"
#include "userspace/linkem/tcp_flow.h"
#include "userspace/harness/child.h"
#include "userspace/linkem/uplink.h"
#include "userspace/proto/control.grpc.pb.h"

namespace adapath::testing {

// Why this machine can't run such tests of the app on that backend ("bpf" or "kmod"); empty = it can.
std::string why_not(const std::string& backend = "bpf", const std::string& app = "cc");

using LinkSettingsForTest = UplinkOptions;

// A bulk flow from gateway to server.
Result<std::unique_ptr<TcpFlow>> start_flow(const Uplink& uplink, const std::string& congestion_control);

// adapathd with names and directories of its own; the kernel side is removed with the object.
class TestDaemon {
public:
    // `config` is appended to the configuration file.
    explicit TestDaemon(const std::string& backend, const std::string& config = {}, const std::string& app = "cc");
    // From its next start on it runs in that network namespace.
    void set_namespace(const Namespace& space) { namespace_fd_ = space.fd(); }
    [[nodiscard]] const std::string& pins() const { return pins_; }
    ~TestDaemon();
    Status start();
    void kill_hard();  // SIGKILL
    void pause();      // SIGSTOP
    void resume();     // SIGCONT
    void stop();       // SIGTERM
    // As the running daemon says: one of its own, or the module's.
    [[nodiscard]] const std::string& congestion_control() const { return congestion_control_; }
    [[nodiscard]] std::string socket() const { return directory_ + "/s"; }
    [[nodiscard]] std::string state() const { return directory_ + "/state"; }
    [[nodiscard]] const std::string& directory() const { return directory_; }
    [[nodiscard]] pb::Control::Stub& control() { return *stub_; }
    [[nodiscard]] Result<pb::StatusReply> status();
    Result<pb::InstallReply> install(const std::string& snapshot_bytes, bool activate = true);
    Result<pb::SwitchReply> switch_to(const std::string& hash);
    [[nodiscard]] uint64_t lost_in_kernel() const;
    // The options that bring another adapathd onto the same kernel side.
    [[nodiscard]] std::vector<std::string> same_kernel_side() const {
        return {"--backend", backend_, "--pin-dir", pins_, "--cc-name", name_};
    }
    // adapathctl --json ARGUMENTS; the exit code goes to `code`.
    nlohmann::json ctl(std::vector<std::string> arguments, int* code = nullptr);

private:
    const std::string backend_;
    const std::string app_;
    std::string name_;
    std::string pins_;
    std::string congestion_control_;
    std::string directory_;
    int namespace_fd_ = -1;
    std::unique_ptr<Child> child_;
    std::unique_ptr<pb::Control::Stub> stub_;
};

// The committed checkpoint, its weights moved by `noise` (relative), frozen: a snapshot file's bytes. Same noise and
// seed, same bytes.
Result<std::string> frozen_checkpoint(double noise, uint64_t seed);
FloatModel another_network(uint64_t seed);
Result<std::string> freeze_bytes(const FloatModel& model);

}  // namespace adapath::testing
