// Live progress: one line that is rewritten on a terminal, one line a second elsewhere.
#pragma once

#include <cstdint>
#include <string>

namespace adapath::demo {

class StatusLine {
public:
    StatusLine();

    struct Figures {
        double second = 0, duration = 0;
        bool has_link = true;
        double capacity_mbit = 0, delivered_mbit = 0, rtt_ms = 0, reward = 0;
        uint32_t generation = 0;
        uint64_t switches = 0, trained = 0, rollbacks = 0, unexplained = 0, lost = 0;
        std::string phase;
    };
    void show(const Figures& figures);
    // A step of the preparation.
    void say(const std::string& what);
    // What was shown last stays.
    void end();
    // What was shown last goes (terminal only).
    void clear();

private:
    void put(const std::string& text);

    bool terminal_;
    bool open_ = false;
};

}  // namespace adapath::demo
