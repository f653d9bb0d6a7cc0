// See host_memory.h.
#include "userspace/host/host_memory.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <string.h>
#include <sys/stat.h>

#include "userspace/common/file.h"
#include "userspace/host/atomics.h"

namespace adapath {
namespace {

constexpr char kMagic[] = "ADAPHOST";
static_assert(ADP_HOST_SHARED_AT % 4096 == 0, "the two mappings begin at pages");

adp_host_head head_for(const HostApp& app) {
    adp_host_head head{};
    memcpy(head.magic, kMagic, sizeof(head.magic));
    head.version = ADP_HOST_VERSION;
    head.abi_version = ADP_ABI_VERSION;
    head.bytes = ADP_HOST_FILE_BYTES(app.record_bytes);
    head.record_bytes = app.record_bytes;
    head.schema = app.schema;
    memcpy(head.app, app.name.data(), std::min(app.name.size(), sizeof(head.app)));
    head.control.active = ADP_SLOT_NONE;
    head.control.canary = ADP_SLOT_NONE;
    head.control.abi_version = ADP_ABI_VERSION;
    head.control.schema = app.schema;
    return head;
}

// What a file's head says against what this program means by it.
Status check_head(const adp_host_head& head, const HostApp& app, uint64_t file_bytes, const std::string& path) {
    const std::string fix =
        "stop its encoders and adapathd, run adapathd --remove with its configuration, and start again with programs "
        "of one version";
    if (memcmp(head.magic, kMagic, sizeof(head.magic)) != 0) {
        return Error{fmt::format("{}: not a shared memory file of Adapath: {}", path, fix)};
    }
    if (head.version != ADP_HOST_VERSION || head.abi_version != ADP_ABI_VERSION) {
        return Error{fmt::format("{}: of version {} with ABI {}, this program has version {} with ABI {}: {}", path,
                                 head.version, head.abi_version, ADP_HOST_VERSION, ADP_ABI_VERSION, fix)};
    }
    const adp_host_head expected = head_for(app);
    if (memcmp(head.app, expected.app, sizeof(head.app)) != 0) {
        return Error{fmt::format("{}: of app '{}', not '{}': give each app a directory of its own", path,
                                 std::string(reinterpret_cast<const char*>(head.app),
                                             strnlen(reinterpret_cast<const char*>(head.app), sizeof(head.app))),
                                 app.name)};
    }
    if (head.schema != app.schema || head.record_bytes != app.record_bytes) {
        return Error{fmt::format("{}: of schema {} with records of {} bytes, this program has {} and {}: {}", path,
                                 head.schema, head.record_bytes, app.schema, app.record_bytes, fix)};
    }
    if (head.bytes != expected.bytes || file_bytes != expected.bytes) {
        return Error{fmt::format("{}: {} bytes, of which it says {}; it has to have {}: {}", path, file_bytes,
                                 head.bytes, expected.bytes, fix)};
    }
    return {};
}

// On the disk (or in a tmpfs's memory) now, or an error now: what is not there when it is touched ends the process.
Status reserve(const UniqueFd& fd, uint64_t from, uint64_t bytes, const std::string& path) {
    const int error = posix_fallocate(fd.get(), static_cast<off_t>(from), static_cast<off_t>(bytes));
    if (error != 0) {
        return Error{fmt::format("{}: no room for {} KiB more: {}", path, bytes / 1024, strerror(error))};
    }
    return {};
}

}  // namespace

std::string HostMemory::path_in(const std::string& directory) { return directory + "/shared"; }

Status HostMemory::create(const std::string& directory, const HostApp& app, const std::string& group) {
    const std::string path = path_in(directory);
    const std::string temporary = fmt::format("{}.{}", path, getpid());
    UniqueFd fd(::open(temporary.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd.valid()) {
        return Error{errno_text(temporary)};
    }
    const adp_host_head head = head_for(app);
    Status status = write_all(fd.get(), &head, sizeof(head), temporary);
    if (status && ftruncate(fd.get(), static_cast<off_t>(head.bytes)) != 0) {
        status = Error{errno_text(temporary)};
    }
    // Rings come with their readers: most never have one.
    if (status) {
        status = reserve(fd, 0, ADP_HOST_RINGS_AT, path);
    }
    if (const struct group* entry = getgrnam(group.c_str()); status && entry != nullptr) {
        // Where that is not allowed, only this user's encoders may use it; those of others are told so by open().
        (void)!fchown(fd.get(), static_cast<uid_t>(-1), entry->gr_gid);
    }
    if (status && fchmod(fd.get(), 0660) != 0) {
        status = Error{errno_text(temporary)};
    }
    // Not over a file that somebody else has made meanwhile.
    if (status && link(temporary.c_str(), path.c_str()) != 0 && errno != EEXIST) {
        status = Error{errno_text(path)};
    }
    (void)unlink(temporary.c_str());
    return status;
}

Result<std::unique_ptr<HostMemory>> HostMemory::open(const std::string& directory, const HostApp& app, bool writable,
                                                     bool* missing) {
    std::unique_ptr<HostMemory> memory(new HostMemory);
    memory->path_ = path_in(directory);
    memory->record_bytes_ = app.record_bytes;
    memory->fd_.reset(::open(memory->path_.c_str(), O_RDWR | O_CLOEXEC));
    if (!memory->fd_.valid()) {
        if (missing != nullptr) {
            *missing = errno == ENOENT;
        }
        const char* hint = errno == EACCES   ? ": be a member of the group that adapathd's socket_group names"
                           : errno == ENOENT ? ": no adapathd with backend host has run on this directory yet"
                                             : "";
        return Error{errno_text(memory->path_) + hint};
    }
    struct stat info{};
    if (fstat(memory->fd_.get(), &info) != 0) {
        return Error{errno_text(memory->path_)};
    }
    adp_host_head head{};
    const ssize_t got = pread(memory->fd_.get(), &head, sizeof(head), 0);
    if (got < 0) {
        return Error{errno_text(memory->path_)};
    }
    // Before it is mapped: past the end of a short file there is only SIGBUS.
    if (Status status = check_head(head, app, static_cast<uint64_t>(info.st_size), memory->path_); !status) {
        return status.error();
    }
    void* fixed = mmap(nullptr, ADP_HOST_SHARED_AT, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED,
                       memory->fd_.get(), 0);
    if (fixed == MAP_FAILED) {
        return Error{errno_text(memory->path_ + ": mmap")};
    }
    memory->fixed_ = Mapping(fixed, ADP_HOST_SHARED_AT);
    const size_t rest = head.bytes - ADP_HOST_SHARED_AT;
    void* shared = mmap(nullptr, rest, PROT_READ | PROT_WRITE, MAP_SHARED, memory->fd_.get(),
                        static_cast<off_t>(ADP_HOST_SHARED_AT));
    if (shared == MAP_FAILED) {
        return Error{errno_text(memory->path_ + ": mmap")};
    }
    memory->shared_ = Mapping(shared, rest);
    return memory;
}

bool HostMemory::replaced() const {
    struct stat named{};
    struct stat mapped{};
    return fstat(fd_.get(), &mapped) != 0 || stat(path_.c_str(), &named) != 0 || named.st_ino != mapped.st_ino ||
           named.st_dev != mapped.st_dev;
}

const adp_host_slot& HostMemory::slot(uint32_t i) const {
    return reinterpret_cast<const adp_host_slot*>(fixed_.as<std::byte>() + sizeof(adp_host_head))[i];
}

adp_host_slot& HostMemory::slot_to_write(uint32_t i) {
    return reinterpret_cast<adp_host_slot*>(fixed_.as<std::byte>() + sizeof(adp_host_head))[i];
}

adp_host_reader& HostMemory::reader(uint32_t i) {
    return reinterpret_cast<adp_host_reader*>(shared_.as<std::byte>() + sizeof(adp_host_shared))[i];
}

const adp_host_reader& HostMemory::reader(uint32_t i) const {
    return reinterpret_cast<const adp_host_reader*>(shared_.as<std::byte>() + sizeof(adp_host_shared))[i];
}

Status HostMemory::reserve_ring(uint32_t reader) {
    const uint64_t bytes = uint64_t{ADP_HOST_RING} * record_bytes_;
    return reserve(fd_, ADP_HOST_RINGS_AT + reader * bytes, bytes, path_);
}

std::byte* HostMemory::record(uint32_t reader, uint64_t number) {
    const size_t index = size_t{reader} * ADP_HOST_RING + number % ADP_HOST_RING;
    return shared_.as<std::byte>() + (ADP_HOST_RINGS_AT - ADP_HOST_SHARED_AT) + index * record_bytes_;
}

Result<bool> HostMemory::lock(uint32_t byte) {
    struct flock lock{};
    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    if (fcntl(fd_.get(), F_OFD_SETLK, &lock) == 0) {
        return true;
    }
    if (errno == EAGAIN || errno == EACCES) {
        return false;
    }
    return Error{errno_text(path_ + ": lock")};
}

void HostMemory::unlock(uint32_t byte) {
    struct flock lock{};
    lock.l_type = F_UNLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    (void)fcntl(fd_.get(), F_OFD_SETLK, &lock);
}

bool HostMemory::clear_dead(uint32_t reader) {
    adp_host_reader& entry = this->reader(reader);
    if (load_relaxed(entry.live) == 0) {
        return false;
    }
    // What it held it can't read any more: the kernel let go of the lock after its memory.
    store_release(entry.held, 0U);
    count(entry.died);
    count(entry.closed);
    store_release(entry.live, 0U);
    return true;
}

}  // namespace adapath
