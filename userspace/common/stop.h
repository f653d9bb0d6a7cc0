// How a program is asked to stop: a token that loops look at and can wait on, set by SIGINT, SIGTERM and SIGHUP.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

namespace adapath {

class StopToken {
public:
    void request();
    [[nodiscard]] bool requested() const { return requested_.load(std::memory_order_acquire); }
    // Waits that long or until the stop; true = stopped.
    bool wait_for(std::chrono::milliseconds duration);
    // Waits for the stop.
    void wait();

private:
    std::atomic<bool> requested_{false};
    std::mutex mutex_;
    std::condition_variable changed_;
};

// Keeps SIGINT, SIGTERM and (where it is not ignored) SIGHUP from this thread (and those it starts later) and acts on
// them in a thread of its own, so that no work is done in a signal handler. Construct before any other thread. A second
// signal a second or more later ends the process at once (sooner, it is most likely the same request: `timeout` and
// shells send it twice).
class SignalWatcher {
public:
    SignalWatcher(StopToken& token, std::function<void(int)> on_signal = {});
    ~SignalWatcher();
    SignalWatcher(const SignalWatcher&) = delete;
    SignalWatcher& operator=(const SignalWatcher&) = delete;

private:
    void run();

    StopToken& token_;
    std::function<void(int)> on_signal_;
    int pipe_[2] = {-1, -1};
    int quit_fd_ = -1;
    std::thread thread_;
};

}  // namespace adapath
