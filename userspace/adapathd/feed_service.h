// The gRPC service SelectFeed over a FeedIntake.
#pragma once

#include <grpcpp/grpcpp.h>

#include <mutex>

#include "userspace/adapathd/feed_intake.h"
#include "userspace/proto/select.grpc.pb.h"

namespace adapath {

class FeedService final : public pb::SelectFeed::Service {
public:
    explicit FeedService(FeedIntake& intake) : intake_(intake) {}

    grpc::Status Feed(grpc::ServerContext* context, grpc::ServerReader<pb::FeedRequest>* reader,
                      pb::FeedReply* reply) override;

    // Ends the stream, so that the server can shut down: who feeds never ends it by itself.
    void close();

private:
    FeedIntake& intake_;
    std::mutex mutex_;  // what follows
    grpc::ServerContext* streaming_ = nullptr;
    bool closed_ = false;
};

}  // namespace adapath
