// A program that this one started: ends with it, whatever ends it.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include <sys/types.h>

#include "codegen/result.h"
#include "userspace/common/stop.h"
#include "userspace/common/unique_fd.h"

namespace adapath {

struct ChildOptions {
    std::string name{};                      // for messages
    std::vector<std::string> argv{};         // argv[0]: path of the program
    int namespace_fd = -1;                   // network namespace to run in; -1 = ours
    std::string log{};                       // file for standard error (and standard output, unless it is read)
    bool read_output = false;                // read_lines() gives standard output
    std::vector<std::string> environment{};  // "NAME=value", added to ours
};

class Child {
public:
    static Result<Child> start(const ChildOptions& options);
    Child(Child&& other) noexcept;
    Child& operator=(Child&& other) noexcept;
    Child(const Child&) = delete;
    Child& operator=(const Child&) = delete;
    // Ends it as stop() does.
    ~Child();

    [[nodiscard]] const std::string& name() const { return name_; }
    [[nodiscard]] pid_t pid() const { return pid_; }
    // Whole lines of standard output since the last call. Never waits.
    std::vector<std::string> read_lines();
    // The next line; an error where none came in time or the program ended.
    Result<std::string> wait_line(std::chrono::milliseconds timeout, const StopToken& stop);
    // Waits for its end; false where it still runs after the timeout.
    bool wait_exit(std::chrono::milliseconds timeout);
    [[nodiscard]] bool running() { return !wait_exit(std::chrono::milliseconds(0)); }
    // Exit code, or 128 + signal; only once it has ended.
    [[nodiscard]] std::optional<int> exit_code() const { return exit_code_; }
    // SIGTERM, and SIGKILL after the grace.
    void stop(std::chrono::milliseconds grace = std::chrono::seconds(5));
    // "adapathd ended with exit code 1; its last words (out/demo/log/adapathd.log): ..."
    [[nodiscard]] std::string obituary() const;

private:
    Child() = default;
    bool fill(int timeout_ms);

    std::string name_;
    std::string log_;
    pid_t pid_ = -1;
    UniqueFd pid_fd_;
    UniqueFd output_;
    std::string pending_;
    std::optional<int> exit_code_;
};

// Starts, waits and returns standard output; an error where the exit code is none of `accepted`.
Result<std::string> run_program(ChildOptions options, std::chrono::milliseconds timeout,
                                const std::vector<int>& accepted = {0});

}  // namespace adapath
