// A camera's connection that is made again whenever it breaks: attempts, and the pauses between them. Nothing here
// waits, neither for the server nor for a name; the owner polls. Says once that the server is away, and once that it is
// back.
#pragma once

#include <cstdint>
#include <string>

#include "userspace/video/destination.h"
#include "userspace/video/net.h"
#include "userspace/video/retry.h"

namespace adapath::video {

struct RedialOptions {
    uint64_t least_ns = 200'000'000;   // from a failure to the next attempt
    uint64_t most_ns = 5'000'000'000;  // after more failures
};

class Redial {
public:
    // The destination outlives it.
    Redial(uint16_t camera, Destination& destination, const ConnectOptions& connection, const RedialOptions& options);

    // Begins an attempt that is due, looks at one that is under way. The connection once it is there, which is then the
    // owner's; else none.
    Fd step(uint64_t now_ns);
    // Of an attempt under way: call step() once it can be written to. -1: there is none.
    [[nodiscard]] int fd() const { return attempt_.get(); }
    // When step() has something to do at the latest.
    [[nodiscard]] uint64_t due_ns() const { return connected_ ? UINT64_MAX : due_ns_; }
    // The connection that step() gave is no more.
    void broke(const std::string& why, uint64_t now_ns);

    [[nodiscard]] uint64_t connections() const { return connections_; }
    [[nodiscard]] uint64_t failures() const { return failures_; }  // attempts that failed, connections that broke

private:
    void fail(const std::string& why, uint64_t now_ns);

    const uint16_t camera_;
    Destination& destination_;
    const ConnectOptions connection_;
    const RedialOptions options_;
    Retry retry_;
    Fd attempt_;
    bool connected_ = false;
    uint64_t due_ns_ = 0;  // the next attempt, or the end of the one under way
    size_t next_address_ = 0;
    uint64_t connections_ = 0;
    uint64_t failures_ = 0;
};

}  // namespace adapath::video
