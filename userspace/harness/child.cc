// See child.h.
#include "userspace/harness/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

extern char** environ;

namespace adapath {
namespace {

using Clock = std::chrono::steady_clock;

int remaining_ms(Clock::time_point deadline) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    return static_cast<int>(std::clamp<int64_t>(left, 0, 1 << 30));
}

// The last lines of a file, for a message.
std::string tail(const std::string& path, size_t lines) {
    std::ifstream file(path);
    std::vector<std::string> kept;
    for (std::string line; std::getline(file, line);) {
        kept.push_back(line);
        if (kept.size() > lines) {
            kept.erase(kept.begin());
        }
    }
    return fmt::format("{}", fmt::join(kept, "\n    "));
}

}  // namespace

Result<Child> Child::start(const ChildOptions& options) {
    Child child;
    child.name_ = options.name;
    child.log_ = options.log;
    if (access(options.argv[0].c_str(), X_OK) != 0) {
        return Error{fmt::format("{}: {}: build it with 'make all', or say with --bin where the programs are",
                                 options.argv[0], strerror(errno))};
    }
    const UniqueFd log(
        open(options.log.empty() ? "/dev/null" : options.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (!log.valid()) {
        return Error{fmt::format("{}: can't write: {}", options.log, strerror(errno))};
    }
    const UniqueFd input(open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!input.valid()) {
        return Error{fmt::format("{}: can't open /dev/null: {}", options.name, strerror(errno))};
    }
    int pipe_fds[2] = {-1, -1};
    if (options.read_output && pipe2(pipe_fds, O_CLOEXEC) != 0) {
        return Error{fmt::format("{}: can't make a pipe: {}", options.name, strerror(errno))};
    }
    child.output_.reset(pipe_fds[0]);
    const UniqueFd output(pipe_fds[1]);

    // Everything is prepared before the fork: the child may call async-signal-safe functions only.
    std::vector<char*> argv;
    for (const std::string& argument : options.argv) {
        argv.push_back(const_cast<char*>(argument.c_str()));
    }
    argv.push_back(nullptr);
    std::vector<char*> environment;
    for (char** variable = environ; *variable != nullptr; variable++) {
        environment.push_back(*variable);
    }
    for (const std::string& variable : options.environment) {
        environment.push_back(const_cast<char*>(variable.c_str()));
    }
    environment.push_back(nullptr);
    const pid_t parent = getpid();
    const pid_t pid = fork();
    if (pid < 0) {
        return Error{fmt::format("{}: can't start another process: {}", options.name, strerror(errno))};
    }
    if (pid == 0) {
        // A group of its own: Ctrl-C reaches this program alone, which ends its programs in the right order.
        setpgid(0, 0);
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != parent) {
            _exit(127);
        }
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, nullptr);
        signal(SIGPIPE, SIG_DFL);
        if (options.namespace_fd >= 0 && setns(options.namespace_fd, CLONE_NEWNET) != 0) {
            _exit(126);
        }
        dup2(input.get(), STDIN_FILENO);
        dup2(options.read_output ? output.get() : log.get(), STDOUT_FILENO);
        dup2(log.get(), STDERR_FILENO);
        execve(argv[0], argv.data(), environment.data());
        _exit(127);
    }
    child.pid_ = pid;
    child.pid_fd_.reset(static_cast<int>(syscall(SYS_pidfd_open, pid, 0)));
    if (child.output_.valid()) {
        fcntl(child.output_.get(), F_SETFL, O_NONBLOCK);
    }
    return child;
}

Child::Child(Child&& other) noexcept { *this = std::move(other); }

Child& Child::operator=(Child&& other) noexcept {
    if (this != &other) {
        stop();
        name_ = std::move(other.name_);
        log_ = std::move(other.log_);
        pid_ = std::exchange(other.pid_, -1);
        pid_fd_ = std::move(other.pid_fd_);
        output_ = std::move(other.output_);
        pending_ = std::move(other.pending_);
        exit_code_ = other.exit_code_;
    }
    return *this;
}

Child::~Child() { stop(); }

