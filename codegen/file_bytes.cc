// Whole files; see file_bytes.h.
#include "codegen/file_bytes.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fmt/format.h>

namespace adapath {

namespace {

class Fd {
public:
    explicit Fd(int fd) : fd_(fd) {}
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd() { close_now(); }

    [[nodiscard]] int get() const { return fd_; }
    bool close_now() {
        const bool closed = fd_ < 0 || ::close(fd_) == 0;
        fd_ = -1;
        return closed;
    }

private:
    int fd_;
};

// Removes the temporary file unless it has become the real one.
class Unlinker {
public:
    explicit Unlinker(std::string path) : path_(std::move(path)) {}
    Unlinker(const Unlinker&) = delete;
    Unlinker& operator=(const Unlinker&) = delete;
    ~Unlinker() {
        if (!path_.empty()) {
            ::unlink(path_.c_str());
        }
    }
    void keep() { path_.clear(); }

private:
    std::string path_;
};

Error system_error(const std::string& path, const char* action) {
    return Error{fmt::format("{}: can't {}: {}", path, action, std::strerror(errno))};
}

}  // namespace

std::string file_header(std::string_view magic, uint32_t version) {
    std::string header(magic);
    for (int i = 0; i < 4; ++i) {
        header.push_back(static_cast<char>(version >> (8 * i)));
    }
    return header;
}

Result<std::string_view> strip_header(std::string_view bytes, std::string_view magic, uint32_t version,
                                      std::string_view what, std::string_view name) {
    if (bytes.substr(0, magic.size()) != magic) {
        if (bytes.size() < magic.size() && magic.substr(0, bytes.size()) == bytes) {
            return Error{fmt::format("{}: truncated: {} bytes are not even a header", name, bytes.size())};
        }
        std::string start;
        for (const char c : bytes.substr(0, magic.size())) {
            start += fmt::format("{:02x}", static_cast<unsigned char>(c));
        }
        return Error{fmt::format("{}: not {} (magic {}, expected \"{}\")", name, what, start, magic)};
    }
    if (bytes.size() < kFileHeaderBytes) {
        return Error{fmt::format("{}: truncated: {} bytes are not even a header", name, bytes.size())};
    }
    uint32_t found = 0;
    for (int i = 0; i < 4; ++i) {
        found |= uint32_t{static_cast<unsigned char>(bytes[magic.size() + static_cast<size_t>(i)])} << (8 * i);
    }
    if (found > version) {
        return Error{
            fmt::format("{}: format {} is newer than this program's {}: upgrade adapath", name, found, version)};
    }
    if (found != version) {
        return Error{fmt::format("{}: format {} is not one that this program reads ({})", name, found, version)};
    }
    return bytes.substr(kFileHeaderBytes);
}

Result<std::string> read_file(const std::string& path, size_t limit) {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0) {
        return system_error(path, "open");
    }
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0) {
        return system_error(path, "stat");
    }
    if (!S_ISREG(info.st_mode)) {
        return Error{fmt::format("{}: not a regular file", path)};
    }
    std::string bytes;
    char buffer[64 * 1024];
    for (;;) {
        const ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return system_error(path, "read");
        }
        if (n == 0) {
            return bytes;
        }
        bytes.append(buffer, static_cast<size_t>(n));
        if (bytes.size() > limit) {
            return Error{fmt::format("{}: over {} bytes, no such file of Adapath's is that large", path, limit)};
        }
    }
}

Status write_file(const std::string& path, std::string_view bytes) {
    std::string temporary = path + ".XXXXXX";
    Fd fd(::mkostemp(temporary.data(), O_CLOEXEC));
    if (fd.get() < 0) {
        return system_error(temporary, "create");
    }
    Unlinker unlinker(temporary);
    // mkostemp makes files that only their owner reads; these are no secrets and the daemon may run as another user.
    if (::fchmod(fd.get(), 0644) != 0) {
        return system_error(temporary, "set the mode of");
    }
    while (!bytes.empty()) {
        const ssize_t n = ::write(fd.get(), bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return system_error(temporary, "write");
        }
        bytes.remove_prefix(static_cast<size_t>(n));
    }
    if (::fsync(fd.get()) != 0 || !fd.close_now()) {
        return system_error(temporary, "write");
    }
    if (::rename(temporary.c_str(), path.c_str()) != 0) {
        return system_error(path, "replace");
    }
    unlinker.keep();
    return {};
}

}  // namespace adapath
