// The report: complete, self-contained, well-formed, and honest about failures.
#include "userspace/demo/report.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/demo/synthetic.h"
#include "tests/support/html.h"

namespace adapath::demo {
namespace {

using testing::unbalanced;

std::string page(const Recording& r) { return to_html(r, summarise(r)); }

size_t count(const std::string& text, const std::string& what) {
    size_t n = 0;
    for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + what.size())) {
        n++;
    }
    return n;
}

TEST(Report, IsWellFormedAndSelfContained) {
    const std::string html = page(synthetic_recording());
    EXPECT_EQ(unbalanced(html), "");
    EXPECT_EQ(html.find("nan"), std::string::npos);
    EXPECT_EQ(html.find("src="), std::string::npos);
    EXPECT_EQ(html.find("href="), std::string::npos);
    EXPECT_EQ(html.find("http"), std::string::npos);
    EXPECT_EQ(count(html, "<svg "), 5U);
}

TEST(Report, MarksEverySwitchButFoldsTheBurst) {
    const Recording r = synthetic_recording();
    const std::string html = page(r);
    // The lane and the four charts each mark the five switches that are not of the burst.
    EXPECT_EQ(count(html, "<g class='mark "), 5U * 5U);
    EXPECT_EQ(count(html, "<g class='mark rollback'"), 5U);
    EXPECT_EQ(count(html, "<rect class='band parameter'"), 4U);
    EXPECT_EQ(count(html, "<rect class='band bad'"), 4U);
    EXPECT_NE(html.find("100 of them"), std::string::npos);
}

TEST(Report, StaysSmallHoweverLongTheRun) {
    Recording r = synthetic_recording();
    const size_t sixty_seconds = page(r).size();
    // Ten times the time, same number of decisions a second.
    const std::vector<SamplePoint> samples = r.samples;
    const std::vector<FramePoint> frames = r.frames;
    for (uint64_t part = 1; part < 10; part++) {
        for (SamplePoint sample : samples) {
            sample.time_us += part * 60000000;
            sample.seq += static_cast<uint32_t>(part) * 100000;
            r.samples.push_back(sample);
        }
        for (FramePoint frame : frames) {
            frame.captured_us += part * 60000000;
            frame.decoded_us += part * 60000000;
            r.frames.push_back(frame);
        }
    }
    r.end_us += 9 * 60000000ULL;
    EXPECT_LT(page(r).size(), sixty_seconds * 2);
}

TEST(Report, EscapesForeignText) {
    Recording r = synthetic_recording();
    r.switches[1].text = "<script>alert('x')</script> & \"more\"";
    r.settings.clip = "<b>.avi";
    const std::string html = page(r);
    EXPECT_EQ(html.find("<script>alert"), std::string::npos);
    EXPECT_EQ(html.find("<b>.avi"), std::string::npos);
    EXPECT_EQ(unbalanced(html), "");
}

TEST(Report, SaysThatItFailed) {
    Recording r = synthetic_recording();
    EXPECT_NE(page(r).find("all criteria met"), std::string::npos);
    r.video.frames_lost = 1;
    EXPECT_EQ(page(r).find("all criteria met"), std::string::npos);
    EXPECT_NE(page(r).find("1 of 9 criteria failed"), std::string::npos);
}

TEST(Report, OfARunThatSawNothing) {
    Recording r;
    const std::string html = page(r);
    EXPECT_EQ(unbalanced(html), "");
    EXPECT_EQ(html.find("nan"), std::string::npos);
    EXPECT_EQ(html.find("inf"), std::string::npos);
}

TEST(Report, OfTheLocalBackendHasNoVideo) {
    Recording r = synthetic_recording();
    r.settings.backend = "local";
    r.video = {};
    r.frames.clear();
    r.link.clear();
    const std::string html = page(r);
    EXPECT_EQ(unbalanced(html), "");
    EXPECT_EQ(html.find("Frame delay"), std::string::npos);
    EXPECT_NE(html.find("delivered to the flows"), std::string::npos);
}

}  // namespace
}  // namespace adapath::demo
