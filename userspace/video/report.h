// What both tools write: JSON lines once a second, a JSON summary, and a CSV line per frame. Field names carry their
// units.
#pragma once

#include <cstdio>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "codegen/result.h"
#include "userspace/video/camera.h"
#include "userspace/video/receiver.h"

namespace adapath::video {

// A text file that several threads write whole lines to; "-" is stdout. Lines are complete on disk as they are written,
// so that a reader may follow.
class LineFile {
public:
    static Result<std::unique_ptr<LineFile>> open(const std::string& path);
    ~LineFile();
    void write(std::string_view line);  // without its newline
    // Whether everything reached the file (a full disk, a closed pipe).
    Status status() const;

private:
    LineFile(std::string path, std::FILE* file) : path_(std::move(path)), file_(file) {}

    std::string path_;
    std::FILE* file_;
    mutable std::mutex mutex_;
    int error_ = 0;
};

// Keys stay in the order they are written in: people read these too.
using Json = nlohmann::ordered_json;

Json second_json(const CameraStats& stats, uint64_t now_ns);
Json second_json(const StreamStats& stats, const StreamInterval& interval);
Json summary_json(const CameraStats& stats);
Json summary_json(const StreamStats& stats);
// With the totals over all cameras: {"cameras": [...], "total": {...}}.
Json summary_json(const std::vector<CameraStats>& cameras);
Json summary_json(const std::vector<StreamStats>& streams);

[[nodiscard]] std::string frames_csv_header();
[[nodiscard]] std::string frames_csv(const FrameRecord& record);

Status write_json(const Json& json, const std::string& path);  // "-" is stdout

// CPU time that this process has used, user and system.
[[nodiscard]] double cpu_seconds();

}  // namespace adapath::video
