// The service SelectFeed over the real socket: what is sound reaches the kernel side and the trainer's stream, what is
// not ends the stream and changes nothing.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <sstream>
#include <thread>

#include <adapath/qp.h>

#include "tests/daemon/fake_feed.h"
#include "tests/daemon/served_daemon.h"
#include "userspace/adapathctl/commands.h"
#include "userspace/common/clock.h"
#include "userspace/host/host_reader.h"

namespace adapath {
namespace {

using test::FakeFeed;
using test::HandDaemon;
using test::Told;

class FeedTest : public test::ServedDaemon {
protected:
    void SetUp() override {
        hand_ = test::open_hand_daemon(
            directory_.path(),
            [&](pb::DaemonConfig& config) {
                config.set_socket(socket_);
                config.set_app("select");
                for (int i = 0; i < 3; i++) {
                    config.mutable_select()->add_camera()->set_name("c" + std::to_string(i));
                }
            },
            std::make_unique<FakeFeed>(told_));
        serve(*hand_.daemon);
        feed_ = pb::SelectFeed::NewStub(channel());
        control_ = pb::Control::NewStub(channel());
    }
    static pb::FeedRequest report(uint32_t camera = 1) {
        pb::FeedRequest request;
        request.mutable_report()->set_camera(camera);
        request.mutable_report()->set_chunk_us(monotonic_us());
        return request;
    }
    static pb::FeedRequest market(double price, double used = 0.5, uint32_t cameras = 3) {
        pb::FeedRequest request;
        request.mutable_market()->set_price(price);
        request.mutable_market()->set_main_limit(123456);
        request.mutable_market()->set_used(used);
        request.mutable_market()->set_cameras(cameras);
        return request;
    }
    static pb::FeedRequest seen(double objects, double confidence, double accuracy, uint32_t rendition = 0) {
        pb::FeedRequest request = report();
        pb::Seen* seen = request.mutable_report()->mutable_seen();
        seen->set_rendition(rendition);
        seen->set_pictures(10);
        seen->set_objects(objects);
        seen->set_confidence(confidence);
        seen->set_accuracy(accuracy);
        return request;
    }
    static pb::FeedRequest measured(double sub_worth, double gain, uint32_t pictures = 10) {
        pb::FeedRequest request = report();
        pb::Measured* m = request.mutable_report()->mutable_measured();
        m->set_sub_worth(sub_worth);
        m->set_gain(gain);
        m->set_pictures(pictures);
        return request;
    }
    // A stream of just these.
    grpc::Status send(const std::vector<pb::FeedRequest>& requests, pb::FeedReply* reply = nullptr) {
        pb::FeedReply ignored;
        grpc::ClientContext context;
        auto writer = feed_->Feed(&context, reply != nullptr ? reply : &ignored);
        for (const pb::FeedRequest& request : requests) {
            if (!writer->Write(request)) {
                break;
            }
        }
        writer->WritesDone();
        return writer->Finish();
    }
    pb::FeedStatus status() {
        const pb::StatusReply reply = ServedDaemon::status();
        EXPECT_TRUE(reply.has_feed());
        return reply.feed();
    }

