// Over the socket: the real server, the real client, adapathctl's commands and their JSON.
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <atomic>
#include <fstream>
#include <sstream>
#include <thread>

#include <nlohmann/json.hpp>

#include "tests/daemon/served_daemon.h"
#include "userspace/adapathctl/commands.h"
#include "userspace/common/unique_fd.h"

namespace adapath {
namespace {

using test::HandDaemon;
using test::HandFlow;

class ServiceTest : public test::ServedDaemon {
protected:
    void SetUp() override {
        hand_ =
            test::open_hand_daemon(directory_ / "state", [&](pb::DaemonConfig& config) { config.set_socket(socket_); });
        serve(*hand_.daemon);
        stub_ = pb::Control::NewStub(channel());
    }
    std::string write_file(const std::string& name, const std::string& bytes) {
        std::ofstream(directory_ / name, std::ios::binary) << bytes;
        return directory_ / name;
    }
    // Runs one adapathctl command; JSON unless it failed.
    using Command = std::function<Result<int>(Client&, std::ostream&)>;
    nlohmann::json ctl(const Command& command, int expected_code = 0) {
        Client client(socket_);
        std::ostringstream out;
        Result<int> code = command(client, out);
        EXPECT_TRUE(code) << code.error().message;
        if (!code) {
            return {};
        }
        EXPECT_EQ(*code, expected_code);
        return nlohmann::json::parse(out.str());
    }
    std::string ctl_error(const Command& command) {
        Client client(socket_);
        std::ostringstream out;
        Result<int> code = command(client, out);
        EXPECT_FALSE(code) << out.str();
        return code ? "" : code.error().message;
    }
    nlohmann::json status() {
        return ctl([](Client& client, std::ostream& out) { return client.status(out, true); });
    }
    // The loop runs in its own thread: look until it is so.
    template <typename Done>
    nlohmann::json status_when(Done done) {
        nlohmann::json json;
        for (int i = 0; i < 2000; i++) {
            json = status();
            if (done(json)) {
                return json;
            }
        }
        ADD_FAILURE() << "never came: " << json.dump(2);
        return json;
    }

