// See lock.h.
#include "userspace/adapathd/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <cstdlib>

#include "userspace/common/file.h"

namespace adapath {

Result<StateLock> StateLock::take(const std::string& state_directory) {
    const std::string path = state_directory + "/lock";
    UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    if (!fd.valid()) {
        return Error{errno_text(path)};
    }
    if (flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK) {
            return Error{errno_text(path + ": flock")};
        }
        const Result<std::string> holder = read_file(path);
        const int pid = holder ? atoi(holder->c_str()) : 0;
        return Error{fmt::format(
            "another adapathd (pid {}) already runs on {}: stop it first, or give this one a --state-dir of its own",
            pid, state_directory)};
    }
    const std::string pid = fmt::format("{}\n", getpid());
    if (ftruncate(fd.get(), 0) != 0) {
        return Error{errno_text(path)};
    }
    if (Status status = write_all(fd.get(), pid.data(), pid.size(), path); !status) {
        return status.error();
    }
    return StateLock(std::move(fd));
}

}  // namespace adapath
