// What the server's vision network says, fetched from the server (Vision.Watch, over mutual TLS) and handed to adapathd
// (SelectFeed.Feed, on its Unix socket) together with the uplink's price. Either may be away: it is tried again and
// again, and said once. Two threads of its own; nothing here ever holds up a packet.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "codegen/result.h"
#include "userspace/proto/select.grpc.pb.h"

namespace adapath::relay {

struct FeedbackOptions {
    std::string gateway;  // name, as in the relay's hello
    unsigned cameras = 0;

    std::string vision;       // HOST:PORT of the server; empty: no reports
    std::string server_name;  // that its certificate is for; empty: HOST
    // PEM, their text. The server's must be signed by the first; the others are ours.
    std::string ca;
    std::string certificate;
    std::string key;

    // Each report that is believed; on a thread of this class, which waits for it. Empty: none is told.
    std::function<void(const pb::CameraReport& report)> on_report;

    std::string daemon;  // gRPC target, "unix:/run/adapath/adapathd-select.sock"; empty: nobody gets anything

    std::chrono::milliseconds retry_least{200};
    std::chrono::milliseconds retry_most{10'000};
};

class Feedback {
public:
    struct Counters {
        uint64_t reports = 0;    // came from the server
        uint64_t refused = 0;    // of them: malformed or out of range
        uint64_t forwarded = 0;  // handed to the daemon's stream
        uint64_t lost = 0;       // the daemon was away or slow for too long
        uint64_t markets = 0;    // handed to the daemon's stream
        uint64_t watches = 0;    // calls to the server
        uint64_t feeds = 0;      // calls to the daemon
        bool server_there = false;
        bool daemon_there = false;
    };

    explicit Feedback(FeedbackOptions options);
    Feedback(const Feedback&) = delete;
    Feedback& operator=(const Feedback&) = delete;
    ~Feedback();  // ends both calls

    // The newest one is sent as soon as the daemon takes it. Never waits.
    void set_market(const pb::Market& market);
    [[nodiscard]] Counters counters() const;

private:
    // A connection that is tried again and again: what to say of it, and when to try next.
    class Attempts;

    void watch(const std::stop_token& stop);
    void feed(const std::stop_token& stop);
    void take(pb::CameraReport& report);
    bool pause(const std::stop_token& stop, std::chrono::milliseconds time);

    const FeedbackOptions options_;
    mutable std::mutex mutex_;
    std::condition_variable_any changed_;
    std::deque<pb::CameraReport> reports_;
    std::optional<pb::Market> market_;
    Counters counters_;
    // Last: they use the others.
    std::jthread watching_;
    std::jthread feeding_;
};

}  // namespace adapath::relay
