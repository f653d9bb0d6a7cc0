// See vision_pool.h.
#include "userspace/server/vision_pool.h"

#include <utility>

namespace adapath::server {

Result<std::unique_ptr<VisionPool>> VisionPool::start(const Options& options) {
    std::unique_ptr<VisionPool> pool(new VisionPool(options));
    for (unsigned i = 0; i < options.threads && options.open; i++) {
        Result<std::unique_ptr<Detector>> detector = options.open();
        if (!detector) return detector.error();
        pool->detectors_.push_back(std::move(*detector));
    }
    for (unsigned i = 0; i < options.threads; i++) {
        Detector* detector = options.open ? pool->detectors_[i].get() : nullptr;
        pool->threads_.emplace_back([self = pool.get(), detector] { self->run(detector); });
    }
    return pool;
}

std::unique_ptr<VisionPool::Queue> VisionPool::queue() {
    std::unique_ptr<Queue> queue(new Queue(*this));
    std::lock_guard lock(mutex_);
    queues_.push_back(queue.get());
    return queue;
}

bool VisionPool::Queue::offer(Work&& work) {
    {
        std::lock_guard lock(pool_.mutex_);
        if (pool_.stopping_ || work_.size() >= pool_.limit_) return false;
        work_.push_back(std::move(work));
    }
    pool_.changed_.notify_one();
    return true;
}

std::vector<VisionPool::Work> VisionPool::Queue::thin(const std::function<bool(int64_t)>& stays) {
    std::vector<Work> out;
    std::deque<Work> kept;
    std::lock_guard lock(pool_.mutex_);
    for (Work& work : work_) {
        if (stays(work.tick)) {
            kept.push_back(std::move(work));
        } else {
            out.push_back(std::move(work));
        }
    }
    work_ = std::move(kept);
    return out;
}

size_t VisionPool::Queue::waiting() const {
    std::lock_guard lock(pool_.mutex_);
    return work_.size();
}

VisionPool::Queue::~Queue() {
    std::lock_guard lock(pool_.mutex_);
    pool_.queues_.remove(this);
}

bool VisionPool::spare(Work work) {
    {
        std::lock_guard lock(mutex_);
        if (stopping_ || spare_.size() >= most_spare) return false;
        spare_.push_back(std::move(work));
    }
    changed_.notify_one();
    return true;
}

// The next camera's that has any; it then goes to the end of the row. What is spare waits for a pause, or where there
// is none for some pictures' time. Under the mutex.
bool VisionPool::take(Work& work) {
    if (!spare_.empty() && before_spare_ >= spare_after) return take_spare(work);
    for (auto at = queues_.begin(); at != queues_.end(); ++at) {
        Queue& queue = **at;
        if (queue.work_.empty()) continue;
        work = std::move(queue.work_.front());
        queue.work_.pop_front();
        queues_.splice(queues_.end(), queues_, at);
        before_spare_++;
        return true;
    }
    return !spare_.empty() && take_spare(work);
}

bool VisionPool::take_spare(Work& work) {
    before_spare_ = 0;
    work = std::move(spare_.front());
    spare_.pop_front();
    return true;
}

void VisionPool::run(Detector* detector) {
    for (;;) {
        Work work;
        {
            std::unique_lock lock(mutex_);
            changed_.wait(lock, [&] { return stopping_ || take(work); });
            if (stopping_) return;
        }
        work.run(detector);
    }
}

void VisionPool::stop() {
    std::vector<Work> left;
    {
        std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    {
        std::lock_guard lock(mutex_);
        for (Queue* queue : queues_) {
            for (Work& work : queue->work_) left.push_back(std::move(work));
            queue->work_.clear();
        }
        for (Work& work : spare_) left.push_back(std::move(work));
        spare_.clear();
    }
    for (const Work& work : left)
        if (work.leave_out) work.leave_out();
}

}  // namespace adapath::server
