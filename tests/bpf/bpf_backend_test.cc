// The bpf backend on the kernel that runs the test: real flows, real switches, and every decision held to the reference
// interpreter. Skipped, with the reason, where the machine can't.
#include <adapath/cc.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstring>
#include <map>
#include <random>

#include "codegen/codegen.h"
#include "tests/bpf/flow.h"
#include "userspace/adapathd/backend.h"

namespace adapath {
namespace {

using testing::LoopbackFlow;
using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

FloatModel random_cc_model(const std::vector<uint32_t>& hidden, Activation activation, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    FloatModel model;
    model.network.app = "cc";
    model.network.feature_schema = ADP_CC_SCHEMA;
    for (int i = 0; i < ADP_CC_INPUTS; ++i) model.network.inputs.push_back({1.0F / 32, i % 3 == 1 ? 0 : 128});
    uint32_t inputs = ADP_CC_INPUTS;
    for (size_t l = 0; l <= hidden.size(); ++l) {
        const bool last = l == hidden.size();
        const uint32_t outputs = last ? ADP_CC_OUTPUTS : hidden[l];
        model.network.layers.push_back({inputs, outputs, last ? Activation::identity : activation});
        std::vector<float> weights(static_cast<size_t>(inputs) * outputs);
        for (float& w : weights) w = normal(random) / std::sqrt(static_cast<float>(inputs));
        std::vector<float> biases(outputs);
        for (float& b : biases) b = normal(random) * 0.1F;
        // Leaning upwards: a policy that leans down ends at the least rate, where decisions are few and tests are slow.
        if (last) biases[0] = 3;
        model.weights.push_back(weights);
        model.biases.push_back(biases);
        inputs = outputs;
    }
    return model;
}

std::vector<InputCodes> random_codes(size_t count, uint64_t seed) {
    std::mt19937_64 random(seed);
    std::vector<InputCodes> all(count, InputCodes(ADP_CC_INPUTS));
    for (InputCodes& codes : all)
        for (uint8_t& code : codes) code = static_cast<uint8_t>(random());
    return all;
}

class BpfBackend : public ::testing::Test {
protected:
    void SetUp() override {
        for (const std::string& obstacle : bpf_backend_obstacles()) GTEST_SKIP() << obstacle;
        std::random_device random;
        options_.congestion_control = fmt::format("adpt{:08x}", random());
        options_.pin_directory = "/sys/fs/bpf/" + options_.congestion_control;
    }
    void TearDown() override {
        backend_ = {};
        if (access(options_.pin_directory.c_str(), F_OK) == 0) {
            Status removed = remove_bpf_backend(options_.pin_directory);
            EXPECT_TRUE(removed.ok()) << removed.error().message;
        }
    }
    void open() {
        Result<Backend> opened = open_bpf_backend(options_);
        ASSERT_TRUE(opened.ok()) << opened.error().message;
        backend_ = std::move(*opened);
    }
    Snapshot freeze(const FloatModel& model) {
        FreezeOptions options;
        options.fidelity_limit = 0;
        options.random_inputs = 100;
        Result<Snapshot> snapshot = freezer().freeze(model, random_codes(200, 1), random_codes(50, 2), options);
        EXPECT_TRUE(snapshot.ok()) << snapshot.error().message;
        return *snapshot;
    }
    static Freezer& freezer() {
        static Freezer shared;
        return shared;
    }
    // Installs and remembers the model under its generation, for explain().
    uint32_t install(const Snapshot& snapshot) {
        const uint32_t generation = ++last_generation_;
        models_[generation] = snapshot.model;
        Result<uint32_t> slot = backend_.installer->install(snapshot, generation, random_codes(8, generation));
        EXPECT_TRUE(slot.ok()) << slot.error().message;
        return slot.ok() ? *slot : ADP_SLOT_NONE;
    }
    void activate(const Snapshot& snapshot) {
        Status status = backend_.installer->switch_to(install(snapshot));
        ASSERT_TRUE(status.ok()) << status.error().message;
    }
    // Collects once; sorts every sample into explained, unexplained, and counts gaps in the sequence.
    void collect(std::chrono::milliseconds interval = 20ms) {
        Result<size_t> got = backend_.collector->collect(interval, [this](std::span<const std::byte> record) {
            ASSERT_EQ(record.size(), sizeof(adp_cc_sample));
            adp_cc_sample sample;
            std::memcpy(&sample, record.data(), sizeof(sample));
            take(sample);
        });
        ASSERT_TRUE(got.ok()) << got.error().message;
    }
    void take(const adp_cc_sample& sample) {
        ++samples_;
        auto [it, first] = next_seq_.try_emplace(sample.flow, sample.seq);
        if (!first && it->second != sample.seq) gaps_ += sample.seq - it->second;
        it->second = sample.seq + 1;
        last_[sample.flow] = sample;
        if ((sample.flags & ADP_CC_FALLBACK_MADE) != 0) {
            ++fallbacks_;
            return;
        }
        if ((sample.flags & ADP_CC_START_MADE) != 0) return;
        ++decisions_;
        ++by_generation_[sample.generation];
        auto model = models_.find(sample.generation);
        if (model == models_.end() ||
            interpret(model->second, std::span<const uint8_t>(sample.input, ADP_CC_INPUTS))[0] != sample.output)
            ++unexplained_;
    }
    template <typename Condition>
    bool collect_until(Condition condition, std::chrono::seconds limit = 20s) {
        const auto end = Clock::now() + limit;
        while (!condition()) {
            if (Clock::now() > end) return false;
            collect();
        }
        return true;
    }

