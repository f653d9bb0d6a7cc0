// Sender and receiver in one process over localhost: whole frames, broken and malformed connections, a slow reader,
// stopping.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <map>
#include <mutex>
#include <thread>
#include <vector>

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <gtest/gtest.h>

#include "tests/support/patience.h"
#include "tests/video/pattern.h"
#include "userspace/video/camera.h"
#include "userspace/video/framing.h"
#include "userspace/video/receiver.h"

namespace adapath::video {
namespace {

constexpr Size small{320, 240};
constexpr uint64_t second_ns = 1'000'000'000;

Clip small_clip() {
    Result<Clip> clip = Clip::from_i420(pattern(small, 40), small);
    return std::move(clip.value());
}

// A receiver with its thread, and every frame record that it gave.
class Server {
public:
    explicit Server(unsigned cameras, const Clip* original = nullptr) {
        ReceiverOptions options;
        options.listen = {"127.0.0.1", "0"};
        options.cameras = cameras;
        options.on_frame = [this, original](const FrameRecord& record, const AVFrame* picture) {
            std::lock_guard lock(mutex_);
            records_.push_back(record);
            if (original != nullptr && picture != nullptr) {
                worst_difference_ = std::max(worst_difference_, difference(*picture, *original, record.picture));
            }
        };
        Result<std::unique_ptr<Receiver>> listening = Receiver::listen(options, stop_.get_token());
        receiver_ = std::move(listening.value());
        at_ = {"127.0.0.1", std::to_string(receiver_->port())};
        thread_ = std::jthread([this] {
            for (;;) {
                Result<bool> more = receiver_->step();
                if (!more || !*more) {
                    return;
                }
            }
        });
    }
    ~Server() { stop_.request_stop(); }

    [[nodiscard]] const HostPort& at() const { return at_; }
    void stop() { stop_.request_stop(); }
    // Waits until the receiver has ended by itself.
    std::vector<StreamStats> join() {
        thread_.join();
        return receiver_->streams();
    }
    [[nodiscard]] const Receiver& receiver() const { return *receiver_; }
    // After join().
    [[nodiscard]] const std::vector<FrameRecord>& records() const { return records_; }
    [[nodiscard]] double worst_difference() const { return worst_difference_; }

private:
    // Mean absolute difference of the luma to the original's picture.
    static double difference(const AVFrame& frame, const Clip& original, uint32_t index) {
        Picture picture = original.picture(index);
        Size size = original.size();
        EXPECT_EQ(frame.width, size.width);
        EXPECT_EQ(frame.height, size.height);
        uint64_t sum = 0;
        for (int y = 0; y < size.height; y++) {
            for (int x = 0; x < size.width; x++) {
                sum += static_cast<uint64_t>(
                    std::abs(frame.data[0][y * frame.linesize[0] + x] - picture.y[y * size.width + x]));
            }
        }
        return static_cast<double>(sum) / (static_cast<double>(size.width) * size.height);
    }

