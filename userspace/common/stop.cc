// See stop.h.
#include "userspace/common/stop.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <utility>

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

SignalWatcher::SignalWatcher(StopToken& token, std::function<void(int)> on_signal)
    : token_(token), on_signal_(std::move(on_signal)) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    signal_fd_ = signalfd(-1, &set, SFD_CLOEXEC);
    quit_fd_ = eventfd(0, EFD_CLOEXEC);
    thread_ = std::thread([this] { run(); });
}

SignalWatcher::~SignalWatcher() {
    const uint64_t one = 1;
    [[maybe_unused]] const ssize_t put = write(quit_fd_, &one, sizeof(one));
    thread_.join();
    close(signal_fd_);
    close(quit_fd_);
}

void SignalWatcher::run() {
    std::chrono::steady_clock::time_point first;
    pollfd fds[2] = {{signal_fd_, POLLIN, 0}, {quit_fd_, POLLIN, 0}};
    while (poll(fds, 2, -1) >= 0) {
        if (fds[1].revents != 0) {
            return;
        }
        signalfd_siginfo info{};
        if (fds[0].revents == 0 || read(signal_fd_, &info, sizeof(info)) != sizeof(info)) {
            continue;
        }
        const int signal = static_cast<int>(info.ssi_signo);
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
