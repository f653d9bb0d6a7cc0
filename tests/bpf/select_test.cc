// The app select on the kernel that runs the test: the program is run on hand-made frames (BPF_PROG_TEST_RUN), honest
// and hostile ones. Skipped, with the reason, where the machine can't.
#include <atomic>
#include <thread>

#include "tests/bpf/select_fixture.h"

namespace adapath::testing {

class Select : public SelectFixture {
protected:
    LiveCameras::Send through() {
        return [this](uint32_t camera, uint32_t rendition, const Bytes& packet) {
            const uint32_t verdict = run(frame_from(camera, rendition, packet));
            EXPECT_TRUE(verdict == kPassed || verdict == kDropped) << verdict;
            return verdict == kPassed;
        };
    }
    void send_frame(const Bytes& frame) const { (void)run(frame); }
    void set_market(double price, uint32_t main_limit, double used, uint32_t cameras) {
        Status set = panel_->set_market({price, main_limit, used, cameras, 0});
        EXPECT_TRUE(set.ok()) << set.error().message;
    }
    [[nodiscard]] std::vector<adp_select_camera> all_states() const {
        std::vector<adp_select_camera> all;
        for (uint32_t i = 0; i < options_.cameras.size(); ++i) all.push_back(state(i));
        return all;
    }
    [[nodiscard]] adp_select_camera state(uint32_t camera) const {
        Result<adp_select_camera> result = panel_->camera(camera);
        EXPECT_TRUE(result.ok());
        return result ? *result : adp_select_camera{};
    }
};

TEST_F(Select, WhatIsNoCamerasPassesUntouched) {
    add_cameras(1);
    open();
    const Bytes packet = rtp_packet({}, nal_unit(5, 500));
    std::vector<Bytes> frames;
    FrameHeader other_port;
    other_port.source_v4 = 0x0a000002;
    other_port.destination_port = 4999;
    frames.push_back(frame_of(other_port, packet));
    FrameHeader other_address;
    other_address.source_v4 = 0x0a000063;
    frames.push_back(frame_of(other_address, packet));
    FrameHeader six;
    six.ipv6 = true;
    frames.push_back(frame_of(six, packet));
    Bytes tcp = frame_from(0, ADP_SELECT_SUB, packet);
    tcp[23] = 6;
    frames.push_back(tcp);
    Bytes fragment = frame_from(0, ADP_SELECT_SUB, packet);
    fragment[21] = 1;
    frames.push_back(fragment);
    Bytes lying = frame_from(0, ADP_SELECT_SUB, packet);
    lying[39] = 0xff;  // UDP's length
    lying[38] = 0xff;
    frames.push_back(lying);
    // To the camera's port, but not its payload: RTCP, another payload type, STUN, nothing.
    RtpHeader audio;
    audio.payload_type = 0;
    frames.push_back(frame_from(0, ADP_SELECT_SUB, rtp_packet(audio, Bytes(160, 1))));
    frames.push_back(frame_from(0, ADP_SELECT_SUB, {0x80, 200, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}));
    frames.push_back(frame_from(0, ADP_SELECT_SUB, Bytes(20, 0)));
    frames.push_back(frame_from(0, ADP_SELECT_SUB, {}));
    for (const Bytes& frame : frames) {
        Bytes after(frame.size() + 64);
        bpf_test_run_opts options = {};
        options.sz = sizeof(options);
        options.data_in = frame.data();
        options.data_size_in = static_cast<uint32_t>(frame.size());
        options.data_out = after.data();
        options.data_size_out = static_cast<uint32_t>(after.size());
        ASSERT_EQ(bpf_prog_test_run_opts(program_.get(), &options), 0);
        EXPECT_EQ(options.retval, kPassed);
        after.resize(options.data_size_out);
        EXPECT_EQ(after, frame);
    }
    const adp_select_camera camera = state(0);
    EXPECT_EQ(camera.counters.others, 4U);
    EXPECT_EQ(camera.streams[0].passed + camera.streams[0].dropped, 0U);
}

TEST_F(Select, WithoutSnapshotTheSubStreamPasses) {
    add_cameras(3);
    open();
    LiveCameras cameras(3, 20ms, 8, 1);
    cameras.run_for(1600ms, through());
    collect();
    EXPECT_EQ(cameras.halves(), 0U);
    for (uint32_t i = 0; i < 3; ++i) {
        EXPECT_EQ(cameras.passed(i, ADP_SELECT_SUB), 10U);
        EXPECT_EQ(cameras.passed(i, ADP_SELECT_MAIN), 0U);
    }
    EXPECT_EQ(decisions_, 0U);
    EXPECT_GE(undecided_, 27U);
    EXPECT_EQ(gaps_, 0U);
    EXPECT_GT(backend_.collector->stats().fallbacks, 20U);
}

TEST_F(Select, EveryDecisionIsTheInterpretersOwn) {
    add_cameras(20);
    open();
    activate(freeze(random_select_model({32, 16}, 1)));
    LiveCameras cameras(20, 20ms, 6, 2);
    // The last one drives every camera away, however slow the machine plays them.
    for (const double price : {0.0, 0.3, 1.0, 3.0, 10.0, 1000.0}) {
        EXPECT_TRUE(panel_->set_market({price, 0, 0.5, 20, 0}).ok());
        cameras.run_for(600ms, through());
    }
    collect();
    EXPECT_EQ(cameras.halves(), 0U);
    EXPECT_GT(decisions_, 300U);
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_EQ(gaps_, 0U);
    std::map<uint32_t, uint32_t> choices;
    for (const adp_select_sample& s : samples_) ++choices[s.choice];
    EXPECT_GE(choices.size(), 2U) << "nothing was chosen between";
    const BackendStats stats = backend_.collector->stats();
    EXPECT_EQ(stats.decisions, decisions_);
    EXPECT_EQ(stats.program_missing, 0U);
    EXPECT_EQ(stats.samples_lost, 0U);
}

// Snapshots change as fast as they can while cameras send: no chunk is halved, no decision torn.
TEST_F(Select, SwitchesUnderTrafficTearNothing) {
    const uint32_t count = 48;
    add_cameras(count);
    open();
    std::vector<Snapshot> snapshots;
    for (uint64_t i = 0; i < 5; ++i) snapshots.push_back(freeze(random_select_model({32, 16}, 10 + i)));
    snapshots.push_back(freeze(random_select_model({24}, 20)));
    EXPECT_TRUE(panel_->set_market({1.5, 0, 0.5, count, 0}).ok());
    LiveCameras cameras(count, 25ms, 5, 4, true);
    std::atomic<bool> over{false};
    const int program = program_.get();
    std::thread sender([&] {
        cameras.run_for(6000ms, [&](uint32_t camera, uint32_t rendition, const Bytes& packet) {
            return run(program, frame_from(camera, rendition, packet)) == kPassed;
        });
        over = true;
    });
    uint32_t switches = 0;
    while (!over && !HasFatalFailure()) {
        activate(snapshots[switches++ % snapshots.size()]);
        if (switches % 8 == 0) collect();
    }
    sender.join();
    collect();
    EXPECT_EQ(cameras.halves(), 0U);
    EXPECT_GT(switches, 300U);
    EXPECT_GT(decisions_, 1000U);
    EXPECT_GT(by_generation_.size(), 100U) << "too few generations decided for the test to mean anything";
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_EQ(gaps_, 0U);
    EXPECT_EQ(backend_.collector->stats().program_missing, 0U);
    EXPECT_EQ(backend_.collector->stats().samples_lost, 0U);
    for (uint32_t i = 0; i < count; ++i) EXPECT_EQ(state(i).counters.torn, 0U);
}

TEST_F(Select, MalformedPacketsAreDroppedAndCounted) {
    add_cameras(1);
    open();
    uint64_t malformed = 0;
    const auto hostile = [&](const Bytes& packet) {
        EXPECT_EQ(run(frame_from(0, ADP_SELECT_MAIN, packet)), kDropped);
        ++malformed;
    };
    Bytes packet = rtp_packet({}, nal_unit(5, 100));
    packet[0] = 0x90;  // an extension that claims what is not there
    hostile(packet);
    packet[0] = 0xa0;  // padding longer than the packet
    packet.back() = 0xff;
    hostile(packet);
    hostile(rtp_packet({}, Bytes{0x7c}));
    hostile(rtp_packet({}, Bytes{0x7c, 0xc5, 0x88}));
    hostile(rtp_packet({}, Bytes{0x78, 0xff, 0xff, 0x67}));
    hostile(rtp_packet({}, Bytes{0x78, 0, 1, 0x78}));
    hostile(rtp_packet({}, Bytes{0xe5, 0x88}));
    EXPECT_EQ(state(0).counters.malformed, malformed);
    // Frames cut at every length, of every kind of packet, behind a full frame's claims and without.
    RtpRendition camera;
    for (int i = 0; i < 3; ++i) {
        for (const Bytes& p : camera.picture()) {
            const Bytes frame = frame_from(0, ADP_SELECT_MAIN, p);
            // The kernel's own test run refuses a frame without an IP header.
            for (size_t bytes = 34; bytes < frame.size(); bytes += bytes < 120 ? 1 : 97) {
                Bytes cut = frame;
                cut.resize(bytes);
                const uint32_t verdict = run(cut);
                EXPECT_EQ(verdict, kPassed) << "lengths that lie are the IP stack's business";
            }
            for (size_t bytes = 0; bytes < p.size(); bytes += bytes < 60 ? 1 : 97) {
                const uint32_t verdict =
                    run(frame_from(0, ADP_SELECT_MAIN, Bytes(p.begin(), p.begin() + static_cast<long>(bytes))));
                EXPECT_TRUE(verdict == kPassed || verdict == kDropped);
            }
        }
    }
}

TEST_F(Select, MutatedFramesNeverDoHarm) {
    add_cameras(2);
    open();
    activate(freeze(random_select_model({16}, 1)));
    std::mt19937_64 random(5);
    RtpRendition sender;
    std::vector<Bytes> frames;
    for (int i = 0; i < 12; ++i)
        for (const Bytes& p : sender.picture()) frames.push_back(frame_from(0, i % 2, p));
    for (int i = 0; i < 40000; ++i) {
        Bytes frame = frames[random() % frames.size()];
        const size_t from = random() % 3 == 0 ? 12 : 42;
        const size_t reach = std::min<size_t>(frame.size() - from, 60);
        for (uint64_t n = random() % 5; n > 0; --n) frame[from + random() % reach] = static_cast<uint8_t>(random());
        if (random() % 8 == 0) frame.resize(std::max<size_t>(34, random() % frame.size()));
        const uint32_t verdict = run(frame);
        ASSERT_TRUE(verdict == kPassed || verdict == kDropped) << verdict;
        if (i % 1000 == 0) collect();
    }
    collect();
    const adp_select_camera camera = state(0);
    const adp_select_counters n = camera.counters;
    EXPECT_GT(camera.streams[0].passed + camera.streams[0].dropped + camera.streams[1].dropped, 20000U);
    EXPECT_GT(n.malformed, 100U);
    EXPECT_GT(n.foreign, 100U);
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_EQ(state(1).first_us, 0U) << "another camera heard of it";
}

// A flood of senders on one camera's ports, and a camera that lies in every header: neither costs itself a chunk (the
// flood), nor another camera anything.
TEST_F(Select, FloodsAndLiesAreTheirOwnCamerasBusiness) {
    add_cameras(4);
    open();
    LiveCameras cameras(4, 20ms, 8, 6);
    std::mt19937_64 random(7);
    uint64_t flood = 0;
    RtpHeader lies;
    cameras.run_for(1600ms, [&](uint32_t camera, uint32_t rendition, const Bytes& packet) {
        if (camera == 3) {
            lies.sequence = static_cast<uint16_t>(random());
            lies.timestamp = static_cast<uint32_t>(random());
            lies.ssrc = static_cast<uint32_t>(random() % 4);
            (void)run(frame_from(3, rendition, rtp_packet(lies, nal_unit(random() % 2 != 0 ? 5 : 7, 50))));
            return true;
        }
        if (camera == 0) {
            for (int i = 0; i < 10; ++i) {
                RtpHeader header;
                header.ssrc = static_cast<uint32_t>(random());
                header.sequence = static_cast<uint16_t>(random());
                // Not before the camera itself has been heard.
                if (state(0).streams[rendition].known == 0) continue;
                EXPECT_EQ(run(frame_from(0, rendition, rtp_packet(header, nal_unit(5, 50)))), kDropped);
                ++flood;
            }
        }
        return run(frame_from(camera, rendition, packet)) == kPassed;
    });
    EXPECT_EQ(cameras.halves(), 0U);
    for (uint32_t i = 0; i < 3; ++i) {
        EXPECT_EQ(cameras.passed(i, ADP_SELECT_SUB), 10U) << "camera " << i;
        EXPECT_EQ(cameras.passed(i, ADP_SELECT_MAIN), 0U) << "camera " << i;
    }
    EXPECT_EQ(state(0).counters.foreign, flood);
    EXPECT_EQ(state(0).counters.evicted, flood - 2 * ADP_SELECT_CANDIDATES);
    EXPECT_EQ(state(1).counters.foreign, 0U);
}

TEST_F(Select, AnotherDaemonAdoptsAndOnlyWhatChangedBeginsAnew) {
    add_cameras(3);
    open();
    activate(freeze(random_select_model({16}, 1)));
    LiveCameras cameras(3, 20ms, 6, 8);
    cameras.run_for(600ms, through());
    collect();
    const adp_select_camera kept = state(0);
    const adp_select_camera moved = state(1);
    EXPECT_GT(kept.round, 2U);
    {
        Result<Backend> second = open_select_backend(options_);
        EXPECT_FALSE(second.ok());
        if (!second.ok()) {
            EXPECT_NE(second.error().message.find("in use"), std::string::npos);
        }
    }
    close();
    // The kernel side goes on alone.
    const UniqueFd alone(bpf_obj_get((options_.pin_directory + "/program").c_str()));
    cameras.run_for(240ms, [&](uint32_t camera, uint32_t rendition, const Bytes& packet) {
        return run(alone.get(), frame_from(camera, rendition, packet)) == kPassed;
    });
    options_.cameras[1].main_port = 5007;
    options_.cameras.pop_back();
    open();
    EXPECT_TRUE(backend_.adopted);
    EXPECT_NE(backend_.installer->active_slot(), ADP_SLOT_NONE);
    EXPECT_EQ(state(0).id, kept.id);
    EXPECT_GT(state(0).round, kept.round) << "it went on";
    EXPECT_GT(state(1).id, moved.id);
    EXPECT_EQ(state(1).round, 0U);
    EXPECT_EQ(state(2).id, 0U);
    EXPECT_EQ(run(frame_from(2, ADP_SELECT_MAIN, rtp_packet({}, nal_unit(5, 50)))), kPassed) << "no camera any more";
    EXPECT_EQ(run(frame_from(1, ADP_SELECT_MAIN, rtp_packet({}, nal_unit(5, 50)))), kPassed);
    EXPECT_EQ(run(frame_from(1, ADP_SELECT_SUB, rtp_packet({}, nal_unit(1, 50)))), kDropped) << "its other port stayed";
    cameras.run_for(240ms, through());
    collect();
    EXPECT_EQ(unexplained_, 0U);
}

TEST_F(Select, AnUnknownInterfaceChangesNothing) {
    add_cameras(2);
    open();
    LiveCameras cameras(2, 20ms, 6, 8);
    cameras.run_for(300ms, through());
    const adp_select_camera before = state(1);
    close();
    options_.cameras[1].main_port = 5007;
    options_.interfaces = {"adp-no-such-if"};
    Result<Backend> opened = open_select_backend(options_);
    ASSERT_FALSE(opened.ok());
    EXPECT_NE(opened.error().message.find("'adp-no-such-if'"), std::string::npos) << opened.error().message;
    options_.cameras[1].main_port = 5001;
    options_.interfaces.clear();
    open();
    EXPECT_EQ(state(1).id, before.id);
    EXPECT_EQ(state(1).round, before.round);
}

TEST_F(Select, ASnapshotOfAnotherAppIsRefused) {
    open();
    Result<Snapshot> cc = freeze_for_test(random_cc_model({16}, Activation::tanh, 1), random_cc_codes(100, 1));
    ASSERT_TRUE(cc.ok());
    Result<uint32_t> slot = backend_.installer->install(*cc, 1, random_cc_codes(4, 1));
    ASSERT_FALSE(slot.ok());
    EXPECT_NE(slot.error().message.find("adp_cc_flows"), std::string::npos) << slot.error().message;
}

// Each app's pins have names in common: neither may take the other's directory for what it left half done itself.
TEST_F(Select, AnotherAppsDirectoryIsLeftAlone) {
    open();
    close();
    BpfBackendOptions cc;
    cc.congestion_control = "adpt" + options_.pin_directory.substr(options_.pin_directory.size() - 8);
    cc.pin_directory = options_.pin_directory;
    Result<Backend> opened = open_bpf_backend(cc);
    ASSERT_FALSE(opened.ok());
    EXPECT_NE(opened.error().message.find("another --pin-dir"), std::string::npos) << opened.error().message;
    EXPECT_FALSE(remove_bpf_backend(cc.pin_directory).ok());
    open();
    EXPECT_TRUE(backend_.adopted);
    close();
    cc.pin_directory += "c";
    opened = open_bpf_backend(cc);
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    *opened = {};
    SelectBackendOptions there = options_;
    there.pin_directory = cc.pin_directory;
    EXPECT_FALSE(open_select_backend(there).ok());
    EXPECT_FALSE(remove_select_backend(there.pin_directory).ok());
    opened = open_bpf_backend(cc);
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    EXPECT_TRUE(opened->adopted);
    *opened = {};
    EXPECT_TRUE(remove_bpf_backend(cc.pin_directory).ok());
}

TEST(SelectCameras, AreChecked) {
    const SelectCamera good{"a", "10.0.0.1", 1, 2, 96};
    EXPECT_TRUE(check_select_cameras({good}).ok());
    EXPECT_TRUE(check_select_cameras({good, {"b", "fd00::1", 1, 2, 96}}).ok());
    for (const SelectCamera& bad : std::vector<SelectCamera>{{"", "10.0.0.2", 1, 2, 96},
                                                             {"a", "10.0.0.2", 1, 2, 96},
                                                             {"b", "10.0.0", 1, 2, 96},
                                                             {"b", "10.0.0.2", 0, 2, 96},
                                                             {"b", "10.0.0.2", 2, 2, 96},
                                                             {"b", "10.0.0.1", 3, 2, 96},
                                                             {"b", "10.0.0.2", 1, 2, 128}}) {
        EXPECT_FALSE(check_select_cameras({good, bad}).ok()) << bad.name << bad.address;
    }
    EXPECT_FALSE(check_select_cameras(std::vector<SelectCamera>(ADP_SELECT_CAMERAS + 1, good)).ok());
}

}  // namespace adapath::testing

#define ADAPATH_SELECT_SUITE Select
#include "tests/support/select_decisions_suite.h"
