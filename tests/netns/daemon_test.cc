// The daemon on the real kernel, with real flows over the emulated uplink: what a crash, a flood of switches or a
// reader that sleeps does to the flows and to the log. The proof is `adapathctl verify`: every logged decision is
// reproduced.
//
// Built twice: netns_daemon_test on the bpf backend, run by ctest; vm_kmod_daemon_test on the kmod backend, run inside
// a VM, which defines ADAPATH_TEST_BACKEND and ADAPATH_DAEMON_SUITE, the name of the tests.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <string_view>
#include <thread>
#include <utility>

#include "tests/netns/testbed.h"

namespace adapath::testing {
namespace {

using namespace std::chrono_literals;

#ifndef ADAPATH_TEST_BACKEND
#define ADAPATH_TEST_BACKEND "bpf"
#define ADAPATH_DAEMON_SUITE DaemonOnKernel
#endif
constexpr const char* kBackend = ADAPATH_TEST_BACKEND;
// A switch by installing, which the bpf test does each time, costs an emulated machine much more than one between two
// slots.
constexpr bool kEmulated = std::string_view(kBackend) == "kmod";

class ADAPATH_DAEMON_SUITE : public ::testing::Test {
protected:
    void SetUp() override {
        if (const std::string why = why_not(kBackend); !why.empty()) GTEST_SKIP() << why;
    }
    void open(double mbit = 20, const LinkSettingsForTest& settings = {}) {
        Result<Trace> trace = Trace::constant(mbit);
        ASSERT_TRUE(trace.ok());
        auto uplink = Uplink::create(std::move(*trace), settings);
        ASSERT_TRUE(uplink.ok()) << uplink.error().message;
        uplink_ = std::move(*uplink);
    }
    void start_flows(const TestDaemon& daemon, int count) {
        for (int i = 0; i < count; ++i) {
            auto flow = start_flow(*uplink_, daemon.congestion_control());
            ASSERT_TRUE(flow.ok()) << flow.error().message;
            flows_.push_back(std::move(*flow));
        }
    }
    void finish_flows() {
        for (auto& flow : flows_) EXPECT_TRUE(flow->finish()) << "bytes were lost";
        flows_.clear();
    }
    [[nodiscard]] uint64_t received() const {
        uint64_t sum = 0;
        for (const auto& flow : flows_) sum += flow->received();
        return sum;
    }
    std::unique_ptr<Uplink> uplink_;
    std::vector<std::unique_ptr<TcpFlow>> flows_;
};

// Every decision in the log reproduced, none missing.
void expect_verified(TestDaemon& daemon, uint64_t at_least) {
    int code = -1;
    nlohmann::json verified = daemon.ctl({"verify", "--state-dir", daemon.state()}, &code);
    EXPECT_EQ(code, 0) << verified.dump();
    EXPECT_EQ(verified.value("unexplained", 99U), 0U) << verified.dump();
    EXPECT_GE(verified.value("explained", 0U), at_least) << verified.dump();
    EXPECT_EQ(verified.value("gaps", 99U), 0U) << verified.dump();
}

TEST_F(ADAPATH_DAEMON_SUITE, KilledInMidBatchTheFlowsGoOn) {
    open();
    TestDaemon daemon(kBackend);
    ASSERT_TRUE(daemon.start().ok());
    auto bytes = frozen_checkpoint(0, 1);
    ASSERT_TRUE(bytes.ok()) << bytes.error().message;
    auto installed = daemon.install(*bytes);
    ASSERT_TRUE(installed.ok()) << installed.error().message;
    const uint64_t lost = daemon.lost_in_kernel();
    start_flows(daemon, 2);
    for (int round = 0; round < 3; ++round) {
        const uint64_t decisions = daemon.status()->decisions();
        ASSERT_TRUE(wait_until([&] { return daemon.status()->decisions() >= decisions + 30; }));
        daemon.kill_hard();
        const uint64_t before = received();
        ASSERT_TRUE(wait_until([&] { return received() > before + 200'000; })) << "the flows stopped with the daemon";
        Status started = daemon.start();
        ASSERT_TRUE(started.ok()) << started.error().message;
        EXPECT_TRUE(daemon.status()->adopted());
        EXPECT_EQ(daemon.status()->active_generation(), installed->generation());
    }
    finish_flows();
    EXPECT_EQ(daemon.lost_in_kernel(), lost);
    // A batch that was taken from the ring and not yet written when the kill came is the one thing that can be missing.
    int code = -1;
    nlohmann::json verified = daemon.ctl({"verify", "--state-dir", daemon.state()}, &code);
    EXPECT_EQ(code, 0) << verified.dump();
    EXPECT_EQ(verified.value("unexplained", 99U), 0U) << verified.dump();
    EXPECT_GE(verified.value("explained", 0U), 90U) << verified.dump();
}

TEST_F(ADAPATH_DAEMON_SUITE, KilledInMidInstallTheLogStaysExplainable) {
    open();
    TestDaemon daemon(kBackend);
    ASSERT_TRUE(daemon.start().ok());
    std::vector<std::string> snapshots;
    for (uint64_t i = 0; i < 4; ++i) {
        auto bytes = frozen_checkpoint(0.01, i + 1);
        ASSERT_TRUE(bytes.ok()) << bytes.error().message;
        snapshots.push_back(*bytes);
    }
    auto other = freeze_bytes(another_network(9));
    ASSERT_TRUE(other.ok()) << other.error().message;
    snapshots.push_back(*other);
    ASSERT_TRUE(daemon.install(snapshots[0]).ok());
    start_flows(daemon, 2);
    std::mt19937 random(11);
    for (int round = 0; round < (kEmulated ? 3 : 6); ++round) {
        std::atomic<bool> stop = false;
        std::atomic<uint64_t> installs = 0;
        std::thread installer([&] {
            for (size_t i = 0; !stop; ++i)
                if (daemon.install(snapshots[i % snapshots.size()]).ok()) ++installs;
        });
        const uint64_t enough = 3 + random() % 20;
        EXPECT_TRUE(wait_until([&] { return installs >= enough; }));
        daemon.kill_hard();  // installs follow each other without a pause, so this comes in the middle of one
        stop = true;
        installer.join();
        const uint64_t before = received();
        ASSERT_TRUE(wait_until([&] { return received() > before + 100'000; }));
        Status started = daemon.start();
        ASSERT_TRUE(started.ok()) << started.error().message;
        EXPECT_TRUE(daemon.status()->adopted());
        EXPECT_NE(daemon.status()->active_generation(), 0U);
        ASSERT_TRUE(daemon.install(snapshots[static_cast<size_t>(round) % snapshots.size()]).ok());
        const uint64_t decisions = daemon.status()->decisions();
        ASSERT_TRUE(wait_until([&] { return daemon.status()->decisions() >= decisions + 10; }));
        // What the dead daemon left half written must not be what a roll back finds.
        int code = -1;
        daemon.ctl({"rollback"}, &code);
        EXPECT_EQ(code, 0);
        ASSERT_TRUE(wait_until([&] { return daemon.status()->decisions() >= decisions + 20; }));
        EXPECT_EQ(daemon.status()->decisions_unexplained(), 0U) << daemon.status()->last_unexplained();
    }
    finish_flows();
    int code = -1;
    nlohmann::json verified = daemon.ctl({"verify", "--state-dir", daemon.state()}, &code);
    EXPECT_EQ(code, 0) << verified.dump();
    EXPECT_EQ(verified.value("unexplained", 99U), 0U) << verified.dump();
    EXPECT_GE(verified.value("explained", 0U), 50U) << verified.dump();
}

TEST_F(ADAPATH_DAEMON_SUITE, TenThousandSwitchesUnderFourFlows) {
    const char* wanted = std::getenv("ADAPATH_SWITCHES");
    const uint64_t switches = wanted != nullptr ? std::strtoull(wanted, nullptr, 10) : 10'000;
    open();
    TestDaemon daemon(kBackend);
    ASSERT_TRUE(daemon.start().ok());
    std::vector<std::string> snapshots;
    for (uint64_t i = 0; i < 6; ++i) {
        auto bytes = frozen_checkpoint(0.01, i + 1);
        ASSERT_TRUE(bytes.ok()) << bytes.error().message;
        snapshots.push_back(*bytes);
    }
    auto other = freeze_bytes(another_network(9));
    ASSERT_TRUE(other.ok()) << other.error().message;
    snapshots.push_back(*other);
    std::string active;
    std::string before;  // what decided before it: in the standby slot
    const auto install = [&](uint64_t which) {
        auto reply = daemon.install(snapshots[which]);
        ASSERT_TRUE(reply.ok()) << reply.error().message;
        ASSERT_TRUE(reply->activated());
        before = std::exchange(active, reply->hash());
    };
    install(0);
    const uint64_t lost = daemon.lost_in_kernel();
    start_flows(daemon, 4);
    uint64_t installs = 0;
    for (uint64_t i = 0; i < switches; ++i) {
        // After an even number of switches between the two the newest decides, so that the next one is another.
        if (!kEmulated || i % 25 == 0) {
            install(++installs % snapshots.size());
        } else {
            auto reply = daemon.switch_to(before);
            ASSERT_TRUE(reply.ok()) << reply.error().message;
            std::swap(active, before);
        }
        ASSERT_FALSE(HasFailure()) << "at switch " << i;
    }
    const uint64_t decisions = daemon.status()->decisions();
    EXPECT_TRUE(wait_until([&] { return daemon.status()->decisions() >= decisions + 20; }));
    finish_flows();
    auto status = daemon.status();
    ASSERT_TRUE(status.ok());
    EXPECT_GE(status->switches_parameter() + status->switches_network(), switches);
    EXPECT_GE(status->switches_network(), installs / 7 * 2 - 2);
    EXPECT_EQ(status->samples_lost(), lost);
    EXPECT_EQ(status->sequence_gaps(), 0U);
    expect_verified(daemon, switches / 20);
}

TEST_F(ADAPATH_DAEMON_SUITE, AReaderThatSleepsLosesCountedSamplesOnly) {
    // The shortest intervals, 10 ms: the module's ring holds 1024 samples a CPU.
    open(20, {.delay_ms = 2, .queue_bytes = 50'000});
    TestDaemon daemon(kBackend, "ring_bytes: 4096 wakeup_bytes: 2048");
    Status started = daemon.start();
    ASSERT_TRUE(started.ok()) << started.error().message;
    auto bytes = frozen_checkpoint(0, 1);
    ASSERT_TRUE(bytes.ok());
    ASSERT_TRUE(daemon.install(*bytes).ok());
    start_flows(daemon, 4);
    const uint64_t decisions = daemon.status()->decisions();
    ASSERT_TRUE(wait_until([&] { return daemon.status()->decisions() >= decisions + 10; }));
    const uint64_t lost = daemon.lost_in_kernel();
    daemon.pause();
    const uint64_t before = received();
    ASSERT_TRUE(wait_until([&] { return daemon.lost_in_kernel() >= lost + 20; }, 60s)) << "the ring never filled";
    EXPECT_TRUE(wait_until([&] { return received() > before + 100'000; })) << "a sleeping reader stopped the flows";
    daemon.resume();
    // The daemon's own count begins with the module's, which other tests may have left above 0.
    ASSERT_TRUE(wait_until([&] {
        auto status = daemon.status();
        return status.ok() && status->samples_lost() > lost && status->sequence_gaps() == status->samples_lost() - lost;
    })) << "lost "
        << daemon.status()->samples_lost() << " (" << lost << " before), gaps " << daemon.status()->sequence_gaps();
    EXPECT_EQ(daemon.status()->decisions_unexplained(), 0U);
    finish_flows();
}

TEST_F(ADAPATH_DAEMON_SUITE, ASecondDaemonIsRefusedAndTheFirstServesOn) {
    TestDaemon daemon(kBackend);
    ASSERT_TRUE(daemon.start().ok());
    // Another state directory and socket, the same kernel side.
    std::vector<std::string> argv = {ADAPATHD, "--state-dir", daemon.directory() + "/other", "--socket",
                                     daemon.directory() + "/o"};
    for (const std::string& option : daemon.same_kernel_side()) argv.push_back(option);
    Result<Child> second = Child::start({.name = "second", .argv = argv, .log = daemon.directory() + "/second.log"});
    ASSERT_TRUE(second.ok());
    ASSERT_TRUE(second->wait_exit(10s * slowness()));
    EXPECT_EQ(second->exit_code().value_or(0), 1);
    EXPECT_NE(second->obituary().find("in use by another adapathd"), std::string::npos) << second->obituary();
    EXPECT_TRUE(daemon.status().ok());
}

TEST_F(ADAPATH_DAEMON_SUITE, ADamagedSnapshotIsRefusedAndChangesNothing) {
    TestDaemon daemon(kBackend);
    ASSERT_TRUE(daemon.start().ok());
    auto bytes = frozen_checkpoint(0, 1);
    ASSERT_TRUE(bytes.ok());
    auto installed = daemon.install(*bytes);
    ASSERT_TRUE(installed.ok());
    std::string damaged = *bytes;
    damaged[damaged.size() / 2] = static_cast<char>(damaged[damaged.size() / 2] ^ 1);
    auto refused = daemon.install(damaged);
    ASSERT_FALSE(refused.ok());
    EXPECT_FALSE(refused.error().message.empty());
    auto status = daemon.status();
    ASSERT_TRUE(status.ok());
    EXPECT_EQ(status->active_generation(), installed->generation());
    EXPECT_EQ(status->installs_refused(), 1U);
}

}  // namespace
}  // namespace adapath::testing
