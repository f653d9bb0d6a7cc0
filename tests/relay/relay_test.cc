// The relay with real sockets on loopback: cameras at addresses of 127.0.0.0/8, a server that misbehaves on demand.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "tests/relay/fake_server.h"
#include "tests/support/patience.h"
#include "tests/support/rtp_camera.h"
#include "userspace/relay/relay.h"

namespace adapath::relay {
namespace {

using testing::Bytes;
using testing::RtpRendition;
using testing::wait_until;

uint64_t now_us() { return video::now_ns() / 1000; }

sockaddr_in loopback(uint8_t last, uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(0x7f000000U | last);
    address.sin_port = htons(port);
    return address;
}

video::Fd udp_socket(uint8_t last, uint16_t port = 0) {
    video::Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const sockaddr_in from = loopback(last, port);
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&from), sizeof from), 0);
    return fd;
}

// A camera's two renditions, sent picture by picture.
struct TestCamera {
    explicit TestCamera(uint8_t last) : fd(udp_socket(last)) {
        renditions[ADP_SELECT_SUB].ssrc = 100U + last;
        renditions[ADP_SELECT_SUB].idr_bytes = 2000;
        renditions[ADP_SELECT_SUB].picture_bytes = 400;
        renditions[ADP_SELECT_MAIN].ssrc = 200U + last;
    }
    void send(const Bytes& packet, uint16_t port) const {
        const sockaddr_in to = loopback(1, port);
        ASSERT_EQ(sendto(fd.get(), packet.data(), packet.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to),
                  static_cast<ssize_t>(packet.size()));
    }
    // Returns how many packets it was.
    size_t picture(adp_select_rendition which) {
        const auto chunk = renditions[which].pictures / renditions[which].group;
        const auto picture = renditions[which].pictures;
        const std::vector<Bytes> packets = renditions[which].picture();
        for (const Bytes& packet : packets) {
            send(packet, ports[which]);
            sent[which].push_back(packet);
            chunk_of[which].push_back(chunk);
            picture_of[which].push_back(picture);
        }
        return packets.size();
    }
    size_t both() { return picture(ADP_SELECT_SUB) + picture(ADP_SELECT_MAIN); }
    [[nodiscard]] size_t sent_packets() const { return sent[0].size() + sent[1].size(); }

    video::Fd fd;
    std::array<uint16_t, 2> ports = {};
    std::array<RtpRendition, 2> renditions;
    std::array<std::vector<Bytes>, 2> sent;
    std::array<std::vector<uint32_t>, 2> chunk_of;
    std::array<std::vector<uint32_t>, 2> picture_of;
};

class RelayTest : public ::testing::Test {
protected:
    void SetUp() override {
        // Ports that nobody has just now.
        for (uint16_t& port : ports_) {
            const video::Fd probe = udp_socket(1);
            port = video::local_port(probe.get());
            probes_.push_back(video::Fd(dup(probe.get())));
        }
        probes_.clear();
        options_.server = {"127.0.0.1", std::to_string(server_.port())};
        options_.connection.gateway = "test-gateway";
        options_.connection.congestion_control = "";
        options_.connection.retry_least_us = 20'000;
        options_.connection.retry_most_us = 100'000;
    }
    void TearDown() override {
        stop();
        EXPECT_EQ(server_.wrong(), "");
    }
    void start(size_t cameras) {
        for (size_t i = 0; i < cameras; ++i) {
            const auto last = static_cast<uint8_t>(20 + i);
            cameras_.push_back(std::make_unique<TestCamera>(last));
            cameras_.back()->ports = ports_;
            options_.cameras.push_back({"camera" + std::to_string(i), "127.0.0." + std::to_string(last), ports_, 96});
        }
        auto opened = Relay::open(options_);
        ASSERT_TRUE(opened) << opened.error().message;
        relay_ = std::move(*opened);
        relay_->set_market_sink([this](const Price& price, unsigned sharing) {
            const std::lock_guard lock(mutex_);
            ++markets_;
            price_ = price;
            sharing_ = sharing;
        });
        relay_->set_stats_sink([this](const video::Json& line) {
            const std::lock_guard lock(mutex_);
            stats_ = line;
        });
        thread_ = std::jthread([this](const std::stop_token& token) {
            const Status ran = relay_->run(token);
            EXPECT_TRUE(ran) << ran.error().message;
        });
    }
    // Ends the run; what it counted can be read from then on.
    void stop() {
        if (thread_.joinable()) {
            thread_.request_stop();
            thread_.join();
        }
    }
    video::Json counted(size_t camera) {
        stop();
        return relay_->summary()["cameras"][camera];
    }
    video::Json stats() {
        const std::lock_guard lock(mutex_);
        return stats_;
    }

