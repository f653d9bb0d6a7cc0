// The daemon with the app select on the real kernel: cameras that send over a veth pair while the daemon is switched,
// killed and started again. The proof is `adapathctl verify`: every logged decision is reproduced. Built once for the
// BPF backend, and once for the kernel modules in a VM, which defines ADAPATH_TEST_BACKEND and ADAPATH_DAEMON_SUITE,
// the name of the tests.
#include <arpa/inet.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <thread>

#include "tests/bpf/select_fixture.h"
#include "tests/netns/testbed.h"
#include "userspace/bpf_backend/select_backend.h"
#include "userspace/common/clock.h"
#include "userspace/kmod_backend/select_backend.h"
#include "userspace/proto/select.grpc.pb.h"

namespace adapath::testing {
namespace {

#ifndef ADAPATH_TEST_BACKEND
#define ADAPATH_TEST_BACKEND "bpf"
#define ADAPATH_DAEMON_SUITE DaemonWithSelect
#endif
constexpr const char* kBackend = ADAPATH_TEST_BACKEND;
const bool on_kmod = std::string_view(kBackend) == "kmod";

class ADAPATH_DAEMON_SUITE : public ::testing::Test {
protected:
    static constexpr uint32_t kCameras = 4;

    void SetUp() override {
        if (const std::string why = why_not(kBackend, "select"); !why.empty()) GTEST_SKIP() << why;
        Result<Namespace> lan = Namespace::create(Namespace::unique_name("adpsel-l"));
        // The module's interfaces are the host's own.
        Result<Namespace> gateway =
            on_kmod ? Namespace::current() : Namespace::create(Namespace::unique_name("adpsel-g"));
        ASSERT_TRUE(lan.ok() && gateway.ok());
        lan_.emplace(std::move(*lan));
        gateway_.emplace(std::move(*gateway));
        in(*lan_, [&] { return create_veth("cams", *gateway_, "lan0"); });
        in(*lan_, [] { return set_link_up("cams"); });
        in(*gateway_, [] { return set_link_up("lan0"); });
        in(*gateway_, [] { return add_address("lan0", "10.0.0.1/24"); });
        std::string config = "select { interface: \"lan0\" ";
        for (uint32_t i = 0; i < kCameras; ++i) {
            const std::string address = "10.0.0." + std::to_string(2 + i);
            in(*lan_, [&] { return add_address("cams", address + "/24"); });
            config +=
                fmt::format("camera {{ name: \"c{}\" address: \"{}\" sub_port: 5000 main_port: 5001 }} ", i, address);
        }
        in(*lan_, [this]() -> Status {
            for (uint32_t i = 0; i < kCameras; ++i) {
                senders_.emplace_back(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
                sockaddr_in from = {};
                from.sin_family = AF_INET;
                from.sin_addr.s_addr = htonl(0x0a000002 + i);
                EXPECT_EQ(bind(senders_.back().get(), reinterpret_cast<const sockaddr*>(&from), sizeof(from)), 0);
            }
            return {};
        });
        daemon_.emplace(kBackend, config + "}", "select");
        daemon_->set_namespace(*gateway_);
    }
    void TearDown() override {
        if (!lan_) return;
        if (daemon_) daemon_->stop();
        if (daemon_ && access(daemon_->pins().c_str(), F_OK) == 0)
            in(*gateway_, [this] { return remove_select_backend(daemon_->pins()); });
        daemon_.reset();
        // A namespace goes some time after its last user: the next test wants the names in the host's own.
        in(*lan_, [] { return delete_link("cams"); });
        gateway_.reset();
        lan_.reset();
    }
    template <typename Work>
    static void in(const Namespace& space, Work work) {
        const Status status = space.run([&]() -> Status { return work(); });
        ASSERT_TRUE(status.ok()) << status.error().message;
    }
    [[nodiscard]] adp_select_market market() const {
        if (on_kmod) {
            Result<KmodSelectPanel> panel = KmodSelectPanel::open();
            const Result<adp_select_market> market = panel ? panel->market() : Result<adp_select_market>(panel.error());
            EXPECT_TRUE(market.ok()) << market.error().message;
            return market ? *market : adp_select_market{};
        }
        Result<SelectPanel> panel = SelectPanel::open(daemon_->pins());
        EXPECT_TRUE(panel.ok());
        return panel ? panel->market() : adp_select_market{};
    }
    [[nodiscard]] Result<adp_select_camera> state_of(uint32_t camera) const {
        if (on_kmod) {
            Result<KmodSelectPanel> panel = KmodSelectPanel::open();
            return panel ? panel->camera(camera) : Result<adp_select_camera>(panel.error());
        }
        Result<SelectPanel> panel = SelectPanel::open(daemon_->pins());
        return panel ? panel->camera(camera) : Result<adp_select_camera>(panel.error());
    }
    static std::string snapshot(uint64_t seed) {
        FreezeOptions options;
        options.provenance.created_unix_s = 1;
        Result<Snapshot> frozen =
            freeze_for_test(random_select_model({32, 16}, seed), random_select_codes(256, 1), options);
        EXPECT_TRUE(frozen.ok());
        Result<std::string> bytes = serialise(*frozen);
        EXPECT_TRUE(bytes.ok());
        return *bytes;
    }
    // Nobody listens: what passes ends at the gateway's closed ports, what counts is counted in the kernel.
    void start_cameras() {
        sender_ = std::thread([this] {
            while (!stop_) {
                cameras_.run_for(std::chrono::milliseconds(500),
                                 [this](uint32_t camera, uint32_t rendition, const Bytes& packet) {
                                     sockaddr_in to = {};
                                     to.sin_family = AF_INET;
                                     to.sin_port = htons(static_cast<uint16_t>(5000 + rendition));
                                     to.sin_addr.s_addr = htonl(0x0a000001);
                                     // An ICMP error of an earlier packet may come first.
                                     while (sendto(senders_[camera].get(), packet.data(), packet.size(), 0,
                                                   reinterpret_cast<const sockaddr*>(&to), sizeof(to)) < 0 &&
                                            errno == ECONNREFUSED) {
                                     }
                                     return false;
                                 });
            }
        });
    }
    void stop_cameras() {
        stop_ = true;
        sender_.join();
    }

    std::optional<Namespace> lan_;
    std::optional<Namespace> gateway_;
    std::optional<TestDaemon> daemon_;
    std::vector<UniqueFd> senders_;
    LiveCameras cameras_{kCameras, std::chrono::milliseconds(25), 5, 1, true};
    std::thread sender_;
    std::atomic<bool> stop_{false};
};

TEST_F(ADAPATH_DAEMON_SUITE, SwitchedKilledAndStartedAgainEveryDecisionIsExplained) {
    ASSERT_TRUE(daemon_->start().ok());
    EXPECT_EQ(daemon_->status()->app(), "select");
    start_cameras();
    for (uint64_t seed = 1; seed <= 12; ++seed) {
        Result<pb::InstallReply> installed = daemon_->install(snapshot(seed % 4));
        EXPECT_TRUE(installed.ok()) << installed.error().message;
        std::this_thread::sleep_for(std::chrono::milliseconds(200));
        if (seed == 6) {
            const uint64_t before = daemon_->status()->decisions();
            daemon_->kill_hard();
            std::this_thread::sleep_for(std::chrono::milliseconds(500));
            ASSERT_TRUE(daemon_->start().ok());
            Result<pb::StatusReply> status = daemon_->status();
            ASSERT_TRUE(status.ok());
            EXPECT_TRUE(status->adopted());
            EXPECT_GT(status->decisions(), before) << "the kernel went on deciding";
        }
    }
    stop_cameras();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));  // a batch
    Result<pb::StatusReply> status = daemon_->status();
    ASSERT_TRUE(status.ok());
    EXPECT_GT(status->decisions(), 50U);
    EXPECT_EQ(status->decisions_unexplained(), 0U) << status->last_unexplained();
    EXPECT_EQ(status->samples_lost(), 0U);
    EXPECT_EQ(status->program_missing(), 0U);
    EXPECT_EQ(status->sequence_gaps(), 0U);
    EXPECT_EQ(status->objective(), "accuracy 1, bytes 1");
    int code = -1;
    const nlohmann::json verified = daemon_->ctl({"verify", "--app", "select", "--state-dir", daemon_->state()}, &code);
    EXPECT_EQ(code, 0) << verified.dump();
    EXPECT_EQ(verified.value("unexplained", 99U), 0U) << verified.dump();
    EXPECT_GE(verified.value("explained", 0U), 50U) << verified.dump();
    EXPECT_EQ(verified.value("gaps", 99U), 0U) << verified.dump();
    for (uint32_t i = 0; i < kCameras; ++i) {
        Result<adp_select_camera> camera = state_of(i);
        ASSERT_TRUE(camera.ok()) << camera.error().message;
        EXPECT_GT(camera->streams[0].passed + camera->streams[1].passed, 100U);
        EXPECT_EQ(camera->counters.torn + camera->counters.malformed + camera->counters.foreign, 0U);
    }
}

// What the relay feeds is in the kernel's maps, and the next decisions are made by it.
TEST_F(ADAPATH_DAEMON_SUITE, FeedReachesTheKernel) {
    ASSERT_TRUE(daemon_->start().ok());
    start_cameras();
    Result<pb::InstallReply> installed = daemon_->install(snapshot(1));
    EXPECT_TRUE(installed.ok()) << installed.error().message;
    auto stub =
        pb::SelectFeed::NewStub(grpc::CreateChannel("unix:" + daemon_->socket(), grpc::InsecureChannelCredentials()));
    const auto feed = [&](const pb::FeedRequest& request) {
        grpc::ClientContext context;
        pb::FeedReply reply;
        auto writer = stub->Feed(&context, &reply);
        writer->Write(request);
        writer->WritesDone();
        return writer->Finish();
    };
    pb::FeedRequest request;
    request.mutable_market()->set_price(1024);
    request.mutable_market()->set_used(1.5);
    request.mutable_market()->set_cameras(kCameras);
    EXPECT_TRUE(feed(request).ok());
    const adp_select_market market = this->market();
    EXPECT_EQ(market.price_q16, ADP_SELECT_PRICE_MAX_Q16);
    EXPECT_EQ(market.used_q16, 3 * ADP_Q16_ONE / 2);
    EXPECT_EQ(market.cameras, kCameras);
    request.mutable_report()->set_camera(2);
    request.mutable_report()->set_chunk_us(monotonic_us());
    request.mutable_report()->mutable_measured()->set_sub_worth(0.5);
    request.mutable_report()->mutable_measured()->set_gain(0.5);
    request.mutable_report()->mutable_measured()->set_pictures(1);
    EXPECT_TRUE(feed(request).ok());
    std::this_thread::sleep_for(std::chrono::seconds(2));
    stop_cameras();
    for (uint32_t i = 0; i < kCameras; ++i) {
        Result<adp_select_camera> camera = state_of(i);
        ASSERT_TRUE(camera.ok());
        EXPECT_EQ(camera->price_q16, ADP_SELECT_PRICE_MAX_Q16);
        EXPECT_EQ(camera->input[ADP_SELECT_OTHERS], 2 * ADP_SELECT_OTHERS_UNIT) << "log2 of " << kCameras;
        // Half of 255, and what a camera has of which nothing was ever measured.
        EXPECT_NEAR(camera->input[ADP_SELECT_SUB_WORTH], i == 2 ? 128 : 0, 1);
    }
    request.mutable_report()->set_camera(kCameras);
    EXPECT_EQ(feed(request).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    Result<pb::StatusReply> status = daemon_->status();
    ASSERT_TRUE(status.ok());
    EXPECT_EQ(status->feed().markets(), 1U);
    EXPECT_EQ(status->feed().measured(), 1U);
    EXPECT_EQ(status->feed().refused(), 1U);
}

TEST_F(ADAPATH_DAEMON_SUITE, RefusesAnotherAppsSnapshot) {
    ASSERT_TRUE(daemon_->start().ok());
    Result<std::string> cc = frozen_checkpoint(0, 1);
    ASSERT_TRUE(cc.ok());
    Result<pb::InstallReply> installed = daemon_->install(*cc);
    ASSERT_FALSE(installed.ok());
    EXPECT_NE(installed.error().message.find("select"), std::string::npos) << installed.error().message;
}

}  // namespace
}  // namespace adapath::testing
