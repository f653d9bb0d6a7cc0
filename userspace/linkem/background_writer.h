// Appends text to a file from a loop that must not wait for the disk: full buffers are written by a thread of its own.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "codegen/result.h"
#include "userspace/common/unique_fd.h"

namespace adapath {

class BackgroundWriter {
public:
    // Makes or empties the file.
    static Result<std::unique_ptr<BackgroundWriter>> open(const std::string& path);
    // `name` is for errors. The descriptor stays open until the end.
    BackgroundWriter(UniqueFd fd, std::string name);
    ~BackgroundWriter();
    BackgroundWriter(const BackgroundWriter&) = delete;
    BackgroundWriter& operator=(const BackgroundWriter&) = delete;

    // For one thread. Whole lines; where the disk is behind by more than max_behind_bytes they are lost and counted.
    void append(std::string_view lines);
    // Hands over what is there, without waiting.
    void flush();
    // Writes everything and ends the thread. The error names the file and says how much was lost.
    Status close();
    [[nodiscard]] uint64_t lost_lines() const { return lost_lines_; }

private:
    static constexpr size_t buffer_bytes = 64 * 1024;
    static constexpr size_t max_behind_bytes = 256 * 1024 * 1024;

    void run();

    UniqueFd fd_;
    std::string name_;
    std::string buffer_;
    uint64_t lost_lines_ = 0;
    bool closed_ = false;

    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> full_;   // waiting to be written
    std::vector<std::string> spare_;  // written; their memory is used again
    size_t behind_bytes_ = 0;
    bool quit_ = false;
    int error_ = 0;  // errno of the first failed write
    std::thread thread_;
};

}  // namespace adapath
