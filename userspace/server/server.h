// The far end: accepts the relays' connections, one a camera, takes their records apart, decodes, and hands pictures to
// the cameras (camera.h). Each connection has a thread of its own, so a slow or malformed one costs the others nothing.
//
// Whoever reaches the port can say that it is a gateway's camera: video comes in plain TCP. Let only gateways reach it
// (a tunnel, a firewall), or at least name them (`gateways`). What anybody can fill is bounded, the log too: every
// connection that ends is counted, but not each has a line.
#pragma once

#include <atomic>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include <spdlog/common.h>

#include "codegen/result.h"
#include "userspace/server/camera.h"
#include "userspace/server/line_limit.h"
#include "userspace/server/record_reader.h"
#include "userspace/video/delays.h"
#include "userspace/video/net.h"

namespace adapath::server {

struct ServerOptions {
    video::HostPort listen;
    std::set<std::string> gateways;  // names that are let in; empty: all
    // Bounds of all that strangers can fill.
    size_t most_gateways = 64;  // the one that is longest without a connection makes room
    size_t most_cameras = 256;  // a gateway; a camera's number is below it
    size_t most_connections = 1024;
    size_t most_connections_a_peer = 256;  // by address
    uint64_t hello_ms = 10'000;            // a connection that has not said who it is by then ends
    uint64_t silence_ms = 2'000;           // what is open is then taken to be over
    uint64_t dead_ms = 3'000;              // a camera's connection that was silent for so long gives way to a new one
    uint64_t idle_ms = 120'000;            // and ends by itself after so long (a gateway lets a chunk pass every 10 s)
    size_t background_bytes = size_t{512} << 20;  // all remembered backgrounds together (background.h)
    bool same_clock = false;                      // the gateways are this machine: delays can be told
};

struct ServerCounters {
    uint64_t connections = 0;  // accepted
    uint64_t refused = 0;      // too many, unknown gateways, cameras that are here already
    uint64_t malformed = 0;    // ended by a malformed hello or record
    uint64_t broken = 0;       // ended in the middle of a record, or without a last one
    uint64_t replaced = 0;     // by a new connection of the same camera
    uint64_t ended = 0;        // by their last record
};

class Server {
public:
    static Result<std::unique_ptr<Server>> listen(const ServerOptions& options, Camera::Shared& shared,
                                                  const std::stop_token& stop);
    ~Server();

    // Waits for connections until the token is stopped; then every connection has ended.
    Status run();

    [[nodiscard]] uint16_t port() const { return video::local_port(socket_.get()); }
    [[nodiscard]] ServerCounters counters() const;
    // gateway -> camera -> counters, of all that are remembered
    [[nodiscard]] std::map<std::string, std::map<uint32_t, CameraCounters>> cameras() const;
    // First packet at the relay to the last byte here; with same_clock only.
    [[nodiscard]] video::Delays delays() const;

private:
    class Connection;
    struct Running {
        std::unique_ptr<Connection> connection;
        std::atomic<bool> over = false;
        std::jthread thread;
    };
    struct Gateway {
        struct Entry {
            std::shared_ptr<Camera> camera;
            Connection* holder = nullptr;
        };
        std::map<uint32_t, Entry> cameras;
        size_t connected = 0;
        uint64_t left_ns = 0;
    };

    Server(const ServerOptions& options, Camera::Shared& shared, video::Fd socket, video::Fd over,
           const std::stop_token& stop);
    Status accept_one();
    void wait_for_room(const char* what);
    void tell(LineLimit& limit, spdlog::level::level_enum level, const std::string& line);
    void tell_rests(bool last);
    void reap(bool all);
    Result<std::shared_ptr<Camera>> claim(const Hello& hello, Connection& connection);
    void release(const Hello& hello, Connection& connection);

    const ServerOptions options_;
    Camera::Shared& shared_;
    BackgroundRoom background_room_;
    video::Fd socket_;
    video::Fd over_event_;  // written by a connection's thread as it ends
    std::stop_token stop_;
    video::StopWake wake_;
    std::list<Running> running_;  // of the accepting thread
    bool no_room_ = false;        // likewise: accept() has to wait
    LineLimit strangers_{8};      // lines of connections that were never a camera's
    LineLimit connections_;       // and of those that were

    mutable std::mutex mutex_;
    std::map<std::string, Gateway> gateways_;
    ServerCounters counters_;
    video::Delays delays_;
};

}  // namespace adapath::server
