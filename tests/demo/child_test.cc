// Programs that the demo starts: their output, their end, and that none outlives it.
#include "userspace/harness/child.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>

#include "userspace/demo/plan.h"

namespace adapath::demo {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

ChildOptions shell(const std::string& script, const std::string& log = "") {
    return {.name = "shell", .argv = {"/bin/sh", "-c", script}, .log = log, .read_output = true};
}

TEST(Child, OutputLinesAndExitCode) {
    StopToken stop;
    auto child = Child::start(shell("echo one; echo two; exit 7"));
    ASSERT_TRUE(child.ok()) << child.error().message;
    EXPECT_EQ(*child->wait_line(seconds(10), stop), "one");
    ASSERT_TRUE(child->wait_exit(seconds(10)));
    EXPECT_EQ(child->read_lines(), std::vector<std::string>{"two"});
    EXPECT_EQ(child->exit_code(), 7);
    EXPECT_FALSE(child->running());
}

TEST(Child, StopsWithSigtermAndThenWithSigkill) {
    StopToken stop;
    auto polite = Child::start(shell("trap 'exit 3' TERM; echo ready; while :; do :; done"));
    ASSERT_TRUE(polite.ok());
    ASSERT_TRUE(polite->wait_line(seconds(10), stop).ok());
    polite->stop(seconds(10));
    EXPECT_EQ(polite->exit_code(), 3);

    auto stubborn = Child::start(shell("trap '' TERM; echo ready; while :; do :; done"));
    ASSERT_TRUE(stubborn.ok());
    ASSERT_TRUE(stubborn->wait_line(seconds(10), stop).ok());
    stubborn->stop(milliseconds(50));
    EXPECT_EQ(stubborn->exit_code(), 128 + SIGKILL);
}

TEST(Child, GoesWithItsObject) {
    StopToken stop;
    pid_t pid = 0;
    {
        auto child = Child::start(shell("echo $$; exec cat /dev/zero >/dev/null"));
        ASSERT_TRUE(child.ok());
        pid = std::stoi(*child->wait_line(seconds(10), stop));
        EXPECT_EQ(kill(pid, 0), 0);
    }
    EXPECT_EQ(kill(pid, 0), -1);
    EXPECT_EQ(errno, ESRCH);
}

TEST(Child, DeathIsToldWithItsLastWords) {
    StopToken stop;
    const std::string log = testing::TempDir() + "adapath_child_" + std::to_string(getpid()) + ".log";
    auto child = Child::start(shell("echo no such device >&2; exit 4", log));
    ASSERT_TRUE(child.ok());
    const auto line = child->wait_line(seconds(10), stop);
    ASSERT_FALSE(line.ok());
    EXPECT_NE(line.error().message.find("ended with exit code 4"), std::string::npos) << line.error().message;
    EXPECT_NE(line.error().message.find("no such device"), std::string::npos) << line.error().message;
    unlink(log.c_str());
}

TEST(Child, SilenceAndInterruptionAreErrors) {
    StopToken stop;
    auto child = Child::start(shell("exec cat /dev/zero >/dev/null"));
    ASSERT_TRUE(child.ok());
    EXPECT_FALSE(child->wait_line(milliseconds(20), stop).ok());
    stop.request();
    EXPECT_EQ(child->wait_line(seconds(60), stop).error().message, "interrupted");
}

TEST(Child, MissingProgramIsAClearError) {
    const auto child = Child::start({.name = "x", .argv = {"/nonexistent/adapathd"}});
    ASSERT_FALSE(child.ok());
    EXPECT_NE(child.error().message.find("/nonexistent/adapathd"), std::string::npos);
    EXPECT_NE(child.error().message.find("make all"), std::string::npos);
}

TEST(RunProgram, ReturnsLongOutputWhole) {
    const auto output =
        run_program(shell("i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done"), seconds(60));
    ASSERT_TRUE(output.ok()) << output.error().message;
    EXPECT_TRUE(output->ends_with("line 19999\n"));
    EXPECT_GT(output->size(), 65536U * 2);  // more than a pipe holds
}

TEST(RunProgram, JudgesExitCodesAndTime) {
    EXPECT_FALSE(run_program(shell("exit 1"), seconds(10)).ok());
    EXPECT_TRUE(run_program(shell("exit 1"), seconds(10), {0, 1}).ok());
    EXPECT_FALSE(run_program(shell("exec cat /dev/zero >/dev/null"), milliseconds(100)).ok());
}

TEST(Plan, LeavesTimeForEverything) {
    for (const double duration : {30.0, 45.0, 60.0, 300.0, 3600.0}) {
        const Plan plan = make_plan(duration);
        EXPECT_GT(plan.train_s, 3);
        EXPECT_GT(plan.burst_s - plan.train_s, 8) << duration;
        EXPECT_GT(plan.network_s, plan.burst_s + burst_s) << duration;
        EXPECT_GT(plan.bad_s, plan.network_s + 1.5) << duration;
        EXPECT_GT(plan.bad_limit_s, 6) << duration;
        EXPECT_LT(plan.bad_s + plan.bad_limit_s, plan.end_s) << duration;
    }
}

}  // namespace
}  // namespace adapath::demo
