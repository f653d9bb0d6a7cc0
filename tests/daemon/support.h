// What the daemon's tests share: a directory that goes away, snapshots without a compiler, decisions made by hand.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <adapath/cc.h>

#include "codegen/codegen.h"
#include "userspace/adapathd/daemon.h"
#include "userspace/adapathd/local_backend.h"

namespace adapath::test {

class TemporaryDirectory {
public:
    TemporaryDirectory();
    ~TemporaryDirectory();
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    [[nodiscard]] const std::string& path() const { return path_; }
    [[nodiscard]] std::string operator/(const std::string& name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

// A sealed snapshot of a cc network with random weights; the same seed gives the same one.
Snapshot random_snapshot(uint32_t seed, const std::vector<uint32_t>& hidden = {32, 16}, float explore = 0);
// One whose output is always this.
Snapshot constant_snapshot(float output);
Snapshot freeze_light(const FloatModel& model, float explore = 0);
std::string file_of(const Snapshot& snapshot);

// A record such as the kernel side makes: the snapshot that decides for this flow really runs on an input drawn from
// `seed`. `interval_rate` and `rtt_us` set the reward of what followed the decision before.
struct HandFlow {
    uint64_t id = 1;
    uint32_t seq = 0;
    uint64_t time_us = 0;
    uint64_t interval_rate = 1000000;
    uint32_t rtt_us = 40000;
};
adp_cc_sample decide(const LocalDatapath& datapath, HandFlow& flow, uint32_t seed);
bool put(LocalDatapath& datapath, const adp_cc_sample& sample);

// A daemon over a local datapath that the test drives.
struct HandDaemon {
    std::shared_ptr<LocalDatapath> datapath;
    std::unique_ptr<Daemon> daemon;
};
HandDaemon open_hand_daemon(const std::string& state_directory,
                            const std::function<void(pb::DaemonConfig&)>& change = {},
                            std::unique_ptr<SelectFeed> feed = nullptr);

}  // namespace adapath::test
