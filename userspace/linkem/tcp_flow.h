// A real TCP flow with a given congestion control, as much as it gets through, for as long as the object lives: over
// loopback, or from one network namespace to another.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "codegen/result.h"
#include "userspace/common/unique_fd.h"
#include "userspace/linkem/netns.h"

namespace adapath {

struct TcpFlowOptions {
    std::string congestion_control;
    const Namespace* from = nullptr;  // null: the one that the caller is in
    const Namespace* to = nullptr;
    std::string address = "127.0.0.1";  // of the receiver
    // 0 = the kernel's own choice.
    int segment = 0;                // bytes
    int send_buffer = 0;            // bytes
    int not_sent_low = 0;           // bytes (TCP_NOTSENT_LOWAT)
    uint64_t most_bytes_per_s = 0;  // SO_MAX_PACING_RATE
    // Ask for SCHED_FIFO, so that on a busy machine the application is never what a flow waits for.
    bool realtime = false;
};

// Loopback has no bottleneck, and unbounded flows would leave a small machine no time for the test itself. Ethernet's
// segment size instead of loopback's 64 KiB, so that the least rate is still several packets a second; little in the
// socket, so that the end of the flow does not wait for megabytes at a low rate.
TcpFlowOptions over_loopback(const std::string& congestion_control);

// What the sender's TCP_INFO says.
struct TcpFlowState {
    uint64_t retransmitted_segments = 0;
    uint64_t retransmitted_bytes = 0;
    uint64_t acked_bytes = 0;
    uint32_t min_rtt_us = 0;
    uint32_t rtt_us = 0;
};
// Of any TCP socket; all 0 where it is none.
TcpFlowState tcp_flow_state(int fd);

class TcpFlow {
public:
    static Result<std::unique_ptr<TcpFlow>> start(const TcpFlowOptions& options);
    ~TcpFlow();
    TcpFlow(const TcpFlow&) = delete;
    TcpFlow& operator=(const TcpFlow&) = delete;

    // The application writes at most so much from now on; 0 (as at first) = all that the socket takes.
    void limit_application(uint64_t bytes_per_s) { application_bytes_per_s_ = bytes_per_s; }
    // Stops sending and waits until all has arrived; false if anything is missing.
    bool finish();
    // Ends it at once; what is on its way is lost.
    void cancel();
    [[nodiscard]] uint64_t received() const { return received_; }
    [[nodiscard]] TcpFlowState state() const { return tcp_flow_state(sender_.get()); }

private:
    TcpFlow() = default;
    Status connect(const TcpFlowOptions& options);
    void run(bool realtime);
    void join();

    UniqueFd listener_;
    UniqueFd sender_;
    UniqueFd receiver_;
    std::atomic<bool> stop_ = false;
    std::atomic<uint64_t> application_bytes_per_s_ = 0;
    std::atomic<uint64_t> sent_ = 0;
    std::atomic<uint64_t> received_ = 0;
    std::thread read_thread_;
    std::thread write_thread_;
};

}  // namespace adapath
