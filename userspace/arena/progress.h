// How far a run is, on standard error: one line that is rewritten on a terminal, a line now and then elsewhere.
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

namespace adapath::arena {

class Progress {
public:
    // How long each group is expected to take, in their order.
    explicit Progress(std::vector<double> groups_s);
    // The next group begins; `what` names it.
    void begin(const std::string& what);
    // Seconds into its measurement; `of_s` all of them.
    void at(double second, double of_s);
    void end_group();
    // A line of its own that stays.
    void say(const std::string& text);
    // "about 12 min"; for the time that is left.
    [[nodiscard]] std::string left(double second) const;
    void close();

private:
    using Clock = std::chrono::steady_clock;
    void put(const std::string& text);

    const bool terminal_;
    const std::vector<double> groups_s_;
    size_t done_ = 0;
    Clock::time_point start_;
    Clock::time_point group_start_;
    Clock::time_point shown_;
    std::string what_;
    bool open_ = false;
};

}  // namespace adapath::arena
