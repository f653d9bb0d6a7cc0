// See control_service.h.
#include "userspace/adapathd/control_service.h"

#include <errno.h>
#include <fmt/format.h>
#include <grp.h>
#include <spdlog/spdlog.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "userspace/common/file.h"
#include "userspace/common/text.h"
#include "userspace/common/unique_fd.h"

namespace adapath {
namespace {

constexpr std::chrono::milliseconds kCancelPoll{200};  // how soon a stream notices that its reader left
constexpr int kMessageLimit = 16 << 20;

grpc::Status failed(const Error& error) { return {grpc::StatusCode::FAILED_PRECONDITION, error.message}; }

}  // namespace

grpc::Status ControlService::GetStatus(grpc::ServerContext*, const pb::StatusRequest*, pb::StatusReply* reply) {
    daemon_.fill_status(*reply);
    return grpc::Status::OK;
}

grpc::Status ControlService::ListSnapshots(grpc::ServerContext*, const pb::ListSnapshotsRequest*,
                                           pb::ListSnapshotsReply* reply) {
    daemon_.fill_snapshots(*reply);
    return grpc::Status::OK;
}

grpc::Status ControlService::GetSnapshot(grpc::ServerContext*, const pb::SnapshotSelector* selector,
                                         pb::SnapshotFile* reply) {
    Result<std::string> bytes = daemon_.snapshots().snapshot_bytes(selector->hash(), selector->generation());
    if (!bytes) {
        return {grpc::StatusCode::NOT_FOUND, bytes.error().message};
    }
    reply->set_data(std::move(*bytes));
    return grpc::Status::OK;
}

grpc::Status ControlService::Install(grpc::ServerContext*, const pb::InstallRequest* request, pb::InstallReply* reply) {
    Result<InstallResult> result =
        daemon_.snapshots().install(request->snapshot(), request->activate(), request->trained(), request->reason(),
                                    request->canary(), request->turn());
    if (!result) {
        return failed(result.error());
    }
    reply->set_hash(result->hash);
    reply->set_generation(result->generation);
    reply->set_slot(result->slot);
    reply->set_activated(result->activated);
    reply->set_network_changed(result->network_changed);
    reply->set_check_ms(result->check_ms);
    reply->set_install_ms(result->install_ms);
    reply->set_switch_us(result->switch_us);
    reply->set_switches(result->switches);
    reply->set_on_trial(result->on_trial);
    reply->set_share(result->share);
    reply->set_note(result->note);
    return grpc::Status::OK;
}

grpc::Status ControlService::Switch(grpc::ServerContext*, const pb::SwitchRequest* request, pb::SwitchReply* reply) {
    Result<SwitchResult> result =
        daemon_.snapshots().switch_to(request->target().hash(), request->target().generation(), request->reason(),
                                      request->canary(), request->turn());
    if (!result) {
        return failed(result.error());
    }
    reply->set_on_trial(result->on_trial);
    reply->set_share(result->share);
    reply->set_note(result->note);
    reply->set_switches(result->switches);
    reply->set_hash(result->hash);
    reply->set_generation(result->generation);
    reply->set_switch_us(result->switch_us);
    return grpc::Status::OK;
}

grpc::Status ControlService::Rollback(grpc::ServerContext*, const pb::RollbackRequest* request,
                                      pb::SwitchReply* reply) {
    Result<SwitchResult> result =
        daemon_.snapshots().roll_back(request->reason().empty() ? "asked by the operator" : request->reason(), false);
    if (!result) {
        return failed(result.error());
    }
    reply->set_hash(result->hash);
    reply->set_generation(result->generation);
    reply->set_switch_us(result->switch_us);
    return grpc::Status::OK;
}

grpc::Status ControlService::Train(grpc::ServerContext*, const pb::TrainRequest* request, pb::TrainReply* reply) {
    if (request->now() && !daemon_.trainer_connected()) {
        return {grpc::StatusCode::FAILED_PRECONDITION, "no trainer is connected: start one with adapath-trainer"};
    }
    if (request->mode() != pb::TrainRequest::UNCHANGED) {
        daemon_.set_train(request->mode() == pb::TrainRequest::ON);
    }
    if (request->now()) {
        daemon_.train_now();
    }
    reply->set_mode(daemon_.train() ? "on" : "off");
    reply->set_trainer_connected(daemon_.trainer_connected());
    return grpc::Status::OK;
}

grpc::Status ControlService::Objective(grpc::ServerContext*, const pb::ObjectiveRequest* request,
                                       pb::ObjectiveReply* reply) {
    if (request->weights_size() > 0 || request->reset()) {
        std::map<std::string, double> weights;
        for (const pb::ObjectiveRequest::Weight& weight : request->weights()) {
            weights[weight.name()] = weight.value();
        }
        if (Status status = daemon_.set_objective(weights, request->reset()); !status) {
            return {grpc::StatusCode::INVALID_ARGUMENT, status.error().message};
        }
    }
    daemon_.fill_objective(*reply);
    return grpc::Status::OK;
}

grpc::Status ControlService::StreamSamples(grpc::ServerContext* context, const pb::SamplesRequest* request,
                                           grpc::ServerWriter<pb::SampleBatch>* writer) {
    struct Claim {
        Daemon* daemon = nullptr;
        ~Claim() {
            if (daemon != nullptr) {
                daemon->release_trainer();
            }
        }
    } claim;
    if (request->trainer()) {
        if (!daemon_.claim_trainer()) {
            return {grpc::StatusCode::ALREADY_EXISTS, "another trainer is connected: one trains at a time"};
        }
        claim.daemon = &daemon_;
    }
    const Loop::Subscription subscription = daemon_.loop().subscribe();
    const auto fill = [&](pb::SampleBatch& batch) {
        batch.set_schema(daemon_.app().schema());
        batch.set_record_bytes(static_cast<uint32_t>(daemon_.app().record_bytes()));
        batch.set_dropped(subscription.reader->dropped());
        batch.set_train(daemon_.train());
        batch.set_train_now(daemon_.train_now_count());
        const ActiveSnapshot active = daemon_.snapshots().active();
        batch.set_active_hash(active.hash);
        batch.set_canary_hash(active.canary_hash);
        batch.set_switches(active.switches);
    };
    // The first batch comes at once, empty: the reader learns where things stand even where nothing flows.
    pb::SampleBatch first;
    fill(first);
    if (!writer->Write(first)) {
        return grpc::Status::OK;
    }
    if (request->include_log()) {
        Status status =
            daemon_.loop().read_log(subscription.log_end, [&](std::span<const std::byte> records, const std::string&) {
                pb::SampleBatch batch;
                fill(batch);
                batch.set_records(records.data(), records.size());
                return !context->IsCancelled() && writer->Write(batch);
            });
        if (!status) {
            return failed(status.error());
        }
    }
    while (!context->IsCancelled()) {
        const std::shared_ptr<const Loop::Batch> next = subscription.reader->next(kCancelPoll);
        if (next == nullptr) {
            if (subscription.reader->closed()) {
                return {grpc::StatusCode::UNAVAILABLE, "adapathd is stopping"};
            }
            continue;
        }
        pb::SampleBatch batch;
        fill(batch);
        batch.set_records(next->records);
        for (const std::string& report : next->reports) {
            batch.add_reports()->ParseFromString(report);
        }
        if (!writer->Write(batch)) {
            break;
        }
    }
    return grpc::Status::OK;
}

grpc::Status ControlService::WatchEvents(grpc::ServerContext* context, const pb::WatchRequest*,
                                         grpc::ServerWriter<pb::Event>* writer) {
    const std::shared_ptr<Daemon::Events::Reader> reader = daemon_.watch_events();
    // So that a client knows that from here on it misses nothing.
    writer->SendInitialMetadata();
    while (!context->IsCancelled()) {
        const std::shared_ptr<const DaemonEvent> event = reader->next(kCancelPoll);
        if (event == nullptr) {
            if (reader->closed()) {
                return {grpc::StatusCode::UNAVAILABLE, "adapathd is stopping"};
            }
            continue;
        }
        pb::Event out;
        out.set_time_us(event->time_us);
        out.set_unix_us(event->unix_us);
        out.set_kind(event->kind);
        out.set_text(event->text);
        out.set_generation(event->generation);
        out.set_hash(event->hash);
        out.set_network_changed(event->network_changed);
        out.set_trained(event->trained);
        out.set_switch_us(event->switch_us);
        out.set_from_generation(event->from_generation);
        out.set_trial(event->trial);
        if (!writer->Write(out)) {
            break;
        }
    }
    return grpc::Status::OK;
}

Result<std::unique_ptr<ControlServer>> ControlServer::start(Daemon& daemon, const std::string& socket,
                                                            const std::string& group) {
    const size_t slash = socket.rfind('/');
    if (slash == std::string::npos || socket.size() > 107) {
        return Error{fmt::format("socket {}: give an absolute path of at most 107 characters", socket)};
    }
    if (slash > 0) {
        if (Status status = make_directories(socket.substr(0, slash)); !status) {
            return Error{status.error().message + ": give another --socket"};
        }
    }
    struct stat info{};
    if (lstat(socket.c_str(), &info) == 0) {
        if (!S_ISSOCK(info.st_mode)) {
            return Error{socket + ": exists and is no socket: remove it, or give another --socket"};
        }
        UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (!probe.valid()) {
            return Error{fmt::format("socket {}: can't find out who serves there: {}", socket, strerror(errno))};
        }
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        strncpy(address.sun_path, socket.c_str(), sizeof(address.sun_path) - 1);
        if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) {
            return Error{socket + ": another adapathd serves there: give another --socket"};
        }
        // Refused: left by one that was killed. For any other reason somebody may well be there.
        if (errno != ECONNREFUSED) {
            return Error{
                fmt::format("socket {}: can't find out who serves there: {}; remove it, or give another --socket",
                            socket, strerror(errno))};
        }
        unlink(socket.c_str());
    }
    std::unique_ptr<ControlServer> server(new ControlServer(daemon, socket));
    grpc::ServerBuilder builder;
    int bound = 0;
    builder.AddListeningPort("unix:" + socket, grpc::InsecureServerCredentials(), &bound);
    builder.RegisterService(&server->service_);
    if (daemon.feed_intake() != nullptr) {
        server->feed_ = std::make_unique<FeedService>(*daemon.feed_intake());
        builder.RegisterService(server->feed_.get());
    }
    builder.SetMaxReceiveMessageSize(kMessageLimit);
    builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::NUM_CQS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MIN_POLLERS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MAX_POLLERS, 2);
    const mode_t before = umask(0117);  // 0660 from the first moment on
    server->server_ = builder.BuildAndStart();
    umask(before);
    if (server->server_ == nullptr) {
        return Error{socket + ": cannot listen: is the directory writable?"};
    }
    if (const struct group* entry = getgrnam(group.c_str()); entry != nullptr) {
        if (chown(socket.c_str(), static_cast<uid_t>(-1), entry->gr_gid) != 0) {
            spdlog::warn("{}", errno_text(fmt::format("{}: cannot give it to group {}: only this user may use it",
                                                      socket, group)));
        }
    }
    return server;
}

ControlServer::~ControlServer() {
    daemon_.close_streams();
    if (feed_ != nullptr) {
        feed_->close();
    }
    if (server_ != nullptr) {
        server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
        server_->Wait();
    }
    unlink(socket_.c_str());
}

}  // namespace adapath
