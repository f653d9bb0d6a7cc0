// adapath-train-select: measures what cameras' renditions are worth, trains the network of the app select on it in the
// simulator, and writes the checkpoint and its card.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>

#include "codegen/codegen.h"
#include "codegen/file_bytes.h"
#include "codegen/version.h"
#include "models/select/measure.h"
#include "models/select/policies.h"
#include "models/select/scenario.h"
#include "models/select/training.h"
#include "models/select_model.h"
#include "userspace/common/file.h"
#include "userspace/video/decoder.h"

namespace {

using namespace adapath;
using Clock = std::chrono::steady_clock;

std::atomic<bool> stopping{false};
extern "C" void on_signal(int) { stopping = true; }

struct Options {
    std::string clip;
    std::string detector;
    std::string out = "models/select";
    std::string dataset;
    uint64_t seed = 1;
    uint32_t most = 0;
    uint32_t scenarios = 150;
    uint32_t rounds = 3;
    uint32_t epochs = 20;
    double decay = 0.3;
    double fidelity_limit = 1.0 / 256;
    double demand = 2;
    std::string traces = "../shared/data/traces";
    int threads = 1;
};

Status measure(const Options& o) {
    auto detector = open_detector(o.detector);
    if (!detector) return detector.error();
    SelectMeasurement m;
    m.clip = o.clip;
    m.path = o.dataset;
    m.most = o.most;
    const auto start = Clock::now();
    size_t before = 0;
    m.progress = [&](size_t done, size_t all) {
        if (before == 0) before = done - 1;
        const double each =
            std::chrono::duration<double>(Clock::now() - start).count() / static_cast<double>(done - before);
        fmt::print(stderr, "\rmeasuring: {} of {} chunks, {:.0f} s to go ", done, all,
                   each * static_cast<double>(all - done));
        return !stopping;
    };
    Status status = measure_select(**detector, m);
    if (before != 0) fmt::print(stderr, "\n");
    return status;
}

int32_t q16(double value) { return static_cast<int32_t>(std::lround(value * ADP_Q16_ONE)); }

// What a policy of that kind sees. `model`: of the round before; without one the outputs are made up from the truth.
void collect(const SelectDataset& dataset, const FloatModel* model, uint32_t scenarios, Random& random,
             std::vector<SelectExample>& examples) {
    for (uint32_t i = 0; i < scenarios && !stopping; i++) {
        const SelectScenario scenario = random_select_scenario(dataset, random);
        Random noise(random.next());
        // Off the policy's own path, too: what it will see once its weights have moved.
        const double sd = noise.log_uniform(0.02, 0.6);
        const SelectPolicy network = model != nullptr ? network_policy(*model) : oracle_policy();
        const SelectPolicy noisy{[&](size_t camera, const uint8_t* input, const std::array<double, 2>& truth) {
                                     SelectOutputs outputs = network.outputs(camera, input, truth);
                                     for (int32_t& value : outputs) value += q16(sd * noise.normal());
                                     return outputs;
                                 },
                                 true};
        SelectEvents events;
        events.sample = [&](size_t, const adp_select_sample& sample, const std::array<double, 2>& truth) {
            if ((sample.flags & ADP_SELECT_NOT_DECIDED) != 0) return;
            SelectExample example;
            std::copy(std::begin(sample.input), std::end(sample.input), example.codes.begin());
            example.sub = static_cast<float>(truth[0]);
            example.main = static_cast<float>(truth[1]);
            examples.push_back(example);
        };
        (void)run_select(scenario, noisy, events);
    }
}

// Decisions of the judged cameras: early chunks.
std::vector<SelectExample> judged_examples(const SelectDataset& dataset, const FloatModel& model, bool held_out) {
    SelectDataset part;
    for (const SelectView& view : dataset.views)
        if (view.held_out == held_out) part.views.push_back(view);
    TraceGenerator link;
    link.seed = 5;
    Result<Trace> trace = Trace::generate(link);
    SelectScenario scenario = judged_select_scenario(part, std::make_shared<const Trace>(std::move(*trace)), "",
                                                     static_cast<uint32_t>(part.views.size()));
    scenario.seconds = 400;
    std::vector<SelectExample> examples;
    SelectEvents events;
    events.sample = [&](size_t, const adp_select_sample& sample, const std::array<double, 2>& truth) {
        if ((sample.flags & ADP_SELECT_NOT_DECIDED) != 0) return;
        SelectExample example;
        std::copy(std::begin(sample.input), std::end(sample.input), example.codes.begin());
        example.sub = static_cast<float>(truth[0]);
        example.main = static_cast<float>(truth[1]);
        examples.push_back(example);
    };
    (void)run_select(scenario, network_policy(model), events);
    return examples;
}

struct Row {
    std::string name;
    SelectScore score;
    std::string how;
};
struct Table {
    std::string name;
    double capacity;        // bytes/s
    std::vector<Row> rows;  // learned, integers, oracle, then the baselines
};

std::string text_of(const std::vector<Table>& tables) {
    std::string text;
    for (const Table& table : tables) {
        text += fmt::format(
            "\n{}, {:.0f} kB/s on average:\n\n| | F1 | kB/s | none | sub | main | both | delay, ms | p95, ms | late "
            "|\n|---|---|---|---|---|---|---|---|---|---|\n",
            table.name, table.capacity / 1e3);
        for (const Row& row : table.rows)
            text += fmt::format(
                "| {}{} | {:.3f} | {:.0f} | {:.0f} % | {:.0f} % | {:.0f} % | {:.0f} % | {:.0f} | {:.0f} | "
                "{:.1f} % |\n",
                row.name, row.how.empty() ? "" : " (" + row.how + ")", row.score.f1, row.score.bytes / 1e3,
                100 * row.score.share[0], 100 * row.score.share[1], 100 * row.score.share[2], 100 * row.score.share[3],
                1e3 * row.score.delay_s, 1e3 * row.score.delay_p95_s, 100 * row.score.late);
    }
    return text;
}

// Scores of everything over the judged scenarios.
Result<std::vector<Table>> judge(const Options& o, const SelectDataset& dataset, const FloatModel& model,
                                 const QuantModel& integers) {
    auto traces = judged_traces(o.traces);
    if (!traces) return traces.error();
    std::vector<Table> tables;
    for (const uint32_t cameras : {4U, 8U}) {
        for (const NamedTrace& trace : *traces) {
            const SelectScenario scenario = judged_select_scenario(dataset, trace.trace, trace.name, cameras, o.demand);
            Table table{scenario.name, trace.trace->mean_bytes_per_s(), {}};
            table.rows.push_back({"learned", run_select(scenario, network_policy(model)), ""});
            const SelectPolicy program{[&](size_t, const uint8_t* input, const std::array<double, 2>&) {
                                           const std::vector<int32_t> out =
                                               interpret(integers, {input, ADP_SELECT_INPUTS});
                                           return SelectOutputs{out[0], out[1]};
                                       },
                                       true};
            table.rows.push_back({"learned, as integers", run_select(scenario, program), ""});
            table.rows.push_back({"oracle: true worths", run_select(scenario, oracle_policy()), ""});
            for (Baseline& baseline : baselines(scenario))
                table.rows.push_back({baseline.name, std::move(baseline.score), baseline.how});
            tables.push_back(std::move(table));
            fmt::print(stderr, "\rjudging: {} of {} scenarios ", tables.size(), 2 * traces->size());
        }
    }
    fmt::print(stderr, "\n");
    return tables;
}

Status run(const Options& o) {
    std::error_code failure;
    std::filesystem::create_directories(o.out, failure);
    if (failure) return Error{fmt::format("--out {}: {}; name a folder that can be written", o.out, failure.message())};
    prepare_process(o.threads);
    if (Status s = measure(o); !s) return s;
    auto dataset = SelectDataset::read(o.dataset);
    if (!dataset) return dataset.error();

    const auto start = Clock::now();
    Random random(o.seed);
    FloatModel model{select_network(), {}, {}};
    std::vector<SelectExample> examples;
    for (uint32_t round = 0; round < o.rounds && !stopping; round++) {
        collect(*dataset, round == 0 ? nullptr : &model, o.scenarios, random, examples);
        SelectTraining training;
        training.seed = o.seed + round;
        training.threads = o.threads;
        training.epochs = o.epochs;
        training.decay = o.decay;
        training.progress = [&](uint32_t epoch, double loss) {
            fmt::print(stderr, "\rtraining: round {} of {}, {} decisions, epoch {}, loss {:.4f} ", round + 1, o.rounds,
                       examples.size(), epoch, loss);
            return !stopping;
        };
        model = train_select({select_network(), {}, {}}, examples, training);
    }
    fmt::print(stderr, "\n");
    const double training_s = std::chrono::duration<double>(Clock::now() - start).count();

    std::vector<InputCodes> calibration;
    std::vector<InputCodes> held;
    for (size_t i = 0; i < examples.size(); i += examples.size() / 4096 + 1)
        (calibration.size() <= held.size() ? calibration : held)
            .emplace_back(examples[i].codes.begin(), examples[i].codes.end());
    Freezer freezer;
    FreezeOptions freeze;
    freeze.explore = 0.05F;
    freeze.fidelity_limit = o.fidelity_limit;
    auto snapshot = freezer.freeze(model, calibration, held, freeze);
    // Weights that are too large for 8 bits: smaller ones, at some cost of what was learned.
    for (double decay = 3 * o.decay; !snapshot && decay < 30 * o.decay && !stopping; decay *= 3) {
        fmt::print(stderr, "{}; again with weight decay {:g}\n", snapshot.error().message, decay);
        SelectTraining again;
        again.seed = o.seed;
        again.threads = o.threads;
        again.epochs = o.epochs;
        again.decay = decay;
        model = train_select({select_network(), {}, {}}, examples, again);
        snapshot = freezer.freeze(model, calibration, held, freeze);
    }
    if (!snapshot) return Error{"the checkpoint cannot be frozen: " + snapshot.error().message};

    if (Status s = write_float_model(model, o.out + "/policy.model"); !s) return s;
    fmt::print(stderr, "written: {}/policy.model; as integers p99 {:.5f} of the output's range\n", o.out,
               snapshot->fidelity.p99_error);
    auto tables = judge(o, *dataset, model, snapshot->model);
    if (!tables) return tables.error();
    std::string text = "# select: what each rendition is worth\n\nWritten by `adapath-train-select`; do not edit.\n\n";
    text += fmt::format("- Network: {}; inputs are select.h's codes (schema {}).\n", describe(model.network),
                        ADP_SELECT_SCHEMA);
    size_t late = 0;
    size_t early = 0;
    size_t held_out = 0;
    for (const SelectView& view : dataset->views) {
        late += view.held_out ? 0 : view.late.size();
        early += view.early.size();
        held_out += view.held_out ? 1 : 0;
    }
    text += fmt::format(
        "- Data: {} (`dataset.jsonl`): {} views of {}, {} of them held out; every 2nd picture of each group of 10 seen "
        "by {}. Truth: what it finds in the decoded main stream. Trained on {} groups of the clip's later half, judged "
        "on {} of its earlier half.\n",
        "what `adapath-train-select` measured", dataset->views.size(),
        std::filesystem::path(o.clip).filename().string(), held_out,
        std::filesystem::path(o.detector).filename().string(), late, early);
    text += fmt::format(
        "- Training: {} rounds of {} random scenarios (models/select/scenario.cc), each round's model deciding in the "
        "next; {} decisions, seed {}, {:.0f} s on {} thread{}.\n",
        o.rounds, o.scenarios, examples.size(), o.seed, training_s, o.threads, o.threads == 1 ? "" : "s");
    text +=
        fmt::format("- As integers: p99 of the error {:.5f} of the output range, on decisions not calibrated on.\n\n",
                    snapshot->fidelity.p99_error);
    text +=
        "Mean absolute error of the worth:\n\n| decisions | sub | main | gain | gain, were it always the mean "
        "|\n|---|---|---|---|---|\n";
    const auto error_row = [&](const std::string& name, const std::vector<SelectExample>& of) {
        const SelectError error = select_error(model, of);
        double mean = 0;
        for (const SelectExample& e : of) mean += (e.main - e.sub) / static_cast<double>(of.size());
        double plain = 0;
        for (const SelectExample& e : of) plain += std::abs(e.main - e.sub - mean) / static_cast<double>(of.size());
        text +=
            fmt::format("| {} | {:.3f} | {:.3f} | {:.3f} | {:.3f} |\n", name, error.sub, error.main, error.gain, plain);
    };
    error_row("trained on", examples);
    error_row("same cameras, earlier", judged_examples(*dataset, model, false));
    error_row("other cameras", judged_examples(*dataset, model, true));
    text += fmt::format(
        "\n## Simulated uplinks\n\n120 s; cameras on the earlier half, those that are held out first; their bytes "
        "scaled "
        "so that the main streams together ask for {:g} times the uplink. F1: mean over cameras and pictures, 0 for "
        "one "
        "that is not there within a second. The baselines have no price and the best of three queue lengths, and the "
        "mix "
        "and the threshold are the best for that very trace.\n",
        o.demand);
    text += text_of(*tables);
    fmt::print("{}", text);
    return write_file(o.out + "/CARD.md", text);
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app(
        "Measures what the renditions of cameras are worth to the server's vision network, trains select's network on "
        "it in the simulator, and writes the checkpoint and its card. The measurement goes on where it was stopped.\n"
        "Exit codes: 0 done, 1 failed, 2 wrong usage.");
    app.set_version_flag("--version", adapath::kVersion);
    Options o;
    o.clip = adapath::fetched_file("clip/vtest.avi");
    o.detector = adapath::fetched_file("detector/centernet.json");
    app.add_option("--clip", o.clip, "Video")->capture_default_str();
    app.add_option("--detector", o.detector, "The server's vision network, *.json or *.pt")->capture_default_str();
    app.add_option("--out", o.out, "Folder for policy.model and CARD.md")->capture_default_str();
    app.add_option("--dataset", o.dataset, "Measured chunks, JSON lines [dataset.jsonl in the folder of --out]");
    app.add_option("--measure-most", o.most,
                   "Measure at most so many chunks more, then go on with what is there (0 = all)")
        ->capture_default_str();
    app.add_option("--seed", o.seed, "Seed")->capture_default_str();
    app.add_option("--scenarios", o.scenarios, "Random scenarios a round")
        ->check(CLI::Range(1, 100000))
        ->capture_default_str();
    app.add_option("--rounds", o.rounds, "Rounds of collecting and training")
        ->check(CLI::Range(1, 100))
        ->capture_default_str();
    app.add_option("--epochs", o.epochs, "Passes over the decisions, a round")
        ->check(CLI::Range(1, 10000))
        ->capture_default_str();
    app.add_option("--decay", o.decay, "Weight decay")->check(CLI::Range(0.0, 100.0))->capture_default_str();
    app.add_option("--fidelity-limit", o.fidelity_limit,
                   "Largest p99 error of the integers, fraction of the output range; 0 = any")
        ->capture_default_str();
    app.add_option("--demand", o.demand, "Judged with main streams that ask for so many times the uplink")
        ->check(CLI::Range(0.01, 1000.0))
        ->capture_default_str();
    app.add_option("--traces", o.traces,
                   "Folder of mahimahi traces to judge by, beside the generated ones; may be missing")
        ->capture_default_str();
    app.add_option("--threads", o.threads, "LibTorch's threads")->check(CLI::Range(1, 256))->capture_default_str();
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }
    if (o.dataset.empty()) o.dataset = o.out + "/dataset.jsonl";
    struct sigaction action = {};
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);
    adapath::video::quiet_libav();
    if (Status s = run(o); !s) {
        fmt::print(stderr, "adapath-train-select: {}\n", s.error().message);
        return 1;
    }
    return 0;
}
