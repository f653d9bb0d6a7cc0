// See background_writer.h.
#include "userspace/linkem/background_writer.h"

#include <fcntl.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace adapath {

Result<std::unique_ptr<BackgroundWriter>> BackgroundWriter::open(const std::string& path) {
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!fd.valid()) {
        return Error{path + ": can't open for writing: " + std::strerror(errno)};
    }
    return std::make_unique<BackgroundWriter>(std::move(fd), path);
}

BackgroundWriter::BackgroundWriter(UniqueFd fd, std::string name) : fd_(std::move(fd)), name_(std::move(name)) {
    buffer_.reserve(buffer_bytes);
    thread_ = std::thread([this] { run(); });
}

BackgroundWriter::~BackgroundWriter() { (void)close(); }

void BackgroundWriter::append(std::string_view lines) {
    if (buffer_.size() + lines.size() > buffer_bytes) {
        flush();
    }
    buffer_.append(lines);
}

void BackgroundWriter::flush() {
    if (buffer_.empty()) {
        return;
    }
    std::string next;
    {
        std::lock_guard lock(mutex_);
        if (behind_bytes_ + buffer_.size() > max_behind_bytes || error_ != 0) {
            lost_lines_ += static_cast<uint64_t>(std::count(buffer_.begin(), buffer_.end(), '\n'));
            buffer_.clear();
            return;
        }
        if (!spare_.empty()) {
            next = std::move(spare_.back());
            spare_.pop_back();
        }
        behind_bytes_ += buffer_.size();
        full_.push_back(std::move(buffer_));
    }
    changed_.notify_one();
    next.clear();
    next.reserve(buffer_bytes);
    buffer_ = std::move(next);
}

Status BackgroundWriter::close() {
    if (!closed_) {
        closed_ = true;
        flush();
        {
            std::lock_guard lock(mutex_);
            quit_ = true;
        }
        changed_.notify_one();
        thread_.join();
        fd_.reset();
    }
    if (error_ != 0) {
        return Error{name_ + ": can't write: " + std::strerror(error_)};
    }
    if (lost_lines_ > 0) {
        return Error{name_ + ": " + std::to_string(lost_lines_) + " lines were lost because the disk was too slow"};
    }
    return {};
}

void BackgroundWriter::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return !full_.empty() || quit_; });
        if (full_.empty()) {
            return;
        }
        std::vector<std::string> batch;
        batch.swap(full_);
        lock.unlock();
        int error = 0;
        for (const std::string& text : batch) {
            size_t done = 0;
            while (done < text.size() && error == 0) {
                const ssize_t count = ::write(fd_.get(), text.data() + done, text.size() - done);
                if (count >= 0) {
                    done += static_cast<size_t>(count);
                } else if (errno == EAGAIN) {
                    // Somebody else's pipe that does not block.
                    pollfd ready{fd_.get(), POLLOUT, 0};
                    poll(&ready, 1, -1);
                } else if (errno != EINTR) {
                    error = errno;
                }
            }
        }
        lock.lock();
        for (std::string& text : batch) {
            behind_bytes_ -= text.size();
            if (spare_.size() < 16) {
                spare_.push_back(std::move(text));
            }
        }
        if (error_ == 0) {
            error_ = error;
        }
    }
}

}  // namespace adapath
