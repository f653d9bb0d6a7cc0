// The app qp's loop as processes: adapathd, an encoder's process that decides, and adapath-trainer, which learns from
// the samples and from labels that this test makes in the server's place, and has what it learned decide.
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>

#include <nlohmann/json.hpp>

#include "models/qp/selector.h"
#include "tests/daemon/support.h"
#include "tests/qp/selectors.h"
#include "tests/support/patience.h"
#include "userspace/adapathctl/commands.h"
#include "userspace/common/file.h"
#include "userspace/harness/child.h"
#include "userspace/proto/control.grpc.pb.h"
#include "userspace/proto/select.grpc.pb.h"

namespace adapath {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using testing::wait_until;
using testing_support::moving_luma;

// The server's word on each chunk that it hears of: the brighter a block, the more it matters.
class Labeller {
public:
    explicit Labeller(const std::string& socket)
        : channel_(grpc::CreateChannel("unix:" + socket, grpc::InsecureChannelCredentials())),
          thread_([this] { run(); }) {}
    ~Labeller() {
        context_.TryCancel();
        thread_.join();
    }
    [[nodiscard]] uint64_t labels() const { return labels_; }

private:
    void run() {
        auto control = pb::Control::NewStub(channel_);
        auto feed = pb::SelectFeed::NewStub(channel_);
        grpc::ClientContext feed_context;
        pb::FeedReply reply;
        auto writer = feed->Feed(&feed_context, &reply);
        auto reader = control->StreamSamples(&context_, {});
        std::set<uint64_t> known;
        pb::SampleBatch batch;
        while (reader->Read(&batch)) {
            for (size_t at = 0; at + sizeof(adp_qp_sample) <= batch.records().size(); at += sizeof(adp_qp_sample)) {
                adp_qp_sample sample;
                memcpy(&sample, batch.records().data() + at, sizeof(sample));
                // Every third, as a server that labels a share of them.
                if (!known.insert(sample.chunk_us).second || known.size() % 3 != 0) continue;
                pb::FeedRequest request;
                pb::CameraReport& report = *request.mutable_report();
                report.set_camera(sample.camera);
                report.set_chunk_us(sample.chunk_us);
                label(sample, *report.mutable_blocks());
                if (!writer->Write(request)) return;
                labels_++;
            }
        }
        writer->WritesDone();
        EXPECT_TRUE(writer->Finish().ok());
    }
    // reader_main.cc says which picture it was by the chunk's time.
    static void label(const adp_qp_sample& sample, pb::BlockWeights& blocks) {
        const std::vector<uint8_t> luma =
            moving_luma(sample.width, sample.height, static_cast<uint32_t>(sample.chunk_us % 1000));
        blocks.set_columns((sample.width + 15U) / 16);
        blocks.set_rows((sample.height + 15U) / 16);
        for (uint32_t row = 0; row < blocks.rows(); row++)
            for (uint32_t column = 0; column < blocks.columns(); column++) {
                uint32_t sum = 0;
                for (uint32_t y = row * 16; y < std::min<uint32_t>(row * 16 + 16, sample.height); y++)
                    for (uint32_t x = column * 16; x < std::min<uint32_t>(column * 16 + 16, sample.width); x++)
                        sum += luma[size_t{y} * sample.width + x];
                blocks.add_weights(static_cast<float>(sum));
            }
    }

    std::shared_ptr<grpc::Channel> channel_;
    grpc::ClientContext context_;
    std::atomic<uint64_t> labels_{0};
    std::thread thread_;
};

class QpLoop : public ::testing::Test {
protected:
    QpLoop() {
        std::ofstream(directory_ / "conf")
            << "app: \"qp\"\nbackend: \"host\"\ninterval_ms: 20\nstate_directory: \"" << directory_ / "state"
            << "\"\nsocket: \"" << directory_ / "s" << "\"\nhost_directory: \"" << directory_ / "host" << "\"\n";
    }
    Child start(const std::string& name, std::vector<std::string> argv, bool read_output = false) {
        Result<Child> child = Child::start(
            {.name = name, .argv = std::move(argv), .log = directory_ / (name + ".log"), .read_output = read_output});
        if (!child) throw std::runtime_error(child.error().message);
        return std::move(*child);
    }
    Child start_trainer(const std::string& name) {
        // Quick to send: what is tested is that it all goes round.
        return start(name, {ADAPATH_TRAINER,
                            "--app",
                            "qp",
                            "--socket",
                            directory_ / "s",
                            "--checkpoint",
                            ADAPATH_QP_CHECKPOINT,
                            "--save",
                            directory_ / "learned",
                            "--qp-batch",
                            "48",
                            "--min-interval",
                            "0",
                            "--stable-change",
                            "0.2",
                            "--stable-batches",
                            "1",
                            "--necessary-loss",
                            "0.01",
                            "--fidelity-limit",
                            "0.1"});
    }
    json status() {
        std::ostringstream out;
        const Result<int> code = Client(directory_ / "s").status(out, true);
        return code ? json::parse(out.str()) : json();
    }
    std::string log_of(const std::string& name) {
        Result<std::string> text = read_file(directory_ / (name + ".log"));
        return text ? *text : "";
    }