    // The relay has looked at all that the camera sent, or the kernel had no room for it.
    bool all_seen(size_t camera) {
        const video::Json line = stats();
        if (!line.contains("cameras")) return false;
        const video::Json& c = line["cameras"][camera];
        return c["main"]["packets"].get<size_t>() + c["sub"]["packets"].get<size_t>() +
                   line["socket_drops"].get<size_t>() >=
               cameras_[camera]->sent_packets();
    }

    // What came of a rendition, as places among what was sent.
    std::vector<size_t> places(uint16_t camera, adp_select_rendition which) {
        std::map<Bytes, size_t> index;
        const std::vector<Bytes>& sent = cameras_[camera]->sent[which];
        for (size_t i = 0; i < sent.size(); ++i) index[sent[i]] = i;
        std::vector<size_t> result;
        for (const GotRecord& record : server_.records(camera)) {
            if (record.rendition != which) continue;
            const auto found = index.find(record.packet);
            EXPECT_TRUE(found != index.end()) << "a packet that was never sent";
            if (found != index.end()) result.push_back(found->second);
        }
        return result;
    }
    // Chunks of which some packets came, and some did not.
    struct Broken {
        size_t whole = 0;
        size_t cut = 0;      // first pictures came, whole
        size_t torn = 0;     // first pictures, and the first packets of the next
        size_t within = 0;   // a part in the middle is missing
        size_t missing = 0;  // none of it came
    };
    Broken broken(uint16_t camera, adp_select_rendition which, uint32_t chunk_most = ~0U) {
        const TestCamera& c = *cameras_[camera];
        std::set<size_t> came;
        for (const size_t place : places(camera, which)) came.insert(place);
        std::map<uint32_t, std::vector<size_t>> chunks;
        for (size_t i = 0; i < c.sent[which].size(); ++i) chunks[c.chunk_of[which][i]].push_back(i);
        Broken result;
        for (const auto& [chunk, packets] : chunks) {
            if (chunk > chunk_most) continue;
            size_t prefix = 0;
            while (prefix < packets.size() && came.contains(packets[prefix])) ++prefix;
            const bool gap = std::ranges::any_of(packets.begin() + static_cast<long>(prefix), packets.end(),
                                                 [&](size_t i) { return came.contains(i); });
            if (prefix == packets.size()) {
                ++result.whole;
            } else if (prefix == 0 && !gap) {
                ++result.missing;
            } else if (!gap && c.picture_of[which][packets[prefix]] != c.picture_of[which][packets[prefix - 1]]) {
                ++result.cut;
            } else if (!gap) {
                ++result.torn;
            } else {
                ++result.within;
            }
        }
        return result;
    }
    // AFTER_DROP is where something is missing before a packet, and nowhere else.
    void expect_drops_told(uint16_t camera, adp_select_rendition which) {
        const std::vector<size_t> came = places(camera, which);
        std::vector<bool> flags;
        for (const GotRecord& record : server_.records(camera))
            if (record.rendition == which) flags.push_back((record.flags & ADP_RELAY_AFTER_DROP) != 0);
        ASSERT_EQ(came.size(), flags.size());
        for (size_t i = 0; i < came.size(); ++i) {
            const size_t expected = i == 0 ? 0 : came[i - 1] + 1;
            EXPECT_EQ(flags[i], came[i] != expected) << "packet " << came[i];
        }
    }

    FakeServer server_;
    RelayOptions options_;
    std::array<uint16_t, 2> ports_ = {};
    std::vector<video::Fd> probes_;
    std::vector<std::unique_ptr<TestCamera>> cameras_;
    std::unique_ptr<Relay> relay_;
    std::mutex mutex_;
    size_t markets_ = 0;
    Price price_;
    unsigned sharing_ = 0;
    video::Json stats_;
    std::jthread thread_;
};

