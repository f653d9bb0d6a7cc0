// The way of a report: from the server over mutual TLS to the daemon's socket, and what is not let through.
#include <gtest/gtest.h>

#include <limits>

#include "tests/relay/fake_feedback.h"
#include "tests/support/patience.h"
#include "userspace/relay/feedback.h"
#include "userspace/relay/reports.h"
#include "userspace/video/net.h"

namespace adapath::relay {
namespace {

using testing::Authority;
using testing::wait_until;

uint64_t now_us() { return video::now_ns() / 1000; }

pb::CameraReport seen(uint32_t camera, double accuracy = 0.7) {
    pb::CameraReport report;
    report.set_camera(camera);
    report.set_chunk_us(now_us());
    report.mutable_seen()->set_rendition(1);
    report.mutable_seen()->set_pictures(10);
    report.mutable_seen()->set_objects(3.5);
    report.mutable_seen()->set_confidence(0.8);
    report.mutable_seen()->set_accuracy(accuracy);
    return report;
}

TEST(Reports, SoundOnesPass) {
    EXPECT_EQ(wrong_with(seen(3), 4, now_us()), "");
    pb::CameraReport report = seen(0);
    report.mutable_measured()->set_sub_worth(0.6);
    report.mutable_measured()->set_gain(-0.4);
    EXPECT_EQ(wrong_with(report, 4, now_us()), "");
    pb::Regions::Region* region = report.mutable_regions()->add_regions();
    region->set_x1(1);
    region->set_y1(0.5);
    EXPECT_EQ(wrong_with(report, 4, now_us()), "");
    report.mutable_blocks()->set_columns(3);
    report.mutable_blocks()->set_rows(2);
    for (int i = 0; i < 6; ++i) report.mutable_blocks()->add_weights(static_cast<float>(i));
    EXPECT_EQ(wrong_with(report, 4, now_us()), "");
}

TEST(Reports, OthersDoNot) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const double inf = std::numeric_limits<double>::infinity();
    const auto wrong = [](const std::function<void(pb::CameraReport&)>& change) {
        pb::CameraReport report = seen(0);
        change(report);
        return !wrong_with(report, 4, now_us()).empty();
    };
    EXPECT_TRUE(wrong([](auto& r) { r.set_camera(4); }));
    EXPECT_TRUE(wrong([](auto& r) { r.set_camera(~0U); }));
    EXPECT_TRUE(wrong([](auto& r) { r.set_chunk_us(0); }));
    EXPECT_TRUE(wrong([](auto& r) { r.set_chunk_us(~uint64_t{0}); }));
    EXPECT_TRUE(wrong([](auto& r) { r.set_chunk_us(now_us() + 60'000'000); }));
    EXPECT_TRUE(wrong([](auto& r) { r.clear_seen(); }));
    EXPECT_TRUE(wrong([](auto& r) { r.mutable_seen()->set_rendition(2); }));
    for (const double bad : {nan, inf, -inf, -0.01, 1.01}) {
        EXPECT_TRUE(wrong([&](auto& r) { r.mutable_seen()->set_accuracy(bad); })) << bad;
        EXPECT_TRUE(wrong([&](auto& r) { r.mutable_seen()->set_confidence(bad); })) << bad;
        EXPECT_TRUE(wrong([&](auto& r) { r.mutable_measured()->set_sub_worth(bad); })) << bad;
        EXPECT_TRUE(wrong([&](auto& r) {
            r.mutable_regions()->add_regions()->set_x1(1);
            r.mutable_regions()->mutable_regions(0)->set_y0(static_cast<float>(bad));
        })) << bad;
    }
    for (const double bad : {nan, inf, -1.0, 1e9})
        EXPECT_TRUE(wrong([&](auto& r) { r.mutable_seen()->set_objects(bad); })) << bad;
    for (const double bad : {nan, inf, -1.01, 1.01})
        EXPECT_TRUE(wrong([&](auto& r) { r.mutable_measured()->set_gain(bad); })) << bad;
    EXPECT_TRUE(wrong([](auto& r) { r.mutable_seen()->set_pictures(~0U); }));
    EXPECT_TRUE(wrong([](auto& r) { r.mutable_regions()->add_regions()->set_x0(0.5); }));  // ends before it begins
    EXPECT_TRUE(wrong([](auto& r) {
        for (int i = 0; i < 5000; ++i) r.mutable_regions()->add_regions();
    }));
    EXPECT_TRUE(wrong([](auto& r) { r.mutable_blocks(); }));
    EXPECT_TRUE(wrong([](auto& r) {
        r.mutable_blocks()->set_columns(65536);  // 65536 * 65536 is 0 in 32 bits
        r.mutable_blocks()->set_rows(65536);
    }));
    for (const double bad : {nan, inf, -1.0}) {
        EXPECT_TRUE(wrong([&](auto& r) {
            r.mutable_blocks()->set_columns(1);
            r.mutable_blocks()->set_rows(1);
            r.mutable_blocks()->add_weights(static_cast<float>(bad));
        })) << bad;
    }
}

class FeedbackTest : public ::testing::Test {
protected:
    void SetUp() override {
        std::string name = (std::filesystem::temp_directory_path() / "adapath-relay-XXXXXX").string();
        ASSERT_NE(mkdtemp(name.data()), nullptr);
        directory_ = name;
        options_.gateway = "test-gateway";
        options_.cameras = 4;
        options_.ca = servers_.certificate();
        options_.certificate = gateway_.certificate;
        options_.key = gateway_.key;
        options_.daemon = "unix:" + socket();
        options_.retry_least = std::chrono::milliseconds(20);
        options_.retry_most = std::chrono::milliseconds(100);
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }
    [[nodiscard]] std::string socket() const { return (directory_ / "feed.sock").string(); }
    std::unique_ptr<FakeVision> vision(int port = 0) {
        return std::make_unique<FakeVision>(servers_.issue("server", "DNS:vision.test,IP:127.0.0.1"),
                                            gateways_.certificate(), port);
    }
    void start(int port, const std::string& name = "") {
        options_.vision = "127.0.0.1:" + std::to_string(port);
        options_.server_name = name;
        feedback_ = std::make_unique<Feedback>(options_);
    }

