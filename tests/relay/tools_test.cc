// The two programs as an operator runs them: cameras, relay and both ends of it.
#include <arpa/inet.h>
#include <csignal>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "tests/relay/fake_feedback.h"
#include "tests/relay/fake_server.h"
#include "tests/support/patience.h"
#include "tests/video/pattern.h"
#include "userspace/harness/child.h"

namespace adapath::relay {
namespace {

using testing::Authority;
using testing::wait_until;
using Json = nlohmann::json;

constexpr std::chrono::seconds patience{30};

uint16_t free_udp_port() {
    const video::Fd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_in at{};
    at.sin_family = AF_INET;
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at), 0);
    return video::local_port(fd.get());
}

class Tools : public ::testing::Test {
protected:
    void SetUp() override {
        std::string name = (std::filesystem::temp_directory_path() / "adapath-relay-XXXXXX").string();
        ASSERT_NE(mkdtemp(name.data()), nullptr);
        directory_ = name;
        const video::Size size{160, 120};
        ASSERT_TRUE(video::write_y4m(path("clip.y4m"), video::pattern(size, 30), size));
        sub_port_ = std::to_string(free_udp_port());
        do main_port_ = std::to_string(free_udp_port());
        while (main_port_ == sub_port_);
    }
    void TearDown() override { std::filesystem::remove_all(directory_); }

    [[nodiscard]] std::string path(const std::string& name) const { return (directory_ / name).string(); }
    void write(const std::string& name, const std::string& text) const { std::ofstream(path(name)) << text; }
    Child start(const std::string& program, std::vector<std::string> arguments) {
        ChildOptions options;
        options.name = std::filesystem::path(program).filename();
        options.argv = std::move(arguments);
        options.argv.insert(options.argv.begin(), program);
        options.log = path(options.name + ".log");
        options.read_output = true;
        Result<Child> child = Child::start(options);
        EXPECT_TRUE(child) << child.error().message;
        return std::move(*child);
    }
    std::vector<std::string> camera_arguments() {
        return {"127.0.0.1", "--source",    "127.0.0.40", "--clip", path("clip.y4m"), "--cameras", "3",
                "--window",  "96x80",       "--fps",      "25",     "--group",        "5",         "--sub-port",
                sub_port_,   "--main-port", main_port_};
    }
    int run(const std::string& program, std::vector<std::string> arguments) {
        Child child = start(program, std::move(arguments));
        EXPECT_TRUE(child.wait_exit(patience));
        return child.exit_code().value_or(-1);
    }
    [[nodiscard]] std::string log(const std::string& name) const {
        std::ifstream file(path(name + ".log"));
        return {std::istreambuf_iterator<char>(file), {}};
    }

    std::filesystem::path directory_;
    std::string sub_port_;
    std::string main_port_;
    StopToken never_;
};

TEST_F(Tools, FromTheCamerasToTheServerAndBackToTheDaemon) {
    const Authority servers("servers");
    const Authority gateways("gateways");
    const testing::KeyPair gateway = gateways.issue("gate", "");
    write("ca.pem", servers.certificate());
    write("gate.pem", gateway.certificate);
    write("gate.key", gateway.key);
    // As the daemon's, with the daemon's socket.
    std::string config = "app: \"select\"\nsocket: \"" + path("daemon.sock") + "\"\nselect {\n  interface: \"lo\"\n";
    for (int i = 0; i < 3; ++i)
        config += "  camera { name: \"c" + std::to_string(i) + "\" address: \"127.0.0." + std::to_string(40 + i) +
                  "\" sub_port: " + sub_port_ + " main_port: " + main_port_ + " }\n";
    write("select.conf", config + "}\n");

    FakeServer server;
    FakeVision vision(servers.issue("vision", "DNS:vision.test"), gateways.certificate());
    auto daemon = std::make_unique<FakeDaemon>(path("daemon.sock"));
    Child relay = start(ADAPATH_RELAY, {"--server",
                                        "127.0.0.1:" + std::to_string(server.port()),
                                        "--config",
                                        path("select.conf"),
                                        "--gateway",
                                        "gate",
                                        "--congestion-control",
                                        "no-such-one",
                                        "--vision",
                                        "127.0.0.1:" + std::to_string(vision.port()),
                                        "--server-name",
                                        "vision.test",
                                        "--ca",
                                        path("ca.pem"),
                                        "--certificate",
                                        path("gate.pem"),
                                        "--key",
                                        path("gate.key"),
                                        "--stats",
                                        path("stats.json"),
                                        "--summary",
                                        path("summary.json")});
    const Result<std::string> ready = relay.wait_line(patience, never_);
    ASSERT_TRUE(ready) << relay.obituary();
    EXPECT_EQ(*ready, "ready 3 cameras to 127.0.0.1:" + std::to_string(server.port()));

    Child camera = start(ADAPATH_CAMERA, camera_arguments());
    ASSERT_TRUE(camera.wait_line(patience, never_)) << camera.obituary();
    for (uint16_t c = 0; c < 3; ++c) ASSERT_TRUE(wait_until([&] { return server.count(c) > 100; })) << c;
    EXPECT_EQ(server.gateway(), "gate");

    pb::CameraReport report;
    report.set_camera(1);
    report.set_chunk_us(server.records(1).back().received_us);
    report.mutable_measured()->set_sub_worth(0.5);
    report.mutable_measured()->set_gain(0.5);
    vision.report(report);
    ASSERT_TRUE(wait_until([&] { return daemon->reports().size() == 1 && daemon->markets().size() > 5; }));
    EXPECT_EQ(daemon->markets().back().cameras(), 3U);
    // Nothing stops when the daemon does.
    daemon.reset();
    const size_t so_far = server.count(2);
    ASSERT_TRUE(wait_until([&] { return server.count(2) > so_far + 50; }));

    kill(camera.pid(), SIGINT);
    ASSERT_TRUE(camera.wait_exit(patience));
    EXPECT_EQ(camera.exit_code(), 0);
    kill(relay.pid(), SIGINT);
    ASSERT_TRUE(relay.wait_exit(patience));
    EXPECT_EQ(relay.exit_code(), 0) << relay.obituary();
    for (uint16_t c = 0; c < 3; ++c) EXPECT_TRUE(wait_until([&] { return server.ended(c); })) << c;
    EXPECT_EQ(server.wrong(), "");
    EXPECT_NE(log("adapath-relay").find("no-such-one"), std::string::npos) << "the missing congestion control is told";

    std::ifstream file(path("summary.json"));
    const Json summary = Json::parse(file, nullptr, false);
    ASSERT_TRUE(summary.contains("cameras"));
    EXPECT_EQ(summary["cameras"].size(), 3U);
    EXPECT_EQ(summary["cameras"][0]["main"]["dropped_packets"], 0);
    EXPECT_EQ(summary["feedback"]["forwarded"], 1);
    std::ifstream stats(path("stats.json"));
    size_t lines = 0;
    for (std::string line; std::getline(stats, line); ++lines)
        EXPECT_TRUE(Json::parse(line, nullptr, false).contains("price")) << line;
    EXPECT_GE(lines, 1U);
}

