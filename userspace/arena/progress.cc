// See progress.h.
#include "userspace/arena/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <utility>

namespace adapath::arena {
namespace {

constexpr auto terminal_interval = std::chrono::milliseconds(500);
constexpr auto log_interval = std::chrono::seconds(20);

double seconds_between(std::chrono::steady_clock::time_point from, std::chrono::steady_clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
}

// Whoever read the progress may have gone, which is no reason to stop: fmt::print() would throw.
void write_error(const std::string& text) {
    std::fputs(text.c_str(), stderr);
    std::fflush(stderr);
}

}  // namespace

Progress::Progress(std::vector<double> groups_s)
    : terminal_(isatty(STDERR_FILENO) == 1), groups_s_(std::move(groups_s)), start_(Clock::now()) {}

void Progress::put(const std::string& text) {
    if (!terminal_) {
        write_error(text + "\n");
        return;
    }
    winsize size{};
    const size_t columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : 120;
    // Cut to the width: a line that wraps could not be rewritten.
    write_error("\r\033[K" + text.substr(0, columns));
    open_ = true;
}

void Progress::begin(const std::string& what) {
    what_ = what;
    group_start_ = Clock::now();
    shown_ = group_start_;
    put(fmt::format("arena: {}/{} {}: starting, {} left", done_ + 1, groups_s_.size(), what_, left(0)));
}

void Progress::at(double second, double of_s) {
    const auto now = Clock::now();
    if (now - shown_ < (terminal_ ? std::chrono::milliseconds(terminal_interval) : log_interval)) {
        return;
    }
    shown_ = now;
    put(fmt::format("arena: {}/{} {}: {:.0f}/{:g} s, {} left", done_ + 1, groups_s_.size(), what_, second, of_s,
                    left(seconds_between(group_start_, now))));
}

std::string Progress::left(double second) const {
    // What starting and ending cost more than expected is in the groups that are over.
    const auto now = groups_s_.begin() + static_cast<std::ptrdiff_t>(std::min(done_, groups_s_.size()));
    const double over_s = std::accumulate(groups_s_.begin(), now, 0.0);
    const double slower = over_s > 0 ? seconds_between(start_, group_start_) / over_s : 1;
    const double rest_s = std::max(0.0, slower * std::accumulate(now, groups_s_.end(), 0.0) - second);
    return rest_s < 90 ? fmt::format("{:.0f} s", rest_s) : fmt::format("{:.0f} min", std::ceil(rest_s / 60));
}

void Progress::end_group() { done_++; }

void Progress::say(const std::string& text) {
    if (terminal_ && open_) {
        write_error("\r\033[K");
        open_ = false;
    }
    write_error(text + "\n");
}

void Progress::close() {
    if (terminal_ && open_) {
        write_error("\r\033[K");
        open_ = false;
    }
}

}  // namespace adapath::arena
