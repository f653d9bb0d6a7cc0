// The background that the server remembers: what its network sees, with and without losses on the way; and all of it
// over loopback: a sender's camera, a line that loses a chunk, the server, its reports over mutual TLS, and back into
// the encoder.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <random>
#include <set>
#include <thread>

#include <poll.h>
#include <sys/socket.h>

#include <adapath/rtp.h>

#include <nlohmann/json.hpp>

#include "tests/server/frames.h"
#include "tests/server/loopback_server.h"
#include "userspace/camera/record_stream.h"
#include "userspace/common/file.h"
#include "userspace/harness/child.h"
#include "userspace/qp/region_live_encoder.h"
#include "userspace/relay/feedback.h"
#include "userspace/relay/record_bytes.h"
#include "userspace/server/background.h"
#include "userspace/video/camera.h"
#include "userspace/video/decoder.h"

namespace adapath::server {
namespace {

using namespace adapath::testing;
using video::BackgroundSei;
using video::BlockUse;
using video::Clip;
using video::Size;

constexpr Size size{192, 144};  // 12 x 9 macroblocks
constexpr int still_from = 96;  // the right half stands still

// Ground that a coarse quantiser ruins, and a square that goes up and down in its left half, brighter and darker, so
// that no two pictures are the same.
Clip scene(uint32_t pictures) {
    std::vector<uint8_t> bytes;
    for (uint32_t i = 0; i < pictures; i++) {
        const int top = static_cast<int>(i * 4 % 192);
        const int square_y = top < 96 ? top : 192 - top;
        for (int y = 0; y < size.height; y++) {
            for (int x = 0; x < size.width; x++) {
                const bool square = x >= 32 && x < 64 && y >= square_y && y < square_y + 32;
                const double wave = 40 * std::sin(x * 0.7) * std::cos(y * 0.6) + 20 * std::sin((x + 2 * y) * 0.13);
                bytes.push_back(
                    static_cast<uint8_t>(square ? 190 + i % 47 - (x + y) % 9 : 110 + wave + (x * 7 + y * 11) % 17));
            }
        }
        bytes.insert(bytes.end(), static_cast<size_t>(size.width) * size.height / 2, 128);
    }
    return *Clip::from_i420(std::move(bytes), size);
}

// Of luma, in the half that stands still.
double difference(const AVFrame& frame, const video::Picture& original) {
    double sum = 0;
    for (int y = 0; y < size.height; y++) {
        for (int x = still_from; x < size.width; x++) {
            sum += std::abs(frame.data[0][y * frame.linesize[0] + x] - original.y[y * size.width + x]);
        }
    }
    return sum / ((size.width - still_from) * size.height);
}

constexpr double good = 5;  // what a background looks like that was sent in good quality
constexpr double bad = 12;  // and in the worst

RegionLiveOptions always_background(unsigned group) {
    RegionLiveOptions options;
    options.group = group;
    options.background = true;
    options.always = true;
    return options;
}

// Encoder and decoder, with nothing between them.
class Direct {
public:
    explicit Direct(BackgroundRoom& room) : remembered(room) {
        encoder = std::move(*region_encoders(always_background(5))(0, size, 25, 200));
    }
    AccessUnit encode() {
        const Result<video::EncodedFrame> frame = encoder->encode(clip.picture(pictures), 200, pictures * 40'000'000);
        pictures++;
        AccessUnit unit;
        unit.bytes.assign(frame->bytes.begin(), frame->bytes.end());
        unit.idr = frame->key;
        return unit;
    }
    // What the network would look at: how far from the original; and what was said.
    struct Shown {
        double difference = 0;
        bool changed = false;
        std::optional<RememberedBackground::Seen::Lost> lost;
    };
    Shown show(const AccessUnit& unit) {
        const Result<const AVFrame*> decoded = decoder.decode(unit.bytes, pictures);
        if (!decoded) {
            ADD_FAILURE() << decoded.error().message;
            return {};
        }
        RememberedBackground::Seen seen = remembered.picture(unit, **decoded);
        const AVFrame& frame = seen.frame != nullptr ? *seen.frame : **decoded;
        return {difference(frame, clip.picture(pictures - 1)), seen.frame != nullptr, seen.lost};
    }
    // The next chunk, of which those are dropped.
    std::vector<Shown> chunk(const std::set<unsigned>& dropped = {}) {
        std::vector<Shown> all;
        for (unsigned i = 0; i < 5; i++) {
            const AccessUnit unit = encode();
            if (!dropped.contains(i)) all.push_back(show(unit));
        }
        return all;
    }