    BpfBackendOptions options_;
    Backend backend_;
    uint32_t last_generation_ = 0;
    std::map<uint32_t, QuantModel> models_;
    std::map<uint64_t, uint32_t> next_seq_;
    std::map<uint64_t, adp_cc_sample> last_;
    std::map<uint32_t, uint64_t> by_generation_;
    uint64_t samples_ = 0;
    uint64_t decisions_ = 0;
    uint64_t fallbacks_ = 0;
    uint64_t unexplained_ = 0;
    uint64_t gaps_ = 0;
};

TEST_F(BpfBackend, RemovingLeavesNothing) {
    open();
    EXPECT_FALSE(backend_.adopted);
    {
        LoopbackFlow flow(options_.congestion_control);
        EXPECT_TRUE(flow.ok());
    }
    backend_ = {};
    Status removed = remove_bpf_backend(options_.pin_directory);
    ASSERT_TRUE(removed.ok()) << removed.error().message;
    EXPECT_NE(access(options_.pin_directory.c_str(), F_OK), 0);
    EXPECT_FALSE(LoopbackFlow(options_.congestion_control).ok()) << "the congestion control is still registered";
}

TEST_F(BpfBackend, WithoutSnapshotTheFallbackDecides) {
    open();
    LoopbackFlow flow(options_.congestion_control);
    ASSERT_TRUE(flow.ok());
    ASSERT_TRUE(collect_until([&] { return fallbacks_ >= 20; }));
    EXPECT_EQ(decisions_, 0U);
    EXPECT_EQ(gaps_, 0U);
    EXPECT_GT(flow.received(), 0U);
    EXPECT_TRUE(flow.finish());
}

TEST_F(BpfBackend, EveryDecisionIsTheInterpretersOwn) {
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    LoopbackFlow flow(options_.congestion_control);
    ASSERT_TRUE(collect_until([&] { return decisions_ >= 100; }));
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_EQ(gaps_, 0U);
    EXPECT_EQ(backend_.collector->stats().samples_lost, 0U);
    EXPECT_EQ(backend_.collector->stats().program_missing, 0U);
    EXPECT_TRUE(flow.finish());
}

TEST_F(BpfBackend, ASwitchTakesRunningFlowsAlong) {
    open();
    LoopbackFlow flow(options_.congestion_control);
    ASSERT_TRUE(collect_until([&] { return fallbacks_ >= 5; }));
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    ASSERT_TRUE(collect_until([&] { return by_generation_[1] >= 5; })) << "from the fallback to the first snapshot";
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 2)));
    ASSERT_TRUE(collect_until([&] { return by_generation_[2] >= 5; })) << "to new parameters";
    activate(freeze(random_cc_model({64, 32}, Activation::sigmoid, 3)));
    ASSERT_TRUE(collect_until([&] { return by_generation_[3] >= 5; })) << "to another network";
    const uint32_t standby = backend_.installer->standby_slot();
    ASSERT_TRUE(backend_.installer->switch_to(standby).ok());
    const uint64_t before = by_generation_[2];
    ASSERT_TRUE(collect_until([&] { return by_generation_[2] >= before + 5; })) << "back to standby";
    ASSERT_TRUE(backend_.installer->deactivate().ok());
    const uint64_t fallbacks = fallbacks_;
    ASSERT_TRUE(collect_until([&] { return fallbacks_ >= fallbacks + 5; })) << "to the fallback";
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_EQ(gaps_, 0U);
    EXPECT_TRUE(flow.finish());
}

