// From lines to medians, ratios, verdicts and the page.
#include "userspace/arena/analysis.h"

#include <gtest/gtest.h>

#include "tests/arena/synthetic.h"
#include "tests/support/html.h"
#include "userspace/arena/machine.h"
#include "userspace/arena/report.h"
#include "userspace/arena/statistics.h"

namespace adapath::arena {
namespace {

using testing::unbalanced;

const Ratio* ratio(const Analysis& analysis, const std::string& policy, const std::string& against) {
    for (const Ratio& one : analysis.ratios) {
        if (one.policy == policy && one.against == against) {
            return &one;
        }
    }
    return nullptr;
}

const Verdict* verdict(const Analysis& analysis, const std::string& name) {
    for (const Verdict& one : analysis.verdicts) {
        if (one.policy == "adapath" && one.name == name) {
            return &one;
        }
    }
    return nullptr;
}

TEST(Median, OfNoneOfOneOfMany) {
    EXPECT_FALSE(median({}).has_value());
    EXPECT_EQ(median({3}), 3);
    EXPECT_EQ(median({9, 1, 5}), 5);
    EXPECT_EQ(median({4, 1, 2, 9}), 3);
}

TEST(Jain, IsOneForAlikeAndOneOverNForOneThatHasAll) {
    EXPECT_DOUBLE_EQ(jain_index({7, 7}), 1);
    EXPECT_DOUBLE_EQ(jain_index({7, 0}), 0.5);
    EXPECT_DOUBLE_EQ(jain_index({1, 3}), 0.8);
    EXPECT_DOUBLE_EQ(jain_index({}), 0);
    EXPECT_DOUBLE_EQ(jain_index({0, 0}), 0);
}

TEST(BusyShare, IsOfTheTimeThatPassed) {
    const MachineTime before{.all_s = 100, .spent_s = 40};
    EXPECT_DOUBLE_EQ(busy_share(before, {.all_s = 104, .spent_s = 41}), 0.25);
    EXPECT_DOUBLE_EQ(busy_share(before, before), 0);
    const MachineTime now = machine_time();
    EXPECT_GT(now.spent_s, 0);
    EXPECT_GE(now.all_s, now.spent_s);
}

TEST(QuantileSince, IsOfWhatWasCountedMeanwhile) {
    const std::map<uint64_t, uint64_t> before = {{10, 100}, {1000, 1}};
    EXPECT_EQ(quantile_since({}, before, 0.5), 10U);
    EXPECT_EQ(quantile_since(before, {{10, 100}, {20, 1}, {30, 8}, {1000, 2}}, 0.5), 30U);
    EXPECT_EQ(quantile_since(before, {{10, 100}, {20, 1}, {30, 8}, {1000, 2}}, 0.99), 1000U);
    EXPECT_EQ(quantile_since(before, before, 0.5), 0U);
    EXPECT_EQ(quantile_since({}, {}, 0.5), 0U);
}

TEST(Analysis, RatiosAreMediansOverTheTracesOfRatiosWithinThem) {
    // Delay ratios 0.5, 2 and 0.4: their median is 0.5. The ratio of the medians, 100 / 100, would be another.
    const std::vector<Json> lines = {
        bulk_line("a", 1, "bbr", 900, 100), bulk_line("a", 1, "adapath", 900, 50),
        bulk_line("b", 1, "bbr", 800, 50),  bulk_line("b", 1, "adapath", 400, 100),
        bulk_line("c", 1, "bbr", 500, 500), bulk_line("c", 1, "adapath", 550, 200),
    };
    const Analysis analysis = analyse(lines);
    const Ratio* found = ratio(analysis, "adapath", "bbr");
    ASSERT_NE(found, nullptr);
    EXPECT_EQ(found->traces, 3U);
    EXPECT_DOUBLE_EQ(found->p95, 0.5);
    EXPECT_DOUBLE_EQ(found->delivered, 1.0);
    EXPECT_EQ(ratio(analysis, "adapath", "cubic"), nullptr);
    ASSERT_EQ(analysis.medians.size(), 2U);
    EXPECT_DOUBLE_EQ(analysis.medians[0].p95_ms, 100);  // bbr
    EXPECT_DOUBLE_EQ(analysis.medians[0].share, 0.8);
}

TEST(Analysis, ATraceWithManySeedsCountsAsOne) {
    std::vector<Json> lines = {bulk_line("b", 1, "bbr", 100, 100), bulk_line("b", 1, "adapath", 100, 90)};
    for (uint64_t seed = 1; seed <= 5; seed++) {
        lines.push_back(bulk_line("a", seed, "bbr", 100, 100));
        lines.push_back(bulk_line("a", seed, "adapath", 100, 10));
    }
    const Analysis analysis = analyse(lines);
    EXPECT_DOUBLE_EQ(ratio(analysis, "adapath", "bbr")->p95, 0.5);  // the mean of 0.1 and 0.9
    EXPECT_EQ(ratio(analysis, "adapath", "bbr")->traces, 2U);
}

TEST(Analysis, TheNewestLineOfACellCountsAndOtherSettingsAreLeftOut) {
    CellInputs trained = inputs_of(Traffic::bulk, "a", 1, "adapath");
    trained.policy_parts = {{"adapath", {{"policy.model", "newer"}}}};
    CellInputs shallow = inputs_of(Traffic::bulk, "a", 1, "cubic");
    shallow.link.queue_ms = 100;
    const Json figures = bulk_line("a", 1, "adapath", 950, 30)["figures"];
    const std::vector<Json> lines = {bulk_line("a", 1, "adapath", 500, 300), line_of(shallow, figures),
                                     bulk_line("a", 1, "bbr", 950, 60), line_of(trained, figures, "later run")};
    const Analysis analysis = analyse(lines);
    EXPECT_EQ(analysis.bulk.size(), 2U);
    EXPECT_EQ(analysis.left_out, 2U);
    EXPECT_DOUBLE_EQ(ratio(analysis, "adapath", "bbr")->p95, 0.5);
    EXPECT_FALSE(analysis.side_by_side);
}

TEST(Analysis, VerdictsSayMetMissedAndNotMeasured) {
    const std::vector<Json> lines = {bulk_line("a", 1, "bbr", 900, 100), bulk_line("a", 1, "cubic", 1000, 1000),
                                     bulk_line("a", 1, "adapath", 900, 71), fairness_line("adapath+adapath", 0.95),
                                     fairness_line("adapath+cubic", 0.7)};
    const Analysis analysis = analyse(lines);
    EXPECT_TRUE(verdict(analysis, "delivered bytes against bbr")->met);  // exactly as many
    EXPECT_FALSE(verdict(analysis, "p95 delay against bbr")->met);       // 0.71
    EXPECT_TRUE(verdict(analysis, "delivered bytes against cubic")->met);
    EXPECT_TRUE(verdict(analysis, "p95 delay against cubic")->met);
    EXPECT_FALSE(verdict(analysis, "p95 delay against userspace")->value.has_value());
    EXPECT_FALSE(verdict(analysis, "p95 delay against userspace")->met);
    EXPECT_TRUE(verdict(analysis, "Jain's index, adapath with itself")->met);
    EXPECT_FALSE(verdict(analysis, "Jain's index, adapath with cubic")->met);
    EXPECT_TRUE(analysis.side_by_side);
    const Json summary = summary_json(analysis);
    EXPECT_EQ(summary["verdicts"].size(), analysis.verdicts.size());
}

TEST(Analysis, SaysWhenLearningPaysAndWhatItForgets) {
    constexpr size_t phase_s = 120;
    std::vector<double> frozen;
    std::vector<double> learning;
    for (size_t second = 0; second < 3 * phase_s; second++) {
        const bool changed = second >= phase_s && second < 2 * phase_s;
        frozen.push_back(changed ? 1 : 4);
        // Below at first, a short rise that does not last, and above from the fiftieth second on.
        const size_t since = second - phase_s;
        learning.push_back(!changed ? 4 : since < 50 ? (since > 10 && since < 15 ? 1.5 : 0.5) : 2);
    }
    const Analysis analysis =
        analyse({regimes_line("adapath", phase_s, frozen), regimes_line("adapath-online", phase_s, learning)});
    ASSERT_EQ(analysis.regimes.size(), 2U);
    const RegimePoint& online = analysis.regimes[1];
    EXPECT_DOUBLE_EQ(online.phases[1].last, 2);
    EXPECT_DOUBLE_EQ(analysis.regimes[0].phases[1].first, 1);
    ASSERT_TRUE(online.above_after_s);
    // Half a minute whose mean is above begins before the fiftieth second; it can't before the thirtieth.
    EXPECT_GT(*online.above_after_s, 25);
    EXPECT_LE(*online.above_after_s, 50);
    const auto verdict = [](const Analysis& of, const std::string& name) {
        for (const Verdict& v : of.verdicts) {
            if (v.policy == "adapath-online" && v.name.starts_with(name)) {
                return v;
            }
        }
        ADD_FAILURE() << name;
        return Verdict{};
    };
    EXPECT_TRUE(verdict(analysis, "link changed: reward").met);
    EXPECT_DOUBLE_EQ(*verdict(analysis, "link changed: reward").value, 1);
    EXPECT_TRUE(verdict(analysis, "link changed back").met);

    // One that never gets there, and has forgotten a tenth.
    for (size_t second = phase_s; second < 3 * phase_s; second++) {
        learning[second] = second < 2 * phase_s ? 0.9 : 3.6;
    }
    const Analysis worse =
        analyse({regimes_line("adapath", phase_s, frozen), regimes_line("adapath-online", phase_s, learning)});
    EXPECT_FALSE(worse.regimes[1].above_after_s);
    EXPECT_FALSE(verdict(worse, "link changed: reward").met);
    EXPECT_FALSE(verdict(worse, "link changed back").met);
    EXPECT_NEAR(*verdict(worse, "link changed back").value, 0.1, 1e-9);
}

TEST(Analysis, TheTimeInWhichTheDaemonsStoodStillIsJudgedByItself) {
    const std::vector<Json> lines = {stopped_line("a", "userspace", 900, 100, 400, 200),
                                     stopped_line("a", "adapath", 900, 100, 440, 100),
                                     bulk_line("b", 1, "adapath", 900, 100)};
    // The newest line's settings count, and in its cell nobody stood still.
    EXPECT_TRUE(analyse(lines).stopped.empty());
    const Analysis analysis = analyse({lines[0], lines[1]});
    ASSERT_EQ(analysis.stopped.size(), 2U);
    EXPECT_DOUBLE_EQ(analysis.stopped[1].share, 0.88);
    ASSERT_EQ(analysis.stopped_ratios.size(), 1U);
    EXPECT_DOUBLE_EQ(analysis.stopped_ratios[0].delivered, 1.1);
    EXPECT_DOUBLE_EQ(analysis.stopped_ratios[0].p95, 0.5);
    EXPECT_DOUBLE_EQ(ratio(analysis, "adapath", "userspace")->delivered, 1.0);
    EXPECT_TRUE(verdict(analysis, "daemon stopped: delivered bytes against userspace")->met);
    EXPECT_TRUE(verdict(analysis, "daemon stopped: p95 delay against userspace")->met);
    EXPECT_FALSE(verdict(analysis, "delivered bytes against userspace")->met);  // as many is not more
    EXPECT_EQ(verdict(analyse({bulk_line("b", 1, "adapath", 900, 100)}), "daemon stopped: p95 delay against userspace"),
              nullptr);
}

TEST(Analysis, RoundsOfACrowdAreComparedWithinThem) {
    const Analysis analysis = analyse({crowd_line(1, "adapath", 900, 500), crowd_line(1, "userspace", 900, 1000),
                                       crowd_line(2, "adapath", 800, 400), crowd_line(2, "userspace", 1000, 1600)});
    ASSERT_EQ(analysis.crowd.size(), 4U);
    EXPECT_TRUE(analysis.bulk.empty());
    EXPECT_EQ(analysis.crowd[0].flows, 100);
    EXPECT_EQ(analysis.crowd[0].retransmits, 12);
    ASSERT_EQ(analysis.crowd_ratios.size(), 1U);
    EXPECT_DOUBLE_EQ(*analysis.crowd_ratios[0].cpu_per_byte, 0.375);  // the mean of 0.5 and 0.25
    EXPECT_DOUBLE_EQ(analysis.crowd_ratios[0].delivered, 0.9);
    const Verdict* cpu = verdict(analysis, "crowd: CPU per delivered byte against userspace");
    ASSERT_NE(cpu, nullptr);
    EXPECT_TRUE(cpu->met);
    EXPECT_EQ(summary_json(analysis)["crowd"].size(), 4U);
    // Other numbers of flows are another thing.
    CellInputs more = inputs_of(Traffic::crowd, "constant", 1, "adapath");
    more.crowd_flows = 1000;
    const Analysis newer =
        analyse({crowd_line(1, "userspace", 900, 1000), line_of(more, crowd_line(1, "adapath", 900, 500)["figures"])});
    EXPECT_EQ(newer.crowd.size(), 1U);
    EXPECT_TRUE(newer.crowd_ratios.empty());
}

TEST(Report, IsWellFormedAndSelfContained) {
    std::vector<Json> lines;
    for (const char* policy : {"cubic", "bbr", "adapath", "some-other"}) {
        lines.push_back(bulk_line("a <trace> & more", 1, policy, 900, 100));
        lines.push_back(bulk_line("a <trace> & more", 2, policy, 800, 90));
        Json& series = lines.back()["series"];
        series = {{"to_s", {1.0, 2.0}},          {"capacity_bytes", {500, 500}},  {"delivered_bytes", {400, 400}},
                  {"delay_p50_ms", {20.0, 0.0}}, {"delay_p95_ms", {90.0, 0.0}},   {"queue_bytes", {0, 0}},
                  {"queue_drops", {0, 0}},       {"received_bytes", {{390, 390}}}};
    }
    lines.push_back(fairness_line("adapath+cubic", 0.9));
    lines.push_back(regimes_line("adapath", 20, std::vector<double>(60, 1.0)));
    lines.push_back(regimes_line("adapath-online", 20, std::vector<double>(60, 2.0)));
    lines.push_back(crowd_line(1, "adapath", 900, 500));
    lines.push_back(crowd_line(1, "userspace", 900, 1000));
    const std::string page = to_html(analyse(lines));
    EXPECT_EQ(unbalanced(page), "");
    EXPECT_EQ(page.find("a <trace>"), std::string::npos);
    EXPECT_NE(page.find("a &lt;trace&gt; &amp; more"), std::string::npos);
    EXPECT_EQ(page.find(">nan"), std::string::npos);
    EXPECT_EQ(page.find("inf "), std::string::npos);
    EXPECT_EQ(page.find("src="), std::string::npos);
    EXPECT_EQ(page.find("href="), std::string::npos);
    EXPECT_NE(page.find("some-other"), std::string::npos);
    EXPECT_FALSE(to_table(analyse(lines)).empty());
}

TEST(Report, OfFewResultsIsAPageToo) {
    EXPECT_EQ(unbalanced(to_html(analyse({}))), "");
    const std::vector<Json> lines = {fairness_line("adapath+adapath", 0.95)};
    EXPECT_EQ(unbalanced(to_html(analyse(lines))), "");
    const std::vector<Json> crowd = {crowd_line(1, "userspace", 900, 1000)};
    EXPECT_EQ(unbalanced(to_html(analyse(crowd))), "");
    const std::vector<Json> stopped_lines = {stopped_line("a <trace>", "adapath", 900, 100, 400, 50),
                                             stopped_line("a <trace>", "userspace", 900, 100, 400, 99)};
    const Analysis stopped = analyse(stopped_lines);
    const std::string page = to_html(stopped);
    EXPECT_EQ(unbalanced(page), "");
    EXPECT_NE(page.find("While the daemons stood still"), std::string::npos);
    EXPECT_EQ(page.find("a <trace>"), std::string::npos);
    EXPECT_NE(to_table(stopped).find("daemon stopped"), std::string::npos);
}

// Their names are moved apart on the chart, by sums that are rounded: once that never ended.
TEST(Report, PoliciesAtTheSamePlaceAreNamedWhereverThatIs) {
    for (uint64_t delivered = 500; delivered < 1000; delivered++) {
        const std::vector<Json> lines = {bulk_line("lte", 1, "adapath", delivered, 60),
                                         bulk_line("lte", 1, "userspace", delivered, 60),
                                         bulk_line("lte", 1, "bbr", delivered, 60)};
        ASSERT_NE(to_html(analyse(lines)).find("userspace</text>"), std::string::npos) << delivered;
    }
}

}  // namespace
}  // namespace adapath::arena
