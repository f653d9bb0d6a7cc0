// The two tools as a script uses them: help, wrong usage, the ready line, Ctrl-C, summaries.
#include <csignal>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/video/pattern.h"
#include "userspace/video/net.h"

namespace adapath::video {
namespace {

// A child process with its stdout in a pipe; killed if the test leaves early.
class Process {
public:
    Process(const std::string& program, std::vector<std::string> arguments) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) != 0) {
            return;
        }
        out_ = Fd(ends[0]);
        Fd in(ends[1]);
        arguments.insert(arguments.begin(), program);
        std::vector<char*> argv;
        for (std::string& argument : arguments) {
            argv.push_back(argument.data());
        }
        argv.push_back(nullptr);
        pid_ = fork();
        if (pid_ == 0) {
            dup2(in.get(), STDOUT_FILENO);
            execv(program.c_str(), argv.data());
            _exit(127);
        }
        watch_ = Fd(static_cast<int>(syscall(SYS_pidfd_open, pid_, 0)));
    }
    ~Process() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            waitpid(pid_, nullptr, 0);
        }
    }

    // The first line of stdout that begins so; "" after 20 s or at the end.
    std::string wait_line(const std::string& begin) {
        for (;;) {
            size_t end = text_.find('\n');
            if (end != std::string::npos) {
                std::string line = text_.substr(0, end);
                text_.erase(0, end + 1);
                if (line.rfind(begin, 0) == 0) {
                    return line;
                }
                continue;
            }
            char bytes[4096];
            pollfd fd = {out_.get(), POLLIN, 0};
            ssize_t got = poll(&fd, 1, 20'000) == 1 ? read(out_.get(), bytes, sizeof bytes) : 0;
            if (got <= 0) {
                return "";
            }
            text_.append(bytes, static_cast<size_t>(got));
        }
    }
    void signal(int number) const { ::kill(pid_, number); }
    // The exit code; -1 if it did not end within 20 s, or by a signal.
    int wait_exit() {
        pollfd fd = {watch_.get(), POLLIN, 0};
        if (poll(&fd, 1, 20'000) != 1) {
            return -1;
        }
        int status = 0;
        waitpid(pid_, &status, 0);
        pid_ = -1;
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }

private:
    pid_t pid_ = -1;
    Fd out_;
    Fd watch_;
    std::string text_;
};

class Tools : public testing::Test {
protected:
    void SetUp() override {
        std::string name = (std::filesystem::temp_directory_path() / "adapath-video-XXXXXX").string();
        ASSERT_NE(mkdtemp(name.data()), nullptr);
        directory_ = name;
        Size size{160, 120};
        clip_ = path("clip.y4m");
        ASSERT_TRUE(write_y4m(clip_, pattern(size, 30), size));
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }

    [[nodiscard]] std::string path(const std::string& name) const { return (directory_ / name).string(); }
    static nlohmann::json read_json(const std::string& path) {
        std::ifstream file(path);
        return nlohmann::json::parse(file, nullptr, false);
    }
    static std::vector<std::string> lines(const std::string& path) {
        std::ifstream file(path);
        std::vector<std::string> result;
        for (std::string line; std::getline(file, line);) {
            result.push_back(line);
        }
        return result;
    }

    std::filesystem::path directory_;
    std::string clip_;
    const std::string send_ = ADAPATH_VIDEO_SEND;
    const std::string recv_ = ADAPATH_VIDEO_RECV;
};

TEST_F(Tools, HelpAndWrongUsage) {
    for (const std::string& tool : {send_, recv_}) {
        EXPECT_EQ(Process(tool, {"--help"}).wait_exit(), 0);
        EXPECT_EQ(Process(tool, {"--no-such-option"}).wait_exit(), 2);
        EXPECT_EQ(Process(tool, {}).wait_exit(), 2);
    }
    EXPECT_EQ(Process(recv_, {"--listen", "nonsense"}).wait_exit(), 2);
    EXPECT_EQ(Process(send_, {"--clip", clip_, "--server", "127.0.0.1:1", "--saturate", "--no-adaptive"}).wait_exit(),
              2);
    EXPECT_EQ(Process(send_, {"--clip", clip_, "--server", "127.0.0.1:1", "--min-kbps", "900", "--max-kbps", "800"})
                  .wait_exit(),
              2);
    EXPECT_EQ(Process(send_, {"--clip", path("none.avi"), "--server", "127.0.0.1:1"}).wait_exit(), 1);
}

TEST_F(Tools, StreamUntilInterrupted) {
    Process receiver(recv_, {"--listen", "127.0.0.1:0", "--cameras", "2", "--frames", path("frames.csv"), "--stats",
                             path("recv.jsonl"), "--summary", path("recv.json")});
    std::string ready = receiver.wait_line("ready 127.0.0.1:");
    ASSERT_NE(ready, "");
    Process sender(send_, {"--clip", clip_, "--server", ready.substr(6), "--cameras", "2", "--first-camera", "4",
                           "--cc", "cubic", "--stats", "-", "--summary", path("send.json")});
    std::string line = sender.wait_line("{\"time_us\":");
    ASSERT_NE(line, "");
    nlohmann::json second = nlohmann::json::parse(line);
    EXPECT_EQ(second["cc"], "cubic");
    EXPECT_GT(second["frames_sent"], 0);
    EXPECT_GT(second["local_port"], 0);
    EXPECT_GT(second["srtt_us"], 0);
    sender.signal(SIGINT);
    EXPECT_EQ(sender.wait_exit(), 0);
    EXPECT_EQ(receiver.wait_exit(), 0);

    nlohmann::json sent = read_json(path("send.json"));
    nlohmann::json got = read_json(path("recv.json"));
    ASSERT_TRUE(sent.is_object() && got.is_object());
    ASSERT_EQ(got["cameras"].size(), 2U);
    EXPECT_EQ(got["cameras"][0]["camera"], 4);
    EXPECT_EQ(got["cameras"][1]["camera"], 5);
    EXPECT_EQ(got["total"]["frames_sent"], sent["total"]["frames_sent"]);
    EXPECT_EQ(got["total"]["frames_decoded"], sent["total"]["frames_sent"]);
    EXPECT_EQ(got["total"]["frames_lost"], 0);
    EXPECT_TRUE(sent["cameras"][0]["ended"]);
    EXPECT_GT(got["total"]["delay_ms"]["p99"], 0);
    EXPECT_GE(got["total"]["delay_ms"]["p99"], got["total"]["delay_ms"]["p50"]);
    std::vector<std::string> frames = lines(path("frames.csv"));
    ASSERT_FALSE(frames.empty());
    EXPECT_EQ(frames[0], "camera,frame,sent_ns,received_ns,decoded_ns,bytes,key,picture");
    EXPECT_EQ(frames.size() - 1, sent["total"]["frames_sent"].get<size_t>());
    for (const std::string& text : lines(path("recv.jsonl"))) {
        EXPECT_TRUE(nlohmann::json::accept(text)) << text;
    }
}

TEST_F(Tools, ReceiverInterruptedWhileWaitingWritesItsSummary) {
    Process receiver(recv_, {"--listen", "127.0.0.1:0", "--cameras", "3", "--summary", path("recv.json")});
    ASSERT_NE(receiver.wait_line("ready "), "");
    receiver.signal(SIGTERM);
    EXPECT_EQ(receiver.wait_exit(), 0);
    nlohmann::json got = read_json(path("recv.json"));
    ASSERT_TRUE(got.is_object());
    EXPECT_EQ(got["cameras"].size(), 0U);
    EXPECT_EQ(got["total"]["frames_sent"], 0);
}

TEST_F(Tools, KilledSenderIsALossAndAFailure) {
    Process receiver(recv_, {"--listen", "127.0.0.1:0", "--summary", path("recv.json")});
    std::string ready = receiver.wait_line("ready ");
    ASSERT_NE(ready, "");
    Process sender(send_, {"--clip", clip_, "--server", ready.substr(6), "--stats", "-"});
    ASSERT_NE(sender.wait_line("{"), "");
    sender.signal(SIGKILL);
    EXPECT_EQ(receiver.wait_exit(), 1);
    nlohmann::json got = read_json(path("recv.json"));
    ASSERT_EQ(got["cameras"].size(), 1U);
    EXPECT_FALSE(got["cameras"][0]["ended"]);
    EXPECT_NE(got["cameras"][0]["error"], "");
    EXPECT_GT(got["cameras"][0]["frames_decoded"], 0);
}

TEST_F(Tools, KilledReceiverFailsTheSender) {
    Process receiver(recv_, {"--listen", "127.0.0.1:0"});
    std::string ready = receiver.wait_line("ready ");
    ASSERT_NE(ready, "");
    Process sender(send_,
                   {"--clip", clip_, "--server", ready.substr(6), "--stats", "-", "--summary", path("send.json")});
    ASSERT_NE(sender.wait_line("{"), "");
    receiver.signal(SIGKILL);
    EXPECT_EQ(sender.wait_exit(), 1);
    nlohmann::json sent = read_json(path("send.json"));
    ASSERT_TRUE(sent.is_object());
    EXPECT_NE(sent["cameras"][0]["error"], "");
}

}  // namespace
}  // namespace adapath::video
