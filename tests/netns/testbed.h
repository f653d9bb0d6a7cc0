// A gateway and a server in namespaces of their own, joined by the link emulator, with TCP flows from one to the other; and
// a daemon as a process, driven over its socket.
#pragma once

#include <atomic>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include <adapath/cc.h>
#include <nlohmann/json.hpp>

#include "codegen/codegen.h"
#include "codegen/trace/trace.h"
#include "userspace/demo/child.h"
#include "userspace/linkem/emulator.h"
#include "userspace/linkem/netns.h"
#include "userspace/proto/control.grpc.pb.h"

namespace adapath::testing {

// Why this machine can't run such tests; empty = it can.
std::string why_not();

struct LinkSettingsForTest {
    double delay_ms = 20;  // each way
    uint64_t queue_bytes = 150'000;
    double loss = 0;
};

// The emulated uplink, from construction to destruction.
class Uplink {
public:
    static Result<std::unique_ptr<Uplink>> create(Trace up, const LinkSettingsForTest& settings = {});
    ~Uplink();

    [[nodiscard]] const Namespace& gateway() const { return *gateway_; }
    [[nodiscard]] const Namespace& server() const { return *server_; }
    [[nodiscard]] EmulatorStats totals() { return emulator_->totals(); }

private:
    Uplink() = default;
    std::unique_ptr<Namespace> gateway_;
    std::unique_ptr<Namespace> server_;
    StopEvent stop_;
    std::unique_ptr<Emulator> emulator_;
    std::thread thread_;
};

// A bulk flow from gateway to server with a given congestion control.
class Flow {
public:
    static Result<std::unique_ptr<Flow>> start(const Uplink& uplink, const std::string& congestion_control);
    ~Flow();
    [[nodiscard]] uint64_t received() const { return received_; }
    // Stops sending, waits until all has arrived; false if anything is missing.
    bool finish();

private:
    Flow() = default;
    int listener_ = -1;
    int sender_ = -1;
    int receiver_ = -1;
    std::atomic<bool> stop_ = false;
    std::atomic<uint64_t> sent_ = 0;
    std::atomic<uint64_t> received_ = 0;
    std::thread read_thread_;
    std::thread write_thread_;
};

// adapathd with names and directories of its own; the kernel side is removed with the object.
class TestDaemon {
public:
    // `config` is appended to the configuration file.
    explicit TestDaemon(const std::string& config = {});
    ~TestDaemon();
    Status start();
    void kill_hard();  // SIGKILL
    void pause();      // SIGSTOP
    void resume();     // SIGCONT
    void stop();       // SIGTERM
    [[nodiscard]] const std::string& congestion_control() const { return name_; }
    [[nodiscard]] std::string socket() const { return directory_ + "/s"; }
    [[nodiscard]] std::string state() const { return directory_ + "/state"; }
    [[nodiscard]] const std::string& directory() const { return directory_; }
    [[nodiscard]] pb::Control::Stub& control() { return *stub_; }
    [[nodiscard]] Result<pb::StatusReply> status();
    Result<pb::InstallReply> install(const std::string& snapshot_bytes, bool activate = true);
    // adapathctl --json ARGUMENTS; the exit code goes to `code`.
    nlohmann::json ctl(std::vector<std::string> arguments, int* code = nullptr);

private:
    std::string name_;
    std::string directory_;
    std::unique_ptr<demo::Child> child_;
    std::unique_ptr<pb::Control::Stub> stub_;
};

// The committed checkpoint, its weights moved by `noise` (relative), frozen: a snapshot file's bytes. Same noise and seed,
// same bytes.
Result<std::string> frozen_checkpoint(double noise, uint64_t seed);
FloatModel another_network(uint64_t seed);
Result<std::string> freeze_bytes(const FloatModel& model);

// Waits for a condition; never longer than the limit.
template <typename Condition>
bool wait_until(Condition condition, std::chrono::seconds limit = std::chrono::seconds(20)) {
    const auto end = std::chrono::steady_clock::now() + limit;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > end) return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(5));  // between two looks, not instead of one
    }
    return true;
}

}  // namespace adapath::testing