bool Child::fill(int timeout_ms) {
    pollfd fd = {output_.get(), POLLIN, 0};
    if (!output_.valid() || poll(&fd, 1, timeout_ms) <= 0) {
        return true;
    }
    char buffer[16384];
    for (;;) {
        const ssize_t size = read(output_.get(), buffer, sizeof(buffer));
        if (size > 0) {
            pending_.append(buffer, static_cast<size_t>(size));
        } else {
            return size < 0;  // at the end of the output: false
        }
    }
}

std::vector<std::string> Child::read_lines() {
    fill(0);
    std::vector<std::string> lines;
    for (size_t end; (end = pending_.find('\n')) != std::string::npos;) {
        lines.push_back(pending_.substr(0, end));
        pending_.erase(0, end + 1);
    }
    return lines;
}

Result<std::string> Child::wait_line(std::chrono::milliseconds timeout, const StopToken& stop) {
    const auto deadline = Clock::now() + timeout;
    for (;;) {
        if (const size_t end = pending_.find('\n'); end != std::string::npos) {
            std::string line = pending_.substr(0, end);
            pending_.erase(0, end + 1);
            return line;
        }
        if (stop.requested()) {
            return Error{"interrupted"};
        }
        const int left = remaining_ms(deadline);
        const bool open = fill(std::min(left, 100));
        if (pending_.find('\n') != std::string::npos) {
            continue;
        }
        if (!open || !running()) {
            // Its last words may have come between the reading and the end.
            fill(0);
            if (pending_.find('\n') != std::string::npos) {
                continue;
            }
            wait_exit(std::chrono::seconds(1));
            return Error{obituary()};
        }
        if (left == 0) {
            return Error{fmt::format("{} said nothing in {} ms (log: {})", name_, timeout.count(), log_)};
        }
    }
}

bool Child::wait_exit(std::chrono::milliseconds timeout) {
    if (pid_ < 0 || exit_code_) {
        return true;
    }
    const auto deadline = Clock::now() + timeout;
    for (;;) {
        int status = 0;
        const pid_t ended = waitpid(pid_, &status, WNOHANG);
        if (ended == pid_) {
            exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            return true;
        }
        if (ended < 0 && errno != EINTR) {
            exit_code_ = 255;
            return true;
        }
        const int left = remaining_ms(deadline);
        if (left == 0) {
            return false;
        }
        pollfd fd = {pid_fd_.get(), POLLIN, 0};
        // Without pidfds (before kernel 5.3) the wait is in short steps.
        poll(pid_fd_.valid() ? &fd : nullptr, pid_fd_.valid() ? 1 : 0, pid_fd_.valid() ? left : std::min(left, 20));
    }
}

void Child::stop(std::chrono::milliseconds grace) {
    if (pid_ < 0 || wait_exit(std::chrono::milliseconds(0))) {
        return;
    }
    kill(pid_, SIGTERM);
    if (!wait_exit(grace)) {
        kill(pid_, SIGKILL);
        wait_exit(std::chrono::seconds(5));
    }
}

std::string Child::obituary() const {
    std::string how = "still runs";
    if (exit_code_) {
        how = *exit_code_ > 128 ? fmt::format("was ended by signal {}", *exit_code_ - 128)
                                : fmt::format("ended with exit code {}", *exit_code_);
    }
    const std::string words = log_.empty() ? "" : tail(log_, 6);
    return words.empty() ? fmt::format("{} {} (log: {})", name_, how, log_)
                         : fmt::format("{} {}; its last words ({}):\n    {}", name_, how, log_, words);
}

Result<std::string> run_program(ChildOptions options, std::chrono::milliseconds timeout,
                                const std::vector<int>& accepted) {
    options.read_output = true;
    Result<Child> child = Child::start(options);
    if (!child) {
        return child.error();
    }
    const auto deadline = Clock::now() + timeout;
    std::string output;
    const auto drain = [&] {
        for (const std::string& line : child->read_lines()) {
            output += line + "\n";
        }
    };
    // Its output is read while it runs: a full pipe would hold it up.
    while (!child->wait_exit(std::chrono::milliseconds(20))) {
        drain();
        if (Clock::now() > deadline) {
            child->stop();
            return Error{fmt::format("{} took longer than {} ms and was ended", options.name, timeout.count())};
        }
    }
    drain();
    if (std::find(accepted.begin(), accepted.end(), *child->exit_code()) == accepted.end()) {
        return Error{child->obituary()};
    }
    return output;
}

}  // namespace adapath
