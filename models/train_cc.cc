// adapath-train-cc: trains the congestion control policy from nothing in the simulator and writes the checkpoint.
#include <spdlog/fmt/fmt.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "codegen/version.h"
#include "codegen/codegen.h"
#include "models/cc_model.h"
#include "models/cc_training.h"
#include "models/float_runner.h"
#include "models/ppo.h"

namespace {

using namespace adapath;
using Clock = std::chrono::steady_clock;

std::atomic<bool> stopping{false};
extern "C" void on_signal(int) { stopping = true; }

struct Options {
    std::string out = "models/cc";
    std::string from;
    double minutes = 10;
    uint32_t iterations = 0;
    uint64_t seed = 1;
    uint32_t links = 64;
    uint32_t decisions = 128;
    double sd_first = 0.4;
    double sd_last = 0.12;
    int threads = 2;
    bool fresh = false;
};

struct CurvePoint {
    double minutes;
    uint64_t iteration;
    double reward;
    Score lte;
    Score mixed;
    double objective;
};

std::string score_row(const std::string& name, const Score& s) {
    return fmt::format("| {} | {:.1f} % | {:.0f} | {:.0f} | {:.2f} % | {:.2f} | {:.2f} |\n", name, s.utilisation * 100,
                       s.p95_ms, s.mean_ms, s.loss * 100, s.reward, s.jain);
}

// The same links with other wishes: what the objective does to one network.
std::string objectives(const std::vector<Scenario>& links, const FloatModel& model) {
    FloatRunner runner(model);
    std::string text =
        "\n## One network, several objectives\n\nThe LTE-like held-out links, by the weight of delay (throughput 1, "
        "loss "
        "8; the default is 0.5):\n\n| delay | delivered | p95 queueing, ms | mean queueing, ms |\n|---|---|---|---|\n";
    for (double delay : {1.0 / 32, 0.125, 0.25, 0.5, 1.0, 2.0}) {
        std::vector<Score> scores;
        for (Scenario s : links) {
            s.objective = {ADP_Q16_ONE, static_cast<adp_u32>(delay * ADP_Q16_ONE), ADP_CC_LOSS_DEFAULT_Q16};
            scores.push_back(score_link(s, [&runner](const uint8_t* input) { return runner.run_q16(input); }));
        }
        const Score mean = mean_score(scores);
        text += fmt::format("| {:g} | {:.1f} % | {:.0f} | {:.0f} |\n", delay, mean.utilisation * 100, mean.p95_ms,
                            mean.mean_ms);
    }
    return text;
}

std::string card(const Options& o, const std::vector<CurvePoint>& curve, const CurvePoint& best,
                 const HeldOut& held_out, const HeldOutScores& scores, const FloatModel& policy, double simulated_s,
                 uint64_t decisions, double teacher_error) {
    const std::string head =
        "| | delivered | p95 queueing, ms | mean queueing, ms | queue drops | reward | Jain's index "
        "|\n|---|---|---|---|---|---|---|\n";
    std::string text = "# cc: the congestion control policy\n\n";
    text += "Written by `adapath-train-cc`; do not edit. `make models` makes it again.\n\n";
    text += fmt::format("- Network: {}; inputs are cc.h's codes (schema {}), the last {} intervals.\n",
                        describe(cc_network()), ADP_CC_SCHEMA, ADP_CC_HISTORY);
    text +=
        "- Files: `policy.model` (what is frozen into snapshots), `value.model` (what a state is worth: where online "
        "training goes on from).\n";
    text += fmt::format(
        "- Data: none recorded. {:.0f} simulated hours on random links (models/scenario.cc: 0.5-100 Mbit/s, RTT "
        "5-300 ms, queues of 0.2-5 bandwidth-delay products or 5-2000 ms, loss 0-10 %, two fifths of them LTE-like, "
        "one "
        "in seven with abrupt steps of up to twenty times, one in seven served in bursts, one in five with 2 or 3 "
        "flows, one in five with "
        "a CUBIC neighbour, weights of delay of 1/32 to 2 and of loss of 1 to 32), {:.1f} million decisions, seed "
        "{}.\n",
        simulated_s / 3600, static_cast<double>(decisions) / 1e6, o.seed);
    text += o.from.empty()
                ? fmt::format(
                      "- Warm start: imitation of a hand-written rule (teacher_action() in models/cc_training.cc; "
                      "mean squared error {:.3f}), then PPO.\n",
                      teacher_error)
                : "- Start: the previous checkpoint (see this file's history for how that was trained), then PPO.\n";
    text += fmt::format(
        "- PPO: {} links x {} decisions a batch, exploration {:.2f} falling to {:.2f}, {} iterations, {:.1f} minutes "
        "on "
        "{} core{}. Reward: adp_cc_reward() less log2 of what the link offered (which no action can change); with "
        "several "
        "flows half of the throughput's part is all flows' mean.\n",
        o.links, o.decisions, o.sd_first, o.sd_last, curve.back().iteration, curve.back().minutes, o.threads,
        o.threads == 1 ? "" : "s");
    text += fmt::format(
        "- Chosen: iteration {}, the best on the held-out links by mean reward with at least 90 % delivered on "
        "the LTE-like ones (so these links chose the checkpoint, and did not train it).\n\n",
        best.iteration);
    text +=
        "## Held-out links\n\nThe same simulator, 40 s each, without exploration. CUBIC is Adapath's fallback "
        "(include/adapath/cubic.h).\n\n";
    text += fmt::format("LTE-like, {} links, 2-30 Mbit/s, one flow:\n\n", held_out.lte.size()) + head;
    text += score_row("policy", mean_score(scores.lte)) + score_row("CUBIC", mean_score(held_out.lte_cubic));
    text += fmt::format("\nMixed, {} links, the whole range:\n\n", held_out.mixed.size()) + head;
    text += score_row("policy", mean_score(scores.mixed)) + score_row("CUBIC", mean_score(held_out.mixed_cubic));
    text += "\nEach LTE-like link (delivered, p95 ms):\n\n| link | policy | CUBIC |\n|---|---|---|\n";
    for (size_t i = 0; i < held_out.lte.size(); i++)
        text += fmt::format("| {} | {:.1f} %, {:.0f} | {:.1f} %, {:.0f} |\n", describe(held_out.lte[i]),
                            scores.lte[i].utilisation * 100, scores.lte[i].p95_ms,
                            held_out.lte_cubic[i].utilisation * 100, held_out.lte_cubic[i].p95_ms);
    text += "\nEach mixed link (delivered, p95 ms):\n\n| link | policy | CUBIC |\n|---|---|---|\n";
    for (size_t i = 0; i < held_out.mixed.size(); i++)
        text += fmt::format("| {} | {:.1f} %, {:.0f} | {:.1f} %, {:.0f} |\n", describe(held_out.mixed[i]),
                            scores.mixed[i].utilisation * 100, scores.mixed[i].p95_ms,
                            held_out.mixed_cubic[i].utilisation * 100, held_out.mixed_cubic[i].p95_ms);
    text += objectives(held_out.lte, policy);
    text +=
        "\n## Curve\n\n| minutes | iteration | training reward | LTE-like delivered | LTE-like p95, ms | mixed "
        "delivered | mixed p95, "
        "ms | objective |\n|---|---|---|---|---|---|---|---|\n";
    const size_t every = std::max<size_t>(1, curve.size() / 20);
    for (size_t i = 0; i < curve.size(); i++) {
        if (i % every != 0 && i + 1 != curve.size()) continue;
        const CurvePoint& p = curve[i];
        text += fmt::format("| {:.1f} | {} | {:.3f} | {:.1f} % | {:.0f} | {:.1f} % | {:.0f} | {:.3f} |\n", p.minutes,
                            p.iteration, p.reward, p.lte.utilisation * 100, p.lte.p95_ms, p.mixed.utilisation * 100,
                            p.mixed.p95_ms, p.objective);
    }
    return text;
}

Status write_text(const std::string& path, const std::string& text) {
    std::ofstream out(path, std::ios::binary | std::ios::trunc);
    out << text;
    out.close();
    if (!out) return Error{fmt::format("{}: cannot be written; check the folder's permissions and space", path)};
    return {};
}

// ---- Where a training that was stopped goes on ----

using nlohmann::json;

struct Progress {
    uint64_t iteration = 0;
    double minutes = 0;
    uint64_t decisions = 0;
    double simulated_s = 0;
    double teacher_error = 0;
    std::vector<CurvePoint> curve;
    CurvePoint best = {};
    FloatModel policy, value, best_policy, best_value;
};

std::string state_folder(const Options& o) { return o.out + "/.training"; }

// What must be the same for a state to be this training's.
json identity(const Options& o) {
    return {{"schema", ADP_CC_SCHEMA}, {"network", describe(cc_network())}, {"seed", o.seed},
            {"links", o.links},        {"decisions", o.decisions},          {"from", o.from}};
}

json to_json(const Score& s) { return {s.utilisation, s.p95_ms, s.mean_ms, s.reward, s.loss, s.jain}; }
Score score_from(const json& j) { return {j.at(0), j.at(1), j.at(2), j.at(3), j.at(4), j.at(5)}; }
json to_json(const CurvePoint& p) {
    return {p.minutes, p.iteration, p.reward, to_json(p.lte), to_json(p.mixed), p.objective};
}
CurvePoint point_from(const json& j) {
    return {j.at(0), j.at(1), j.at(2), score_from(j.at(3)), score_from(j.at(4)), j.at(5)};
}

Status save(const Options& o, const Progress& p) {
    const std::string folder = state_folder(o);
    std::error_code failure;
    std::filesystem::create_directories(folder, failure);
    if (failure) return Error{fmt::format("{}: {}", folder, failure.message())};
    for (const auto& [model, name] : {std::pair<const FloatModel&, const char*>{p.policy, "policy.model"},
                                      {p.value, "value.model"},
                                      {p.best_policy, "best_policy.model"},
                                      {p.best_value, "best_value.model"}})
        if (auto s = write_float_model(model, folder + "/" + name); !s) return s;
    json state = {{"identity", identity(o)},          {"iteration", p.iteration},     {"minutes", p.minutes},
                  {"decisions", p.decisions},         {"simulated_s", p.simulated_s}, {"best", to_json(p.best)},
                  {"teacher_error", p.teacher_error}, {"curve", json::array()}};
    for (const CurvePoint& point : p.curve) state["curve"].push_back(to_json(point));
    // Last, and in one step: its presence says that the models are whole.
    if (auto s = write_text(folder + "/state.json.new", state.dump() + "\n"); !s) return s;
    std::filesystem::rename(folder + "/state.json.new", folder + "/state.json", failure);
    return failure ? Status(Error{fmt::format("{}/state.json: {}", folder, failure.message())}) : Status();
}

// False: there is nothing to go on from.
Result<bool> load(const Options& o, Progress& p) {
    const std::string folder = state_folder(o);
    std::ifstream in(folder + "/state.json");
    if (o.fresh || !in) return false;
    const json state = json::parse(in, nullptr, false);
    if (state.is_discarded()) return Error{fmt::format("{}/state.json: not JSON; start over with --fresh", folder)};
    if (state.value("identity", json()) != identity(o)) {
        fmt::print("{} is of another training (other seed, links or network): starting over\n", folder);
        return false;
    }
    for (const auto& [model, name] : {std::pair<FloatModel&, const char*>{p.policy, "policy.model"},
                                      {p.value, "value.model"},
                                      {p.best_policy, "best_policy.model"},
                                      {p.best_value, "best_value.model"}}) {
        auto read = read_float_model(folder + "/" + name);
        if (!read) return Error{read.error().message + "; start over with --fresh"};
        model = *read;
    }
    p.iteration = state.at("iteration");
    p.minutes = state.at("minutes");
    p.decisions = state.at("decisions");
    p.simulated_s = state.at("simulated_s");
    p.teacher_error = state.at("teacher_error");
    p.best = point_from(state.at("best"));
    for (const json& point : state.at("curve")) p.curve.push_back(point_from(point));
    return true;
}

Status train(const Options& o) {
    std::error_code failure;
    std::filesystem::create_directories(o.out, failure);
    if (failure) return Error{fmt::format("--out {}: {}; name a folder that can be written", o.out, failure.message())};

    FloatModel policy_start{cc_network(), {}, {}};
    FloatModel value_start{cc_value_network(), {}, {}};
    if (!o.from.empty()) {
        auto policy = read_float_model(o.from + "/policy.model");
        if (!policy) return policy.error();
        auto value = read_float_model(o.from + "/value.model");
        if (!value) return value.error();
        for (const FloatModel* model : {&*policy, &*value})
            if (model->network.inputs != cc_network().inputs || model->network.feature_schema != ADP_CC_SCHEMA)
                return Error{
                    fmt::format("--from {}: trained for other inputs (schema {}, here {}); start from nothing instead",
                                o.from, model->network.feature_schema, ADP_CC_SCHEMA)};
        policy_start = *policy;
        value_start = *value;
    }
    Progress progress_before;
    auto resumed = load(o, progress_before);
    if (!resumed) return resumed.error();
    if (*resumed) {
        policy_start = progress_before.policy;
        value_start = progress_before.value;
    }
    PpoOptions ppo_options;
    ppo_options.seed = o.seed + progress_before.iteration;
    Ppo ppo(policy_start, value_start, ppo_options);
    // Other links than before the stop: their simulators' insides are not saved, and nothing is learned from the same
    // twice.
    CcEnvironments environments(o.links, o.seed + progress_before.iteration * 0x9e3779b97f4a7c15ULL, o.threads);
    const HeldOut held_out = make_held_out(1, 16, 24);

    const auto began = Clock::now();
    auto minutes = [&] {
        return progress_before.minutes + std::chrono::duration<double>(Clock::now() - began).count() / 60;
    };

    double teacher_error = progress_before.teacher_error;
    if (*resumed) {
        fmt::print("going on at iteration {} after {:.1f} minutes (--fresh starts over)\n", progress_before.iteration,
                   progress_before.minutes);
    } else if (o.from.empty()) {
        std::vector<CcCodes> codes;
        std::vector<float> targets;
        for (int round = 0; round < 8 && !stopping; round++) {
            // Noise, so that the states that the teacher itself would never get into are covered too.
            for (const Segment& segment : environments.collect_teacher(round % 2 ? 0.5 : 0.1, o.decisions))
                for (const Step& step : segment.steps) {
                    codes.push_back(step.codes);
                    targets.push_back(teacher_action(step.codes));
                }
        }
        teacher_error = ppo.imitate(codes, targets, 30);
        fmt::print("warm start: {} decisions of the teacher, mean squared error {:.4f}\n", codes.size(), teacher_error);
    }

    std::vector<CurvePoint> curve = progress_before.curve;
    CurvePoint best = progress_before.best;
    FloatModel best_policy = progress_before.best_policy;
    FloatModel best_value = progress_before.best_value;
    const double simulated_before_s = progress_before.simulated_s;
    uint64_t decisions = progress_before.decisions;
    double next_report = 0;
    for (uint64_t iteration = progress_before.iteration;; iteration++) {
        const double progress = o.iterations ? static_cast<double>(iteration) / o.iterations : minutes() / o.minutes;
        const bool last = stopping || progress >= 1;
        const double left = std::max(0.0, 1 - progress);
        const double sd = o.sd_last + (o.sd_first - o.sd_last) * left;
        PpoStats stats;
        if (!last) {
            ppo.set_rates(5e-4 * left + 3e-5, 1e-3 * left + 1e-4);
            const std::vector<Segment> segments = environments.collect(ppo.policy(), sd, o.decisions);
            // The value network learns what the imitated policy is worth before it may judge it.
            stats = ppo.update(segments, iteration >= 15, &stopping);
            decisions += stats.steps;
        }
        if (progress < next_report && !last) continue;
        next_report = progress + 1.0 / 60;
        const FloatModel model = ppo.policy();
        const HeldOutScores scores = score_held_out(held_out, model);
        CurvePoint point{
            minutes(),       iteration, stats.mean_reward, mean_score(scores.lte), mean_score(scores.mixed),
            scores.objective};
        curve.push_back(point);
        fmt::print(
            "{:5.1f} min  iteration {:5}  reward {:7.3f}  sd {:.2f}  kl {:.4f}  explained {:.2f}  LTE {:.1f} % p95 "
            "{:.0f} ms  "
            "mixed {:.1f} % p95 {:.0f} ms  objective {:.3f}{}\n",
            point.minutes, iteration, stats.mean_reward, sd, stats.kl, stats.explained, point.lte.utilisation * 100,
            point.lte.p95_ms, point.mixed.utilisation * 100, point.mixed.p95_ms, point.objective,
            curve.size() == 1 || point.objective > best.objective ? "  best" : "");
        std::fflush(stdout);
        if (curve.size() == 1 || point.objective > best.objective) {
            best = point;
            best_policy = model;
            best_value = ppo.value();
        }
        if (last) break;
        if (auto s = save(o, {iteration + 1, minutes(), decisions, simulated_before_s + environments.simulated_s(),
                              teacher_error, curve, best, model, ppo.value(), best_policy, best_value});
            !s)
            return s;
    }
    const HeldOutScores best_scores = score_held_out(held_out, best_policy);
    if (auto s = write_float_model(best_policy, o.out + "/policy.model"); !s) return s;
    if (auto s = write_float_model(best_value, o.out + "/value.model"); !s) return s;
    if (auto s = write_text(o.out + "/CARD.md",
                            card(o, curve, best, held_out, best_scores, best_policy,
                                 simulated_before_s + environments.simulated_s(), decisions, teacher_error));
        !s)
        return s;
    fmt::print(
        "written: {0}/policy.model, {0}/value.model, {0}/CARD.md (iteration {1}); {2:.0f} simulated hours, {3:.0f} "
        "times real "
        "time with training\n",
        o.out, best.iteration, (simulated_before_s + environments.simulated_s()) / 3600,
        (simulated_before_s + environments.simulated_s()) / (minutes() * 60));
    // Stopped before its time, it can go on.
    if (!stopping) std::filesystem::remove_all(state_folder(o), failure);
    return {};
}

}  // namespace