    Authority servers_{"servers"};
    Authority gateways_{"gateways"};
    testing::KeyPair gateway_ = gateways_.issue("test-gateway", "");
    std::filesystem::path directory_;
    FeedbackOptions options_;
    std::unique_ptr<Feedback> feedback_;
};

TEST_F(FeedbackTest, ReportsAndMarketsReachTheDaemon) {
    const auto server = vision();
    FakeDaemon daemon(socket());
    start(server->port());
    pb::Market market;
    market.set_price(1.5);
    market.set_main_limit(100'000);
    market.set_used(0.9);
    market.set_cameras(4);
    feedback_->set_market(market);
    const pb::CameraReport report = seen(2);
    server->report(report);
    server->report(seen(3));
    ASSERT_TRUE(wait_until([&] { return daemon.reports().size() == 2 && !daemon.markets().empty(); }));
    EXPECT_EQ(daemon.reports()[0].SerializeAsString(), report.SerializeAsString());
    EXPECT_EQ(daemon.reports()[1].camera(), 3U);
    EXPECT_EQ(daemon.markets()[0].SerializeAsString(), market.SerializeAsString());
    EXPECT_EQ(server->gateway(), "test-gateway");
    EXPECT_TRUE(feedback_->counters().server_there);
    EXPECT_TRUE(feedback_->counters().daemon_there);
    feedback_.reset();
    EXPECT_TRUE(wait_until([&] { return daemon.finished(); })) << "the stream is ended in good order";
}

TEST_F(FeedbackTest, TheServersNameIsChecked) {
    const auto server = vision();
    FakeDaemon daemon(socket());
    start(server->port(), "another.test");
    server->report(seen(1));
    ASSERT_TRUE(wait_until([&] { return feedback_->counters().watches >= 3; }));
    EXPECT_EQ(feedback_->counters().reports, 0U);
    EXPECT_EQ(server->gateway(), "");
    start(server->port(), "vision.test");
    ASSERT_TRUE(wait_until([&] { return daemon.reports().size() == 1; }));
}

TEST_F(FeedbackTest, AServerOfAnotherAuthorityIsNotListenedTo) {
    const Authority strangers("servers");  // the same name, another key
    FakeVision server(strangers.issue("server", "IP:127.0.0.1"), gateways_.certificate());
    FakeDaemon daemon(socket());
    start(server.port());
    server.report(seen(1));
    ASSERT_TRUE(wait_until([&] { return feedback_->counters().watches >= 3; }));
    EXPECT_EQ(feedback_->counters().reports, 0U);
    EXPECT_FALSE(feedback_->counters().server_there);
    EXPECT_EQ(server.gateway(), "");
    // The feed goes on meanwhile.
    feedback_->set_market({});
    EXPECT_TRUE(wait_until([&] { return daemon.markets().size() == 1; }));
}

TEST_F(FeedbackTest, AGatewayWithAnotherCertificateIsToldNothing) {
    const auto server = vision();
    const Authority strangers("gateways");
    const testing::KeyPair stranger = strangers.issue("test-gateway", "");
    options_.certificate = stranger.certificate;
    options_.key = stranger.key;
    start(server->port());
    server->report(seen(1));
    ASSERT_TRUE(wait_until([&] { return feedback_->counters().watches >= 3; }));
    EXPECT_EQ(feedback_->counters().reports, 0U);
    EXPECT_EQ(server->gateway(), "");
}

TEST_F(FeedbackTest, WhatIsOutOfRangeIsDroppedAndCounted) {
    const auto server = vision();
    FakeDaemon daemon(socket());
    start(server->port());
    server->report(seen(9));
    server->report(seen(1, std::numeric_limits<double>::quiet_NaN()));
    server->report(seen(1, 2));
    server->report({});
    server->report(seen(1, 0.25));
    ASSERT_TRUE(wait_until([&] { return daemon.reports().size() == 1; }));
    EXPECT_EQ(daemon.reports()[0].seen().accuracy(), 0.25);
    EXPECT_EQ(feedback_->counters().reports, 5U);
    EXPECT_EQ(feedback_->counters().refused, 4U);
    EXPECT_EQ(feedback_->counters().forwarded, 1U);
}

TEST_F(FeedbackTest, AnEncoderIsToldAndTheDaemonSparedWhatIsNotItsOwn) {
    const auto server = vision();
    FakeDaemon daemon(socket());
    std::mutex mutex;
    std::vector<pb::CameraReport> told;
    options_.on_report = [&](const pb::CameraReport& report) {
        const std::lock_guard lock(mutex);
        told.push_back(report);
    };
    start(server->port());
    pb::CameraReport lost;
    lost.set_camera(2);
    lost.set_chunk_us(1000);
    lost.mutable_background_lost()->set_epoch(77);
    server->report(lost);
    server->report(seen(9));  // there is no such camera
    server->report(seen(3));
    ASSERT_TRUE(wait_until([&] { return daemon.reports().size() == 1; }));
    EXPECT_TRUE(daemon.reports()[0].has_seen());
    feedback_.reset();
    ASSERT_EQ(told.size(), 2U);
    EXPECT_EQ(told[0].SerializeAsString(), lost.SerializeAsString());
    EXPECT_EQ(told[1].camera(), 3U);
}

TEST_F(FeedbackTest, BothComeBack) {
    auto server = vision();
    const int port = server->port();
    auto daemon = std::make_unique<FakeDaemon>(socket());
    start(port);
    server->report(seen(1));
    ASSERT_TRUE(wait_until([&] { return daemon->reports().size() == 1; }));
    server.reset();
    ASSERT_TRUE(wait_until([&] { return !feedback_->counters().server_there; }));
    server = vision(port);
    server->report(seen(2));
    ASSERT_TRUE(wait_until([&] { return daemon->reports().size() == 2; }));
    EXPECT_EQ(daemon->reports()[1].camera(), 2U);

    daemon.reset();
    // It is noticed at the next message.
    ASSERT_TRUE(wait_until([&] {
        feedback_->set_market({});
        return !feedback_->counters().daemon_there;
    }));
    daemon = std::make_unique<FakeDaemon>(socket());
    ASSERT_TRUE(wait_until([&] {
        feedback_->set_market({});
        return !daemon->markets().empty();
    }));
    server->report(seen(3));
    ASSERT_TRUE(wait_until([&] { return daemon->reports().size() == 1; }));
    EXPECT_EQ(daemon->reports()[0].camera(), 3U);
}

TEST_F(FeedbackTest, ADaemonThatRefusesIsAskedAgain) {
    const auto server = vision();
    FakeDaemon daemon(socket());
    daemon.refuse(4);
    const auto begun = std::chrono::steady_clock::now();
    start(server->port());
    ASSERT_TRUE(wait_until([&] {
        feedback_->set_market({});
        return daemon.streams() >= 5 && !daemon.markets().empty();
    }));
    // A message or two is taken before each refusal: that is no success, and the pauses grow all the same.
    EXPECT_GE(std::chrono::steady_clock::now() - begun, options_.retry_least * (1 + 2 + 4) + options_.retry_most);
}

TEST_F(FeedbackTest, EitherMayBeAwayAndTheEndIsQuickAllTheSame) {
    start(1);  // nobody listens there, nor on the socket
    feedback_->set_market({});
    ASSERT_TRUE(wait_until([&] { return feedback_->counters().watches >= 2 && feedback_->counters().feeds >= 2; }));
    EXPECT_EQ(feedback_->counters().markets, 0U);
    feedback_.reset();
    options_.daemon.clear();
    options_.vision.clear();
    feedback_ = std::make_unique<Feedback>(options_);
    feedback_->set_market({});
    EXPECT_EQ(feedback_->counters().watches + feedback_->counters().feeds, 0U);
}

TEST_F(FeedbackTest, ADaemonThatDoesNotReadHoldsNobodyUp) {
    const auto server = vision();
    FakeDaemon daemon(socket());
    daemon.stall();
    start(server->port());
    for (int i = 0; i < 3; ++i) server->report(seen(1));
    pb::CameraReport large = seen(2);
    large.mutable_blocks()->set_columns(200);
    large.mutable_blocks()->set_rows(200);
    for (int i = 0; i < 200 * 200; ++i) large.mutable_blocks()->add_weights(0.5F);
    for (int i = 0; i < 1200; ++i) server->report(large);
    ASSERT_TRUE(wait_until([&] { return feedback_->counters().lost > 0; })) << "the queue is bounded";
    feedback_->set_market({});
    feedback_.reset();  // must come back, whatever the daemon does
    daemon.read_on();
}

}  // namespace
}  // namespace adapath::relay
