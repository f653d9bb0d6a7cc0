// The app qp under the switch, as processes: adapathd, and an encoder's process that decides while snapshots are
// installed, switched, and while either of them is killed. Every sample has to be explained.
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

#include <nlohmann/json.hpp>

#include "tests/daemon/support.h"
#include "tests/qp/selectors.h"
#include "tests/support/patience.h"
#include "userspace/adapathctl/commands.h"
#include "userspace/harness/child.h"

namespace adapath {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::wait_until;
using testing_support::selector_snapshot;

// What the reader says at its end.
struct Done {
    uint64_t decisions = 0;
    uint64_t uniform = 0;
    uint64_t lost = 0;
    uint64_t switches = 0;
    uint64_t samples = 0;  // those that were lost included

    // A chunk that nothing decided has one.
    [[nodiscard]] uint64_t proofs() const { return samples - uniform; }
};

class QpSwitch : public ::testing::Test {
protected:
    QpSwitch() {
        std::ofstream(directory_ / "conf")
            << "app: \"qp\"\nbackend: \"host\"\ninterval_ms: 20\nstate_directory: \"" << directory_ / "state"
            << "\"\nsocket: \"" << directory_ / "s" << "\"\nhost_directory: \"" << directory_ / "host" << "\"\n";
    }

    void start_daemon() {
        daemon_.reset();
        Result<Child> child = Child::start(
            {.name = "adapathd", .argv = {ADAPATHD, "--config", directory_ / "conf"}, .log = directory_ / "log"});
        ASSERT_TRUE(child) << child.error().message;
        daemon_.emplace(std::move(*child));
        ASSERT_TRUE(wait_until([&] { return status().contains("pid") && status()["pid"] == daemon_->pid(); }))
            << daemon_->obituary();
    }
    void kill_daemon() {
        kill(daemon_->pid(), SIGKILL);
        ASSERT_TRUE(daemon_->wait_exit(20s));
    }
    Child start_reader(const std::vector<std::string>& arguments) {
        ChildOptions options{.name = "reader", .argv = {QP_SWITCH_READER}, .log = directory_ / "reader.log"};
        options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
        options.read_output = true;
        Result<Child> child = Child::start(options);
        if (!child) throw std::runtime_error(child.error().message);
        return std::move(*child);
    }
    json status() {
        std::ostringstream out;
        const Result<int> code = Client(directory_ / "s").status(out, true);
        return code ? json::parse(out.str()) : json();
    }
    // The content hash.
    std::string install(uint64_t seed, uint32_t channels = 8) {
        const Snapshot snapshot = selector_snapshot(seed, channels);
        std::ofstream(directory_ / "next.snap", std::ios::binary) << serialise(snapshot).value();
        std::ostringstream out;
        const Result<int> code = Client(directory_ / "s").install(directory_ / "next.snap", true, "", out, true);
        EXPECT_TRUE(code) << (code ? "" : code.error().message);
        return snapshot.hash;
    }
    bool switch_to(const std::string& hash) {
        std::ostringstream out;
        return Client(directory_ / "s").switch_to(hash, "", out, true).ok();
    }
    // True: the reader has decided by a snapshot since.
    bool decides(Child& reader) {
        reader.read_lines();
        for (int lines = 0; lines < 100; lines++) {
            Result<std::string> line = reader.wait_line(30s, stop_);
            if (!line) return false;
            if (line->find("generation 0") == std::string::npos) return true;
        }
        return false;
    }
    Done finish(Child& reader) {
        kill(reader.pid(), SIGTERM);
        Done done;
        for (;;) {
            Result<std::string> line = reader.wait_line(30s, stop_);
            if (!line) {
                ADD_FAILURE() << line.error().message;
                return done;
            }
            if (line->starts_with("done ")) {
                std::istringstream(line->substr(5)) >> done.decisions >> done.uniform >> done.lost >> done.switches >>
                    done.samples;
                return done;
            }
        }
    }
    json verify() {
        std::ostringstream out;
        const Result<int> code = verify_directory(directory_ / "state", "qp", out, true);
        EXPECT_TRUE(code) << (code ? "" : code.error().message);
        return json::parse(out.str());
    }

