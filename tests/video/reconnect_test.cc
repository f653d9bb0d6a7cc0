// A sender whose server is away: at the start, in the middle, for ever. The tool as a process, and a server that takes
// the relay's records apart.
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include <nlohmann/json.hpp>

#include "tests/relay/fake_server.h"
#include "tests/support/patience.h"
#include "tests/video/pattern.h"
#include "userspace/harness/child.h"
#include "userspace/video/background_sei.h"
#include "userspace/video/live_encoder.h"
#include "userspace/video/redial.h"
#include "userspace/video/retry.h"

namespace adapath::video {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using relay::FakeServer;
using relay::GotRecord;
using testing::slowness;
using testing::wait_until;

TEST(Retry, DoublesItsPauseUntilAConnectionLasts) {
    Retry retry(200, 5000);
    uint64_t now = 1000;
    EXPECT_FALSE(retry.down());
    EXPECT_FALSE(retry.back(now)) << "there is none";
    for (const uint64_t pause : {200, 400, 800, 1600, 3200, 5000, 5000}) {
        EXPECT_EQ(retry.failed(now), now + pause);
        EXPECT_TRUE(retry.down());
        now += pause;
    }
    // A server that refuses: connected, and at once no more.
    retry.opened(now);
    EXPECT_FALSE(retry.back(now + 4999));
    EXPECT_EQ(retry.failed(now), now + 5000);
    retry.opened(now);
    EXPECT_TRUE(retry.back(now + 5000));
    EXPECT_FALSE(retry.back(now + 5001)) << "it is said once";
    EXPECT_FALSE(retry.down());
    EXPECT_EQ(retry.failed(now), now + 200);
}

TEST(PlainEncoder, BeginsAnewWithAKeyFrame) {
    const Size size{160, 120};
    const Clip clip = *Clip::from_i420(pattern(size, 30), size);
    const std::unique_ptr<LiveEncoder> encoder = std::move(*open_plain_encoder(0, size, 25, 500));
    for (uint64_t i = 0; i < 20; i++) {
        if (i == 7 || i == 8) {
            encoder->begin_anew();
        }
        const Result<EncodedFrame> frame = encoder->encode(clip.picture(i), 500, i * 40'000'000);
        ASSERT_TRUE(frame.ok()) << frame.error().message;
        EXPECT_EQ(frame->key, i == 0 || i == 7 || i == 8) << i;
    }
}

// The NAL units' types of the pictures' first one, RFC 6184.
std::set<int> units_of_first_picture(const std::vector<GotRecord>& records) {
    std::set<int> types;
    for (const GotRecord& record : records) {
        const std::vector<uint8_t>& packet = record.packet;
        if (!std::equal(packet.begin() + 4, packet.begin() + 8, records.front().packet.begin() + 4)) {
            break;  // another timestamp
        }
        const int type = packet[12] & 31;
        if (type == 24) {
            for (size_t at = 13; at + 2 < packet.size(); at += 2 + (size_t{packet[at]} << 8 | packet[at + 1])) {
                types.insert(packet[at + 2] & 31);
            }
        } else {
            types.insert(type == 28 ? packet[13] & 31 : type);
        }
    }
    return types;
}

// Of all groups' first notes.
std::set<std::vector<uint8_t>> epochs_in(const std::vector<GotRecord>& records) {
    std::set<std::vector<uint8_t>> epochs;
    for (const GotRecord& record : records) {
        const auto found = std::ranges::search(record.packet, background_uuid);
        if (found.empty() || record.packet.end() - found.end() < 5 || *found.end() != 0x10) {
            continue;
        }
        epochs.emplace(found.end() + 1, found.end() + 5);
    }
    return epochs;
}

class Reconnect : public ::testing::Test {
protected:
    void SetUp() override {
        std::string name = (std::filesystem::temp_directory_path() / "adapath-reconnect-XXXXXX").string();
        ASSERT_NE(mkdtemp(name.data()), nullptr);
        directory_ = name;
        const Size size{160, 120};
        ASSERT_TRUE(write_y4m(path("clip.y4m"), pattern(size, 30), size));
    }
    void TearDown() override {
        sender_.reset();
        std::filesystem::remove_all(directory_);
    }
    [[nodiscard]] std::string path(const std::string& name) const { return (directory_ / name).string(); }