    const Clip clip = scene(96);
    std::unique_ptr<video::LiveEncoder> encoder;
    video::Decoder decoder = std::move(*video::Decoder::open());
    RememberedBackground remembered;
    uint64_t pictures = 0;
};

TEST(RememberedBackground, TheNetworkSeesAGoodBackgroundThoughItIsSentOnce) {
    BackgroundRoom room(1 << 20);
    Direct direct(room);
    for (const Direct::Shown& shown : direct.chunk()) EXPECT_FALSE(shown.changed) << "the first chunk is uniform";
    size_t recalled_chunks = 0;
    for (int i = 0; i < 30; i++) {
        for (const Direct::Shown& shown : direct.chunk()) {
            EXPECT_TRUE(shown.changed);
            EXPECT_LT(shown.difference, good) << "chunk " << i;
            EXPECT_FALSE(shown.lost);
        }
        recalled_chunks++;
    }
    const RememberedBackground::Counters& counters = direct.remembered.counters();
    EXPECT_EQ(counters.epochs, 1U);
    EXPECT_EQ(counters.notes, 5 * recalled_chunks);
    EXPECT_EQ(counters.lost + counters.as_decoded + counters.malformed + counters.no_room, 0U);
    EXPECT_GT(static_cast<double>(counters.recalled), 0.6 * static_cast<double>(counters.blocks));
    // What was decoded is another picture.
    const AccessUnit unit = direct.encode();
    const Result<const AVFrame*> decoded = direct.decoder.decode(unit.bytes, 0);
    EXPECT_GT(difference(**decoded, direct.clip.picture(direct.pictures - 1)), bad);
}

TEST(RememberedBackground, AChunkThatIsMissingIsNoticedAndMended) {
    BackgroundRoom room(1 << 20);
    Direct direct(room);
    for (int i = 0; i < 4; i++) direct.chunk();
    direct.chunk({0, 1, 2, 3, 4});
    for (int i = 0; i < 3; i++) {
        const std::vector<Direct::Shown> chunk = direct.chunk();
        for (size_t picture = 0; picture < chunk.size(); picture++) {
            // As decoded; asked for a new start with each IDR picture.
            EXPECT_FALSE(chunk[picture].changed);
            EXPECT_GT(chunk[picture].difference, bad);
            EXPECT_EQ(chunk[picture].lost.has_value(), picture == 0);
        }
        EXPECT_FALSE(chunk[0].lost->no_room);
        if (i == 2) direct.encoder->requests()->lost({chunk[0].lost->epoch, false});
    }
    EXPECT_EQ(direct.remembered.counters().lost, 1U);
    EXPECT_EQ(direct.remembered.counters().as_decoded, 15U);
    for (int i = 0; i < 5; i++)
        for (const Direct::Shown& shown : direct.chunk()) {
            EXPECT_TRUE(shown.changed);
            EXPECT_LT(shown.difference, good);
        }
    EXPECT_EQ(direct.remembered.counters().epochs, 2U);
    EXPECT_EQ(direct.remembered.counters().lost, 1U);
}

// The end of a chunk, as it goes missing when the relay gives up in the middle of one.
TEST(RememberedBackground, TheEndOfAChunkIsMissed) {
    BackgroundRoom room(1 << 20);
    Direct direct(room);
    for (int i = 0; i < 4; i++) direct.chunk();
    for (const Direct::Shown& shown : direct.chunk({3, 4})) EXPECT_TRUE(shown.changed);
    const std::vector<Direct::Shown> after = direct.chunk();
    EXPECT_TRUE(after[0].lost.has_value());
    EXPECT_EQ(direct.remembered.counters().lost, 1U);
}

TEST(RememberedBackground, WhoComesInTheMiddleAsksForABeginning) {
    BackgroundRoom room(1 << 20);
    Direct direct(room);
    for (int i = 0; i < 4; i++) direct.chunk({0, 1, 2, 3, 4});
    const std::vector<Direct::Shown> chunk = direct.chunk();
    EXPECT_FALSE(chunk[0].changed);
    ASSERT_TRUE(chunk[0].lost);
    direct.encoder->requests()->lost({chunk[0].lost->epoch, false});
    EXPECT_TRUE(direct.chunk()[0].changed);
}

TEST(RememberedBackground, WithoutRoomTheSenderIsTold) {
    BackgroundRoom room(size_t{192} * 144 * 23);
    Direct first(room);
    first.chunk();
    EXPECT_TRUE(first.chunk()[0].changed);
    {
        Direct second(room);
        second.chunk();
        const std::vector<Direct::Shown> chunk = second.chunk();
        EXPECT_FALSE(chunk[0].changed);
        ASSERT_TRUE(chunk[0].lost);
        EXPECT_TRUE(chunk[0].lost->no_room);
        EXPECT_EQ(second.remembered.counters().no_room, 1U);
        EXPECT_EQ(second.remembered.counters().lost, 0U);
    }
    EXPECT_TRUE(first.chunk()[0].changed) << "the one that has room keeps it";
    EXPECT_EQ(room.taken(), size_t{192} * 144 * 23);
}

TEST(RememberedBackground, RoomComesBack) {
    BackgroundRoom room(size_t{192} * 144 * 23);
    for (int i = 0; i < 3; i++) {
        Direct direct(room);
        direct.chunk();
        EXPECT_TRUE(direct.chunk()[0].changed);
        // A new epoch takes the place of the one before.
        const AccessUnit unit = direct.encode();
        direct.encoder->requests()->lost({(*video::find_background_sei(unit.bytes))->epoch, false});
        direct.show(unit);
    }
    EXPECT_EQ(room.taken(), 0U);
    EXPECT_FALSE(room.take(SIZE_MAX));
    EXPECT_TRUE(room.take(1));
}

// Notes with flipped bits and other numbers, of other sizes, in wrong places: no crash, nothing but counted errors, and
// whoever asks for a new beginning gets one.
TEST(RememberedBackground, HostileNotesDoNoHarm) {
    std::mt19937 random(12);
    BackgroundRoom room(size_t{192} * 144 * 23 * 2);
    Direct direct(room);
    direct.chunk();
    for (int i = 0; i < 400; i++) {
        AccessUnit unit = direct.encode();
        const Result<const AVFrame*> decoded = direct.decoder.decode(unit.bytes, direct.pictures);
        ASSERT_TRUE(decoded.ok());
        BackgroundSei sei = *std::move(*video::find_background_sei(unit.bytes));
        std::vector<uint8_t> bare = {0, 0, 0, 1, static_cast<uint8_t>(unit.idr ? 0x65 : 0x41), 0x88, 0x80};
        switch (random() % 6) {
            case 0:
                for (uint8_t& byte : sei.note)
                    if (random() % 8 == 0) byte ^= static_cast<uint8_t>(1U << (random() % 8));
                break;
            case 1:
                sei.epoch = random();
                sei.number = random() % 3 == 0 ? 0 : random();
                break;
            case 2:
                sei.begins = !sei.begins;
                break;
            case 3:
                sei.note.resize(random() % (sei.note.size() + 3));
                break;
            case 4:
                unit.idr = !unit.idr;
                break;
            default:
                break;
        }
        unit.bytes = *video::with_background_sei(bare, sei);
        if (random() % 5 == 0 && unit.bytes.size() > 30) unit.bytes[5 + random() % 25] ^= 0x10;
        const bool other_size = random() % 7 == 0;
        const video::AvFrame small = grey_frame(other_size ? 176 : 190, 144, 90);
        const AVFrame& frame = random() % 4 == 0 ? *small : **decoded;
        const RememberedBackground::Seen seen = direct.remembered.picture(unit, frame);
        if (seen.frame != nullptr) {
            EXPECT_EQ(seen.frame->width, frame.width);
            EXPECT_EQ(seen.frame->height, frame.height);
        }
        EXPECT_LE(room.taken(), size_t{192} * 144 * 23 * 2);
    }
    EXPECT_GT(direct.remembered.counters().malformed, 20U);
    EXPECT_GT(direct.remembered.counters().lost, 5U);
    // A new epoch is followed as if nothing had been.
    direct.encoder = std::move(*region_encoders(always_background(5))(0, size, 25, 200));
    direct.decoder = std::move(*video::Decoder::open());
    direct.chunk();
    for (const Direct::Shown& shown : direct.chunk()) EXPECT_TRUE(shown.changed);
}

// --- over loopback ---

// Carries records from a sender to the server, but for those of some chunks.
class LosingLine {
public:
    LosingLine(uint16_t server, std::set<unsigned> lost)
        : server_(server), lost_(std::move(lost)), listening_(std::move(*video::listen_tcp({"127.0.0.1", "0"}))) {
        thread_ = std::jthread([this] { run(); });
    }
    [[nodiscard]] uint16_t port() const { return video::local_port(listening_.get()); }
    [[nodiscard]] unsigned dropped() const { return dropped_; }

private:
    static bool wait_for(int fd) {
        pollfd poll_fd = {fd, POLLIN, 0};
        return poll(&poll_fd, 1, 30'000 * slowness()) == 1;
    }
    static bool send_all(int fd, std::span<const uint8_t> bytes) {
        while (!bytes.empty()) {
            const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent < 0 && errno == EAGAIN) {
                pollfd writable = {fd, POLLOUT, 0};
                poll(&writable, 1, 1000);
                continue;
            }
            if (sent <= 0) return false;
            bytes = bytes.subspan(static_cast<size_t>(sent));
        }
        return true;
    }
    void run() {
        if (!wait_for(listening_.get())) return;
        const video::Fd from(accept4(listening_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        const Result<video::Fd> to = video::connect_tcp({"127.0.0.1", std::to_string(server_)}, {}, {});
        if (!to) return;
        RecordReader reader;
        for (bool over = false; !over;) {
            const std::span<uint8_t> space = reader.space();
            const ssize_t got = recv(from.get(), space.data(), space.size(), 0);
            if (got <= 0) return;
            reader.filled(static_cast<size_t>(got));
            for (;;) {
                const Result<RecordReader::State> state = reader.next();
                if (!state || *state == RecordReader::State::more) break;
                if (*state == RecordReader::State::hello) {
                    if (!send_all(to->get(), relay::hello_bytes(reader.hello().camera, reader.hello().gateway))) return;
                    continue;
                }
                const Record& record = reader.record();
                over = record.end;
                if (!over && drops(record.packet)) continue;
                if (!send_all(to->get(), relay::record_bytes(static_cast<adp_select_rendition>(record.rendition),
                                                             static_cast<uint8_t>(over ? ADP_RELAY_END : 0),
                                                             record.received_us, record.packet)))
                    return;
            }
        }
        // The server closes, and so does this end.
        char byte = 0;
        if (wait_for(to->get())) (void)recv(to->get(), &byte, 1, 0);
    }
    bool drops(std::span<const uint8_t> packet) {
        const adp_view view = {packet.data(), packet.data() + packet.size()};
        adp_rtp rtp = {};
        if (adp_rtp_parse(&view, 0, static_cast<adp_u32>(packet.size()), &rtp) != ADP_RTP_PACKET) return false;
        if ((adp_h264_look(&view, rtp.offset, rtp.bytes) & ADP_H264_SPS) != 0) chunk_++;
        const bool drop = lost_.contains(static_cast<unsigned>(chunk_));
        dropped_ += drop ? 1 : 0;
        return drop;
    }

    const uint16_t server_;
    const std::set<unsigned> lost_;
    video::Fd listening_;
    int chunk_ = -1;
    std::atomic<unsigned> dropped_ = 0;
    std::jthread thread_;
};

// A server whose network says how far the picture's still half is from the original, and that it is unsure of a
// corner.
class EndToEnd : public LoopbackServer {
protected:
    void SetUp() override {
        ASSERT_EQ(std::system((ADAPATH_CERTIFICATES " " + directory_.path("pki") + " roof 2>/dev/null").c_str()), 0);
        use_network(
            "a network of this test",
            [this]() -> Result<std::unique_ptr<Detector>> {
                return std::unique_ptr<Detector>(
                    std::make_unique<FakeDetector>([this](const Image& image) { return look(image); }));
            },
            256);
        shared_.vision.regions = true;
        start();
        start_vision(hub_, directory_.path("pki"));
    }

    Result<std::vector<Box>> look(const Image& image) {
        double sum = 0;
        for (int y = 0; y < size.height; y++)
            for (int x = still_from; x < size.width; x++) {
                // Grey: all three are luma, stretched from BT.601's limited range.
                const double luma = 16 + image.rgb[(static_cast<size_t>(y) * size.width + x) * 3] * 219.0 / 255;
                sum += std::abs(luma - clip_.picture(0).y[y * size.width + x]);
            }
        std::lock_guard lock(mutex_);
        seen_.push_back(sum / ((size.width - still_from) * size.height));
        return std::vector<Box>{{20, 20, 60, 60, 0.3F, 0}};
    }

    // A sender that plays for that long through a line that loses those chunks.
    video::CameraStats play(double seconds, const std::set<unsigned>& lost) {
        LosingLine line(port(), lost);
        video::CameraOptions options;
        options.camera = 3;
        options.rate = {.start_kbps = 300, .fps = 25, .adaptive = false};
        options.duration_ns = static_cast<uint64_t>(seconds * 1e9);
        options.encoder = region_encoders(always_background(5));
        options.format = camera::record_streams("roof");
        Result<std::unique_ptr<video::Camera>> camera = video::Camera::connect(
            options, clip_, {"127.0.0.1", std::to_string(line.port())}, {.congestion_control = "cubic"}, {}, {});
        if (!camera) {
            ADD_FAILURE() << camera.error().message;
            return {};
        }
        relay::FeedbackOptions feedback;
        feedback.gateway = "roof";
        feedback.cameras = 4;
        feedback.vision = "127.0.0.1:" + std::to_string(vision_->port());
        feedback.ca = *read_file(directory_.path("pki/ca.crt"));
        feedback.certificate = *read_file(directory_.path("pki/roof.crt"));
        feedback.key = *read_file(directory_.path("pki/roof.key"));
        feedback.on_report = [&](const pb::CameraReport& report) {
            EXPECT_EQ(report.camera(), 3U);
            video::EncoderRequests& requests = *(*camera)->requests();
            if (report.has_background_lost()) requests.lost({report.background_lost().epoch(), false});
            if (report.has_regions()) {
                std::vector<video::EncoderRequests::Region> regions;
                for (const pb::Regions::Region& region : report.regions().regions())
                    regions.push_back({region.x0(), region.y0(), region.x1(), region.y1()});
                requests.ask(std::move(regions));
            }
        };
        const relay::Feedback hears(feedback);
        if (!wait_until([&] { return hub_.watchers("roof") == 1; })) ADD_FAILURE() << "nobody watches";
        for (;;) {
            const Result<bool> more = (*camera)->step();
            if (!more) ADD_FAILURE() << more.error().message;
            if (!more || !*more) break;
        }
        dropped_ = line.dropped();
        return (*camera)->stats();
    }
    // When the server has looked at all that came.
    CameraCounters counters(uint64_t pictures) {
        EXPECT_TRUE(wait_until([&] {
            const auto all = server_->cameras();
            return all.contains("roof") && all.at("roof").contains(3) && all.at("roof").at(3).seen >= pictures;
        }));
        return server_->cameras().at("roof").at(3);
    }

    const Clip clip_ = scene(96);
    TemporaryDirectory directory_;
    unsigned dropped_ = 0;
    std::mutex mutex_;
    std::vector<double> seen_;  // by picture
};

TEST_F(EndToEnd, ABackgroundThatIsSentOnceAndRegionsThatAreAskedFor) {
    const video::CameraStats stats = play(3, {});
    ASSERT_TRUE(stats.error.empty()) << stats.error;
    EXPECT_TRUE(stats.ended);
    const uint64_t pictures = stats.frames_encoded;
    EXPECT_GE(pictures, 60U);
    const CameraCounters counters = this->counters(pictures);
    EXPECT_EQ(counters.background.notes, pictures - 5) << "all but the first chunk";
    EXPECT_EQ(counters.background.epochs, 1U);
    EXPECT_EQ(counters.background.lost + counters.background.as_decoded, 0U);
    EXPECT_EQ(counters.background_asked, 0U);
    {
        std::lock_guard lock(mutex_);
        for (size_t i = 5; i < seen_.size(); i++) EXPECT_LT(seen_[i], good) << "picture " << i;
    }
    // Nearly every chunk hears of the one before the last, at five chunks a second.
    EXPECT_GE(stats.regions->asked, stats.regions->chunks / 3);
    EXPECT_GT(stats.regions->asked_share, 0);
    EXPECT_EQ(stats.regions->background->lost, 0U);
}

TEST_F(EndToEnd, AChunkThatIsLostIsMendedAtTheServersRequest) {
    const video::CameraStats stats = play(4, {8});
    ASSERT_TRUE(stats.error.empty()) << stats.error;
    EXPECT_GE(dropped_, 5U);
    const CameraCounters counters = this->counters(stats.frames_encoded - 5);
    EXPECT_EQ(counters.background.lost, 1U);
    EXPECT_EQ(counters.background.epochs, 2U);
    EXPECT_GE(counters.background_asked, 1U);
    EXPECT_EQ(counters.background.malformed, 0U);
    EXPECT_EQ(stats.regions->background->lost, 1U);
    EXPECT_EQ(stats.regions->background->epochs, 2U);
    // Right, then as decoded for some chunks, then right again.
    std::lock_guard lock(mutex_);
    ASSERT_GE(seen_.size(), 60U);
    for (size_t i = 5; i < 40; i++) EXPECT_LT(seen_[i], good) << "picture " << i;
    EXPECT_GT(seen_[40], bad);
    const auto wrong = static_cast<size_t>(
        std::count_if(seen_.begin() + 40, seen_.end(), [](double difference) { return difference > good; }));
    EXPECT_EQ(wrong, counters.background.as_decoded);
    EXPECT_LE(wrong, 30U) << "a report takes much less than six chunks";
    for (size_t i = 40 + wrong; i < seen_.size(); i++) EXPECT_LT(seen_[i], good) << "picture " << i;
}

TEST_F(EndToEnd, TheToolDoesAllOfIt) {
    const std::string file = directory_.path("clip.y4m");
    std::vector<uint8_t> bytes;
    for (uint32_t i = 0; i < clip_.pictures(); i++) {
        const video::Picture picture = clip_.picture(i);
        bytes.insert(bytes.end(), picture.y, picture.y + video::picture_bytes(size));
    }
    ASSERT_TRUE(video::write_y4m(file, bytes, size));
    const auto run = [&](const std::vector<std::string>& more) {
        std::vector<std::string> arguments = {ADAPATH_VIDEO_SEND, "--clip", file, "--server",
                                              "127.0.0.1:" + std::to_string(server_->port())};
        arguments.insert(arguments.end(), more.begin(), more.end());
        Result<Child> child =
            Child::start({.name = "adapath-video-send", .argv = arguments, .log = directory_.path("log")});
        return child && child->wait_exit(std::chrono::seconds(60) * slowness()) ? *child->exit_code() : -1;
    };
    const auto text = [&](const std::string& name) { return *read_file(directory_.path(name)); };
    EXPECT_EQ(run({"--qp-background"}), 2) << "a receiver that remembers nothing";
    EXPECT_NE(text("log").find("--gateway"), std::string::npos) << text("log");
    EXPECT_EQ(run({"--vision", "127.0.0.1:1"}), 2);
    EXPECT_EQ(run({"--gateway", "a/b"}), 2);
    EXPECT_EQ(run({"--gateway", "roof", "--qp-group", "5"}), 2);
    EXPECT_NE(text("log").find("--qp-background"), std::string::npos) << text("log");

    ASSERT_EQ(run({"--gateway",
                   "roof",
                   "--first-camera",
                   "3",
                   "--vision",
                   "127.0.0.1:" + std::to_string(vision_->port()),
                   "--ca",
                   directory_.path("pki/ca.crt"),
                   "--certificate",
                   directory_.path("pki/roof.crt"),
                   "--key",
                   directory_.path("pki/roof.key"),
                   "--qp-background",
                   "--qp-background-always",
                   "--qp-group",
                   "5",
                   "--no-adaptive",
                   "--start-kbps",
                   "300",
                   "--duration",
                   "3",
                   "--summary",
                   directory_.path("summary")}),
              0)
        << text("log");
    const nlohmann::json summary = nlohmann::json::parse(text("summary"));
    const nlohmann::json& camera = summary["cameras"][0];
    EXPECT_EQ(camera["camera"], 3);
    EXPECT_EQ(camera["ended"], true);
    EXPECT_GT(camera["qp"]["asked"], 0);
    EXPECT_EQ(camera["qp"]["background"]["epochs"], 1);
    EXPECT_GT(summary["feedback"]["reports"], 0);
    const uint64_t pictures = camera["frames_encoded"];
    EXPECT_EQ(counters(pictures).background.notes, pictures - 5);
}

}  // namespace
}  // namespace adapath::server
