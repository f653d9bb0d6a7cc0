// adapath-server as a script uses it: wrong usage, the ready line, Ctrl-C, results, boxes that survive a restart.
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include <nlohmann/json.hpp>

#include "tests/server/sender.h"
#include "userspace/common/file.h"
#include "userspace/harness/child.h"

namespace adapath::server {
namespace {

using namespace adapath::testing;
using Json = nlohmann::json;

const std::string weights = ADAPATH_TEST_CACHE "/detector/centernet.json";
const std::string clip_file = ADAPATH_TEST_CACHE "/clip/vtest.avi";
constexpr uint64_t start_us = 7'000'000;

class Tool : public ::testing::Test {
protected:
    [[nodiscard]] std::string path(const std::string& name) const { return directory_.path(name); }
    // Exit code and what it said.
    std::pair<int, std::string> run(std::vector<std::string> arguments) {
        arguments.insert(arguments.begin(), ADAPATH_SERVER);
        Result<Child> child = Child::start({.name = "adapath-server", .argv = arguments, .log = path("log")});
        if (!child || !child->wait_exit(std::chrono::seconds(30) * slowness())) return {-1, ""};
        return {*child->exit_code(), *read_file(path("log"))};
    }
    // Running, and its port.
    uint16_t start(std::vector<std::string> arguments) {
        for (const char* word :
             {"--listen", "127.0.0.1:0", "--vision-listen", "127.0.0.1:0", "--insecure", "--results"})
            arguments.emplace_back(word);
        arguments.push_back(path("results"));
        arguments.insert(arguments.begin(), ADAPATH_SERVER);
        Result<Child> child =
            Child::start({.name = "adapath-server", .argv = arguments, .log = path("log"), .read_output = true});
        if (!child) throw std::runtime_error(child.error().message);
        child_.emplace(std::move(*child));
        StopToken never;
        Result<std::string> line = child_->wait_line(std::chrono::seconds(30) * slowness(), never);
        if (!line || !line->starts_with("ready 127.0.0.1:"))
            throw std::runtime_error(line ? *line : line.error().message);
        return static_cast<uint16_t>(std::stoul(line->substr(16)));
    }
    int interrupt() {
        kill(child_->pid(), SIGINT);
        return child_->wait_exit(std::chrono::seconds(30) * slowness()) ? *child_->exit_code() : -1;
    }
    std::vector<Json> results() {
        std::vector<Json> all;
        std::ifstream file(path("results"));
        for (std::string line; std::getline(file, line);) all.push_back(Json::parse(line, nullptr, false));
        return all;
    }

