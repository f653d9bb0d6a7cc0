// Snapshots on disk, and which generation was which: <state_dir>/snapshots/<hash>.snap and <state_dir>/generations.
//
// A generation is in the journal, synced, before its snapshot is put into a slot. So whatever a kill -9 cuts off, each
// sample of the log finds the snapshot that made it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "codegen/codegen.h"
#include "codegen/result.h"
#include "userspace/common/unique_fd.h"

namespace adapath {

class SnapshotStore {
public:
    // read_only: for looking into another daemon's state; nothing is created, cut off or written.
    static Result<SnapshotStore> open(const std::string& state_directory, bool read_only = false);

    // Writes the file durably (once per hash).
    Status put(const std::string& hash, std::string_view bytes);
    // Takes the next generation number for this hash: appended and synced before it returns.
    Result<uint32_t> begin_generation(const std::string& hash);
    // Numbers go on after this one, which is in a slot though perhaps not in the journal.
    void continue_after(uint32_t generation) { next_ = std::max(next_, generation + 1); }
    // Remembers (across restarts) why a snapshot was rolled back, and until when the trainer may not install it again.
    Status mark_bad(const std::string& hash, int64_t until_unix_s, const std::string& why);

    // How far a generation has proved itself, across restarts. Not synced: a kill of the daemon does not lose it, and
    // after a power cut the kernel side that it is about is gone too.
    enum class Standing : uint8_t { unknown, on_trial, ended, watched, trusted };
    Status mark(uint32_t generation, Standing standing, uint32_t before);
    struct Mark {
        Standing standing = Standing::unknown;
        uint32_t before = 0;  // the generation that it is held against; 0 = the fallback
    };
    [[nodiscard]] Mark mark_of(uint32_t generation) const;

    [[nodiscard]] std::string hash_of(uint32_t generation) const;                // empty = unknown
    [[nodiscard]] uint32_t newest_generation_of(const std::string& hash) const;  // 0 = none
    [[nodiscard]] const std::map<uint32_t, std::string>& generations() const { return generations_; }
    struct Bad {
        int64_t until_unix_s = 0;
        std::string why;
    };
    [[nodiscard]] const Bad* bad(const std::string& hash) const;
    // Hashes with a file, sorted.
    [[nodiscard]] Result<std::vector<std::string>> hashes() const;
    // The one hash that begins with the prefix; the error says whether none or several do.
    [[nodiscard]] Result<std::string> find(const std::string& prefix) const;
    [[nodiscard]] Result<std::string> bytes(const std::string& hash) const;
    [[nodiscard]] Result<Snapshot> load(const std::string& hash) const;
    [[nodiscard]] std::string path(const std::string& hash) const;
    // Removes the files that were installed longest ago until the rest is within the limit; never those in `keep`.
    Status trim(uint64_t limit_bytes, const std::set<std::string>& keep);

private:
    SnapshotStore() = default;
    Status append(const std::string& line, bool sync = true);
    void apply(const std::string& line);

    std::string directory_;
    std::string journal_path_;
    UniqueFd journal_;
    std::map<uint32_t, std::string> generations_;
    uint32_t next_ = 1;
    std::unordered_map<std::string, uint32_t> newest_;
    std::unordered_map<std::string, Bad> bad_;
    std::unordered_map<uint32_t, Mark> marks_;
};

}  // namespace adapath
