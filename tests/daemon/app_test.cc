// The apps as the daemon sees them, and which networks they take.
#include <adapath/select.h>
#include <gtest/gtest.h>

#include "models/cc_model.h"
#include "models/select_model.h"
#include "tests/daemon/support.h"
#include "userspace/adapathd/app.h"

namespace adapath {
namespace {

DecodedSample decode(const adp_cc_sample& sample) {
    return find_app("cc")->decode(std::as_bytes(std::span(&sample, 1)));
}

adp_cc_sample example() {
    adp_cc_sample sample{};
    sample.time_us = 123456789;
    sample.flow = 77;
    sample.rate = 2000000;
    sample.interval = {100000, 80000, 40000, 110, 100, 0, 2000000, 1000, 0, 0, 0};
    sample.seq = 5;
    sample.generation = 9;
    sample.slot = 3;
    sample.output = 1000;
    sample.noise = -300;
    sample.action = 700;
    sample.local_port = 40000;
    sample.remote_port = 554;
    for (int i = 0; i < ADP_CC_INPUTS; i++) {
        sample.input[i] = static_cast<adp_u8>(i + 1);
    }
    return sample;
}

TEST(AppTest, DecodesEveryField) {
    const adp_cc_sample sample = example();
    const DecodedSample decoded = decode(sample);
    EXPECT_EQ(decoded.time_us, 123456789U);
    EXPECT_EQ(decoded.flow, 77U);
    EXPECT_EQ(decoded.seq, 5U);
    EXPECT_EQ(decoded.generation, 9U);
    EXPECT_EQ(decoded.slot, 3U);
    EXPECT_TRUE(decoded.made_by_network);
    EXPECT_TRUE(decoded.accountable);
    EXPECT_TRUE(decoded.judged);
    ASSERT_EQ(decoded.input.size(), size_t{ADP_CC_INPUTS});
    EXPECT_EQ(decoded.input[0], 1);
    EXPECT_EQ(decoded.input[29], 30);
    EXPECT_EQ(decoded.output[0], 1000);
    EXPECT_EQ(decoded.noise, -300);
    EXPECT_EQ(decoded.action, 700);
    EXPECT_TRUE(decoded.action_sound);
    EXPECT_DOUBLE_EQ(decoded.reward, adp_cc_reward(&sample.interval, &sample.objective) / 65536.0);
    EXPECT_EQ(decoded.rate, 2000000U);
    EXPECT_EQ(decoded.rtt_us, 80000U);
    EXPECT_EQ(decoded.min_rtt_us, 40000U);
    EXPECT_EQ(decoded.local_port, 40000);
    EXPECT_EQ(decoded.remote_port, 554);
}

TEST(AppTest, ReadsUnalignedRecords) {
    std::vector<std::byte> bytes(sizeof(adp_cc_sample) + 1);
    const adp_cc_sample sample = example();
    memcpy(bytes.data() + 1, &sample, sizeof(sample));
    EXPECT_EQ(find_app("cc")->decode(std::span(bytes).subspan(1)).flow, 77U);
}

TEST(AppTest, TellsWhoDecided) {
    adp_cc_sample sample = example();
    sample.flags = ADP_CC_FALLBACK_MADE;
    EXPECT_FALSE(decode(sample).made_by_network);
    EXPECT_TRUE(decode(sample).accountable);  // CUBIC's rewards are a baseline too
    sample.flags = ADP_CC_FALLBACK_MADE | ADP_CC_START_MADE;
    EXPECT_FALSE(decode(sample).accountable);  // ... once it has found the path's rate
    sample.flags = ADP_CC_START_MADE;
    EXPECT_FALSE(decode(sample).made_by_network);
    EXPECT_FALSE(decode(sample).accountable);
    sample.flags = ADP_CC_APP_LIMITED;
    EXPECT_TRUE(decode(sample).made_by_network);
    EXPECT_FALSE(decode(sample).judged);
}

TEST(AppTest, SeesAnActionThatDoesNotFollow) {
    adp_cc_sample sample = example();
    sample.action = 701;
    EXPECT_FALSE(decode(sample).action_sound);
    sample.output = 100000;
    sample.noise = 0;
    sample.action = ADP_CC_ACTION_MAX_Q16;
    EXPECT_TRUE(decode(sample).action_sound);
}

TEST(AppTest, AcceptsOnlyItsOwnNetworks) {
    const App& app = *find_app("cc");
    EXPECT_TRUE(app.accepts(cc_network()).ok());
    Network other = cc_network();
    other.app = "qp";
    EXPECT_NE(app.accepts(other).error().message.find("'qp'"), std::string::npos);
    other = cc_network();
    other.feature_schema++;
    EXPECT_NE(app.accepts(other).error().message.find("schema"), std::string::npos);
    other = cc_network();
    other.inputs.pop_back();
    EXPECT_NE(app.accepts(other).error().message.find(std::to_string(ADP_CC_INPUTS - 1) + " inputs"),
              std::string::npos);
    other = cc_network();
    other.layers.back().outputs = 2;
    EXPECT_NE(app.accepts(other).error().message.find("2 outputs"), std::string::npos);
    EXPECT_EQ(find_app("nonsense"), nullptr);
}

// ---- select ----

adp_select_sample select_example() {
    adp_select_sample sample{};
    sample.time_us = 123456789;
    sample.camera = 7;
    sample.seq = 5;
    sample.generation = 9;
    sample.slot = 3;
    sample.output[ADP_SELECT_OUT_SUB] = ADP_Q16_ONE / 2;
    sample.output[ADP_SELECT_OUT_GAIN] = ADP_Q16_ONE / 4;
    sample.choice = ADP_SELECT_ONLY_MAIN;
    sample.offer.rate[ADP_SELECT_SUB] = 1 << 16;
    sample.offer.rate[ADP_SELECT_MAIN] = 1 << 18;
    sample.offer.available = ADP_SELECT_BOTH;
    sample.offer.price_q16 = ADP_Q16_ONE / 4;
    sample.before = {1000000, 1 << 19, ADP_SELECT_ONLY_SUB, ADP_Q16_ONE / 2, ADP_Q16_ONE * 3 / 4, 1};
    for (int i = 0; i < ADP_SELECT_INPUTS; i++) {
        sample.input[i] = static_cast<adp_u8>(i + 1);
    }
    return sample;
}

DecodedSample decode(const adp_select_sample& sample) {
    return find_app("select")->decode(std::as_bytes(std::span(&sample, 1)));
}

TEST(SelectAppTest, DecodesEveryField) {
    const adp_select_sample sample = select_example();
    const DecodedSample decoded = decode(sample);
    EXPECT_EQ(decoded.time_us, 123456789U);
    EXPECT_EQ(decoded.flow, 7U);
    EXPECT_EQ(decoded.seq, 5U);
    EXPECT_EQ(decoded.generation, 9U);
    EXPECT_EQ(decoded.slot, 3U);
    EXPECT_TRUE(decoded.made_by_network);
    EXPECT_TRUE(decoded.accountable);
    EXPECT_TRUE(decoded.judged);
    ASSERT_EQ(decoded.input.size(), size_t{ADP_SELECT_INPUTS});
    EXPECT_EQ(decoded.input[23], 24);
    EXPECT_EQ(decoded.output[0], ADP_Q16_ONE / 2);
    EXPECT_EQ(decoded.output[1], ADP_Q16_ONE / 4);
    EXPECT_EQ(decoded.action, static_cast<int32_t>(ADP_SELECT_ONLY_MAIN));
    EXPECT_TRUE(decoded.action_sound);
    EXPECT_DOUBLE_EQ(decoded.reward, 20 * (0.75 - 0.5 * 0.5)) << "half a MiB at half an accuracy each";
    EXPECT_EQ(decoded.rate, 1U << 19);
}

TEST(SelectAppTest, AnActionThatDoesNotFollowIsSeen) {
    adp_select_sample sample = select_example();
    sample.choice = ADP_SELECT_ONLY_SUB;
    EXPECT_FALSE(decode(sample).action_sound);
    sample = select_example();
    sample.flags = ADP_SELECT_EXPLORED;
    EXPECT_FALSE(decode(sample).action_sound) << "it says that it explored, and did not";
    sample.choice = ADP_SELECT_BOTH;
    EXPECT_FALSE(decode(sample).action_sound) << "with a share of 0";
    sample.offer.explore_q16 = ADP_Q16_ONE;
    EXPECT_TRUE(decode(sample).action_sound);
    EXPECT_FALSE(decode(sample).accountable);
}

TEST(SelectAppTest, RoundsWithoutSnapshotOrFeedback) {
    adp_select_sample sample = select_example();
    sample.flags = ADP_SELECT_FALLBACK_MADE;
    EXPECT_FALSE(decode(sample).made_by_network);
    EXPECT_TRUE(decode(sample).accountable);
    sample.flags = ADP_SELECT_LEARNING;
    EXPECT_FALSE(decode(sample).accountable);
    sample.before.known = 0;
    EXPECT_FALSE(decode(sample).judged);
}

TEST(SelectAppTest, TakesItsOwnNetworksOnly) {
    const App& app = *find_app("select");
    EXPECT_TRUE(app.accepts(select_network()).ok());
    EXPECT_FALSE(app.accepts(cc_network()).ok());
    EXPECT_FALSE(find_app("cc")->accepts(select_network()).ok());
    Network other = select_network();
    other.feature_schema++;
    EXPECT_FALSE(app.accepts(other).ok());
    other = select_network();
    other.layers.back().outputs = 1;
    EXPECT_FALSE(app.accepts(other).ok());
}

}  // namespace
}  // namespace adapath
