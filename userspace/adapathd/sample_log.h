// The samples on disk: rolling files of raw records, bounded in size. Nothing is synced per batch: after a kill -9 the
// kernel still writes what was handed to it, after a power cut the tail is lost; a reader takes a cut-off tail for what
// it is.
//
// A file is a LogHeader, then whole records of the app. Numbers are the machine's own (the log never leaves it).
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/adapathd/app.h"
#include "userspace/common/unique_fd.h"

namespace adapath {

struct LogHeader {
    char magic[8];  // "ADPLOG1\n"
    uint32_t header_bytes;
    uint32_t schema;
    uint32_t record_bytes;
    uint32_t reserved;
    char app[16];
    char boot_id[40];  // times and flow numbers compare only within one boot
    int64_t created_unix_us;
};
static_assert(sizeof(LogHeader) == 88);

class SampleLog {
public:
    // Files go to `directory` (made if missing); the oldest are removed when all together pass `limit_bytes`.
    static Result<SampleLog> open(const std::string& directory, const App& app, uint64_t limit_bytes);

    Status append(std::span<const std::byte> records);
    [[nodiscard]] uint64_t bytes() const;

    // Where the log ends now: a reader that stops there sees everything up to this moment and nothing after it.
    struct Position {
        std::string file;  // name of the newest file; empty = there is none
        uint64_t bytes = 0;
    };
    [[nodiscard]] Position position() const;

private:
    struct File {
        std::string name;
        uint64_t bytes = 0;
    };
    SampleLog() = default;
    Status roll(uint64_t needed_bytes);

    std::string directory_;
    const App* app_ = nullptr;
    uint64_t limit_bytes_ = 0;
    uint64_t file_limit_bytes_ = 0;
    uint64_t next_number_ = 1;
    std::deque<File> files_;  // oldest first
    UniqueFd fd_;             // of files_.back(); not open before the first append
};

struct LogReadResult {
    uint64_t files = 0;
    uint64_t records = 0;
    uint64_t truncated_bytes = 0;         // cut-off tails
    std::vector<std::string> unreadable;  // files skipped, with the reason
};
// Every record of the log, oldest first, a chunk of whole records at a time. The sink gets the chunk and its file's
// boot id; it returns false to stop.
using LogSink = std::function<bool(std::span<const std::byte> records, const std::string& boot_id)>;
Result<LogReadResult> read_sample_log(const std::string& directory, const App& app, const LogSink& sink,
                                      const SampleLog::Position* until = nullptr, size_t newest_files = SIZE_MAX);

}  // namespace adapath
