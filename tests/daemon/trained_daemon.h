// A daemon with a trainer that the test steps.
#pragma once

#include <chrono>
#include <memory>
#include <utility>

#include "tests/daemon/served_daemon.h"
#include "userspace/common/clock.h"
#include "userspace/trainer/trainer.h"

namespace adapath::test {

class TrainedDaemon : public ServedDaemon {
protected:
    // One of this daemon, which goes on from what another of this test has saved.
    std::unique_ptr<Trainer> open_trainer(TrainerOptions options) {
        options.target = "unix:" + socket_;
        options.save = directory_ / "learned";
        options.min_interval_s = 0;
        Result<std::unique_ptr<Trainer>> trainer = Trainer::open(options);
        EXPECT_TRUE(trainer) << trainer.error().message;
        return std::move(*trainer);
    }
    // Within a minute.
    template <typename Done>
    static bool step_until(Trainer& trainer, Done done) {
        const uint64_t begin_us = monotonic_us();
        while (!done() && monotonic_us() - begin_us < 60000000) {
            trainer.step(std::chrono::milliseconds(100));
        }
        return done();
    }
};

}  // namespace adapath::test
