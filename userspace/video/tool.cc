// What the mains of both tools share.
#include "userspace/video/tool.h"

#include <cerrno>
#include <csignal>
#include <system_error>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "userspace/video/decoder.h"

namespace adapath::video {

SignalStop::SignalStop() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    std::signal(SIGPIPE, SIG_IGN);  // a closed stdout is an error of write(), not the end of the process
    signals_ = Fd(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
    done_ = Fd(eventfd(0, EFD_CLOEXEC));
    if (!signals_.valid() || !done_.valid()) {
        throw std::system_error(errno, std::generic_category(), "signalfd or eventfd");  // out of descriptors at start
    }
    thread_ = std::jthread([this] {
        for (;;) {
            pollfd fds[2] = {{signals_.get(), POLLIN, 0}, {done_.get(), POLLIN, 0}};
            if (poll(fds, 2, -1) < 0) {
                continue;
            }
            if (fds[1].revents != 0) {
                return;
            }
            signalfd_siginfo info{};
            if (read(signals_.get(), &info, sizeof info) != sizeof info) {
                continue;
            }
            if (source_.stop_requested()) {
                _exit(128 + static_cast<int>(info.ssi_signo));
            }
            spdlog::info("stopping; once more to end at once");
            source_.request_stop();
        }
    });
}

SignalStop::~SignalStop() {
    uint64_t one = 1;
    [[maybe_unused]] ssize_t written = write(done_.get(), &one, sizeof one);
}

void setup_logging(const char* tool, bool verbose) {
    spdlog::set_default_logger(spdlog::stderr_color_mt(tool));
    spdlog::set_pattern("%n: %^%l%$: %v");
    spdlog::set_level(verbose ? spdlog::level::debug : spdlog::level::info);
    quiet_libav();
}

}  // namespace adapath::video