int main(int argc, char** argv) {
    Options o;
    CLI::App app{
        "Trains the congestion control policy in the simulator and writes policy.model, value.model and CARD.md.\n"
        "Ctrl-C ends the training early and writes the best checkpoint so far; the same command goes on from there."};
    app.set_version_flag("--version", adapath::kVersion);
    app.add_option("--out", o.out, "Folder for the checkpoint")->capture_default_str();
    app.add_option("--from", o.from, "Folder of a checkpoint to go on from (default: start from nothing)");
    app.add_option("--minutes", o.minutes, "Wall time of training, minutes")
        ->capture_default_str()
        ->check(CLI::Range(0.01, 100000.0));
    app.add_option("--iterations", o.iterations,
                   "Batches instead of minutes: the same seed then gives the same checkpoint (0 = by time)")
        ->capture_default_str();
    app.add_option("--seed", o.seed, "Of links, weights and noise")->capture_default_str();
    app.add_option("--links", o.links, "Simulated links side by side")
        ->capture_default_str()
        ->check(CLI::Range(1, 10000));
    app.add_option("--decisions", o.decisions, "Decisions of each link in a batch")
        ->capture_default_str()
        ->check(CLI::Range(8, 100000));
    app.add_option("--explore-first", o.sd_first, "Exploration at the start, standard deviation in units of the action")
        ->capture_default_str()
        ->check(CLI::Range(0.01, 1.0));
    app.add_option("--explore-last", o.sd_last, "Exploration at the end")
        ->capture_default_str()
        ->check(CLI::Range(0.01, 1.0));
    app.add_flag("--fresh", o.fresh, "Start over instead of going on where a stopped training was (OUT/.training)");
    app.add_option("--threads", o.threads, "Of the simulation; LibTorch has one, small batches do not profit from more")
        ->capture_default_str()
        ->check(CLI::Range(1, 256));
    CLI11_PARSE(app, argc, argv);

    struct sigaction action = {};
    action.sa_handler = on_signal;
    sigaction(SIGINT, &action, nullptr);
    sigaction(SIGTERM, &action, nullptr);

    const Status status = train(o);
    if (!status) {
        fmt::print(stderr, "adapath-train-cc: {}\n", status.error().message);
        return 1;
    }
    return 0;
}