    TemporaryDirectory directory_;
    std::optional<Child> child_;
};

TEST_F(Tool, SaysWhatIsWrong) {
    const auto expect = [&](const std::vector<std::string>& arguments, int code, const std::string& words) {
        const auto [got, text] = run(arguments);
        EXPECT_EQ(got, code) << text;
        EXPECT_NE(text.find(words), std::string::npos) << text;
    };
    expect({}, 2, "--insecure");
    expect({"--insecure"}, 2, "loopback");
    const std::vector<std::string> open = {"--insecure", "--listen", "127.0.0.1:0", "--vision-listen", "127.0.0.1:0"};
    const auto with = [&](std::vector<std::string> more) {
        more.insert(more.begin(), open.begin(), open.end());
        return more;
    };
    expect(with({"--model", path("absent.json")}), 1, "--without-vision");
    expect(with({"--without-vision", "--gateway", "a/b"}), 2, "--gateway");
    expect(with({"--without-vision", "--gradients", "0.1"}), 2, "--gradients");
    expect(with({"--without-vision", "--results", path("no/such/file")}), 1, "no/such/file");
    expect(with({"--without-vision", "--detections", path("absent")}), 1, "absent");
    expect(with({"--every", "0"}), 2, "--every");
    expect({"--ca", "a", "--certificate", "b", "--key", path("absent"), "--without-vision", "--listen", "127.0.0.1:0",
            "--vision-listen", "127.0.0.1:0"},
           1, ": No such file");
}

// In the middle of a chunk: what came is written, exit code 0.
TEST_F(Tool, CtrlCWritesEverything) {
    const uint16_t port = start({"--without-vision", "--same-clock", "--pictures", path("pictures")});
    const std::vector<Encoded> video = encoded_pattern({160, 120}, 15);
    Line line(port);
    RtpSender rtp;
    ASSERT_TRUE(line.send(hello_bytes("roof", 4)));
    const uint64_t now_us = video::now_ns() / 1000;
    for (size_t i = 0; i < video.size(); i++)
        ASSERT_TRUE(line.send_packets(ADP_SELECT_MAIN, now_us + i * 1000, rtp.packets(video[i].bytes)));
    // The first chunk's line: then the second one is being received.
    ASSERT_TRUE(wait_until([&] { return !results().empty(); }));
    ASSERT_TRUE(wait_until(
        [&] { return std::filesystem::exists(path("pictures")) && !std::filesystem::is_empty(path("pictures")); }));
    EXPECT_EQ(interrupt(), 0) << *read_file(path("log"));
    EXPECT_TRUE(line.wait_closed());
    const std::vector<Json> lines = results();
    ASSERT_EQ(lines.size(), 3U);
    EXPECT_EQ(lines[0]["gateway"], "roof");
    EXPECT_EQ(lines[0]["camera"], 4);
    EXPECT_EQ(lines[0]["rendition"], "main");
    EXPECT_EQ(lines[0]["chunk_us"], now_us);
    EXPECT_EQ(lines[0]["received"], 10);
    EXPECT_EQ(lines[0]["decoded"], 10);
    EXPECT_EQ(lines[0]["width"], 160);
    ASSERT_EQ(lines[0]["pictures"].size(), 10U);
    EXPECT_EQ(lines[0]["pictures"][3]["received_us"], now_us + 3000);
    EXPECT_TRUE(lines[0]["pictures"][3].contains("delay_us"));
    EXPECT_EQ(lines[0]["pictures"][3]["vision"], "none");
    EXPECT_GT(lines[1]["decoded"], 0);
    const Json& summary = lines[2]["summary"];
    EXPECT_EQ(summary["cameras"][0]["chunks"], 2);
    EXPECT_EQ(summary["cameras"][0]["decoded"], 10 + lines[1]["decoded"].get<int>());
    EXPECT_EQ(summary["connections"]["accepted"], 1);
    EXPECT_TRUE(summary.contains("delay_us"));
    for (const auto& entry : std::filesystem::directory_iterator(path("pictures")))
        EXPECT_EQ(entry.path().extension(), ".png");
}

// What the network found is there after a restart, torn line or not: the same boxes, and no picture is looked at again.
// With the file a machine without the network gives the same.
TEST_F(Tool, BoxesSurviveARestart) {
    if (!std::filesystem::exists(weights) || !std::filesystem::exists(clip_file))
        GTEST_SKIP() << "the vision network's weights or the clip are not there: scripts/deps.sh fetches them";
    Result<video::Clip> clip = video::Clip::load(clip_file, {256, 192}, 12 * video::picture_bytes({256, 192}));
    ASSERT_TRUE(clip.ok());
    const std::vector<Encoded> video = encode(*clip, 300, 12);
    Json boxes;
    for (const std::vector<std::string>& mode :
         {std::vector<std::string>{"--model", weights}, {"--model", weights}, {"--without-vision"}}) {
        std::vector<std::string> arguments = mode;
        for (const std::string& word : {std::string("--detections"), path("boxes"), std::string("--boxes"),
                                        std::string("--queue"), std::string("64")})
            arguments.push_back(word);
        const bool first = boxes.is_null();
        const uint16_t port = start(arguments);
        Line line(port);
        RtpSender rtp;
        ASSERT_TRUE(line.send(hello_bytes("roof", 0)));
        for (size_t i = 0; i < video.size(); i++)
            ASSERT_TRUE(line.send_packets(ADP_SELECT_SUB, start_us + i * picture_us, rtp.packets(video[i].bytes)));
        ASSERT_TRUE(line.send_end());
        ASSERT_TRUE(line.wait_closed());
        ASSERT_TRUE(wait_until([&] { return results().size() == 2; }));
        ASSERT_EQ(interrupt(), 0) << *read_file(path("log"));
        const std::vector<Json> lines = results();
        ASSERT_EQ(lines.size(), 3U);
        Json found = Json::array();
        for (size_t chunk = 0; chunk < 2; chunk++)
            for (const Json& picture : lines[chunk]["pictures"]) found.push_back({picture["key"], picture["boxes"]});
        EXPECT_EQ(lines[2]["summary"]["cameras"][0]["seen"], 12);
        EXPECT_EQ(lines[2]["summary"]["cameras"][0]["from_cache"], first ? 0 : 12);
        if (first) {
            boxes = found;
            std::ofstream(path("boxes"), std::ios::app) << R"({"key":"0123)";  // a crash
        }
        EXPECT_EQ(found, boxes);
    }
    size_t objects = 0;
    for (const Json& picture : boxes) objects += picture[1].size();
    EXPECT_GT(objects, 5U);
}

}  // namespace
}  // namespace adapath::server
