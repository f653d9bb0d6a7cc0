// Many bulk TCP flows from one namespace to another in two threads, so that a thousand of them cost sockets and not
// threads; their congestion control can be changed under way, which is how several are compared on the same flows.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "codegen/result.h"
#include "userspace/common/stop.h"
#include "userspace/common/unique_fd.h"
#include "userspace/linkem/netns.h"
#include "userspace/linkem/tcp_flow.h"

namespace adapath {

struct TcpCrowdOptions {
    size_t count = 1;
    std::string congestion_control;
    std::string address;  // of the receiver, in `to`
    // Packets that each may have in flight: sizes the sockets' buffers. 0 = the kernel's own sizes.
    uint32_t window = 0;
    int not_sent_low = 0;   // bytes (TCP_NOTSENT_LOWAT), where the window does not say it; 0 = no limit
    bool realtime = false;  // ask for SCHED_FIFO, as TcpFlowOptions does
};

class TcpCrowd {
public:
    // Returns when all are connected, and sends from then on.
    static Result<std::unique_ptr<TcpCrowd>> start(const Namespace& from, const Namespace& to,
                                                   const TcpCrowdOptions& options, StopToken& stop);
    ~TcpCrowd();
    TcpCrowd(const TcpCrowd&) = delete;
    TcpCrowd& operator=(const TcpCrowd&) = delete;

    // From now on, for all of them.
    Status use(const std::string& congestion_control);
    [[nodiscard]] const std::vector<UniqueFd>& sockets() const { return senders_; }
    [[nodiscard]] uint64_t received_bytes() const { return received_; }
    // What TCP_INFO of each sender says now.
    [[nodiscard]] std::vector<TcpFlowState> states() const;
    // What the kernel has charged to the sending sockets as option memory (SK_MEMINFO_OPTMEM), which is where socket
    // storage is charged: bytes, mean of all.
    [[nodiscard]] double option_memory() const;

private:
    TcpCrowd() = default;
    Status listen_at(const Namespace& to, const TcpCrowdOptions& options);
    Status connect_all(const Namespace& from, const TcpCrowdOptions& options, StopToken& stop);
    void send_loop(bool realtime);
    void receive_loop(bool realtime);

    UniqueFd listener_;
    uint16_t port_ = 0;
    std::vector<UniqueFd> senders_;
    std::vector<UniqueFd> receivers_;  // of the receiving thread alone
    UniqueFd send_epoll_;
    UniqueFd receive_epoll_;
    std::atomic<size_t> accepted_{0};
    std::atomic<uint64_t> received_{0};
    std::atomic<bool> quit_{false};
    std::thread send_thread_;
    std::thread receive_thread_;
};

}  // namespace adapath
