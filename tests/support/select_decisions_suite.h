// The tests of the app select's decisions, the same for every kernel side, whatever way packets take to it. Included
// once by the test program of each, after it has defined ADAPATH_SELECT_SUITE as the name of its fixture: a
// SelectChecks with options_.cameras (none where it begins), panel_, open(), close(), through() (LiveCameras::Send),
// send_frame(), set_market(), state() and all_states().
#ifndef ADAPATH_SELECT_SUITE
#error "define ADAPATH_SELECT_SUITE as the fixture of the kernel side under test"
#endif

#include "tests/support/live_cameras.h"

namespace adapath::testing {

TEST_F(ADAPATH_SELECT_SUITE, ThePriceAndTheObjectiveDecideBetweenTheRenditions) {
    options_.cameras = {camera_of(0)};
    open();
    activate(freeze(constant_model(0.5F, 0.25F)));
    LiveCameras cameras(1, 20ms, 6, 3);
    const auto passed = [&](uint32_t rendition) { return state(0).streams[rendition].passed; };
    cameras.run_for(600ms, through());
    const uint64_t sub = passed(ADP_SELECT_SUB);
    cameras.run_for(960ms, through());
    EXPECT_EQ(passed(ADP_SELECT_SUB), sub) << "main, at a price of nothing";
    // Main is about 0.24 MiB/s at this rate of pictures, sub a quarter of that: 0.25 more is not worth 2 * 0.18.
    set_market(2, 0, 0, 1);
    cameras.run_for(120ms, through());
    const uint64_t main = passed(ADP_SELECT_MAIN);
    cameras.run_for(960ms, through());
    EXPECT_EQ(passed(ADP_SELECT_MAIN), main);
    EXPECT_GT(passed(ADP_SELECT_SUB), sub + 30);
    set_market(1000, 0, 0, 1);
    cameras.run_for(120ms, through());
    const uint64_t before = passed(ADP_SELECT_SUB);
    cameras.run_for(960ms, through());
    EXPECT_EQ(passed(ADP_SELECT_SUB), before) << "nothing, at that price";
    // The operator's weights are part of the price.
    ASSERT_TRUE(backend_.installer->set_objective({200, 0, 0, 0}).ok());
    cameras.run_for(120ms, through());
    const uint64_t again = passed(ADP_SELECT_MAIN);
    cameras.run_for(480ms, through());
    EXPECT_GT(passed(ADP_SELECT_MAIN), again + 30) << "bytes cost nothing to this operator";
    collect();
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_EQ(gaps_, 0U);
}

TEST_F(ADAPATH_SELECT_SUITE, FeedbackAndExplorationReachTheDecisions) {
    options_.cameras = {camera_of(0), camera_of(1)};
    open();
    Snapshot snapshot = freeze(random_select_model({32, 16}, 1));
    snapshot.explore = 1;
    activate(snapshot);
    set_market(0, 0, 1, 8);
    const auto tell = [&] {
        Status seen = panel_->set_seen(1, 7, 1, 0.5);
        EXPECT_TRUE(seen.ok()) << seen.error().message;
        Status measured = panel_->set_measured(1, 0.5, 1);
        EXPECT_TRUE(measured.ok()) << measured.error().message;
    };
    tell();
    LiveCameras cameras(2, 20ms, 6, 3);
    cameras.run_for(700ms, through());
    tell();
    cameras.run_for(300ms, through());
    collect();
    bool known = false;
    for (const adp_select_sample& s : samples_) {
        if ((s.flags & ADP_SELECT_NOT_DECIDED) != 0) continue;
        EXPECT_EQ(s.input[ADP_SELECT_OBJECTS], s.camera == 2 ? 3 * ADP_SELECT_OBJECTS_UNIT : 0);
        EXPECT_EQ(s.input[ADP_SELECT_CONFIDENCE], s.camera == 2 ? 255 : 0);
        EXPECT_EQ(s.input[ADP_SELECT_GAIN], s.camera == 2 ? 255 : ADP_SELECT_GAIN_ZERO);
        EXPECT_EQ(s.input[ADP_SELECT_OTHERS], 3 * ADP_SELECT_OTHERS_UNIT);
        EXPECT_EQ(s.input[ADP_SELECT_MEASURED] == 255, s.camera != 2);
        known = known || (s.before.known != 0 && s.camera == 2 && s.before.accuracy_q16 == ADP_Q16_ONE / 2);
        EXPECT_EQ(s.offer.explore_q16, ADP_Q16_ONE);
    }
    EXPECT_GT(decisions_, 4U);
    EXPECT_TRUE(known);
    EXPECT_EQ(unexplained_, 0U);
}

TEST_F(ADAPATH_SELECT_SUITE, ExploringSendsBoth) {
    options_.cameras = {camera_of(0)};
    open();
    // Nothing is worth anything, and bytes cost nothing: both lose nothing, and pass as often as they may.
    Snapshot snapshot = freeze(constant_model(-0.5F, -0.5F));
    snapshot.explore = 1;
    activate(snapshot);
    LiveCameras cameras(1, 20ms, 6, 3);
    const auto passed = [&](uint32_t rendition) { return state(0).streams[rendition].passed; };
    cameras.run_for(600ms, through());
    const uint64_t sub = passed(ADP_SELECT_SUB);
    const uint64_t main = passed(ADP_SELECT_MAIN);
    cameras.run_for(960ms, through());
    EXPECT_GT(passed(ADP_SELECT_SUB), sub + 30);
    EXPECT_GT(passed(ADP_SELECT_MAIN), main + 30);
    ASSERT_TRUE(backend_.installer->set_explore(backend_.installer->active_slot(), 0).ok());
    cameras.run_for(240ms, through());
    const uint64_t after = passed(ADP_SELECT_SUB) + passed(ADP_SELECT_MAIN);
    cameras.run_for(480ms, through());
    EXPECT_EQ(passed(ADP_SELECT_SUB) + passed(ADP_SELECT_MAIN), after) << "nothing is worth anything";
    collect();
    size_t explored = 0;
    for (const adp_select_sample& s : samples_) {
        if ((s.flags & ADP_SELECT_EXPLORED) != 0) {
            EXPECT_EQ(s.choice, ADP_SELECT_BOTH);
            explored++;
        }
    }
    EXPECT_GT(explored, 5U);
    EXPECT_EQ(unexplained_, 0U);
}

// As many as there can be, of both families; then every other one goes, and the rest is still found.
TEST_F(ADAPATH_SELECT_SUITE, TheMostCamerasAreFound) {
    std::vector<SelectCamera> all;
    for (uint32_t i = 0; i < ADP_SELECT_CAMERAS; ++i) {
        SelectCamera camera = camera_of(0);
        camera.name = fmt::format("c{}", i);
        camera.address = i % 2 == 0 ? fmt::format("10.1.{}.{}", i / 16, i % 16) : fmt::format("fd00::{:x}", i);
        camera.sub_port = static_cast<uint16_t>(5000 + i % 3);
        camera.main_port = static_cast<uint16_t>(6000 + i % 5);
        all.push_back(camera);
    }
    const auto send_all = [&] {
        for (uint32_t i = 0; i < all.size(); ++i) {
            for (const uint16_t port : {all[i].sub_port, all[i].main_port}) {
                FrameHeader header;
                header.ipv6 = i % 2 != 0;
                header.source_v4 = 0x0a010000 + ((i / 16) << 8) + i % 16;
                header.destination_port = port;
                Bytes frame = frame_of(header, rtp_packet({}, nal_unit(1, 20)));
                if (header.ipv6) {
                    frame[14 + 8 + 14] = static_cast<uint8_t>(i >> 8);
                    frame[14 + 8 + 15] = static_cast<uint8_t>(i);
                }
                send_frame(frame);
            }
        }
    };
    // One packet of each rendition, which waits for its first IDR picture.
    const auto expect_dropped = [&](const std::vector<uint64_t>& expected) {
        std::vector<uint64_t> counts;
        // Some may still be in softirqs.
        wait_until(
            [&] {
                counts.clear();
                for (const adp_select_camera& c : all_states())
                    counts.push_back(c.streams[0].dropped + c.streams[1].dropped);
                return counts == expected;
            },
            std::chrono::seconds(2));
        EXPECT_EQ(counts, expected);
    };
    std::vector<uint64_t> expected(all.size(), 2);
    options_.cameras = all;
    open();
    send_all();
    expect_dropped(expected);
    close();
    options_.cameras.clear();
    for (uint32_t i = 0; i < all.size(); i += 2) options_.cameras.push_back(all[i]);
    open();
    send_all();
    expected.resize(all.size() / 2);
    expected[0] = 4;  // it is where it was
    expect_dropped(expected);
    close();
    options_.cameras = all;
    open();
    send_all();
    expected.assign(all.size(), 2);
    expected[0] = 6;
    expect_dropped(expected);
}

}  // namespace adapath::testing
