// The price over a real uplink: TCP through an emulated link between two network namespaces, cameras that answer to the
// price as the app select does. Needs root and /dev/net/tun; skips without.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "tests/relay/fake_server.h"
#include "tests/support/patience.h"
#include "tests/support/rtp_camera.h"
#include "userspace/linkem/uplink.h"
#include "userspace/relay/relay.h"

namespace adapath::relay {
namespace {

using testing::Bytes;
using testing::RtpRendition;

constexpr double mib = 1 << 20;
constexpr auto picture_time = std::chrono::milliseconds(100);
constexpr std::array<uint16_t, 2> ports = {5000, 5001};

// Decides at the begin of each chunk, as adp_select_choose() does, and sends what it chose.
struct PricedCamera {
    video::Fd fd;
    std::array<RtpRendition, 2> renditions;
    std::array<double, 2> rate = {};  // bytes/s
    double sub_worth = 0.6;
    double gain = 0.2;
    bool both = false;                // always, whatever the price
    std::array<size_t, 2> sent = {};  // packets
    int choice = ADP_SELECT_SUB;
    int changes = 0;
    int none = 0;  // chunks
    int chunks = 0;

    PricedCamera(const std::string& address, int number) {
        fd = video::Fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        sockaddr_in from{};
        from.sin_family = AF_INET;
        inet_pton(AF_INET, address.c_str(), &from.sin_addr);
        EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&from), sizeof from), 0);
        renditions[ADP_SELECT_SUB].idr_bytes = 6000;
        renditions[ADP_SELECT_SUB].picture_bytes = 1500;
        renditions[ADP_SELECT_MAIN].idr_bytes = 30'000;
        renditions[ADP_SELECT_MAIN].picture_bytes = 8000 + 1000 * static_cast<size_t>(number);
        for (size_t i = 0; i < 2; ++i) {
            renditions[i].ssrc = static_cast<uint32_t>(10 * number) + static_cast<uint32_t>(i);
            rate[i] = static_cast<double>(renditions[i].idr_bytes + 9 * renditions[i].picture_bytes);
        }
        gain = 0.08 + 0.07 * number;
    }
    void picture(const Price& price) {
        if (renditions[0].begins_group()) {
            const double sub = sub_worth - price.price * rate[ADP_SELECT_SUB] / mib;
            const double main = sub_worth + gain - price.price * rate[ADP_SELECT_MAIN] / mib;
            const bool allowed = price.main_limit == 0 || rate[ADP_SELECT_MAIN] <= price.main_limit;
            const int chosen = allowed && main > std::max(sub, 0.0) ? ADP_SELECT_MAIN : sub > 0 ? ADP_SELECT_SUB : -1;
            changes += chosen != choice ? 1 : 0;
            none += chosen < 0 ? 1 : 0;
            ++chunks;
            choice = chosen;
        }
        for (size_t which = 0; which < 2; ++which) {
            for (const Bytes& packet : renditions[which].picture()) {
                if (!both && choice != static_cast<int>(which)) continue;
                ++sent[which];
                sockaddr_in to{};
                to.sin_family = AF_INET;
                to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
                to.sin_port = htons(ports[which]);
                sendto(fd.get(), packet.data(), packet.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
            }
        }
    }
};

// Four cameras, a relay and a server on the two ends of a link of 2.4 Mbit/s.
class RelayUplink : public ::testing::Test {
protected:
    static constexpr double mbit = 2.4;
    static constexpr unsigned cameras = 4;

    void SetUp() override {
        if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0) {
            GTEST_SKIP() << "needs root and /dev/net/tun";
        }
        UplinkOptions link_options;
        link_options.prefix = "adpr";
        Result<std::unique_ptr<adapath::Uplink>> link = adapath::Uplink::create(*Trace::constant(mbit), link_options);
        if (!link) {
            GTEST_SKIP() << "can't make network namespaces here: " << link.error().message;
        }
        link_ = std::move(*link);
        ASSERT_TRUE(link_->server().run([&]() -> Status {
            server_ = std::make_unique<FakeServer>(uplink_server_address, false);
            return {};
        }));
        ASSERT_TRUE(link_->gateway().run([&]() -> Status {
            RelayOptions options;
            options.server = {uplink_server_address, std::to_string(server_->port())};
            options.connection.gateway = "test";
            options.connection.congestion_control = "cubic";
            for (unsigned i = 0; i < cameras; ++i) {
                const std::string address = "127.0.0." + std::to_string(50 + i);
                options.cameras.push_back({"camera" + std::to_string(i), address, ports, 96});
                priced_.emplace_back(address, static_cast<int>(i));
            }
            Result<std::unique_ptr<Relay>> opened = Relay::open(options);
            if (!opened) return opened.error();
            relay_ = std::move(*opened);
            return {};
        }));
        relay_->set_market_sink([&](const Price& now, unsigned) {
            const std::lock_guard lock(mutex_);
            price_ = now;
        });
    }
    void TearDown() override {
        if (server_) {
            EXPECT_EQ(server_->wrong(), "");
            server_->down();
        }
    }
    // So long; what the cameras send from `settled` seconds on counts.
    void play(int seconds, int settled) {
        std::jthread running([&](const std::stop_token& stop) {
            const Status ran = link_->gateway().run([&] { return relay_->run(stop); });
            EXPECT_TRUE(ran) << ran.error().message;
        });
        const auto begin = std::chrono::steady_clock::now();
        for (int i = 0; i < seconds * 10; ++i) {
            for (unsigned c = 0; c < cameras; ++c) {
                std::this_thread::sleep_until(begin + i * picture_time + c * picture_time / cameras);
                const std::lock_guard lock(mutex_);
                priced_[c].picture(price_);
            }
            if (i == settled * 10) {
                from_us_ = video::now_ns() / 1000;
                for (PricedCamera& camera : priced_) camera.sent = {};
            }
        }
        to_us_ = video::now_ns() / 1000;
        running.request_stop();
        running.join();
    }

    std::unique_ptr<adapath::Uplink> link_;
    std::unique_ptr<FakeServer> server_;
    std::unique_ptr<Relay> relay_;
    std::vector<PricedCamera> priced_;
    std::mutex mutex_;
    Price price_;
    uint64_t from_us_ = 0;
    uint64_t to_us_ = 0;
};

