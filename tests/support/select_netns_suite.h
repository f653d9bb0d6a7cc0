// The tests of the app select between real sockets, the same for every kernel side: cameras in a namespace of their
// own, a veth pair, and what the gateway's sockets receive is what counts. Included once by the test program of each,
// after it has defined ADAPATH_SELECT_SUITE as the name of its fixture: a SelectChecks with a `link_`, kCameras cameras
// configured on its interface, and open_there(), close(), remove(), set_market(), camera_state() and least_switches().
#ifndef ADAPATH_SELECT_SUITE
#error "define ADAPATH_SELECT_SUITE as the fixture of the kernel side under test"
#endif

#include <sys/socket.h>

#include <atomic>
#include <thread>
#include <tuple>

#include "tests/support/camera_link.h"
#include "tests/support/live_cameras.h"

namespace adapath::testing {

TEST_F(ADAPATH_SELECT_SUITE, OneRenditionOfEachChunkComesThroughWhateverIsSwitched) {
    open_there();
    link_.open_sockets();
    std::vector<Snapshot> snapshots;
    for (uint64_t i = 0; i < 4; ++i) snapshots.push_back(freeze(random_select_model({32, 16}, 30 + i)));
    snapshots.push_back(freeze(random_select_model({24}, 40)));
    LiveCameras cameras(kCameras, 25ms, 6, 9, true);
    std::map<std::tuple<uint32_t, uint32_t, uint32_t>, std::vector<CameraLink::Arrival>> chunks;
    std::atomic<bool> enough{false};
    uint64_t sent = 0;
    uint64_t others_sent = 0;
    std::thread sender([&] {
        while (!enough) {
            cameras.run_for(200ms, [&](uint32_t camera, uint32_t rendition, const Bytes& packet) {
                const RtpRendition& r = cameras.rendition(camera, rendition);
                chunks[{camera, rendition, (r.pictures - 1) / r.group}].emplace_back(
                    camera, rendition, static_cast<uint16_t>(packet[2] << 8 | packet[3]));
                link_.send_to(camera, static_cast<uint16_t>(5000 + rendition), packet);
                ++sent;
                if (sent % 10 == 0) {
                    link_.send_to(camera, CameraLink::kOtherPort, packet);
                    ++others_sent;
                }
                return false;
            });
        }
    });
    // For 8 s, or on a slow machine until each rendition was chosen often enough to tell.
    uint32_t switches = 0;
    const auto chosen = [&](uint32_t choice) {
        return std::ranges::count_if(samples_, [&](const adp_select_sample& s) { return s.choice == choice; });
    };
    const auto begin = std::chrono::steady_clock::now();
    for (auto now = begin; !HasFatalFailure() && now < begin + 60s &&
                           (now < begin + 8s || switches <= least_switches() || chosen(ADP_SELECT_ONLY_SUB) < 30 ||
                            chosen(ADP_SELECT_ONLY_MAIN) < 30);
         now = std::chrono::steady_clock::now()) {
        set_market(0.1 * (switches % 20), 0, 0.5, kCameras);
        activate(snapshots[switches++ % snapshots.size()]);
        link_.receive();
        collect(5ms);
    }
    enough = true;
    sender.join();
    std::this_thread::sleep_for(50ms);  // what is still in softirqs
    link_.receive();
    collect();

    uint64_t passed = 0;
    uint64_t counted = 0;
    uint64_t hasty = 0;
    for (uint32_t i = 0; i < kCameras; ++i) {
        Result<adp_select_camera> state = camera_state(i);
        ASSERT_TRUE(state.ok());
        for (const adp_select_stream& stream : state->streams) {
            passed += stream.passed;
            counted += stream.passed + stream.dropped;
        }
        hasty += state->counters.hasty;
        EXPECT_EQ(state->counters.torn, 0U);
        EXPECT_EQ(state->counters.foreign, 0U);
        EXPECT_EQ(state->streams[0].last.lost + state->streams[1].last.lost, 0U);
    }
    EXPECT_EQ(counted, sent);
    EXPECT_EQ(link_.received(), passed) << "what passed arrived, and nothing else";
    EXPECT_EQ(link_.others(), others_sent);
    size_t halves = 0;
    std::array<size_t, 2> whole = {};
    std::map<std::pair<uint32_t, uint32_t>, uint32_t> pairs;
    for (const auto& [key, packets] : chunks) {
        size_t through = 0;
        for (const CameraLink::Arrival& packet : packets) through += link_.has_arrived(packet) ? 1 : 0;
        halves += through == 0 || through == packets.size() ? 0 : 1;
        whole[std::get<1>(key)] += through == packets.size() ? 1 : 0;
        pairs[{std::get<0>(key), std::get<2>(key)}] |= through > 0 ? 1U << std::get<1>(key) : 0U;
    }
    EXPECT_EQ(halves, 0U);
    EXPECT_GT(whole[ADP_SELECT_SUB], 20U);
    EXPECT_GT(whole[ADP_SELECT_MAIN], 20U);
    // Their IDR pictures coincide and nothing explores: never both. Where the sender was held up between them, or made
    // up for it, they do not: then the kernel side says that it took them for that.
    size_t both = 0;
    for (const auto& [key, renditions] : pairs) both += renditions == ADP_SELECT_BOTH ? 1 : 0;
    const auto bridged = static_cast<uint64_t>(std::ranges::count_if(
        samples_, [](const adp_select_sample& s) { return (s.flags & ADP_SELECT_BRIDGED) != 0; }));
    EXPECT_LE(both, hasty + bridged);
    EXPECT_GT(switches, least_switches());
    EXPECT_GT(by_generation_.size(), least_switches() / 6);
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_EQ(gaps_, 0U);
    EXPECT_EQ(backend_.collector->stats().program_missing, 0U);
}

// Payloads that are not in the packet's linear part (here, pages of the sender's own, by MSG_ZEROCOPY): read all the
// same.
TEST_F(ADAPATH_SELECT_SUITE, PacketsInPiecesAreRead) {
    open_there();
    link_.open_sockets();
    for (const UniqueFd& sender : link_.senders()) {
        const int on = 1;
        ASSERT_EQ(setsockopt(sender.get(), SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on)), 0) << std::strerror(errno);
    }
    link_.set_send_flags(MSG_ZEROCOPY);
    LiveCameras cameras(kCameras, 20ms, 6, 11);
    uint64_t sub = 0;
    std::vector<Bytes> kept;  // the kernel reads them when it pleases
    kept.reserve(100000);
    cameras.run_for(1200ms, [&](uint32_t camera, uint32_t rendition, const Bytes& packet) {
        kept.push_back(packet);
        link_.send_to(camera, static_cast<uint16_t>(5000 + rendition), kept.back());
        sub += rendition == ADP_SELECT_SUB ? 1 : 0;
        return false;
    });
    std::this_thread::sleep_for(50ms);
    link_.receive();
    EXPECT_EQ(link_.received(), sub);
    for (uint32_t i = 0; i < kCameras; ++i) {
        Result<adp_select_camera> state = camera_state(i);
        ASSERT_TRUE(state.ok());
        EXPECT_EQ(state->counters.malformed + state->counters.others + state->counters.waiting, 0U);
        EXPECT_GT(state->streams[ADP_SELECT_MAIN].dropped, 50U);
    }
}

