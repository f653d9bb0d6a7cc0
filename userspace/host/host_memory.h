// The shared memory file of backend `host` (include/adapath/host.h), mapped and checked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include <adapath/host.h>

#include "codegen/result.h"
#include "userspace/common/mapping.h"
#include "userspace/common/unique_fd.h"

namespace adapath {

// Which app's snapshots and samples a file is for: both sides have to mean the same.
struct HostApp {
    std::string name;
    uint32_t schema = 0;
    uint32_t record_bytes = 0;
};

class HostMemory {
public:
    // "DIRECTORY/shared"
    static std::string path_in(const std::string& directory);
    // Makes an empty file (nothing active, no reader), whole before it has its name. `group` may use it too (0660),
    // where there is such a group.
    static Status create(const std::string& directory, const HostApp& app, const std::string& group);
    // The error says what is wrong with the file. `writable`: all of it; else only what readers write. `missing` is set
    // where there is no file.
    static Result<std::unique_ptr<HostMemory>> open(const std::string& directory, const HostApp& app, bool writable,
                                                    bool* missing = nullptr);

    [[nodiscard]] const std::string& path() const { return path_; }
    // Is the file that has the name now another one, or gone?
    [[nodiscard]] bool replaced() const;

    [[nodiscard]] const adp_control& control() const { return fixed_.as<adp_host_head>()->control; }
    [[nodiscard]] const adp_host_slot& slot(uint32_t i) const;
    // Only of memory that was opened writable.
    [[nodiscard]] adp_control& control_to_write() { return fixed_.as<adp_host_head>()->control; }
    [[nodiscard]] adp_host_slot& slot_to_write(uint32_t i);

    [[nodiscard]] adp_host_shared& shared() { return *shared_.as<adp_host_shared>(); }
    [[nodiscard]] adp_host_reader& reader(uint32_t i);
    [[nodiscard]] const adp_host_reader& reader(uint32_t i) const;
    // Room for the reader's ring: before its first record.
    Status reserve_ring(uint32_t reader);
    // Record `number` of a reader's ring, counted from the first that was ever put.
    [[nodiscard]] std::byte* record(uint32_t reader, uint64_t number);

    // Takes the byte's lock if nobody has it. False: somebody has.
    [[nodiscard]] Result<bool> lock(uint32_t byte);
    void unlock(uint32_t byte);
    [[nodiscard]] static uint32_t daemon_lock() { return ADP_HOST_LOCKS; }
    [[nodiscard]] static uint32_t reader_lock(uint32_t reader) { return ADP_HOST_LOCKS + 1 + reader; }
    // With its lock held: what a dead reader left in an entry is cleared away and counted. True: there was something.
    bool clear_dead(uint32_t reader);

private:
    HostMemory() = default;

    std::string path_;
    UniqueFd fd_;
    Mapping fixed_;   // head and slots
    Mapping shared_;  // from ADP_HOST_SHARED_AT on
    uint32_t record_bytes_ = 0;
};

}  // namespace adapath
