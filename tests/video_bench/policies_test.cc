// The selector's competitors decide what they are called for, as the integers that go into the kernel.
#include "bench/video/policies.h"

#include <adapath/select.h>
#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace adapath::video_bench {
namespace {

class Policies : public ::testing::Test {
protected:
    // What is chosen of two live renditions at a price of nothing.
    uint32_t choice(const QuantModel& model, const InputCodes& input) {
        const std::vector<int32_t> output = interpret(model, input);
        adp_select_offer offer = {};
        offer.rate[ADP_SELECT_SUB] = 40'000;
        offer.rate[ADP_SELECT_MAIN] = 400'000;
        offer.available = ADP_SELECT_BOTH;
        // An uplink that drops: sub beside main would be an insurance for nothing, which these policies are not to
        // take.
        offer.main_late_q16 = random_() % 2 == 0 ? 0 : ADP_Q16_ONE / 4;
        adp_u32 flags = 0;
        return adp_select_choose(output.data(), &offer, &flags);
    }
    QuantModel model_of(const FloatModel& model) {
        Result<std::string> bytes = frozen(freezer_, model, "test");
        EXPECT_TRUE(bytes.ok()) << bytes.error().message;
        Result<Snapshot> snapshot = parse_snapshot(*bytes, "test");
        EXPECT_TRUE(snapshot.ok());
        return snapshot->model;
    }
    InputCodes random_codes() {
        InputCodes codes(ADP_SELECT_INPUTS);
        for (uint8_t& code : codes) code = static_cast<uint8_t>(random_());
        return codes;
    }
    static uint8_t code_of(double bytes) {
        return adp_code_q16(adp_log2_q16(static_cast<uint64_t>(bytes)) - (10 << 16), ADP_SELECT_BYTES_UNIT,
                            ADP_SELECT_BYTES_ZERO);
    }

    Freezer freezer_;
    std::mt19937_64 random_{1};
};

TEST_F(Policies, ConstantOnesNeverChange) {
    const QuantModel sub = model_of(constant_select(1, 0));
    const QuantModel main = model_of(constant_select(0, 1));
    for (int i = 0; i < 1000; i++) {
        const InputCodes codes = random_codes();
        ASSERT_EQ(choice(sub, codes), ADP_SELECT_ONLY_SUB);
        ASSERT_EQ(choice(main, codes), ADP_SELECT_ONLY_MAIN);
    }
}

TEST_F(Policies, TheThresholdIsWhereItWasAskedFor) {
    for (const double bytes : {100.0, 700.0, 2048.0, 9000.0}) {
        const QuantModel model = model_of(threshold_select(bytes));
        for (int i = 0; i < 300; i++) {
            InputCodes codes = random_codes();
            uint8_t& code = codes[size_t{ADP_SELECT_MAIN} * size_t{ADP_SELECT_FEATURES} + size_t{ADP_SELECT_PICTURE}];
            // A code is 4 % of the bytes: two of them are well on either side.
            code = code_of(bytes * 1.1);
            ASSERT_EQ(choice(model, codes), ADP_SELECT_ONLY_MAIN) << bytes;
            code = code_of(bytes / 1.1);
            ASSERT_EQ(choice(model, codes), ADP_SELECT_ONLY_SUB) << bytes;
            code = 255;
            ASSERT_EQ(choice(model, codes), ADP_SELECT_ONLY_MAIN);
            code = 0;
            ASSERT_EQ(choice(model, codes), ADP_SELECT_ONLY_SUB);
        }
    }
}

TEST_F(Policies, SamePolicySameSnapshot) {
    EXPECT_EQ(*frozen(freezer_, threshold_select(1000), "x"), *frozen(freezer_, threshold_select(1000), "x"));
}

}  // namespace
}  // namespace adapath::video_bench
