// The two ends of the feedback: a server with a vision network, over mutual TLS, and adapathd's feed on a Unix socket.
#pragma once

#include <grpcpp/grpcpp.h>

#include <condition_variable>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tests/relay/certificates.h"
#include "userspace/proto/select.grpc.pb.h"

namespace adapath::relay {

class FakeVision final : public pb::Vision::Service {
public:
    // `clients`: the authority that a gateway's certificate must be of.
    FakeVision(const testing::KeyPair& own, const std::string& clients, int port = 0) {
        grpc::SslServerCredentialsOptions tls(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
        tls.pem_root_certs = clients;
        tls.pem_key_cert_pairs.push_back({own.key, own.certificate});
        grpc::ServerBuilder builder;
        builder.AddListeningPort("127.0.0.1:" + std::to_string(port), grpc::SslServerCredentials(tls), &port_);
        builder.RegisterService(this);
        server_ = builder.BuildAndStart();
    }
    ~FakeVision() override {
        {
            const std::lock_guard lock(mutex_);
            ending_ = true;
            changed_.notify_all();
        }
        server_->Shutdown(std::chrono::system_clock::now());
    }
    void report(const pb::CameraReport& report) {
        const std::lock_guard lock(mutex_);
        waiting_.push_back(report);
        changed_.notify_all();
    }
    [[nodiscard]] int port() const { return port_; }
    [[nodiscard]] std::string gateway() const {
        const std::lock_guard lock(mutex_);
        return gateway_;
    }

    grpc::Status Watch(grpc::ServerContext* context, const pb::WatchCameras* request,
                       grpc::ServerWriter<pb::CameraReport>* writer) override {
        std::unique_lock lock(mutex_);
        gateway_ = request->gateway();
        for (;;) {
            changed_.wait_for(lock, std::chrono::milliseconds(20), [this] { return ending_ || !waiting_.empty(); });
            if (ending_ || context->IsCancelled()) return grpc::Status::OK;
            while (!waiting_.empty()) {
                if (!writer->Write(waiting_.front())) return grpc::Status::OK;
                waiting_.pop_front();
            }
        }
    }

private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    bool ending_ = false;
    std::deque<pb::CameraReport> waiting_;
    std::string gateway_;
    int port_ = 0;
    std::unique_ptr<grpc::Server> server_;
};

class FakeDaemon final : public pb::SelectFeed::Service {
public:
    explicit FakeDaemon(const std::string& socket) {
        std::filesystem::remove(socket);
        grpc::ServerBuilder builder;
        builder.AddListeningPort("unix:" + socket, grpc::InsecureServerCredentials());
        builder.RegisterService(this);
        server_ = builder.BuildAndStart();
    }
    ~FakeDaemon() override {
        read_on();
        server_->Shutdown(std::chrono::system_clock::now());
    }
    // The next streams are refused after their first message, as the daemon does with what it does not believe.
    void refuse(int streams) {
        const std::lock_guard lock(mutex_);
        refusals_ = streams;
    }
    void stall() {
        const std::lock_guard lock(mutex_);
        stalled_ = true;
    }
    void read_on() {
        const std::lock_guard lock(mutex_);
        stalled_ = false;
        changed_.notify_all();
    }
    [[nodiscard]] std::vector<pb::CameraReport> reports() const {
        const std::lock_guard lock(mutex_);
        return reports_;
    }
    [[nodiscard]] std::vector<pb::Market> markets() const {
        const std::lock_guard lock(mutex_);
        return markets_;
    }
    [[nodiscard]] int streams() const {
        const std::lock_guard lock(mutex_);
        return streams_;
    }
    [[nodiscard]] bool finished() const {
        const std::lock_guard lock(mutex_);
        return finished_;
    }

    grpc::Status Feed(grpc::ServerContext*, grpc::ServerReader<pb::FeedRequest>* reader, pb::FeedReply*) override {
        {
            const std::lock_guard lock(mutex_);
            ++streams_;
        }
        pb::FeedRequest request;
        while (reader->Read(&request)) {
            std::unique_lock lock(mutex_);
            if (refusals_ > 0) {
                refusals_--;
                return {grpc::StatusCode::INVALID_ARGUMENT, "out of range"};
            }
            changed_.wait(lock, [this] { return !stalled_; });
            if (request.has_market()) markets_.push_back(request.market());
            if (request.has_report()) reports_.push_back(request.report());
        }
        const std::lock_guard lock(mutex_);
        finished_ = true;
        return grpc::Status::OK;
    }

private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<pb::CameraReport> reports_;
    std::vector<pb::Market> markets_;
    int streams_ = 0;
    int refusals_ = 0;
    bool stalled_ = false;
    bool finished_ = false;
    std::unique_ptr<grpc::Server> server_;
};

}  // namespace adapath::relay
