// What the results come to, from made-up ones.
#include "bench/video/report.h"

#include <gtest/gtest.h>

#include "tests/support/html.h"

namespace adapath::video_bench {
namespace {

Json cell(const std::string& trace, unsigned cameras, const std::string& policy, double f1, double bytes) {
    Json row;
    row["inputs"] = {{"trace", trace},   {"cameras", cameras}, {"seed", 1},
                     {"policy", policy}, {"seconds", 3},       {"kernel", "6.18 <test>"}};
    row["figures"] = {
        {"f1", f1},        {"f1_pooled", f1}, {"f1_least", f1 / 2}, {"bytes", bytes}, {"capacity_bytes", 1e7},
        {"pictures", 100}, {"by_main", 60},   {"by_sub", 30},       {"late", 4},      {"decisions", 1234}};
    if (policy == sub_policy) {
        row["figures"]["by_main"] = 0;
    }
    row["series"] = {{"capacity_bytes", {3e6, 4e6, 3e6}}, {"f1", {1, 0, 0.5}}};
    return row;
}

TEST(VideoReport, LearnedHasToBeAboveEveryRival) {
    std::vector<Json> rows = {cell("a", 4, "learned", 0.9, 5e6), cell("a", 4, "always-sub", 0.7, 1e6),
                              cell("a", 4, "always-main", 0.8, 7e6), cell("b", 4, "learned", 0.7, 5e6),
                              cell("b", 4, "threshold", 0.7, 5e6)};
    std::vector<Comparison> comparisons = compare(rows);
    ASSERT_EQ(comparisons.size(), 2U);
    EXPECT_TRUE(comparisons[0].above_all());
    EXPECT_TRUE(comparisons[0].above_at_its_bytes()) << "the sub stream alone always costs less";
    EXPECT_FALSE(comparisons[1].above_all()) << "as good is not better";
    EXPECT_EQ(lacks(comparisons[0], comparisons), std::vector<std::string>{"threshold"});
    EXPECT_FALSE(comparisons[1].above_at_its_bytes());
    // On the other trace there was a rival more.
    EXPECT_NE(to_table(comparisons).find("above every rival's on 0 of 2 traces"), std::string::npos)
        << to_table(comparisons);
    rows.push_back(cell("a", 4, "threshold", 0.6, 4e6));
    rows.push_back(cell("a", 4, threshold_bytes_policy, 0.65, 4e6));
    for (const char* rival : {"always-sub", "always-main"}) {
        rows.push_back(cell("b", 4, rival, 0.2, 4e6));
    }
    EXPECT_NE(to_table(compare(rows)).find("above every rival's on 1 of 2 traces, on 1 above"), std::string::npos)
        << to_table(compare(rows));
    rows.push_back(cell("a", 4, "switched", 0.95, 4e6));
    EXPECT_TRUE(compare(rows)[0].above_all() && compare(rows)[0].above_at_its_bytes()) << "the same policy is no rival";
    // One byte less than the learned one.
    rows.push_back(cell("a", 4, "fixed-mix", 0.85, 5e6 - 1));
    EXPECT_TRUE(compare(rows)[0].above_all());
    EXPECT_FALSE(compare(rows)[0].above_at_its_bytes());
    // Kept to the rival's bytes it has to be above it, too.
    rows.push_back(cell("a", 4, mix_bytes_policy, 0.85, 5e6 - 2));
    EXPECT_FALSE(compare(rows)[0].above_at_its_bytes());
    rows.push_back(cell("a", 4, mix_bytes_policy, 0.851, 5e6 - 2));
    EXPECT_TRUE(compare(rows)[0].above_at_its_bytes());
    // A threshold that nothing reaches is the sub stream alone.
    Json never = cell("a", 4, "threshold", 0.7, 1e6);
    rows.push_back(never);
    EXPECT_FALSE(compare(rows)[0].above_at_its_bytes());
    never["figures"]["by_main"] = 0;
    rows.push_back(never);
    EXPECT_TRUE(compare(rows)[0].above_at_its_bytes());
}

TEST(VideoReport, TheNewestResultOfACellCounts) {
    const std::vector<Json> rows = {cell("a", 4, "learned", 0.5, 5e6), cell("a", 4, "always-sub", 0.7, 1e6),
                                    cell("a", 8, "learned", 0.1, 1), cell("a", 4, "learned", 0.9, 5e6)};
    const std::vector<Comparison> comparisons = compare(rows);
    ASSERT_EQ(comparisons.size(), 2U);
    EXPECT_EQ(comparisons[0].cells.size(), 2U);
    EXPECT_TRUE(comparisons[0].above_all());
    EXPECT_FALSE(comparisons[1].above_all()) << "nothing to be above";
}

TEST(VideoReport, SeveralSeedsAreJudgedByTheirMeans) {
    const auto with_seed = [](uint64_t seed, const std::string& policy, double f1, double bytes) {
        Json row = cell("a", 4, policy, f1, bytes);
        row["inputs"]["seed"] = seed;
        return row;
    };
    // Behind with one seed, by less than it is ahead with the other; the bytes likewise.
    std::vector<Json> rows = {with_seed(1, "learned", 0.70, 6e6), with_seed(1, "fixed-mix", 0.72, 5e6),
                              with_seed(2, "learned", 0.80, 4e6), with_seed(2, "fixed-mix", 0.76, 5e6),
                              with_seed(1, "threshold", 0.9, 5e6)};
    const std::vector<Comparison> apart = compare(rows);
    ASSERT_EQ(apart.size(), 2U);
    EXPECT_FALSE(apart[0].above_all());
    std::vector<Comparison> means = over_seeds(apart);
    ASSERT_EQ(means.size(), 1U);
    EXPECT_EQ(means[0].seeds, 2U);
    EXPECT_EQ(means[0].of("threshold"), nullptr) << "of one seed only";
    EXPECT_DOUBLE_EQ(means[0].of("learned")->at("figures").at("f1"), 0.75);
    EXPECT_DOUBLE_EQ(means[0].of("learned")->at("figures").at("bytes"), 5e6);
    EXPECT_TRUE(means[0].above_all() && means[0].above_at_its_bytes());
    EXPECT_NE(to_table(apart).find("above every rival's on 1 of 1 traces"), std::string::npos) << to_table(apart);
    EXPECT_EQ(testing::unbalanced(to_html(apart)), "");
    rows.push_back(with_seed(2, "threshold", 0.61, 5e6));
    means = over_seeds(compare(rows));
    EXPECT_FALSE(means[0].above_all()) << "0.755 in the mean";
}

TEST(VideoReport, CellsOfOtherSettingsAreNotCompared) {
    Json wide = cell("a", 4, "learned", 0.9, 5e6);
    wide["inputs"]["load"] = 2.5;
    const std::vector<Json> rows = {cell("a", 4, "fixed-mix", 0.7, 5e6), cell("a", 4, "learned", 0.8, 5e6), wide};
    ASSERT_EQ(compare(rows).size(), 1U);
    EXPECT_EQ(compare(rows)[0].of("fixed-mix"), nullptr) << "the newest cell has another load";
    // A run that found all of its cells there asks for its own.
    const std::vector<Comparison> own = compare(rows, rows[0]["inputs"]);
    ASSERT_EQ(own.size(), 1U);
    ASSERT_NE(own[0].of("learned"), nullptr);
    EXPECT_DOUBLE_EQ(own[0].of("learned")->at("figures").at("f1"), 0.8);
}

TEST(VideoReport, CellsThatFailedAreLeftOut) {
    Json failed = cell("a", 4, "learned", 0, 0);
    failed["error"] = "the relay died";
    failed.erase("figures");
    EXPECT_TRUE(compare({failed}).empty());
    EXPECT_NE(to_html({}).find("</html>"), std::string::npos);
}

TEST(VideoReport, ThePageIsSound) {
    const std::string page =
        to_html(compare({cell("a <b>", 4, "learned", 0.9, 5e6), cell("a <b>", 4, "always-sub", 0.7, 1e6)}));
    EXPECT_EQ(page.find("a <b>"), std::string::npos) << "names are escaped";
    EXPECT_NE(page.find("a &lt;b&gt;"), std::string::npos);
    EXPECT_NE(page.find("class='verdict good'>as asked"), std::string::npos);
    EXPECT_EQ(testing::unbalanced(page), "");
    const std::string behind =
        to_html(compare({cell("a", 4, "learned", 0.6, 5e6), cell("a", 4, "always-sub", 0.7, 1e6)}));
    EXPECT_NE(behind.find("class='verdict wrong'>not as asked"), std::string::npos);
}

}  // namespace
}  // namespace adapath::video_bench