    void start(const std::string& server, const std::vector<std::string>& more = {}) {
        ChildOptions options{.name = "sender",
                             .argv = {ADAPATH_VIDEO_SEND, "--clip", path("clip.y4m"), "--server", server, "--gateway",
                                      "roof", "--stats", "-", "--summary", path("summary.json")},
                             .log = path("log"),
                             .read_output = true};
        options.argv.insert(options.argv.end(), more.begin(), more.end());
        Result<Child> child = Child::start(options);
        ASSERT_TRUE(child) << child.error().message;
        sender_.emplace(std::move(*child));
    }
    // Of a camera, as last seen.
    json figures(unsigned camera) {
        for (const std::string& line : sender_->read_lines()) {
            json one = json::parse(line, nullptr, false);
            if (one.is_object()) {
                const unsigned which = one["camera"];
                figures_[which] = std::move(one);
            }
        }
        return figures_[camera];
    }
    bool wait_connected(bool connected) {
        return wait_until([&] {
            const json now = figures(0);
            return now.is_object() && now["connection"]["connected"] == connected;
        });
    }
    // The exit code.
    int interrupt() {
        kill(sender_->pid(), SIGINT);
        return sender_->wait_exit(5s * slowness()) ? *sender_->exit_code() : -1;
    }
    json summary() {
        std::ifstream file(path("summary.json"));
        return json::parse(file, nullptr, false);
    }
    std::string log() {
        std::ifstream file(path("log"));
        std::stringstream text;
        text << file.rdbuf();
        return text.str();
    }

    std::filesystem::path directory_;
    std::optional<Child> sender_;
    std::map<unsigned, json> figures_;
};

TEST_F(Reconnect, AServerThatComesBackGetsWhatTheCamerasSeeNow) {
    FakeServer server("127.0.0.1", false);
    server.down();
    start("127.0.0.1:" + std::to_string(server.port()),
          {"--cameras", "2", "--qp-background", "--qp-background-always", "--qp-group", "5"});
    ASSERT_TRUE(wait_connected(false)) << log();
    std::vector<uint64_t> up_us;
    const auto up = [&](size_t connection) {
        up_us.push_back(now_ns() / 1000);
        server.up();
        ASSERT_TRUE(wait_until([&] {
            const std::vector<GotRecord> records = server.records(1);
            return server.connections(0) > connection && !records.empty() && records.back().connection == connection;
        })) << log();
        const size_t before[2] = {server.count(0), server.count(1)};
        ASSERT_TRUE(wait_until([&] { return server.count(0) > before[0] + 40 && server.count(1) > before[1] + 40; }));
    };
    up(0);
    for (size_t round = 1; round < 3; round++) {
        server.down(round == 1);
        ASSERT_TRUE(wait_connected(false)) << log();
        up(round);
    }
    EXPECT_TRUE(wait_connected(true));
    EXPECT_EQ(interrupt(), 0) << log();
    EXPECT_EQ(server.wrong(), "");

    const json done = summary();
    ASSERT_TRUE(done.is_object()) << log();
    for (unsigned camera = 0; camera < 2; camera++) {
        SCOPED_TRACE(camera);
        const json& one = done["cameras"][camera];
        EXPECT_EQ(one["ended"], true) << one.dump();
        EXPECT_TRUE(server.ended(static_cast<uint16_t>(camera)));
        const json& connection = one["connection"];
        EXPECT_EQ(connection["connections"], 3) << connection.dump();
        EXPECT_GE(connection["failures"], 3) << "an attempt at the start, and two that broke";
        EXPECT_GT(connection["frames_away"], 0) << connection.dump();
        EXPECT_EQ(one["frames_sent"].get<uint64_t>() + connection["frames_abandoned"].get<uint64_t>(),
                  one["frames_encoded"]);
        std::set<std::vector<uint8_t>> epochs;
        for (size_t i = 0; i < 3; i++) {
            std::vector<GotRecord> records;
            for (const GotRecord& record : server.records(static_cast<uint16_t>(camera))) {
                if (record.connection == i) {
                    records.push_back(record);
                }
            }
            ASSERT_FALSE(records.empty());
            EXPECT_GE(records.front().received_us, up_us[i]) << "nothing that was seen before the server was there";
            const std::set<int> units = units_of_first_picture(records);
            EXPECT_TRUE(units.contains(5) && units.contains(7)) << "an IDR picture, with its parameters";
            EXPECT_FALSE(units.contains(1));
            for (const std::vector<uint8_t>& epoch : epochs_in(records)) {
                EXPECT_TRUE(epochs.insert(epoch).second) << "no background outlives its connection";
            }
            EXPECT_EQ(epochs.size(), i + 1) << "and there is one in each";
        }
    }
    EXPECT_EQ(log().find("--qp alone"), std::string::npos) << "what saves is not warned of";
    // Once a camera, and once more where a connection had lasted.
    const auto said = [text = log()](const std::string& what) {
        size_t times = 0;
        for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) {
            times++;
        }
        return times;
    };
    EXPECT_GE(said("until the server is back"), 2U) << log();
    EXPECT_LE(said("until the server is back"), 2U + said("connected again")) << log();
}

