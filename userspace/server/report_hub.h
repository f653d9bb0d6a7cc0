// From the cameras to the gateways that watch: a bounded queue a watcher. A slow one loses the oldest reports, which
// are counted, and costs nobody else anything.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "userspace/proto/select.pb.h"

namespace adapath::server {

class ReportHub {
public:
    using Report = std::shared_ptr<const pb::CameraReport>;

    class Watcher {
    public:
        // Null after `timeout` without one, or once closed.
        Report next(std::chrono::milliseconds timeout);
        [[nodiscard]] bool closed() const;
        [[nodiscard]] uint64_t dropped() const;

    private:
        friend class ReportHub;
        void put(const Report& report, size_t bytes, size_t limit_bytes);
        void close();

        struct Item {
            Report report;
            size_t bytes;
        };
        mutable std::mutex mutex_;
        std::condition_variable changed_;
        std::deque<Item> items_;
        size_t bytes_ = 0;
        uint64_t dropped_ = 0;
        bool closed_ = false;
    };

    struct Limits {
        size_t bytes = size_t{4} << 20;  // a watcher's queue
        size_t watchers_a_gateway = 4;   // one, and those of connections whose end is not known yet
        size_t watchers = 256;
    };
    ReportHub() = default;
    explicit ReportHub(const Limits& limits) : limits_(limits) {}

    // Null when there are too many. The watcher leaves by letting go.
    std::shared_ptr<Watcher> watch(const std::string& gateway);
    void publish(const std::string& gateway, pb::CameraReport report);
    // Ends every watcher's wait, now and later.
    void close();

    struct Counters {
        uint64_t reports = 0;    // published
        uint64_t unwatched = 0;  // of them, those that nobody watched for
        uint64_t dropped = 0;    // by slow watchers, those that left included
    };
    [[nodiscard]] Counters counters() const;
    [[nodiscard]] size_t watchers(const std::string& gateway) const;

private:
    void sweep();  // under the mutex

    // A watcher is alive as long as the hub is not the only one to hold it.
    mutable std::mutex mutex_;
    std::map<std::string, std::vector<std::shared_ptr<Watcher>>> watchers_;
    Limits limits_;
    Counters counters_;
    bool closed_ = false;
};

}  // namespace adapath::server
