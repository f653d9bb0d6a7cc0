// See status_line.h.
#include "userspace/demo/status_line.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>

namespace adapath::demo {

StatusLine::StatusLine() : terminal_(isatty(STDOUT_FILENO) == 1) {}

void StatusLine::put(const std::string& text) {
    if (!terminal_) {
        fmt::print("{}\n", text);
        std::fflush(stdout);
        return;
    }
    winsize size{};
    const size_t columns = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col - 1 : 120;
    // Cut to the width: a line that wraps could not be rewritten. (All of it is ASCII.)
    fmt::print("\r\033[K{}", text.substr(0, columns));
    std::fflush(stdout);
    open_ = true;
}

void StatusLine::show(const Figures& f) {
    const std::string link =
        f.has_link ? fmt::format("link {:5.1f} delivered {:5.1f} Mbit/s", f.capacity_mbit, f.delivered_mbit)
                   : fmt::format("delivered {:5.1f} Mbit/s", f.delivered_mbit);
    std::string text = fmt::format(
        "{:3.0f}/{:.0f} s  {}  rtt {:4.0f} ms  gen {:<3} reward {:5.2f}  switches {:<3} trained {} rolled back {}",
        f.second, f.duration, link, f.rtt_ms, f.generation, f.reward, f.switches, f.trained, f.rollbacks);
    if (f.unexplained + f.lost > 0) {
        text += fmt::format("  UNEXPLAINED {} LOST {}", f.unexplained, f.lost);
    }
    if (!f.phase.empty()) {
        text += "  [" + f.phase + "]";
    }
    put(text);
}

void StatusLine::say(const std::string& what) { put("demo: " + what); }

void StatusLine::end() {
    if (terminal_ && open_) {
        fmt::print("\n");
        open_ = false;
    }
}

void StatusLine::clear() {
    if (terminal_ && open_) {
        fmt::print("\r\033[K");
        std::fflush(stdout);
        open_ = false;
    }
}

}  // namespace adapath::demo