TEST_F(Reconnect, EndsAtOnceWhileNobodyIsThere) {
    // One that refuses, one that never answers (its queue of connections is full), one that has no address.
    uint16_t refusing = 0;
    {
        FakeServer gone;
        refusing = gone.port();
    }
    const Fd silent(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(bind(silent.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at), 0);
    ASSERT_EQ(listen(silent.get(), 0), 0);
    const std::string silent_at = std::to_string(local_port(silent.get()));
    std::vector<Fd> waiting;
    for (int i = 0; i < 3; i++) {
        Fd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        at.sin_port = htons(local_port(silent.get()));
        (void)connect(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at);
        waiting.push_back(std::move(fd));
    }
    for (const std::string& server :
         {"127.0.0.1:" + std::to_string(refusing), "127.0.0.1:" + silent_at, std::string("server.invalid:7700")}) {
        SCOPED_TRACE(server);
        figures_.clear();
        start(server, {"--cameras", "2"});
        ASSERT_TRUE(wait_until([&] { return figures(1).is_object() && figures(0).is_object(); })) << log();
        EXPECT_EQ(figures(0)["connection"]["connected"], false);
        EXPECT_GT(figures(0)["connection"]["frames_away"], 0);
        EXPECT_EQ(interrupt(), 0) << log();
        const json done = summary();
        ASSERT_TRUE(done.is_object());
        EXPECT_EQ(done["total"]["frames_encoded"], 0);
        EXPECT_GT(done["total"]["frames_away"], 0);
        EXPECT_EQ(done["cameras"][0]["ended"], false);
        EXPECT_EQ(done["cameras"][0]["connection"]["connections"], 0);
    }
}

// The server is killed, and the sender told to end before it is back.
TEST_F(Reconnect, EndsAtOnceWhenTheServerHasGone) {
    FakeServer server("127.0.0.1", false);
    start("127.0.0.1:" + std::to_string(server.port()));
    ASSERT_TRUE(wait_until([&] { return server.count(0) > 20; })) << log();
    server.down();
    ASSERT_TRUE(wait_connected(false)) << log();
    EXPECT_EQ(interrupt(), 0) << log();
    const json done = summary();
    ASSERT_TRUE(done.is_object());
    EXPECT_EQ(done["cameras"][0]["ended"], false);
    EXPECT_EQ(done["cameras"][0]["connection"]["connections"], 1);
    EXPECT_EQ(done["cameras"][0]["connection"]["connected"], false);
}

TEST_F(Reconnect, AMistakeIsNoServerThatIsAway) {
    start("127.0.0.1:1", {"--cc", "no_such_cc"});
    ASSERT_TRUE(sender_->wait_exit(20s * slowness()));
    EXPECT_EQ(*sender_->exit_code(), 1);
    EXPECT_NE(log().find("no congestion control 'no_such_cc'"), std::string::npos) << log();
}

}  // namespace
}  // namespace adapath::video
