// The app select's loop in one process: decisions made by the snapshot that is installed, what the server measured of
// them over the relay's stream, the trainer with LibTorch and clang, and back.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include <adapath/select.h>

#include "tests/daemon/fake_feed.h"
#include "tests/daemon/trained_daemon.h"
#include "tests/support/models.h"
#include "userspace/common/clock.h"

namespace adapath {
namespace {

using namespace std::chrono_literals;

constexpr uint32_t kCameras = 2;

class SelectTrainerTest : public test::TrainedDaemon {
protected:
    void start_daemon() {
        hand_ = test::open_hand_daemon(
            directory_.path(),
            [&](pb::DaemonConfig& config) {
                config.set_socket(socket_);
                config.set_app("select");
                config.set_interval_ms(5);
                config.mutable_watch()->set_rollback(false);
                config.mutable_canary()->set_mode("off");
                for (uint32_t i = 0; i < kCameras; i++) {
                    config.mutable_select()->add_camera()->set_name("c" + std::to_string(i));
                }
            },
            std::make_unique<test::FakeFeed>(std::make_shared<test::Told>()));
        serve(*hand_.daemon);
        cameras_ = std::jthread([this](const std::stop_token& stop) { play(stop); });
    }
    // The cameras first: what they sent is to be taken whole.
    void stop_daemon() {
        if (cameras_.joinable()) {
            cameras_.request_stop();
            cameras_.join();
        }
        stop_serving();
        hand_ = {};
    }
    void TearDown() override { stop_daemon(); }

    // Decisions of a snapshot that is in place, and every 4th measured: the sub stream is worth `worth_`, main the
    // rest.
    void play(const std::stop_token& stop) {
        auto stub = pb::SelectFeed::NewStub(channel());
        grpc::ClientContext context;
        pb::FeedReply reply;
        auto writer = stub->Feed(&context, &reply);
        const std::vector<InputCodes> codes = testing::random_select_codes(64, 3);
        for (uint32_t n = 0; !stop.stop_requested(); n++) {
            for (uint32_t camera = 0; camera < kCameras; camera++) {
                adp_select_sample sample{};
                sample.time_us = monotonic_us();
                sample.camera = 100 + camera;
                sample.seq = n;
                sample.offer.available = ADP_SELECT_BOTH;
                sample.offer.rate[0] = 10000;
                sample.offer.rate[1] = 80000;
                const InputCodes& input = codes[(n + camera) % codes.size()];
                std::copy(input.begin(), input.end(), sample.input);
                const LocalDatapath::Active active = hand_.datapath->deciding(sample.camera);
                sample.flags = ADP_SELECT_FALLBACK_MADE;
                sample.choice = ADP_SELECT_ONLY_SUB;
                if (active.model != nullptr) {
                    explore_q16_ = active.explore_q16;
                    sample.flags = 0;
                    sample.generation = active.generation;
                    sample.slot = active.slot;
                    const std::vector<int32_t> out = interpret(*active.model, sample.input);
                    std::copy(out.begin(), out.end(), sample.output);
                    sample.choice = adp_select_choose(sample.output, &sample.offer, &sample.flags);
                }
                hand_.datapath->put(std::as_bytes(std::span(&sample, 1)));
                if (n % 4 != 0) {
                    continue;
                }
                pb::FeedRequest request;
                pb::CameraReport& report = *request.mutable_report();
                report.set_camera(camera);
                report.set_chunk_us(sample.time_us + 100);
                report.mutable_measured()->set_sub_worth(worth_);
                report.mutable_measured()->set_gain(1 - worth_);
                report.mutable_measured()->set_pictures(5);
                writer->Write(request);
            }
            std::this_thread::sleep_for(2ms);
        }
        writer->WritesDone();
        EXPECT_TRUE(writer->Finish().ok());
    }

