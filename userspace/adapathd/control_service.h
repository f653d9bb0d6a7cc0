// The gRPC service over a Daemon, and the server on its Unix socket.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "codegen/result.h"
#include "userspace/adapathd/daemon.h"
#include "userspace/adapathd/feed_service.h"
#include "userspace/proto/control.grpc.pb.h"

namespace adapath {

class ControlService final : public pb::Control::Service {
public:
    explicit ControlService(Daemon& daemon) : daemon_(daemon) {}

    grpc::Status GetStatus(grpc::ServerContext*, const pb::StatusRequest*, pb::StatusReply* reply) override;
    grpc::Status ListSnapshots(grpc::ServerContext*, const pb::ListSnapshotsRequest*,
                               pb::ListSnapshotsReply* reply) override;
    grpc::Status GetSnapshot(grpc::ServerContext*, const pb::SnapshotSelector* selector,
                             pb::SnapshotFile* reply) override;
    grpc::Status Install(grpc::ServerContext*, const pb::InstallRequest* request, pb::InstallReply* reply) override;
    grpc::Status Switch(grpc::ServerContext*, const pb::SwitchRequest* request, pb::SwitchReply* reply) override;
    grpc::Status Rollback(grpc::ServerContext*, const pb::RollbackRequest* request, pb::SwitchReply* reply) override;
    grpc::Status Train(grpc::ServerContext*, const pb::TrainRequest* request, pb::TrainReply* reply) override;
    grpc::Status Objective(grpc::ServerContext*, const pb::ObjectiveRequest* request,
                           pb::ObjectiveReply* reply) override;
    grpc::Status StreamSamples(grpc::ServerContext* context, const pb::SamplesRequest* request,
                               grpc::ServerWriter<pb::SampleBatch>* writer) override;
    grpc::Status WatchEvents(grpc::ServerContext* context, const pb::WatchRequest*,
                             grpc::ServerWriter<pb::Event>* writer) override;

private:
    Daemon& daemon_;
};

// Serves while it lives. The socket is for its owner and the group (0660); a socket that another process serves is
// refused.
class ControlServer {
public:
    static Result<std::unique_ptr<ControlServer>> start(Daemon& daemon, const std::string& socket,
                                                        const std::string& group);
    ~ControlServer();

private:
    ControlServer(Daemon& daemon, std::string socket) : daemon_(daemon), service_(daemon), socket_(std::move(socket)) {}

    Daemon& daemon_;
    ControlService service_;
    std::unique_ptr<FeedService> feed_;  // with app select
    std::string socket_;
    std::unique_ptr<grpc::Server> server_;
};

}  // namespace adapath
