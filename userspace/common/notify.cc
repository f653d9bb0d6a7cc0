// See notify.h.
#include "userspace/common/notify.h"

#include <systemd/sd-daemon.h>

#include "userspace/common/clock.h"

namespace adapath {

void notify_ready(const std::string& status) { sd_notify(0, ("READY=1\nSTATUS=" + status).c_str()); }
void notify_status(const std::string& status) { sd_notify(0, ("STATUS=" + status).c_str()); }
void notify_stopping() { sd_notify(0, "STOPPING=1"); }

void notify_watchdog() {
    // The interval is the unit's and does not change while the process lives.
    static const uint64_t period_us = [] {
        uint64_t microseconds = 0;
        return sd_watchdog_enabled(0, &microseconds) > 0 ? microseconds / 4 : 0;
    }();
    static uint64_t last_us = 0;
    if (period_us == 0) {
        return;
    }
    const uint64_t now = monotonic_us();
    if (now - last_us >= period_us) {
        last_us = now;
        sd_notify(0, "WATCHDOG=1");
    }
}

}  // namespace adapath
