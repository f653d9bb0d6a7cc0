// The source tree of a generated kernel module: three files, and `make` with everything checked before it that make and
// modpost would only explain badly.
#include "codegen/module_tree.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include <fcntl.h>
#include <spawn.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>

#include "codegen/codegen.h"
#include "codegen/file_bytes.h"
#include "codegen/version.h"

extern char** environ;

namespace adapath {
namespace {

namespace fs = std::filesystem;

constexpr const char* kWithoutModule =
    "without a generated module the core's generic program serves, with the same bits but slower";

// Kbuild has no way to quote a path.
Status check_path(const std::string& what, const std::string& path) {
    for (char c : path) {
        if (c == ' ' || c == '\t' || c == '\n' || c == ':' || c == '$' || c == '#' || c == '\'' || c == '"' ||
            c == '\\') {
            return Error{fmt::format("{} {}: the kernel's build takes no path with '{}' in it: use another directory",
                                     what, path, c)};
        }
    }
    return {};
}

std::string makefile(const std::string& name) {
    return fmt::format(R"(# Builds {0}.ko, the program of one network for adapath.ko. Written by adapath-codegen.
#   make [KDIR=kernel's build directory] [ADAPATH=Adapath's sources] [SYMVERS=Module.symvers of adapath.ko's build]
#   make install     into /lib/modules/<release>/extra, with depmod
KDIR ?= /lib/modules/$(shell uname -r)/build
ADAPATH ?= {1}
# Which symbols adapath.ko exports, with their checksums.
SYMVERS ?= $(ADAPATH)/kmod/Module.symvers

kbuild = $(MAKE) -C '$(KDIR)' M='$(CURDIR)' ADAPATH='$(abspath $(ADAPATH))' KBUILD_EXTRA_SYMBOLS='$(abspath $(SYMVERS))'

.PHONY: all check install clean
all: check
	$(kbuild) modules

check:
	@[ -f '$(KDIR)/Makefile' ] || {{ echo "no kernel headers at $(KDIR): apt-get install linux-headers-$$(uname -r), or" \
		"KDIR=; {2}" >&2; exit 1; }}
	@[ -f '$(ADAPATH)/kmod/net_module.h' ] || {{ echo "no sources of Adapath at $(ADAPATH): give ADAPATH= the directory with" \
		"include/ and kmod/" >&2; exit 1; }}
	@[ -f '$(SYMVERS)' ] || {{ echo "no $(SYMVERS): build adapath.ko for this kernel first, or give SYMVERS= its" \
		"Module.symvers" >&2; exit 1; }}

install: all
	$(kbuild) INSTALL_MOD_DIR=extra modules_install

clean:
	$(kbuild) clean
)",
                       name, installed_sources(), kWithoutModule);
}

std::string kbuild_file(const std::string& name) {
    return fmt::format(R"(# Read by the kernel's build; see Makefile. Written by adapath-codegen.
obj-m := {0}.o
# u64 arithmetic only, so that it runs wherever the kernel does; net_module.h is kmod's, <adapath/...> the shared C.
ccflags-y := -I$(ADAPATH)/include -I$(ADAPATH)/kmod
)",
                       name);
}

std::string running_release() {
    struct utsname names{};
    return uname(&names) == 0 ? names.release : "unknown";
}

// Where a person looks first: the end of what make said.
std::string tail(const std::string& text, size_t bytes) {
    if (text.size() <= bytes) return text;
    size_t line = text.find('\n', text.size() - bytes);
    return "...\n" + text.substr(line == std::string::npos ? text.size() - bytes : line + 1);
}

class Fd {
public:
    explicit Fd(int fd) : fd_(fd) {}
    ~Fd() { close_now(); }
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    [[nodiscard]] int get() const { return fd_; }
    void close_now() {
        if (fd_ >= 0) close(fd_);
        fd_ = -1;
    }

private:
    int fd_;
};

// Runs a command with both its outputs in one string; an error where it can't run or fails.
Status run(const std::vector<std::string>& command) {
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return Error{fmt::format("pipe: {}", std::strerror(errno))};
    Fd reading(ends[0]);
    Fd writing(ends[1]);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, writing.get(), STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, writing.get(), STDERR_FILENO);
    std::vector<char*> argv;
    for (const std::string& word : command) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    // In this process group: Ctrl-C ends make and this program alike.
    pid_t child = -1;
    int failed = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    writing.close_now();

    std::string output;
    char buffer[4096];
    for (;;) {
        ssize_t n = read(reading.get(), buffer, sizeof(buffer));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        output.append(buffer, static_cast<size_t>(n));
    }
    if (failed != 0) {
        return Error{
            fmt::format("{}: {}; apt-get install make gcc, or build on another machine and copy the module; {}",
                        command[0], std::strerror(failed), kWithoutModule)};
    }
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) return Error{fmt::format("waiting for {}: {}", command[0], std::strerror(errno))};
    }
    if (status != 0) {
        std::string how = WIFEXITED(status) ? fmt::format("exit code {}", WEXITSTATUS(status))
                                            : fmt::format("signal {}", WTERMSIG(status));
        return Error{fmt::format("{} ({}):\n{}", fmt::join(command, " "), how, tail(output, 4000))};
    }
    return {};
}