TEST_F(RelayTest, PacketsArriveAsTheyCame) {
    start(2);
    const uint64_t begin = now_us();
    for (int i = 0; i < 25; ++i) {
        for (auto& camera : cameras_) camera->both();
        // A loopback socket's buffer holds less than all of them.
        for (uint16_t c = 0; c < 2; ++c)
            ASSERT_TRUE(wait_until([&] { return server_.count(c) == cameras_[c]->sent_packets(); })) << i;
    }
    const uint64_t end = now_us();
    for (uint16_t c = 0; c < 2; ++c) {
        for (const adp_select_rendition which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
            const std::vector<size_t> came = places(c, which);
            ASSERT_EQ(came.size(), cameras_[c]->sent[which].size());
            EXPECT_TRUE(std::ranges::is_sorted(came));
        }
        std::array<uint64_t, ADP_SELECT_RENDITIONS> before = {begin, begin};
        for (const GotRecord& record : server_.records(c)) {
            EXPECT_EQ(record.flags, 0);
            EXPECT_GE(record.received_us + 2000, before[record.rendition]);  // two clocks, read one after the other
            EXPECT_LE(record.received_us, end);
            before[record.rendition] = record.received_us;
        }
        EXPECT_EQ(server_.connections(c), 1U);
    }
    EXPECT_EQ(server_.gateway(), "test-gateway");
    ASSERT_TRUE(wait_until([&] {
        const std::lock_guard lock(mutex_);
        return markets_ >= 10;
    }));
    EXPECT_EQ(sharing_, 2U);
    EXPECT_EQ(price_.price, 0);
}

