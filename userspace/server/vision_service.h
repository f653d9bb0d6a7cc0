// The service Vision (userspace/proto/select.proto) over mutual TLS: whoever watches a gateway's reports has to hold
// that gateway's certificate.
#pragma once

#include <memory>
#include <string>

#include <grpcpp/grpcpp.h>

#include "codegen/result.h"
#include "userspace/proto/select.grpc.pb.h"
#include "userspace/server/report_hub.h"
#include "userspace/video/net.h"

namespace adapath::server {

struct VisionServiceOptions {
    video::HostPort listen;
    std::string ca;           // PEM files: whose certificates are believed,
    std::string certificate;  // the server's own, and its key
    std::string key;
    bool insecure = false;  // no TLS, no names checked: on a loopback address only
};

class VisionService final : public pb::Vision::Service {
public:
    VisionService(ReportHub& hub, bool insecure) : hub_(hub), insecure_(insecure) {}
    grpc::Status Watch(grpc::ServerContext* context, const pb::WatchCameras* request,
                       grpc::ServerWriter<pb::CameraReport>* writer) override;

private:
    ReportHub& hub_;
    bool insecure_;
};

class VisionServer {
public:
    static Result<std::unique_ptr<VisionServer>> start(ReportHub& hub, const VisionServiceOptions& options);
    // Ends every call. The hub is closed.
    ~VisionServer();
    [[nodiscard]] int port() const { return port_; }

private:
    VisionServer(ReportHub& hub, bool insecure) : hub_(hub), service_(hub, insecure) {}

    ReportHub& hub_;
    VisionService service_;
    std::unique_ptr<grpc::Server> server_;
    int port_ = 0;
};

// Whether a host is this machine's loopback: localhost, 127.0.0.0/8, ::1.
[[nodiscard]] bool is_loopback(const std::string& host);

}  // namespace adapath::server
