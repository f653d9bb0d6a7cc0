// The simulated link and the flows on it: nothing is lost or made from nothing, equal seeds give equal runs, and cc.h's
// states come and go as they should.
#include "models/simulator.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <ctime>
#include <limits>
#include <set>
#include <string>
#include <vector>

#include "models/cc_model.h"
#include "models/cc_training.h"
#include "models/float_runner.h"
#include "models/scenario.h"

namespace adapath {
namespace {

LinkOptions constant_link(double mbit, double rtt_s, double queue_s) {
    LinkOptions link;
    link.capacity = Capacity::constant(mbit * 1e6 / 8);
    link.rtt_s = rtt_s;
    link.queue_bytes = static_cast<uint64_t>(mbit * 1e6 / 8 * queue_s);
    return link;
}

std::shared_ptr<const Trace> parsed_trace(const std::string& text) {
    auto trace = Trace::parse(text, "test");
    if (!trace) throw std::runtime_error(trace.error().message);
    return std::make_shared<const Trace>(std::move(*trace));
}

PolicyFunction constant_policy(int32_t output) {
    return [output](const uint8_t*) { return output; };
}

TEST(Capacity, ConstantTakesBytesOverRate) {
    Capacity c = Capacity::constant(1.5e6);
    EXPECT_EQ(c.finish_ns(0, 1500), 1'000'000);
    EXPECT_EQ(c.finish_ns(7'000'000, 3000), 9'000'000);
    EXPECT_DOUBLE_EQ(c.bytes_between(0, 1'000'000'000), 1.5e6);
}

TEST(Capacity, StepsFollowEachOtherForEver) {
    Capacity c = Capacity::steps({{0.001, 1.5e6}, {0.002, 0}, {0.001, 3e6}});
    EXPECT_EQ(c.finish_ns(0, 1500), 1'000'000);
    EXPECT_EQ(c.finish_ns(500'000, 1500), 3'250'000);    // half before the gap, half behind it
    EXPECT_EQ(c.finish_ns(1'500'000, 6000), 7'500'000);  // 3000 at 3-4 ms, 1500 at 4-5 ms, 1500 from 7 ms on
    EXPECT_DOUBLE_EQ(c.bytes_between(0, 4'000'000), 4500);
    EXPECT_DOUBLE_EQ(c.bytes_between(500'000, 7'500'000), 750 + 3000 + 1500 + 1500);
}

TEST(Capacity, TraceServesAtOpportunities) {
    Capacity c = Capacity::from_trace(parsed_trace("2\n2\n5\n10\n"));
    EXPECT_EQ(c.finish_ns(0, 1500), 2'000'000);
    EXPECT_EQ(c.finish_ns(2'000'000, 1500), 2'000'000);
    EXPECT_EQ(c.finish_ns(2'000'000, 1500), 5'000'000);
    // The one at 10 came while nothing waited; the trace starts again there: 12, 12, 15, 20.
    EXPECT_EQ(c.finish_ns(10'500'000, 1500), 12'000'000);
    // Half an opportunity each; then one and a half.
    EXPECT_EQ(c.finish_ns(12'000'000, 750), 12'000'000);
    EXPECT_EQ(c.finish_ns(12'000'000, 750), 12'000'000);
    EXPECT_EQ(c.finish_ns(12'000'000, 2250), 20'000'000);
    EXPECT_DOUBLE_EQ(c.bytes_between(0, 10'000'000), 4 * 1500);
}

TEST(Simulator, EveryPacketIsAccountedFor) {
    Random random(3);
    for (int round = 0; round < 12; round++) {
        Scenario scenario = random_scenario(random);
        scenario.flows = 1 + round % 3;
        scenario.cubic_flows = 0;
        scenario.source_bytes_per_s = 0;
        auto simulator = make_simulator(scenario);
        simulator->set_policy(round % 2 ? teacher_policy() : PolicyFunction(), 1, 20000);
        uint64_t lost_sent = 0;
        for (int second = 1; second <= 20; second++) {
            simulator->run_until(second);
            const LinkStats link = simulator->link_stats();
            ASSERT_EQ(link.queued_before + link.arrived, link.dropped_queue + link.departed + link.queued)
                << describe(scenario);
            uint64_t sent = 0;
            uint64_t delivered = 0;
            for (uint32_t f = 0; f < scenario.flows; f++) {
                sent += simulator->flow_stats(f).sent;
                delivered += simulator->flow_stats(f).delivered;
            }
            ASSERT_EQ(sent - lost_sent, link.arrived);
            if (second < 10) {
                // ACKs of what the link passed on are delivered or on their way back.
                ASSERT_LE(delivered, link.departed - link.lost);
                ASSERT_LE(link.carried_bytes, link.offered_bytes + trace_opportunity_bytes);
                ASSERT_GT(delivered, 0U);
            }
            if (second == 10) {
                simulator->reset_stats();
                lost_sent = sent;
            }
        }
    }
}

TEST(Simulator, SenderAccountsWithoutTimeouts) {
    LinkOptions link = constant_link(10, 0.04, 0.05);
    link.loss = 0.01;
    Simulator simulator(std::move(link), {FlowOptions{}}, 4);
    simulator.run_until(30);
    const FlowStats flow = simulator.flow_stats(0);
    ASSERT_EQ(flow.timeouts, 0U);
    EXPECT_GT(flow.lost, 20U);
    EXPECT_EQ(flow.sent, flow.delivered + flow.lost + flow.in_flight);
}

std::vector<adp_cc_sample> samples_of(uint64_t seed) {
    LinkOptions link = constant_link(8, 0.05, 0.2);
    link.loss = 0.01;
    FlowOptions late;
    late.start_s = 1;
    Simulator simulator(std::move(link), {FlowOptions{}, late}, seed);
    std::vector<adp_cc_sample> samples;
    simulator.set_samples([&](const adp_cc_sample& s) { samples.push_back(s); });
    simulator.set_policy(teacher_policy(), 1, 10000);
    simulator.run_until(10);
    return samples;
}

TEST(Simulator, EqualSeedsGiveEqualRuns) {
    const auto a = samples_of(1);
    const auto b = samples_of(1);
    const auto c = samples_of(2);
    ASSERT_GT(a.size(), 100U);
    ASSERT_EQ(a.size(), b.size());
    bool differs = a.size() != c.size();
    for (size_t i = 0; i < a.size(); i++) {
        ASSERT_EQ(a[i].time_us, b[i].time_us);
        ASSERT_EQ(a[i].rate, b[i].rate);
        ASSERT_EQ(a[i].noise, b[i].noise);
        ASSERT_TRUE(std::equal(std::begin(a[i].input), std::end(a[i].input), std::begin(b[i].input)));
        differs = differs || a[i].rate != c[i].rate;
    }
    EXPECT_TRUE(differs);
}

TEST(Simulator, RunInPiecesEqualsRunAtOnce) {
    std::vector<uint64_t> rates[2];
    for (int pieces = 0; pieces < 2; pieces++) {
        Simulator simulator(constant_link(8, 0.05, 0.2), {FlowOptions{}}, 1);
        simulator.set_samples([&](const adp_cc_sample& s) { rates[pieces].push_back(s.rate); });
        simulator.set_policy(teacher_policy(), 1, 10000);
        if (pieces) {
            while (simulator.now_s() < 10) simulator.run_decisions(7, 10);
        } else {
            simulator.run_until(10);
        }
    }
    EXPECT_EQ(rates[0], rates[1]);
}

TEST(Simulator, FeaturesMeasureOnALteLink) {
    Random random(5);
    auto simulator = make_simulator(random_lte_scenario(random));
    std::set<int> seen[ADP_CC_FEATURES];
    std::set<int> once[ADP_CC_INPUTS - ADP_CC_CONTEXT];
    simulator->set_samples([&](const adp_cc_sample& s) {
        for (int f = 0; f < ADP_CC_FEATURES; f++) seen[f].insert(s.input[ADP_CC_CONTEXT - ADP_CC_FEATURES + f]);
        for (int c = ADP_CC_CONTEXT; c < ADP_CC_INPUTS; c++) once[c - ADP_CC_CONTEXT].insert(s.input[c]);
    });
    simulator->set_policy(teacher_policy(), 1, 20000);
    simulator->run_until(60);
    for (int f = 0; f < ADP_CC_FEATURES; f++) {
        if (f != ADP_CC_LOSS) {
            EXPECT_GE(seen[f].size(), 10U) << f;
        }
    }
    // Inflation and send ratio go both ways.
    EXPECT_LT(*seen[ADP_CC_INFLATION].begin(), ADP_CC_INFLATION_ZERO - 5);
    EXPECT_GT(*seen[ADP_CC_INFLATION].rbegin(), ADP_CC_INFLATION_ZERO + 5);
    EXPECT_LT(*seen[ADP_CC_SEND].begin(), ADP_CC_SEND_ZERO - 5);
    EXPECT_GT(*seen[ADP_CC_SEND].rbegin(), ADP_CC_SEND_ZERO + 5);
    EXPECT_GE(once[ADP_CC_WINDOW - ADP_CC_CONTEXT].size(), 10U);
    EXPECT_GE(once[ADP_CC_AGE - ADP_CC_CONTEXT].size(), 5U);
    // Alone, the default objective: nobody inflates the base, and the weights stay.
    EXPECT_EQ(*once[ADP_CC_DELAY_WEIGHT - ADP_CC_CONTEXT].rbegin(),
              ADP_CC_DELAY_WEIGHT_ZERO - ADP_CC_WEIGHT_UNIT);                                      // log2(0.5)
    EXPECT_EQ(*once[ADP_CC_LOSS_WEIGHT - ADP_CC_CONTEXT].rbegin(), ADP_CC_LOSS_WEIGHT_ZERO + 96);  // log2(8) = 3
}

TEST(Simulator, SlowStartFindsTheRateAndEnds) {
    for (double mbit : {2.0, 10.0, 50.0, 100.0}) {
        for (double rtt_s : {0.01, 0.04, 0.12}) {
            Simulator simulator(constant_link(mbit, rtt_s, 0.3), {FlowOptions{}}, 1);
            double ended_s = -1;
            double rate = 0;
            bool back = false;
            simulator.set_samples([&](const adp_cc_sample& s) {
                const bool start = s.flags & ADP_CC_START_MADE;
                if (start && ended_s >= 0) back = true;
                if (!start && ended_s < 0) {
                    ended_s = s.time_us * 1e-6;
                    rate = s.window_q8 / 256.0 * s.interval.mss / rtt_s;
                }
            });
            simulator.set_policy(constant_policy(0), 1, 0);
            simulator.run_until(5);
            SCOPED_TRACE(testing::Message() << mbit << " Mbit/s, RTT " << rtt_s << " s");
            ASSERT_GE(ended_s, 0);
            EXPECT_LT(ended_s, 2.5);
            EXPECT_FALSE(back);
            EXPECT_GT(rate, 0.6 * mbit * 1e6 / 8);
            EXPECT_LT(rate, 1.5 * mbit * 1e6 / 8 + 4 * 1448 / rtt_s);  // small windows come in whole packets
        }
    }
}

TEST(Simulator, FallbackWorksAsCubic) {
    for (double mbit : {2.0, 10.0, 50.0}) {
        SCOPED_TRACE(testing::Message() << mbit << " Mbit/s");
        Simulator simulator(constant_link(mbit, 0.04, 0.04), {FlowOptions{}}, 1);
        uint64_t wrong_flags = 0;
        uint64_t starts = 0;
        bool started = false;
        simulator.set_samples([&](const adp_cc_sample& s) {
            const bool start = (s.flags & ADP_CC_START_MADE) != 0;
            starts += start ? 1 : 0;
            started = started || !start;
            wrong_flags += (s.flags | ADP_CC_START_MADE) != (ADP_CC_FALLBACK_MADE | ADP_CC_START_MADE) ||
                                   (start && started) || s.generation != 0 || s.output != 0
                               ? 1
                               : 0;
        });
        simulator.run_until(2);
        EXPECT_GT(starts, 0U);
        EXPECT_TRUE(started);
        simulator.reset_stats();
        simulator.run_until(60);
        EXPECT_GE(simulator.link_stats().utilisation(), 0.85);
        EXPECT_GT(simulator.link_stats().dropped_queue, 0U);  // it probes for the limit
        EXPECT_LT(simulator.link_stats().dropped_queue * 50, simulator.link_stats().arrived);
        EXPECT_EQ(wrong_flags, 0U);
        EXPECT_EQ(simulator.flow(0).phase, static_cast<uint32_t>(ADP_CC_FALLBACK));
    }
}

TEST(Simulator, WindowStaysInTheSafeRangeWhateverThePolicySays) {
    Random random(11);
    for (int round = 0; round < 10; round++) {
        auto simulator = make_simulator(random_scenario(random));
        Random outputs(round);
        simulator->set_policy(
            [&](const uint8_t*) {
                const uint32_t bits = outputs.bits32();
                if (bits % 3 == 0) return std::numeric_limits<int32_t>::max();
                if (bits % 3 == 1) return std::numeric_limits<int32_t>::min();
                return static_cast<int32_t>(outputs.bits32());
            },
            1, ADP_Q16_ONE);
        uint64_t samples = 0;
        simulator->set_samples([&](const adp_cc_sample& s) {
            const adp_cc_flow& f = simulator->flow(s.flow - 1);
            samples++;
            ASSERT_GE(s.rate, ADP_CC_RATE_MIN);
            ASSERT_LE(s.rate, ADP_CC_RATE_MAX);
            ASSERT_GE(s.action, -ADP_CC_ACTION_MAX_Q16);
            ASSERT_LE(s.action, ADP_CC_ACTION_MAX_Q16);
            if (!(s.flags & ADP_CC_NOT_DECIDED)) {
                ASSERT_EQ(adp_cc_clamp_window(&f, s.window_q8), s.window_q8);
                ASSERT_GE(s.window_q8, ADP_CC_CWND_MIN * 256U);
            }
        });
        simulator->run_until(20);
        EXPECT_GT(samples, 50U);
    }
}

TEST(Simulator, BadPoliciesStarveAndBloat) {
    for (float output : {-1.0F, 1.0F}) {
        FloatRunner runner(adversarial_cc(output));
        Simulator simulator(constant_link(10, 0.04, 0.3), {FlowOptions{}}, 1);
        simulator.set_policy([&](const uint8_t* input) { return runner.run_q16(input); }, 1, 0);
        simulator.run_until(10);
        simulator.reset_stats();
        simulator.run_until(20);
        if (output < 0) {
            EXPECT_LT(simulator.link_stats().utilisation(), 0.1);
            EXPECT_GT(simulator.link_stats().utilisation(), 0.03);  // the floor holds: 2 packets of 35
        } else {
            EXPECT_GT(simulator.link_stats().utilisation(), 0.98);
            EXPECT_GT(simulator.link_stats().sojourn_percentile_ms(0.5), 100);  // the ceiling holds: three more windows
            EXPECT_LT(simulator.link_stats().sojourn_percentile_ms(0.95), 200);
        }
    }
}

TEST(Simulator, FallbackAndPolicyTakeOverFromEachOther) {
    Simulator simulator(constant_link(10, 0.04, 0.1), {FlowOptions{}}, 1);
    std::vector<adp_cc_sample> samples;
    simulator.set_samples([&](const adp_cc_sample& s) { samples.push_back(s); });
    simulator.run_until(5);
    simulator.set_policy(teacher_policy(), 7, 0);
    const size_t switched = samples.size();
    simulator.run_until(10);
    simulator.set_policy({}, 0, 0);
    const size_t back = samples.size();
    simulator.run_until(15);

    ASSERT_GT(switched, 10U);
    ASSERT_GT(back, switched + 10);
    ASSERT_GT(samples.size(), back + 10);
    for (size_t i = 0; i < samples.size(); i++) {
        const bool by_policy = i >= switched && i < back;
        const bool drain = (samples[i].flags & ADP_CC_DRAIN_MADE) != 0;
        ASSERT_EQ(samples[i].generation, by_policy && !drain ? 7U : 0U) << i;
        ASSERT_EQ((samples[i].flags & ADP_CC_FALLBACK_MADE) == 0, by_policy) << i;
        ASSERT_EQ(samples[i].seq, i);
    }
    // No collapse and no burst at either change.
    for (size_t at : {switched, back}) {
        EXPECT_GT(samples[at].rate, samples[at - 1].rate / 4);
        EXPECT_LT(samples[at].rate, samples[at - 1].rate * 4);
    }
}

TEST(Simulator, AcksComeInClumps) {
    LinkOptions link = constant_link(10, 0.04, 0.1);
    link.ack_tick_s = 0.01;
    Simulator simulator(std::move(link), {FlowOptions{}}, 1);
    uint64_t off_tick = 0;
    uint64_t samples = 0;
    simulator.set_samples([&](const adp_cc_sample& s) {
        samples++;
        off_tick += s.time_us % 10'000 != 0;
    });
    simulator.set_policy(teacher_policy(), 1, 0);
    simulator.run_until(10);
    EXPECT_GT(samples, 100U);
    EXPECT_EQ(off_tick, 0U);
}

TEST(Simulator, SurvivesOutages) {
    // 12 Mbit/s for 4 s, then a second of nothing.
    std::string text;
    for (int ms = 1; ms <= 4000; ms++) text += std::to_string(ms) + "\n";
    text += "5000\n";
    for (bool fallback : {false, true}) {
        LinkOptions link;
        link.capacity = Capacity::from_trace(parsed_trace(text));
        link.rtt_s = 0.04;
        link.queue_bytes = 150'000;
        Simulator simulator(std::move(link), {FlowOptions{}}, 1);
        simulator.set_policy(fallback ? PolicyFunction() : teacher_policy(), 1, 0);
        simulator.run_until(50);
        EXPECT_GE(simulator.flow_stats(0).timeouts, 5U);
        EXPECT_GT(simulator.link_stats().utilisation(), 0.6);
        // The last second before an outage: the flow is back.
        simulator.run_until(53);
        simulator.reset_stats();
        simulator.run_until(54);
        EXPECT_GT(simulator.link_stats().utilisation(), 0.7);
    }
}

TEST(Simulator, AnIdleApplicationIsMarked) {
    FlowOptions flow;
    flow.source.bytes_per_s = 125'000;
    Simulator simulator(constant_link(10, 0.04, 0.2), {flow}, 1);
    uint64_t limited = 0;
    uint64_t samples = 0;
    simulator.set_samples([&](const adp_cc_sample& s) {
        samples++;
        limited += s.flags & ADP_CC_APP_LIMITED ? 1 : 0;
    });
    simulator.set_policy(teacher_policy(), 1, 0);
    simulator.run_until(30);
    EXPECT_GT(samples, 100U);
    EXPECT_GT(limited * 2, samples);
    EXPECT_NEAR(simulator.link_stats().carried_bytes / 30, 125'000 * 1.04, 8'000);
}

// What an idle application's intervals look like must neither move the window nor be seen by the network, and once it
// wants more, it gets it at once.
TEST(Simulator, AnIdleApplicationDecidesNothingAndLosesNothing) {
    FlowOptions flow;
    flow.source = {.bytes_per_s = 50'000, .frame_interval_s = 0.04};
    Simulator simulator(constant_link(10, 0.04, 0.5), {flow}, 1);
    uint32_t window = 0;
    uint64_t held = 0;
    std::vector<uint8_t> inputs;
    simulator.set_samples([&](const adp_cc_sample& s) {
        if (s.flags & ADP_CC_HELD) {
            held++;
            if (window != 0) {
                ASSERT_EQ(s.window_q8, window);
                ASSERT_TRUE(std::equal(inputs.begin(), inputs.begin() + ADP_CC_CONTEXT, std::begin(s.input)));
            }
        }
        ASSERT_EQ((s.flags & ADP_CC_HELD) != 0, (s.flags & ADP_CC_APP_LIMITED) != 0);
        window = s.window_q8;
        inputs.assign(std::begin(s.input), std::end(s.input));
    });
    // A policy that would shrink the window to nothing, were it asked.
    simulator.set_policy(constant_policy(-ADP_Q16_ONE), 1, 0);
    simulator.run_until(20);
    EXPECT_GT(held, 100U);
    EXPECT_GE(simulator.flow_stats(0).delivered * 1448, 20 * 50'000 * 9 / 10);
}

double jain_of(Simulator& simulator, double from_s, double to_s) {
    simulator.run_until(from_s);
    const double a = -static_cast<double>(simulator.flow_stats(0).delivered);
    const double b = -static_cast<double>(simulator.flow_stats(1).delivered);
    simulator.run_until(to_s);
    const double x = a + static_cast<double>(simulator.flow_stats(0).delivered);
    const double y = b + static_cast<double>(simulator.flow_stats(1).delivered);
    return (x + y) * (x + y) / (2 * (x * x + y * y));
}

// The push of a move makes shares equal whatever the network is, as long as it answers the same RTT alike: here one
// that has never been trained.
TEST(Simulator, TwoFlowsComeToEqualShares) {
    for (double mbit : {5.0, 12.0, 40.0}) {
        FlowOptions late;
        late.start_s = 5;
        Simulator simulator(constant_link(mbit, 0.04, 0.5), {FlowOptions{}, late}, 1);
        simulator.set_policy(teacher_policy(), 1, 0);
        EXPECT_GE(jain_of(simulator, 5, 65), 0.95) << mbit;
    }
}

// CUBIC fills any queue; a policy that only watches delay would starve beside it.
TEST(Simulator, BesideCubicItKeepsItsShareAndLeavesCubicIts) {
    for (double mbit : {5.0, 12.0, 40.0}) {
        for (double queue_s : {0.05, 0.3, 1.0}) {
            SCOPED_TRACE(testing::Message() << mbit << " Mbit/s, queue " << queue_s << " s");
            FlowOptions cubic;
            cubic.cubic = true;
            Simulator simulator(constant_link(mbit, 0.04, queue_s), {FlowOptions{}, cubic}, 1);
            // The teacher's rule, at the weight that it is at home with.
            simulator.set_objective({ADP_Q16_ONE, ADP_Q16_ONE, ADP_CC_LOSS_DEFAULT_Q16});
            simulator.set_policy(teacher_policy(), 1, 0);
            EXPECT_GE(jain_of(simulator, 0, 60), 0.75);
        }
    }
}

// Once the neighbour has gone, the queue is given up again.
TEST(Simulator, CompetitionEndsWithTheNeighbour) {
    FlowOptions cubic;
    cubic.cubic = true;
    cubic.start_s = 5;
    cubic.end_s = 45;
    Simulator simulator(constant_link(12, 0.04, 1.0), {FlowOptions{}, cubic}, 1);
    simulator.set_policy(teacher_policy(), 1, 0);
    bool competed = false;
    simulator.set_samples(
        [&](const adp_cc_sample& s) { competed = competed || (s.flow == 1 && (s.flags & ADP_CC_COMPETES) != 0); });
    simulator.run_until(45);
    EXPECT_TRUE(competed);
    simulator.run_until(75);
    EXPECT_EQ(simulator.flow(0).compete, 0U);
    simulator.reset_stats();
    simulator.run_until(90);
    EXPECT_GE(simulator.link_stats().utilisation(), 0.95);
    EXPECT_LT(simulator.link_stats().sojourn_percentile_ms(0.95), 100);
}

// Alone, nobody is to be taken for a neighbour, or the flow would fill the queue for nothing.
TEST(Simulator, AloneItNeverCompetes) {
    Random random(21);
    uint64_t samples = 0;
    uint64_t competing = 0;
    for (int round = 0; round < 12; round++) {
        auto simulator = make_simulator(random_lte_scenario(random));
        simulator->set_policy(teacher_policy(), 1, 6554);
        simulator->set_samples([&](const adp_cc_sample& s) {
            samples++;
            competing += (s.flags & ADP_CC_COMPETES) != 0 ? 1 : 0;
        });
        simulator->run_until(60);
    }
    EXPECT_LT(static_cast<double>(competing), 0.01 * static_cast<double>(samples));
}

// One network, several wishes: the more delay counts, the less of it, and never the other way round.
TEST(Simulator, TheObjectiveMovesThePolicy) {
    Random random(31);
    const Scenario scenario = random_lte_scenario(random);
    std::vector<double> means;
    for (double delay : {1.0 / 32, 0.25, 2.0}) {
        Scenario with = scenario;
        with.objective = {ADP_Q16_ONE, static_cast<adp_u32>(delay * ADP_Q16_ONE), ADP_CC_LOSS_DEFAULT_Q16};
        means.push_back(score_link(with, teacher_policy(), 60).mean_ms);
    }
    EXPECT_GT(means[0], means[1] * 1.1);
    EXPECT_GT(means[1], means[2] * 1.1);
}

TEST(Simulator, IsAThousandTimesFasterThanTheLink) {
    Simulator simulator(constant_link(10, 0.04, 0.2), {FlowOptions{}}, 1);
    simulator.set_policy(teacher_policy(), 1, 0);
    const std::clock_t began = std::clock();  // processor time: a busy machine must not fail this
    simulator.run_until(200);
    EXPECT_LT(static_cast<double>(std::clock() - began) / CLOCKS_PER_SEC, 0.2);
    EXPECT_GT(simulator.link_stats().departed, 100'000U);
}

TEST(FloatRunner, AgreesWithTheReference) {
    Random random(1);
    FloatModel model;
    model.network = cc_network();
    for (const LayerShape& layer : model.network.layers) {
        model.weights.emplace_back(size_t{layer.inputs} * layer.outputs);
        model.biases.emplace_back(layer.outputs);
        for (float& w : model.weights.back()) w = static_cast<float>(random.normal() * 0.3);
        for (float& b : model.biases.back()) b = static_cast<float>(random.normal() * 0.3);
    }
    FloatRunner runner(model);
    for (int i = 0; i < 200; i++) {
        InputCodes codes(ADP_CC_INPUTS);
        for (uint8_t& c : codes) c = static_cast<uint8_t>(random.bits32());
        const float expected = run_float(model, codes).at(0);
        EXPECT_NEAR(runner.run(codes.data()), expected, 1e-3);
        EXPECT_NEAR(runner.run_q16(codes.data()), expected * 65536, 70);
    }
}

}  // namespace
}  // namespace adapath
