// A server on this machine as the tests run it: on free ports, in a thread of its own, with a network that the test
// gives, and its reports over mutual TLS.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <utility>

#include "tests/server/sender.h"
#include "userspace/server/server.h"
#include "userspace/server/vision_service.h"
#include "userspace/video/decoder.h"

namespace adapath::testing {

class LoopbackServer : public ::testing::Test {
protected:
    void TearDown() override { stop(); }

    // Before start(): what is decoded is looked at. Without it the pictures' number is what counts.
    void use_network(const std::string& model, std::function<Result<std::unique_ptr<Detector>>()> open,
                     size_t queue = 64) {
        Result<std::unique_ptr<server::VisionPool>> pool =
            server::VisionPool::start({.threads = 1, .queue = queue, .open = std::move(open)});
        ASSERT_TRUE(pool.ok()) << pool.error().message;
        pool_ = std::move(*pool);
        Result<std::unique_ptr<Detections>> detections = Detections::open({.model = model});
        ASSERT_TRUE(detections.ok()) << detections.error().message;
        detections_ = std::move(*detections);
        shared_.pool = pool_.get();
        shared_.network = true;
        shared_.detections = detections_.get();
    }
    void start(server::ServerOptions options = {}) {
        video::quiet_libav();
        options.listen = {"127.0.0.1", "0"};
        shared_.on_report = [this](const std::string& gateway, pb::CameraReport report) {
            hub_.publish(gateway, std::move(report));
        };
        if (!shared_.on_chunk) shared_.on_chunk = [](const std::string&, uint32_t, const server::ChunkResult&) {};
        Result<std::unique_ptr<server::Server>> server = server::Server::listen(options, shared_, stop_.get_token());
        ASSERT_TRUE(server.ok()) << server.error().message;
        server_ = std::move(*server);
        thread_ = std::thread([this] { ran_ = server_->run().ok(); });
    }
    // `certificates`: a directory that scripts/certificates.sh has made.
    void start_vision(server::ReportHub& hub, const std::string& certificates) {
        Result<std::unique_ptr<server::VisionServer>> vision =
            server::VisionServer::start(hub, {.listen = {"127.0.0.1", "0"},
                                              .ca = certificates + "/ca.crt",
                                              .certificate = certificates + "/server.crt",
                                              .key = certificates + "/server.key"});
        ASSERT_TRUE(vision.ok()) << vision.error().message;
        vision_ = std::move(*vision);
    }
    // No more pictures, then no more boxes.
    void stop() {
        stop_.request_stop();
        if (thread_.joinable()) thread_.join();
        if (pool_) pool_->stop();
        vision_.reset();
        server_.reset();
    }
    [[nodiscard]] uint16_t port() const { return server_->port(); }

    std::stop_source stop_;
    server::Camera::Shared shared_;
    server::ReportHub hub_;
    std::unique_ptr<Detections> detections_;
    std::unique_ptr<server::VisionPool> pool_;
    std::unique_ptr<server::Server> server_;
    std::unique_ptr<server::VisionServer> vision_;
    std::thread thread_;
    bool ran_ = false;  // to its end, without an error
};

}  // namespace adapath::testing
