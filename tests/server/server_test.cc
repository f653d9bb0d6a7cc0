// The server over loopback: real video, the real network, a real gRPC client over mutual TLS; connections that mean
// harm, certificates that are not theirs, watchers that do not read.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <random>
#include <thread>

#include <grpcpp/grpcpp.h>
#include <spdlog/sinks/ringbuffer_sink.h>
#include <spdlog/spdlog.h>

#include "models/detector/accuracy.h"
#include "tests/server/loopback_server.h"
#include "userspace/common/file.h"
#include "userspace/detect/pictures.h"
#include "userspace/video/decoder.h"

namespace adapath::server {
namespace {

using namespace adapath::testing;

const std::string weights = ADAPATH_TEST_CACHE "/detector/centernet.json";
const std::string clip_file = ADAPATH_TEST_CACHE "/clip/vtest.avi";
constexpr uint64_t start_us = 3'000'000'000;

std::string text_of(const std::string& path) {
    Result<std::string> text = read_file(path);
    if (!text) throw std::runtime_error(text.error().message);
    return *text;
}

// Two authorities: ours, with the gateways roof and cellar, and a stranger's with a gateway roof.
class Certificates {
public:
    Certificates() {
        for (const std::string& command : {ADAPATH_CERTIFICATES " " + path("ours") + " roof cellar",
                                           ADAPATH_CERTIFICATES " " + path("theirs") + " roof"})
            if (std::system((command + " 2>/dev/null").c_str()) != 0) throw std::runtime_error(command);
    }
    [[nodiscard]] std::string path(const std::string& name) const { return directory_.path(name); }

private:
    TemporaryDirectory directory_;
};
const Certificates& certificates() {
    static const Certificates made;
    return made;
}

// A gateway that watches. Without a certificate when `own` is empty.
std::shared_ptr<grpc::Channel> channel_to(int port, const std::string& own, const std::string& ca = "ours") {
    grpc::SslCredentialsOptions options;
    options.pem_root_certs = text_of(certificates().path(ca + "/ca.crt"));
    if (!own.empty()) {
        options.pem_cert_chain = text_of(certificates().path(own + ".crt"));
        options.pem_private_key = text_of(certificates().path(own + ".key"));
    }
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection of its own
    return grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port), grpc::SslCredentials(options), arguments);
}

class Watching {
public:
    Watching(const std::shared_ptr<grpc::Channel>& channel, const std::string& gateway)
        : stub_(pb::Vision::NewStub(channel)) {
        pb::WatchCameras request;
        request.set_gateway(gateway);
        context_.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60) * slowness());
        reader_ = stub_->Watch(&context_, request);
        reader_->WaitForInitialMetadata();
    }
    bool read(pb::CameraReport& report) { return reader_->Read(&report); }
    grpc::Status finish() { return reader_->Finish(); }
    void cancel() { context_.TryCancel(); }

private:
    std::unique_ptr<pb::Vision::Stub> stub_;
    grpc::ClientContext context_;
    std::unique_ptr<grpc::ClientReader<pb::CameraReport>> reader_;
};

grpc::Status refused(const std::shared_ptr<grpc::Channel>& channel, const std::string& gateway) {
    Watching watching(channel, gateway);
    pb::CameraReport report;
    EXPECT_FALSE(watching.read(report));
    return watching.finish();
}

class ServerTest : public LoopbackServer {
protected:
    ServerTest() {
        shared_.on_chunk = [this](const std::string& gateway, uint32_t camera, const ChunkResult& chunk) {
            std::lock_guard lock(mutex_);
            chunks_.push_back({gateway, camera, chunk});
        };
    }

    void use_real_network() {
        prepare_process(1);
        use_network(*model_hash(weights), [] { return open_detector(weights); });
    }
    void start_vision(ReportHub& hub) { LoopbackServer::start_vision(hub, certificates().path("ours")); }
    size_t pictures_of(const std::string& gateway, uint32_t camera) {
        const auto all = server_->cameras();
        const auto at = all.find(gateway);
        return at == all.end() || !at->second.contains(camera) ? 0 : at->second.at(camera).decoded;
    }
    struct Told {
        std::string gateway;
        uint32_t camera;
        ChunkResult chunk;
    };
    std::vector<Told> chunks() {
        std::lock_guard lock(mutex_);
        return chunks_;
    }

    std::mutex mutex_;
    std::vector<Told> chunks_;
};

