// See sample_log.h.
#include "userspace/adapathd/sample_log.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <string.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdlib>

#include "userspace/common/clock.h"
#include "userspace/common/file.h"

namespace adapath {
namespace {

constexpr char kMagic[8] = {'A', 'D', 'P', 'L', 'O', 'G', '1', '\n'};
constexpr uint64_t kFiles = 16;  // the limit is split over so many files, so that little is lost when one goes
constexpr uint64_t kFileMin = 64 * 1024;
constexpr std::string_view kSuffix = ".log";

}  // namespace

Result<SampleLog> SampleLog::open(const std::string& directory, const App& app, uint64_t limit_bytes) {
    if (Status status = make_directories(directory); !status) {
        return status.error();
    }
    Result<std::vector<std::string>> names = list_directory(directory, kSuffix);
    if (!names) {
        return names.error();
    }
    SampleLog log;
    log.directory_ = directory;
    log.app_ = &app;
    log.limit_bytes_ = limit_bytes;
    log.file_limit_bytes_ = std::max(limit_bytes / kFiles, kFileMin);
    for (const std::string& name : *names) {
        struct stat info{};
        if (stat((directory + "/" + name).c_str(), &info) == 0) {
            log.files_.push_back(File{name, static_cast<uint64_t>(info.st_size)});
            log.next_number_ = std::max<uint64_t>(log.next_number_, strtoull(name.c_str(), nullptr, 10) + 1);
        }
    }
    return log;
}

uint64_t SampleLog::bytes() const {
    uint64_t sum = 0;
    for (const File& file : files_) {
        sum += file.bytes;
    }
    return sum;
}

SampleLog::Position SampleLog::position() const {
    return files_.empty() ? Position{} : Position{files_.back().name, files_.back().bytes};
}

// Begins the next file, for `needed_bytes` now and its share in all, and removes the oldest ones over the limit. A
// restart begins a new file too: the tail of the last may be cut off, and records are whole only from a header on.
Status SampleLog::roll(uint64_t needed_bytes) {
    const std::string name = fmt::format("{:010}{}", next_number_, kSuffix);
    const std::string path = directory_ + "/" + name;
    UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644));
    if (!fd.valid()) {
        return Error{errno_text(path)};
    }
    LogHeader header{};
    memcpy(header.magic, kMagic, sizeof(kMagic));
    header.header_bytes = sizeof(header);
    header.schema = app_->schema();
    header.record_bytes = static_cast<uint32_t>(app_->record_bytes());
    const std::string boot = boot_id();
    strncpy(header.app, std::string(app_->name()).c_str(), sizeof(header.app) - 1);
    strncpy(header.boot_id, boot.c_str(), sizeof(header.boot_id) - 1);
    header.created_unix_us = unix_us();
    if (Status status = write_all(fd.get(), &header, sizeof(header), path); !status) {
        return status;
    }
    next_number_++;
    fd_ = std::move(fd);
    files_.push_back(File{name, sizeof(header)});
    const uint64_t reserved = std::max(file_limit_bytes_, needed_bytes);
    uint64_t total = bytes();
    while (files_.size() > 1 && total + reserved > limit_bytes_) {
        const std::string oldest = directory_ + "/" + files_.front().name;
        if (unlink(oldest.c_str()) != 0 && errno != ENOENT) {
            return Error{errno_text(oldest)};
        }
        total -= files_.front().bytes;
        files_.pop_front();
    }
    return {};
}

Status SampleLog::append(std::span<const std::byte> records) {
    if (records.empty()) {
        return {};
    }
    // Before a file passes its share, not after: by a batch too much in each, all together would pass the limit.
    if (!fd_.valid() ||
        (files_.back().bytes > sizeof(LogHeader) && files_.back().bytes + records.size() > file_limit_bytes_)) {
        if (Status status = roll(records.size()); !status) {
            return status;
        }
    }
    if (Status status = write_all(fd_.get(), records.data(), records.size(), directory_ + "/" + files_.back().name);
        !status) {
        // A full disk may have taken half a record. What follows goes to a new file, so that it stays readable.
        fd_.reset();
        return status;
    }
    files_.back().bytes += records.size();
    return {};
}

Result<LogReadResult> read_sample_log(const std::string& directory, const App& app, const LogSink& sink,
                                      const SampleLog::Position* until, size_t newest_files) {
    Result<std::vector<std::string>> names = list_directory(directory, kSuffix);
    if (!names) {
        return names.error();
    }
    LogReadResult result;
    const size_t skip = names->size() > newest_files ? names->size() - newest_files : 0;
    std::vector<std::byte> chunk(app.record_bytes() * 8192);
    for (size_t i = skip; i < names->size(); i++) {
        const std::string& name = (*names)[i];
        if (until != nullptr && name > until->file) {
            break;
        }
        const std::string path = directory + "/" + name;
        UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
        if (!fd.valid()) {
            if (errno == ENOENT) {
                continue;  // rolled away meanwhile
            }
            result.unreadable.push_back(errno_text(path));
            continue;
        }
        LogHeader header{};
        const ssize_t got = read(fd.get(), &header, sizeof(header));
        if (got >= 0 && got < static_cast<ssize_t>(sizeof(header))) {
            result.truncated_bytes += static_cast<uint64_t>(got);  // killed while the file was begun
            continue;
        }
        if (got < 0 || memcmp(header.magic, kMagic, sizeof(kMagic)) != 0 || header.header_bytes != sizeof(header)) {
            result.unreadable.push_back(path + ": not a sample log of this version");
            continue;
        }
        header.app[sizeof(header.app) - 1] = 0;
        header.boot_id[sizeof(header.boot_id) - 1] = 0;
        if (app.name() != header.app || header.schema != app.schema() || header.record_bytes != app.record_bytes()) {
            result.unreadable.push_back(fmt::format(
                "{}: holds records of app {} schema {} ({} bytes each), not of app {} schema {} ({})", path, header.app,
                header.schema, header.record_bytes, app.name(), app.schema(), app.record_bytes()));
            continue;
        }
        result.files++;
        uint64_t left = until != nullptr && name == until->file
                            ? until->bytes - std::min<uint64_t>(until->bytes, sizeof(header))
                            : UINT64_MAX;
        size_t have = 0;
        while (true) {
            const size_t want = static_cast<size_t>(std::min<uint64_t>(chunk.size() - have, left));
            const ssize_t part = want == 0 ? 0 : read(fd.get(), chunk.data() + have, want);
            if (part < 0 && errno == EINTR) {
                continue;
            }
            if (part < 0) {
                return Error{errno_text(path)};
            }
            have += static_cast<size_t>(part);
            left -= static_cast<uint64_t>(part);
            const size_t whole = have / app.record_bytes() * app.record_bytes();
            if (whole > 0 && (part == 0 || have == chunk.size())) {
                result.records += whole / app.record_bytes();
                if (!sink({chunk.data(), whole}, header.boot_id)) {
                    return result;
                }
                memmove(chunk.data(), chunk.data() + whole, have - whole);
                have -= whole;
            }
            if (part == 0) {
                break;
            }
        }
        result.truncated_bytes += have;
    }
    return result;
}

}  // namespace adapath
