// What the mains of both tools share: signals as a stop token, logging to stderr, and exit codes.
#pragma once

#include <stop_token>
#include <thread>

#include "userspace/video/net.h"

namespace adapath::video {

enum ExitCode : int {
    exit_ok = 0,      // also after SIGINT or SIGTERM: everything was written
    exit_failed = 1,  // the world failed: a stream broke, a file could not be written
    exit_usage = 2,   // the command line is wrong
};

// SIGINT and SIGTERM stop the token; a second one ends the process at once. Make it before any thread: threads inherit
// the blocked signals.
class SignalStop {
public:
    SignalStop();
    ~SignalStop();
    [[nodiscard]] std::stop_token token() const { return source_.get_token(); }
    void stop() { source_.request_stop(); }
    [[nodiscard]] bool stopped() const { return source_.stop_requested(); }

private:
    std::stop_source source_;
    Fd signals_;
    Fd done_;
    std::jthread thread_;
};

// Log lines to stderr; stdout is for results. `verbose` shows debug lines, x264's and libav's among them.
void setup_logging(const char* tool, bool verbose);

}  // namespace adapath::video
