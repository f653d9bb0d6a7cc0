// Backend `userspace`: decisions are asked of the daemon over the ring, made in float, and applied an ACK later. Real
// flows over the emulated uplink, the real daemon.
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <thread>

#include "models/cc_model.h"
#include "models/float_runner.h"
#include "tests/netns/testbed.h"
#include "userspace/adapathd/app.h"
#include "userspace/adapathd/sample_log.h"

namespace adapath::testing {
namespace {

using namespace std::chrono_literals;

// Some network, leaning upwards a little: what it decides does not matter here, only that it does.
FloatModel some_model(uint64_t seed) {
    FloatModel model = adversarial_cc(0.1F);
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (size_t l = 0; l < model.weights.size(); l++) {
        const bool last = l + 1 == model.weights.size();
        for (float& weight : model.weights[l]) {
            weight =
                (last ? 0.1F : 0.7F) * normal(random) / std::sqrt(static_cast<float>(model.network.layers[l].inputs));
        }
    }
    return model;
}

// Such a network may do worse than CUBIC before it, and be rolled back for it.
constexpr const char* kNoWatch = "watch { rollback: false }";

class UserspaceBackend : public ::testing::Test {
protected:
    void SetUp() override {
        if (const std::string why = why_not(); !why.empty()) GTEST_SKIP() << why;
        Result<Trace> trace = Trace::constant(20);
        ASSERT_TRUE(trace.ok());
        auto uplink = Uplink::create(std::move(*trace));
        ASSERT_TRUE(uplink.ok()) << uplink.error().message;
        uplink_ = std::move(*uplink);
    }
    void start_flows(const TestDaemon& daemon, int count) {
        for (int i = 0; i < count; ++i) {
            auto flow = start_flow(*uplink_, daemon.congestion_control());
            ASSERT_TRUE(flow.ok()) << flow.error().message;
            flows_.push_back(std::move(*flow));
        }
    }
    [[nodiscard]] uint64_t received() const {
        uint64_t sum = 0;
        for (const auto& flow : flows_) sum += flow->received();
        return sum;
    }
    static void install(TestDaemon& daemon, const FloatModel& model) {
        auto bytes = freeze_bytes(model);
        ASSERT_TRUE(bytes.ok()) << bytes.error().message;
        auto installed = daemon.install(*bytes);
        ASSERT_TRUE(installed.ok()) << installed.error().message;
    }
    static uint64_t applied(TestDaemon& daemon) {
        Result<pb::StatusReply> status = daemon.status();
        return status ? status->asking().applied() : 0;
    }
    static bool wait_applied(TestDaemon& daemon, uint64_t more) {
        const uint64_t before = applied(daemon);
        return wait_until([&] { return applied(daemon) >= before + more; });
    }

