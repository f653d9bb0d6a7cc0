// See answering.h.
#include "userspace/bpf_backend/answering.h"

#include <adapath/cc.h>
#include <adapath/cc_answers.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include "userspace/common/clock.h"
#include "userspace/common/file.h"

namespace adapath {
namespace {

constexpr size_t kGenerations = 64;       // more than there are slots
constexpr size_t kOpenQuestions = 65536;  // then those of flows that ended are forgotten, with a few others
constexpr size_t kKeptBytes = 64 << 20;   // of records while nobody collects

class AnsweringCollector final : public Collector {
public:
    AnsweringCollector(std::unique_ptr<Collector> collector, std::shared_ptr<Answerer> answerer, size_t wakeup_bytes)
        : collector_(std::move(collector)), answerer_(std::move(answerer)), wakeup_bytes_(wakeup_bytes) {}

    Status start(int ring) {
        epoll_ = UniqueFd(epoll_create1(EPOLL_CLOEXEC));
        quit_ = UniqueFd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
        epoll_event event = {};
        // Edge-triggered, as the backend's own reader: the kernel side signals when it has asked.
        event.events = EPOLLIN | EPOLLET;
        event.data.fd = ring;
        epoll_event quit = {};
        quit.events = EPOLLIN;
        quit.data.fd = quit_.get();
        if (!epoll_.valid() || !quit_.valid() || epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, ring, &event) != 0 ||
            epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, quit_.get(), &quit) != 0) {
            return Error{errno_text("waiting for questions")};
        }
        thread_ = std::thread([this] {
            while (step()) {
            }
        });
        return {};
    }
    ~AnsweringCollector() override {
        const uint64_t one = 1;
        (void)!write(quit_.get(), &one, sizeof one);
        if (thread_.joinable()) {
            thread_.join();
        }
    }
    AnsweringCollector(const AnsweringCollector&) = delete;
    AnsweringCollector& operator=(const AnsweringCollector&) = delete;

    Result<size_t> collect(std::chrono::milliseconds interval, const Sink& sink) override {
        std::vector<std::byte> records;
        std::vector<uint32_t> lengths;
        {
            std::unique_lock lock(kept_mutex_);
            changed_.wait_for(lock, interval,
                              [this] { return woken_ || (wakeup_bytes_ != 0 && records_.size() >= wakeup_bytes_); });
            woken_ = false;
        }
        // Samples that came without a question wake nobody.
        if (Status status = drain(); !status) {
            return status.error();
        }
        {
            std::lock_guard lock(kept_mutex_);
            records.swap(records_);
            lengths.swap(lengths_);
        }
        size_t at = 0;
        for (const uint32_t length : lengths) {
            sink(std::span(records).subspan(at, length));
            at += length;
        }
        return lengths.size();
    }

    void wake() override {
        {
            std::lock_guard lock(kept_mutex_);
            woken_ = true;
        }
        changed_.notify_one();
    }

    [[nodiscard]] BackendStats stats() const override {
        BackendStats stats = collector_->stats();
        stats.samples_lost += dropped_;
        stats.asking = answerer_->stats();
        stats.asking->cpu_s = static_cast<double>(cpu_ns_) / 1e9;
        return stats;
    }

private:
    // Waits for a signal and answers; false: the end.
    bool step() {
        epoll_event event = {};
        const int ready = epoll_wait(epoll_.get(), &event, 1, -1);
        if (ready > 0 && event.data.fd == quit_.get()) {
            return false;
        }
        if (ready > 0) {
            (void)drain();  // an error of the ring comes up in collect() again, where it is told
        }
        cpu_ns_ = clock_ns(CLOCK_THREAD_CPUTIME_ID);
        return true;
    }