// What the network says of encoded video, without any of the server: decoded, looked at, compared.
struct Direct {
    std::vector<std::vector<Box>> boxes;
    int width = 0;
    int height = 0;
};
Direct look_directly(Detector& detector, const std::vector<Encoded>& encoded) {
    Direct direct;
    Result<video::Decoder> decoder = video::Decoder::open();
    for (size_t i = 0; i < encoded.size(); i++) {
        Result<const AVFrame*> frame = decoder->decode(encoded[i].bytes, i);
        if (!frame) throw std::runtime_error(frame.error().message);
        const Result<Image> image = to_image(**frame);
        direct.width = image->width;
        direct.height = image->height;
        direct.boxes.push_back(*detector.detect(*image, 0.3));
    }
    return direct;
}

TEST_F(ServerTest, WhatBothRenditionsAreWorthReachesTheGateway) {
    if (!std::filesystem::exists(weights) || !std::filesystem::exists(clip_file))
        GTEST_SKIP() << "the vision network's weights or the clip are not there: scripts/deps.sh fetches them";
    const size_t pictures = 20;
    Result<video::Clip> large = video::Clip::load(clip_file, {512, 384}, pictures * video::picture_bytes({512, 384}));
    Result<video::Clip> small = video::Clip::load(clip_file, {256, 192}, pictures * video::picture_bytes({256, 192}));
    ASSERT_TRUE(large.ok() && small.ok());
    const std::vector<Encoded> main = encode(*large, 600, pictures);
    const std::vector<Encoded> sub = encode(*small, 120, pictures);

    use_real_network();
    shared_.vision.regions = true;
    shared_.vision.gradients = 1;
    shared_.vision.gradient_pictures = 1;
    start();
    start_vision(hub_);
    Watching watching(channel_to(vision_->port(), "ours/roof"), "roof");
    ASSERT_TRUE(wait_until([&] { return hub_.watchers("roof") == 1; }));

    Line line(port());
    ASSERT_TRUE(line.send(hello_bytes("roof", 2)));
    RtpSender sub_rtp(1);
    RtpSender main_rtp(2);
    for (size_t i = 0; i < pictures; i++) {
        const uint64_t us = start_us + i * picture_us;
        ASSERT_TRUE(line.send_packets(ADP_SELECT_SUB, us, sub_rtp.packets(sub[i].bytes)));
        ASSERT_TRUE(line.send_packets(ADP_SELECT_MAIN, us + 4000, main_rtp.packets(main[i].bytes)));
    }
    ASSERT_TRUE(line.send_end());
    ASSERT_TRUE(line.wait_closed());

    const auto detector = std::move(*open_detector(weights));
    const Direct reference = look_directly(*detector, main);
    const Direct output = look_directly(*detector, sub);
    std::array<MeanF1, 2> worths;  // of sub, in each chunk
    size_t objects = 0;
    for (size_t i = 0; i < pictures; i++) {
        std::vector<Box> scaled = output.boxes[i];
        for (Box& box : scaled) {
            box.x0 *= 2;
            box.y0 *= 2;
            box.x1 *= 2;
            box.y1 *= 2;
        }
        worths[i / group] += match(reference.boxes[i], scaled);
        objects += reference.boxes[i].size();
    }
    ASSERT_GT(objects, 40U);  // pedestrians are in it
    EXPECT_GT(worths[0].f1(), 0.05);
    EXPECT_LT(worths[0].f1(), 1);

    size_t measured = 0;
    size_t seen = 0;
    size_t regions = 0;
    size_t blocks = 0;
    while (measured + seen + regions + blocks < 2 + 4 + 2 + 2) {
        pb::CameraReport report;
        ASSERT_TRUE(watching.read(report)) << measured << " " << seen << " " << regions << " " << blocks;
        EXPECT_EQ(report.camera(), 2U);
        const bool of_main = report.has_measured() || report.has_blocks() || report.has_regions() ||
                             report.seen().rendition() == ADP_SELECT_MAIN;
        const uint64_t since = report.chunk_us() - start_us - (of_main ? 4000 : 0);
        ASSERT_EQ(since % (group * picture_us), 0U);
        const double f1 = worths.at(since / (group * picture_us)).f1();
        if (report.has_measured()) {
            measured++;
            EXPECT_NEAR(report.measured().sub_worth(), f1, 1e-9);
            EXPECT_NEAR(report.measured().gain(), 1 - f1, 1e-9);
            EXPECT_EQ(report.measured().pictures(), group);
        } else if (report.has_seen()) {
            seen++;
            EXPECT_TRUE(report.seen().measured());
            EXPECT_EQ(report.seen().pictures(), group);
            EXPECT_NEAR(report.seen().accuracy(), of_main ? 1 : f1, 1e-9);
        } else if (report.has_regions()) {
            regions++;
            for (const auto& region : report.regions().regions()) EXPECT_LT(region.x0(), region.x1());
        } else {
            blocks++;
            EXPECT_EQ(report.blocks().columns(), 32U);
            EXPECT_EQ(report.blocks().rows(), 24U);
            EXPECT_EQ(report.blocks().weights_size(), 32 * 24);
            EXPECT_GT(*std::ranges::max_element(report.blocks().weights()), 0);
        }
    }
    const CameraCounters counters = server_->cameras()["roof"][2];
    EXPECT_EQ(counters.decoded, 2 * pictures);
    EXPECT_EQ(counters.seen, 2 * pictures);
    EXPECT_EQ(counters.left_out, 0U);
    stop();
    EXPECT_TRUE(ran_);
    pb::CameraReport report;
    EXPECT_FALSE(watching.read(report));
    EXPECT_EQ(watching.finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

// The app qp's sender: main alone, and what the network says of its blocks comes back under the chunk's time.
TEST_F(ServerTest, AChunkOfOneRenditionIsLabelled) {
    if (!std::filesystem::exists(weights) || !std::filesystem::exists(clip_file))
        GTEST_SKIP() << "the vision network's weights or the clip are not there: scripts/deps.sh fetches them";
    Result<video::Clip> clip = video::Clip::load(clip_file, {512, 384}, group * video::picture_bytes({512, 384}));
    ASSERT_TRUE(clip.ok());
    const std::vector<Encoded> main = encode(*clip, 600, group);
    use_real_network();
    shared_.vision.gradients = 1;
    shared_.vision.gradient_pictures = 2;
    start();
    start_vision(hub_);
    Watching watching(channel_to(vision_->port(), "ours/roof"), "roof");
    ASSERT_TRUE(wait_until([&] { return hub_.watchers("roof") == 1; }));
    Line line(port());
    ASSERT_TRUE(line.send(hello_bytes("roof", 2)));
    RtpSender rtp(2);
    for (size_t i = 0; i < group; i++)
        ASSERT_TRUE(line.send_packets(ADP_SELECT_MAIN, start_us + i * picture_us, rtp.packets(main[i].bytes)));
    ASSERT_TRUE(line.send_end());
    ASSERT_TRUE(line.wait_closed());
    pb::CameraReport report;
    do {
        ASSERT_TRUE(watching.read(report));
    } while (!report.has_blocks());
    EXPECT_EQ(report.camera(), 2U);
    EXPECT_EQ(report.chunk_us(), start_us);
    EXPECT_EQ(report.blocks().columns(), 32U);
    EXPECT_EQ(report.blocks().rows(), 24U);
    // Some blocks matter far more than most: those of the people.
    std::vector<float> values(report.blocks().weights().begin(), report.blocks().weights().end());
    ASSERT_EQ(values.size(), 32U * 24);
    std::ranges::sort(values);
    EXPECT_GE(values.front(), 0);
    EXPECT_GT(values.back(), 10 * values[values.size() / 2]);
    stop();
}

TEST_F(ServerTest, OnlyAGatewayItselfIsTold) {
    start_vision(hub_);
    const int at = vision_->port();
    // Another gateway's name; no certificate; one of another authority; a server that this gateway does not believe.
    EXPECT_EQ(refused(channel_to(at, "ours/cellar"), "roof").error_code(), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_EQ(refused(channel_to(at, "ours/roof"), "roo").error_code(), grpc::StatusCode::PERMISSION_DENIED);
    EXPECT_EQ(refused(channel_to(at, ""), "roof").error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(refused(channel_to(at, "theirs/roof"), "roof").error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(refused(channel_to(at, "ours/roof", "theirs"), "roof").error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(
        refused(grpc::CreateChannel("127.0.0.1:" + std::to_string(at), grpc::InsecureChannelCredentials()), "roof")
            .error_code(),
        grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(refused(channel_to(at, "ours/roof"), "a name\nof two lines").error_code(),
              grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(hub_.watchers("roof"), 0U);

    Watching roof(channel_to(at, "ours/roof"), "roof");
    Watching cellar(channel_to(at, "ours/cellar"), "cellar");
    ASSERT_TRUE(wait_until([&] { return hub_.watchers("roof") == 1 && hub_.watchers("cellar") == 1; }));
    pb::CameraReport report;
    report.set_camera(1);
    hub_.publish("roof", report);
    report.set_camera(2);
    hub_.publish("cellar", report);
    ASSERT_TRUE(roof.read(report));
    EXPECT_EQ(report.camera(), 1U);
    ASSERT_TRUE(cellar.read(report));
    EXPECT_EQ(report.camera(), 2U);
    // Whoever leaves is forgotten.
    roof.cancel();
    EXPECT_TRUE(wait_until([&] { return hub_.watchers("roof") == 0; }));
}

TEST_F(ServerTest, AServerWithoutSoundCertificatesDoesNotStart) {
    const auto message = [&](const VisionServiceOptions& options) {
        const auto vision = VisionServer::start(hub_, options);
        return vision ? std::string() : vision.error().message;
    };
    VisionServiceOptions options;
    options.listen = {"127.0.0.1", "0"};
    EXPECT_NE(message(options).find("--insecure"), std::string::npos);
    options.ca = certificates().path("ours/ca.crt");
    options.certificate = certificates().path("ours/server.crt");
    options.key = certificates().path("ours/roof.key");  // of another certificate
    EXPECT_NE(message(options), "");
    options.key = certificates().path("absent");
    EXPECT_NE(message(options).find("absent"), std::string::npos);
    VisionServiceOptions open;
    open.insecure = true;
    open.listen = {"0.0.0.0", "0"};
    EXPECT_NE(message(open).find("loopback"), std::string::npos);
    open.listen = {"127.0.0.1", "0"};
    EXPECT_EQ(message(open), "");
    EXPECT_TRUE(is_loopback("::1") && is_loopback("127.9.9.9") && is_loopback("localhost"));
    EXPECT_FALSE(is_loopback("") || is_loopback("128.0.0.1") || is_loopback("::") || is_loopback("localhost.example"));
}

// It does not read while far more is published than its queue and all buffers hold; another gets everything.
TEST_F(ServerTest, ASlowWatcherCostsNobodyElse) {
    ReportHub hub({.bytes = 100'000, .watchers_a_gateway = 4, .watchers = 16});
    start_vision(hub);
    Watching slow(channel_to(vision_->port(), "ours/roof"), "roof");
    Watching other(channel_to(vision_->port(), "ours/cellar"), "cellar");
    ASSERT_TRUE(wait_until([&] { return hub.watchers("roof") == 1 && hub.watchers("cellar") == 1; }));
    pb::CameraReport large;
    for (int i = 0; i < 5000; i++) large.mutable_blocks()->add_weights(static_cast<float>(i));
    uint32_t published = 0;
    while (hub.counters().dropped < 20) {
        ASSERT_LT(published, 100'000U);
        large.set_camera(published);
        large.set_chunk_us(published);
        hub.publish("roof", large);
        pb::CameraReport small;
        small.set_chunk_us(published);
        hub.publish("cellar", small);
        pb::CameraReport got;
        ASSERT_TRUE(other.read(got));
        EXPECT_EQ(got.chunk_us(), published++);
    }
    // What the slow one gets is in order, with gaps that are as large as the count says, and ends with the newest.
    pb::CameraReport got;
    uint32_t read = 0;
    uint64_t last = 0;
    do {
        ASSERT_TRUE(slow.read(got));
        EXPECT_TRUE(read == 0 || got.chunk_us() > last);
        last = got.chunk_us();
        read++;
    } while (last + 1 < published);
    EXPECT_EQ(read + hub.counters().dropped, published);
    stop();
}

// Connections that mean harm beside a camera that keeps its service.
TEST_F(ServerTest, HostileConnectionsEndAndCostTheOthersNothing) {
    ServerOptions options;
    options.most_cameras = 8;
    start(options);
    const std::vector<Encoded> video = encoded_pattern({160, 120}, 60);
    Line good(port());
    ASSERT_TRUE(good.send(hello_bytes("roof", 0)));
    RtpSender rtp;
    size_t sent = 0;
    const auto go_on = [&](size_t until) {
        for (; sent < until; sent++)
            ASSERT_TRUE(
                good.send_packets(ADP_SELECT_MAIN, start_us + sent * picture_us, rtp.packets(video[sent].bytes)));
        ASSERT_TRUE(wait_until([&] { return pictures_of("roof", 0) == until; }));
    };
    go_on(10);

    const Bytes packet = RtpSender().packet(nal_unit(7, 20), false);
    std::mt19937 random(8);
    Bytes noise(100'000);
    for (uint8_t& byte : noise) byte = static_cast<uint8_t>(random());
    const auto greeted = [](const Bytes& more, std::string_view gateway = "cellar", uint32_t camera = 1) {
        Bytes bytes = hello_bytes(gateway, camera);
        append(bytes, more);
        return bytes;
    };
    Bytes after_end = record_bytes(0, 5, {}, ADP_RELAY_END);
    append(after_end, record_bytes(0, 5, packet));
    const std::vector<Bytes> malformed = {
        noise,
        hello_bytes("../etc", 0),
        hello_bytes("", 0),
        greeted(record_bytes(7, 5, packet)),
        greeted(record_bytes(0, 5, {})),
        greeted(record_bytes(0, 5, Bytes(65530, 1))),
        greeted(record_bytes(0, 5, packet, 0x80)),
        greeted(after_end),
        greeted(noise),
    };
    for (size_t i = 0; i < malformed.size(); i++) {
        Line line(port());
        (void)line.send(malformed[i]);
        EXPECT_TRUE(line.wait_closed()) << i;
        ASSERT_TRUE(wait_until([&] { return server_->counters().malformed + server_->counters().refused == i + 1; }))
            << i;
    }
    EXPECT_EQ(server_->counters().malformed, malformed.size());
    go_on(20);

    // Cut off anywhere: in the hello, in a record's header, in its packet, between records.
    const Bytes whole = greeted(record_bytes(0, 5, packet));
    uint64_t broken = 0;
    for (size_t size : {size_t{1}, size_t{71}, size_t{72}, size_t{75}, whole.size() - 1, whole.size()}) {
        Line line(port());
        ASSERT_TRUE(line.send(std::span(whole).first(size)));
        line.close();
        broken++;
        ASSERT_TRUE(wait_until([&] { return server_->counters().broken == broken; })) << size;
    }
    go_on(30);

    // In mid-record, and silent: it holds a thread of its own, and no other.
    Line stuck(port());
    ASSERT_TRUE(stuck.send(std::span(whole).first(80)));
    ASSERT_TRUE(wait_until([&] { return server_->cameras()["cellar"].contains(1); }));
    go_on(40);

    // Records that are well-formed, packets that are not; SPS that claim monstrous pictures among them.
    Line liar(port());
    ASSERT_TRUE(liar.send(hello_bytes("attic", 0)));
    RtpSender lies;
    for (int i = 0; i < 2000; i++) {
        Bytes payload(1 + random() % 100);
        for (uint8_t& byte : payload) byte = static_cast<uint8_t>(random());
        if (i % 3 == 0)
            payload = stap_a(
                {nal_unit(7, 1 + random() % 30), nal_unit(8, 1 + random() % 10), nal_unit(5, 1 + random() % 50)});
        if (i % 3 == 1) payload[0] = 0x7c;
        const Bytes rtp_bytes = i % 7 == 0 ? payload : lies.packet(payload, i % 2 == 0);
        if (random() % 2 == 0) lies.next();
        ASSERT_TRUE(liar.send(record_bytes(random() % 2, 1000 + static_cast<uint64_t>(i), rtp_bytes)));
    }
    ASSERT_TRUE(liar.send_end());
    EXPECT_TRUE(liar.wait_closed());
    EXPECT_GT(server_->cameras()["attic"][0].streams[0].malformed + server_->cameras()["attic"][0].streams[1].malformed,
              100U);
    EXPECT_EQ(pictures_of("attic", 0), 0U);
    go_on(50);

    // Cameras that are out of bounds, and the same one twice.
    Line ninth(port());
    ASSERT_TRUE(ninth.send(hello_bytes("roof", 8)));
    EXPECT_TRUE(ninth.wait_closed());
    Line twice(port());
    ASSERT_TRUE(twice.send(hello_bytes("roof", 0)));
    EXPECT_TRUE(twice.wait_closed());
    EXPECT_TRUE(wait_until([&] { return server_->counters().refused == 2; }));
    go_on(60);
    ASSERT_TRUE(good.send_end());
    EXPECT_TRUE(good.wait_closed());
    const CameraCounters counters = server_->cameras()["roof"][0];
    EXPECT_EQ(counters.decoded, 60U);
    EXPECT_EQ(counters.chunks, 6U);
    EXPECT_EQ(counters.streams[ADP_SELECT_MAIN].incomplete, 0U);
    EXPECT_TRUE(wait_until([&] { return server_->counters().ended == 2; }));
}

// What the server writes into its log.
class Log {
public:
    Log() : before_(spdlog::default_logger()), lines_(std::make_shared<spdlog::sinks::ringbuffer_sink_mt>(10'000)) {
        spdlog::set_default_logger(std::make_shared<spdlog::logger>("test", lines_));
    }
    ~Log() { spdlog::set_default_logger(before_); }
    Log(const Log&) = delete;
    Log& operator=(const Log&) = delete;
    [[nodiscard]] std::vector<std::string> lines() const { return lines_->last_formatted(); }

private:
    std::shared_ptr<spdlog::logger> before_;
    std::shared_ptr<spdlog::sinks::ringbuffer_sink_mt> lines_;
};

TEST_F(ServerTest, StrangersCannotFillTheLog) {
    const Log log;
    ServerOptions options;
    options.most_connections = 64;
    start(options);
    const uint64_t begin_ns = video::now_ns();
    constexpr uint64_t rounds = 100;
    // Those that are no camera's: noise, a hello without a name, one that is cut off.
    for (uint64_t i = 1; i <= rounds; i++) {
        Line noise(port());
        ASSERT_TRUE(noise.send(Bytes(100, 'x')));
        Line nameless(port());
        ASSERT_TRUE(nameless.send(hello_bytes("", 0)));
        Line cut(port());
        ASSERT_TRUE(cut.send(Bytes(10, 'A')));
        cut.close();
        ASSERT_TRUE(wait_until([&] {
            return server_->counters().malformed == 2 * i && server_->counters().broken == i;
        })) << i;
    }
    // And those that say that they are one.
    Bytes liar = hello_bytes("roof", 0);
    append(liar, record_bytes(7, 5, Bytes(20, 1)));
    for (uint64_t i = 1; i <= rounds; i++) {
        Line line(port());
        ASSERT_TRUE(line.send(liar));
        ASSERT_TRUE(wait_until([&] { return server_->counters().malformed == 2 * rounds + i; })) << i;
    }
    EXPECT_EQ(server_->counters().broken, rounds);
    EXPECT_TRUE(wait_until([&] { return server_->counters().connections == 4 * rounds; }));
    EXPECT_EQ(server_->counters().refused, 0U);

    // Every line was written or is told to be left out, though nothing else happens: one for each stranger, two for
    // each liar.
    const auto of_strangers = [](const std::string& line) {
        return line.find("gateway roof, camera 0") == std::string::npos;
    };
    const auto told = [&] {
        uint64_t sum = 0;
        for (const std::string& line : log.lines()) {
            const size_t at = line.rfind('(');
            const bool says = line.find(" left out before this)") != std::string::npos;
            if (says) sum += std::stoull(line.substr(at + 1));
            if (!says || line.find(" lines of connections ") == std::string::npos) sum++;
        }
        return sum;
    };
    EXPECT_TRUE(wait_until([&] { return told() == 3 * rounds + 2 * rounds; })) << told();
    const uint64_t seconds = (video::now_ns() - begin_ns) / 1'000'000'000 + 1;
    const std::vector<std::string> lines = log.lines();
    const auto strangers = static_cast<uint64_t>(std::ranges::count_if(lines, of_strangers));
    EXPECT_GE(strangers, 8U);
    EXPECT_LE(strangers, 8 + 2 * seconds);
    EXPECT_LE(lines.size() - strangers, 64 + seconds);
    stop();  // before the log goes away
}

// A relay that comes back before its old connection is known to be dead takes its camera over.
TEST_F(ServerTest, ANewConnectionReplacesASilentOne) {
    ServerOptions options;
    options.dead_ms = 1;
    start(options);
    const std::vector<Encoded> video = encoded_pattern({160, 120}, 20);
    Line old(port());
    RtpSender rtp;
    ASSERT_TRUE(old.send(hello_bytes("roof", 0)));
    for (size_t i = 0; i < 10; i++)
        ASSERT_TRUE(old.send_packets(ADP_SELECT_SUB, start_us + i * picture_us, rtp.packets(video[i].bytes)));
    ASSERT_TRUE(wait_until([&] { return pictures_of("roof", 0) == 10; }));
    std::unique_ptr<Line> next;
    // Refused as long as the old one was heard within the last ms; each try is decided before the next.
    ASSERT_TRUE(wait_until([&] {
        const uint64_t refused = server_->counters().refused;
        next = std::make_unique<Line>(port());
        return next->send(hello_bytes("roof", 0)) &&
               wait_until([&] { return server_->counters().replaced == 1 || server_->counters().refused > refused; }) &&
               server_->counters().replaced == 1;
    }));
    EXPECT_TRUE(old.wait_closed());
    for (size_t i = 10; i < 20; i++)
        ASSERT_TRUE(next->send_packets(ADP_SELECT_SUB, start_us + i * picture_us, rtp.packets(video[i].bytes)));
    ASSERT_TRUE(next->send_end());
    EXPECT_TRUE(next->wait_closed());
    EXPECT_EQ(pictures_of("roof", 0), 20U);
    EXPECT_EQ(chunks().size(), 2U);
}

TEST_F(ServerTest, TablesAreBounded) {
    ServerOptions options;
    options.most_gateways = 2;
    options.most_connections_a_peer = 4;
    options.gateways = {"one", "two", "three"};
    options.hello_ms = 60'000;
    start(options);
    const auto refused = [&](uint64_t count) {
        return wait_until([&] { return server_->counters().refused == count; });
    };
    auto one = std::make_unique<Line>(port());
    ASSERT_TRUE(one->send(hello_bytes("one", 0)));
    Line two(port());
    ASSERT_TRUE(two.send(hello_bytes("two", 0)));
    ASSERT_TRUE(wait_until([&] { return server_->cameras().size() == 2; }));
    Line stranger(port());
    ASSERT_TRUE(stranger.send(hello_bytes("four", 0)));
    EXPECT_TRUE(stranger.wait_closed());
    Line third(port());
    ASSERT_TRUE(third.send(hello_bytes("three", 0)));
    EXPECT_TRUE(third.wait_closed());
    ASSERT_TRUE(refused(2));
    // A gateway that has left makes room.
    ASSERT_TRUE(one->send_end());
    ASSERT_TRUE(one->wait_closed());
    ASSERT_TRUE(wait_until([&] { return server_->counters().ended == 1; }));
    Line again(port());
    ASSERT_TRUE(again.send(hello_bytes("three", 0)));
    ASSERT_TRUE(wait_until([&] { return server_->cameras().contains("three"); }));
    EXPECT_FALSE(server_->cameras().contains("one"));
    // Two are here; two more that say nothing fill this address's share.
    Line idle1(port());
    Line idle2(port());
    Line fifth(port());
    EXPECT_TRUE(fifth.wait_closed());
    EXPECT_TRUE(refused(3));
}

TEST_F(ServerTest, AConnectionThatSaysNothingEnds) {
    ServerOptions options;
    options.hello_ms = 50;
    start(options);
    Line line(port());
    ASSERT_TRUE(line.send(Bytes(10, 'A')));
    EXPECT_TRUE(line.wait_closed());
    EXPECT_TRUE(wait_until([&] { return server_->counters().malformed == 1; }));
}

// The last chunk is told of after the silence, though no other comes.
TEST_F(ServerTest, SilenceEndsAChunk) {
    ServerOptions options;
    options.silence_ms = 50;
    start(options);
    const std::vector<Encoded> video = encoded_pattern({160, 120}, 10);
    Line line(port());
    RtpSender rtp;
    ASSERT_TRUE(line.send(hello_bytes("roof", 0)));
    Bytes all;
    for (size_t i = 0; i < 10; i++)
        for (const Bytes& packet : rtp.packets(video[i].bytes))
            append(all, record_bytes(ADP_SELECT_SUB, start_us + i * picture_us, packet));
    ASSERT_TRUE(line.send(all));
    ASSERT_TRUE(wait_until([&] {
        size_t pictures = 0;
        for (const Told& told : chunks()) pictures += told.chunk.pictures.size();
        return pictures == 10;
    }));
    for (const Told& told : chunks()) EXPECT_EQ(told.chunk.chunk_us, start_us);
}

}  // namespace
}  // namespace adapath::server