    test::TemporaryDirectory directory_;
    StopToken stop_;
};

TEST_F(QpLoop, WhatIsLearnedOnlineDecidesAndEverySampleIsExplained) {
    Child daemon = start("adapathd", {ADAPATHD, "--config", directory_ / "conf"});
    ASSERT_TRUE(wait_until([&] { return status().contains("pid"); })) << daemon.obituary();
    std::optional<Child> trainer = start_trainer("trainer");
    // Nothing decides yet: the checkpoint is the first to.
    ASSERT_TRUE(wait_until([&] { return status()["active_generation"] == 1; }, 60s))
        << trainer->obituary() << log_of("trainer");
    Child encoder = start("encoder", {QP_SWITCH_READER, "run", directory_ / "host", "30"}, true);
    const auto labeller = std::make_unique<Labeller>(directory_ / "s");
    ASSERT_TRUE(wait_until([&] { return status()["active_generation"] >= 3; }, 90s))
        << status().dump(1) << log_of("trainer");
    // The next trainer goes on from what this one saved.
    trainer->stop(20s);
    EXPECT_EQ(trainer->exit_code(), 0) << trainer->obituary();
    const Result<ImageFloatModel> saved = read_selector(directory_ / "learned/selector.json");
    ASSERT_TRUE(saved) << saved.error().message;
    EXPECT_NE(saved->weights, read_selector(std::string(ADAPATH_QP_CHECKPOINT) + "/selector.json")->weights);
    const uint32_t before = status()["active_generation"];
    trainer.emplace(start_trainer("trainer2"));
    ASSERT_TRUE(wait_until([&] { return status()["active_generation"] > before; }, 90s))
        << status().dump(1) << log_of("trainer2");
    EXPECT_NE(log_of("trainer2").find("going on from what was learned before"), std::string::npos);
    EXPECT_GT(labeller->labels(), 20U);
    // And what was learned decides a while.
    const uint32_t last = status()["active_generation"];
    ASSERT_TRUE(wait_until(
        [&] {
            for (const std::string& line : encoder.read_lines()) {
                const size_t at = line.find("generation ");
                if (at != std::string::npos && std::stoul(line.substr(at + 11)) >= last) return true;
            }
            return false;
        },
        60s));
    trainer->stop(20s);
    kill(encoder.pid(), SIGTERM);
    uint64_t decisions = 0;
    uint64_t uniform = 0;
    uint64_t lost = 0;
    uint64_t switches = 0;
    uint64_t samples = 0;
    for (;;) {
        const Result<std::string> line = encoder.wait_line(30s, stop_);
        ASSERT_TRUE(line) << line.error().message;
        if (!line->starts_with("done ")) continue;
        std::istringstream(line->substr(5)) >> decisions >> uniform >> lost >> switches >> samples;
        break;
    }
    EXPECT_TRUE(wait_until([&] { return status()["samples"] == samples - lost; })) << status().dump(1);
    EXPECT_TRUE(wait_until([&] { return status()["decisions_explained"] == samples - lost - uniform; }))
        << status().dump(1);
    const json now = status();
    EXPECT_EQ(now["decisions_unexplained"], 0) << now["last_unexplained"];
    EXPECT_EQ(now["samples_lost"], lost);
    EXPECT_GE(now["switches_trained"], 4) << now.dump(1);
    EXPECT_EQ(now["installs_refused"], 0) << now.dump(1);
    EXPECT_EQ(now["feed"]["blocks"], labeller->labels());
    EXPECT_EQ(now["feed"]["refused"], 0);
    EXPECT_GE(switches, 3U) << "while the encoder decided";
    std::ostringstream out;
    const Result<int> code = verify_directory(directory_ / "state", "qp", out, true);
    ASSERT_TRUE(code) << code.error().message;
    const json report = json::parse(out.str());
    EXPECT_EQ(report["decisions"], samples - lost - uniform);
    EXPECT_EQ(report["explained"], report["decisions"]);
    EXPECT_EQ(report["unexplained"], 0) << report.dump(1);
    EXPECT_EQ(report["gaps"], lost);
    EXPECT_GE(report["generations"], 3);
    RecordProperty("samples", std::to_string(samples));
    RecordProperty("generations", report["generations"].dump());
}

TEST_F(QpLoop, TheTrainerRefusesWhatItCannotGoOnFrom) {
    const auto refusal = [&](const std::string& checkpoint, const std::string& save) {
        Child trainer = start("refused", {ADAPATH_TRAINER, "--app", "qp", "--socket", directory_ / "s", "--checkpoint",
                                          checkpoint, "--save", save});
        EXPECT_TRUE(trainer.wait_exit(30s));
        EXPECT_EQ(trainer.exit_code(), 1);
        return log_of("refused");
    };
    EXPECT_NE(refusal(directory_ / "nowhere", directory_ / "learned").find("name a directory with selector.json"),
              std::string::npos);
    ASSERT_TRUE(make_directories(directory_ / "learned").ok());
    std::ofstream(directory_ / "learned/selector.json") << "{\"format\":";
    EXPECT_NE(refusal(ADAPATH_QP_CHECKPOINT, directory_ / "learned").find("remove it to begin again"),
              std::string::npos);
}

}  // namespace
}  // namespace adapath
