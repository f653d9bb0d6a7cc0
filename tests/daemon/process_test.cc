// adapathd and adapathctl as processes: what a person sees who starts them wrongly, and what a kill -9 leaves.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include <nlohmann/json.hpp>

#include "tests/daemon/support.h"
#include "userspace/common/clock.h"
#include "userspace/common/unique_fd.h"

namespace adapath {
namespace {

// A child whose standard output and error come through one pipe.
class Child {
public:
    explicit Child(const std::vector<std::string>& arguments, uid_t uid = 0) {
        int pipe_fds[2];
        if (pipe2(pipe_fds, O_CLOEXEC) != 0) {
            throw std::runtime_error("pipe");
        }
        std::vector<char*> argv;
        for (const std::string& argument : arguments) {
            argv.push_back(const_cast<char*>(argument.c_str()));
        }
        argv.push_back(nullptr);
        pid_ = fork();
        if (pid_ == 0) {
            dup2(pipe_fds[1], 1);
            dup2(pipe_fds[1], 2);
            if (uid != 0 && (setgid(uid) != 0 || setuid(uid) != 0)) {
                _exit(99);
            }
            execv(argv[0], argv.data());
            _exit(98);
        }
        close(pipe_fds[1]);
        out_.reset(pipe_fds[0]);
    }
    ~Child() {
        if (pid_ > 0) {
            kill(pid_, SIGKILL);
            waitpid(pid_, nullptr, 0);
        }
    }
    [[nodiscard]] pid_t pid() const { return pid_; }
    [[nodiscard]] const std::string& output() const { return text_; }
    // Reads until the text appears; false at the end of output or after 20 s.
    bool wait_for(const std::string& what) {
        const uint64_t end_us = monotonic_us() + 20000000;
        while (text_.find(what) == std::string::npos) {
            pollfd fd{out_.get(), POLLIN, 0};
            const uint64_t now_us = monotonic_us();
            if (now_us >= end_us || poll(&fd, 1, static_cast<int>((end_us - now_us) / 1000) + 1) <= 0) {
                return false;
            }
            char buffer[4096];
            const ssize_t got = read(out_.get(), buffer, sizeof(buffer));
            if (got <= 0) {
                return text_.find(what) != std::string::npos;
            }
            text_.append(buffer, static_cast<size_t>(got));
        }
        return true;
    }
    // Exit code (or -signal) after everything was read.
    int finish() {
        wait_for(std::string(1, '\0'));
        int status = 0;
        waitpid(pid_, &status, 0);
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }

private:
    pid_t pid_ = -1;
    UniqueFd out_;
    std::string text_;
};

class ProcessTest : public ::testing::Test {
protected:
    test::TemporaryDirectory directory_;
    std::vector<std::string> local(const std::string& state = "state", const std::string& socket = "s.sock") {
        return {ADAPATHD, "--backend", "local", "--state-dir", directory_ / state, "--socket", directory_ / socket};
    }
    std::pair<int, std::string> run(std::vector<std::string> arguments, uid_t uid = 0) {
        Child child(arguments, uid);
        const int code = child.finish();
        return {code, child.output()};
    }
    std::pair<int, std::string> ctl(std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), {ADAPATHCTL, "--socket", directory_ / "s.sock"});
        return run(arguments);
    }
};

TEST_F(ProcessTest, StopsCleanlyOnSignals) {
    for (const int signal : {SIGTERM, SIGINT}) {
        Child daemon(local());
        ASSERT_TRUE(daemon.wait_for("serving")) << daemon.output();
        kill(daemon.pid(), signal);
        EXPECT_EQ(daemon.finish(), 0) << daemon.output();
        EXPECT_FALSE(std::filesystem::exists(directory_ / "s.sock"));
    }
}

TEST_F(ProcessTest, SecondDaemonIsRefusedWithThePidOfTheFirst) {
    Child first(local());
    ASSERT_TRUE(first.wait_for("serving")) << first.output();
    auto [code, text] = run(local("state", "other.sock"));
    EXPECT_EQ(code, 1);
    EXPECT_NE(text.find("pid " + std::to_string(first.pid())), std::string::npos) << text;
    std::tie(code, text) = run(local("other"));
    EXPECT_EQ(code, 1);
    EXPECT_NE(text.find("another adapathd"), std::string::npos) << text;
    EXPECT_EQ(ctl({"status"}).first, 0) << "the first one still serves";
}