    std::stop_source stop_;
    std::unique_ptr<Receiver> receiver_;
    HostPort at_;
    std::mutex mutex_;
    std::vector<FrameRecord> records_;
    double worst_difference_ = 0;
    std::jthread thread_;
};

CameraOptions camera_options(uint16_t camera, double seconds) {
    CameraOptions options;
    options.camera = camera;
    options.rate.fps = 25;
    options.duration_ns = static_cast<uint64_t>(seconds * 1e9);
    options.first_picture = camera * 10U;
    return options;
}

ConnectOptions cubic() {
    ConnectOptions options;
    options.congestion_control = "cubic";
    return options;
}

// Runs a camera to its end and returns what it counted.
CameraStats play(const CameraOptions& options, const Clip& clip, const HostPort& at, const std::stop_token& stop = {},
                 std::function<void(const CameraStats&)> report = {}) {
    Result<std::unique_ptr<Camera>> camera = Camera::connect(options, clip, at, cubic(), stop, std::move(report));
    if (!camera) {
        ADD_FAILURE() << camera.error().message;
        return {};
    }
    for (;;) {
        Result<bool> more = (*camera)->step();
        if (!more || !*more) {
            return (*camera)->stats();
        }
    }
}

Fd connect_raw(const HostPort& at) {
    Result<Fd> socket = connect_tcp(at, ConnectOptions{}, {});
    return socket ? std::move(*socket) : Fd();
}

void send_all(const Fd& socket, std::span<const uint8_t> bytes) {
    while (!bytes.empty()) {
        pollfd fd = {socket.get(), POLLOUT, 0};
        ASSERT_EQ(poll(&fd, 1, 5000), 1);
        ssize_t sent = send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
        ASSERT_GT(sent, 0);
        bytes = bytes.subspan(static_cast<size_t>(sent));
    }
}

// Waits until the peer has closed. False after 10 s.
bool closed_by_peer(const Fd& socket) {
    char byte = 0;
    pollfd fd = {socket.get(), POLLIN, 0};
    return poll(&fd, 1, 10'000) == 1 && recv(socket.get(), &byte, 1, 0) <= 0;
}

TEST(Loopback, EveryFrameOfEveryCameraIsDecoded) {
    Clip clip = small_clip();
    constexpr unsigned cameras = 3;
    Server server(cameras, &clip);
    std::vector<CameraStats> sent(cameras);
    {
        std::vector<std::jthread> threads;
        for (unsigned i = 0; i < cameras; i++) {
            threads.emplace_back(
                [&, i] { sent[i] = play(camera_options(static_cast<uint16_t>(i), 2), clip, server.at()); });
        }
    }
    std::vector<StreamStats> got = server.join();
    ASSERT_EQ(got.size(), cameras);
    std::map<uint16_t, uint64_t> next;
    for (unsigned i = 0; i < cameras; i++) {
        SCOPED_TRACE(i);
        EXPECT_EQ(sent[i].error, "");
        EXPECT_TRUE(sent[i].ended);
        EXPECT_EQ(sent[i].congestion_control, "cubic");
        EXPECT_NE(sent[i].local_port, 0);
        // Every frame time of the 2 s is accounted for, whatever the machine was busy with.
        uint64_t due = sent[i].frames_encoded + sent[i].frames_skipped + sent[i].frames_overrun;
        EXPECT_GE(due, 49U);
        EXPECT_LE(due, 51U);
        EXPECT_GT(sent[i].frames_encoded, 5U);
        EXPECT_EQ(sent[i].frames_sent, sent[i].frames_encoded);
        EXPECT_TRUE(got[i].ended);
        EXPECT_EQ(got[i].frames_sent, sent[i].frames_sent);
        EXPECT_EQ(got[i].frames_received, sent[i].frames_sent);
        EXPECT_EQ(got[i].frames_decoded, sent[i].frames_sent);
        EXPECT_EQ(got[i].frames_lost(), 0U);
        EXPECT_EQ(got[i].frames_undecoded(), 0U);
        EXPECT_EQ(got[i].frames_skipped, sent[i].frames_skipped + sent[i].frames_overrun);
        EXPECT_EQ(got[i].bytes + (got[i].frames_received + 1) * ADP_VIDEO_HEADER_BYTES, sent[i].bytes);
        EXPECT_EQ(got[i].delay.count(), got[i].frames_decoded);
    }
    for (const FrameRecord& record : server.records()) {
        EXPECT_EQ(record.frame, next[record.camera]++);
        EXPECT_LE(record.sent_ns, record.received_ns);
        EXPECT_LE(record.received_ns, record.decoded_ns);
        EXPECT_EQ(record.key, record.frame % 50 == 0);
    }
    // The decoded pictures are those of the clip, not just any.
    EXPECT_LT(server.worst_difference(), 12);
    EXPECT_GT(server.worst_difference(), 0);
}

TEST(Loopback, RealClip) {
    const char* path = ADAPATH_TEST_CLIP;
    if (!std::filesystem::exists(path)) {
        GTEST_SKIP() << "no real clip in out/cache/clip (scripts/deps.sh fetches it)";
    }
    Result<Clip> clip = Clip::load(path, {}, 100ULL << 20);
    ASSERT_TRUE(clip.ok()) << clip.error().message;
    EXPECT_EQ(clip->size().width, 768);
    EXPECT_EQ(clip->size().height, 576);
    EXPECT_TRUE(clip->truncated());  // the whole clip is over this budget
    EXPECT_LE(clip->bytes(), 100ULL << 20);
    Server server(1, &*clip);
    CameraStats sent = play(camera_options(0, 3), *clip, server.at());
    std::vector<StreamStats> got = server.join();
    ASSERT_EQ(got.size(), 1U);
    EXPECT_EQ(sent.error, "");
    EXPECT_GT(sent.frames_sent, 10U);
    EXPECT_EQ(got[0].frames_decoded, sent.frames_sent);
    EXPECT_EQ(got[0].frames_lost(), 0U);
    EXPECT_LT(server.worst_difference(), 12);
}

TEST(Loopback, TheTargetIsUsedAndNoFrameIsABurst) {
    Size size{640, 480};
    Result<Clip> clip = Clip::from_i420(pattern(size, 50), size);
    ASSERT_TRUE(clip.ok());
    Result<Encoder> encoder = Encoder::open(size, 25, 4000);
    ASSERT_TRUE(encoder.ok()) << encoder.error().message;
    // 4 Mbit/s, then 1, then 6: 20 kB, 5 kB and 30 kB a frame. The first frames after a change still spend the old
    // bucket.
    for (double kbps : {4000.0, 1000.0, 6000.0}) {
        SCOPED_TRACE(kbps);
        ASSERT_TRUE(encoder->set_kbps(kbps).ok());
        double frame_bytes = kbps * 1000 / 8 / 25;
        double sum = 0;
        size_t largest = 0;
        for (uint64_t i = 0; i < 100; i++) {
            Result<EncodedFrame> frame = encoder->encode(clip->picture(i));
            ASSERT_TRUE(frame.ok()) << frame.error().message;
            if (i >= 25) {
                sum += static_cast<double>(frame->bytes.size());
                largest = std::max(largest, frame->bytes.size());
            }
        }
        EXPECT_GT(sum / 75, 0.75 * frame_bytes);
        EXPECT_LT(sum / 75, 1.1 * frame_bytes);
        EXPECT_LT(static_cast<double>(largest), 2 * frame_bytes);
    }
}

TEST(Loopback, BrokenConnectionsAreCountedAndCostTheOthersNothing) {
    Clip clip = small_clip();
    Server server(3);
    CameraStats sent;
    std::jthread good([&] { sent = play(camera_options(0, 2), clip, server.at()); });

    // Camera 1 announces a third frame and dies in the middle of it. Its payloads are no H.264: received, not decoded.
    {
        Fd socket = connect_raw(server.at());
        ASSERT_TRUE(socket.valid());
        std::vector<uint8_t> payload(500, 0x55);
        adp_video_header header{};
        header.camera = 1;
        header.payload = 500;
        for (header.frame = 0; header.frame < 3; header.frame++) {
            std::vector<uint8_t> bytes = frame_bytes(header, payload);
            send_all(socket, {bytes.data(), header.frame < 2 ? bytes.size() : 100});
        }
    }
    // Camera 2 turns to garbage after its first frame.
    Fd garbled = connect_raw(server.at());
    ASSERT_TRUE(garbled.valid());
    std::vector<uint8_t> payload(10, 1);
    adp_video_header header{};
    header.camera = 2;
    header.payload = 10;
    send_all(garbled, frame_bytes(header, payload));
    send_all(garbled, std::vector<uint8_t>(100, 0xee));
    EXPECT_TRUE(closed_by_peer(garbled));
    // And one was never a camera; one claims a number that is taken.
    Fd stranger = connect_raw(server.at());
    send_all(stranger, std::vector<uint8_t>(100, 'G'));
    EXPECT_TRUE(closed_by_peer(stranger));
    Fd twin = connect_raw(server.at());
    send_all(twin, frame_bytes(header, payload));
    EXPECT_TRUE(closed_by_peer(twin));

    good.join();
    std::vector<StreamStats> got = server.join();
    ASSERT_EQ(got.size(), 3U);
    EXPECT_TRUE(got[0].ended);
    EXPECT_GT(sent.frames_sent, 5U);
    EXPECT_EQ(got[0].frames_decoded, sent.frames_sent);
    EXPECT_FALSE(got[1].ended);
    EXPECT_NE(got[1].error.find("in the middle"), std::string::npos) << got[1].error;
    EXPECT_EQ(got[1].frames_sent, 3U);
    EXPECT_EQ(got[1].frames_received, 2U);
    EXPECT_EQ(got[1].frames_lost(), 1U);
    EXPECT_EQ(got[1].frames_undecoded(), 2U);
    EXPECT_FALSE(got[2].ended);
    EXPECT_NE(got[2].error.find("malformed header"), std::string::npos) << got[2].error;
    EXPECT_EQ(server.receiver().rejected(), 2U);
}

// A missing number is a lost frame; one that goes back is no frame at all.
TEST(Loopback, NumbersTellWhatIsLost) {
    Server server(2);
    Fd gap = connect_raw(server.at());
    std::vector<uint8_t> payload(10, 1);
    adp_video_header header{};
    header.payload = 10;
    for (uint64_t frame : {0, 1, 5}) {
        header.frame = frame;
        send_all(gap, frame_bytes(header, payload));
    }
    header.flags = ADP_VIDEO_END;
    header.payload = 0;
    header.frame = 8;
    send_all(gap, frame_bytes(header, {}));
    EXPECT_TRUE(closed_by_peer(gap));

    Fd back = connect_raw(server.at());
    header = {};
    header.camera = 1;
    header.payload = 10;
    for (uint64_t frame : {3, 3}) {
        header.frame = frame;
        send_all(back, frame_bytes(header, payload));
    }
    EXPECT_TRUE(closed_by_peer(back));
    std::vector<StreamStats> got = server.join();
    ASSERT_EQ(got.size(), 2U);
    EXPECT_TRUE(got[0].ended);
    EXPECT_EQ(got[0].frames_sent, 8U);
    EXPECT_EQ(got[0].frames_lost(), 5U);
    EXPECT_NE(got[1].error.find("frame 3 after frame 3"), std::string::npos) << got[1].error;
}

// A reader that takes 1.5 Mbit/s, in place of a link: the camera comes down to it, skips before encoding, and
// everything that it encodes arrives whole. A machine that is busy for a while makes the camera's video smaller than
// the link, and the link slower: three good seconds are waited for, and then the camera is stopped.
TEST(Loopback, FollowsASlowReaderAndDropsNothingEncoded) {
    Clip clip = small_clip();
    Result<Fd> listener = listen_tcp({"127.0.0.1", "0"});
    ASSERT_TRUE(listener.ok());
    int buffer = 16 * 1024;  // else the kernel swallows seconds of video
    ASSERT_EQ(setsockopt(listener->get(), SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer), 0);
    HostPort at{"127.0.0.1", std::to_string(local_port(listener->get()))};

    CameraOptions options = camera_options(0, 0);
    options.rate.start_kbps = 6000;
    options.rate.max_kbps = 6000;
    options.rate.min_kbps = 100;
    CameraStats sent;
    std::atomic<bool> came_down = false;  // as of the camera's last report, once a second
    std::jthread sender([&](const std::stop_token& stop) {
        sent = play(options, clip, at, stop,
                    [&](const CameraStats& now) { came_down = now.frames_skipped > 0 && now.target_kbps < 2200; });
    });

    pollfd ready = {listener->get(), POLLIN, 0};
    ASSERT_EQ(poll(&ready, 1, 10'000 * adapath::testing::slowness()), 1);
    Fd socket(accept4(listener->get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    ASSERT_TRUE(socket.valid());
    constexpr double bytes_per_second = 1'500'000.0 / 8;
    // What the link could have carried meanwhile is lost to it: a reader that was kept waiting, or found nothing to
    // read, takes no more than this at once.
    constexpr double burst = bytes_per_second / 50;
    const uint64_t start = now_ns();
    uint64_t last = start;
    double room = 0;  // bytes that the link carries now
    uint64_t frames = 0;
    struct Seconds {
        double capacity = 0;  // bytes, of three seconds in which this reader was not kept waiting
        uint64_t bytes = 0;
        uint64_t frames = 0;
        uint64_t worst_ns = 0;
    } three;
    bool good = false;
    bool ended = false;
    FrameReader reader;
    while (!ended) {
        const uint64_t now = now_ns();
        ASSERT_LT(now - start, 60 * second_ns * adapath::testing::slowness())
            << "came down: " << came_down << "; of the last three seconds' " << three.capacity << " bytes "
            << three.bytes << " were used, by " << three.frames << " frames, which took " << three.worst_ns / 1'000'000
            << " ms at most";
        const double more = std::min(static_cast<double>(now - last) * bytes_per_second / second_ns, burst);
        last = now;
        room = std::min(room + more, burst);
        three.capacity += more;
        if (three.capacity > 3 * bytes_per_second && !good) {
            // Most frame times carry a frame, and the link is used. What waits is bounded: a frame in the process, the
            // low-water mark and the two buffers, about 0.3 s at this rate.
            good = came_down && three.frames > 25 && static_cast<double>(three.bytes) > three.capacity / 2 &&
                   three.worst_ns < second_ns;
            if (good) sender.request_stop();
            three = {};
        }
        pollfd fd = {socket.get(), static_cast<short>(room >= 1 ? POLLIN : 0), 0};
        ASSERT_GE(poll(&fd, 1, 1), 0);  // the emulated link's own clock
        if ((fd.revents & POLLIN) == 0) continue;
        std::span<uint8_t> space = reader.space();
        ssize_t got = recv(socket.get(), space.data(), std::min(space.size(), static_cast<size_t>(room)), 0);
        ASSERT_GT(got, 0);
        room -= static_cast<double>(got);
        reader.filled(static_cast<size_t>(got));
        for (;;) {
            Result<FrameReader::State> state = reader.next();
            ASSERT_TRUE(state.ok()) << state.error().message;
            if (*state == FrameReader::State::more) {
                break;
            }
            if ((reader.header().flags & ADP_VIDEO_END) != 0) {
                ended = true;
                break;
            }
            ASSERT_EQ(reader.header().frame, frames);
            frames++;
            three.frames++;
            three.bytes += reader.header().payload;
            three.worst_ns = std::max(three.worst_ns, now_ns() - reader.header().capture_ns);
        }
    }
    socket.reset();
    sender.join();
    EXPECT_TRUE(good) << "it ended by itself";
    EXPECT_EQ(sent.error, "");
    EXPECT_EQ(frames, sent.frames_encoded);
    EXPECT_EQ(sent.frames_sent, sent.frames_encoded);
}

TEST(Loopback, StopEndsTheStreamCleanly) {
    Clip clip = small_clip();
    Server server(1);
    std::stop_source stop;
    CameraOptions options = camera_options(0, 0);
    Result<std::unique_ptr<Camera>> camera = Camera::connect(options, clip, server.at(), cubic(), stop.get_token(), {});
    ASSERT_TRUE(camera.ok()) << camera.error().message;
    for (int i = 0; i < 10; i++) {
        ASSERT_TRUE((*camera)->step().value());
    }
    stop.request_stop();
    for (;;) {
        Result<bool> more = (*camera)->step();
        ASSERT_TRUE(more.ok()) << more.error().message;
        if (!*more) {
            break;
        }
    }
    EXPECT_TRUE((*camera)->stats().ended);
    std::vector<StreamStats> got = server.join();
    ASSERT_EQ(got.size(), 1U);
    EXPECT_TRUE(got[0].ended);
    EXPECT_EQ(got[0].frames_decoded, (*camera)->stats().frames_sent);
    EXPECT_GT(got[0].frames_decoded, 0U);
}

TEST(Loopback, ReceiverStopsWithCamerasConnected) {
    Clip clip = small_clip();
    Server server(1);
    Result<std::unique_ptr<Camera>> camera = Camera::connect(camera_options(0, 0), clip, server.at(), cubic(), {}, {});
    ASSERT_TRUE(camera.ok()) << camera.error().message;
    for (int i = 0; i < 5; i++) {
        ASSERT_TRUE((*camera)->step().value());
    }
    server.stop();
    std::vector<StreamStats> got = server.join();
    // The sender finds out, says so, and ends: it does not hang or die of SIGPIPE.
    std::string error;
    for (int i = 0; i < 100 && error.empty(); i++) {
        Result<bool> more = (*camera)->step();
        if (!more) {
            error = more.error().message;
        }
    }
    EXPECT_NE(error.find("connection broke"), std::string::npos) << error;
    EXPECT_FALSE((*camera)->step().value());
    ASSERT_LE(got.size(), 1U);
    if (!got.empty()) {
        EXPECT_FALSE(got[0].ended);
    }
}

TEST(Loopback, ErrorsNameTheFix) {
    Clip clip = small_clip();
    Server server(1);
    ConnectOptions unknown;
    unknown.congestion_control = "no_such_cc";
    Result<Fd> socket = connect_tcp(server.at(), unknown, {});
    ASSERT_FALSE(socket.ok());
    EXPECT_NE(socket.error().message.find("no congestion control 'no_such_cc'"), std::string::npos)
        << socket.error().message;
    EXPECT_NE(socket.error().message.find("cubic"), std::string::npos) << "what there is: " << socket.error().message;
    EXPECT_FALSE(parse_host_port("localhost", "--server").ok());
    EXPECT_FALSE(parse_host_port("localhost:", "--server").ok());
    EXPECT_FALSE(parse_host_port("localhost:70000", "--server").ok());
    EXPECT_FALSE(parse_host_port("::1:80", "--server").ok());
    EXPECT_EQ(parse_host_port("[::1]:80", "--server")->host, "::1");
    EXPECT_FALSE(parse_size("100").ok());
    EXPECT_FALSE(parse_size("101x100").ok());
    EXPECT_FALSE(parse_size("100x100x").ok());
    EXPECT_EQ(parse_size("768x576")->height, 576);
    EXPECT_FALSE(Clip::load("/nonexistent.avi", {}, 1 << 20).ok());
}

TEST(Clip, LoadsScalesAndLoops) {
    std::string path = (std::filesystem::temp_directory_path() / ("adapath-video-XXXXXX")).string();
    int fd = mkstemp(path.data());
    ASSERT_GE(fd, 0);
    Fd owned(fd);
    struct Remove {
        std::string path;
        ~Remove() { std::filesystem::remove(path); }
    } remove{path};
    std::vector<uint8_t> bytes = pattern({128, 96}, 7);
    ASSERT_TRUE(write_y4m(path, bytes, {128, 96}));
    Result<Clip> clip = Clip::load(path, {}, 1 << 20);
    ASSERT_TRUE(clip.ok()) << clip.error().message;
    ASSERT_EQ(clip->pictures(), 7U);
    EXPECT_FALSE(clip->truncated());
    uint64_t one = picture_bytes({128, 96});
    for (uint64_t i = 0; i < 14; i++) {
        EXPECT_TRUE(std::equal(clip->picture(i).y, clip->picture(i).y + one,
                               bytes.begin() + static_cast<std::ptrdiff_t>(i % 7 * one)))
            << i;
    }
    Result<Clip> half = Clip::load(path, {64, 48}, 1 << 20);
    ASSERT_TRUE(half.ok()) << half.error().message;
    EXPECT_EQ(half->bytes(), 7 * picture_bytes({64, 48}));
    Result<Clip> budget = Clip::load(path, {}, 3 * one + 10);
    ASSERT_TRUE(budget.ok()) << budget.error().message;
    EXPECT_EQ(budget->pictures(), 3U);
    EXPECT_TRUE(budget->truncated());
    EXPECT_FALSE(Clip::load(path, {}, one - 1).ok());
    EXPECT_FALSE(Clip::load(path, {63, 48}, 1 << 20).ok());
}

}  // namespace
}  // namespace adapath::video