TEST_F(RelayUplink, CamerasShareItByThePrice) {
    play(35, 15);

    double bytes = 0;
    std::vector<double> delays;
    for (unsigned c = 0; c < cameras; ++c) {
        for (const GotRecord& record : server_->records(static_cast<uint16_t>(c))) {
            if (record.arrived_us < from_us_ || record.arrived_us >= to_us_) continue;
            bytes += static_cast<double>(record.packet.size() + sizeof(adp_relay_wire));
            delays.push_back(static_cast<double>(record.arrived_us - record.received_us) * 1e-6);
        }
    }
    ASSERT_FALSE(delays.empty());
    std::ranges::sort(delays);
    // Of 1500 bytes, 52 are TCP's and IP's.
    const double used = bytes / (static_cast<double>(to_us_ - from_us_) * 1e-6 * mbit * 1e6 / 8 * 1448 / 1500);
    int changes = 0;
    int none = 0;
    int chunks = 0;
    for (const PricedCamera& camera : priced_) {
        changes += camera.changes;
        none += camera.none;
        chunks += camera.chunks;
    }
    const double median = delays[delays.size() / 2];
    const double p95 = delays[delays.size() * 95 / 100];
    RecordProperty("used", std::to_string(used));
    RecordProperty("delay_median_s", std::to_string(median));
    RecordProperty("delay_p95_s", std::to_string(p95));
    EXPECT_GE(used, 0.75);
    EXPECT_LE(median, 0.5);
    EXPECT_LE(p95, 1.5);
    EXPECT_GT(price_.price, 0);
    EXPECT_EQ(none, 0) << "of " << chunks << " chunks: the link has room for all sub streams";
    EXPECT_LE(changes, chunks / 2);
}

// Without a price, all cameras send all they have: far more than the link carries. What is dropped is what gains least.
TEST_F(RelayUplink, SubGoesFirstAndThenMainByWhatItGains) {
    for (unsigned c = 0; c < cameras; ++c) {
        priced_[c].both = true;
        relay_->set_measured(c, 1 - priced_[c].gain, priced_[c].gain);
    }
    play(25, 8);
    std::array<std::array<double, 2>, cameras> came{};
    std::vector<double> sub_delays;
    for (unsigned c = 0; c < cameras; ++c) {
        std::array<size_t, 2> count{};
        for (const GotRecord& record : server_->records(static_cast<uint16_t>(c))) {
            if (record.received_us < from_us_ || record.received_us >= to_us_) continue;
            ++count[record.rendition];
            if (record.rendition == ADP_SELECT_SUB) {
                sub_delays.push_back(static_cast<double>(record.arrived_us - record.received_us) * 1e-6);
            }
        }
        for (size_t which = 0; which < 2; ++which) {
            came[c][which] = static_cast<double>(count[which]) / static_cast<double>(priced_[c].sent[which]);
        }
        EXPECT_GE(came[c][ADP_SELECT_SUB], 0.97) << "camera " << c;
    }
    std::ranges::sort(sub_delays);
    EXPECT_LE(sub_delays[sub_delays.size() * 95 / 100], 0.5);
    EXPECT_GE(came[3][ADP_SELECT_MAIN], 0.9) << "gains most";
    EXPECT_LE(came[0][ADP_SELECT_MAIN], 0.2) << "gains least";
    EXPECT_GE(came[2][ADP_SELECT_MAIN] + 0.05, came[1][ADP_SELECT_MAIN]);
    EXPECT_GT(price_.main_late, 0.2);
}

}  // namespace
}  // namespace adapath::relay
