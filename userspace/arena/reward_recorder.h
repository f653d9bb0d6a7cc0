// What a policy's flows earned, second by second, as its daemon collected it: the reward that the policy is trained
// for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <adapath/cc.h>

#include "userspace/arena/cell.h"
#include "userspace/harness/daemon_client.h"

namespace adapath::arena {

class RewardRecorder {
public:
    // Reads the daemon's samples from now on. Seconds are counted from `start_ns` of CLOCK_MONOTONIC.
    RewardRecorder(const std::string& socket, uint64_t start_ns, size_t seconds);
    ~RewardRecorder();
    RewardRecorder(const RewardRecorder&) = delete;
    RewardRecorder& operator=(const RewardRecorder&) = delete;

    void stop();
    // Mean over the flows' time in each second; null where nothing was heard.
    [[nodiscard]] Json series();
    // Samples that this reader was too slow for.
    [[nodiscard]] uint64_t dropped();
    // Empty = sound.
    [[nodiscard]] std::string error();

private:
    struct Second {
        double reward = 0;  // times microseconds
        double us = 0;
    };
    void read();
    void add(const adp_cc_sample& sample);

    const uint64_t start_us_;
    DaemonClient client_;
    grpc::ClientContext context_;
    std::mutex mutex_;
    std::vector<Second> seconds_;
    uint64_t dropped_ = 0;
    std::string error_;
    std::thread thread_;
};

}  // namespace adapath::arena
