// The app select in the kernel modules, on the kernel of a VM that is the test's alone: real packets over a veth pair
// through the netfilter hook of adapath_select.ko. What is tested of every kernel side is in
// tests/support/select_netns_suite.h; here is what is the module's own, and that it agrees with the BPF program.
#include <adapath/select_bpf_maps.h>
#include <bpf/bpf.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/capability.h>

#include <atomic>
#include <random>
#include <thread>

#include "tests/kmod/driver.h"
#include "tests/kmod/genl.h"
#include "tests/support/camera_link.h"
#include "tests/support/kernel_modules.h"
#include "tests/support/live_cameras.h"
#include "tests/support/select_checks.h"
#include "userspace/bpf_backend/select_backend.h"
#include "userspace/kmod_backend/select_backend.h"
#include "userspace/kmod_backend/select_control.h"

namespace adapath::testing {

class SelectOnKmod : public SelectChecks {
protected:
    static constexpr uint32_t kCameras = 4;

    void SetUp() override {
        Status loaded = modules_.load();
        ASSERT_TRUE(loaded.ok()) << loaded.error().message;
        Result<Namespace> here = Namespace::current();
        ASSERT_TRUE(here.ok());
        Status made = link_.make(kCameras, std::move(*here));
        ASSERT_TRUE(made.ok()) << made.error().message;
        options_.interfaces = {"lan0"};
        for (uint32_t i = 0; i < kCameras; ++i) options_.cameras.push_back(camera_of(i));
    }
    // The module goes with whatever is configured, whether its interface is there or not.
    void TearDown() override {
        close();
        raw_.reset();
        link_.remove();
        Status unloaded = modules_.unload();
        EXPECT_TRUE(unloaded.ok()) << unloaded.error().message;
    }
    void open() {
        Result<Backend> opened = open_select_kmod_backend(options_);
        ASSERT_TRUE(opened.ok()) << opened.error().message;
        backend_ = std::move(*opened);
        Result<KmodSelectPanel> panel = KmodSelectPanel::open();
        ASSERT_TRUE(panel.ok()) << panel.error().message;
        panel_ = std::make_unique<KmodSelectPanel>(std::move(*panel));
    }
    void open_there() { open(); }
    // As a daemon that ends: what it made in the kernel stays.
    void close() { backend_ = {}; }
    void remove() {
        Status removed = remove_select_kmod_backend();
        EXPECT_TRUE(removed.ok()) << removed.error().message;
    }
    void set_market(double price, uint32_t main_limit, double used, uint32_t cameras) {
        Status set = panel_->set_market({price, main_limit, used, cameras, 0});
        EXPECT_TRUE(set.ok()) << set.error().message;
    }
    [[nodiscard]] Result<adp_select_camera> camera_state(uint32_t camera) const { return panel_->camera(camera); }
    [[nodiscard]] adp_select_camera state(uint32_t camera) const {
        Result<adp_select_camera> result = panel_->camera(camera);
        EXPECT_TRUE(result.ok());
        return result ? *result : adp_select_camera{};
    }
    // Each is a check of every implementation, on an emulated processor.
    [[nodiscard]] static uint32_t least_switches() { return 60; }

    static kmod::SelectControl& control() {
        static std::unique_ptr<kmod::SelectControl> kept;
        Result<std::unique_ptr<kmod::SelectControl>> opened = kmod::SelectControl::open();
        EXPECT_TRUE(opened.ok());
        kept = std::move(*opened);
        return *kept;
    }
    [[nodiscard]] static std::vector<uint32_t> hooked() {
        Result<kmod::SelectState> state = control().state();
        EXPECT_TRUE(state.ok());
        return state ? state->interfaces : std::vector<uint32_t>{};
    }
    [[nodiscard]] std::vector<adp_select_camera> all_states() const {
        std::vector<adp_select_camera> all;
        Result<std::vector<kmod::SelectCameraState>> cameras = control().cameras();
        EXPECT_TRUE(cameras.ok());
        for (const auto& c : *cameras) all.push_back(c.camera);
        return all;
    }
    // The suites' way: opened where it is first needed.
    LiveCameras::Send through() {
        if (!sockets_open_) link_.open_sockets();
        sockets_open_ = true;
        return through_sockets();
    }
    void send_frame(const Bytes& frame) {
        if (!raw_.valid()) raw_ = raw_socket();
        send_frame(raw_, frame);
    }
    LiveCameras::Send through_sockets() {
        return [this](uint32_t camera, uint32_t rendition, const Bytes& packet) {
            link_.send_to(camera, static_cast<uint16_t>(5000 + rendition), packet);
            return false;
        };
    }
    // Whole frames, as a camera could send them that speaks to the wire itself.
    UniqueFd raw_socket() {
        UniqueFd fd;
        CameraLink::in(link_.lan(), [&]() -> Status {
            fd = UniqueFd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
            sockaddr_ll to = {};
            to.sll_family = AF_PACKET;
            to.sll_protocol = htons(ETH_P_IP);
            to.sll_ifindex = static_cast<int>(if_nametoindex("cams"));
            EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof(to)), 0) << std::strerror(errno);
            return {};
        });
        return fd;
    }
    static void send_frame(const UniqueFd& raw, const Bytes& frame) {
        EXPECT_EQ(::send(raw.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()))
            << std::strerror(errno) << ", " << frame.size();
    }
    [[nodiscard]] static Bytes frame_from(uint32_t camera, uint32_t rendition, const Bytes& packet) {
        FrameHeader header;
        header.source_v4 = 0x0a000002 + camera;
        header.destination_port = static_cast<uint16_t>(5000 + rendition);
        return frame_of(header, packet);
    }

    KernelModules modules_{{"adapath_select", "adapath_hold"}};  // of the latter, tests/kmod/module/adapath_hold.c
    CameraLink link_;
    SelectKmodOptions options_;
    std::unique_ptr<KmodSelectPanel> panel_;
    bool sockets_open_ = false;
    UniqueFd raw_;
};