    test::TemporaryDirectory directory_;
    StopToken stop_;
    std::optional<Child> daemon_;
};

TEST_F(QpSwitch, TwentyASecondUnderARunningEncoderLoseAndTearNothing) {
    start_daemon();
    // Two of one program, and one of another.
    const std::vector<std::string> hashes = {install(1), install(2), install(3, 12)};
    // With 8 samples a chunk a ring holds 1.3 s of them: what a daemon on a busy machine may be late by.
    Child reader = start_reader({"run", directory_ / "host", "25"});
    ASSERT_TRUE(decides(reader));
    constexpr int kSwitches = 100;
    auto next = std::chrono::steady_clock::now();
    for (int i = 0; i < kSwitches; i++) {
        ASSERT_TRUE(switch_to(hashes[static_cast<size_t>(i) % hashes.size()])) << i;
        std::this_thread::sleep_until(next += 50ms);
    }
    const Done done = finish(reader);
    EXPECT_EQ(done.lost, 0U);
    EXPECT_GT(done.switches, 10U);
    const auto collected = [&] { return status()["decisions_explained"] == done.proofs(); };
    EXPECT_TRUE(wait_until(collected)) << status().dump(1);
    const json now = status();
    EXPECT_EQ(now["decisions"], done.decisions);
    EXPECT_EQ(now["fallbacks"], done.uniform);
    EXPECT_EQ(now["decisions_unexplained"], 0) << now["last_unexplained"];
    EXPECT_EQ(now["samples_lost"], 0);
    EXPECT_EQ(now["program_missing"], 0) << "to be compiled is not to be missing";
    EXPECT_EQ(now["sequence_gaps"], 0);
    const json report = verify();
    EXPECT_EQ(done.proofs(), 8 * done.decisions);
    EXPECT_EQ(report["decisions"], done.proofs());
    EXPECT_EQ(report["explained"], done.proofs());
    EXPECT_EQ(report["unexplained"], 0) << report.dump(1);
    EXPECT_EQ(report["gaps"], 0);
    EXPECT_GE(report["generations"], 3);
    RecordProperty("decisions", std::to_string(done.decisions));
    RecordProperty("switches_seen", std::to_string(done.switches));
}

TEST_F(QpSwitch, ASlotThatAReaderHoldsIsReusedWhenItIsKilledAndNoSooner) {
    start_daemon();
    install(1);
    Child holder = start_reader({"hold", directory_ / "host"});
    const Result<std::string> line = holder.wait_line(20s, stop_);
    ASSERT_TRUE(line) << line.error().message;
    ASSERT_TRUE(line->starts_with("holding ")) << *line;
    const size_t slot = static_cast<size_t>(std::stoi(line->substr(8)));
    for (uint64_t seed = 2; seed < 16; seed++) {
        install(seed);
        const json held = status()["slots"][slot];
        ASSERT_EQ(held["generation"], 1) << held.dump() << " after " << seed << " installs";
        ASSERT_EQ(held["bound_flows"], 1) << held.dump();
    }
    EXPECT_EQ(status()["slots"][slot]["state"], "draining");
    kill(holder.pid(), SIGKILL);
    ASSERT_TRUE(holder.wait_exit(20s));
    EXPECT_TRUE(wait_until([&] {
        const json after = status()["slots"][slot];
        return after["generation"] != 1 && after["bound_flows"] == 0;
    })) << status()["slots"][slot].dump();
}

TEST_F(QpSwitch, AKilledDaemonLeavesTheEncoderItsSnapshotAndTheNextOneAdopts) {
    start_daemon();
    const std::vector<std::string> hashes = {install(1), install(2), install(3)};
    Child reader = start_reader({"run", directory_ / "host", "50"});
    ASSERT_TRUE(decides(reader));
    std::mt19937 random(1);
    for (int round = 0; round < 4; round++) {
        // Killed somewhere among switches.
        std::jthread killer([&, delay = random() % 120] {
            std::this_thread::sleep_for(std::chrono::milliseconds(30 + delay));
            kill(daemon_->pid(), SIGKILL);
        });
        for (size_t i = 0; switch_to(hashes[i % hashes.size()]); i++) std::this_thread::sleep_for(5ms);
        killer.join();
        ASSERT_TRUE(daemon_->wait_exit(20s));
        EXPECT_TRUE(decides(reader)) << "round " << round << ": without a daemon";
        start_daemon();
        EXPECT_EQ(status()["adopted"], true);
        EXPECT_NE(status()["active_generation"], 0);
        EXPECT_TRUE(decides(reader));
    }
    const Done done = finish(reader);
    EXPECT_TRUE(wait_until([&] { return verify()["records"] == done.samples - done.lost; }));
    const json report = verify();
    EXPECT_EQ(report["unexplained"], 0) << report.dump(1);
    EXPECT_EQ(report["gaps"], done.lost);
    EXPECT_EQ(report["decisions"].get<uint64_t>() + done.lost, done.proofs());
}

// The whole path: cameras that encode regions over TCP, switched meanwhile.
TEST_F(QpSwitch, CamerasGoOnThroughSwitchesAndKeepToTheirBudget) {
    if (access(ADAPATH_TEST_CLIP, R_OK) != 0) {
        GTEST_SKIP() << ADAPATH_TEST_CLIP << " is missing: run make deps";
    }
    start_daemon();
    const std::vector<std::string> hashes = {install(1), install(2), install(3, 12)};
    const auto start = [&](const std::string& name, const std::string& program, std::vector<std::string> arguments) {
        ChildOptions options{.name = name, .argv = {program}, .log = directory_ / (name + ".log"), .read_output = true};
        options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
        return std::move(Child::start(options).value());
    };
    Child receiver = start("receiver", ADAPATH_VIDEO_RECV,
                           {"--listen", "127.0.0.1:0", "--cameras", "2", "--summary", directory_ / "recv.json"});
    const Result<std::string> ready = receiver.wait_line(20s, stop_);
    ASSERT_TRUE(ready && ready->starts_with("ready ")) << (ready ? *ready : ready.error().message);
    constexpr double kSeconds = 10;
    Child sender = start("sender", ADAPATH_VIDEO_SEND,
                         {"--clip",
                          ADAPATH_TEST_CLIP,
                          "--server",
                          ready->substr(6),
                          "--cameras",
                          "2",
                          "--size",
                          "384x288",
                          "--no-adaptive",
                          "--start-kbps",
                          "600",
                          "--duration",
                          std::to_string(kSeconds),
                          "--memory-mb",
                          "60",
                          "--summary",
                          directory_ / "send.json",
                          "--qp",
                          directory_ / "host",
                          "--qp-threshold",
                          "0.3"});
    ASSERT_TRUE(wait_until([&] { return status()["decisions"] > 0; }, 60s)) << sender.obituary();
    auto next = std::chrono::steady_clock::now();
    for (size_t i = 0; sender.running(); i++) {
        ASSERT_TRUE(switch_to(hashes[i % hashes.size()])) << i;
        std::this_thread::sleep_until(next += 50ms);
    }
    EXPECT_EQ(sender.exit_code(), 0) << sender.obituary();
    {
        std::ifstream log(directory_ / "sender.log");
        std::stringstream text;
        text << log.rdbuf();
        EXPECT_NE(text.str().find("--qp-background saves"), std::string::npos) << text.str();
    }
    ASSERT_TRUE(receiver.wait_exit(20s));
    EXPECT_EQ(receiver.exit_code(), 0) << receiver.obituary();
    const auto read = [&](const std::string& name) {
        std::ifstream file(directory_ / name);
        return json::parse(file);
    };
    const json sent = read("send.json");
    const json got = read("recv.json");
    EXPECT_EQ(got["total"]["frames_decoded"], sent["total"]["frames_sent"]);
    uint64_t decided = 0;
    for (const json& camera : sent["cameras"]) {
        const json& qp = camera["qp"];
        decided += qp["decided"].get<uint64_t>();
        EXPECT_GT(qp["decided"], 10) << qp.dump();
        EXPECT_GT(qp["switches"], 3) << qp.dump();
        EXPECT_EQ(qp["samples_lost"], 0) << qp.dump();
        EXPECT_GT(qp["bytes_over_budget"], 0.8) << qp.dump();
        EXPECT_LT(qp["bytes_over_budget"], 1.25) << qp.dump();
        RecordProperty("qp", qp.dump());
    }
    EXPECT_TRUE(wait_until([&] { return status()["decisions_explained"] == 8 * decided; })) << status().dump(1);
    const json report = verify();
    EXPECT_EQ(report["unexplained"], 0) << report.dump(1);
    EXPECT_EQ(report["gaps"], 0);
    EXPECT_GE(report["generations"], 2);
}

TEST_F(QpSwitch, WhatDoesNotFitIsRefusedWithAReason) {
    start_daemon();
    const std::string first = install(1);
    const auto attempt = [&](const std::string& bytes, bool canary) {
        std::ofstream(directory_ / "bad.snap", std::ios::binary) << bytes;
        std::ostringstream out;
        const Result<int> code =
            Client(directory_ / "s").install(directory_ / "bad.snap", true, "", out, false, canary);
        return code ? out.str() : code.error().message;
    };
    EXPECT_NE(attempt(test::file_of(test::random_snapshot(1)), false).find("for app 'cc'"), std::string::npos);
    // An output every 2 codes is none a macroblock.
    Snapshot other = selector_snapshot(2);
    ImageSnapshot& image = *other.image;
    for (auto* layers : {&image.model.network.layers, &image.reference.network.layers}) (*layers)[1].stride = 1;
    EXPECT_NE(attempt(serialise(other).value(), false).find("every 2 codes"), std::string::npos);
    // A trial can't be; the snapshot decides at once, and why is said.
    const std::string canary = attempt(serialise(selector_snapshot(4)).value(), true);
    EXPECT_NE(canary.find("app qp has no trials"), std::string::npos) << canary;
    EXPECT_NE(status()["active_hash"], first);
    EXPECT_EQ(status()["installs_refused"], 2);
}

}  // namespace
}  // namespace adapath
