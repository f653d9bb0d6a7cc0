// See daemon_side.h.
#include "userspace/harness/daemon_side.h"

#include <fmt/format.h>
#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <random>
#include <utility>

#include "userspace/harness/child.h"

namespace adapath {

std::string unique_cc_name(const std::string& prefix) {
    static constexpr char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
    std::random_device random;
    std::string name = prefix;
    for (int i = 0; i < 8; i++) {
        name += letters[random() % (sizeof(letters) - 1)];
    }
    return name;
}

Result<ShortDirectory> ShortDirectory::create() {
    std::string path = (std::filesystem::temp_directory_path() / "adapath-XXXXXX").string();
    if (mkdtemp(path.data()) == nullptr) {
        return Error{fmt::format("{}: can't make a directory for the socket: {}", path, strerror(errno))};
    }
    ShortDirectory directory;
    directory.path_ = path;
    return directory;
}

ShortDirectory::ShortDirectory(ShortDirectory&& other) noexcept : path_(std::exchange(other.path_, {})) {}

ShortDirectory::~ShortDirectory() {
    if (!path_.empty()) {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
}

DaemonKernelSide::DaemonKernelSide(std::string daemon, std::string backend, std::string pin_directory, std::string log)
    : daemon_(std::move(daemon)), backend_(std::move(backend)), pins_(std::move(pin_directory)), log_(std::move(log)) {}

DaemonKernelSide::~DaemonKernelSide() {
    const Status removed = remove();
    if (!removed) {
        fmt::print(stderr, "{}\n", removed.error().message);
    }
}

Status DaemonKernelSide::remove() {
    if (gone_ || (backend_ == "bpf" && access(pins_.c_str(), F_OK) != 0)) {
        return {};
    }
    gone_ = true;
    auto done = run_program({.name = "adapathd --remove",
                             .argv = {daemon_, "--remove", "--backend", backend_, "--pin-dir", pins_},
                             .log = log_},
                            std::chrono::seconds(20));
    if (!done) {
        return Error{fmt::format("can't remove the kernel side of the {} backend: {}", backend_, done.error().message)};
    }
    return {};
}

}  // namespace adapath