TEST_F(ProcessTest, UnprivilegedStartNamesTheCapabilities) {
    constexpr uid_t kNobody = 65534;
    if (getuid() != 0) {
        GTEST_SKIP() << "needs root, to give up privileges";
    }
    // The build's directory may be closed to others.
    const std::string copy = directory_ / "adapathd";
    std::filesystem::copy_file(ADAPATHD, copy);
    chmod(directory_.path().c_str(), 0755);
    auto [code, text] = run({copy, "--backend", "bpf"}, kNobody);
    EXPECT_EQ(code, 1);
    for (const char* word : {"CAP_BPF", "CAP_NET_ADMIN", "--backend=local"}) {
        EXPECT_NE(text.find(word), std::string::npos) << text;
    }
    // And what it suggests does work.
    const std::string own = directory_ / "own";
    mkdir(own.c_str(), 0700);
    ASSERT_EQ(chown(own.c_str(), kNobody, kNobody), 0);
    Child daemon({copy, "--backend=local", "--state-dir", own, "--socket", own + "/s"}, kNobody);
    EXPECT_TRUE(daemon.wait_for("serving")) << daemon.output();
}

TEST_F(ProcessTest, ConfigurationIsChecked) {
    const std::string file = directory_ / "a.conf";
    std::ofstream(file) << "backend: \"local\"\nintervall_ms: 5\n";
    auto [code, text] = run({ADAPATHD, "--config", file, "--check-config"});
    EXPECT_EQ(code, 1);
    EXPECT_NE(text.find(file + ":2:"), std::string::npos) << text;
    std::tie(code, text) = run({ADAPATHD, "--print-default-config"});
    EXPECT_EQ(code, 0);
    std::ofstream(file) << text;
    EXPECT_EQ(run({ADAPATHD, "--config", file, "--check-config"}), (std::pair<int, std::string>{0, ""}));
    std::tie(code, text) = run({ADAPATHD, "--cc-name", "a-name-that-is-too-long"});
    EXPECT_EQ(code, 1);
    EXPECT_NE(text.find("congestion_control"), std::string::npos) << text;
}

TEST_F(ProcessTest, HelpNamesUnitsAndDefaults) {
    const auto [code, text] = run({ADAPATHD, "--help"});
    EXPECT_EQ(code, 0);
    for (const char* word : {"Milliseconds", "/var/lib/adapath", "[bpf]", "Exit codes"}) {
        EXPECT_NE(text.find(word), std::string::npos) << word;
    }
    EXPECT_EQ(ctl({"--help"}).first, 0);
    EXPECT_NE(ctl({"frobnicate"}).first, 0);
}

TEST_F(ProcessTest, CtlWithoutDaemonSaysHowToStartOne) {
    const auto [code, text] = ctl({"status"});
    EXPECT_EQ(code, 1);
    EXPECT_NE(text.find("adapathd is not running at"), std::string::npos) << text;
    EXPECT_NE(text.find("systemctl start adapathd"), std::string::npos) << text;
}

TEST_F(ProcessTest, KillAtAnyMomentLeavesAnExplainableLog) {
    uint64_t generations = 0;
    for (int round = 1; round <= 5; round++) {
        std::vector<std::string> arguments = local();
        arguments.insert(arguments.end(), {"--interval", "5"});
        Child daemon(arguments);
        ASSERT_TRUE(daemon.wait_for("serving")) << daemon.output();
        for (uint32_t n = 0; n < 3; n++) {
            const std::string file = directory_ / "next.snap";
            std::ofstream(file, std::ios::binary)
                << test::file_of(test::random_snapshot(static_cast<uint32_t>(round) * 10 + n));
            if (n < 2) {
                const auto [code, text] = ctl({"install", file});
                ASSERT_EQ(code, 0) << text;
                continue;
            }
            // Killed while this install is under way or just done, depending on the round.
            Child install({ADAPATHCTL, "--socket", directory_ / "s.sock", "install", file});
            if (round % 2 == 0) {
                daemon.wait_for("installed generation " + std::to_string(generations + 3));
            }
            kill(daemon.pid(), SIGKILL);
            EXPECT_EQ(daemon.finish(), -SIGKILL);
            install.finish();
        }
        const auto [code, text] = run({ADAPATHCTL, "--json", "verify", "--state-dir", directory_ / "state"});
        ASSERT_EQ(code, 0) << text;
        const nlohmann::json report = nlohmann::json::parse(text);
        EXPECT_EQ(report["unexplained"], 0) << text;
        std::ifstream journal(directory_ / "state/generations");
        generations = static_cast<uint64_t>(std::count(std::istreambuf_iterator<char>(journal), {}, '\n'));
        EXPECT_GE(generations, static_cast<uint64_t>(round) * 2);
    }
}

TEST_F(ProcessTest, SamplesAndWatchEndAfterTheirCount) {
    Child daemon(local());
    ASSERT_TRUE(daemon.wait_for("serving")) << daemon.output();
    const auto [code, text] = ctl({"samples", "--count", "5", "--json"});
    EXPECT_EQ(code, 0) << text;
    std::istringstream lines(text);
    int count = 0;
    for (std::string line; std::getline(lines, line); count++) {
        EXPECT_TRUE(nlohmann::json::parse(line).contains("input")) << line;
    }
    EXPECT_EQ(count, 5);
}

}  // namespace
}  // namespace adapath
