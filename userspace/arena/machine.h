// The machine under the arena: other work that it has besides, and how much of it is in use.
#pragma once

#include <thread>
#include <vector>

namespace adapath::arena {

// What else a gateway's processors do, as an encoder that never catches up: threads of the caller's own priority that
// compute without a pause, each over a picture's worth of memory, for as long as the object lives.
class BusyWorkers {
public:
    explicit BusyWorkers(unsigned count);

private:
    std::vector<std::jthread> threads_;
};

// Time of all processors since boot, seconds: what there was, and what of it was spent.
struct MachineTime {
    double all_s = 0;
    double spent_s = 0;
};
MachineTime machine_time();
// 0 to 1; 0 where no time passed.
double busy_share(const MachineTime& before, const MachineTime& after);

}  // namespace adapath::arena
