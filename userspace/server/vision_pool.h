// The threads that the vision network runs on: one pool for all cameras, a network a thread, and a bounded queue a
// camera, which are served in turn. Nobody ever waits for it: what does not fit a queue is the camera's to leave out.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "codegen/result.h"
#include "models/detector/detector.h"

namespace adapath::server {

class VisionPool {
public:
    struct Work {
        int64_t tick = 0;                    // which picture, for Queue::thin()
        uint64_t id = 0;                     // the camera's own
        std::function<void(Detector*)> run;  // on a thread of the pool; null where it has no network
        std::function<void()> leave_out;     // instead, when the pool ends first
    };

    // One camera's, held by it alone.
    class Queue {
    public:
        // False, and nothing taken, when it is full.
        bool offer(Work&& work);
        // Takes out those that do not stay, and gives them back.
        std::vector<Work> thin(const std::function<bool(int64_t tick)>& stays);
        [[nodiscard]] size_t waiting() const;
        ~Queue();

    private:
        friend class VisionPool;
        explicit Queue(VisionPool& pool) : pool_(pool) {}
        VisionPool& pool_;
        std::deque<Work> work_;  // under the pool's mutex
    };

    struct Options {
        unsigned threads = 1;
        size_t queue = 8;  // pictures a camera
        // Called once a thread, before start() returns. Empty: the threads have no network.
        std::function<Result<std::unique_ptr<Detector>>()> open;
    };
    static Result<std::unique_ptr<VisionPool>> start(const Options& options);
    ~VisionPool() { stop(); }

    [[nodiscard]] size_t queue_limit() const { return limit_; }
    // Does not outlive the pool.
    std::unique_ptr<Queue> queue();
    // When nothing else waits, and at the latest after eight pictures; false when there is too much of that already.
    bool spare(Work work);
    // What runs is finished, what waits is left out; nothing is taken any more.
    void stop();

private:
    static constexpr size_t most_spare = 64;
    static constexpr unsigned spare_after = 8;  // pictures

    explicit VisionPool(const Options& options) : limit_(options.queue) {}
    void run(Detector* detector);
    bool take(Work& work);
    bool take_spare(Work& work);

    const size_t limit_;
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::list<Queue*> queues_;  // the next to be served first
    std::deque<Work> spare_;
    unsigned before_spare_ = 0;  // pictures since the last
    bool stopping_ = false;
    std::vector<std::unique_ptr<Detector>> detectors_;
    std::vector<std::thread> threads_;
};

}  // namespace adapath::server
