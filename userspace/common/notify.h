// systemd's notifications. Without NOTIFY_SOCKET everything here does nothing.
#pragma once

#include <chrono>
#include <string>

namespace adapath {

void notify_ready(const std::string& status);
void notify_status(const std::string& status);
void notify_stopping();
// Call once per round of the main loop: sends WATCHDOG=1 at most every quarter of the unit's WatchdogSec.
void notify_watchdog();

}  // namespace adapath
