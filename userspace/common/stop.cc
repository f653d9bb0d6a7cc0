// See stop.h.
#include "userspace/common/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <stdexcept>
#include <utility>
#include <vector>

namespace adapath {

void StopToken::request() {
    {
        std::lock_guard lock(mutex_);
        requested_.store(true, std::memory_order_release);
    }
    changed_.notify_all();
}

bool StopToken::wait_for(std::chrono::milliseconds duration) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, duration, [this] { return requested(); });
}

void StopToken::wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return requested(); });
}

// Write end of the pipe that signals arrive in. A handler can't be told where to write in any other way.
static std::atomic<int> signal_pipe{-1};

static void on_any_signal(int signal) {
    const int saved = errno;
    const auto byte = static_cast<unsigned char>(signal);
    [[maybe_unused]] const ssize_t put = write(signal_pipe.load(), &byte, 1);
    errno = saved;
}

SignalWatcher::SignalWatcher(StopToken& token, std::function<void(int)> on_signal)
    : token_(token), on_signal_(std::move(on_signal)) {
    if (pipe2(pipe_, O_CLOEXEC | O_NONBLOCK) != 0) {
        throw std::runtime_error("pipe2: no file descriptors left");
    }
    quit_fd_ = eventfd(0, EFD_CLOEXEC);
    signal_pipe = pipe_[1];
    struct sigaction action{};
    action.sa_handler = on_any_signal;
    action.sa_flags = SA_RESTART;
    std::vector<int> watched = {SIGINT, SIGTERM};
    // The terminal has gone; where somebody made it so that this does not matter (nohup), it does not.
    struct sigaction hangup{};
    if (sigaction(SIGHUP, nullptr, &hangup) == 0 && hangup.sa_handler != SIG_IGN) {
        watched.push_back(SIGHUP);
    }
    for (const int signal : watched) {
        sigaction(signal, &action, nullptr);
    }
    // This thread and those it starts are not interrupted. Threads that libraries started before main() may be: the
    // handler does for them as well, where a signalfd would leave them to the default action.
    sigset_t set;
    sigemptyset(&set);
    for (const int signal : watched) {
        sigaddset(&set, signal);
    }
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    thread_ = std::thread([this, set] {
        pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
        run();
    });
}

SignalWatcher::~SignalWatcher() {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = write(quit_fd_, &one, sizeof(one));
    thread_.join();
    signal_pipe = -1;  // a later signal finds nobody: the program is ending
    close(pipe_[0]);
    close(pipe_[1]);
    close(quit_fd_);
}

void SignalWatcher::run() {
    std::chrono::steady_clock::time_point first;
    pollfd fds[2] = {{pipe_[0], POLLIN, 0}, {quit_fd_, POLLIN, 0}};
    while (true) {
        if (poll(fds, 2, -1) < 0) {
            continue;  // the handler ran in this thread: the pipe holds what it wrote
        }
        if (fds[1].revents != 0) {
            return;
        }
        unsigned char signal = 0;
        if (read(pipe_[0], &signal, 1) != 1) {
            continue;
        }
        if (token_.requested()) {
            if (std::chrono::steady_clock::now() - first > std::chrono::seconds(1)) {
                _exit(128 + signal);
            }
            continue;
        }
        first = std::chrono::steady_clock::now();
        if (on_signal_) {
            on_signal_(signal);
        }
        token_.request();
    }
}

}  // namespace adapath
