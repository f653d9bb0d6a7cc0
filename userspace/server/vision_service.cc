// See vision_service.h.
#include "userspace/server/vision_service.h"

#include <arpa/inet.h>

#include <chrono>
#include <utility>

#include <fmt/format.h>
#include <grpc/grpc_security_constants.h>
#include <spdlog/spdlog.h>

#include "userspace/common/file.h"
#include "userspace/server/record_reader.h"

namespace adapath::server {

namespace {

constexpr std::chrono::milliseconds cancel_poll{200};  // how soon a call notices that its watcher left
constexpr int largest_request = 4096;                  // bytes: a name
constexpr int most_threads = 600;                      // each call holds one, and the hub has fewer watchers
// A gateway whose link died says nothing: its call ends after these.
constexpr int keepalive_ms = 20'000;
constexpr int keepalive_timeout_ms = 10'000;

// The name has to stand in the certificate as it is: as a DNS name of the subject's alternative names, or as the common
// name. Wildcards are none of ours.
bool certified(const grpc::AuthContext& peer, const std::string& name) {
    if (!peer.IsPeerAuthenticated()) return false;
    for (const char* property : {GRPC_X509_SAN_PROPERTY_NAME, GRPC_X509_CN_PROPERTY_NAME})
        for (const grpc::string_ref& value : peer.FindPropertyValues(property))
            if (std::string_view(value.data(), value.size()) == name) return true;
    return false;
}

std::string names_of(const grpc::AuthContext& peer) {
    std::string all;
    for (const char* property : {GRPC_X509_SAN_PROPERTY_NAME, GRPC_X509_CN_PROPERTY_NAME})
        for (const grpc::string_ref& value : peer.FindPropertyValues(property))
            all += fmt::format("{}'{}'", all.empty() ? "" : ", ", std::string_view(value.data(), value.size()));
    return all;
}

}  // namespace

bool is_loopback(const std::string& host) {
    in_addr v4{};
    in6_addr v6{};
    if (inet_pton(AF_INET, host.c_str(), &v4) == 1) return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
    return host == "localhost";
}

grpc::Status VisionService::Watch(grpc::ServerContext* context, const pb::WatchCameras* request,
                                  grpc::ServerWriter<pb::CameraReport>* writer) {
    const std::string& gateway = request->gateway();
    if (!is_gateway_name(gateway))
        return {grpc::StatusCode::INVALID_ARGUMENT, "name the gateway: 1 to 63 of A-Z a-z 0-9 . _ -"};
    if (!insecure_ && !certified(*context->auth_context(), gateway)) {
        spdlog::warn("{}: asks for gateway '{}', but its certificate is of {}: refused", context->peer(), gateway,
                     names_of(*context->auth_context()));
        return {grpc::StatusCode::PERMISSION_DENIED, "the certificate is of another gateway"};
    }
    const std::shared_ptr<ReportHub::Watcher> watcher = hub_.watch(gateway);
    if (watcher == nullptr) {
        spdlog::warn("{}: one watcher too many for gateway '{}': refused", context->peer(), gateway);
        return {grpc::StatusCode::RESOURCE_EXHAUSTED, "too many watchers"};
    }
    spdlog::info("gateway {}: watched from {}", gateway, context->peer());
    // So that the gateway knows that from here on it misses nothing.
    writer->SendInitialMetadata();
    uint64_t dropped = 0;
    bool over = false;
    while (!over && !context->IsCancelled()) {
        const ReportHub::Report report = watcher->next(cancel_poll);
        if (watcher->dropped() != dropped) {
            dropped = watcher->dropped();
            spdlog::debug("gateway {}: its watcher is slow, {} reports were dropped so far", gateway, dropped);
        }
        if (report == nullptr) {
            over = watcher->closed();
            continue;
        }
        if (!writer->Write(*report)) break;
    }
    spdlog::info("gateway {}: no longer watched from {}; {} reports were dropped", gateway, context->peer(),
                 watcher->dropped());
    return over ? grpc::Status(grpc::StatusCode::UNAVAILABLE, "adapath-server is stopping") : grpc::Status::OK;
}

Result<std::unique_ptr<VisionServer>> VisionServer::start(ReportHub& hub, const VisionServiceOptions& options) {
    const std::string& host = options.listen.host;
    std::shared_ptr<grpc::ServerCredentials> credentials;
    if (options.insecure) {
        if (!is_loopback(host))
            return Error{
                fmt::format("--insecure is for loopback addresses (localhost, 127.0.0.1, ::1), and '{}' is none: give "
                            "--ca, --certificate and --key",
                            host)};
        spdlog::warn("reports go out without TLS and to anybody on this machine (--insecure)");
        credentials = grpc::InsecureServerCredentials();
    } else {
        if (options.ca.empty() || options.certificate.empty() || options.key.empty())
            return Error{
                "reports are served over mutual TLS: give --ca, --certificate and --key (scripts/certificates.sh makes "
                "some), or --insecure on a loopback address"};
        Result<std::string> ca = read_file(options.ca);
        Result<std::string> certificate = read_file(options.certificate);
        Result<std::string> key = read_file(options.key);
        for (const Result<std::string>* file : {&ca, &certificate, &key})
            if (!*file) return file->error();
        grpc::SslServerCredentialsOptions ssl(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
        ssl.pem_root_certs = std::move(*ca);
        ssl.pem_key_cert_pairs.push_back({std::move(*key), std::move(*certificate)});
        credentials = grpc::SslServerCredentials(ssl);
    }
    std::unique_ptr<VisionServer> server(new VisionServer(hub, options.insecure));
    grpc::ServerBuilder builder;
    const std::string shown = host.find(':') == std::string::npos ? host : "[" + host + "]";
    const std::string address = fmt::format("{}:{}", host.empty() ? "[::]" : shown, options.listen.port);
    builder.AddListeningPort(address, credentials, &server->port_);
    builder.RegisterService(&server->service_);
    builder.SetMaxReceiveMessageSize(largest_request);
    builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::NUM_CQS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MIN_POLLERS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::SyncServerOption::MAX_POLLERS, 2);
    grpc::ResourceQuota quota("vision");
    quota.SetMaxThreads(most_threads);
    builder.SetResourceQuota(quota);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, 16);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, keepalive_ms);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, keepalive_timeout_ms);
    builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
    builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
    // Another server at the same port is to be an error, not a share of its connections.
    builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
    server->server_ = builder.BuildAndStart();
    if (server->server_ == nullptr || server->port_ == 0)
        return Error{options.insecure
                         ? fmt::format("cannot serve reports at {}: is the port free?", address)
                         : fmt::format("cannot serve reports at {}: is the port free, and does {} belong to {}?",
                                       address, options.key, options.certificate)};
    return server;
}

VisionServer::~VisionServer() {
    hub_.close();
    if (server_ != nullptr) {
        server_->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(2));
        server_->Wait();
    }
}

}  // namespace adapath::server
