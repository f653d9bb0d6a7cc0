// Threads that other work on the machine must not hold up.
#pragma once

#include <sched.h>

namespace adapath {

// The calling thread, SCHED_FIFO at the lowest such priority. False without the privilege; then it goes on as it was.
inline bool become_realtime() {
    const sched_param parameters{.sched_priority = 1};
    return sched_setscheduler(0, SCHED_FIFO, &parameters) == 0;
}

}  // namespace adapath
