// The whole loop in one process: simulated flows, the daemon, the trainer with LibTorch and clang, and back.
#include <gtest/gtest.h>

#include <functional>
#include <thread>

#include "models/cc_model.h"
#include "tests/daemon/trained_daemon.h"
#include "tests/support/models.h"
#include "userspace/common/file.h"

namespace adapath {
namespace {

using namespace std::chrono_literals;

class TrainerTest : public test::TrainedDaemon {
protected:
    void start_daemon(bool trials = false) {
        pb::DaemonConfig config;
        config.set_backend("local");
        config.set_state_directory(directory_ / "state");
        config.set_socket(socket_);
        config.set_interval_ms(20);
        config.mutable_local()->set_speed(20);
        // What is learned in a test is worth nothing: nobody is to judge it, unless the test is about that.
        config.mutable_watch()->set_rollback(false);
        config.mutable_canary()->set_mode(trials ? "auto" : "off");
        config.mutable_canary()->set_seconds(1);
        config.mutable_canary()->set_min_decisions(10);
        config.mutable_canary()->set_margin(100);
        Result<std::unique_ptr<Daemon>> daemon = Daemon::open(config);
        ASSERT_TRUE(daemon) << daemon.error().message;
        opened_ = std::move(*daemon);
        serve(*opened_);
    }
    void stop_daemon() {
        stop_serving();
        opened_.reset();
    }

    std::unique_ptr<Trainer> trainer(const std::function<void(TrainerOptions&)>& change = {}) {
        TrainerOptions options;
        options.checkpoint = ADAPATH_CHECKPOINT;
        options.learning = Learning::gradient;
        options.online.batch = 256;
        options.online.value_first = 0;
        // Whatever is learned counts as settled and as different: the test is about the way, not about the learning.
        options.online.stable_change = 1;
        options.online.stable_batches = 1;
        options.online.necessary_loss = 0;
        if (change) {
            change(options);
        }
        return open_trainer(options);
    }

    std::unique_ptr<Daemon> opened_;
};

TEST_F(TrainerTest, FirstSnapshotThenLearnedOnesThenOverARestart) {
    std::unique_ptr<Trainer> trainer = this->trainer();
    ASSERT_TRUE(step_until(*trainer, [&] { return !trainer->step(100ms); })) << "a daemon that is not there";
    EXPECT_EQ(trainer->counters().connects, 0U);
    start_daemon();
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->counters().installed >= 1; })) << trainer->progress();
    EXPECT_EQ(status().active_generation(), 1U);
    // One that was learned is on trial first; the switch comes once that has passed.
    ASSERT_TRUE(step_until(*trainer, [&] {
        return trainer->counters().installed >= 3 && status().switches_trained() == trainer->counters().installed;
    })) << trainer->progress();
    EXPECT_EQ(status().switches_network(), 0U) << "retraining must not change the program";
    ASSERT_TRUE(step_until(*trainer, [&] { return status().decisions_explained() > 500; }));
    EXPECT_EQ(status().decisions_unexplained(), 0U) << status().last_unexplained();

    const uint64_t installed = trainer->counters().installed;
    stop_daemon();
    ASSERT_TRUE(step_until(*trainer, [&] { return !trainer->step(100ms); })) << "the trainer did not notice";
    start_daemon();
    ASSERT_TRUE(step_until(*trainer, [&] {
        return trainer->counters().connects == 2 && trainer->counters().installed > installed;
    })) << trainer->progress();
    EXPECT_GT(status().active_generation(), static_cast<uint32_t>(installed));
}

TEST_F(TrainerTest, TrainOffLearnsNothingAndTrainNowSends) {
    start_daemon();
    daemon_->set_train(false);
    std::unique_ptr<Trainer> trainer = this->trainer();
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->counters().installed == 1; }));
    const uint64_t samples = trainer->counters().samples;
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->counters().samples > samples + 1000; }));
    EXPECT_EQ(trainer->counters().batches, 0U);
    EXPECT_EQ(trainer->counters().installed, 1U);
    daemon_->set_train(true);
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->counters().batches > 0; })) << trainer->progress();
    const uint64_t frozen = trainer->counters().frozen;
    daemon_->train_now();
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->counters().frozen > frozen; }));
}

