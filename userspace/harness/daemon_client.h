// Speaks to a daemon over its socket, as every operator's tool does.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "codegen/result.h"
#include "userspace/common/stop.h"
#include "userspace/harness/child.h"
#include "userspace/proto/control.grpc.pb.h"

namespace adapath {

// Calls with deadlines and errors that say which call failed.
class DaemonClient {
public:
    // `patience`: factor on how long each answer may take.
    explicit DaemonClient(const std::string& socket_path, double patience = 1);

    Result<pb::StatusReply> status(std::chrono::milliseconds timeout = std::chrono::seconds(2));
    Result<pb::InstallReply> install(const std::string& snapshot_bytes, bool activate, const std::string& reason);
    Result<std::string> snapshot(const std::string& hash);
    Status train(bool on);
    [[nodiscard]] pb::Control::Stub& stub() { return *stub_; }

private:
    [[nodiscard]] std::chrono::milliseconds patient(std::chrono::milliseconds time) const {
        return std::chrono::milliseconds(static_cast<int64_t>(static_cast<double>(time.count()) * patience_));
    }

    std::unique_ptr<pb::Control::Stub> stub_;
    const double patience_;
};

// Until the daemon that was just started answers; so many looks, a tenth of a second apart. The error says that it
// ended, that the stop was requested, or that nothing answered at `socket` (and names `log`).
Status wait_for_daemon(Child& daemon, DaemonClient& client, int looks, StopToken& stop, const std::string& socket,
                       const std::string& log);

}  // namespace adapath
