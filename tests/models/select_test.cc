// Select's simulator, and the online training on what it reports.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "codegen/codegen.h"
#include "models/select/online.h"
#include "models/select/policies.h"
#include "models/select/scenario.h"
#include "models/select/training.h"
#include "models/select_model.h"

namespace adapath {
namespace {

std::shared_ptr<const Trace> constant(double mbit) { return std::make_shared<const Trace>(*Trace::constant(mbit)); }

// Four made-up cameras on an even uplink of that share of what their main streams ask for.
SelectScenario even(const SelectDataset& dataset, double share, uint32_t cameras = 4) {
    SelectScenario s = judged_select_scenario(dataset, constant(8), "even", cameras, 1 / share);
    s.seconds = 60;
    return s;
}

SelectPolicy all(uint32_t choice) { return fixed_policy(std::vector<uint32_t>(16, choice)); }

TEST(SelectSimulator, WithRoomForAllMainIsRightAndTheScoreIsItsAccuracy) {
    const SelectDataset dataset = made_up_cameras();
    const SelectScore main = run_select(even(dataset, 3), all(ADP_SELECT_ONLY_MAIN));
    EXPECT_NEAR(main.f1, 1, 0.02);
    EXPECT_NEAR(main.share[2], 1, 0.02);
    EXPECT_LT(main.late, 0.01);
    // The sub stream's score is the mean of its accuracies, as the cameras play them.
    const SelectScore sub = run_select(even(dataset, 3), all(ADP_SELECT_ONLY_SUB));
    double mean = 0;
    for (size_t v = 0; v < 4; v++)
        for (const SelectChunk& chunk : dataset.views[v].early)
            mean += chunk.accuracy[0] / 4 / static_cast<double>(dataset.views[v].early.size());
    EXPECT_NEAR(sub.f1, mean, 0.03);
    EXPECT_LT(sub.bytes, main.bytes / 3);
    EXPECT_LT(run_select(even(dataset, 3), all(ADP_SELECT_NONE)).f1, 0.15) << "but for what starving cameras are given";
}

TEST(SelectSimulator, ADeadUplinkDeliversNothingAndAFullOneDrops) {
    const SelectDataset dataset = made_up_cameras();
    const SelectScore full = run_select(even(dataset, 0.4), all(ADP_SELECT_ONLY_MAIN));
    EXPECT_GT(full.late, 0.4);
    EXPECT_LT(full.f1, 0.6);
    const double capacity = constant(8)->mean_bytes_per_s();
    EXPECT_LE(full.bytes, capacity * 1.001);
    EXPECT_GT(full.bytes, capacity * 0.9);
    EXPECT_GT(full.offered, full.bytes * 1.5);
}

// A mix that was chosen in hindsight for a link that never changes can't be beaten by much, or at all.
TEST(SelectSimulator, KnowingTheWorthsBeatsTheBaselinesOnAnEvenUplinkAndComesNearTheBestMix) {
    const SelectDataset dataset = made_up_cameras();
    SelectScenario s = even(dataset, 0.5, 8);
    s.explore = 0;
    const SelectScore oracle = run_select(s, oracle_policy());
    EXPECT_LT(oracle.late, 0.06);  // the rest is the price's guesses at an uplink that seems idle
    EXPECT_LT(oracle.delay_p95_s, 1);
    for (const Baseline& baseline : baselines(s))
        EXPECT_GT(oracle.f1, baseline.score.f1 - (baseline.name == "fixed mix" ? 0.02 : 0))
            << baseline.name << " " << baseline.how;
}

TEST(SelectSimulator, IsTheSameForTheSameSeed) {
    const SelectDataset dataset = made_up_cameras();
    Random a(3);
    Random b(3);
    const SelectScore first = run_select(random_select_scenario(dataset, a), oracle_policy());
    const SelectScore second = run_select(random_select_scenario(dataset, b), oracle_policy());
    EXPECT_EQ(first.f1_of, second.f1_of);
    EXPECT_EQ(first.bytes, second.bytes);
    EXPECT_GT(first.decisions, 10U);
}

// Samples are the datapath's: the choice follows from them, and labels come only of chunks of which both were sent.
TEST(SelectSimulator, SamplesExplainTheirChoicesAndReportsFollowExploration) {
    const SelectDataset dataset = made_up_cameras();
    SelectScenario s = even(dataset, 1);
    s.explore = 0.2;
    uint64_t both = 0;
    uint64_t reports = 0;
    SelectEvents events;
    events.sample = [&](size_t, const adp_select_sample& sample, const std::array<double, 2>&) {
        if ((sample.flags & ADP_SELECT_NOT_DECIDED) != 0) return;
        adp_u32 flags = 0;
        EXPECT_EQ(adp_select_choose(sample.output, &sample.offer, &flags), sample.choice);
        both += sample.choice == ADP_SELECT_BOTH ? 1 : 0;
    };
    events.measured = [&](size_t, uint64_t, uint64_t, double sub_worth, double gain) {
        EXPECT_NEAR(sub_worth + gain, 1, 1e-9);
        reports++;
    };
    (void)run_select(s, oracle_policy(), events);
    EXPECT_GT(both, 20U);
    EXPECT_GT(reports, both / 2);
    EXPECT_LE(reports, both);
}

TEST(SelectDatasetFile, LinesComeBackAndWrongOnesAreNamed) {
    const std::string path = ::testing::TempDir() + "adapath-select-dataset.jsonl";
    const SelectDataset made = made_up_cameras();
    {
        std::ofstream out(path);
        for (const SelectView& view : made.views) {
            for (const SelectChunk& chunk : view.early) out << to_json_line(view, false, chunk) << "\n";
            for (const SelectChunk& chunk : view.late) out << to_json_line(view, true, chunk) << "\n";
        }
        out << R"({"view":"cut off","held_)";
    }
    Result<SelectDataset> read = SelectDataset::read(path);
    ASSERT_TRUE(read) << read.error().message;
    ASSERT_EQ(read->views.size(), made.views.size());
    EXPECT_EQ(read->views[2].late[7].bytes, made.views[2].late[7].bytes);
    EXPECT_NEAR(read->views[2].late[7].accuracy[0], made.views[2].late[7].accuracy[0], 0.001);
    {
        SelectChunk chunk = made.views[0].early[0];
        chunk.accuracy[0] = 1.5;
        std::ofstream(path, std::ios::app) << "\n" << to_json_line(made.views[0], false, chunk) << "\n";
    }
    read = SelectDataset::read(path);
    ASSERT_FALSE(read);
    const size_t lines = 2 + made.views.size() * (made.views[0].early.size() + made.views[0].late.size());
    EXPECT_EQ(read.error().message, path + ":" + std::to_string(lines) + ": numbers out of range; remove the file");
    std::filesystem::remove(path);
    EXPECT_FALSE(SelectDataset::read(path));
}

// ---- Online ----

FloatModel fresh_model(uint64_t seed = 1) {
    SelectTraining none;
    none.seed = seed;
    none.epochs = 1;
    const SelectExample zero;
    return train_select({select_network(), {}, {}}, std::span(&zero, 1), none);
}

adp_select_sample sample_at(uint64_t time_us, uint64_t camera = 1, uint32_t flags = 0) {
    adp_select_sample sample = {};
    sample.time_us = time_us;
    sample.camera = camera;
    sample.flags = flags;
    sample.input[ADP_SELECT_SUB_WORTH] = 128;
    return sample;
}

TEST(SelectOnlineTest, AReportIsAboutTheDecisionThatLetItsChunkPass) {
    SelectOnlineOptions options;
    options.remember = 4;
    SelectOnline online(fresh_model(), options);
    const auto measured = [&](uint64_t camera, uint64_t chunk_us) {
        const SelectOnlineCounters before = online.counters();
        online.add_measured(camera, chunk_us, 0.5, 0.5);
        const SelectOnlineCounters after = online.counters();
        return after.labels > before.labels         ? "label"
               : after.unmatched > before.unmatched ? "unmatched"
               : after.late > before.late           ? "late"
               : after.blind > before.blind         ? "blind"
               : after.repeated > before.repeated   ? "repeated"
                                                    : "nothing";
    };
    EXPECT_STREQ(measured(1, 1'000'000), "unmatched") << "no camera yet";
    std::vector<adp_select_sample> samples = {sample_at(1'000'000), sample_at(2'000'000),
                                              sample_at(3'000'000, 1, ADP_SELECT_LEARNING), sample_at(2'500'000, 2)};
    online.add(samples);
    EXPECT_STREQ(measured(1, 900'000), "unmatched") << "before its first decision";
    EXPECT_STREQ(measured(1, 990'000), "label") << "the relay's clock may be a little behind the kernel's";
    EXPECT_STREQ(measured(1, 1'010'000), "repeated") << "the same decision";
    EXPECT_STREQ(measured(1, 2'900'000), "label") << "a chunk later in the round";
    EXPECT_STREQ(measured(1, 3'001'000), "blind");
    EXPECT_STREQ(measured(3, 3'001'000), "unmatched") << "no such camera";
    EXPECT_STREQ(measured(2, 2'501'000 + options.decision_us), "unmatched") << "the sample in between was lost";
    samples = {sample_at(4'000'000), sample_at(5'000'000), sample_at(6'000'000), sample_at(7'000'000)};
    online.add(samples);
    EXPECT_STREQ(measured(1, 2'000'000), "late");
    EXPECT_EQ(online.counters().reports, 9U);
    EXPECT_EQ(online.counters().labels, 2U);
    // With training off, nothing can be matched, but inputs are kept.
    SelectOnline idle(fresh_model(), options);
    idle.add(samples, false);
    idle.add_measured(1, 7'000'000, 0.5, 0.5);
    EXPECT_EQ(idle.counters().unmatched, 1U);
    EXPECT_EQ(idle.recent_codes().size(), samples.size());
}

// A world in which the sub streams are worth much less than where the checkpoint was trained: the learner has only what
// the server measures of explored chunks.
TEST(SelectOnlineTest, LearnsAShiftedWorldFromWhatTheServerMeasures) {
    const SelectDataset dataset = made_up_cameras();
    const auto shifted = [&](uint64_t seed) {
        SelectScenario s = even(dataset, 1, 8);
        for (SelectCameraPlan& plan : s.cameras) plan.sub_shift = -0.35;
        s.explore = 0.1;
        s.seed = seed;
        s.seconds = 120;
        return s;
    };
    // The checkpoint: right for these cameras, before the shift.
    std::vector<SelectExample> before;
    std::vector<SelectExample> after;
    const auto collect = [](SelectScenario s, std::vector<SelectExample>& into) {
        SelectEvents events;
        events.sample = [&](size_t, const adp_select_sample& sample, const std::array<double, 2>& truth) {
            if ((sample.flags & ADP_SELECT_NOT_DECIDED) != 0) return;
            SelectExample e;
            std::copy(std::begin(sample.input), std::end(sample.input), e.codes.begin());
            e.sub = static_cast<float>(truth[0]);
            e.main = static_cast<float>(truth[1]);
            into.push_back(e);
        };
        (void)run_select(s, oracle_policy(), events);
    };
    for (uint64_t seed = 1; seed <= 6; seed++) {
        SelectScenario s = shifted(seed);
        for (SelectCameraPlan& plan : s.cameras) {
            plan.sub_shift = 0;
            plan.report_loss =
                1;  // so that it has no feedback to go by, as no checkpoint has for a world it does not know
        }
        collect(s, before);
    }
    collect(shifted(100), after);
    SelectTraining training;
    training.batch = 128;
    const FloatModel checkpoint = train_select({select_network(), {}, {}}, before, training);
    const double error_before = select_error(checkpoint, after).sub;

    SelectOnlineOptions options;
    options.necessary_loss = 0.05;
    SelectOnline online(checkpoint, options);
    EXPECT_FALSE(online.necessary(checkpoint));
    uint64_t batches = 0;
    SelectEvents events;
    events.sample = [&](size_t, const adp_select_sample& sample, const std::array<double, 2>&) {
        online.add(std::span(&sample, 1));
    };
    events.measured = [&](size_t, uint64_t camera, uint64_t chunk_us, double sub_worth, double gain) {
        online.add_measured(camera, chunk_us, sub_worth, gain);
        batches += online.train().trained ? 1 : 0;
    };
    SelectScenario long_one = shifted(20);
    long_one.seconds = 600;
    (void)run_select(long_one, network_policy(checkpoint), events);
    EXPECT_GE(batches, 8U);
    const SelectOnlineCounters counters = online.counters();
    EXPECT_EQ(counters.labels, counters.reports) << counters.unmatched << " " << counters.late << " " << counters.blind;
    const double error_after = select_error(online.current(), after).sub;
    EXPECT_LT(error_after, 0.9 * error_before) << error_before;  // much of it is the chunks' own noise
    EXPECT_TRUE(online.necessary(checkpoint));
    EXPECT_FALSE(online.necessary(online.current()));

    // It goes on from elsewhere where it is told to.
    online.restart_from(checkpoint);
    EXPECT_NEAR(select_error(online.current(), after).sub, error_before, 1e-6);
    EXPECT_FALSE(online.stable());
}

TEST(SelectOnlineTest, SettlesWhereNothingChanges) {
    SelectOnlineOptions options;
    options.batch = 8;
    options.stable_batches = 2;
    SelectOnline online(fresh_model(), options);
    uint64_t time_us = 1'000'000;
    bool was_stable_early = false;
    for (int batch = 0; batch < 40; batch++) {
        for (int i = 0; i < 8; i++, time_us += 1'000'000) {
            const adp_select_sample sample = sample_at(time_us);
            online.add(std::span(&sample, 1));
            online.add_measured(1, time_us, 0.9, 0.1);
        }
        ASSERT_FALSE(online.step().empty());
        was_stable_early |= batch == 0 && online.stable();
    }
    EXPECT_FALSE(was_stable_early);
    EXPECT_TRUE(online.stable());
    EXPECT_TRUE(online.step().empty()) << "nothing new to learn from";
}

TEST(SelectOnlineTest, WhatIsSavedIsWhereAnotherGoesOn) {
    const std::string directory = ::testing::TempDir() + "adapath-select-saved";
    std::filesystem::create_directories(directory);
    SelectOnline online(fresh_model(5));
    ASSERT_TRUE(online.save(directory).ok());
    Result<FloatModel> read = read_float_model(directory + "/policy.model");
    ASSERT_TRUE(read) << read.error().message;
    EXPECT_EQ(read->weights, online.current().weights);
    EXPECT_EQ(read->network, select_network());
    std::filesystem::remove_all(directory);
    EXPECT_GE(online.simulated_codes(*read, 100).size(), 100U);
}

// ---- The shipped checkpoint ----

TEST(SelectCheckpoint, FreezesWithinTheLimitAndKnowsMoreThanTheMean) {
    Result<FloatModel> model = read_float_model(ADAPATH_SELECT_MODELS "/policy.model");
    ASSERT_TRUE(model) << model.error().message;
    EXPECT_EQ(model->network, select_network());
    Result<SelectDataset> dataset = SelectDataset::read(ADAPATH_SELECT_MODELS "/dataset.jsonl");
    ASSERT_TRUE(dataset) << dataset.error().message;
    std::vector<SelectExample> examples;
    std::vector<InputCodes> codes;
    SelectEvents events;
    events.sample = [&](size_t, const adp_select_sample& sample, const std::array<double, 2>& truth) {
        if ((sample.flags & ADP_SELECT_NOT_DECIDED) != 0) return;
        SelectExample e;
        std::copy(std::begin(sample.input), std::end(sample.input), e.codes.begin());
        e.sub = static_cast<float>(truth[0]);
        e.main = static_cast<float>(truth[1]);
        examples.push_back(e);
        codes.emplace_back(e.codes.begin(), e.codes.end());
    };
    const SelectScenario s = judged_select_scenario(*dataset, constant(4), "", 12);
    (void)run_select(s, network_policy(*model), events);
    double mean = 0;
    for (const SelectExample& e : examples) mean += (e.main - e.sub) / static_cast<double>(examples.size());
    double plain = 0;
    for (const SelectExample& e : examples)
        plain += std::abs(e.main - e.sub - mean) / static_cast<double>(examples.size());
    EXPECT_LT(select_error(*model, examples).gain, 0.9 * plain);
    Result<QuantModel> integers = quantise(*model, codes);
    ASSERT_TRUE(integers) << integers.error().message;
    EXPECT_TRUE(prove(*integers).ok());
    EXPECT_LT(measure_fidelity(*model, *integers, codes).p99_error, 1.0 / 256);
}

}  // namespace
}  // namespace adapath
