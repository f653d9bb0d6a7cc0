// See machine.h.
#include "userspace/arena/machine.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

#include "userspace/common/clock.h"

namespace adapath::arena {
namespace {

// Luma of a picture of 1920x1080 and of the one before it: more than the caches nearest to a processor hold.
constexpr size_t picture_bytes = size_t{1920} * 1080;

void compute(const std::stop_token& stop) {
    std::vector<uint8_t> before(picture_bytes, 1);
    std::vector<uint8_t> picture(picture_bytes, 2);
    std::atomic<uint64_t> kept = 0;  // the compiler must not find that nobody wants it
    while (!stop.stop_requested()) {
        uint64_t difference = 0;
        for (size_t i = 0; i < picture_bytes; i++) {
            difference += static_cast<uint64_t>(std::abs(picture[i] - before[i]));
            before[i] = static_cast<uint8_t>(picture[i] + difference);
        }
        kept += difference;
    }
}

}  // namespace

BusyWorkers::BusyWorkers(unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        threads_.emplace_back(compute);
    }
}

MachineTime machine_time() {
    // Idle time is what the kernel measures; user and system time it samples at its ticks, and misses much of what
    // wakes up for less than one.
    MachineTime time;
    time.all_s =
        static_cast<double>(clock_ns(CLOCK_BOOTTIME)) / 1e9 * static_cast<double>(sysconf(_SC_NPROCESSORS_ONLN));
    // "cpu  user nice system idle iowait irq softirq steal ...", ticks.
    std::ifstream file("/proc/stat");
    std::string name;
    double user = 0, nice = 0, system = 0, idle = 0, waiting = 0;
    file >> name >> user >> nice >> system >> idle >> waiting;
    time.spent_s = time.all_s - (idle + waiting) / static_cast<double>(sysconf(_SC_CLK_TCK));
    return time;
}

double busy_share(const MachineTime& before, const MachineTime& after) {
    const double all_s = after.all_s - before.all_s;
    return all_s > 0 ? std::clamp((after.spent_s - before.spent_s) / all_s, 0.0, 1.0) : 0;
}

}  // namespace adapath::arena