// ---- the same verdicts as the BPF program's ----

namespace {

// All of a camera's state that does not tell the time, and so must be the same after the same packets.
std::string what_became_of(const adp_select_camera& c) {
    std::string text;
    for (const adp_select_stream& s : c.streams) {
        text += fmt::format(
            "passed {} ({} bytes) dropped {} known {} started {} settled {} forward {}/{} ssrc {:x} newest {} window "
            "{:x} "
            "first {} before {} timestamp {} picture {} expected {} now {} bytes, {} idr, {} packets, {} pictures, {} "
            "reordered; last {} bytes, {} packets, {} lost\n",
            s.passed, s.passed_bytes, s.dropped, s.known, s.started, s.settled, s.forward, s.forward_before, s.ssrc,
            s.newest, s.window, s.first, s.before, s.timestamp, s.picture, s.expected, s.now.bytes, s.now.idr_bytes,
            s.now.packets, s.now.pictures, s.now.reordered, s.last.bytes, s.last.packets, s.last.lost);
    }
    const adp_select_counters& n = c.counters;
    return text +
           fmt::format("round {} choice {} waiting {} late {} duplicates {} jumps {} foreign {} malformed {} others {}",
                       c.round, c.choice, n.waiting, n.late, n.duplicates, n.jumps, n.foreign, n.malformed, n.others);
}

// A frame of a camera's, in any wrapping, with any damage.
class Frames {
public:
    explicit Frames(uint64_t seed) : random_(seed) {
        for (auto& camera : senders_) {
            for (RtpRendition& r : camera) {
                r.ssrc = static_cast<uint32_t>(random_());
                r.sequence = static_cast<uint16_t>(random_());
                r.timestamp = static_cast<uint32_t>(random_());
                r.group = 4;
                r.idr_bytes = 4000;
                r.picture_bytes = 2000;
            }
        }
    }
    // The second camera's address is IPv6.
    std::vector<Bytes> next(size_t count) {
        std::vector<Bytes> frames;
        while (frames.size() < count) {
            const uint64_t camera = random_() % 2;
            const uint64_t rendition = random_() % 2;
            for (Bytes& packet : senders_[camera][rendition].picture()) {
                FrameHeader header;
                header.ipv6 = camera == 1;
                header.destination_port = static_cast<uint16_t>(5000 + rendition);
                header.vlan_tags = once_in(6) ? static_cast<int>(random_() % 3) : 0;
                header.ip_options = once_in(8) ? static_cast<uint32_t>(random_() % 4) : 0;
                if (header.ipv6 && once_in(6)) header.ipv6_headers = {0, 60};
                if (once_in(20)) header.fragment = static_cast<uint16_t>(once_in(2) ? 0x2000 : 5);
                if (once_in(30)) header.udp_length_more = static_cast<int>(random_() % 9) - 4;
                if (once_in(30)) header.ip_length_more = static_cast<int>(random_() % 9) - 4;
                Bytes frame = frame_of(header, packet);
                if (once_in(3)) damage(frame);
                if (once_in(12) && !frames.empty()) frames.push_back(frames[random_() % frames.size()]);  // a duplicate
                if (once_in(10)) continue;                                                                // lost
                if (once_in(10) && !frames.empty()) std::swap(frame, frames[random_() % frames.size()]);  // late
                frames.push_back(std::move(frame));
            }
        }
        frames.resize(count);
        return frames;
    }

private:
    bool once_in(uint64_t n) { return random_() % n == 0; }
    void damage(Bytes& frame) {
        const size_t from = once_in(3) ? 14 : 42;
        const size_t reach = std::min<size_t>(frame.size() - from, 60);
        for (uint64_t n = random_() % 4; n > 0; --n) frame[from + random_() % reach] = static_cast<uint8_t>(random_());
        // BPF's test run wants a whole IP header where the frame says that there is one.
        if (once_in(8)) frame.resize(std::max<size_t>(60, random_() % frame.size()));
    }

    std::mt19937_64 random_;
    std::array<std::array<RtpRendition, 2>, 2> senders_;
};

}  // namespace

