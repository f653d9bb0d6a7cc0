// One writer, many readers, bounded: what a reader is too slow for is dropped and counted, and the writer never waits.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

namespace adapath {

template <typename T>
class Fanout {
public:
    class Reader {
    public:
        // The next item; nullptr after `timeout` without one, or once closed() and empty.
        std::shared_ptr<const T> next(std::chrono::milliseconds timeout) {
            std::unique_lock lock(mutex_);
            changed_.wait_for(lock, timeout, [this] { return !items_.empty() || closed_; });
            if (items_.empty()) {
                return nullptr;
            }
            Item item = std::move(items_.front());
            items_.pop_front();
            bytes_ -= item.bytes;
            return item.value;
        }
        // Units (samples, events) that were dropped so far.
        [[nodiscard]] uint64_t dropped() const {
            std::lock_guard lock(mutex_);
            return dropped_;
        }
        [[nodiscard]] bool closed() const {
            std::lock_guard lock(mutex_);
            return closed_;
        }

    private:
        friend class Fanout;
        struct Item {
            std::shared_ptr<const T> value;
            size_t bytes;
        };
        explicit Reader(size_t limit_bytes) : limit_bytes_(limit_bytes) {}

        void put(const std::shared_ptr<const T>& value, size_t bytes, uint64_t units) {
            {
                std::lock_guard lock(mutex_);
                if (closed_) {
                    return;
                }
                // One item always fits, however large, or a small limit would starve the reader for ever.
                if (!items_.empty() && bytes_ + bytes > limit_bytes_) {
                    dropped_ += units;
                    return;
                }
                items_.push_back({value, bytes});
                bytes_ += bytes;
            }
            changed_.notify_one();
        }
        void close() {
            {
                std::lock_guard lock(mutex_);
                closed_ = true;
            }
            changed_.notify_all();
        }

        const size_t limit_bytes_;
        mutable std::mutex mutex_;
        std::condition_variable changed_;
        std::deque<Item> items_;
        size_t bytes_ = 0;
        uint64_t dropped_ = 0;
        bool closed_ = false;
    };

    // The reader leaves by letting go of the pointer.
    std::shared_ptr<Reader> subscribe(size_t limit_bytes) {
        std::shared_ptr<Reader> reader(new Reader(limit_bytes));
        std::lock_guard lock(mutex_);
        if (closed_) {
            reader->close();
        }
        readers_.push_back(reader);
        return reader;
    }
    void publish(const std::shared_ptr<const T>& value, size_t bytes, uint64_t units) {
        std::lock_guard lock(mutex_);
        std::erase_if(readers_, [](const std::weak_ptr<Reader>& reader) { return reader.expired(); });
        for (const std::weak_ptr<Reader>& weak : readers_) {
            if (std::shared_ptr<Reader> reader = weak.lock()) {
                reader->put(value, bytes, units);
            }
        }
    }
    [[nodiscard]] bool has_readers() {
        std::lock_guard lock(mutex_);
        std::erase_if(readers_, [](const std::weak_ptr<Reader>& reader) { return reader.expired(); });
        return !readers_.empty();
    }
    // Ends every reader's wait, now and later.
    void close() {
        std::lock_guard lock(mutex_);
        closed_ = true;
        for (const std::weak_ptr<Reader>& weak : readers_) {
            if (std::shared_ptr<Reader> reader = weak.lock()) {
                reader->close();
            }
        }
    }

private:
    std::mutex mutex_;
    std::vector<std::weak_ptr<Reader>> readers_;
    bool closed_ = false;
};

}  // namespace adapath
