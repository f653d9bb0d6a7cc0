// See report_hub.h.
#include "userspace/server/report_hub.h"

#include <utility>

namespace adapath::server {

ReportHub::Report ReportHub::Watcher::next(std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, timeout, [this] { return !items_.empty() || closed_; });
    if (items_.empty()) return nullptr;
    Item item = std::move(items_.front());
    items_.pop_front();
    bytes_ -= item.bytes;
    return item.report;
}

bool ReportHub::Watcher::closed() const {
    std::lock_guard lock(mutex_);
    return closed_;
}

uint64_t ReportHub::Watcher::dropped() const {
    std::lock_guard lock(mutex_);
    return dropped_;
}

void ReportHub::Watcher::put(const Report& report, size_t bytes, size_t limit_bytes) {
    {
        std::lock_guard lock(mutex_);
        if (closed_) return;
        // The newest always fits: it is what still helps.
        while (!items_.empty() && bytes_ + bytes > limit_bytes) {
            bytes_ -= items_.front().bytes;
            items_.pop_front();
            dropped_++;
        }
        items_.push_back({report, bytes});
        bytes_ += bytes;
    }
    changed_.notify_one();
}

void ReportHub::Watcher::close() {
    {
        std::lock_guard lock(mutex_);
        closed_ = true;
    }
    changed_.notify_all();
}

void ReportHub::sweep() {
    for (auto at = watchers_.begin(); at != watchers_.end();) {
        std::erase_if(at->second, [this](const std::shared_ptr<Watcher>& watcher) {
            if (watcher.use_count() > 1) return false;
            counters_.dropped += watcher->dropped();
            return true;
        });
        at = at->second.empty() ? watchers_.erase(at) : std::next(at);
    }
}

std::shared_ptr<ReportHub::Watcher> ReportHub::watch(const std::string& gateway) {
    std::lock_guard lock(mutex_);
    sweep();
    size_t all = 0;
    for (const auto& [name, watchers] : watchers_) all += watchers.size();
    std::vector<std::shared_ptr<Watcher>>& ours = watchers_[gateway];
    if (closed_ || all >= limits_.watchers || ours.size() >= limits_.watchers_a_gateway) return nullptr;
    return ours.emplace_back(std::make_shared<Watcher>());
}

void ReportHub::publish(const std::string& gateway, pb::CameraReport report) {
    // What it takes in memory is more than on the wire; small ones count as what they need at least.
    const size_t bytes = 256 + report.ByteSizeLong();
    const auto shared = std::make_shared<const pb::CameraReport>(std::move(report));
    std::lock_guard lock(mutex_);
    sweep();
    counters_.reports++;
    const auto at = watchers_.find(gateway);
    if (at == watchers_.end()) {
        counters_.unwatched++;
        return;
    }
    for (const std::shared_ptr<Watcher>& watcher : at->second) watcher->put(shared, bytes, limits_.bytes);
}

void ReportHub::close() {
    std::lock_guard lock(mutex_);
    closed_ = true;
    for (const auto& [name, watchers] : watchers_)
        for (const std::shared_ptr<Watcher>& watcher : watchers) watcher->close();
}

ReportHub::Counters ReportHub::counters() const {
    std::lock_guard lock(mutex_);
    Counters sum = counters_;
    for (const auto& [name, watchers] : watchers_)
        for (const std::shared_ptr<Watcher>& watcher : watchers) sum.dropped += watcher->dropped();
    return sum;
}

size_t ReportHub::watchers(const std::string& gateway) const {
    std::lock_guard lock(mutex_);
    const auto at = watchers_.find(gateway);
    if (at == watchers_.end()) return 0;
    size_t alive = 0;
    for (const std::shared_ptr<Watcher>& watcher : at->second) alive += watcher.use_count() > 1 ? 1 : 0;
    return alive;
}

}  // namespace adapath::server