    HandDaemon hand_;
    std::unique_ptr<pb::Control::Stub> stub_;

public:
    ServiceTest() { mkdir((directory_ / "state").c_str(), 0755); }
};

TEST_F(ServiceTest, OperatorsDay) {
    EXPECT_EQ(status()["active_generation"], 0);
    const std::string a = write_file("a.snap", test::file_of(test::random_snapshot(1)));
    const std::string b = write_file("b.snap", test::file_of(test::random_snapshot(2, {16})));
    const nlohmann::json first =
        ctl([&](Client& client, std::ostream& out) { return client.install(a, true, "first", out, true); });
    EXPECT_EQ(first["generation"], 1);
    EXPECT_TRUE(first["activated"].get<bool>());
    EXPECT_TRUE(first["network_changed"].get<bool>());
    const nlohmann::json second =
        ctl([&](Client& client, std::ostream& out) { return client.install(b, false, "", out, true); });
    EXPECT_FALSE(second["activated"].get<bool>());
    EXPECT_EQ(status()["active_generation"], 1);
    const nlohmann::json switched = ctl([&](Client& client, std::ostream& out) {
        return client.switch_to(second["hash"].get<std::string>().substr(0, 9), "", out, true);
    });
    EXPECT_EQ(switched["generation"], 2);
    const nlohmann::json back = ctl([&](Client& client, std::ostream& out) { return client.rollback("", out, true); });
    EXPECT_EQ(back["hash"], first["hash"]);

    HandFlow flow;
    for (int i = 0; i < 30; i++) {
        ASSERT_TRUE(test::put(*hand_.datapath, test::decide(*hand_.datapath, flow, 1)));
    }
    const nlohmann::json now =
        status_when([](const nlohmann::json& json) { return json["decisions_explained"] == 30; });
    EXPECT_EQ(now["decisions_unexplained"], 0);
    EXPECT_EQ(now["switches_parameter"].get<int>() + now["switches_network"].get<int>(), 3);
    EXPECT_EQ(now["rollbacks"], 1);
    EXPECT_EQ(now["flows"].size(), 1U);
    EXPECT_EQ(now["flows"][0]["decisions"], 30);
    EXPECT_TRUE(now["resident_bytes"].is_number_unsigned());
    EXPECT_EQ(now["slots"].size(), size_t{ADP_SLOTS});

    const nlohmann::json list = ctl([](Client& client, std::ostream& out) { return client.snapshots(out, true); });
    ASSERT_EQ(list["snapshots"].size(), 2U);
    EXPECT_EQ(list["snapshots"][0]["hash"], first["hash"]);
    EXPECT_EQ(list["snapshots"][0]["state"], "active");
    EXPECT_EQ(list["snapshots"][1]["state"], "standby");
    EXPECT_EQ(list["snapshots"][0]["decisions"], 30);

    for (const std::string& what :
         {std::string(), std::string("1"), first["hash"].get<std::string>().substr(0, 12), a}) {
        const nlohmann::json shown =
            ctl([&](Client& client, std::ostream& out) { return client.show(what, out, true); });
        EXPECT_EQ(shown["hash"], first["hash"]) << what;
        EXPECT_EQ(shown["multiply_accumulates"], ADP_CC_INPUTS * 32 + 32 * 16 + 16);
    }
    const nlohmann::json verified = ctl([](Client& client, std::ostream& out) { return client.verify(out, true); });
    EXPECT_EQ(verified["explained"], 30);
    std::ostringstream offline;
    EXPECT_EQ(*verify_directory(directory_ / "state", "cc", offline, true), 0);
    EXPECT_EQ(nlohmann::json::parse(offline.str())["explained"], 30);

    // One that no snapshot made: exit code 1, live and offline.
    adp_cc_sample sample = test::decide(*hand_.datapath, flow, 2);
    sample.output ^= 1;
    sample.action = sample.output;
    test::put(*hand_.datapath, sample);
    status_when([](const nlohmann::json& json) { return json["decisions_unexplained"] == 1; });
    ctl([](Client& client, std::ostream& out) { return client.verify(out, true); }, 1);
    EXPECT_EQ(*verify_directory(directory_ / "state", "cc", offline, true), 1);
}

TEST_F(ServiceTest, PlainTextNamesWhatMatters) {
    const std::string a = write_file("a.snap", test::file_of(test::random_snapshot(1)));
    Client client(socket_);
    std::ostringstream out;
    ASSERT_TRUE(client.install(a, true, "", out, false).ok());
    ASSERT_TRUE(client.status(out, false).ok());
    ASSERT_TRUE(client.snapshots(out, false).ok());
    ASSERT_TRUE(client.show("", out, false).ok());
    ASSERT_TRUE(client.verify(out, false).ok());
    for (const std::string& word :
         {std::string("generation 1"), fmt::format("{}-32-16-1", ADP_CC_INPUTS), std::string("unexplained 0"),
          std::string("trainer not connected"), "objective  " + hand_.daemon->app().objective_text({})}) {
        EXPECT_NE(out.str().find(word), std::string::npos) << word << " in:\n" << out.str();
    }
}

TEST_F(ServiceTest, TheObjectiveIsShownAndSet) {
    const auto weight = [](const nlohmann::json& reply, const std::string& name) {
        for (const nlohmann::json& one : reply["weights"]) {
            if (one["name"] == name) {
                return one["value"].get<double>();
            }
        }
        return -1.0;
    };
    nlohmann::json reply =
        ctl([](Client& client, std::ostream& out) { return client.objective({}, false, out, true); });
    EXPECT_EQ(reply["weights"].size(), 3U);
    EXPECT_EQ(reply["source"], "default");
    reply = ctl([](Client& client, std::ostream& out) { return client.objective({{"delay", 2}}, false, out, true); });
    EXPECT_EQ(weight(reply, "delay"), 2);
    EXPECT_EQ(weight(reply, "throughput"), 1);
    EXPECT_EQ(hand_.datapath->objective_q16()[ADP_CC_DELAY_WEIGHT_INDEX], 2U * 65536);
    reply = ctl([](Client& client, std::ostream& out) { return client.objective({{"delay", 50}}, false, out, true); });
    EXPECT_EQ(reply["warnings"].size(), 1U);
    EXPECT_NE(ctl_error([](Client& client, std::ostream& out) {
                  return client.objective({{"delay", -2}}, false, out, true);
              }).find("delay is -2"),
              std::string::npos);
    EXPECT_NE(ctl_error([](Client& client, std::ostream& out) {
                  return client.objective({{"speed", 1}}, false, out, true);
              }).find("no weight 'speed'"),
              std::string::npos);
    std::ostringstream plain;
    ASSERT_TRUE(Client(socket_).objective({}, false, plain, false).ok());
    for (const char* word : {"throughput", "delay", "loss", "50", "warning"}) {
        EXPECT_NE(plain.str().find(word), std::string::npos) << word << " in:\n" << plain.str();
    }
    reply = ctl([](Client& client, std::ostream& out) { return client.objective({}, true, out, true); });
    EXPECT_EQ(weight(reply, "delay"), ADP_CC_DELAY_DEFAULT_Q16 / 65536.0);
}

TEST_F(ServiceTest, ATrialThatIsNotPossibleIsSaid) {
    const std::string a = write_file("a.snap", test::file_of(test::random_snapshot(1)));
    const std::string b = write_file("b.snap", test::file_of(test::random_snapshot(2)));
    ctl([&](Client& client, std::ostream& out) { return client.install(a, true, "", out, true, true); });
    const nlohmann::json reply =
        ctl([&](Client& client, std::ostream& out) { return client.install(b, true, "", out, true, true); });
    EXPECT_EQ(reply["activated"], true);
    EXPECT_EQ(reply["on_trial"], false);
    EXPECT_NE(reply["note"].get<std::string>().find("live flows"), std::string::npos) << reply["note"];
}

TEST_F(ServiceTest, ErrorsArriveAsSentences) {
    const std::string bad = write_file("bad.snap", "nonsense");
    EXPECT_NE(ctl_error([&](Client& client, std::ostream& out) {
                  return client.install(bad, true, "", out, true);
              }).find("bad.snap"),
              std::string::npos);
    EXPECT_NE(ctl_error([&](Client& client, std::ostream& out) {
                  return client.install(directory_ / "none", true, "", out, true);
              }).find("none"),
              std::string::npos);
    EXPECT_NE(ctl_error([](Client& client, std::ostream& out) {
                  return client.switch_to("99", "", out, true);
              }).find("generation 99"),
              std::string::npos);
    EXPECT_NE(ctl_error([](Client& client, std::ostream& out) {
                  return client.rollback("", out, true);
              }).find("nothing to roll back"),
              std::string::npos);
    EXPECT_NE(
        ctl_error([](Client& client, std::ostream& out) { return client.train("now", out, true); }).find("no trainer"),
        std::string::npos);
    EXPECT_NE(ctl_error([](Client& client, std::ostream& out) {
                  return client.show("", out, true);
              }).find("no snapshot is active"),
              std::string::npos);
    Client nobody(directory_ / "other.sock");
    std::ostringstream out;
    EXPECT_NE(
        nobody.status(out, true).error().message.find("adapathd is not running at " + (directory_ / "other.sock")),
        std::string::npos);
}

TEST_F(ServiceTest, SamplesStreamWithLogFirstAndNothingTwice) {
    const std::string a = write_file("a.snap", test::file_of(test::random_snapshot(1)));
    ctl([&](Client& client, std::ostream& out) { return client.install(a, true, "", out, true); });
    HandFlow flow;
    for (int i = 0; i < 100; i++) {
        ASSERT_TRUE(test::put(*hand_.datapath, test::decide(*hand_.datapath, flow, 1)));
    }
    status_when([](const nlohmann::json& json) { return json["decisions_explained"] == 100; });
    grpc::ClientContext context;
    pb::SamplesRequest request;
    request.set_include_log(true);
    std::unique_ptr<grpc::ClientReader<pb::SampleBatch>> reader = stub_->StreamSamples(&context, request);
    std::vector<uint32_t> numbers;
    pb::SampleBatch batch;
    while (numbers.size() < 150 && reader->Read(&batch)) {
        EXPECT_EQ(batch.schema(), uint32_t{ADP_CC_SCHEMA});
        ASSERT_EQ(batch.records().size() % sizeof(adp_cc_sample), 0U);
        for (size_t at = 0; at < batch.records().size(); at += sizeof(adp_cc_sample)) {
            adp_cc_sample sample;
            memcpy(&sample, batch.records().data() + at, sizeof(sample));
            numbers.push_back(sample.seq);
        }
        if (numbers.empty()) {
            // The stream stands: what comes from here on is live.
            for (int i = 0; i < 50; i++) {
                ASSERT_TRUE(test::put(*hand_.datapath, test::decide(*hand_.datapath, flow, 1)));
            }
        }
    }
    context.TryCancel();
    ASSERT_EQ(numbers.size(), 150U);
    for (uint32_t i = 0; i < 150; i++) {
        EXPECT_EQ(numbers[i], i);
    }
}

TEST_F(ServiceTest, OneTrainerAtATime) {
    pb::SamplesRequest request;
    request.set_trainer(true);
    pb::SampleBatch batch;
    {
        grpc::ClientContext context;
        auto reader = stub_->StreamSamples(&context, request);
        ASSERT_TRUE(reader->Read(&batch));
        EXPECT_TRUE(batch.train());
        EXPECT_TRUE(status()["trainer_connected"].get<bool>());
        grpc::ClientContext second;
        auto refused = stub_->StreamSamples(&second, request);
        EXPECT_FALSE(refused->Read(&batch));
        EXPECT_EQ(refused->Finish().error_code(), grpc::StatusCode::ALREADY_EXISTS);
        // What the operator says arrives although no sample flows.
        EXPECT_EQ(ctl([](Client& client, std::ostream& out) { return client.train("off", out, true); })["mode"], "off");
        ASSERT_TRUE(reader->Read(&batch));
        EXPECT_FALSE(batch.train());
        ctl([](Client& client, std::ostream& out) { return client.train("now", out, true); });
        ASSERT_TRUE(reader->Read(&batch));
        EXPECT_EQ(batch.train_now(), 1U);
        context.TryCancel();
    }
    status_when([](const nlohmann::json& json) { return !json["trainer_connected"].get<bool>(); });
    grpc::ClientContext context;
    auto reader = stub_->StreamSamples(&context, request);
    EXPECT_TRUE(reader->Read(&batch));
    context.TryCancel();
}

TEST_F(ServiceTest, EventsAreWatched) {
    grpc::ClientContext context;
    auto reader = stub_->WatchEvents(&context, {});
    reader->WaitForInitialMetadata();  // from here on nothing is missed
    const std::string a = write_file("a.snap", test::file_of(test::random_snapshot(1)));
    ctl([&](Client& client, std::ostream& out) { return client.install(a, true, "because", out, true); });
    pb::Event event;
    ASSERT_TRUE(reader->Read(&event));
    EXPECT_EQ(event.kind(), "install");
    ASSERT_TRUE(reader->Read(&event));
    EXPECT_EQ(event.kind(), "switch");
    EXPECT_EQ(event.generation(), 1U);
    EXPECT_EQ(event.from_generation(), 0U);
    EXPECT_NE(event.text().find("because"), std::string::npos);
    EXPECT_GT(event.time_us(), 0U);
    context.TryCancel();
}

TEST_F(ServiceTest, StoppingEndsStreams) {
    grpc::ClientContext context;
    auto reader = stub_->StreamSamples(&context, {});
    pb::SampleBatch batch;
    ASSERT_TRUE(reader->Read(&batch));
    server_.reset();
    EXPECT_FALSE(reader->Read(&batch));
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
    struct stat info{};
    EXPECT_NE(stat(socket_.c_str(), &info), 0) << "the socket stayed behind";
}

TEST_F(ServiceTest, SocketIsNotForEveryone) {
    struct stat info{};
    ASSERT_EQ(stat(socket_.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0660U);
    // Another server does not take over a socket that is served.
    test::TemporaryDirectory other;
    HandDaemon second = test::open_hand_daemon(other.path());
    Result<std::unique_ptr<ControlServer>> server = ControlServer::start(*second.daemon, socket_, "");
    ASSERT_FALSE(server);
    EXPECT_NE(server.error().message.find("another adapathd"), std::string::npos);
}

// What a killed daemon left is replaced; a socket that says anything but "nobody listens" is somebody's.
TEST_F(ServiceTest, OnlyADeadSocketIsReplaced) {
    test::TemporaryDirectory other;
    HandDaemon second = test::open_hand_daemon(other.path());
    const auto bind_socket = [](const std::string& path, int type) {
        UniqueFd fd(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
        sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
        path.copy(address.sun_path, sizeof(address.sun_path) - 1);
        EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
        return fd;
    };
    const std::string dead = directory_ / "dead.sock";
    bind_socket(dead, SOCK_STREAM);
    Result<std::unique_ptr<ControlServer>> server = ControlServer::start(*second.daemon, dead, "");
    EXPECT_TRUE(server) << server.error().message;

    const std::string foreign = directory_ / "foreign.sock";
    const UniqueFd alive = bind_socket(foreign, SOCK_DGRAM);
    Result<std::unique_ptr<ControlServer>> refused = ControlServer::start(*second.daemon, foreign, "");
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().message.find(foreign), std::string::npos);
    struct stat info{};
    EXPECT_EQ(stat(foreign.c_str(), &info), 0) << "somebody's socket was removed";
}

}  // namespace
}  // namespace adapath