TEST_F(TrainerTest, WhatIsOnTrialIsWaitedForAndFollowed) {
    start_daemon(true);
    std::unique_ptr<Trainer> trainer = this->trainer();
    ASSERT_TRUE(step_until(*trainer, [&] { return status().trials() >= 1; })) << trainer->progress();
    const uint64_t sent = trainer->counters().installed;
    while (status().canary_generation() != 0 && trainer->step(20ms)) {
        EXPECT_EQ(trainer->counters().installed, sent) << "another one while one is on trial";
    }
    ASSERT_TRUE(step_until(*trainer, [&] { return status().trials_passed() >= 2; })) << trainer->progress();
    EXPECT_EQ(status().trials_failed(), 0U);
    EXPECT_EQ(status().decisions_unexplained(), 0U) << status().last_unexplained();
    // One that is rolled back from its trial: learning goes on from what decides, and the next is sent.
    ASSERT_TRUE(step_until(*trainer, [&] { return status().canary_generation() != 0; })) << trainer->progress();
    ASSERT_TRUE(daemon_->snapshots().roll_back("by hand", false).ok());
    const uint64_t trials = status().trials();
    ASSERT_TRUE(step_until(*trainer, [&] { return status().trials() > trials; })) << trainer->progress();
}

TEST_F(TrainerTest, AfterARollbackToTheFallbackTheCheckpointIsTriedAgain) {
    start_daemon();
    std::unique_ptr<Trainer> trainer = this->trainer([](TrainerOptions& options) {
        options.retry_s = 0.5;
        options.online.batch = 1 << 20;  // nothing is learned meanwhile
    });
    ASSERT_TRUE(step_until(*trainer, [&] { return status().active_generation() == 1; })) << trainer->progress();
    for (uint32_t again = 2; again <= 3; again++) {
        ASSERT_TRUE(daemon_->snapshots().roll_back("by hand", true).ok());
        ASSERT_EQ(status().active_generation(), 0U);
        ASSERT_TRUE(step_until(*trainer, [&] { return status().active_generation() == again; })) << trainer->progress();
    }
    // An operator who wants the fallback turns training off.
    daemon_->set_train(false);
    ASSERT_TRUE(daemon_->snapshots().roll_back("by hand", true).ok());
    const uint64_t samples = trainer->counters().samples;
    const uint64_t until_us = monotonic_us() + 4000000;  // the third pause is 2 s
    ASSERT_TRUE(step_until(*trainer, [&] { return monotonic_us() > until_us; }));
    EXPECT_GT(trainer->counters().samples, samples);
    EXPECT_EQ(status().active_generation(), 0U);
    daemon_->set_train(true);
    ASSERT_TRUE(step_until(*trainer, [&] { return status().active_generation() == 4; })) << trainer->progress();
}

TEST_F(TrainerTest, SettingsTakeTurns) {
    start_daemon(true);  // a trial by a share of the flows is possible: a turn must not be one
    const auto turns = [](TrainerOptions& options) {
        options.learning = Learning::turns;
        options.tuner.turn_s = 0.4;
        options.tuner.settle_s = 0.08;
    };
    std::unique_ptr<Trainer> trainer = this->trainer(turns);
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->tuner().counters().comparisons >= 3; }))
        << trainer->progress();
    EXPECT_EQ(status().trials(), 0U);
    EXPECT_GT(status().switches_parameter(), 6U);
    EXPECT_LE(status().switches_network(), 1U) << "a setting must not change the program";
    // Each has one snapshot, however often its turn comes.
    EXPECT_LT(trainer->counters().installed, status().switches_parameter());
    ASSERT_TRUE(step_until(*trainer, [&] { return status().decisions_explained() > 500; }));
    EXPECT_EQ(status().decisions_unexplained(), 0U) << status().last_unexplained();

    // Rolled back in a challenger's turn: it has lost, and the best decides.
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->tuner().wanted() != trainer->tuner().best(); }));
    const uint64_t comparisons = trainer->tuner().counters().comparisons;
    ASSERT_TRUE(step_until(*trainer, [&] { return status().watch().starts_with("watched"); }));
    ASSERT_TRUE(daemon_->snapshots().roll_back("by hand", true).ok());
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->tuner().counters().comparisons > comparisons; }))
        << trainer->progress();

    // Training off in a challenger's turn: the best comes back and stays.
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->tuner().wanted() != trainer->tuner().best(); }));
    daemon_->set_train(false);
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->tuner().wanted() == trainer->tuner().best(); }));
    const uint64_t samples = trainer->counters().samples;
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->counters().samples > samples + 1000; }));
    const uint32_t generation = status().active_generation();
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->counters().samples > samples + 3000; }));
    EXPECT_EQ(status().active_generation(), generation);
}

