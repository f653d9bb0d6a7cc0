// The app select between real sockets: cameras in one namespace, the gateway in another, a veth pair with the program
// on its ingress. What the gateway's sockets receive is what counts.
#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <net/if.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <optional>
#include <set>
#include <thread>
#include <tuple>

#include "tests/bpf/select_fixture.h"
#include "userspace/linkem/netns.h"

namespace adapath::testing {

namespace {

constexpr uint32_t kCameras = 4;
constexpr uint16_t kOtherPort = 6000;

sockaddr_in address_of(const std::string& host, uint16_t port) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    inet_pton(AF_INET, host.c_str(), &address.sin_addr);
    return address;
}

UniqueFd udp_socket(const std::string& host, uint16_t port) {
    UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = address_of(host, port);
    const int bytes = 8 << 20;
    (void)setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes));
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0) << std::strerror(errno);
    return fd;
}

}  // namespace

class SelectNetns : public SelectFixture {
protected:
    void SetUp() override {
        SelectFixture::SetUp();
        if (IsSkipped()) return;
        Result<Namespace> lan = Namespace::create(Namespace::unique_name("adpsel-l"));
        Result<Namespace> gateway = Namespace::create(Namespace::unique_name("adpsel-g"));
        if (!lan || !gateway) GTEST_SKIP() << "no namespaces here: " << (lan ? gateway : lan).error().message;
        lan_.emplace(std::move(*lan));
        gateway_.emplace(std::move(*gateway));
        in(*lan_, [&] { return create_veth("cams", *gateway_, "lan0"); });
        in(*lan_, [] { return set_link_up("cams"); });
        in(*gateway_, [] { return set_link_up("lan0"); });
        in(*gateway_, [] { return add_address("lan0", "10.0.0.1/24"); });
        for (uint32_t i = 0; i < kCameras; ++i)
            in(*lan_, [&] { return add_address("cams", camera_of(i).address + "/24"); });
        options_.interfaces = {"lan0"};
        add_cameras(kCameras);
    }
    void TearDown() override {
        close();
        if (gateway_ && access(options_.pin_directory.c_str(), F_OK) == 0) remove();
        gateway_.reset();
        lan_.reset();
    }
    template <typename Work>
    static void in(const Namespace& space, Work work) {
        const Status status = space.run([&]() -> Status { return work(); });
        ASSERT_TRUE(status.ok()) << status.error().message;
    }
    // In the gateway's namespace: that is where the interface is.
    void open_there() {
        in(*gateway_, [this]() -> Status {
            open();
            return {};
        });
    }
    void remove() {
        in(*gateway_, [this] { return remove_select_backend(options_.pin_directory); });
    }
    void open_sockets() {
        in(*lan_, [this]() -> Status {
            for (uint32_t i = 0; i < kCameras; ++i) senders_.push_back(udp_socket(camera_of(i).address, 0));
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

    std::optional<Namespace> lan_;
    std::optional<Namespace> gateway_;
    std::vector<UniqueFd> senders_;
    std::vector<UniqueFd> receivers_;
    std::set<Arrival> arrived_;
    uint64_t received_ = 0;
    uint64_t others_ = 0;
    int send_flags_ = 0;
};

TEST_F(SelectNetns, OneRenditionOfEachChunkComesThroughWhateverIsSwitched) {
    open_there();
    open_sockets();
    std::vector<Snapshot> snapshots;
    for (uint64_t i = 0; i < 4; ++i) snapshots.push_back(freeze(random_select_model({32, 16}, 30 + i)));
    snapshots.push_back(freeze(random_select_model({24}, 40)));
    LiveCameras cameras(kCameras, 25ms, 6, 9, true);
    std::map<std::tuple<uint32_t, uint32_t, uint32_t>, std::vector<Arrival>> chunks;
    std::atomic<bool> over{false};
    uint64_t sent = 0;
    uint64_t others_sent = 0;
    std::thread sender([&] {
        cameras.run_for(8000ms, [&](uint32_t camera, uint32_t rendition, const Bytes& packet) {
            const RtpRendition& r = cameras.rendition(camera, rendition);
            chunks[{camera, rendition, (r.pictures - 1) / r.group}].emplace_back(
                camera, rendition, static_cast<uint16_t>(packet[2] << 8 | packet[3]));
            send_to(camera, static_cast<uint16_t>(5000 + rendition), packet);
            ++sent;
            if (sent % 10 == 0) {
                send_to(camera, kOtherPort, packet);
                ++others_sent;
            }
            return false;
        });
        over = true;
    });
    uint32_t switches = 0;
    while (!over && !HasFatalFailure()) {
        panel_->set_market(0.1 * (switches % 20), 0, 0.5, kCameras);
        activate(snapshots[switches++ % snapshots.size()]);
        receive();
        collect(5ms);
    }
    sender.join();
    std::this_thread::sleep_for(50ms);  // what is still in softirqs
    receive();
    collect();

    uint64_t passed = 0;
    uint64_t counted = 0;
    for (uint32_t i = 0; i < kCameras; ++i) {
        Result<adp_select_camera> state = panel_->camera(i);
        ASSERT_TRUE(state.ok());
        for (const adp_select_stream& stream : state->streams) {
            passed += stream.passed;
            counted += stream.passed + stream.dropped;
        }
        EXPECT_EQ(state->counters.torn, 0U);
        EXPECT_EQ(state->counters.foreign, 0U);
        EXPECT_EQ(state->streams[0].last.lost + state->streams[1].last.lost, 0U);
    }
    EXPECT_EQ(counted, sent);
    EXPECT_EQ(received_, passed) << "what passed arrived, and nothing else";
    EXPECT_EQ(others_, others_sent);
    size_t halves = 0;
    std::array<size_t, 2> whole = {};
    std::map<std::pair<uint32_t, uint32_t>, uint32_t> pairs;
    for (const auto& [key, packets] : chunks) {
        size_t through = 0;
        for (const Arrival& packet : packets) through += arrived_.contains(packet) ? 1 : 0;
        halves += through == 0 || through == packets.size() ? 0 : 1;
        whole[std::get<1>(key)] += through == packets.size() ? 1 : 0;
        pairs[{std::get<0>(key), std::get<2>(key)}] |= through > 0 ? 1U << std::get<1>(key) : 0U;
    }
    EXPECT_EQ(halves, 0U);
    EXPECT_GT(whole[ADP_SELECT_SUB], 20U);
    EXPECT_GT(whole[ADP_SELECT_MAIN], 20U);
    // Their IDR pictures coincide and nothing explores: never both.
    size_t both = 0;
    for (const auto& [key, renditions] : pairs) both += renditions == ADP_SELECT_BOTH ? 1 : 0;
    EXPECT_EQ(both, 0U);
    EXPECT_GT(switches, 300U);
    EXPECT_GT(by_generation_.size(), 50U);
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_EQ(gaps_, 0U);
    EXPECT_EQ(backend_.collector->stats().program_missing, 0U);
}

// Payloads that are not in the packet's linear part (here, pages of the sender's own, by MSG_ZEROCOPY): read all the
// same.
TEST_F(SelectNetns, PacketsInPiecesAreRead) {
    open_there();
    open_sockets();
    for (const UniqueFd& sender : senders_) {
        const int on = 1;
        ASSERT_EQ(setsockopt(sender.get(), SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)), 0) << std::strerror(errno);
    }
    send_flags_ = MSG_ZEROCOPY;
    LiveCameras cameras(kCameras, 20ms, 6, 11);
    uint64_t sub = 0;
    std::vector<Bytes> kept;  // the kernel reads them when it pleases
    kept.reserve(100000);
    cameras.run_for(1200ms, [&](uint32_t camera, uint32_t rendition, const Bytes& packet) {
        kept.push_back(packet);
        send_to(camera, static_cast<uint16_t>(5000 + rendition), kept.back());
        sub += rendition == ADP_SELECT_SUB ? 1 : 0;
        return false;
    });
    std::this_thread::sleep_for(50ms);
    receive();
    EXPECT_EQ(received_, sub);
    for (uint32_t i = 0; i < kCameras; ++i) {
        Result<adp_select_camera> state = panel_->camera(i);
        ASSERT_TRUE(state.ok());
        EXPECT_EQ(state->counters.malformed + state->counters.others + state->counters.waiting, 0U);
        EXPECT_GT(state->streams[ADP_SELECT_MAIN].dropped, 50U);
    }
}

TEST_F(SelectNetns, ADaemonThatEndsLeavesItDeciding) {
    open_there();
    open_sockets();
    close();
    LiveCameras cameras(kCameras, 20ms, 6, 10);
    uint64_t sub = 0;
    cameras.run_for(1200ms, [&](uint32_t camera, uint32_t rendition, const Bytes& packet) {
        send_to(camera, static_cast<uint16_t>(5000 + rendition), packet);
        sub += rendition == ADP_SELECT_SUB ? 1 : 0;
        return false;
    });
    std::this_thread::sleep_for(50ms);
    receive();
    EXPECT_EQ(received_, sub) << "the fallback: the sub stream of every camera";
    // Adopted, with the interface still attached; and once it is removed, all passes.
    open_there();
    EXPECT_TRUE(backend_.adopted);
    close();
    remove();
    const uint64_t before = received_;
    uint64_t all = 0;
    cameras.run_for(240ms, [&](uint32_t camera, uint32_t rendition, const Bytes& packet) {
        send_to(camera, static_cast<uint16_t>(5000 + rendition), packet);
        ++all;
        return false;
    });
    std::this_thread::sleep_for(50ms);
    receive();
    EXPECT_EQ(received_ - before, all);
}

TEST_F(SelectNetns, RemovingLeavesNothingAndNobodyElsesThings) {
    const auto qdisc_was_there = [this] {
        bool there = false;
        in(*gateway_, [&]() -> Status {
            bpf_tc_hook hook = {};
            hook.sz = sizeof(hook);
            hook.ifindex = static_cast<int>(if_nametoindex("lan0"));
            hook.attach_point = BPF_TC_INGRESS;
            there = bpf_tc_hook_create(&hook) == -EEXIST;
            return {};
        });
        return there;
    };
    const auto destroy_qdisc = [this] {
        in(*gateway_, []() -> Status {
            bpf_tc_hook hook = {};
            hook.sz = sizeof(hook);
            hook.ifindex = static_cast<int>(if_nametoindex("lan0"));
            hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
            (void)bpf_tc_hook_destroy(&hook);
            return {};
        });
    };
    open_there();
    close();
    remove();
    EXPECT_NE(access(options_.pin_directory.c_str(), F_OK), 0);
    EXPECT_FALSE(qdisc_was_there()) << "the qdisc was left behind";
    // It is there now, made by somebody else, and stays.
    open_there();
    close();
    remove();
    EXPECT_TRUE(qdisc_was_there());
    destroy_qdisc();
    // Made by us, but by now with somebody else's filter on it: here, a second kernel side's own program at another
    // priority.
    open_there();
    in(*gateway_, [this]() -> Status {
        bpf_tc_hook hook = {};
        hook.sz = sizeof(hook);
        hook.ifindex = static_cast<int>(if_nametoindex("lan0"));
        hook.attach_point = BPF_TC_EGRESS;
        bpf_tc_opts filter = {};
        filter.sz = sizeof(filter);
        filter.handle = 1;
        filter.priority = 7;
        filter.prog_fd = program_.get();
        EXPECT_EQ(bpf_tc_attach(&hook, &filter), 0);
        return {};
    });
    close();
    remove();
    EXPECT_TRUE(qdisc_was_there());
    destroy_qdisc();
    // An interface that went away does not keep it from being removed; one that never was is an error that leaves
    // nothing.
    open_there();
    close();
    in(*gateway_, [] { return delete_link("lan0"); });
    remove();
    EXPECT_NE(access(options_.pin_directory.c_str(), F_OK), 0);
    Result<Backend> opened = open_select_backend(options_);
    EXPECT_FALSE(opened.ok());
    EXPECT_NE(access(options_.pin_directory.c_str(), F_OK), 0);
}

}  // namespace adapath::testing