TEST_F(RelayTest, AConnectionThatStandsStillHoldsUpNoOther) {
    options_.connection.queue_bytes = 64 << 10;
    options_.grace_us = 0;  // at the end nobody waits for it either
    start(3);
    server_.stall(0, true);
    cameras_[0]->renditions[ADP_SELECT_MAIN].picture_bytes = 20'000;
    std::vector<uint64_t> delays;
    for (int i = 0; i < 60; ++i) {
        cameras_[0]->both();
        const uint64_t begin = now_us();
        for (uint16_t c = 1; c < 3; ++c) cameras_[c]->both();
        for (uint16_t c = 1; c < 3; ++c)
            ASSERT_TRUE(wait_until([&] { return server_.count(c) == cameras_[c]->sent_packets(); })) << i;
        delays.push_back(now_us() - begin);
    }
    std::ranges::sort(delays);
    EXPECT_LT(delays[delays.size() / 2], 100'000U * static_cast<uint64_t>(testing::slowness())) << "a picture's time";
    // It is known whose fault it is: the price stays what it was.
    ASSERT_TRUE(wait_until([&] {
        const video::Json line = stats();
        return line.contains("cameras") && line["cameras"][0]["stalled"].get<bool>();
    }));
    {
        const std::lock_guard lock(mutex_);
        EXPECT_EQ(price_.price, 0);
    }
    const video::Json line = stats();
    EXPECT_LE(line["cameras"][0]["queue_bytes"].get<size_t>(), size_t{4 * 64} << 10);
    const video::Json stalled = counted(0);
    EXPECT_GT(stalled["main"]["dropped_chunks"].get<uint64_t>(), 0U);
    EXPECT_EQ(counted(1)["main"]["dropped_packets"].get<uint64_t>(), 0U);
    server_.stall(0, false);
}

TEST_F(RelayTest, DropsWholeChunksWhenTheUplinkIsTooSlow) {
    options_.connection.queue_bytes = 60 << 10;
    options_.connection.queue_us = 60'000'000;
    options_.connection.late_us = 0;
    start(1);
    TestCamera& camera = *cameras_[0];
    for (int round = 0; round < 3; ++round) {
        server_.stall(0, round % 2 == 0);
        for (int i = 0; i < 200; ++i) camera.both();
        // All of it has been looked at.
        ASSERT_TRUE(wait_until([&] { return all_seen(0); }));
    }
    server_.stall(0, false);
    stop();
    ASSERT_EQ(relay_->summary()["socket_drops"].get<uint64_t>(), 0U);
    ASSERT_TRUE(wait_until([&] { return server_.ended(0); }));
    for (const adp_select_rendition which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
        const Broken result = broken(0, which);
        EXPECT_GT(result.whole, 1U);
        EXPECT_GT(result.missing, 1U);
        EXPECT_EQ(result.cut + result.torn, 0U);
        EXPECT_EQ(result.within, 0U);
        expect_drops_told(0, which);
        const video::Json c = counted(0)[which == ADP_SELECT_SUB ? "sub" : "main"];
        EXPECT_EQ(c["dropped_chunks"].get<size_t>(), result.missing);
    }
}

TEST_F(RelayTest, AChunkWithoutEndIsCutBetweenPictures) {
    options_.connection.queue_bytes = 60 << 10;
    options_.connection.queue_us = 60'000'000;
    options_.connection.late_us = 0;
    start(1);
    TestCamera& camera = *cameras_[0];
    camera.renditions[ADP_SELECT_MAIN].group = 150;
    camera.renditions[ADP_SELECT_MAIN].picture_bytes = 4000;
    server_.stall(0, true);
    for (int i = 0; i < 150; ++i) camera.picture(ADP_SELECT_MAIN);
    ASSERT_TRUE(wait_until([&] {
        const video::Json line = stats();
        return line.contains("cameras") && line["cameras"][0]["main"]["packets"].get<size_t>() == camera.sent_packets();
    }));
    server_.stall(0, false);
    camera.renditions[ADP_SELECT_MAIN].group = 10;
    const size_t long_chunk = camera.sent_packets();
    ASSERT_TRUE(wait_until([&] {
        camera.picture(ADP_SELECT_MAIN);
        const std::vector<size_t> came = places(0, ADP_SELECT_MAIN);
        return !came.empty() && came.back() >= long_chunk;
    }));
    stop();
    ASSERT_TRUE(wait_until([&] { return server_.ended(0); }));
    EXPECT_EQ(counted(0)["main"]["cut_chunks"].get<uint64_t>(), 1U);
    const Broken result = broken(0, ADP_SELECT_MAIN, 0);
    EXPECT_EQ(result.cut, 1U);
    EXPECT_EQ(result.torn + result.within, 0U);
    expect_drops_told(0, ADP_SELECT_MAIN);
}

// What waited too long goes, with all that depends on it; what came after it is still in time.
TEST_F(RelayTest, LatePicturesAreDroppedWithTheRestOfTheirChunks) {
    options_.connection.queue_us = 60'000'000;
    options_.connection.late_us = 300'000;
    start(1);
    TestCamera& camera = *cameras_[0];
    const auto late = [&] { return stats()["cameras"][0]["late_packets"].get<uint64_t>(); };
    uint64_t before = 0;
    for (int round = 0; round < 3; ++round) {
        server_.stall(0, true);
        for (int i = 0; i < 200; ++i) camera.both();
        ASSERT_TRUE(wait_until([&] { return all_seen(0); }));
        ASSERT_TRUE(wait_until([&] { return late() > before; }));
        before = late();
        // In the middle of chunks, of which nothing more may come now.
        for (int i = 0; i < 3; ++i) camera.both();
        ASSERT_TRUE(wait_until([&] { return all_seen(0); }));
        server_.stall(0, false);
        const size_t from = camera.sent[ADP_SELECT_SUB].size();
        ASSERT_TRUE(wait_until([&] {
            camera.both();
            const std::vector<size_t> came = places(0, ADP_SELECT_SUB);
            return !came.empty() && came.back() >= from;
        }));
        for (int i = 0; i < 30; ++i) camera.both();
        ASSERT_TRUE(wait_until([&] {
            const std::vector<size_t> came = places(0, ADP_SELECT_MAIN);
            return !came.empty() && came.back() + 1 == camera.sent[ADP_SELECT_MAIN].size();
        }));
    }
    stop();
    ASSERT_EQ(relay_->summary()["socket_drops"].get<uint64_t>(), 0U);
    ASSERT_TRUE(wait_until([&] { return server_.ended(0); }));
    for (const adp_select_rendition which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
        const Broken result = broken(0, which);
        EXPECT_GE(result.whole, 6U);
        EXPECT_GT(result.cut + result.torn + result.missing, 1U);
        EXPECT_EQ(result.within, 0U);
        expect_drops_told(0, which);
    }
}

// A picture that is half in the socket when it gets late: nobody waits for its rest, and nobody gets it.
TEST_F(RelayTest, TheRestOfALatePictureDoesNotCome) {
    options_.connection.queue_us = 60'000'000;
    options_.connection.late_us = 300'000;
    start(1);
    TestCamera& camera = *cameras_[0];
    RtpRendition& main = camera.renditions[ADP_SELECT_MAIN];
    for (uint32_t i = 0; i < main.group; ++i) camera.both();
    ASSERT_TRUE(wait_until([&] { return server_.count(0) == camera.sent_packets(); }));
    server_.stall(0, true);
    // An IDR picture of more than a socket takes whose peer does not read.
    const uint32_t usual = main.idr_bytes;
    main.idr_bytes = 800'000;
    const size_t before = camera.sent[ADP_SELECT_MAIN].size();
    camera.both();
    main.idr_bytes = usual;
    const size_t after = camera.sent[ADP_SELECT_MAIN].size();
    ASSERT_TRUE(wait_until([&] {
        const video::Json line = stats();
        return line.contains("cameras") && line["cameras"][0]["late_packets"].get<uint64_t>() > 0;
    }));
    server_.stall(0, false);
    while (main.pictures % main.group != 0) camera.both();
    for (int i = 0; i < 15; ++i) camera.both();
    ASSERT_TRUE(wait_until([&] {
        const std::vector<size_t> came = places(0, ADP_SELECT_MAIN);
        return !came.empty() && came.back() + 1 == camera.sent[ADP_SELECT_MAIN].size();
    }));
    stop();
    ASSERT_EQ(relay_->summary()["socket_drops"].get<uint64_t>(), 0U);
    const std::vector<size_t> came = places(0, ADP_SELECT_MAIN);
    const auto of_it = std::ranges::count_if(came, [&](size_t place) { return place >= before && place < after; });
    EXPECT_GT(of_it, 0) << "the socket took none of it: nothing was tested";
    EXPECT_LT(static_cast<size_t>(of_it), after - before);
    const Broken result = broken(0, ADP_SELECT_MAIN);
    EXPECT_EQ(result.torn, 1U);
    EXPECT_EQ(result.within, 0U);
    expect_drops_told(0, ADP_SELECT_MAIN);
}

TEST_F(RelayTest, ConnectsAgainAndGoesOnWithAChunk) {
    start(2);
    for (int i = 0; i < 13; ++i)
        for (auto& camera : cameras_) camera->both();
    for (uint16_t c = 0; c < 2; ++c)
        ASSERT_TRUE(wait_until([&] { return server_.count(c) == cameras_[c]->sent_packets(); }));
    server_.drop_all(true);
    for (uint16_t c = 0; c < 2; ++c) {
        ASSERT_TRUE(wait_until([&] {
            cameras_[c]->both();
            return server_.connections(c) == 2 && server_.records(c).back().connection == 1;
        }));
        for (const adp_select_rendition which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
            ASSERT_TRUE(wait_until([&] {
                cameras_[c]->picture(which);
                const std::vector<GotRecord> records = server_.records(c);
                return std::ranges::any_of(records, [&](const GotRecord& record) {
                    return record.rendition == which && record.connection == 1;
                });
            }));
            const std::vector<GotRecord> records = server_.records(c);
            const auto first = std::ranges::find_if(
                records, [&](const GotRecord& record) { return record.rendition == which && record.connection == 1; });
            EXPECT_EQ(first->flags, ADP_RELAY_AFTER_DROP);
            EXPECT_EQ(first->packet[12] & 31, 24) << "the parameter sets' STAP-A";
        }
    }
    const video::Json c = counted(0);
    EXPECT_EQ(c["connections"].get<uint64_t>(), 2U);
    EXPECT_GE(c["failures"].get<uint64_t>(), 1U);
}

TEST_F(RelayTest, VideoIsDroppedWhileTheServerIsAway) {
    server_.down();
    start(1);
    for (int i = 0; i < 30; ++i) cameras_[0]->both();
    ASSERT_TRUE(wait_until([&] {
        const video::Json line = stats();
        return line.contains("cameras") && line["cameras"][0]["failures"].get<uint64_t>() >= 2;
    }));
    EXPECT_EQ(server_.count(0), 0U);
    server_.up();
    ASSERT_TRUE(wait_until([&] {
        cameras_[0]->both();
        return server_.count(0) > 0;
    }));
    EXPECT_EQ(server_.records(0)[0].flags, ADP_RELAY_AFTER_DROP);
    EXPECT_EQ(server_.records(0)[0].packet[12] & 31, 24);
    EXPECT_GT(counted(0)["main"]["dropped_packets"].get<uint64_t>(), 0U);
}

// It takes each connection and ends it: no reason to ask it more often than one that is away.
TEST_F(RelayTest, AServerThatRefusesIsAskedEverMoreSeldom) {
    server_.refuse_all();
    options_.connection.retry_least_us = 100'000;
    options_.connection.retry_most_us = 10'000'000;
    start(1);
    const uint64_t began_us = now_us();
    cameras_[0]->both();
    ASSERT_TRUE(wait_until([&] { return server_.connections(0) >= 5; }));
    EXPECT_GE(now_us() - began_us, 100'000U + 200'000 + 400'000 + 800'000);
}

// A main stream that waits does not hold up the sub stream: neither behind it in the queue, nor by dropping chunks of
// it.
TEST_F(RelayTest, TheSubStreamGoesFirst) {
    options_.connection.queue_us = 300'000;
    options_.connection.late_us = 0;
    options_.connection.queue_bytes = 8 << 20;
    start(1);
    TestCamera& camera = *cameras_[0];
    camera.renditions[ADP_SELECT_MAIN].picture_bytes = 20'000;
    camera.renditions[ADP_SELECT_SUB].picture_bytes = 400;
    server_.stall(0, true);
    for (int i = 0; i < 100; ++i) {
        camera.picture(ADP_SELECT_MAIN);
        ASSERT_TRUE(i % 20 != 0 || wait_until([&] { return all_seen(0); }));
    }
    ASSERT_TRUE(wait_until([&] { return stats()["cameras"][0]["queue_ms"].get<double>() > 700; }));
    // So old a queue takes no chunk of its own, but for the sub stream it is none.
    for (int i = 0; i < 30; ++i) camera.both();
    ASSERT_TRUE(wait_until([&] { return all_seen(0); }));
    server_.stall(0, false);
    ASSERT_TRUE(wait_until([&] { return places(0, ADP_SELECT_SUB).size() == camera.sent[ADP_SELECT_SUB].size(); }));
    stop();
    ASSERT_TRUE(wait_until([&] { return server_.ended(0); }));
    ASSERT_EQ(relay_->summary()["socket_drops"].get<uint64_t>(), 0U);
    EXPECT_GT(broken(0, ADP_SELECT_MAIN).missing, 0U);
    size_t main_after = 0;
    for (const GotRecord& record : server_.records(0)) {
        main_after = record.rendition == ADP_SELECT_SUB ? 0 : main_after + 1;
    }
    EXPECT_GT(main_after, 50U) << "of main, behind the last of sub: what the sockets did not hold";
    for (const adp_select_rendition which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
        EXPECT_TRUE(std::ranges::is_sorted(places(0, which)));
    }
}

// The server tells by their times which pictures of main and sub belong together.
TEST_F(RelayTest, TimesAreOfThePacketsAlsoWhereTheRelayStoodStill) {
    start(1);
    TestCamera& camera = *cameras_[0];
    camera.both();
    ASSERT_TRUE(wait_until([&] { return server_.count(0) == camera.sent_packets(); }));
    std::array<uint64_t, 2> sent_us{};
    {
        // The relay waits for it in its market sink.
        const std::lock_guard held(mutex_);
        const uint64_t began_us = now_us();
        ASSERT_TRUE(wait_until([&] { return now_us() - began_us > 250'000; }));
        sent_us[0] = now_us();
        camera.both();
        ASSERT_TRUE(wait_until([&] { return now_us() - began_us > 1'800'000; }));
        sent_us[1] = now_us();
        camera.both();
    }
    ASSERT_TRUE(wait_until([&] { return server_.count(0) == camera.sent_packets(); }));
    const uint64_t half_us = (sent_us[1] - sent_us[0]) / 2;
    for (const adp_select_rendition which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
        size_t early = 0;
        size_t late = 0;
        uint64_t latest_us = 0;
        for (const GotRecord& record : server_.records(0)) {
            if (record.rendition != which) continue;
            EXPECT_LE(latest_us, record.received_us + uint64_t{ADP_RELAY_BACKWARDS_US});
            latest_us = std::max(latest_us, record.received_us);
            const bool first = record.received_us + 2000 >= sent_us[0] && record.received_us < sent_us[0] + half_us;
            early += first ? 1 : 0;
            late += record.received_us + 2000 >= sent_us[1] && record.received_us < sent_us[1] + half_us ? 1 : 0;
        }
        EXPECT_GT(early, 0U);
        EXPECT_GT(late, 0U);
    }
}

TEST(DestinationTest, ALookUpThatNeverEndsHoldsUpNobody) {
    std::mutex mutex;
    std::condition_variable changed;
    bool asked = false;
    bool answer = false;
    bool answered = false;
    {
        const Destination destination({"gateway.invalid", "1"}, [&](const video::HostPort&) {
            std::unique_lock lock(mutex);
            asked = true;
            changed.notify_all();
            changed.wait(lock, [&] { return answer; });
            answered = true;
            changed.notify_all();
            return Result<std::vector<SocketAddress>>(Error{"too late"});
        });
        std::unique_lock lock(mutex);
        changed.wait(lock, [&] { return asked; });
        EXPECT_TRUE(destination.addresses().empty());
    }
    // It has ended, and the look-up has not.
    std::unique_lock lock(mutex);
    EXPECT_FALSE(answered);
    answer = true;
    changed.notify_all();
    changed.wait(lock, [&] { return answered; });
}

TEST_F(RelayTest, EndsWithWhatIsQueuedAndAnEndRecord) {
    start(3);
    for (int i = 0; i < 5; ++i)
        for (auto& camera : cameras_) camera->both();
    for (uint16_t c = 0; c < 3; ++c) ASSERT_TRUE(wait_until([&] { return server_.count(c) > 0; }));
    // What is in the UDP sockets when it stops is lost; what it has taken is not.
    stop();
    for (uint16_t c = 0; c < 3; ++c) {
        EXPECT_TRUE(wait_until([&] { return server_.ended(c); })) << c;
        EXPECT_EQ(server_.count(c) + 2, counted(c)["records"].get<size_t>()) << "hello and END are records too";
    }
}

TEST_F(RelayTest, HostilePacketsAreCountedAndHarmNobody) {
    start(2);
    TestCamera& good = *cameras_[0];
    TestCamera& bad = *cameras_[1];
    const video::Fd stranger = udp_socket(77);
    std::mt19937 random(5);
    size_t others = 0;
    size_t malformed = 0;
    size_t strange = 0;
    const auto throw_at = [&](const Bytes& packet) { bad.send(packet, ports_[random() % 2]); };
    for (int i = 0; i < 40; ++i) {
        throw_at({});
        throw_at(Bytes(65507, 0xff));
        throw_at(Bytes(65507, 0));
        throw_at({0x80, 200, 0, 6, 1, 2, 3, 4, 5, 6, 7, 8, 9});  // RTCP: a sender report
        throw_at(testing::rtp_packet({.payload_type = 97}, Bytes(500, 0x61)));
        throw_at({0x80});
        others += 6;
        // An RTP header that says more than there is; a NAL unit that can't be.
        throw_at({0x90, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xbe, 0xde, 0xff, 0xff});
        throw_at({0x8f, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1});
        throw_at(testing::rtp_packet({}, Bytes{0x78, 0xff, 0xff, 0x67}));
        throw_at(testing::rtp_packet({}, Bytes{0xe5, 1, 2}));
        malformed += 4;
        const sockaddr_in to = loopback(1, ports_[0]);
        const Bytes fine = testing::rtp_packet({}, testing::nal_unit(5, 500));
        ASSERT_GT(
            sendto(stranger.get(), fine.data(), fine.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
        ++strange;
        good.both();
        ASSERT_TRUE(wait_until([&] { return server_.count(0) == good.sent_packets(); })) << i;
    }
    // Senders without number, each a beginning of a chunk: the first has the place.
    for (uint32_t i = 0; i < 3000; ++i) {
        bad.send(testing::rtp_packet({.sequence = 1, .timestamp = i, .ssrc = 5000 + i}, testing::nal_unit(5, 300)),
                 ports_[0]);
        if (i % 100 == 0) {
            good.both();
            ASSERT_TRUE(wait_until([&] { return server_.count(0) == good.sent_packets(); })) << i;
        }
    }
    // Random bytes with an RTP header before them.
    for (int i = 0; i < 3000; ++i) {
        Bytes noise(random() % 60);
        for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random());
        bad.send(testing::rtp_packet(
                     {.sequence = static_cast<uint16_t>(random()), .ssrc = static_cast<uint32_t>(random() % 4)}, noise),
                 ports_[1]);
        if (i % 100 == 0) {
            good.both();
            ASSERT_TRUE(wait_until([&] { return server_.count(0) == good.sent_packets(); })) << i;
        }
    }
    stop();
    EXPECT_EQ(counted(0)["main"]["dropped_packets"].get<uint64_t>(), 0U);
    EXPECT_EQ(counted(1)["others"].get<size_t>(), others);
    EXPECT_GE(counted(1)["malformed"].get<size_t>(), malformed);
    EXPECT_GE(counted(1)["sub"]["foreign"].get<size_t>(), 2900U);
    EXPECT_EQ(relay_->summary()["strangers"].get<size_t>(), strange);
}

TEST_F(RelayTest, TwoCamerasCantHaveTheSameAddressAndPort) {
    options_.cameras = {{"a", "127.0.0.20", ports_, 96}, {"b", "127.0.0.20", ports_, 96}};
    EXPECT_FALSE(Relay::open(options_));
    options_.cameras = {{"a", "127.0.0.20", ports_, 96}, {"b", "127.0.0.21", ports_, 96}};
    EXPECT_TRUE(Relay::open(options_));
    options_.cameras = {{"a", "nonsense", ports_, 96}};
    EXPECT_FALSE(Relay::open(options_));
}

TEST(Cameras, OfTheConfigurationAreChecked) {
    pb::SelectConfig config;
    EXPECT_FALSE(cameras_of(config));
    for (const char* text : {"gate,192.168.1.20,5000,5001", "yard,fd00::21,5000,5001,97"}) {
        const Result<pb::CameraConfig> camera = parse_camera(text);
        ASSERT_TRUE(camera);
        *config.add_camera() = *camera;
    }
    const Result<std::vector<RelayCamera>> cameras = cameras_of(config);
    ASSERT_TRUE(cameras);
    EXPECT_EQ((*cameras)[1].address, "fd00::21");
    EXPECT_EQ((*cameras)[0].payload_type, 96);
    EXPECT_EQ((*cameras)[1].payload_type, 97);
    EXPECT_EQ((*cameras)[1].ports[ADP_SELECT_MAIN], 5001);
    for (const char* wrong : {"", "a", "a,b,c", "a,192.168.1.20,5000", "a,192.168.1.20,5000,x", "a,1.2.3.4,1,2,3,4",
                              "a,1.2.3.4,1,-2", "a,1.2.3.4,99999999999,2"})
        EXPECT_FALSE(parse_camera(wrong)) << wrong;
    for (const char* wrong :
         {"a,no-address,5000,5001", "a,192.168.1.22,0,5001", "a,192.168.1.22,5000,65536", "a,192.168.1.22,5000,5000",
          "a,192.168.1.20,5001,6000", "a,fd00:0::21,6000,5000", "a,192.168.1.22,5000,5001,128"}) {
        pb::SelectConfig more = config;
        const Result<pb::CameraConfig> camera = parse_camera(wrong);
        ASSERT_TRUE(camera) << wrong;
        *more.add_camera() = *camera;
        EXPECT_FALSE(cameras_of(more)) << wrong;
    }
}

}  // namespace
}  // namespace adapath::relay
