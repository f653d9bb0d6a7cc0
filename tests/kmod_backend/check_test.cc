// The check of an installed snapshot: every program that the kernel offers is run on every input, and one wrong bit in
// any of them is found and named.
#include <adapath/netlink.h>
#include <gtest/gtest.h>

#include <random>
#include <set>

#include "tests/codegen/random_models.h"
#include "userspace/kmod_backend/program_check.h"

namespace adapath::kmod {
namespace {

class KmodCheck : public ::testing::Test {
protected:
    void SetUp() override {
        std::mt19937_64 random(1);
        const Network network = testing_support::cc_network();
        checks_ = testing_support::uniform_codes(network.input_count(), 20, random);
        Result<QuantModel> model = quantise(testing_support::random_weights(network, random), checks_);
        ASSERT_TRUE(model.ok()) << model.error().message;
        model_ = std::move(*model);
    }
    // As an honest kernel would, but for what `spoil` does to an implementation's outputs.
    Status check(const std::function<void(uint32_t implementation, std::vector<int32_t>& outputs)>& spoil) {
        const uint32_t others[] = {ADP_RUN_GENERIC, ADP_RUN_GENERATED, ADP_RUN_AVX2};
        return check_programs(
            model_, checks_, ADP_RUN_AVX2, others,
            [&](uint32_t implementation, std::span<const InputCodes> inputs) -> Result<std::vector<int32_t>> {
                ran_.insert(implementation);
                EXPECT_EQ(inputs.size(), checks_.size());
                std::vector<int32_t> outputs;
                for (const InputCodes& codes : inputs) outputs.push_back(interpret(model_, codes)[0]);
                spoil(implementation, outputs);
                return outputs;
            });
    }

    QuantModel model_;
    std::vector<InputCodes> checks_;
    std::set<uint32_t> ran_;
};

TEST_F(KmodCheck, ASoundKernelPassesAndEveryProgramWasRun) {
    const Status status = check([](uint32_t, auto&) {});
    EXPECT_TRUE(status.ok()) << status.error().message;
    EXPECT_EQ(ran_, (std::set<uint32_t>{ADP_RUN_CHOSEN, ADP_RUN_GENERIC, ADP_RUN_GENERATED, ADP_RUN_AVX2}));
}

TEST_F(KmodCheck, OneWrongBitInAnyProgramIsFoundAndNamed) {
    const std::pair<uint32_t, const char*> cases[] = {{ADP_RUN_CHOSEN, "avx2"},
                                                      {ADP_RUN_GENERIC, "generic"},
                                                      {ADP_RUN_GENERATED, "generated"},
                                                      {ADP_RUN_AVX2, "avx2"}};
    for (const auto& [bad, name] : cases) {
        for (const size_t at : {size_t{0}, checks_.size() - 1}) {
            const Status status = check([&, bad = bad](uint32_t implementation, std::vector<int32_t>& outputs) {
                if (implementation == bad) outputs[at] ^= 1;
            });
            ASSERT_FALSE(status.ok()) << name << " at " << at;
            EXPECT_NE(status.error().message.find(name), std::string::npos) << status.error().message;
        }
    }
}

TEST_F(KmodCheck, TooFewOutputsAreNotTakenForRightOnes) {
    EXPECT_FALSE(check([](uint32_t implementation, std::vector<int32_t>& outputs) {
                     if (implementation == ADP_RUN_GENERIC) outputs.pop_back();
                 }).ok());
    EXPECT_FALSE(check([](uint32_t, std::vector<int32_t>& outputs) { outputs.clear(); }).ok());
}

}  // namespace
}  // namespace adapath::kmod