TEST_F(ADAPATH_SELECT_SUITE, ADaemonThatEndsLeavesItDeciding) {
    open_there();
    link_.open_sockets();
    close();
    LiveCameras cameras(kCameras, 20ms, 6, 10);
    uint64_t sub = 0;
    cameras.run_for(1200ms, [&](uint32_t camera, uint32_t rendition, const Bytes& packet) {
        link_.send_to(camera, static_cast<uint16_t>(5000 + rendition), packet);
        sub += rendition == ADP_SELECT_SUB ? 1 : 0;
        return false;
    });
    std::this_thread::sleep_for(50ms);
    link_.receive();
    EXPECT_EQ(link_.received(), sub) << "the fallback: the sub stream of every camera";
    // Adopted, with the interface still attached; and once it is removed, all passes.
    open_there();
    EXPECT_TRUE(backend_.adopted);
    close();
    remove();
    const uint64_t before = link_.received();
    uint64_t all = 0;
    cameras.run_for(240ms, [&](uint32_t camera, uint32_t rendition, const Bytes& packet) {
        link_.send_to(camera, static_cast<uint16_t>(5000 + rendition), packet);
        ++all;
        return false;
    });
    std::this_thread::sleep_for(50ms);
    link_.receive();
    EXPECT_EQ(link_.received() - before, all);
}

}  // namespace adapath::testing
