// A daemon whose loop runs in a thread of its own, behind its socket.
#pragma once

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "tests/daemon/support.h"
#include "userspace/adapathd/control_service.h"
#include "userspace/common/stop.h"

namespace adapath::test {

class ServedDaemon : public ::testing::Test {
protected:
    void TearDown() override { stop_serving(); }

    // At socket_, until stop_serving(): the daemon is the test's, and outlives it. Another may follow.
    void serve(Daemon& daemon) {
        Result<std::unique_ptr<ControlServer>> server = ControlServer::start(daemon, socket_, "no-such-group");
        ASSERT_TRUE(server) << server.error().message;
        daemon_ = &daemon;
        server_ = std::move(*server);
        stop_ = std::make_unique<StopToken>();
        thread_ = std::thread([this] { daemon_->run(*stop_); });
    }
    void stop_serving() {
        server_.reset();
        if (thread_.joinable()) {
            stop_->request();
            thread_.join();
        }
    }
    [[nodiscard]] std::shared_ptr<grpc::Channel> channel() const {
        return grpc::CreateChannel("unix:" + socket_, grpc::InsecureChannelCredentials());
    }
    pb::StatusReply status() {
        pb::StatusReply reply;
        daemon_->fill_status(reply);
        return reply;
    }

    TemporaryDirectory directory_;
    std::string socket_ = directory_ / "s.sock";
    Daemon* daemon_ = nullptr;  // the one that is served
    std::unique_ptr<ControlServer> server_;

private:
    std::unique_ptr<StopToken> stop_;
    std::thread thread_;
};

}  // namespace adapath::test