// The same frames go through the BPF program (a test run each) and over the wire to the module: both have the same
// state afterwards. Within a batch no time that matters goes by (100 ms is the shortest); a batch that took longer says
// nothing.
TEST_F(SelectOnKmod, AgreesWithTheBpfProgramOnEveryFrame) {
    options_.cameras = {{"four", "10.0.0.2", 5000, 5001, 96}, {"six", "fd00::2", 5000, 5001, 96}};
    open();
    const UniqueFd raw = raw_socket();
    SelectBackendOptions on_bpf;
    on_bpf.pin_directory = fmt::format("/sys/fs/bpf/adps{:08x}", std::random_device()());
    on_bpf.cameras = options_.cameras;
    Result<Backend> bpf = open_select_backend(on_bpf);
    ASSERT_TRUE(bpf.ok()) << bpf.error().message;
    const UniqueFd program(bpf_obj_get((on_bpf.pin_directory + "/program").c_str()));
    const UniqueFd cameras_map(bpf_obj_get((on_bpf.pin_directory + "/cameras").c_str()));
    Result<SelectPanel> bpf_panel = SelectPanel::open(on_bpf.pin_directory);
    ASSERT_TRUE(bpf_panel.ok());

    uint32_t batches = 0;
    uint64_t compared = 0;
    adp_select_counters sum = {};
    uint64_t passed = 0;
    uint64_t dropped = 0;
    const auto every_case = [&] {
        return std::min({sum.waiting, sum.duplicates, sum.jumps, sum.foreign, sum.malformed, sum.others}) > 5 &&
               std::min(passed, dropped) > 300;
    };
    // As many frames as this kernel takes in the time; a debug kernel is six times slower.
    size_t batch = 100;
    for (uint64_t seed = 1; (batches < 60 || !every_case()) && seed < 2000 && !HasFailure(); ++seed) {
        // New cameras on both sides.
        ASSERT_TRUE(control().configure(options_.interfaces, {}).ok());
        ASSERT_TRUE(control().configure(options_.interfaces, options_.cameras).ok());
        for (uint32_t i = 0; i < 2; ++i) {
            adp_select_entry entry = {};
            entry.camera.id = i + 1;
            ASSERT_EQ(bpf_map_update_elem(cameras_map.get(), &i, &entry, BPF_F_LOCK), 0);
        }
        const std::vector<Bytes> frames = Frames(seed).next(batch);
        const auto begin = std::chrono::steady_clock::now();
        for (const Bytes& frame : frames) {
            bpf_test_run_opts run = {};
            run.sz = sizeof(run);
            run.data_in = frame.data();
            run.data_size_in = static_cast<uint32_t>(frame.size());
            run.repeat = 1;
            ASSERT_EQ(bpf_prog_test_run_opts(program.get(), &run), 0) << std::strerror(errno);
            send_frame(raw, frame);
        }
        if (std::chrono::steady_clock::now() - begin > 85ms) {
            batch = std::max<size_t>(batch * 9 / 10, 20);
            continue;
        }
        for (uint32_t i = 0; i < 2; ++i) {
            Result<adp_select_camera> want = bpf_panel->camera(i);
            ASSERT_TRUE(want.ok());
            // What is still in a softirq of another CPU.
            wait_until([&] { return what_became_of(state(i)) == what_became_of(*want); }, std::chrono::seconds(1));
            EXPECT_EQ(what_became_of(state(i)), what_became_of(*want)) << "camera " << i << ", seed " << seed;
            const adp_select_counters& n = want->counters;
            sum.waiting += n.waiting;
            sum.late += n.late;
            sum.duplicates += n.duplicates;
            sum.jumps += n.jumps;
            sum.foreign += n.foreign;
            sum.malformed += n.malformed;
            sum.others += n.others;
            for (const adp_select_stream& s : want->streams) {
                passed += s.passed;
                dropped += s.dropped;
            }
        }
        ++batches;
        compared += frames.size();
    }
    fmt::print(
        "{} frames in {} batches: {} passed, {} dropped; waiting {} late {} duplicates {} jumps {} foreign {} "
        "malformed {} "
        "others {}\n",
        compared, batches, passed, dropped, sum.waiting, sum.late, sum.duplicates, sum.jumps, sum.foreign,
        sum.malformed, sum.others);
    EXPECT_GE(batches, 30U) << "this machine is too slow for the comparison";
    EXPECT_TRUE(every_case()) << "the frames did not reach every case";
    *bpf = {};
    EXPECT_TRUE(remove_select_backend(on_bpf.pin_directory).ok());
}

// ---- decisions ----

TEST_F(SelectOnKmod, WhatIsToldCanBeReadAndIsOfCamerasThatThereAre) {
    open();
    set_market(0, 0, 1, 8);
    Result<adp_select_market> market = panel_->market();
    ASSERT_TRUE(market.ok());
    EXPECT_EQ(market->cameras, 8U);
    EXPECT_FALSE(panel_->set_seen(kCameras, 1, 1, 1).ok()) << "no such camera";
    EXPECT_FALSE(panel_->set_measured(ADP_SELECT_CAMERAS, 1, 1).ok());
}

TEST_F(SelectOnKmod, ATrialDecidesForItsShareOfTheCameras) {
    open();
    link_.open_sockets();
    activate(freeze(constant_model(0.5F, 0.25F)));
    const uint32_t active = last_generation_;
    const uint32_t trial = ++last_generation_;
    const Snapshot other = freeze(constant_model(0.5F, -0.25F));
    models_[trial] = other.model;
    Result<uint32_t> slot = backend_.installer->install(other, trial, random_select_codes(4, trial));
    ASSERT_TRUE(slot.ok()) << slot.error().message;
    ASSERT_TRUE(backend_.installer->set_canary(*slot, 0.5).ok());
    LiveCameras cameras(kCameras, 20ms, 6, 3);
    cameras.run_for(1500ms, through_sockets());
    collect();
    for (const adp_select_sample& s : samples_) {
        if ((s.flags & ADP_SELECT_NOT_DECIDED) != 0) continue;
        EXPECT_EQ(s.generation, adp_flow_in_share(s.camera, 32768) != 0 ? trial : active);
    }
    EXPECT_EQ(by_generation_.size(), 2U);
    EXPECT_EQ(unexplained_, 0U);
}

// ---- hostile packets ----

