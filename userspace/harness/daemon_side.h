// What a program that runs an adapathd of its own needs around it: a name that meets nobody else's, a socket with a
// short path, and the removal of the kernel side, which outlives the daemon by design.
#pragma once

#include <string>

#include "codegen/result.h"

namespace adapath {

// `prefix` and 8 random characters: a congestion control's name has at most 15.
std::string unique_cc_name(const std::string& prefix);

// A directory with a short path, since a Unix socket's address has 108 bytes: the socket alone is in it.
class ShortDirectory {
public:
    static Result<ShortDirectory> create();
    ShortDirectory(ShortDirectory&& other) noexcept;
    ShortDirectory& operator=(ShortDirectory&&) = delete;
    ~ShortDirectory();
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    ShortDirectory() = default;
    std::string path_;
};

// Removes the kernel side with the object, which goes after the daemon.
class DaemonKernelSide {
public:
    // `daemon`: adapathd's path. `log`: file that its words go to.
    DaemonKernelSide(std::string daemon, std::string backend, std::string pin_directory, std::string log);
    DaemonKernelSide(const DaemonKernelSide&) = delete;
    DaemonKernelSide& operator=(const DaemonKernelSide&) = delete;
    ~DaemonKernelSide();
    Status remove();

private:
    std::string daemon_;
    std::string backend_;
    std::string pins_;
    std::string log_;
    bool gone_ = false;
};

}  // namespace adapath