std::string absolute(const std::string& path) {
    std::error_code ignored;
    fs::path whole = fs::absolute(path, ignored);
    return ignored ? path : whole.lexically_normal().string();
}

bool is_file(const std::string& path) {
    std::error_code ignored;
    return fs::is_regular_file(path, ignored);
}

}  // namespace

std::string installed_sources() { return fmt::format("/usr/src/adapath-{}", kVersion); }

Result<std::string> write_module_tree(const Network& network, const std::string& directory) {
    Result<std::string> source = emit_c(network, Target::kmod);
    if (!source) return source.error();
    if (Status status = check_path("directory", absolute(directory)); !status) return status.error();
    std::error_code error;
    fs::create_directories(directory, error);
    if (error) return Error{fmt::format("{}: can't be made: {}", directory, error.message())};

    std::string name = module_name(network);
    if (Status status = write_file(directory + "/" + name + ".c", *source); !status) return status.error();
    if (Status status = write_file(directory + "/Kbuild", kbuild_file(name)); !status) return status.error();
    if (Status status = write_file(directory + "/Makefile", makefile(name)); !status) return status.error();
    return name;
}

Result<BuiltModule> build_module(const std::string& directory, const std::string& name,
                                 const ModuleBuildOptions& options) {
    std::string kdir =
        options.kdir.empty() ? fmt::format("/lib/modules/{}/build", running_release()) : absolute(options.kdir);
    std::string sources = absolute(options.sources.empty() ? installed_sources() : options.sources);
    std::string symvers = options.symvers.empty() ? sources + "/kmod/Module.symvers" : absolute(options.symvers);
    for (const auto& [what, path] :
         {std::pair{"kernel headers", kdir}, {"sources", sources}, {"Module.symvers", symvers}}) {
        if (Status status = check_path(what, path); !status) return status.error();
    }

    if (!is_file(kdir + "/Makefile")) {
        // The package is named by the release: known where the path is the usual one, else only for the running kernel.
        std::string release =
            fs::path(kdir).filename() == "build" ? fs::path(kdir).parent_path().filename().string() : running_release();
        return Error{fmt::format(
            "no kernel headers at {}: apt-get install linux-headers-{}, or name the kernel's build directory with "
            "--kdir; {}",
            kdir, release, kWithoutModule)};
    }
    if (!is_file(sources + "/kmod/net_module.h") || !is_file(sources + "/include/adapath/layout.h")) {
        return Error{fmt::format(
            "no sources of Adapath at {}: name the directory with include/ and kmod/ with --sources", sources)};
    }
    if (!is_file(symvers)) {
        return Error{
            fmt::format("{}: not there: build adapath.ko for this kernel first (make -C {}/kmod KDIR={}), or name its "
                        "Module.symvers with --symvers",
                        symvers, sources, kdir)};
    }

    Status made = run(
        {"make", "--no-print-directory", "-C", directory, "KDIR=" + kdir, "ADAPATH=" + sources, "SYMVERS=" + symvers});
    if (!made) return made.error();

    BuiltModule built;
    built.path = fmt::format("{}/{}.ko", directory, name);
    if (!is_file(built.path))
        return Error{
            fmt::format("{}: make succeeded without making it: is CONFIG_MODULES off in {}?", built.path, kdir)};
    // The module knows best: Debian's include/config/kernel.release, for one, is not the release that its kernel
    // reports.
    Result<std::string> module = read_file(built.path, 64 << 20);
    if (!module) return module.error();
    constexpr std::string_view kVermagic = "vermagic=";
    size_t at = module->find(std::string(1, '\0') + std::string(kVermagic));
    if (at == std::string::npos)
        return Error{
            fmt::format("{}: says of no kernel that it is for it: not a module of this kernel's build?", built.path)};
    at += 1 + kVermagic.size();
    built.release = module->substr(at, module->find(' ', at) - at);
    return built;
}

}  // namespace adapath
