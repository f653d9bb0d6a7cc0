// See daemon_client.h.
#include "userspace/harness/daemon_client.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

namespace adapath {
namespace {

void set_deadline(grpc::ClientContext& context, std::chrono::milliseconds timeout) {
    context.set_deadline(std::chrono::system_clock::now() + timeout);
}

Error error_of(const char* call, const grpc::Status& status) {
    return Error{fmt::format("adapathd, {}: {}", call, status.error_message())};
}

}  // namespace

DaemonClient::DaemonClient(const std::string& socket_path, double patience) : patience_(patience) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetMaxSendMessageSize(-1);
    // Not shared with another channel to a socket of the same name that an earlier daemon had.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 50);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
    stub_ = pb::Control::NewStub(
        grpc::CreateCustomChannel("unix:" + socket_path, grpc::InsecureChannelCredentials(), arguments));
}

Result<pb::StatusReply> DaemonClient::status(std::chrono::milliseconds timeout) {
    grpc::ClientContext context;
    set_deadline(context, patient(timeout));
    pb::StatusReply reply;
    const grpc::Status status = stub_->GetStatus(&context, {}, &reply);
    if (!status.ok()) {
        return error_of("GetStatus", status);
    }
    return reply;
}

Result<pb::InstallReply> DaemonClient::install(const std::string& snapshot_bytes, bool activate,
                                               const std::string& reason) {
    grpc::ClientContext context;
    set_deadline(context, patient(std::chrono::seconds(10)));
    pb::InstallRequest request;
    request.set_snapshot(snapshot_bytes);
    request.set_activate(activate);
    request.set_reason(reason);
    pb::InstallReply reply;
    const grpc::Status status = stub_->Install(&context, request, &reply);
    if (!status.ok()) {
        return error_of("Install", status);
    }
    return reply;
}

Result<std::string> DaemonClient::snapshot(const std::string& hash) {
    grpc::ClientContext context;
    set_deadline(context, patient(std::chrono::seconds(5)));
    pb::SnapshotSelector selector;
    selector.set_hash(hash);
    pb::SnapshotFile file;
    const grpc::Status status = stub_->GetSnapshot(&context, selector, &file);
    if (!status.ok()) {
        return error_of("GetSnapshot", status);
    }
    return file.data();
}

Status DaemonClient::train(bool on) {
    grpc::ClientContext context;
    set_deadline(context, patient(std::chrono::seconds(5)));
    pb::TrainRequest request;
    request.set_mode(on ? pb::TrainRequest::ON : pb::TrainRequest::OFF);
    pb::TrainReply reply;
    const grpc::Status status = stub_->Train(&context, request, &reply);
    if (!status.ok()) {
        return error_of("Train", status);
    }
    return {};
}

Status wait_for_daemon(Child& daemon, DaemonClient& client, int looks, StopToken& stop, const std::string& socket,
                       const std::string& log) {
    for (int i = 0; i < looks && !stop.requested(); i++) {
        if (!daemon.running()) {
            return Error{daemon.obituary()};
        }
        if (client.status(std::chrono::milliseconds(500))) {
            return {};
        }
        stop.wait_for(std::chrono::milliseconds(100));
    }
    return Error{stop.requested() ? std::string("interrupted")
                                  : fmt::format("adapathd does not answer at {} (log: {})", socket, log)};
}

}  // namespace adapath
