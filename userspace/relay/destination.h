// The server's addresses. Names are looked up in a thread of their own, again and again while nobody can be reached:
// a resolver that does not answer must not hold up a single packet.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stop_token>
#include <thread>
#include <vector>

#include <sys/socket.h>

#include "userspace/video/net.h"

namespace adapath::relay {

struct SocketAddress {
    sockaddr_storage address{};
    socklen_t length = 0;
};

class Destination {
public:
    explicit Destination(video::HostPort server);
    [[nodiscard]] std::vector<SocketAddress> addresses() const;  // empty while nothing is known
    // Those were of no use: look the name up again, soon.
    void refresh();
    [[nodiscard]] const video::HostPort& server() const { return server_; }

private:
    void run(const std::stop_token& stop);

    const video::HostPort server_;
    mutable std::mutex mutex_;
    std::condition_variable_any changed_;
    std::vector<SocketAddress> addresses_;
    bool wanted_ = true;
    std::jthread thread_;  // last: it uses the others
};

}  // namespace adapath::relay
