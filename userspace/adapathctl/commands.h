// adapathctl's commands, one function each. Each prints to `out` and returns the exit code or the reason of failure.
#pragma once

#include <map>
#include <memory>
#include <ostream>
#include <string>

#include "codegen/result.h"
#include "userspace/proto/control.grpc.pb.h"

namespace adapath {

class Client {
public:
    // Nothing is sent before the first command.
    explicit Client(std::string socket);

    Result<int> status(std::ostream& out, bool json);
    Result<int> snapshots(std::ostream& out, bool json);
    // `what`: a file, a generation, or the beginning of a hash; empty = the active one.
    Result<int> show(const std::string& what, std::ostream& out, bool json);
    // `canary`: a trial on some of the flows first.
    Result<int> install(const std::string& file, bool activate, const std::string& reason, std::ostream& out, bool json,
                        bool canary = false);
    Result<int> switch_to(const std::string& what, const std::string& reason, std::ostream& out, bool json,
                          bool canary = false);
    Result<int> rollback(const std::string& reason, std::ostream& out, bool json);
    Result<int> train(const std::string& mode, std::ostream& out, bool json);
    // Without weights, and not `reset`: shows it.
    Result<int> objective(const std::map<std::string, double>& weights, bool reset, std::ostream& out, bool json);
    // count 0 = until the daemon or the user ends it.
    Result<int> samples(uint64_t count, bool include_log, std::ostream& out, bool json);
    Result<int> watch(uint64_t count, std::ostream& out, bool json);
    // Exit code 1 where a decision is unexplained.
    Result<int> verify(std::ostream& out, bool json);

private:
    // Names the socket and what to do, where the call failed.
    [[nodiscard]] Error explain(const grpc::Status& status) const;
    [[nodiscard]] Status reachable() const;

    std::string socket_;
    std::unique_ptr<pb::Control::Stub> stub_;
};

// The same question asked of a state directory; the daemon need not run.
Result<int> verify_directory(const std::string& state_directory, const std::string& app, std::ostream& out, bool json);

}  // namespace adapath
