// What users of Aurora's published policy report, each on a real flow over an emulated link: it stays at the least
// rate, collapses on links that it was not trained for, is starved by CUBIC or starves it, and takes an idle
// application for a bad path. And that two flows share.
#include <gtest/gtest.h>

#include <iostream>
#include <string>
#include <utility>

#include "tests/netns/deciding_flows.h"

namespace adapath::testing {
namespace {

using Reported = DecidingFlows;

// Each rate for its time, one after the other.
Trace steps(const std::vector<std::pair<double, double>>& seconds_and_mbit) {
    std::string text;
    double left = 0;
    uint64_t ms = 0;
    for (const auto& [seconds, mbit] : seconds_and_mbit) {
        const auto until = ms + static_cast<uint64_t>(seconds * 1000);
        for (; ms < until; ms++) {
            for (left += mbit * 1e6 / 8 / 1000 / trace_opportunity_bytes; left >= 1; left--)
                text += fmt::format("{}\n", ms + 1);
        }
    }
    return std::move(Trace::parse(text, "steps").value());
}

struct Received {
    const TcpFlow& flow;
    uint64_t from = flow.received();
    std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();

    [[nodiscard]] double mbit() const {
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
        return static_cast<double>(flow.received() - from) * 8e-6 / seconds;
    }
};

double jain(double a, double b) { return (a + b) * (a + b) / (2 * (a * a + b * b)); }

TEST_F(Reported, ItDoesNotStayAtTheLeastRate) {
    activate();
    // A sixtieth of the link for 6 s, then all of it again.
    auto uplink = Uplink::create(steps({{6, 12}, {6, 0.2}, {60, 12}}), {.delay_ms = 20, .queue_bytes = 300'000});
    ASSERT_TRUE(uplink.ok()) << uplink.error().message;
    auto flow = start_flow(**uplink, options_.congestion_control);
    ASSERT_TRUE(flow.ok()) << flow.error().message;
    ASSERT_TRUE(collect_for(15s));
    const Received after{**flow};
    ASSERT_TRUE(collect_for(5s));
    EXPECT_GT(after.mbit(), 12 * 0.7);
}

TEST_F(Reported, ItDoesNotCollapseOutsideItsTraining) {
    activate();
    struct Case {
        const char* what;
        double mbit;
        LinkSettingsForTest link;
    };
    // Trained for RTTs of 5 to 300 ms, 0.5 to 100 Mbit/s, queues of a fifth of the path and more, and more than 1 % of
    // loss in few.
    const Case cases[] = {
        {"RTT 500 ms", 8, {.delay_ms = 250, .queue_bytes = 500'000}},
        {"10 % loss", 8, {.delay_ms = 20, .queue_bytes = 300'000, .loss = 0.1}},
        {"RTT 1 ms, 150 Mbit/s", 150, {.delay_ms = 0.5, .queue_bytes = 500'000}},
        {"a queue of 3 packets", 8, {.delay_ms = 20, .queue_bytes = 4'500}},
    };
    for (const Case& c : cases) {
        SCOPED_TRACE(c.what);
        Result<Trace> trace = Trace::constant(c.mbit);
        ASSERT_TRUE(trace.ok());
        auto uplink = Uplink::create(std::move(*trace), c.link);
        ASSERT_TRUE(uplink.ok()) << uplink.error().message;
        auto flow = start_flow(**uplink, options_.congestion_control);
        ASSERT_TRUE(flow.ok()) << flow.error().message;
        ASSERT_TRUE(collect_for(8s));
        const Received after{**flow};
        ASSERT_TRUE(collect_for(6s));
        const double mbit = after.mbit();
        std::cout << c.what << ": " << mbit << " of " << c.mbit << " Mbit/s\n";
        EXPECT_GT(mbit, c.mbit * 0.5);
        (*flow)->cancel();
    }
}

TEST_F(Reported, CubicAndItLeaveEachOtherAShare) {
    activate();
    Result<Trace> trace = Trace::constant(12);
    ASSERT_TRUE(trace.ok());
    // CUBIC may fill half a second of queue.
    auto uplink = Uplink::create(std::move(*trace), {.delay_ms = 20, .queue_bytes = 750'000});
    ASSERT_TRUE(uplink.ok()) << uplink.error().message;
    auto ours = start_flow(**uplink, options_.congestion_control);
    ASSERT_TRUE(ours.ok()) << ours.error().message;
    auto cubic = start_flow(**uplink, "cubic");
    ASSERT_TRUE(cubic.ok()) << cubic.error().message;
    ASSERT_TRUE(collect_for(60s));
    const auto a = static_cast<double>((*ours)->received());
    const auto b = static_cast<double>((*cubic)->received());
    std::cout << "share beside CUBIC: " << a / (a + b) << ", Jain's index " << jain(a, b) << "\n";
    EXPECT_GE(jain(a, b), 0.75);
    (*ours)->cancel();
    (*cubic)->cancel();
}

TEST_F(Reported, TwoFlowsShareTheLink) {
    activate();
    Result<Trace> trace = Trace::constant(12);
    ASSERT_TRUE(trace.ok());
    auto uplink = Uplink::create(std::move(*trace), {.delay_ms = 20, .queue_bytes = 750'000});
    ASSERT_TRUE(uplink.ok()) << uplink.error().message;
    auto first = start_flow(**uplink, options_.congestion_control);
    ASSERT_TRUE(first.ok()) << first.error().message;
    ASSERT_TRUE(collect_for(5s));
    auto second = start_flow(**uplink, options_.congestion_control);
    ASSERT_TRUE(second.ok()) << second.error().message;
    const uint64_t before = (*first)->received();
    ASSERT_TRUE(collect_for(30s));
    const auto a = static_cast<double>((*first)->received() - before);
    const auto b = static_cast<double>((*second)->received());
    std::cout << "the first one's share: " << a / (a + b) << ", Jain's index " << jain(a, b) << "\n";
    EXPECT_GE(jain(a, b), 0.9);
    EXPECT_GT((a + b) * 8e-6 / 30, 12 * 0.8);
}

TEST_F(Reported, AnIdleApplicationNeitherTeachesNorThrottles) {
    activate();
    Result<Trace> trace = Trace::constant(12);
    ASSERT_TRUE(trace.ok());
    auto uplink = Uplink::create(std::move(*trace), {.delay_ms = 20, .queue_bytes = 300'000});
    ASSERT_TRUE(uplink.ok()) << uplink.error().message;
    auto flow = start_flow(**uplink, options_.congestion_control);
    ASSERT_TRUE(flow.ok()) << flow.error().message;
    ASSERT_TRUE(collect_for(5s));
    (*flow)->limit_application(50'000);
    ASSERT_TRUE(collect_for(2s));
    const uint32_t window = samples_.back().window_q8;
    samples_.clear();
    ASSERT_TRUE(collect_for(8s));
    uint64_t held = 0;
    for (const adp_cc_sample& sample : samples_) held += (sample.flags & ADP_CC_HELD) != 0 ? 1 : 0;
    EXPECT_GE(static_cast<double>(held), 0.8 * static_cast<double>(samples_.size()));
    EXPECT_NEAR(samples_.back().window_q8, window, 0.3 * window) << "idleness moved the window";
    (*flow)->limit_application(0);
    ASSERT_TRUE(collect_for(1s));
    const Received after{**flow};
    ASSERT_TRUE(collect_for(4s));
    EXPECT_GT(after.mbit(), 12 * 0.8);
}

}  // namespace
}  // namespace adapath::testing
