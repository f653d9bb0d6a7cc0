// The server's addresses.
#include "userspace/relay/destination.h"

#include <chrono>
#include <cstring>

#include <netdb.h>

#include <spdlog/spdlog.h>

namespace adapath::relay {

namespace {

// Between two look-ups.
constexpr std::chrono::seconds pause{2};

}  // namespace

Destination::Destination(video::HostPort server)
    : server_(std::move(server)), thread_([this](const std::stop_token& stop) { run(stop); }) {}

std::vector<SocketAddress> Destination::addresses() const {
    const std::lock_guard lock(mutex_);
    return addresses_;
}

void Destination::refresh() {
    const std::lock_guard lock(mutex_);
    wanted_ = true;
    changed_.notify_all();
}

void Destination::run(const std::stop_token& stop) {
    bool said = false;
    while (!stop.stop_requested()) {
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, stop, [this] { return wanted_; });
            wanted_ = false;
        }
        if (stop.stop_requested()) {
            return;
        }
        addrinfo hints{};
        hints.ai_socktype = SOCK_STREAM;
        addrinfo* found = nullptr;
        const int error = getaddrinfo(server_.host.c_str(), server_.port.c_str(), &hints, &found);
        std::unique_lock lock(mutex_);
        if (error != 0) {
            if (!said) {
                spdlog::warn("cannot resolve {}: {}; trying on", server_.host, gai_strerror(error));
                said = true;
            }
            wanted_ = addresses_.empty();
        } else {
            said = false;
            addresses_.clear();
            for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
                SocketAddress address;
                std::memcpy(&address.address, at->ai_addr, at->ai_addrlen);
                address.length = at->ai_addrlen;
                addresses_.push_back(address);
            }
            freeaddrinfo(found);
        }
        changed_.wait_for(lock, stop, pause, [] { return false; });
    }
}

}  // namespace adapath::relay
