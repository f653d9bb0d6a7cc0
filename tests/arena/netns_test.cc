// Short real runs: flows of the kernel's own policies over links in namespaces, and the program from beginning to end.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <numeric>
#include <thread>

#include "userspace/arena/arena.h"
#include "userspace/arena/group.h"
#include "userspace/arena/results.h"
#include "userspace/arena/traces.h"
#include "userspace/common/unique_fd.h"
#include "userspace/harness/child.h"

namespace adapath::arena {
namespace {

std::string why_not() {
    if (geteuid() != 0) {
        return "needs root";
    }
    if (access("/dev/net/tun", R_OK | W_OK) != 0) {
        return "no /dev/net/tun";
    }
    const UniqueFd probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    for (const std::string name : {"cubic", "bbr"}) {
        if (setsockopt(probe.get(), IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size())) !=
            0) {
            return "this kernel has no congestion control " + name;
        }
    }
    return "";
}

class ArenaOnKernel : public ::testing::Test {
protected:
    void SetUp() override {
        if (const std::string why = why_not(); !why.empty()) {
            GTEST_SKIP() << why;
        }
        std::string pattern = (std::filesystem::temp_directory_path() / "arena-test-XXXXXX").string();
        ASSERT_NE(mkdtemp(pattern.data()), nullptr);
        directory_ = pattern;
    }
    void TearDown() override {
        if (!directory_.empty()) {
            std::filesystem::remove_all(directory_);
        }
    }
    // Runs the program; its exit code.
    int arena(std::vector<std::string> arguments) {
        std::vector<std::string> argv = {ARENA_TOOL, "--out", directory_, "--checkpoint", ADAPATH_CHECKPOINT};
        argv.insert(argv.end(), arguments.begin(), arguments.end());
        auto child = Child::start({.name = "adapath-arena", .argv = argv, .log = directory_ + "/log"});
        EXPECT_TRUE(child.ok());
        EXPECT_TRUE(child->wait_exit(std::chrono::seconds(120))) << child->obituary();
        return child->exit_code().value_or(-1);
    }
    std::string directory_;
};

uint64_t sum(const Json& values) {
    uint64_t total = 0;
    for (const Json& value : values) {
        total += value.get<uint64_t>();
    }
    return total;
}

TEST_F(ArenaOnKernel, CubicFillsTheQueueThatBbrLeavesAndTheCountsAddUp) {
    constexpr double mbit = 8, queue_ms = 500, seconds = 8;
    auto trace = seeded(constant_source(mbit), 1);
    ASSERT_TRUE(trace.ok());
    StopToken stop;
    Group group{.traffic = Traffic::bulk, .trace = &*trace, .cells = {}};
    std::vector<std::unique_ptr<Policy>> policies;
    for (const char* name : {"cubic", "bbr"}) {
        auto policy = make_policy(name, {});
        ASSERT_TRUE(policy.ok());
        policies.push_back(std::move(*policy));
        GroupCell cell;
        cell.inputs.trace = trace->name;
        cell.inputs.policy = name;
        cell.inputs.seconds = seconds;
        cell.inputs.link.queue_ms = queue_ms;
        cell.inputs.queue_bytes = queue_bytes_of(trace->trace, cell.inputs.link);
        cell.policies = {policies.back().get()};
        group.cells.push_back(cell);
    }
    GroupSettings settings;
    settings.work = directory_;
    auto outcomes = run_group(group, settings, stop, [](double) {});
    ASSERT_TRUE(outcomes.ok()) << outcomes.error().message;
    ASSERT_EQ(outcomes->size(), 2U);
    for (const CellOutcome& outcome : *outcomes) {
        ASSERT_EQ(outcome.error, "");
        const Json& figures = outcome.figures;
        const Json& series = outcome.series;
        SCOPED_TRACE(figures.dump());
        const auto capacity = figures["capacity_bytes"].get<uint64_t>();
        const auto delivered = figures["delivered_bytes"].get<uint64_t>();
        const auto received = figures["received_bytes"].get<uint64_t>();
        // The link's seconds end when its thread gets to it.
        EXPECT_NEAR(static_cast<double>(capacity), mbit * 125'000 * seconds, mbit * 125'000 * 0.2);
        EXPECT_LE(delivered, capacity);
        EXPECT_LE(received, delivered);
        EXPECT_GT(received, 0U);
        EXPECT_LE(figures["bound"]["delivered_bytes"].get<uint64_t>(), mbit * 125'000 * seconds);
        EXPECT_EQ(sum(series["capacity_bytes"]), capacity);
        EXPECT_EQ(sum(series["delivered_bytes"]), delivered);
        EXPECT_EQ(sum(series["received_bytes"][0]), received);
        EXPECT_EQ(series["to_s"].size(), static_cast<size_t>(seconds));
        const Json& packets = figures["packets"];
        EXPECT_EQ(sum(series["queue_drops"]), packets["queue_drops"].get<uint64_t>());
        const auto inside = packets["arrived"].get<int64_t>() - packets["queue_drops"].get<int64_t>() -
                            packets["lost_on_air"].get<int64_t>() - packets["delivered"].get<int64_t>();
        EXPECT_GE(inside, 0);
        // Full queue, and 20 ms of flight.
        EXPECT_LE(inside, mbit * 125 * (queue_ms + 20) / 500);
        EXPECT_GE(figures["delay_ms"]["p50"].get<double>(), 20);
        // No packet can wait longer than the queue is deep; a millisecond for the opportunity that it waits for.
        EXPECT_LE(figures["delay_ms"]["max"].get<double>(), queue_ms + 20 + 5);
        EXPECT_GE(figures["flows"][0]["min_rtt_ms"].get<double>(), 40);
    }
    // Eight seconds of slow start and growth: most of the queue's half second, which BBR has no use for.
    EXPECT_GT((*outcomes)[0].figures["delay_ms"]["p95"].get<double>(), 0.6 * queue_ms);
    EXPECT_LT((*outcomes)[1].figures["delay_ms"]["p50"].get<double>(),
              (*outcomes)[0].figures["delay_ms"]["p50"].get<double>());
}

TEST_F(ArenaOnKernel, ASecondRunMeasuresOnlyWhatIsMissing) {
    const std::vector<std::string> matrix = {"--generate", "6",    "--seconds", "2",
                                             "--traffic",  "bulk", "--policy",  "cubic"};
    ASSERT_EQ(arena(matrix), 0);
    auto first = read_results(results_path(directory_));
    ASSERT_TRUE(first.ok());
    ASSERT_EQ(first->size(), 1U);
    ASSERT_EQ(arena(matrix), 0);
    auto again = read_results(results_path(directory_));
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(*again, *first);
    std::vector<std::string> more = matrix;
    more.insert(more.end(), {"--policy", "bbr"});
    ASSERT_EQ(arena(more), 0);
    auto both = read_results(results_path(directory_));
    ASSERT_TRUE(both.ok());
    ASSERT_EQ(both->size(), 2U);
    EXPECT_EQ((*both)[0], (*first)[0]);
    EXPECT_EQ((*both)[1]["inputs"]["policy"], "bbr");
    EXPECT_TRUE(std::filesystem::exists(directory_ + "/report.html"));
    EXPECT_TRUE(std::filesystem::exists(directory_ + "/summary.json"));
}

TEST_F(ArenaOnKernel, SeveralFlowsOfAPolicyShareItsLink) {
    ASSERT_EQ(arena({"--traffic", "bulk", "--generate", "6", "--bulk-flows", "3", "--policy", "cubic", "--policy",
                     "bbr", "--seconds", "5"}),
              0);
    auto lines = read_results(results_path(directory_));
    ASSERT_TRUE(lines.ok());
    ASSERT_EQ(lines->size(), 2U);
    for (const Json& line : *lines) {
        const Json& figures = line["figures"];
        SCOPED_TRACE(figures.dump());
        EXPECT_EQ(line["inputs"]["bulk_flows"], 3);
        const Json& received = line["series"]["received_bytes"];
        ASSERT_EQ(received.size(), 3U);
        uint64_t all = 0;
        for (const Json& flow : received) {
            EXPECT_GT(sum(flow), 0U);
            all += sum(flow);
        }
        EXPECT_EQ(all, figures["received_bytes"].get<uint64_t>());
        EXPECT_GT(figures["jain"].get<double>(), 1.0 / 3);
    }
}

TEST_F(ArenaOnKernel, TwoFlowsShareALinkAndTheSecondComesLater) {
    ASSERT_EQ(arena({"--traffic", "fairness", "--pair", "cubic+bbr", "--seconds", "6", "--second-after", "3"}), 0);
    auto lines = read_results(results_path(directory_));
    ASSERT_TRUE(lines.ok());
    ASSERT_EQ(lines->size(), 1U);
    const Json& figures = (*lines)[0]["figures"];
    const Json& received = (*lines)[0]["series"]["received_bytes"];
    ASSERT_EQ(received.size(), 2U);
    EXPECT_EQ(sum(Json(std::vector<Json>(received[1].begin(), received[1].begin() + 2))), 0U);
    EXPECT_GT(sum(received[1]), 0U);
    EXPECT_EQ(sum(received[0]) + sum(received[1]), figures["received_bytes"].get<uint64_t>());
    const auto a = static_cast<double>(sum(received[0]));
    const auto b = static_cast<double>(sum(received[1]));
    EXPECT_NEAR(figures["jain"].get<double>(), (a + b) * (a + b) / (2 * (a * a + b * b)), 1e-4);
}

TEST_F(ArenaOnKernel, ALinkThatChangesTwiceIsMeasuredByRewards) {
    if (access("/sys/kernel/btf/vmlinux", R_OK) != 0) {
        GTEST_SKIP() << "this kernel has no BTF";
    }
    ASSERT_EQ(arena({"--traffic", "regimes", "--regime-seconds", "8", "--regime-flows", "2"}), 0);
    auto lines = read_results(results_path(directory_));
    ASSERT_TRUE(lines.ok());
    ASSERT_EQ(lines->size(), 2U);
    for (const Json& line : *lines) {
        const Json& series = line["series"];
        SCOPED_TRACE(line["inputs"]["policy"].get<std::string>() + " " + series["reward"].dump());
        ASSERT_EQ(series["reward"].size(), 24U);
        ASSERT_EQ(series["received_bytes"].size(), 2U);
        EXPECT_EQ(line["figures"]["reward_samples_missed"], 0);
        const auto mean = [&](size_t from, size_t to) {
            double total = 0;
            size_t known = 0;
            // The last seconds' samples may still be on their way when the cell ends.
            for (size_t i = from; i < to; i++) {
                if (series["reward"][i].is_number()) {
                    total += series["reward"][i].get<double>();
                    known++;
                }
            }
            EXPECT_GE(known, to - from - 2) << from;
            return total / static_cast<double>(std::max<size_t>(known, 1));
        };
        const double before = mean(3, 8), changed = mean(10, 16), after = mean(18, 24);
        // Bursts make a policy earn less, usually by 1 to 2, and it comes back with the link. One that learns may just
        // be trying a setting that earns little.
        if (line["inputs"]["policy"] == "adapath") {
            EXPECT_GT(before, changed);
            EXPECT_GT(after, changed);
        }
    }
    EXPECT_EQ((*lines)[0]["figures"]["cost"]["switches"], 0);
    EXPECT_GT((*lines)[1]["figures"]["cost"]["switches"].get<int>(), 0);
}

TEST_F(ArenaOnKernel, ACrowdIsMeasuredOnePolicyAfterTheOther) {
    ASSERT_EQ(arena({"--traffic", "crowd", "--policy", "cubic", "--policy", "bbr", "--crowd-flows", "20",
                     "--crowd-rate", "20", "--seconds", "5", "--busy", "1"}),
              0);
    auto lines = read_results(results_path(directory_));
    ASSERT_TRUE(lines.ok());
    ASSERT_EQ(lines->size(), 2U);
    EXPECT_NE((*lines)[0]["run"]["started_unix_s"], (*lines)[1]["run"]["started_unix_s"]);
    for (const Json& line : *lines) {
        const Json& figures = line["figures"];
        SCOPED_TRACE(figures.dump());
        EXPECT_EQ(line["inputs"]["crowd_flows"], 20);
        EXPECT_EQ(line["inputs"]["busy"], 1);
        // At least the one that is busy, of however many processors.
        EXPECT_GT(figures["machine_busy_share"].get<double>(),
                  0.5 / static_cast<double>(std::thread::hardware_concurrency()));
        EXPECT_GT(figures["delivered_share"].get<double>(), 0.5);
        EXPECT_EQ(sum(line["series"]["received_bytes"][0]), figures["received_bytes"].get<uint64_t>());
        // Each of them got something: one of twenty that has all gives 0.05.
        EXPECT_GT(figures["jain"].get<double>(), 0.2);
        EXPECT_GE(figures["flows"][0]["min_rtt_ms"].get<double>(), 40);
    }
}

TEST_F(ArenaOnKernel, NobodyAnswersWhileTheDaemonsStandStillAndTheKernelDecides) {
    if (access("/sys/kernel/btf/vmlinux", R_OK) != 0) {
        GTEST_SKIP() << "this kernel has no BTF";
    }
    ASSERT_EQ(arena({"--traffic", "bulk", "--policy", "adapath", "--policy", "userspace", "--generate", "8",
                     "--seconds", "12", "--daemon-stops", "6"}),
              0);
    auto lines = read_results(results_path(directory_));
    ASSERT_TRUE(lines.ok());
    ASSERT_EQ(lines->size(), 2U);
    for (const Json& line : *lines) {
        const Json& stopped = line["figures"]["daemon_stopped"];
        SCOPED_TRACE(line["figures"].dump());
        EXPECT_EQ(stopped["from_s"], 4);
        EXPECT_EQ(stopped["to_s"], 10);
        uint64_t delivered = 0;
        for (size_t second = 4; second < 10; second++) {
            delivered += line["series"]["delivered_bytes"][second].get<uint64_t>();
        }
        EXPECT_EQ(stopped["delivered_bytes"].get<uint64_t>(), delivered);
        EXPECT_LE(stopped["delay_ms"]["max"], line["figures"]["delay_ms"]["max"]);
    }
    const Json& kernel = (*lines)[0]["figures"]["cost"];
    const Json& asked = (*lines)[1]["figures"]["cost"];
    ASSERT_EQ((*lines)[1]["inputs"]["policy"], "userspace");
    // Half of the time no question found an answer before the next one was due.
    EXPECT_GT(asked["asking"]["overtaken"].get<double>(), 0.2 * asked["asking"]["questions"].get<double>());
    EXPECT_GT(asked["asking"]["applied"].get<uint64_t>(), 0U);
    EXPECT_GT(kernel["decisions"].get<double>(), 1.2 * asked["decisions"].get<double>());
}

TEST_F(ArenaOnKernel, BadOptionsAreSaid) {
    EXPECT_EQ(arena({"--daemon-stops", "50", "--seconds", "60"}), 2);
    EXPECT_EQ(arena({"--traffic", "regimes", "--regime-served", "400", "--regime-period", "300"}), 2);
    EXPECT_EQ(arena({"--policy", "no-such-policy"}), 2);
    EXPECT_EQ(arena({"--traffic", "fairness", "--pair", "cubic+no-such-policy"}), 2);
}

}  // namespace
}  // namespace adapath::arena
