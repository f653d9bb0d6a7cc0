// The summary's figures and verdicts over recordings whose answers are known by construction.
#include "userspace/demo/summary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/demo/synthetic.h"

namespace adapath::demo {
namespace {

std::vector<std::string> failed(const Recording& recording) {
    std::vector<std::string> names;
    for (const Criterion& criterion : summarise(recording).criteria) {
        if (!criterion.passed) {
            names.push_back(criterion.name);
        }
    }
    return names;
}
using Names = std::vector<std::string>;

SamplePoint decision(uint64_t flow, uint32_t seq, uint64_t time_us, uint32_t generation, float reward = 0) {
    SamplePoint sample;
    sample.flow = flow;
    sample.seq = seq;
    sample.time_us = time_us;
    sample.generation = generation;
    sample.reward = reward;
    return sample;
}

TEST(Percentile, NearestRank) {
    EXPECT_EQ(percentile({}, 50), 0);
    EXPECT_EQ(percentile({7}, 99), 7);
    EXPECT_EQ(percentile({5, 1, 4, 2, 3}, 50), 3);
    EXPECT_EQ(percentile({5, 1, 4, 2, 3}, 0), 1);
    EXPECT_EQ(percentile({5, 1, 4, 2, 3}, 100), 5);
    EXPECT_EQ(percentile({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 95), 10);
    EXPECT_EQ(percentile({1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, 90), 9);
}

TEST(Gaps, SplitBySwitchAndByTheBadSnapshot) {
    Recording r;
    r.samples = {
        // Out of order on purpose: the stream interleaves flows.
        decision(1, 2, 120000, 1),  decision(1, 0, 10000, 1),
        decision(1, 1, 60000, 1),   decision(1, 3, 190000, 2),  // contains the switch at 130 ms: 70 ms
        decision(1, 4, 230000, 2),  decision(1, 5, 430000, 9),  // to the bad snapshot at 300 ms: 200 ms, a switch's gap
        decision(1, 6, 930000, 9),                              // the bad snapshot's own: 500 ms
        decision(1, 7, 1430000, 2),  // with the rollback in it, but stretched by the bad policy: not the switch's
        decision(2, 0, 100000, 1),  decision(2, 3, 125000, 1),  // two decisions are missing: no gap is known
    };
    r.switches = {synthetic_switch(130000, SwitchKind::trained, 1, 2, ""),
                  synthetic_switch(300000, SwitchKind::bad, 2, 9, ""),
                  synthetic_switch(1000000, SwitchKind::rollback, 9, 2, "")};
    r.forced.bad_generation = 9;
    const Gaps gaps = decision_gaps(r);
    EXPECT_EQ(gaps.missing, 2U);
    EXPECT_EQ(gaps.all.count, 7U);
    EXPECT_EQ(gaps.away.count, 3U);
    EXPECT_EQ(gaps.away.max, 60);
    EXPECT_EQ(gaps.at_switch.count, 2U);
    EXPECT_EQ(gaps.at_switch.max, 200);
    EXPECT_EQ(gaps.under_bad.count, 2U);
    EXPECT_EQ(gaps.under_bad.max, 500);
}

TEST(Gaps, RecoveryFromTheBadSnapshotIsNotTheNormalSpread) {
    Recording r;
    r.samples = {decision(1, 0, 1000000, 1), decision(1, 1, 1400000, 1), decision(1, 2, 9000000, 1),
                 decision(1, 3, 9050000, 1)};
    r.forced.bad_generation = 9;
    r.forced.rolled_back_us = 900000;
    const Gaps gaps = decision_gaps(r);
    EXPECT_EQ(gaps.under_bad.count, 2U);  // those that begin within 2 s of the roll back
    EXPECT_EQ(gaps.away.count, 1U);
    EXPECT_EQ(gaps.away.max, 50);
}

TEST(Gaps, AnOutageOfTheUplinkIsNotTheSwitchs) {
    Recording r;
    r.samples = {decision(1, 0, 1'000'000, 1), decision(1, 1, 2'000'000, 2), decision(1, 2, 2'080'000, 2)};
    r.switches = {synthetic_switch(1'500'000, SwitchKind::parameter, 1, 2, "")};
    // Nothing from 0.95 to 1.9 s; the line before the first is unknown, and that of 2 s had room.
    r.link = {{950'000, 0, 0, 0, 0}, {1'500'000, 0, 0, 9, 0}, {1'900'000, 0, 0, 9, 0}, {2'000'000, 90, 0, 9, 0}};
    Gaps gaps = decision_gaps(r);
    EXPECT_EQ(gaps.all.max, 1000);
    EXPECT_EQ(gaps.at_switch.max, 100);
    EXPECT_EQ(gaps.away.max, 80);
    // A link that had room all the time, and delivered nothing: that would be ours.
    for (LinkPoint& point : r.link) {
        point.capacity_bytes = 90;
    }
    gaps = decision_gaps(r);
    EXPECT_EQ(gaps.at_switch.max, 1000);
}

TEST(Gaps, GenerationChangeCountsWhereTheEventIsMissing) {
    Recording r;
    r.samples = {decision(1, 0, 10000, 1), decision(1, 1, 60000, 2)};
    EXPECT_EQ(decision_gaps(r).at_switch.count, 1U);
    EXPECT_EQ(decision_gaps(r).away.count, 0U);
}

TEST(Gaps, ARecordSeenTwiceIsNeither) {
    Recording r;
    r.samples = {decision(1, 5, 10000, 1), decision(1, 5, 20000, 1)};  // a record seen twice is no loss and no gap
    EXPECT_EQ(decision_gaps(r).missing, 0U);
    EXPECT_EQ(decision_gaps(r).all.count, 0U);
}

TEST(RewardByGeneration, CreditsTheDecisionBeforeTheInterval) {
    Recording r;
    r.samples = {decision(1, 0, 1, 0, 50), decision(1, 1, 2, 1, 60), decision(1, 2, 3, 1, 2),
                 decision(1, 3, 4, 2, 4),  decision(1, 4, 5, 2, -1), decision(1, 6, 7, 2, 99)};
    const auto list = reward_by_generation(r);
    ASSERT_EQ(list.size(), 2U);
    EXPECT_EQ(list[0].generation, 1U);
    EXPECT_EQ(list[0].decisions, 2U);
    EXPECT_DOUBLE_EQ(list[0].mean, 3);  // of 2 and 4; generation 0 decided nothing
    EXPECT_EQ(list[1].generation, 2U);
    EXPECT_EQ(list[1].decisions, 1U);  // what followed seq 4 is unknown
    EXPECT_DOUBLE_EQ(list[1].mean, -1);
}

TEST(Summary, LinkCountsOnlyWhileTheVideoRuns) {
    Recording r;
    r.start_us = 1000000;
    r.end_us = 3000000;
    r.link = {{900000, 7, 7, 0, 7}, {2000000, 100, 80, 0, 1}, {3000000, 100, 90, 0, 2}, {3500000, 7, 7, 0, 7}};
    const Summary s = summarise(r);
    EXPECT_EQ(s.capacity_bytes, 200U);
    EXPECT_EQ(s.delivered_bytes, 170U);
    EXPECT_EQ(s.drops, 3U);
}

TEST(Summary, RttIsWeightedByTime) {
    Recording r;
    for (uint32_t i = 0; i < 90; i++) {
        r.samples.push_back(decision(1, i, i, 1));
        r.samples.back().rtt_us = 10000;
        r.samples.back().interval_us = 10000;
    }
    for (uint32_t i = 90; i < 100; i++) {
        r.samples.push_back(decision(1, i, i, 1));
        r.samples.back().rtt_us = 100000;
        r.samples.back().interval_us = 100000;
    }
    // 0.9 s at 10 ms and 1.0 s at 100 ms.
    const Summary s = summarise(r);
    EXPECT_EQ(s.rtt_p50_ms, 100);
    EXPECT_EQ(s.rtt_p95_ms, 100);
}

TEST(Summary, FrameDelayAwayFromTheBadSnapshot) {
    const Summary s = summarise(synthetic_recording());
    EXPECT_GT(s.frame_delay_max_ms, 500);
    EXPECT_LT(s.frame_delay_p95_without_bad_ms, 120);
    EXPECT_GT(s.frame_delay_p50_ms, 40);
}

TEST(Summary, CountsSwitchesBetweenSnapshots) {
    const Recording r = synthetic_recording();
    const Summary s = summarise(r);
    EXPECT_EQ(s.switches_parameter + s.switches_network + 1, r.switches.size());  // all but the first
    EXPECT_EQ(s.switches_network, 1U);
    EXPECT_EQ(s.switches_trained, 1U);
    EXPECT_EQ(s.rollbacks, 1U);
}

TEST(Criteria, AllMet) {
    const Recording r = synthetic_recording();
    EXPECT_EQ(failed(r), Names{});
    EXPECT_TRUE(summarise(r).ok);
}

TEST(Criteria, EachCanFail) {
    const auto broken = [](auto&& breakage) {
        Recording r = synthetic_recording();
        breakage(r);
        EXPECT_FALSE(summarise(r).ok);
        return failed(r);
    };
    EXPECT_EQ(broken([](Recording& r) { r.video.frames_lost = 1; }), Names{"frames_lost"});
    EXPECT_EQ(broken([](Recording& r) { r.video.frames_decoded--; }), Names{"frames_lost"});
    EXPECT_EQ(broken([](Recording& r) { r.video = {true, 0, 0, 0, 0, 0, 0, 0, 0}; }), Names{"frames_lost"});
    EXPECT_EQ(broken([](Recording& r) { r.counters.samples_lost = 1; }), Names{"decisions_lost"});
    EXPECT_EQ(broken([](Recording& r) { r.counters.sequence_gaps = 1; }), Names{"decisions_lost"});
    EXPECT_EQ(broken([](Recording& r) { r.samples.erase(r.samples.begin() + 20); }), Names{"decisions_lost"});
    EXPECT_EQ(broken([](Recording& r) { r.verification.unexplained = 1; }), Names{"decisions_unexplained"});
    EXPECT_EQ(broken([](Recording& r) { r.counters.decisions_unexplained = 1; }), Names{"decisions_unexplained"});
    EXPECT_EQ(broken([](Recording& r) { r.verification = {false, 0, 0, "no log"}; }),
              (Names{"decisions_unexplained", "decisions_logged"}));
    EXPECT_EQ(broken([](Recording& r) { r.verification.decisions--; }), Names{"decisions_logged"});
    EXPECT_EQ(broken([](Recording& r) { r.forced.burst_done = 99; }), Names{"forced_parameter_switches"});
    EXPECT_EQ(broken([](Recording& r) { r.forced.network_generation = 0; }), Names{"network_switch"});
    EXPECT_EQ(broken([](Recording& r) { r.switches[1].kind = SwitchKind::parameter; }), Names{"trained_switch"});
    EXPECT_EQ(broken([](Recording& r) { r.counters.switches_parameter++; }), Names{"switches_seen"});
    EXPECT_EQ(broken([](Recording& r) { r.forced.rolled_back_us = 0; }), Names{"bad_snapshot_rolled_back"});
    EXPECT_EQ(broken([](Recording& r) { r.errors.push_back("adapathd died"); }), Names{"processes"});
    EXPECT_EQ(broken([](Recording& r) { r.interrupted = true; }), Names{"complete"});
    EXPECT_EQ(broken([](Recording& r) { r.forced.failures.push_back("freeze failed"); }), Names{"scenario"});
    EXPECT_EQ(broken([](Recording& r) {
                  // All decisions of flow 1 after the first switch come a second late.
                  const uint64_t at = r.switches[1].time_us;
                  for (SamplePoint& sample : r.samples) {
                      if (sample.flow == 1 && sample.time_us > at) {
                          sample.time_us += 1000000;
                      }
                  }
              }),
              Names{"switch_gap"});
}

TEST(Criteria, AStreamThatLostSamplesIsJudgedByTheDaemonsCount) {
    Recording r = synthetic_recording();
    r.samples.erase(r.samples.begin() + 20);
    r.samples_dropped = 1;
    EXPECT_EQ(failed(r), Names{});
}

TEST(Json, HasTheKeys) {
    const Recording r = synthetic_recording();
    const auto json = nlohmann::json::parse(to_json(r, summarise(r)));
    for (const char* key :
         {"frames_sent", "frames_lost", "decisions", "decisions_unexplained", "samples_lost", "switches_parameter",
          "switches_network", "switches_trained", "rollbacks", "delivered_bytes", "capacity_bytes", "rtt_p95_ms",
          "frame_delay_p95_ms", "max_decision_gap_ms", "max_switch_gap_ms", "ok"}) {
        EXPECT_TRUE(json.contains(key)) << key;
        EXPECT_FALSE(json[key].is_null()) << key;
    }
    EXPECT_EQ(json["ok"], true);
    EXPECT_TRUE(json["failed"].empty());
    EXPECT_EQ(json["frames_sent"], 5960);
    EXPECT_EQ(json["switches"].size(), r.switches.size());
}

TEST(Json, WithoutVideoOrVerificationSaysNullNotZero) {
    Recording r = synthetic_recording();
    r.video = {};
    r.link.clear();
    r.verification = {};
    const auto json = nlohmann::json::parse(to_json(r, summarise(r)));
    EXPECT_TRUE(json["frames_lost"].is_null());
    EXPECT_TRUE(json["capacity_bytes"].is_null());
    EXPECT_TRUE(json["decisions_unexplained"].is_null());
    EXPECT_EQ(json["ok"], false);
}

TEST(Json, SurvivesTextThatIsNoUtf8) {
    Recording r = synthetic_recording();
    r.errors.push_back("died: \xff\xfe");
    EXPECT_TRUE(nlohmann::json::accept(to_json(r, summarise(r))));
}

TEST(Table, SaysWhatFailed) {
    Recording r = synthetic_recording();
    EXPECT_EQ(to_table(r, summarise(r), false).find("FAIL"), std::string::npos);
    r.video.frames_lost = 2;
    const std::string table = to_table(r, summarise(r), false);
    EXPECT_NE(table.find("FAIL frames_lost: 5960 frames sent, 5960 decoded, 2 lost"), std::string::npos) << table;
}

}  // namespace
}  // namespace adapath::demo