TEST_F(Tools, TheCameraListsWhatItWouldSend) {
    std::vector<std::string> arguments = camera_arguments();
    arguments.insert(arguments.end(), {"--list", "--list-bytes"});
    Child child = start(ADAPATH_CAMERA, arguments);
    std::vector<Json> cameras;
    for (int i = 0; i < 3; ++i) {
        const Result<std::string> line = child.wait_line(patience, never_);
        ASSERT_TRUE(line) << child.obituary();
        cameras.push_back(Json::parse(*line, nullptr, false));
    }
    ASSERT_TRUE(child.wait_exit(patience));
    EXPECT_EQ(child.exit_code(), 0);
    EXPECT_EQ(cameras[2]["address"], "127.0.0.42");
    EXPECT_EQ(cameras[2]["first"], 20);
    EXPECT_EQ(cameras[2]["window"]["x"], 64);
    EXPECT_EQ(cameras[0]["main"]["width"], 96);
    EXPECT_EQ(cameras[0]["sub"]["width"], 48);
    EXPECT_EQ(cameras[0]["sub"]["bytes"].size(), 30U);
}

TEST_F(Tools, AFullDiskIsToldByAnExitCode) {
    EXPECT_EQ(run("/bin/sh", {"-c", R"(exec "$0" --list --cameras 64 --window 96x80 --clip "$1" >/dev/full)",
                              ADAPATH_CAMERA, path("clip.y4m")}),
              1);
    EXPECT_NE(log("sh").find("standard output is incomplete: No space left"), std::string::npos) << log("sh");
}

TEST_F(Tools, WrongUsageIsTold) {
    EXPECT_EQ(run(ADAPATH_CAMERA, {}), 2);
    EXPECT_EQ(run(ADAPATH_CAMERA, {"127.0.0.1", "--window", "97x80", "--clip", path("clip.y4m")}), 2);
    EXPECT_EQ(run(ADAPATH_CAMERA, {"127.0.0.1", "--clip", path("nothing.avi")}), 1);
    EXPECT_EQ(run(ADAPATH_CAMERA, {"--help"}), 0);
    EXPECT_EQ(run(ADAPATH_RELAY, {"--server", "127.0.0.1:1"}), 2);
    EXPECT_EQ(run(ADAPATH_RELAY, {"--server", "nowhere", "--camera", "a,127.0.0.1,5000,5001"}), 2);
    EXPECT_EQ(run(ADAPATH_RELAY, {"--server", "127.0.0.1:1", "--camera", "a,127.0.0.1,5000"}), 2);
    EXPECT_EQ(run(ADAPATH_RELAY, {"--server", "127.0.0.1:1", "--config", path("nothing.conf")}), 2);
    EXPECT_EQ(
        run(ADAPATH_RELAY, {"--server", "127.0.0.1:1", "--camera", "a,127.0.0.1,5000,5001", "--vision", "127.0.0.1:2"}),
        2)
        << "reports only over mutual TLS";
    EXPECT_EQ(run(ADAPATH_RELAY, {"--help"}), 0);
}

}  // namespace
}  // namespace adapath::relay