    std::unique_ptr<Trainer> trainer() {
        TrainerOptions options;
        options.app = "select";
        options.checkpoint = ADAPATH_SELECT_CHECKPOINT;
        options.select.stable_change = 1;
        options.select.stable_batches = 1;
        options.select.necessary_loss = 0.02;
        options.select.anchor = 0;
        options.fidelity_limit = 0;  // random inputs are not what it was trained for
        return open_trainer(options);
    }
    // Of the model that decides now, on the cameras' inputs.
    double mean_sub_worth() {
        const LocalDatapath::Active active = hand_.datapath->active();
        if (active.model == nullptr) {
            return -1;
        }
        double sum = 0;
        const std::vector<InputCodes> codes = testing::random_select_codes(64, 3);
        for (const InputCodes& input : codes) {
            const std::vector<int32_t> out = interpret(*active.model, input);
            sum += static_cast<double>(adp_select_worth(out.data(), ADP_SELECT_SUB)) / ADP_Q16_ONE;
        }
        return sum / static_cast<double>(codes.size());
    }

    test::HandDaemon hand_;
    std::jthread cameras_;
    std::atomic<double> worth_{0.8};
    std::atomic<uint32_t> explore_q16_{0};
};

TEST_F(SelectTrainerTest, WhatTheServerMeasuresDecidesAndOutlivesRestarts) {
    start_daemon();
    std::unique_ptr<Trainer> trainer = this->trainer();
    ASSERT_TRUE(step_until(*trainer, [&] { return status().active_generation() == 1; })) << trainer->progress();
    ASSERT_TRUE(step_until(*trainer, [&] { return explore_q16_ == to_q16(0.05); })) << "labels need exploration";
    // The sub stream is worth 0.8: that is what decides in the end.
    ASSERT_TRUE(step_until(*trainer, [&] { return std::abs(mean_sub_worth() - 0.8) < 0.08; }))
        << mean_sub_worth() << ", " << trainer->progress();
    EXPECT_GT(trainer->counters().installed, 1U);
    EXPECT_GE(trainer->counters().batches, 1U);
    EXPECT_EQ(status().switches_network(), 0U) << "retraining must not change the program";
    EXPECT_EQ(status().decisions_unexplained(), 0U) << status().last_unexplained();
    const auto& learner = dynamic_cast<const SelectOnline&>(trainer->learner());
    EXPECT_EQ(learner.counters().reports, trainer->counters().reports);
    EXPECT_EQ(learner.counters().labels + learner.counters().unmatched + learner.counters().late +
                  learner.counters().blind + learner.counters().repeated,
              learner.counters().reports);
    EXPECT_GT(learner.counters().labels, learner.counters().reports * 9 / 10);

    // Without the daemon, and with it again: it goes on where it was.
    stop_daemon();
    ASSERT_TRUE(step_until(*trainer, [&] { return !trainer->step(100ms); })) << "the trainer did not notice";
    worth_ = 0.3;
    start_daemon();
    ASSERT_TRUE(step_until(*trainer, [&] { return std::abs(mean_sub_worth() - 0.3) < 0.08; }))
        << mean_sub_worth() << ", " << trainer->progress();
    EXPECT_EQ(trainer->counters().connects, 2U);

    // Another trainer begins with what this one has saved.
    trainer.reset();
    trainer = this->trainer();
    const FloatModel saved = std::get<FloatModel>(trainer->learner().model());
    EXPECT_NE(saved.weights, read_float_model(ADAPATH_SELECT_CHECKPOINT "/policy.model")->weights);
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->counters().reports > 10; })) << trainer->progress();
}

TEST_F(SelectTrainerTest, WithTrainingOffNothingIsLearned) {
    start_daemon();
    hand_.daemon->set_train(false);
    std::unique_ptr<Trainer> trainer = this->trainer();
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->counters().installed == 1; })) << trainer->progress();
    const uint64_t samples = trainer->counters().samples;
    ASSERT_TRUE(step_until(*trainer, [&] { return trainer->counters().samples > samples + 500; }));
    EXPECT_EQ(trainer->counters().reports, 0U);
    EXPECT_EQ(trainer->counters().installed, 1U);
    EXPECT_EQ(explore_q16_, 0U);
}

TEST(SelectTrainer, AnotherAppsCheckpointIsRefused) {
    TrainerOptions options;
    options.app = "select";
    options.checkpoint = ADAPATH_CHECKPOINT;
    Result<std::unique_ptr<Trainer>> trainer = Trainer::open(options);
    ASSERT_FALSE(trainer);
    EXPECT_NE(trainer.error().message.find("'select'"), std::string::npos) << trainer.error().message;
    options.app = "qp";
    EXPECT_FALSE(Trainer::open(options));
}

}  // namespace
}  // namespace adapath