TEST_F(SelectOnKmod, WhatIsNoCamerasPassesUntouchedAndWhatIsMalformedIsDropped) {
    open();
    link_.open_sockets();
    LiveCameras cameras(1, 20ms, 6, 3);
    cameras.run_for(200ms, through_sockets());
    const adp_select_camera before = state(0);
    link_.receive();
    const uint64_t received = link_.received();
    // To the camera's port, but not its payload: another payload type, RTCP, something else, nothing.
    RtpHeader audio;
    audio.payload_type = 0;
    const std::vector<Bytes> others = {
        rtp_packet(audio, Bytes(160, 1)), {0x80, 200, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, Bytes(20, 0)};
    for (const Bytes& packet : others) link_.send_to(0, 5000, packet);
    const std::vector<Bytes> malformed = {
        [] {
            Bytes packet = rtp_packet({}, nal_unit(5, 100));
            packet[0] = 0x90;  // an extension that claims what is not there
            return packet;
        }(),
        [] {
            Bytes packet = rtp_packet({}, nal_unit(5, 100));
            packet[0] = 0xa0;  // padding longer than the packet
            packet.back() = 0xff;
            return packet;
        }(),
        rtp_packet({}, Bytes{0x7c}),
        rtp_packet({}, Bytes{0x7c, 0xc5, 0x88}),
        rtp_packet({}, Bytes{0x78, 0xff, 0xff, 0x67}),
        rtp_packet({}, Bytes{0x78, 0, 1, 0x78}),
        rtp_packet({}, Bytes{0xe5, 0x88}),
    };
    for (const Bytes& packet : malformed) link_.send_to(0, 5000, packet);
    ASSERT_TRUE(wait_until([&] { return state(0).counters.malformed == malformed.size(); }));
    const adp_select_camera after = state(0);
    EXPECT_EQ(after.counters.others, others.size());
    EXPECT_EQ(after.streams[0].passed, before.streams[0].passed);
    EXPECT_EQ(after.streams[0].dropped, before.streams[0].dropped + malformed.size());
    EXPECT_EQ(state(1).first_us, 0U);
    link_.receive();
    EXPECT_EQ(link_.received(), received + others.size());
}

// A flood of senders on one camera's ports, a camera that lies in every header, and frames with damage: neither costs
// the others a chunk.
TEST_F(SelectOnKmod, FloodsAndLiesAreTheirOwnCamerasBusiness) {
    open();
    link_.open_sockets();
    activate(freeze(random_select_model({32, 16}, 1)));
    const UniqueFd raw = raw_socket();
    LiveCameras cameras(kCameras, 20ms, 8, 6);
    std::mt19937_64 random(7);
    cameras.run_for(100ms, through_sockets());  // each rendition has a sender now
    uint64_t flood = 0;
    uint64_t damaged = 0;
    RtpHeader lies;
    cameras.run_for(3000ms, [&](uint32_t camera, uint32_t rendition, const Bytes& packet) {
        if (camera == 3) {
            lies.sequence = static_cast<uint16_t>(random());
            lies.timestamp = static_cast<uint32_t>(random());
            lies.ssrc = static_cast<uint32_t>(random() % 4);
            link_.send_to(3, static_cast<uint16_t>(5000 + rendition),
                          rtp_packet(lies, nal_unit(random() % 2 != 0 ? 5 : 7, 50)));
            Bytes frame = frame_from(3, rendition, packet);
            for (uint64_t n = random() % 5; n > 0; --n) frame[34 + random() % 30] = static_cast<uint8_t>(random());
            if (random() % 8 == 0) frame.resize(34 + random() % 30);
            // The source stays the third camera's: nothing of it is any other's.
            send_frame(raw, frame);
            ++damaged;
            return false;
        }
        if (camera == 0) {
            for (int i = 0; i < 6; ++i) {
                RtpHeader header;
                header.ssrc = static_cast<uint32_t>(random());
                header.sequence = static_cast<uint16_t>(random());
                link_.send_to(0, static_cast<uint16_t>(5000 + rendition), rtp_packet(header, nal_unit(5, 50)));
                ++flood;
            }
        }
        link_.send_to(camera, static_cast<uint16_t>(5000 + rendition), packet);
        return false;
    });
    ASSERT_TRUE(wait_until([&] { return state(0).counters.foreign == flood; }))
        << state(0).counters.foreign << " of " << flood;
    collect();
    EXPECT_GT(flood, 1000U);
    EXPECT_GT(damaged, 300U);
    EXPECT_EQ(state(0).counters.evicted, flood - 2 * ADP_SELECT_CANDIDATES);
    EXPECT_EQ(state(0).counters.taken_over, 0U);
    EXPECT_GT(state(3).counters.jumps + state(3).counters.foreign, 100U);
    for (uint32_t i = 1; i < 3; ++i) {
        const adp_select_camera camera = state(i);
        EXPECT_EQ(camera.counters.foreign + camera.counters.malformed + camera.counters.jumps + camera.counters.others,
                  0U);
        EXPECT_GT(camera.round, 10U) << "it went on";
    }
    EXPECT_GT(decisions_, 30U);
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_EQ(gaps_, 0U);
}

// ---- comings and goings ----

TEST_F(SelectOnKmod, AnotherDaemonAdoptsAndOnlyWhatChangedBeginsAnew) {
    options_.cameras.resize(3);
    open();
    EXPECT_FALSE(backend_.adopted);
    link_.open_sockets();
    activate(freeze(random_select_model({16}, 1)));
    LiveCameras cameras(3, 20ms, 6, 8);
    cameras.run_for(600ms, through_sockets());
    collect();
    const adp_select_camera kept = state(0);
    const adp_select_camera moved = state(1);
    EXPECT_GT(kept.round, 2U);
    {
        Result<Backend> second = open_select_kmod_backend(options_);
        EXPECT_FALSE(second.ok());
        const std::string why = second.ok() ? "" : second.error().message;
        EXPECT_NE(why.find("in use"), std::string::npos) << why;
        EXPECT_FALSE(remove_select_kmod_backend().ok()) << "under a daemon that runs";
        EXPECT_EQ(hooked().size(), 1U);
    }
    close();
    cameras.run_for(240ms, through_sockets());
    options_.cameras[1].main_port = 5007;
    options_.cameras.pop_back();
    open();
    EXPECT_TRUE(backend_.adopted);
    EXPECT_NE(backend_.installer->active_slot(), ADP_SLOT_NONE);
    EXPECT_EQ(state(0).id, kept.id);
    EXPECT_GT(state(0).round, kept.round) << "it went on";
    EXPECT_GT(state(1).id, moved.id);
    EXPECT_EQ(state(1).round, 0U);
    EXPECT_FALSE(panel_->camera(2).ok()) << "no camera any more";
    cameras.run_for(240ms, through_sockets());
    collect();
    EXPECT_EQ(unexplained_, 0U);
    close();
    // A start that fails changes nothing.
    options_.interfaces = {"lan0", "nosuch0"};
    options_.cameras[0].main_port = 5009;
    Result<Backend> failed = open_select_kmod_backend(options_);
    ASSERT_FALSE(failed.ok());
    EXPECT_NE(failed.error().message.find("nosuch0"), std::string::npos) << failed.error().message;
    EXPECT_EQ(state(0).id, kept.id);
    EXPECT_EQ(hooked().size(), 1U);
    remove();
    EXPECT_TRUE(hooked().empty());
    EXPECT_FALSE(panel_->camera(0).ok());
}

TEST_F(SelectOnKmod, AnInterfaceThatGoesAwayIsForgotten) {
    open();
    link_.open_sockets();
    ASSERT_EQ(hooked(), std::vector<uint32_t>{if_nametoindex("lan0")});
    std::atomic<bool> stop{false};
    const UniqueFd raw = raw_socket();
    std::thread sender([&] {
        const Bytes frame = frame_from(0, ADP_SELECT_SUB, rtp_packet({}, nal_unit(5, 500)));
        while (!stop) (void)::send(raw.get(), frame.data(), frame.size(), 0);  // until there is no device any more
    });
    std::this_thread::sleep_for(100ms);
    EXPECT_TRUE(delete_link("lan0").ok());
    EXPECT_TRUE(hooked().empty());
    stop = true;
    sender.join();
    EXPECT_EQ(state(0).id, 1U) << "the camera is still configured";
    // Another one of that name is another one, until somebody says otherwise.
    ASSERT_TRUE(link_.lan().run([&] { return create_veth("cams", link_.gateway(), "lan0"); }).ok());
    EXPECT_TRUE(hooked().empty());
    close();
    open();
    ASSERT_EQ(hooked(), std::vector<uint32_t>{if_nametoindex("lan0")});
    EXPECT_EQ(state(0).id, 1U);
    // Into another namespace, and back.
    Result<Namespace> aside = Namespace::create(Namespace::unique_name("adpsel-a"));
    ASSERT_TRUE(aside.ok());
    ASSERT_EQ(system(("ip link set lan0 netns " + aside->name()).c_str()), 0);
    EXPECT_TRUE(hooked().empty());
    ASSERT_EQ(system(("ip -n " + aside->name() + " link set lan0 netns 1").c_str()), 0);
    EXPECT_TRUE(hooked().empty());
    // Two interfaces, of which one is taken away and the other one stays.
    ASSERT_TRUE(link_.lan().run([&] { return create_veth("more", link_.gateway(), "lan1"); }).ok());
    close();
    options_.interfaces = {"lan0", "lan1"};
    open();
    EXPECT_EQ(hooked().size(), 2U);
    EXPECT_TRUE(delete_link("lan1").ok());
    EXPECT_EQ(hooked(), std::vector<uint32_t>{if_nametoindex("lan0")});
}

// The module goes while cameras are configured and their packets come: nothing is left that they could meet.
TEST_F(SelectOnKmod, UnloadsUnderTraffic) {
    std::atomic<bool> stop{false};
    const UniqueFd raw = raw_socket();
    std::atomic<uint64_t> sent{0};
    std::thread sender([&] {
        LiveCameras cameras(kCameras, 1ms, 6, 3, true);
        while (!stop) {
            cameras.step([&](uint32_t camera, uint32_t rendition, const Bytes& packet) {
                const Bytes frame = frame_from(camera, rendition, packet);
                sent += ::send(raw.get(), frame.data(), frame.size(), 0) > 0 ? 1 : 0;
                return false;
            });
        }
    });
    const Snapshot snapshot = freeze(random_select_model({32, 16}, 1));
    for (int round = 0; round < 20 && !HasFailure(); ++round) {
        open();
        EXPECT_FALSE(backend_.adopted) << "something of the module before";
        activate(snapshot);
        ASSERT_TRUE(wait_until([&] { return state(0).round > 0; }));
        collect();
        // Every other time under a daemon, which is told.
        if (round % 2 == 0) close();
        panel_.reset();
        Status unloaded = kmod_test::unload_module("adapath_select");
        ASSERT_TRUE(unloaded.ok()) << unloaded.error().message;
        if (round % 2 != 0) {
            bool told = false;
            for (int i = 0; i < 10 && !told; ++i) told = !backend_.collector->collect(1ms, [](auto) {}).ok();
            EXPECT_TRUE(told);
            close();
        }
        const uint64_t before = sent;
        EXPECT_TRUE(wait_until([&] { return sent > before + 100; })) << "packets go on";
        Status loaded = kmod_test::load_module(std::string(std::getenv("ADAPATH_MODULES")) + "/adapath_select.ko");
        ASSERT_TRUE(loaded.ok()) << loaded.error().message;
        next_seq_.clear();
    }
    stop = true;
    sender.join();
    EXPECT_EQ(unexplained_, 0U);
}

// ---- hostile requests ----

class SelectNetlink : public SelectOnKmod {
protected:
    using Attributes = kmod_test::Attributes;
    using Reply = kmod_test::Reply;

    void SetUp() override {
        SelectOnKmod::SetUp();
        open();
        Result<kmod_test::Genl> genl = kmod_test::Genl::open(ADP_SELECT_GENL_NAME);
        ASSERT_TRUE(genl.ok()) << genl.error().message;
        genl_ = std::make_unique<kmod_test::Genl>(std::move(*genl));
        set_market(1.5, 7, 0.5, 3);
        ASSERT_TRUE(panel_->set_seen(1, 2, 0.5, 0.5).ok());
    }
    void TearDown() override {
        genl_.reset();
        SelectOnKmod::TearDown();
    }
    static Attributes camera(const Bytes& address, uint16_t sub, uint16_t main, uint8_t payload_type) {
        Attributes a;
        a.bytes(ADP_SELECT_A_ADDRESS, address);
        a.bytes(ADP_SELECT_A_SUB_PORT, bytes_of(sub));
        a.bytes(ADP_SELECT_A_MAIN_PORT, bytes_of(main));
        a.bytes(ADP_SELECT_A_PAYLOAD_TYPE, bytes_of(payload_type));
        return a;
    }
    template <typename T>
    static Bytes bytes_of(T value) {
        Bytes bytes(sizeof(value));
        std::memcpy(bytes.data(), &value, sizeof(value));
        return bytes;
    }
    static Attributes interfaces(const std::vector<uint32_t>& ifindexes) {
        Attributes a;
        for (const uint32_t ifindex : ifindexes) a.u32(ADP_SELECT_A_INTERFACE, ifindex);
        return a;
    }
    static Attributes cameras(const std::vector<Attributes>& all) {
        Attributes a;
        for (const Attributes& one : all) a.nest(ADP_SELECT_A_CAMERA, one);
        return a;
    }
    static Attributes configuration(const Attributes& interfaces, const Attributes& cameras) {
        Attributes a;
        a.nest(ADP_SELECT_A_INTERFACES, interfaces).nest(ADP_SELECT_A_CAMERAS, cameras);
        return a;
    }
    // All that a refused request must leave as it is.
    std::string fingerprint() {
        Result<kmod::SelectState> state = control().state();
        Result<std::vector<kmod::SelectCameraState>> cameras = control().cameras();
        EXPECT_TRUE(state.ok() && cameras.ok());
        std::string text = fmt::format("price {} limit {} used {} sharing {} late {};", state->market.price_q16,
                                       state->market.main_limit, state->market.used_q16, state->market.cameras,
                                       state->market.main_late_q16);
        for (const uint32_t ifindex : state->interfaces) text += fmt::format(" if {}", ifindex);
        for (const auto& c : *cameras)
            text += fmt::format("; {}: id {} {} {} {} {} {} {} {}", c.place, c.camera.id, c.feedback.seen_us,
                                c.feedback.measured_us, c.feedback.objects, c.feedback.confidence_q16,
                                c.feedback.accuracy_q16, c.feedback.sub_worth_q16, c.feedback.gain_q16);
        return text;
    }
    // Refused so, with these words, and nothing has changed.
    void expect_refused(uint8_t command, const Attributes& attributes, int error, const std::string& words) {
        const std::string before = fingerprint();
        const Reply reply = genl_->call(command, attributes);
        EXPECT_EQ(reply.error, error) << words << ": " << reply.message;
        // Before 6.2 a text can't name a missing attribute: then the acknowledgement does.
        const bool named = reply.message.find(words) != std::string::npos ||
                           (words.starts_with("ADP_SELECT_A_") && reply.has_missing && !reply.message.empty());
        EXPECT_TRUE(named) << "'" << reply.message << "' for '" << words << "'";
        EXPECT_EQ(fingerprint(), before) << words;
    }

    std::unique_ptr<kmod_test::Genl> genl_;
    const Bytes v4_ = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 9};
};

