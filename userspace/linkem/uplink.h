// A gateway and a server in namespaces of their own, joined by an emulated link that a thread of this process runs.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "codegen/result.h"
#include "codegen/trace/trace.h"
#include "userspace/linkem/emulator.h"
#include "userspace/linkem/netns.h"

namespace adapath {

inline constexpr const char* uplink_gateway_address = "10.77.0.1";
inline constexpr const char* uplink_server_address = "10.77.0.2";

struct UplinkOptions {
    double delay_ms = 20;  // each way
    uint64_t queue_bytes = 150'000;
    double loss = 0;  // share of packets lost on the air, each way
    uint64_t seed = 1;
    double down_mbit = 50;           // the way back, constant
    uint64_t tcp_buffer_bytes = 0;   // largest send and receive buffer of a socket on either side; 0 = the kernel's
    bool realtime = false;           // ask for SCHED_FIFO, so that other work does not move the packets' times
    bool paused = false;             // start() begins the trace
    std::string prefix = "adpt";     // of the namespaces' names
    uint64_t stats_interval_ns = 0;  // 0 = no on_stats
    std::function<void(const EmulatorStats&)> on_stats{};  // in the link's thread
};

class Uplink {
public:
    static Result<std::unique_ptr<Uplink>> create(Trace up, const UplinkOptions& options = {});
    ~Uplink();
    Uplink(const Uplink&) = delete;
    Uplink& operator=(const Uplink&) = delete;

    void start();
    // Ends the link; its figures stay.
    void stop();
    [[nodiscard]] const Namespace& gateway() const { return *gateway_; }
    [[nodiscard]] const Namespace& server() const { return *server_; }
    // Since the start. Exact only after stop().
    [[nodiscard]] EmulatorStats totals() { return emulator_->totals(); }

private:
    Uplink() = default;
    std::unique_ptr<Namespace> gateway_;
    std::unique_ptr<Namespace> server_;
    StopEvent stop_;
    std::unique_ptr<Emulator> emulator_;
    bool realtime_ = false;
    std::thread thread_;
};

}  // namespace adapath