    std::unique_ptr<Uplink> uplink_;
    std::vector<std::unique_ptr<TcpFlow>> flows_;
};

struct Logged {
    uint64_t questions = 0;
    uint64_t answered = 0;
    uint64_t right = 0;   // of them, what the generation's float model gives
    uint64_t paired = 0;  // right after the flow's question, with the same input
};

// The daemon's log, every answer run again by the models themselves.
Logged read_log(const std::string& state, const std::map<uint32_t, FloatModel>& models) {
    std::map<uint32_t, FloatRunner> runners;
    for (const auto& [generation, model] : models) runners.emplace(generation, FloatRunner(model));
    Logged logged;
    std::map<uint64_t, adp_cc_sample> last;
    const auto read = read_sample_log(
        state + "/samples", *find_app("cc"), [&](std::span<const std::byte> records, const std::string&) {
            for (size_t at = 0; at < records.size(); at += sizeof(adp_cc_sample)) {
                adp_cc_sample sample;
                memcpy(&sample, records.data() + at, sizeof sample);
                if ((sample.flags & ADP_CC_ASKED) != 0) logged.questions++;
                if ((sample.flags & ADP_CC_ANSWERED) != 0) {
                    logged.answered++;
                    const auto runner = runners.find(sample.generation);
                    logged.right += runner != runners.end() && runner->second.run_q16(sample.input) == sample.output;
                    const auto before = last.find(sample.flow);
                    logged.paired += before != last.end() && (before->second.flags & ADP_CC_ASKED) != 0 &&
                                     before->second.seq + 1 == sample.seq &&
                                     memcmp(before->second.input, sample.input, ADP_CC_INPUTS) == 0;
                }
                last[sample.flow] = sample;
            }
            return true;
        });
    EXPECT_TRUE(read.ok());
    return logged;
}

TEST_F(UserspaceBackend, EveryDecisionIsTheFloatModelsAcrossSwitches) {
    TestDaemon daemon("userspace", kNoWatch);
    ASSERT_TRUE(daemon.start().ok());
    start_flows(daemon, 3);
    std::map<uint32_t, FloatModel> models;
    for (uint32_t generation = 1; generation <= 4; generation++) {
        models[generation] = some_model(generation);
        install(daemon, models[generation]);
        ASSERT_TRUE(wait_applied(daemon, 100)) << "generation " << generation << " decides too little";
    }
    Result<pb::StatusReply> status = daemon.status();
    ASSERT_TRUE(status.ok());
    EXPECT_EQ(status->backend(), "userspace");
    EXPECT_EQ(status->active_generation(), 4U);
    EXPECT_GE(status->decisions(), status->asking().applied());
    EXPECT_EQ(status->decisions_unexplained(), 0U) << status->last_unexplained();
    EXPECT_EQ(status->samples_lost(), 0U);
    EXPECT_EQ(status->asking().unknown(), 0U);
    EXPECT_GE(status->asking().questions(), status->asking().applied());
    EXPECT_GT(status->asking().cpu_s(), 0);
    uint64_t in_buckets = 0;
    for (const pb::LatencyBucket& bucket : status->asking().apply().buckets()) in_buckets += bucket.count();
    EXPECT_EQ(in_buckets, status->asking().applied());
    EXPECT_LE(status->asking().answer().p50_us(), status->asking().apply().p50_us());
    flows_.clear();
    daemon.stop();

    const Logged logged = read_log(daemon.state(), models);
    EXPECT_GE(logged.answered, 400U);
    EXPECT_EQ(logged.right, logged.answered);
    EXPECT_EQ(logged.paired, logged.answered);
    EXPECT_GE(logged.questions, logged.answered);
    int code = -1;
    const nlohmann::json verified = daemon.ctl({"verify", "--state-dir", daemon.state()}, &code);
    EXPECT_EQ(code, 0) << verified.dump();
    EXPECT_EQ(verified.value("unexplained", 99U), 0U) << verified.dump();
    EXPECT_GE(verified.value("explained", 0U), 400U) << verified.dump();
    EXPECT_EQ(verified.value("gaps", 99U), 0U) << verified.dump();
}

TEST_F(UserspaceBackend, FlowsSurviveTheDaemonAndAreDecidedForAgainWhenItIsBack) {
    TestDaemon daemon("userspace", kNoWatch);
    ASSERT_TRUE(daemon.start().ok());
    start_flows(daemon, 2);
    install(daemon, some_model(1));
    ASSERT_TRUE(wait_applied(daemon, 50));

    daemon.kill_hard();
    std::this_thread::sleep_for(500ms);
    const uint64_t before = received();
    std::this_thread::sleep_for(2s);
    // They keep the window that they had: still megabits.
    EXPECT_GT(received(), before + 100'000);

    ASSERT_TRUE(daemon.start().ok());
    Result<pb::StatusReply> status = daemon.status();
    ASSERT_TRUE(status.ok());
    EXPECT_TRUE(status->adopted());
    EXPECT_NE(status->active_generation(), 0U) << "the newest snapshot was not brought back";
    EXPECT_TRUE(wait_applied(daemon, 50)) << "nothing is decided after the restart";
    status = daemon.status();
    EXPECT_EQ(status->decisions_unexplained(), 0U) << status->last_unexplained();
    for (auto& flow : flows_) EXPECT_TRUE(flow->finish()) << "bytes were lost";
}

TEST_F(UserspaceBackend, AKernelSideOfTheOtherKindIsNotTakenOver) {
    TestDaemon daemon("userspace");
    ASSERT_TRUE(daemon.start().ok());
    daemon.stop();
    std::vector<std::string> argv = {ADAPATHD,
                                     "--backend",
                                     "bpf",
                                     "--pin-dir",
                                     daemon.same_kernel_side()[3],
                                     "--cc-name",
                                     daemon.same_kernel_side()[5],
                                     "--state-dir",
                                     daemon.directory() + "/other",
                                     "--socket",
                                     daemon.directory() + "/other.sock"};
    Result<Child> child = Child::start({.name = "adapathd", .argv = argv, .log = daemon.directory() + "/other.log"});
    ASSERT_TRUE(child.ok());
    ASSERT_TRUE(child->wait_exit(20s * slowness()));
    EXPECT_EQ(child->exit_code(), 1);
    EXPECT_NE(child->obituary().find("--remove"), std::string::npos) << child->obituary();
}

}  // namespace
}  // namespace adapath::testing