TEST_F(TrainerTest, TurnsGoOnFromAnOperatorsOwnSnapshotAndLeaveItInPlace) {
    start_daemon(true);
    const auto turns = [](TrainerOptions& options) {
        options.learning = Learning::turns;
        options.tuner.turn_s = 0.4;
        options.tuner.settle_s = 0.08;
        options.tuner.rest_s = 0.5;
        // No challenger wins, so that the operator's is the best one to the end: two pairs of turns may say anything.
        options.tuner.least_gain = 100;
    };
    std::unique_ptr<Trainer> trainer = this->trainer(turns);
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->tuner().wanted() != trainer->tuner().best(); }));

    // Learning goes on from it.
    const FloatModel other =
        apply_setting(*read_float_model(ADAPATH_CHECKPOINT "/policy.model"), {.bias = 0.1, .gain = 0.9});
    Result<Snapshot> snapshot = testing::freeze_for_test(other, testing::flow_like_codes(512, 1));
    ASSERT_TRUE(snapshot) << snapshot.error().message;
    Result<InstallResult> installed =
        daemon_->snapshots().install(test::file_of(*snapshot), true, false, "by an operator");
    ASSERT_TRUE(installed) << installed.error().message;
    const uint64_t turns_before = trainer->tuner().counters().turns;
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->tuner().counters().turns > turns_before + 4; }));
    EXPECT_EQ(trainer->tuner().best(), TunerSetting{}) << "the operator's is where it begins again";
    EXPECT_EQ(trainer->tuner().counters().improvements, 0U);
    EXPECT_EQ(status().decisions_unexplained(), 0U) << status().last_unexplained();

    // A stop leaves no challenger behind, and another trainer leaves the operator's in place to begin with.
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->tuner().wanted() != trainer->tuner().best(); }));
    StopToken stop;
    stop.request();
    trainer->run(stop);
    EXPECT_EQ(status().active_hash(), installed->hash);
    trainer.reset();
    trainer = this->trainer(turns);
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->tuner().counters().turns > 4; })) << trainer->progress();
    EXPECT_EQ(status().trials(), 0U);
}

TEST_F(TrainerTest, WhatTurnsTaughtOutlivesTheTrainer) {
    start_daemon();
    const auto turns = [&](TrainerOptions& options) {
        options.learning = Learning::turns;
        options.tuner.turn_s = 0.4;
        options.tuner.settle_s = 0.08;
    };
    ASSERT_TRUE(make_directories(directory_ / "learned").ok());
    const std::string saved = R"({"best":{"bias":-0.15,"gain":1.2},"good_before":[{"bias":0.0,"gain":1.0}]})";
    ASSERT_TRUE(write_file_durably(directory_ / "learned/tuner.json", saved).ok());
    std::unique_ptr<Trainer> trainer = this->trainer(turns);
    EXPECT_EQ(trainer->tuner().best(), (TunerSetting{.bias = -0.15, .gain = 1.2}));
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->tuner().counters().comparisons >= 1; }))
        << trainer->progress();
    trainer.reset();
    ASSERT_TRUE(write_file_durably(directory_ / "learned/tuner.json", "{").ok());
    TrainerOptions options;
    options.checkpoint = ADAPATH_CHECKPOINT;
    options.save = directory_ / "learned";
    Result<std::unique_ptr<Trainer>> refused = Trainer::open(options);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find("tuner.json"), std::string::npos);
}

TEST_F(TrainerTest, MissingCheckpointIsNamed) {
    TrainerOptions options;
    options.checkpoint = directory_ / "nothing";
    Result<std::unique_ptr<Trainer>> trainer = Trainer::open(options);
    ASSERT_FALSE(trainer);
    EXPECT_NE(trainer.error().message.find("policy.model"), std::string::npos);
    EXPECT_NE(trainer.error().message.find("--checkpoint"), std::string::npos);
}

}  // namespace
}  // namespace adapath
