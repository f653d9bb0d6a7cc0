// Cameras that send UDP from a namespace of their own to a gateway in another, over a veth pair: "cams" there, "lan0"
// here.
#pragma once

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/support/rtp_camera.h"
#include "userspace/common/unique_fd.h"
#include "userspace/linkem/netns.h"

namespace adapath::testing {

inline sockaddr_in address_of(const std::string& host, uint16_t port) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    inet_pton(AF_INET, host.c_str(), &address.sin_addr);
    return address;
}

inline UniqueFd udp_socket(const std::string& host, uint16_t port) {
    UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = address_of(host, port);
    const int bytes = 8 << 20;
    (void)setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0) << std::strerror(errno);
    return fd;
}

class CameraLink {
public:
    static constexpr uint16_t kOtherPort = 6000;

    // Cameras have the addresses 10.0.0.2 and up, the gateway 10.0.0.1. A place without namespaces is an error.
    Status make(uint32_t cameras, Namespace gateway) {
        cameras_ = cameras;
        Result<Namespace> lan = Namespace::create(Namespace::unique_name("adpsel-l"));
        if (!lan) return lan.error();
        lan_.emplace(std::move(*lan));
        gateway_.emplace(std::move(gateway));
        Status status = lan_->run([&] { return create_veth("cams", *gateway_, "lan0"); });
        if (status) status = lan_->run([] { return set_link_up("cams"); });
        if (status) status = gateway_->run([] { return set_link_up("lan0"); });
        if (status) status = gateway_->run([] { return add_address("lan0", "10.0.0.1/24"); });
        for (uint32_t i = 0; i < cameras && status; ++i)
            status = lan_->run([&] { return add_address("cams", camera_address(i) + "/24"); });
        return status;
    }
    void remove() {
        // Not left to the namespace, which goes some time after its last user: the next test wants the names.
        if (lan_) (void)lan_->run([] { return delete_link("cams"); });
        senders_.clear();
        receivers_.clear();
        gateway_.reset();
        lan_.reset();
    }
    static std::string camera_address(uint32_t camera) { return "10.0.0." + std::to_string(2 + camera); }

    [[nodiscard]] const Namespace& lan() const { return *lan_; }
    [[nodiscard]] const Namespace& gateway() const { return *gateway_; }
    template <typename Work>
    static void in(const Namespace& space, Work work) {
        const Status status = space.run([&]() -> Status { return work(); });
        ASSERT_TRUE(status.ok()) << status.error().message;
    }

    void open_sockets() {
        in(*lan_, [this]() -> Status {
            for (uint32_t i = 0; i < cameras_; ++i) senders_.push_back(udp_socket(camera_address(i), 0));
            return {};
        });
        in(*gateway_, [this]() -> Status {
            for (const uint16_t port : {uint16_t{5000}, uint16_t{5001}, kOtherPort})
                receivers_.push_back(udp_socket("10.0.0.1", port));
            return {};
        });
    }
    void send_to(uint32_t camera, uint16_t port, const Bytes& packet) {
        const sockaddr_in to = address_of("10.0.0.1", port);
        EXPECT_EQ(sendto(senders_[camera].get(), packet.data(), packet.size(), send_flags_,
                         reinterpret_cast<const sockaddr*>(&to), sizeof(to)),
                  static_cast<ssize_t>(packet.size()));
    }
    void set_send_flags(int flags) { send_flags_ = flags; }
    // camera, rendition, sequence number
    using Arrival = std::tuple<uint32_t, uint32_t, uint16_t>;
    // All that waits at the sockets.
    void receive() {
        std::array<uint8_t, 2048> buffer = {};
        for (uint32_t which = 0; which < receivers_.size(); ++which) {
            for (;;) {
                sockaddr_in from = {};
                socklen_t bytes = sizeof(from);
                const ssize_t got = recvfrom(receivers_[which].get(), buffer.data(), buffer.size(), MSG_DONTWAIT,
                                             reinterpret_cast<sockaddr*>(&from), &bytes);
                if (got < 0) break;
                if (which == 2) {
                    ++others_;
                    continue;
                }
                ASSERT_GE(got, 12);
                ++received_;
                arrived_.emplace(ntohl(from.sin_addr.s_addr) - 0x0a000002, which,
                                 static_cast<uint16_t>(buffer[2] << 8 | buffer[3]));
            }
        }
    }
    [[nodiscard]] const std::vector<UniqueFd>& senders() const { return senders_; }
    [[nodiscard]] bool has_arrived(const Arrival& packet) const { return arrived_.contains(packet); }
    [[nodiscard]] uint64_t received() const { return received_; }
    [[nodiscard]] uint64_t others() const { return others_; }

private:
    uint32_t cameras_ = 0;
    std::optional<Namespace> lan_;
    std::optional<Namespace> gateway_;
    std::vector<UniqueFd> senders_;
    std::vector<UniqueFd> receivers_;
    std::set<Arrival> arrived_;
    uint64_t received_ = 0;
    uint64_t others_ = 0;
    int send_flags_ = 0;
};

}  // namespace adapath::testing