    // Reads all that is in the ring, answers what is a question, keeps everything for collect().
    Status drain() {
        std::lock_guard reading(ring_mutex_);
        const Result<size_t> read =
            collector_->collect(std::chrono::milliseconds(0), [this](std::span<const std::byte> record) {
                answerer_->see(record);
                std::lock_guard lock(kept_mutex_);
                if (records_.size() + record.size() > kKeptBytes) {
                    dropped_++;
                    return;
                }
                records_.insert(records_.end(), record.begin(), record.end());
                lengths_.push_back(static_cast<uint32_t>(record.size()));
            });
        if (!read) {
            return read.error();
        }
        bool full = false;
        {
            std::lock_guard lock(kept_mutex_);
            full = wakeup_bytes_ != 0 && records_.size() >= wakeup_bytes_;
        }
        if (full) {
            changed_.notify_one();
        }
        return {};
    }

    std::unique_ptr<Collector> collector_;
    std::shared_ptr<Answerer> answerer_;
    const size_t wakeup_bytes_;
    UniqueFd epoll_;
    UniqueFd quit_;
    std::mutex ring_mutex_;  // who reads the ring; taken before kept_mutex_
    std::mutex kept_mutex_;
    std::condition_variable changed_;
    std::vector<std::byte> records_;
    std::vector<uint32_t> lengths_;
    bool woken_ = false;
    std::atomic<uint64_t> dropped_{0};
    std::atomic<uint64_t> cpu_ns_{0};
    std::thread thread_;
};

}  // namespace

Status Answerer::learn(uint32_t generation, const Snapshot& snapshot) {
    if (snapshot.reference.weights.empty()) {
        return Error{"the snapshot carries no float model, which is what backend userspace runs"};
    }
    std::lock_guard lock(mutex_);
    while (runners_.size() >= kGenerations) {
        runners_.erase(std::min_element(runners_.begin(), runners_.end(),
                                        [](const auto& a, const auto& b) { return a.first < b.first; }));
    }
    runners_.insert_or_assign(generation, FloatRunner(snapshot.reference));
    return {};
}

void Answerer::see(std::span<const std::byte> record) {
    adp_cc_sample sample;
    if (record.size() != sizeof sample) {
        return;
    }
    std::memcpy(&sample, record.data(), sizeof sample);
    std::lock_guard lock(mutex_);
    if ((sample.flags & ADP_CC_ANSWERED) != 0) {
        const auto open = open_.find(sample.flow);
        if (open != open_.end() && open->second.seq + 1 == sample.seq) {
            stats_.applied++;
            stats_.applied_us.add(sample.time_us - std::min(sample.time_us, open->second.asked_us));
            open_.erase(open);
        }
        return;
    }
    const auto before = open_.find(sample.flow);
    if (before != open_.end()) {
        stats_.overtaken++;
        open_.erase(before);
    }
    if ((sample.flags & ADP_CC_ASKED) == 0) {
        return;
    }
    stats_.questions++;
    const auto runner = runners_.find(sample.generation);
    if (runner == runners_.end()) {
        stats_.unknown++;
        return;
    }
    const int32_t output = runner->second.run_q16(sample.input);
    // Release: nothing of it may be seen late; the word itself is whole.
    __atomic_store_n(&answers_[adp_cc_answer_index(sample.flow)], adp_cc_answer(sample.flow, sample.seq, output),
                     __ATOMIC_RELEASE);
    stats_.answers++;
    const uint64_t now_us = monotonic_us();
    stats_.answer_us.add(now_us - std::min(now_us, sample.time_us));
    if (open_.size() >= kOpenQuestions) {
        open_.clear();
    }
    open_[sample.flow] = {sample.seq, sample.time_us};
}

AskingStats Answerer::stats() const {
    std::lock_guard lock(mutex_);
    return stats_;
}

Result<std::unique_ptr<Collector>> answering_collector(std::unique_ptr<Collector> collector, int ring,
                                                       std::shared_ptr<Answerer> answerer, size_t wakeup_bytes) {
    auto made = std::make_unique<AnsweringCollector>(std::move(collector), std::move(answerer), wakeup_bytes);
    if (Status status = made->start(ring); !status) {
        return status.error();
    }
    return std::unique_ptr<Collector>(std::move(made));
}

}  // namespace adapath
