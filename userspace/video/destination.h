// The server's addresses. Names are looked up in a thread of their own, again and again while nobody can be reached:
// a resolver that does not answer must not hold up a single packet, nor the end of the program.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "codegen/result.h"
#include "userspace/video/net.h"

namespace adapath::video {

class Destination {
public:
    // May take as long as it likes; the error is getaddrinfo()'s.
    using Lookup = std::function<Result<std::vector<SocketAddress>>(const HostPort& server)>;

    explicit Destination(HostPort server, Lookup lookup = {});
    // Does not wait for a look-up that is under way.
    ~Destination();
    Destination(const Destination&) = delete;
    Destination& operator=(const Destination&) = delete;

    [[nodiscard]] std::vector<SocketAddress> addresses() const;  // empty while nothing is known
    // Those were of no use: look the name up again, soon.
    void refresh();
    [[nodiscard]] const HostPort& server() const { return state_->server; }

private:
    // Whoever ends last, the owner or the thread, frees it.
    struct State {
        HostPort server;
        Lookup lookup;
        std::mutex mutex{};  // guards what follows
        std::condition_variable changed{};
        std::vector<SocketAddress> addresses{};
        bool wanted = true;
        bool ended = false;
    };
    static void run(State& state);

    const std::shared_ptr<State> state_;
};

}  // namespace adapath::video
