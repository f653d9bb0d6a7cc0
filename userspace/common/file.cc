// See file.h.
#include "userspace/common/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "userspace/common/unique_fd.h"

namespace adapath {

std::string errno_text(std::string_view message) {
    const int saved = errno;
    return std::string(message) + ": " + strerror(saved);
}

Result<std::string> read_file(const std::string& path) {
    UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd.valid()) {
        return Error{errno_text(path)};
    }
    std::string content;
    char buffer[65536];
    while (true) {
        const ssize_t got = read(fd.get(), buffer, sizeof(buffer));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return Error{errno_text(path)};
        }
        if (got == 0) {
            return content;
        }
        content.append(buffer, static_cast<size_t>(got));
    }
}

Status write_all(int fd, const void* data, size_t bytes, const std::string& name_for_errors) {
    const char* next = static_cast<const char*>(data);
    while (bytes > 0) {
        const ssize_t put = write(fd, next, bytes);
        if (put < 0 && errno == EINTR) {
            continue;
        }
        if (put < 0) {
            return Error{errno_text(name_for_errors + ": write")};
        }
        next += put;
        bytes -= static_cast<size_t>(put);
    }
    return {};
}

Status sync_directory(const std::string& path) {
    UniqueFd fd(open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!fd.valid() || fsync(fd.get()) != 0) {
        return Error{errno_text(path + ": fsync")};
    }
    return {};
}

Status write_file_durably(const std::string& path, std::string_view content) {
    const std::string temporary = path + ".tmp";
    UniqueFd fd(open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!fd.valid()) {
        return Error{errno_text(temporary)};
    }
    if (Status status = write_all(fd.get(), content.data(), content.size(), temporary); !status) {
        unlink(temporary.c_str());
        return status;
    }
    if (fsync(fd.get()) != 0 || rename(temporary.c_str(), path.c_str()) != 0) {
        Error error{errno_text(path)};
        unlink(temporary.c_str());
        return error;
    }
    const size_t slash = path.rfind('/');
    return sync_directory(slash == std::string::npos ? "." : path.substr(0, slash + 1));
}

Status make_directories(const std::string& path, unsigned mode) {
    for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
        const std::string part = path.substr(0, end);
        if (mkdir(part.c_str(), mode) != 0 && errno != EEXIST) {
            return Error{errno_text("cannot create directory " + part)};
        }
        if (end == std::string::npos) {
            break;
        }
    }
    struct stat info{};
    if (stat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) {
        return Error{path + ": is not a directory"};
    }
    return {};
}

Result<std::vector<std::string>> list_directory(const std::string& path, std::string_view suffix) {
    std::unique_ptr<DIR, int (*)(DIR*)> directory(opendir(path.c_str()), closedir);
    if (!directory) {
        return Error{errno_text(path)};
    }
    std::vector<std::string> names;
    while (const dirent* entry = readdir(directory.get())) {
        const std::string_view name = entry->d_name;
        if (name.size() > suffix.size() && name.ends_with(suffix)) {
            names.emplace_back(name);
        }
    }
    std::sort(names.begin(), names.end());
    return names;
}

std::string boot_id() {
    Result<std::string> text = read_file("/proc/sys/kernel/random/boot_id");
    if (!text || text->size() < 36) {
        return std::string(36, '0');  // no /proc: every run counts as the same boot
    }
    return text->substr(0, 36);
}

std::string fetched_file(const std::string& name) {
    const char* cache = getenv("ADAPATH_CACHE");
    return std::string(cache != nullptr ? cache : "out/cache") + "/" + name;
}

std::string own_directory() {
    char path[PATH_MAX];
    const ssize_t size = readlink("/proc/self/exe", path, sizeof(path) - 1);
    return size > 0 ? std::filesystem::path(std::string(path, static_cast<size_t>(size))).parent_path().string() : ".";
}

}  // namespace adapath