TEST_F(BpfBackend, ThousandsOfSwitchesUnderFourFlows) {
    open();
    std::vector<Snapshot> snapshots;
    for (uint64_t i = 0; i < 6; ++i) snapshots.push_back(freeze(random_cc_model({32, 16}, Activation::tanh, 10 + i)));
    snapshots.push_back(freeze(random_cc_model({24}, Activation::relu, 20)));
    std::vector<std::unique_ptr<LoopbackFlow>> flows;
    for (int i = 0; i < 4; ++i) flows.push_back(std::make_unique<LoopbackFlow>(options_.congestion_control));
    const uint32_t switches = 2000;
    for (uint32_t i = 0; i < switches; ++i) {
        activate(snapshots[i % snapshots.size()]);
        if (i % 16 == 0) collect(0ms);
    }
    // Without a reclaim in between, later installs would have run out of slots: they waited for readers instead.
    ASSERT_TRUE(collect_until([&] { return by_generation_[switches] > 0; }));
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_EQ(gaps_, 0U);
    EXPECT_EQ(backend_.collector->stats().samples_lost, 0U);
    EXPECT_EQ(backend_.collector->stats().program_missing, 0U);
    EXPECT_GT(by_generation_.size(), 20U) << "too few generations decided for the test to mean anything";
    for (auto& flow : flows) EXPECT_TRUE(flow->finish());
}

TEST_F(BpfBackend, AnotherDaemonAdoptsWhatRuns) {
    open();
    const Snapshot snapshot = freeze(random_cc_model({32, 16}, Activation::tanh, 1));
    activate(snapshot);
    LoopbackFlow flow(options_.congestion_control);
    ASSERT_TRUE(collect_until([&] { return decisions_ >= 10; }));
    const uint32_t active = backend_.installer->active_slot();
    backend_ = {};  // the daemon is gone; nothing else changes
    const size_t received = flow.received();
    open();
    EXPECT_TRUE(backend_.adopted);
    EXPECT_EQ(backend_.installer->active_slot(), active);
    EXPECT_EQ(backend_.installer->slots()[active].generation, 1U);
    const uint64_t before = decisions_;
    ASSERT_TRUE(collect_until([&] { return decisions_ >= before + 10; }));
    EXPECT_GT(flow.received(), received);
    activate(freeze(random_cc_model({16, 16}, Activation::tanh, 2)));
    ASSERT_TRUE(collect_until([&] { return by_generation_[2] >= 5; })) << "an adopted kernel side takes new networks";
    EXPECT_EQ(gaps_, 0U) << "samples made while no daemon was there are still in the ring";
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_TRUE(flow.finish());
}

// A slot that was freed is empty to the next daemon too: what is in it must not come back as the target of a roll back.
TEST_F(BpfBackend, AFreedSlotIsNotAdopted) {
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 2)));
    ASSERT_TRUE(backend_.installer->switch_to(backend_.installer->standby_slot()).ok());  // back to generation 1
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 3)));                     // 2 drains
    ASSERT_TRUE(backend_.installer->reclaim().ok());
    backend_ = {};
    open();
    ASSERT_NE(backend_.installer->standby_slot(), ADP_SLOT_NONE);
    EXPECT_EQ(backend_.installer->slots()[backend_.installer->standby_slot()].generation, 1U);
    for (const SlotInfo& slot : backend_.installer->slots()) EXPECT_NE(slot.generation, 2U);
}

TEST_F(BpfBackend, ASecondDaemonIsRefused) {
    open();
    Result<Backend> second = open_bpf_backend(options_);
    ASSERT_FALSE(second.ok());
    EXPECT_NE(second.error().message.find("in use by another adapathd"), std::string::npos) << second.error().message;
    BpfBackendOptions elsewhere = options_;
    elsewhere.pin_directory += "x";
    Result<Backend> same_name = open_bpf_backend(elsewhere);
    EXPECT_FALSE(same_name.ok()) << "two congestion controls of one name";
    if (!same_name.ok()) {
        EXPECT_NE(same_name.error().message.find(options_.congestion_control), std::string::npos);
    }
    rmdir(elsewhere.pin_directory.c_str());
}

