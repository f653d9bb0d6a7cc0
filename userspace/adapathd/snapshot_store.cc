// See snapshot_store.h. The journal is text, a line an entry, so that a person can read it:
//   generation <number> <hash> <unix seconds>
//   bad <hash> <until, unix seconds> <why>
//   trial|ended|watched|trusted <number> <the generation that it is held against>
#include "userspace/adapathd/snapshot_store.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <sstream>

#include "userspace/common/clock.h"
#include "userspace/common/file.h"
#include "userspace/common/text.h"

namespace adapath {
namespace {

constexpr std::array<std::pair<const char*, SnapshotStore::Standing>, 4> kStandings = {{
    {"trial", SnapshotStore::Standing::on_trial},
    {"ended", SnapshotStore::Standing::ended},
    {"watched", SnapshotStore::Standing::watched},
    {"trusted", SnapshotStore::Standing::trusted},
}};

}  // namespace

Result<SnapshotStore> SnapshotStore::open(const std::string& state_directory, bool read_only) {
    SnapshotStore store;
    store.directory_ = state_directory + "/snapshots";
    store.journal_path_ = state_directory + "/generations";
    if (!read_only) {
        if (Status status = make_directories(store.directory_); !status) {
            return status.error();
        }
        store.journal_.reset(::open(store.journal_path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
        if (!store.journal_.valid()) {
            return Error{errno_text(store.journal_path_)};
        }
        if (Status status = sync_directory(state_directory); !status) {
            return status.error();
        }
    }
    Result<std::string> text = read_file(store.journal_path_);
    if (!text) {
        return Error{text.error().message + " (is this a state directory of adapathd?)"};
    }
    // A line without its end was cut off by a crash, before anything could come of it.
    const size_t whole = text->rfind('\n') == std::string::npos ? 0 : text->rfind('\n') + 1;
    if (whole < text->size() && !read_only) {
        spdlog::warn("{}: dropping an entry that was cut off ({} bytes)", store.journal_path_, text->size() - whole);
        if (ftruncate(store.journal_.get(), static_cast<off_t>(whole)) != 0 || fsync(store.journal_.get()) != 0) {
            return Error{errno_text(store.journal_path_)};
        }
    }
    std::istringstream lines(text->substr(0, whole));
    for (std::string line; std::getline(lines, line);) {
        store.apply(line);
    }
    return store;
}

void SnapshotStore::apply(const std::string& line) {
    std::istringstream words(line);
    std::string kind;
    std::string hash;
    words >> kind;
    if (kind == "generation") {
        uint32_t number = 0;
        if (words >> number >> hash && number != 0 && hash.size() == 64 && is_hex(hash)) {
            generations_[number] = hash;
            next_ = std::max(next_, number + 1);
            newest_[hash] = std::max(newest_[hash], number);
            return;
        }
    } else if (kind == "bad") {
        Bad bad;
        if (words >> hash >> bad.until_unix_s && hash.size() == 64 && is_hex(hash)) {
            std::getline(words >> std::ws, bad.why);
            bad_[hash] = bad;
            return;
        }
    }
    for (const auto& [word, standing] : kStandings) {
        uint32_t number = 0;
        Mark mark{standing, 0};
        if (kind == word && words >> number >> mark.before) {
            marks_[number] = mark;
            return;
        }
    }
    spdlog::warn("{}: ignoring the line '{}'", journal_path_, line);
}

Status SnapshotStore::mark(uint32_t generation, Standing standing, uint32_t before) {
    for (const auto& [word, known] : kStandings) {
        if (known == standing) {
            return append(fmt::format("{} {} {}", word, generation, before), false);
        }
    }
    return {};
}

SnapshotStore::Mark SnapshotStore::mark_of(uint32_t generation) const {
    const auto found = marks_.find(generation);
    return found == marks_.end() ? Mark{} : found->second;
}

Status SnapshotStore::append(const std::string& line, bool sync) {
    if (!journal_.valid()) {
        return Error{journal_path_ + ": opened for reading only"};
    }
    const std::string text = line + "\n";
    if (Status status = write_all(journal_.get(), text.data(), text.size(), journal_path_); !status) {
        return status;
    }
    if (sync && fdatasync(journal_.get()) != 0) {
        return Error{errno_text(journal_path_ + ": fsync")};
    }
    apply(line);
    return {};
}

std::string SnapshotStore::path(const std::string& hash) const { return directory_ + "/" + hash + ".snap"; }

Status SnapshotStore::put(const std::string& hash, std::string_view bytes) {
    struct stat info{};
    if (stat(path(hash).c_str(), &info) == 0 && static_cast<size_t>(info.st_size) == bytes.size()) {
        return {};
    }
    return write_file_durably(path(hash), bytes);
}

Result<uint32_t> SnapshotStore::begin_generation(const std::string& hash) {
    const uint32_t number = next_;
    if (Status status = append(fmt::format("generation {} {} {}", number, hash, unix_us() / 1000000)); !status) {
        return status.error();
    }
    return number;
}

Status SnapshotStore::mark_bad(const std::string& hash, int64_t until_unix_s, const std::string& why) {
    std::string one_line = why;
    std::replace(one_line.begin(), one_line.end(), '\n', ' ');
    return append(fmt::format("bad {} {} {}", hash, until_unix_s, one_line));
}

std::string SnapshotStore::hash_of(uint32_t generation) const {
    auto found = generations_.find(generation);
    return found == generations_.end() ? std::string() : found->second;
}

uint32_t SnapshotStore::newest_generation_of(const std::string& hash) const {
    auto found = newest_.find(hash);
    return found == newest_.end() ? 0 : found->second;
}

const SnapshotStore::Bad* SnapshotStore::bad(const std::string& hash) const {
    auto found = bad_.find(hash);
    return found == bad_.end() ? nullptr : &found->second;
}

Result<std::vector<std::string>> SnapshotStore::hashes() const {
    Result<std::vector<std::string>> names = list_directory(directory_, ".snap");
    if (!names) {
        return names;
    }
    for (std::string& name : *names) {
        name.resize(name.size() - 5);
    }
    return names;
}

Result<std::string> SnapshotStore::find(const std::string& prefix) const {
    if (!is_hex(prefix)) {
        return Error{"'" + prefix + "' is no hash: give its first hex digits, as adapathctl snapshots prints them"};
    }
    Result<std::vector<std::string>> all = hashes();
    if (!all) {
        return all.error();
    }
    std::string match;
    for (const std::string& hash : *all) {
        if (hash.starts_with(prefix)) {
            if (!match.empty()) {
                return Error{"'" + prefix + "' fits several snapshots: give more digits"};
            }
            match = hash;
        }
    }
    if (match.empty()) {
        return Error{"no snapshot begins with '" + prefix + "': see adapathctl snapshots"};
    }
    return match;
}

Result<std::string> SnapshotStore::bytes(const std::string& hash) const { return read_file(path(hash)); }

Result<Snapshot> SnapshotStore::load(const std::string& hash) const {
    Result<std::string> content = bytes(hash);
    if (!content) {
        return content.error();
    }
    Result<Snapshot> snapshot = parse_snapshot(*content, path(hash));
    if (snapshot && snapshot->hash != hash) {
        return Error{path(hash) + ": holds snapshot " + snapshot->hash + ", not the one it is named for"};
    }
    return snapshot;
}

Status SnapshotStore::trim(uint64_t limit_bytes, const std::set<std::string>& keep) {
    Result<std::vector<std::string>> all = hashes();
    if (!all) {
        return all.error();
    }
    struct Entry {
        uint32_t generation;
        std::string hash;
        uint64_t bytes;
    };
    std::vector<Entry> entries;
    uint64_t total = 0;
    for (const std::string& hash : *all) {
        struct stat info{};
        if (stat(path(hash).c_str(), &info) == 0) {
            entries.push_back({newest_generation_of(hash), hash, static_cast<uint64_t>(info.st_size)});
            total += entries.back().bytes;
        }
    }
    std::sort(entries.begin(), entries.end(),
              [](const Entry& a, const Entry& b) { return a.generation < b.generation; });
    for (const Entry& entry : entries) {
        if (total <= limit_bytes) {
            break;
        }
        if (!keep.contains(entry.hash)) {
            if (unlink(path(entry.hash).c_str()) != 0) {
                return Error{errno_text(path(entry.hash))};
            }
            total -= entry.bytes;
        }
    }
    return {};
}

}  // namespace adapath
