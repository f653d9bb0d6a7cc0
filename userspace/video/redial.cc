// See redial.h.
#include "userspace/video/redial.h"

#include <utility>
#include <vector>

#include <poll.h>

#include <spdlog/spdlog.h>

namespace adapath::video {

Redial::Redial(uint16_t camera, Destination& destination, const ConnectOptions& connection,
               const RedialOptions& options)
    : camera_(camera),
      destination_(destination),
      connection_(connection),
      options_(options),
      retry_(options.least_ns, options.most_ns) {}

Fd Redial::step(uint64_t now_ns) {
    if (connected_) {
        if (retry_.back(now_ns)) {
            spdlog::info("camera {}: connected again", camera_);
        }
        return {};
    }
    if (attempt_.valid()) {
        pollfd fd = {attempt_.get(), POLLOUT, 0};
        if (poll(&fd, 1, 0) == 1) {
            if (const int error = socket_error(attempt_.get()); error != 0) {
                fail(errno_text(error), now_ns);
                return {};
            }
            connected_ = true;
            connections_++;
            retry_.opened(now_ns);
            // After a failure step() says so, once it has lasted.
            spdlog::log(retry_.down() ? spdlog::level::debug : spdlog::level::info, "camera {}: connected to {} ({})",
                        camera_, peer_of(attempt_.get()), congestion_control_of(attempt_.get()));
            return std::exchange(attempt_, {});
        }
        if (now_ns >= due_ns_) {
            fail("it does not answer", now_ns);
        }
        return {};
    }
    if (now_ns < due_ns_) {
        return {};
    }
    const std::vector<SocketAddress> addresses = destination_.addresses();
    if (addresses.empty()) {
        // Not a failure of the server's: the name is being looked up.
        due_ns_ = now_ns + options_.least_ns / 4;
        return {};
    }
    Result<Fd> begun = begin_connect(addresses[next_address_++ % addresses.size()], connection_);
    if (!begun) {
        fail(begun.error().message, now_ns);
        return {};
    }
    attempt_ = std::move(*begun);
    due_ns_ = now_ns + static_cast<uint64_t>(connection_.timeout_ms) * 1'000'000;
    return {};
}

void Redial::broke(const std::string& why, uint64_t now_ns) { fail(why, now_ns); }

void Redial::fail(const std::string& why, uint64_t now_ns) {
    if (!retry_.down()) {
        const HostPort& server = destination_.server();
        spdlog::warn("camera {}: {}:{}: {}; its video is dropped until the server is back", camera_, server.host,
                     server.port, why);
    }
    attempt_.reset();
    failures_++;
    if (!connected_) {
        destination_.refresh();  // its addresses were of no use
    }
    connected_ = false;
    due_ns_ = retry_.failed(now_ns);
}

}  // namespace adapath::video
