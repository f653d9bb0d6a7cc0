// See feed_service.h.
#include "userspace/adapathd/feed_service.h"

#include <spdlog/spdlog.h>

namespace adapath {

grpc::Status FeedService::Feed(grpc::ServerContext* context, grpc::ServerReader<pb::FeedRequest>* reader,
                               pb::FeedReply* reply) {
    if (!intake_.claim()) {
        return {grpc::StatusCode::ALREADY_EXISTS, "another relay or sender feeds already: one at a time"};
    }
    bool closed = false;
    {
        std::lock_guard lock(mutex_);
        streaming_ = context;
        closed = closed_;
    }
    spdlog::info("a feed of the server's reports began");
    grpc::Status status = grpc::Status::OK;
    pb::FeedRequest request;
    while (!closed && reader->Read(&request)) {
        if (Status taken = intake_.take(request); !taken) {
            spdlog::warn("the feed is ended: {}", taken.error().message);
            status = {grpc::StatusCode::INVALID_ARGUMENT, taken.error().message};
            break;
        }
        if (request.has_market()) {
            reply->set_markets(reply->markets() + 1);
        } else {
            reply->set_reports(reply->reports() + 1);
        }
    }
    {
        std::lock_guard lock(mutex_);
        streaming_ = nullptr;
        closed = closed_;
    }
    intake_.release();
    if (status.ok()) {
        spdlog::info("the feed is over: the last price, where one was told, stays in force");
    }
    return closed ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "adapathd is stopping") : status;
}

void FeedService::close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    if (streaming_ != nullptr) {
        streaming_->TryCancel();
    }
}

}  // namespace adapath
