// See destination.h.
#include "userspace/video/destination.h"

#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include <netdb.h>

#include <spdlog/spdlog.h>

namespace adapath::video {

namespace {

// Between two look-ups.
constexpr std::chrono::seconds pause{2};

Result<std::vector<SocketAddress>> ask_resolver(const HostPort& server) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (const int error = getaddrinfo(server.host.c_str(), server.port.c_str(), &hints, &found); error != 0) {
        return Error{gai_strerror(error)};
    }
    std::vector<SocketAddress> addresses;
    for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
        SocketAddress address;
        std::memcpy(&address.address, at->ai_addr, at->ai_addrlen);
        address.length = at->ai_addrlen;
        addresses.push_back(address);
    }
    freeaddrinfo(found);
    return addresses;
}

}  // namespace

Destination::Destination(HostPort server, Lookup lookup)
    : state_(new State{.server = std::move(server), .lookup = lookup ? std::move(lookup) : ask_resolver}) {
    // Not joined: getaddrinfo() can't be interrupted, and takes half a minute where no resolver answers.
    std::thread([state = state_] { run(*state); }).detach();
}

Destination::~Destination() {
    const std::lock_guard lock(state_->mutex);
    state_->ended = true;
    state_->changed.notify_all();
}

std::vector<SocketAddress> Destination::addresses() const {
    const std::lock_guard lock(state_->mutex);
    return state_->addresses;
}

void Destination::refresh() {
    const std::lock_guard lock(state_->mutex);
    state_->wanted = true;
    state_->changed.notify_all();
}

void Destination::run(State& state) {
    bool said = false;
    std::unique_lock lock(state.mutex);
    for (;;) {
        state.changed.wait(lock, [&] { return state.ended || state.wanted; });
        if (state.ended) {
            return;
        }
        state.wanted = false;
        lock.unlock();
        Result<std::vector<SocketAddress>> found = state.lookup(state.server);
        lock.lock();
        if (state.ended) {
            return;
        }
        if (found) {
            said = false;
            state.addresses = std::move(*found);
        } else {
            if (!said) {
                spdlog::warn("cannot resolve {}: {}; trying on", state.server.host, found.error().message);
                said = true;
            }
            state.wanted = state.addresses.empty();
        }
        state.changed.wait_for(lock, pause, [&] { return state.ended; });
    }
}

}  // namespace adapath::video
