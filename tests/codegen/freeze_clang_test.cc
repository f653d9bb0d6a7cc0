// The pipeline from float model to snapshot: what it delivers, that retraining compiles nothing, and what it refuses.
#include <chrono>
#include <cmath>
#include <limits>
#include <thread>

#include <gtest/gtest.h>

#include "codegen/codegen.h"
#include "tests/codegen/random_models.h"

namespace adapath {
namespace {

using testing_support::cc_network;
using testing_support::kernel_codes;
using testing_support::random_weights;

struct Inputs {
    std::vector<InputCodes> all;
    [[nodiscard]] std::span<const InputCodes> calibration() const { return std::span(all).first(all.size() / 2); }
    [[nodiscard]] std::span<const InputCodes> held_out() const { return std::span(all).subspan(all.size() / 2); }
};

Inputs inputs(uint64_t seed) {
    std::mt19937_64 random(seed);
    return {kernel_codes(2048, random)};  // as many as the trainer keeps (OnlineOptions::recent)
}

TEST(Freeze, DeliversASealedSnapshotThatComputesWhatTheInterpreterSays) {
    std::mt19937_64 random(1);
    FloatModel model = random_weights(cc_network(), random);
    Inputs in = inputs(2);
    Freezer freezer;
    FreezeOptions options;
    options.provenance.trainer = "test";
    options.explore = 0.05F;
    Result<Snapshot> snapshot = freezer.freeze(model, in.calibration(), in.held_out(), options);
    ASSERT_TRUE(snapshot) << snapshot.error().message;

    EXPECT_EQ(snapshot->hash.size(), 64U);
    EXPECT_EQ(snapshot->program_hash.size(), 64U);
    EXPECT_EQ(snapshot->provenance.trainer, "test");
    EXPECT_EQ(snapshot->explore, 0.05F);
    EXPECT_EQ(snapshot->fidelity.samples, in.held_out().size());
    EXPECT_LE(snapshot->fidelity.p99_error, options.fidelity_limit);
    EXPECT_GT(snapshot->fidelity.max_error, 0) << "integers are not floats: 0 means that nothing was measured";
    // The latest inputs.
    ASSERT_EQ(snapshot->probes.size(), options.max_probes);
    EXPECT_EQ(snapshot->probes.back(), in.all.back());
    // cc runs in the kernel, so the program is in it.
    EXPECT_NE(snapshot->source_c.find("cc_net_bpf.h"), std::string::npos);
    ASSERT_GT(snapshot->bpf_object.size(), 4U);
    EXPECT_EQ(std::string(snapshot->bpf_object.begin(), snapshot->bpf_object.begin() + 4), "\177ELF");

    Result<const HostProgram*> program = freezer.host_program(model.network);
    ASSERT_TRUE(program) << program.error().message;
    std::vector<uint8_t> params = pack(snapshot->model).value();
    for (const InputCodes& codes : in.held_out()) {
        int32_t out = 0;
        (*program)->run(params.data(), codes.data(), &out);
        ASSERT_EQ(out, interpret(snapshot->model, codes)[0]);
    }

    std::string bytes = serialise(*snapshot).value();
    Result<Snapshot> parsed = parse_snapshot(bytes, "memory");
    ASSERT_TRUE(parsed) << parsed.error().message;
    EXPECT_EQ(parsed->hash, snapshot->hash);
}

// Same network: same program, from the cache.
TEST(Freeze, NewWeightsCompileNothing) {
    std::mt19937_64 random(3);
    Inputs in = inputs(4);
    Freezer freezer;
    FreezeOptions options;
    options.fidelity_limit = 0;
    Result<Snapshot> first =
        freezer.freeze(random_weights(cc_network(), random), in.calibration(), in.held_out(), options);
    ASSERT_TRUE(first) << first.error().message;
    const HostProgram* program = freezer.host_program(cc_network()).value();
    Result<Snapshot> second =
        freezer.freeze(random_weights(cc_network(), random), in.calibration(), in.held_out(), options);
    ASSERT_TRUE(second) << second.error().message;

    EXPECT_EQ(freezer.host_program(cc_network()).value(), program) << "the program was made again";
    EXPECT_EQ(first->program_hash, second->program_hash);
    EXPECT_EQ(first->bpf_object, second->bpf_object);
    EXPECT_NE(first->hash, second->hash);

    Network other = cc_network();
    other.layers[0].activation = Activation::relu;
    Result<const HostProgram*> other_program = freezer.host_program(other);
    ASSERT_TRUE(other_program);
    EXPECT_NE(*other_program, program);
}

TEST(Freeze, IsRepeatable) {
    std::mt19937_64 random(5);
    FloatModel model = random_weights(cc_network(), random);
    Inputs in = inputs(6);
    Freezer one;
    Freezer two;
    EXPECT_EQ(one.freeze(model, in.calibration(), in.held_out(), {}).value().hash,
              two.freeze(model, in.calibration(), in.held_out(), {}).value().hash);
}

TEST(Freeze, ServesThreadsAtOnce) {
    std::mt19937_64 random(7);
    FloatModel model = random_weights(cc_network(), random);
    Inputs in = inputs(8);
    Freezer freezer;
    std::string hashes[2];
    std::vector<std::thread> threads;
    for (std::string& hash : hashes) {
        threads.emplace_back([&] { hash = freezer.freeze(model, in.calibration(), in.held_out(), {}).value().hash; });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_FALSE(hashes[0].empty());
    EXPECT_EQ(hashes[0], hashes[1]);
}

// An app without glue for the kernel (as qp) has a host program only.
TEST(Freeze, AppWithoutKernelSideHasNoBpfObject) {
    std::mt19937_64 random(9);
    Network network = cc_network();
    network.app = "elsewhere";
    Inputs in = inputs(10);
    Freezer freezer;
    Result<Snapshot> snapshot = freezer.freeze(random_weights(network, random), in.calibration(), in.held_out(), {});
    ASSERT_TRUE(snapshot) << snapshot.error().message;
    EXPECT_TRUE(snapshot->bpf_object.empty());
    EXPECT_TRUE(snapshot->source_c.empty());
}

void expect_refusal(const FloatModel& model, const FreezeOptions& options, std::span<const InputCodes> calibration,
                    const std::string& reason) {
    Freezer freezer;
    Result<Snapshot> snapshot = freezer.freeze(model, calibration, {}, options);
    ASSERT_FALSE(snapshot) << "not refused, though: " << reason;
    EXPECT_NE(snapshot.error().message.find(reason), std::string::npos) << snapshot.error().message;
}

TEST(Freeze, RefusesWithReasons) {
    std::mt19937_64 random(11);
    FloatModel good = random_weights(cc_network(), random);
    Inputs in = inputs(12);

    FloatModel bad = good;
    bad.weights[1][7] = std::numeric_limits<float>::quiet_NaN();
    expect_refusal(bad, {}, in.calibration(), "nan");
    bad = good;
    bad.biases[0][3] = std::numeric_limits<float>::infinity();
    expect_refusal(bad, {}, in.calibration(), "inf");
    bad = good;
    bad.weights[2].pop_back();
    expect_refusal(bad, {}, in.calibration(), "15");

    expect_refusal(good, {}, {}, "calibration");
    std::vector<InputCodes> wrong(3, InputCodes(ADP_CC_INPUTS, 1));
    wrong[2].pop_back();
    expect_refusal(good, {}, wrong, "vector 2");

    FreezeOptions strict;
    strict.fidelity_limit = 1e-7;
    expect_refusal(good, strict, in.calibration(), "fidelity");
    FreezeOptions noisy;
    noisy.explore = std::numeric_limits<float>::quiet_NaN();
    expect_refusal(good, noisy, in.calibration(), "explore");

    Network wide = cc_network({{ADP_CC_INPUTS, 200, Activation::tanh}, {200, 1, Activation::identity}});
    FreezeOptions any;
    any.fidelity_limit = 0;
    expect_refusal(random_weights(wide, random), any, in.calibration(), "stack");
}

}  // namespace
}  // namespace adapath