TEST_F(SelectNetlink, WhatIsWrongIsRefusedAndNamed) {
    const uint32_t lan = if_nametoindex("lan0");
    const Attributes none;
    const Attributes good = camera(v4_, 5000, 5001, 96);
    constexpr uint8_t configure = ADP_SELECT_CMD_CONFIGURE;
    Attributes only;
    only.nest(ADP_SELECT_A_CAMERAS, none);
    expect_refused(configure, only, EINVAL, "ADP_SELECT_A_INTERFACES");
    only = {};
    only.nest(ADP_SELECT_A_INTERFACES, none);
    expect_refused(configure, only, EINVAL, "ADP_SELECT_A_CAMERAS");
    expect_refused(configure, configuration(interfaces({99999}), none), ENODEV, "no such interface");
    expect_refused(configure, configuration(interfaces({lan, lan}), none), EINVAL, "named twice");
    expect_refused(configure, configuration(interfaces({lan, 0}), none), ENODEV, "no such interface");
    expect_refused(configure, configuration(interfaces(std::vector<uint32_t>(17, lan)), none), EINVAL, "at most 16");
    Attributes odd;
    odd.u32(ADP_SELECT_A_PLACE, 1);
    expect_refused(configure, configuration(odd, none), EINVAL, "ADP_SELECT_A_INTERFACE only");
    expect_refused(configure, configuration(none, odd), EINVAL, "ADP_SELECT_A_CAMERA only");
    odd = {};
    odd.u64(ADP_SELECT_A_INTERFACE, lan);
    expect_refused(configure, configuration(odd, none), EINVAL, "a u32");
    expect_refused(configure, configuration(none, cameras({none})), EINVAL, "a camera needs");
    expect_refused(configure, configuration(none, cameras({camera({1, 2, 3, 4}, 5000, 5001, 96)})), EINVAL, "16 bytes");
    expect_refused(configure, configuration(none, cameras({good, camera(v4_, 0, 5001, 96)})), EINVAL, "a port is");
    expect_refused(configure, configuration(none, cameras({camera(v4_, 5000, 0, 96)})), EINVAL, "a port is");
    expect_refused(configure, configuration(none, cameras({camera(v4_, 5000, 5001, 128)})), EINVAL, "payload type");
    expect_refused(configure, configuration(none, cameras({camera(v4_, 5000, 5000, 96)})), EINVAL, "two renditions");
    expect_refused(configure, configuration(none, cameras({good, camera(v4_, 4999, 5001, 97)})), EINVAL,
                   "two renditions");
    std::vector<Attributes> many;
    for (uint32_t i = 0; i <= ADP_SELECT_CAMERAS; ++i)
        many.push_back(camera(v4_, static_cast<uint16_t>(1000 + 2 * i), static_cast<uint16_t>(1001 + 2 * i), 96));
    expect_refused(configure, configuration(none, cameras(many)), EINVAL, "at most 256");
    // Cameras are right, the second interface is not: the first is not touched either.
    expect_refused(configure, configuration(interfaces({if_nametoindex("lo"), 99999}), cameras({good})), ENODEV,
                   "no such interface");

    const auto market = [](uint32_t price, uint32_t used) {
        Attributes a;
        a.u32(ADP_SELECT_A_PRICE, price).u32(ADP_SELECT_A_MAIN_LIMIT, 0).u32(ADP_SELECT_A_USED, used);
        return a;
    };
    constexpr uint8_t set_market = ADP_SELECT_CMD_SET_MARKET;
    expect_refused(set_market, none, EINVAL, "ADP_SELECT_A_PRICE");
    expect_refused(set_market, market(1, 1), EINVAL, "ADP_SELECT_A_SHARING");
    expect_refused(set_market, market(ADP_SELECT_PRICE_MAX_Q16 + 1, 1).u32(ADP_SELECT_A_SHARING, 1), EINVAL,
                   "too large");
    expect_refused(set_market, market(1, 131073).u32(ADP_SELECT_A_SHARING, 1), EINVAL, "too large");
    expect_refused(set_market, market(1, 1).u32(ADP_SELECT_A_SHARING, 1).u32(ADP_SELECT_A_MAIN_LATE, 65537), EINVAL,
                   "too large");

    const auto at = [](uint32_t place) {
        Attributes a;
        a.u32(ADP_SELECT_A_PLACE, place);
        return a;
    };
    constexpr uint8_t feedback = ADP_SELECT_CMD_SET_FEEDBACK;
    expect_refused(feedback, none, EINVAL, "ADP_SELECT_A_PLACE");
    expect_refused(feedback, at(0), EINVAL, "neither");
    expect_refused(feedback, at(0).u32(ADP_SELECT_A_OBJECTS, 1), EINVAL, "ADP_SELECT_A_CONFIDENCE");
    expect_refused(feedback, at(0).u32(ADP_SELECT_A_SUB_WORTH, 1), EINVAL, "ADP_SELECT_A_GAIN");
    expect_refused(feedback, at(0).u32(ADP_SELECT_A_GAIN, 1), EINVAL, "ADP_SELECT_A_SUB_WORTH");
    expect_refused(feedback, at(0).u32(ADP_SELECT_A_SUB_WORTH, 65537).u32(ADP_SELECT_A_GAIN, 1), EINVAL, "too large");
    expect_refused(feedback, at(0).u32(ADP_SELECT_A_SUB_WORTH, 1).u32(ADP_SELECT_A_GAIN, 65537), EINVAL, "a gain is");
    expect_refused(feedback, at(0).u32(ADP_SELECT_A_SUB_WORTH, 1).u32(ADP_SELECT_A_GAIN, ~65536U), EINVAL, "a gain is");
    // Both or nothing: what was seen is right.
    expect_refused(feedback,
                   at(0)
                       .u32(ADP_SELECT_A_OBJECTS, 9)
                       .u32(ADP_SELECT_A_CONFIDENCE, 9)
                       .u32(ADP_SELECT_A_ACCURACY, 9)
                       .u32(ADP_SELECT_A_SUB_WORTH, 65537),
                   EINVAL, "too large");
    const Attributes seen =
        at(kCameras).u32(ADP_SELECT_A_OBJECTS, 9).u32(ADP_SELECT_A_CONFIDENCE, 9).u32(ADP_SELECT_A_ACCURACY, 9);
    expect_refused(feedback, seen, ENOENT, "no camera");
    expect_refused(feedback, at(ADP_SELECT_CAMERAS), EINVAL, "too large");
    expect_refused(ADP_SELECT_CMD_GET_CAMERA, at(kCameras), ENOENT, "no camera");
    expect_refused(ADP_SELECT_CMD_GET_CAMERA, none, EINVAL, "ADP_SELECT_A_PLACE");
    expect_refused(ADP_SELECT_CMD_MAX + 1, none, EOPNOTSUPP, "");
}