    std::shared_ptr<Told> told_ = std::make_shared<Told>();
    HandDaemon hand_;
    std::unique_ptr<pb::SelectFeed::Stub> feed_;
    std::unique_ptr<pb::Control::Stub> control_;
};

TEST_F(FeedTest, WhatIsSoundArrivesAndIsCounted) {
    EXPECT_EQ(status().market_age_s(), -1);
    pb::FeedReply reply;
    const grpc::Status sent = send({market(2.5), seen(3.4, 0.5, 0.75), measured(0.25, 0.75), market(3)}, &reply);
    ASSERT_TRUE(sent.ok()) << sent.error_message();
    EXPECT_EQ(reply.markets(), 2U);
    EXPECT_EQ(reply.reports(), 2U);
    EXPECT_EQ(told_->price, 3);
    EXPECT_EQ(told_->market.main_limit, 123456U);
    EXPECT_EQ(told_->market.cameras, 3U);
    EXPECT_EQ(told_->cameras[1].objects, 3U);
    EXPECT_EQ(told_->cameras[1].accuracy_q16, 49152U);
    EXPECT_EQ(told_->cameras[1].sub_worth_q16, 16384U);
    EXPECT_EQ(told_->cameras[1].gain_q16, 49152);
    const pb::FeedStatus feed = status();
    EXPECT_FALSE(feed.connected());
    EXPECT_EQ(feed.streams(), 1U);
    EXPECT_EQ(feed.markets(), 2U);
    EXPECT_EQ(feed.reports(), 2U);
    EXPECT_EQ(feed.seen(), 1U);
    EXPECT_EQ(feed.measured(), 1U);
    EXPECT_EQ(feed.refused(), 0U);
    EXPECT_EQ(feed.price(), 3);
    EXPECT_GE(feed.market_age_s(), 0);
    std::ostringstream plain;
    ASSERT_TRUE(Client(socket_).status(plain, false).ok());
    EXPECT_NE(plain.str().find("markets 2  reports 2 (seen 1, measured 1, blocks 0)"), std::string::npos)
        << plain.str();
    EXPECT_NE(plain.str().find("price 3.000"), std::string::npos) << plain.str();
}

TEST_F(FeedTest, WhatIsOutOfRangeEndsTheStreamAndChangesNothing) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const double infinity = std::numeric_limits<double>::infinity();
    pb::FeedRequest blocks = report();
    blocks.mutable_report()->mutable_blocks()->set_columns(2);
    blocks.mutable_report()->mutable_blocks()->set_rows(1);
    blocks.mutable_report()->mutable_blocks()->add_weights(1);
    pb::FeedRequest odd_block = blocks;
    odd_block.mutable_report()->mutable_blocks()->add_weights(std::nanf(""));
    pb::FeedRequest region = report();
    region.mutable_report()->mutable_regions()->add_regions()->set_x0(0.5F);  // x1 is 0
    pb::FeedRequest never = seen(1, 1, 1);
    never.mutable_report()->set_chunk_us(0);
    pb::FeedRequest future = seen(1, 1, 1);
    future.mutable_report()->set_chunk_us(monotonic_us() + 3600'000'000ULL);
    pb::FeedRequest stranger = seen(1, 1, 1);
    stranger.mutable_report()->set_camera(3);
    const std::vector<std::pair<pb::FeedRequest, std::string>> wrong = {
        {market(nan), "market.price"},
        {market(-1), "market.price"},
        {market(1025), "market.price"},
        {market(infinity), "market.price"},
        {market(1, nan), "market.used"},
        {market(1, 2.1), "market.used"},
        {market(1, 1, 257), "market.cameras"},
        {stranger, "report.camera is 3"},
        {never, "report.chunk_us"},
        {future, "report.chunk_us"},
        {seen(nan, 0, 0), "seen.objects"},
        {seen(-1, 0, 0), "seen.objects"},
        {seen(1, 1.1, 0), "seen.confidence"},
        {seen(1, 1, nan), "seen.accuracy"},
        {seen(1, 1, 1, 2), "seen.rendition"},
        {measured(1.5, 0), "measured.sub_worth"},
        {measured(0, nan), "measured.gain"},
        {measured(0, -1.5), "measured.gain"},
        {measured(0.5, 0.5, 0), "measured.pictures"},
        {region, "regions.x1"},
        {blocks, "blocks.weights"},
        {odd_block, "blocks.weights"},
        {report(), "says nothing"},
        {pb::FeedRequest(), "neither"},
    };
    for (const auto& [request, word] : wrong) {
        const grpc::Status status = send({request});
        EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << word;
        EXPECT_NE(status.error_message().find(word), std::string::npos) << status.error_message();
    }
    EXPECT_EQ(told_->calls, 0U);
    EXPECT_EQ(status().refused(), wrong.size());
    EXPECT_EQ(status().markets() + status().reports(), 0U);
    EXPECT_NE(status().last_refusal().find("neither"), std::string::npos);
    // The next stream starts with a clean slate.
    EXPECT_TRUE(send({market(1)}).ok());
    EXPECT_EQ(told_->price, 1);
}

TEST_F(FeedTest, OneStreamAtATime) {
    pb::FeedReply reply;
    grpc::ClientContext context;
    auto first = feed_->Feed(&context, &reply);
    ASSERT_TRUE(first->Write(market(1)));
    while (!status().connected() || status().markets() == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    EXPECT_EQ(send({market(2)}).error_code(), grpc::StatusCode::ALREADY_EXISTS);
    EXPECT_EQ(told_->price, 1);
    first->WritesDone();
    EXPECT_TRUE(first->Finish().ok());
    EXPECT_TRUE(send({market(2)}).ok());
    EXPECT_EQ(told_->price, 2);
}

// The trainer gets each report once, named by the kernel side's id, and behind the samples that were there before it.
TEST_F(FeedTest, ReportsFollowTheSamplesToTheTrainer) {
    grpc::ClientContext context;
    pb::SamplesRequest request;
    request.set_trainer(true);
    auto reader = control_->StreamSamples(&context, request);
    pb::SampleBatch batch;
    ASSERT_TRUE(reader->Read(&batch));  // the first one, empty
    EXPECT_EQ(batch.schema(), uint32_t{ADP_SELECT_SCHEMA});
    size_t sent = 0;
    size_t samples = 0;
    uint32_t reports = 0;
    for (uint32_t i = 0; i < 20; i++) {
        adp_select_sample sample{};
        sample.time_us = monotonic_us();
        sample.camera = 101;
        sample.seq = i;
        sample.flags = ADP_SELECT_FALLBACK_MADE;
        ASSERT_TRUE(hand_.datapath->put(std::as_bytes(std::span(&sample, 1))));
        sent++;
        pb::FeedRequest one = measured(i / 32.0, 0.5);
        ASSERT_TRUE(send({one}).ok());
        while (reports <= i && reader->Read(&batch)) {
            samples += batch.records().size() / sizeof(adp_select_sample);
            for (const pb::CameraReport& report : batch.reports()) {
                EXPECT_GE(samples, sent) << "a report before its sample";
                EXPECT_EQ(report.camera(), 1U);
                EXPECT_EQ(report.camera_id(), 101U);
                EXPECT_EQ(report.chunk_us(), one.report().chunk_us());
                EXPECT_EQ(report.measured().sub_worth(), i / 32.0);
                reports++;
            }
        }
    }
    EXPECT_EQ(reports, 20U);
    EXPECT_EQ(samples, 20U);
    context.TryCancel();
}

TEST_F(FeedTest, AStoppingDaemonEndsTheStreamAtOnce) {
    pb::FeedReply reply;
    grpc::ClientContext context;
    auto writer = feed_->Feed(&context, &reply);
    ASSERT_TRUE(writer->Write(market(1)));
    while (status().markets() == 0) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    const uint64_t begin_us = monotonic_us();
    server_.reset();
    EXPECT_LT(monotonic_us() - begin_us, 1500000U);
    EXPECT_FALSE(writer->Finish().ok());
}

// The app qp: nothing but the trainer listens.
class QpFeedTest : public test::ServedDaemon {
protected:
    void SetUp() override {
        pb::DaemonConfig config;
        config.set_app("qp");
        config.set_backend("host");
        config.set_interval_ms(5);
        config.set_state_directory(directory_ / "state");
        config.set_host_directory(directory_ / "host");
        config.set_socket(socket_);
        Result<std::unique_ptr<Daemon>> daemon = Daemon::open(config);
        ASSERT_TRUE(daemon) << daemon.error().message;
        qp_ = std::move(*daemon);
        serve(*qp_);
    }
    static pb::FeedRequest blocks(uint32_t camera, uint32_t columns, uint32_t rows) {
        pb::FeedRequest request;
        request.mutable_report()->set_camera(camera);
        request.mutable_report()->set_chunk_us(monotonic_us());
        pb::BlockWeights* weights = request.mutable_report()->mutable_blocks();
        weights->set_columns(columns);
        weights->set_rows(rows);
        for (uint32_t i = 0; i < std::min<uint64_t>(uint64_t{columns} * rows, 1 << 17); i++) {
            weights->add_weights(static_cast<float>(i));
        }
        return request;
    }
    grpc::Status send(const std::vector<pb::FeedRequest>& requests) {
        pb::FeedReply reply;
        grpc::ClientContext context;
        auto stub = pb::SelectFeed::NewStub(channel());
        auto writer = stub->Feed(&context, &reply);
        for (const pb::FeedRequest& request : requests) {
            if (!writer->Write(request)) {
                break;
            }
        }
        writer->WritesDone();
        return writer->Finish();
    }

    std::unique_ptr<Daemon> qp_;
};

TEST_F(QpFeedTest, LabelsFollowTheSamplesToTheTrainer) {
    grpc::ClientContext context;
    pb::SamplesRequest request;
    request.set_trainer(true);
    auto control = pb::Control::NewStub(channel());
    auto reader = control->StreamSamples(&context, request);
    pb::SampleBatch batch;
    ASSERT_TRUE(reader->Read(&batch));  // the first one, empty
    EXPECT_EQ(batch.schema(), uint32_t{ADP_QP_SCHEMA});
    Result<std::unique_ptr<HostReader>> encoder =
        HostReader::join(directory_ / "host", {"qp", ADP_QP_SCHEMA, sizeof(adp_qp_sample)}, 9);
    ASSERT_TRUE(encoder) << encoder.error().message;
    uint32_t reports = 0;
    size_t samples = 0;
    for (uint32_t i = 0; i < 10; i++) {
        adp_qp_sample sample{};
        sample.time_us = monotonic_us();
        sample.flow = (*encoder)->flow();
        sample.seq = i + 1;
        sample.flags = ADP_QP_UNIFORM;
        ASSERT_TRUE((*encoder)->put(std::as_bytes(std::span(&sample, 1))));
        // The largest picture that there is: several of them fill a message of the stream.
        const pb::FeedRequest label = blocks(65535, 256, 256);
        ASSERT_TRUE(send({label, label, label, label, label}).ok());
        while (reports < 5 * (i + 1) && reader->Read(&batch)) {
            samples += batch.records().size() / sizeof(adp_qp_sample);
            EXPECT_LT(batch.ByteSizeLong(), 4U << 20);
            for (const pb::CameraReport& report : batch.reports()) {
                EXPECT_GT(samples, i) << "a report before its sample";
                EXPECT_EQ(report.camera_id(), 65535U);
                EXPECT_EQ(report.chunk_us(), label.report().chunk_us());
                EXPECT_EQ(report.blocks().weights_size(), 65536);
                reports++;
            }
        }
    }
    context.TryCancel();
    EXPECT_EQ(status().feed().reports(), 50U);
    EXPECT_EQ(status().feed().blocks(), 50U);
    EXPECT_EQ(status().feed().lost(), 0U);
    std::ostringstream plain;
    ASSERT_TRUE(Client(socket_).status(plain, false).ok());
    EXPECT_NE(plain.str().find("blocks 50"), std::string::npos) << plain.str();
    EXPECT_EQ(plain.str().find("market "), std::string::npos) << "there is no price to tell";
}

TEST_F(QpFeedTest, WhatIsNoLabelEndsTheStreamAndIsCounted) {
    pb::FeedRequest negative = blocks(0, 4, 3);
    negative.mutable_report()->mutable_blocks()->set_weights(5, -0.5F);
    pb::FeedRequest infinite = blocks(0, 4, 3);
    infinite.mutable_report()->mutable_blocks()->set_weights(0, std::numeric_limits<float>::infinity());
    pb::FeedRequest few = blocks(0, 4, 3);
    few.mutable_report()->mutable_blocks()->set_rows(4);
    pb::FeedRequest wraps = blocks(0, 4, 3);  // columns * rows is 12 in 32 bits
    wraps.mutable_report()->mutable_blocks()->set_columns(1U << 31);
    wraps.mutable_report()->mutable_blocks()->set_rows(2);
    const std::vector<std::pair<pb::FeedRequest, std::string>> wrong = {
        {negative, "blocks.weights"},
        {infinite, "blocks.weights"},
        {few, "blocks.weights"},
        {wraps, "blocks.columns"},
        {blocks(0, 257, 1), "blocks.columns"},
        {blocks(0, 1, 257), "blocks.rows"},
        {blocks(0, 0, 4), "blocks.columns"},
        {blocks(65536, 4, 3), "report.camera is 65536"},
    };
    for (const auto& [request, word] : wrong) {
        const grpc::Status sent = send({request});
        EXPECT_EQ(sent.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << word;
        EXPECT_NE(sent.error_message().find(word), std::string::npos) << sent.error_message();
    }
    EXPECT_EQ(status().feed().refused(), wrong.size());
    EXPECT_EQ(status().feed().reports(), 0U);
    EXPECT_TRUE(send({blocks(0, 4, 3)}).ok());
    EXPECT_EQ(status().feed().blocks(), 1U);
}

TEST(FeedOfAnotherApp, IsNotServed) {
    test::TemporaryDirectory directory;
    const std::string socket = directory / "s.sock";
    HandDaemon hand = test::open_hand_daemon(directory.path());
    Result<std::unique_ptr<ControlServer>> server = ControlServer::start(*hand.daemon, socket, "no-such-group");
    ASSERT_TRUE(server) << server.error().message;
    auto stub = pb::SelectFeed::NewStub(grpc::CreateChannel("unix:" + socket, grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    pb::FeedReply reply;
    auto writer = stub->Feed(&context, &reply);
    writer->WritesDone();
    EXPECT_EQ(writer->Finish().error_code(), grpc::StatusCode::UNIMPLEMENTED);
    pb::StatusReply status;
    hand.daemon->fill_status(status);
    EXPECT_FALSE(status.has_feed());
}

}  // namespace
}  // namespace adapath
