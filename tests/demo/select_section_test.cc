// The report's part about the app select, from a made-up run, and what is held against it.
#include "userspace/demo/select_section.h"

#include <adapath/select.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/demo/synthetic.h"
#include "tests/support/html.h"
#include "userspace/demo/qp_act.h"
#include "userspace/demo/report.h"
#include "userspace/demo/summary.h"

namespace adapath::demo {
namespace {

constexpr uint64_t kStartUs = 70'000'000;

SelectRecording selected() {
    SelectRecording r;
    r.present = true;
    r.cameras = 2;
    r.start_us = kStartUs;
    r.end_us = kStartUs + 20'000'000;
    for (uint32_t second = 0; second < 20; second++) {
        for (uint32_t camera = 0; camera < 2; camera++) {
            const uint32_t choice = (second + camera) % 4 == 0 ? ADP_SELECT_ONLY_MAIN : ADP_SELECT_ONLY_SUB;
            r.decisions.push_back({kStartUs + second * 1'000'000, camera, choice, 0, 1, 0.5 * second});
        }
        r.link.push_back({kStartUs + second * 1'000'000, 150'000, 120'000, 0, 0});
    }
    r.chunks.push_back({kStartUs, 0, ADP_SELECT_SUB, 0.75});
    r.chunks.push_back({kStartUs, 0, ADP_SELECT_MAIN, 0.75});
    r.pictures.push_back({"demo <0>", std::string("\x89PNG\x00\xff", 6)});
    r.pictures_decoded = 400;
    r.counters.decisions = 40;
    r.verification = {.ran = true, .decisions = 40, .unexplained = 0, .error = {}};
    return r;
}

const Criterion* criterion(const Summary& summary, const std::string& name) {
    const auto found = std::ranges::find(summary.criteria, name, &Criterion::name);
    return found == summary.criteria.end() ? nullptr : &*found;
}

TEST(SelectSection, IsPartOfThePage) {
    Recording r = synthetic_recording();
    r.select = selected();
    const Summary summary = summarise(r);
    const std::string html = to_html(r, summary);
    EXPECT_EQ(testing::unbalanced(html), "");
    EXPECT_NE(html.find("id='select-lanes'"), std::string::npos);
    EXPECT_NE(html.find("data:image/png;base64,iVBORwD/"), std::string::npos) << "the picture comes with the page";
    EXPECT_NE(html.find("demo &lt;0&gt;"), std::string::npos);
    EXPECT_EQ(html.find("http"), std::string::npos);
    EXPECT_TRUE(summary.ok) << to_table(r, summary, false);
    // 10 of 40 decisions: main.
    EXPECT_NE(html.find("25 %"), std::string::npos);
    EXPECT_NE(html.find("75 % sub, 0 % both, 0 % none"), std::string::npos);
}

TEST(SelectSection, NothingWhereThereIsNoSuchPart) {
    const Recording r = synthetic_recording();
    EXPECT_EQ(select_section(r.select), "");
    EXPECT_EQ(criterion(summarise(r), "select_pictures"), nullptr);
}

TEST(SelectSection, EachFaultFailsItsCriterion) {
    const auto failed = [](auto spoil, const std::string& name) {
        Recording r = synthetic_recording();
        r.select = selected();
        spoil(r.select);
        const Summary summary = summarise(r);
        const Criterion* found = criterion(summary, name);
        return found != nullptr && !found->passed && !summary.ok;
    };
    EXPECT_TRUE(failed([](SelectRecording& r) { r.error = "the relay died"; }, "select"));
    EXPECT_TRUE(failed([](SelectRecording& r) { r.verification.unexplained = 1; }, "select_decisions_unexplained"));
    EXPECT_TRUE(failed([](SelectRecording& r) { r.verification.ran = false; }, "select_decisions_unexplained"));
    EXPECT_TRUE(failed([](SelectRecording& r) { r.counters.samples_lost = 1; }, "select_decisions_lost"));
    EXPECT_TRUE(failed([](SelectRecording& r) { r.counters.sequence_gaps = 1; }, "select_decisions_lost"));
    EXPECT_TRUE(failed([](SelectRecording& r) { r.pictures_undecodable = 1; }, "select_pictures"));
    EXPECT_TRUE(failed([](SelectRecording& r) { r.pictures_decoded = 0; }, "select_pictures"));
    EXPECT_TRUE(failed([](SelectRecording& r) { r.chunks.clear(); }, "select_measured"));
    EXPECT_TRUE(failed(
        [](SelectRecording& r) {
            for (SelectDecision& d : r.decisions) d.choice = ADP_SELECT_ONLY_SUB;
        },
        "select_chooses"));
    EXPECT_TRUE(failed(
        [](SelectRecording& r) {
            for (SelectDecision& d : r.decisions) d.generation = 0;
        },
        "select_chooses"))
        << "the fallback's choices are no network's";
}

QpRecording encoded() {
    QpRecording r;
    r.present = true;
    r.share = 0.2;
    r.frames_sent = 240;
    r.frames_decoded = 240;
    r.counters.decisions = 24;
    r.counters.switches_parameter = 20;
    r.verification = {.ran = true, .decisions = 24, .unexplained = 0, .error = {}};
    r.pictures.push_back({"map", "PNG"});
    return r;
}

TEST(QpSection, IsPartOfThePageAndEachFaultFailsItsCriterion) {
    Recording r = synthetic_recording();
    EXPECT_EQ(qp_section(r.qp), "");
    r.qp = encoded();
    const Summary summary = summarise(r);
    EXPECT_TRUE(summary.ok) << to_table(r, summary, false);
    const std::string html = to_html(r, summary);
    EXPECT_EQ(testing::unbalanced(html), "");
    EXPECT_NE(html.find("which macroblocks get the high quality"), std::string::npos);
    const auto failed = [](auto spoil, const std::string& name) {
        Recording spoilt = synthetic_recording();
        spoilt.qp = encoded();
        spoil(spoilt.qp);
        const Summary judged = summarise(spoilt);
        const Criterion* found = criterion(judged, name);
        return found != nullptr && !found->passed && !judged.ok;
    };
    EXPECT_TRUE(failed([](QpRecording& q) { q.error = "no selector"; }, "qp"));
    EXPECT_TRUE(failed([](QpRecording& q) { q.verification.unexplained = 1; }, "qp_decisions_unexplained"));
    EXPECT_TRUE(failed([](QpRecording& q) { q.counters.sequence_gaps = 1; }, "qp_decisions_unexplained"));
    EXPECT_TRUE(failed([](QpRecording& q) { q.frames_decoded--; }, "qp_frames_lost"));
    EXPECT_TRUE(failed([](QpRecording& q) { q.counters.switches_parameter = 1; }, "qp_switches"));
}

}  // namespace
}  // namespace adapath::demo