TEST_F(SelectNetlink, NobodyButAnAdministratorMayDoAnything) {
    int errors = 0;
    std::thread unprivileged([&] {
        // Of this thread alone.
        cap_t caps = cap_init();
        ASSERT_EQ(cap_set_proc(caps), 0);
        cap_free(caps);
        Result<kmod_test::Genl> genl = kmod_test::Genl::open(ADP_SELECT_GENL_NAME);
        ASSERT_TRUE(genl.ok()) << genl.error().message;
        for (uint8_t command = 1; command <= ADP_SELECT_CMD_MAX; ++command)
            errors += genl->call(command, {}).error == EPERM ? 1 : 0;
        errors += genl->call(ADP_SELECT_CMD_GET_CAMERA, {}, true).error == EPERM ? 1 : 0;
    });
    unprivileged.join();
    EXPECT_EQ(errors, ADP_SELECT_CMD_MAX + 1);
}

// Valid requests made wrong in some way, and raw bytes, while cameras send: what is refused changes nothing, and what
// decides goes on deciding.
TEST_F(SelectNetlink, GarbageChangesNothing) {
    link_.open_sockets();
    activate(freeze(random_select_model({16}, 1)));
    std::atomic<bool> stop{false};
    std::thread sender([&] {
        LiveCameras cameras(kCameras, 20ms, 6, 3, true);
        while (!stop) cameras.run_for(200ms, through_sockets());
    });
    const uint64_t seed = std::random_device()();
    SCOPED_TRACE(fmt::format("seed {}", seed));
    std::mt19937_64 random(seed);
    const uint32_t lan = if_nametoindex("lan0");
    std::vector<Attributes> cameras_there;
    for (uint32_t i = 0; i < kCameras; ++i) {
        Bytes address = v4_;
        address[15] = static_cast<uint8_t>(2 + i);
        cameras_there.push_back(camera(address, 5000, 5001, 96));
    }
    Attributes market;
    market.u32(ADP_SELECT_A_PRICE, 98304).u32(ADP_SELECT_A_MAIN_LIMIT, 7).u32(ADP_SELECT_A_USED, 32768);
    market.u32(ADP_SELECT_A_SHARING, 3).u32(ADP_SELECT_A_MAIN_LATE, 6554);
    Attributes measured;
    measured.u32(ADP_SELECT_A_PLACE, 1).u32(ADP_SELECT_A_SUB_WORTH, 1).u32(ADP_SELECT_A_GAIN, 1);
    const std::vector<std::pair<uint8_t, Attributes>> valid = {
        {ADP_SELECT_CMD_CONFIGURE, configuration(interfaces({lan}), cameras(cameras_there))},
        {ADP_SELECT_CMD_SET_MARKET, market},
        {ADP_SELECT_CMD_SET_FEEDBACK, measured},
        {ADP_SELECT_CMD_GET_CAMERA, measured}};
    uint32_t refused = 0;
    uint32_t accepted = 0;
    uint32_t wordless = 0;
    std::string before = fingerprint();
    for (int i = 0; i < 3000 && !HasFailure(); ++i) {
        const auto& [command, attributes] = valid[random() % valid.size()];
        std::vector<uint8_t> message = {command, ADP_SELECT_GENL_VERSION, 0, 0};
        message.insert(message.end(), attributes.data().begin(), attributes.data().end());
        for (uint64_t n = 1 + random() % 4; n > 0; --n) {
            // Lengths and types of attributes more often than their values.
            const size_t at = 4 + (random() % 3 == 0 ? random() % (message.size() - 4)
                                                     : 4 * (random() % ((message.size() - 4) / 4)) + random() % 4);
            message[at] = static_cast<uint8_t>(random() % 4 == 0 ? 0xff : random());
        }
        if (random() % 6 == 0) message.resize(4 + random() % (message.size() - 4));
        const uint16_t flags = random() % 10 == 0 ? NLM_F_DUMP : 0;
        const Reply reply = genl_->send_raw(message, flags);
        ASSERT_NE(reply.error, ETIMEDOUT);
        if (reply.ok()) {
            ++accepted;
            ASSERT_TRUE(genl_->call(ADP_SELECT_CMD_CONFIGURE, valid[0].second).ok());
            ASSERT_TRUE(genl_->call(ADP_SELECT_CMD_SET_MARKET, market).ok());
            before = fingerprint();
        } else {
            ++refused;
            // That a command has no dump generic netlink says by itself, without words.
            wordless += reply.message.empty() && flags == 0 ? 1 : 0;
            if (i % 8 != 0) continue;
            ASSERT_EQ(fingerprint(), before) << "after a refusal: " << reply.message;
        }
    }
    ASSERT_EQ(fingerprint(), before);
    stop = true;
    sender.join();
    collect();
    fmt::print("{} refused, {} accepted\n", refused, accepted);
    EXPECT_EQ(wordless, 0U) << "refused without a reason";
    EXPECT_GT(refused, 500U);
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_GT(decisions_ + undecided_, 10U);
}

}  // namespace adapath::testing

#define ADAPATH_SELECT_SUITE SelectOnKmod
#include "tests/support/select_netns_suite.h"
#include "tests/support/select_decisions_suite.h"