TEST_F(BpfBackend, AForeignObjectIsRefusedAndChangesNothing) {
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    const auto before = backend_.installer->slots();
    Snapshot other = freeze(random_cc_model({32, 16}, Activation::relu, 2));
    const Snapshot sound = freeze(random_cc_model({16}, Activation::tanh, 3));

    Snapshot garbage = sound;
    garbage.bpf_object.assign(1000, 0x5a);
    Snapshot truncated = sound;
    truncated.bpf_object.resize(truncated.bpf_object.size() / 2);
    Snapshot none = sound;
    none.bpf_object.clear();
    // A valid program of another network under this one's name: loads, and is caught because it is really run.
    Snapshot wrong = sound;
    wrong.bpf_object = other.bpf_object;
    for (Snapshot* bad : {&garbage, &truncated, &none, &wrong}) {
        bad->program_hash = "bad" + bad->program_hash;
        Result<uint32_t> slot = backend_.installer->install(*bad, 99, random_codes(8, 1));
        ASSERT_FALSE(slot.ok());
        EXPECT_FALSE(slot.error().message.empty());
    }
    const auto after = backend_.installer->slots();
    for (size_t i = 0; i < before.size(); ++i) {
        EXPECT_EQ(before[i].generation, after[i].generation);
        EXPECT_EQ(before[i].state, after[i].state);
    }
}

TEST_F(BpfBackend, AFullRingIsCountedAndTheFlowGoesOn) {
    options_.ring_bytes = 4096;
    options_.wakeup_bytes = 0;
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    LoopbackFlow flow(options_.congestion_control);
    const auto end = Clock::now() + 20s;
    while (backend_.collector->stats().samples_lost < 20 && Clock::now() < end) std::this_thread::yield();
    EXPECT_GE(backend_.collector->stats().samples_lost, 20U);
    collect(0ms);
    ASSERT_TRUE(collect_until([&] { return gaps_ > 0; })) << "what was lost shows as a gap in the sequence";
    EXPECT_EQ(unexplained_, 0U);
    EXPECT_TRUE(flow.finish());
    collect(0ms);
    EXPECT_EQ(backend_.collector->stats().samples, samples_) << "what was put into the ring was also delivered";
}

TEST_F(BpfBackend, TheFillMarkWakesTheReaderEarly) {
    options_.wakeup_bytes = 10 * sizeof(adp_cc_sample);
    open();
    LoopbackFlow flow(options_.congestion_control);
    const auto begin = Clock::now();
    collect(15s);  // 10 samples take about 100 ms
    EXPECT_LT(Clock::now() - begin, 10s);
    EXPECT_GE(samples_, 5U);
}

TEST_F(BpfBackend, WithFlowConsistencyAFlowKeepsItsSnapshot) {
    options_.flow_consistency = true;
    open();
    activate(freeze(random_cc_model({32, 16}, Activation::tanh, 1)));
    auto old_flow = std::make_unique<LoopbackFlow>(options_.congestion_control);
    ASSERT_TRUE(collect_until([&] { return by_generation_[1] >= 5; }));
    const uint32_t first_slot = backend_.installer->active_slot();
    EXPECT_EQ(backend_.installer->slots()[first_slot].bound_flows, 1U);
    for (uint64_t i = 0; i < 2 * ADP_SLOTS; ++i) activate(freeze(random_cc_model({32, 16}, Activation::tanh, 2 + i)));
    LoopbackFlow new_flow(options_.congestion_control);
    ASSERT_TRUE(collect_until([&] { return by_generation_[last_generation_] >= 5; }));
    const uint64_t before = by_generation_[1];
    ASSERT_TRUE(collect_until([&] { return by_generation_[1] >= before + 5; })) << "the old flow was moved";
    EXPECT_EQ(by_generation_.size(), 2U);
    EXPECT_EQ(backend_.installer->slots()[first_slot].generation, 1U) << "a bound slot was reused";
    EXPECT_TRUE(old_flow->finish());
    const auto end = Clock::now() + 20s;
    while (backend_.installer->slots()[first_slot].bound_flows != 0 && Clock::now() < end) std::this_thread::yield();
    ASSERT_TRUE(backend_.installer->reclaim().ok());
    EXPECT_EQ(backend_.installer->slots()[first_slot].state, SlotState::free);
    EXPECT_EQ(unexplained_, 0U);
}

}  // namespace
}  // namespace adapath
