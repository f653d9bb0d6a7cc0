// adapath-video-bench: which rendition of which camera's picture deserves the uplink. Live video through the whole path
// (cameras, the gateway's kernel, relay, uplink, server), the learned selector against its rivals, judged by what the
// server's vision network could see in time.
//
// Every finished cell is a JSON line in OUT/results.jsonl; a run goes on where the last one was stopped.
#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iterator>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "bench/video/cell.h"
#include "bench/video/offline.h"
#include "bench/video/pictures.h"
#include "bench/video/policies.h"
#include "bench/video/report.h"
#include "codegen/version.h"
#include "userspace/arena/hash.h"
#include "userspace/arena/policy.h"
#include "userspace/arena/progress.h"
#include "userspace/arena/results.h"
#include "userspace/arena/traces.h"
#include "userspace/common/file.h"
#include "userspace/common/stop.h"

namespace {

using namespace adapath;
using namespace adapath::video_bench;

constexpr int exit_ok = 0;
constexpr int exit_cells_failed = 1;
constexpr int exit_usage = 2;
constexpr int exit_not_run = 3;
constexpr int exit_interrupted = 130;

// Counted up when figures are measured in another way.
// 2: the relay sends by what main streams gain, and limits what is in flight. 3: F1 is the mean of the pictures', and
// the relay drops what is late though half of it is gone. 4: rivals are tuned with the relay's own rules for sub
// streams.
constexpr int measurement = 4;
constexpr double overhead_s = 30;  // a group's starting and ending, before that was measured

const std::vector<std::string> policy_names = {
    learned_policy, mix_bytes_policy, threshold_bytes_policy, switched_policy, sub_policy,
    "always-main",  mix_policy,       insured_policy,         both_policy,     threshold_policy};
// The learned one with the bytes that a rival took: measured after it, over the same link from its beginning.
const std::map<std::string, std::string> budget_of = {{mix_bytes_policy, mix_policy},
                                                      {threshold_bytes_policy, threshold_policy}};
// A budget is measured until it took nearly what its rival did, and no more: at most so often, whatever F1 it has.
constexpr unsigned budget_tries = 3;
constexpr double near_share = 0.94;
constexpr double aim_share = 0.97;

struct Options {
    std::vector<std::string> traces;
    std::vector<double> generate_mbit;
    std::vector<uint64_t> seeds = {1};
    std::vector<unsigned> cameras = {4, 8};
    std::vector<std::string> policies = policy_names;
    unsigned seconds = 60;
    // Longer than the default clip's loop: how the selector finds out whom it deals with is another question than how
    // it then decides, and its rivals know the very minute.
    unsigned warm_up_s = 40;
    double load = 1.6;
    double delay_ms = 20;
    double queue_ms = 1000;
    double switch_every_s = 0.5;
    std::vector<std::string> clips;
    MeasureOptions video;
    std::string detector;
    std::string out = "out/video";
    bool fresh = false;
    bool report_only = false;
    std::string bin;
    std::string cc_checkpoint = "models/cc";
    // Live pictures are worth nothing when they are late: twice the default's weight of delay, as in docs/video.md.
    std::string cc_config = "objective { throughput: 1 delay: 1 loss: 8 }";
    std::string checkpoint = "models/select";
    std::string certificates = "scripts/certificates.sh";
    std::vector<std::string> trainer_arguments;
    std::vector<std::string> relay_arguments;
    std::map<std::string, std::vector<std::string>> variants;  // policy's name -> arguments of its relay
    std::string daemon_config;
};

int fail(const std::string& message, int code) {
    fmt::print(stderr, "adapath-video-bench: {}\n", message);
    return code;
}

// The same link, that much wider: opportunities left out, or doubled, evenly.
Result<Trace> scaled(const Trace& trace, double factor) {
    std::ostringstream lines;
    const uint64_t count = trace.opportunities_per_period();
    double owed = 0;
    uint64_t last_ms = 0;
    for (uint64_t i = 0; i < count; i++) {
        last_ms = trace.opportunity_ns(i) / 1'000'000;
        for (owed += factor; owed >= 1; owed -= 1) {
            lines << last_ms << '\n';
        }
    }
    // The period is the last opportunity's time: it stays.
    lines << last_ms << '\n';
    return Trace::parse(lines.str(), "scaled trace");
}

class Bench {
public:
    Bench(const Options& options, StopToken& stop) : options_(options), stop_(stop) {}

    Result<size_t> run() {
        if (Status ready = set_up(); !ready) {
            return ready.error();
        }
        Result<arena::ResultFile> results = arena::ResultFile::open(options_.out + "/results.jsonl", options_.fresh);
        if (!results) {
            return results.error();
        }
        struct Group {
            arena::SeededTrace trace;
            unsigned cameras;
        };
        std::vector<Group> groups;
        for (const unsigned cameras : options_.cameras) {
            for (const arena::TraceSource& source : sources_) {
                for (const uint64_t seed : options_.seeds) {
                    Result<arena::SeededTrace> trace = arena::seeded(source, seed);
                    if (!trace) {
                        return trace.error();
                    }
                    groups.push_back({std::move(*trace), cameras});
                }
            }
        }
        // Those with a budget come when it is known.
        std::array<std::vector<std::string>, 2> turns;
        for (const std::string& policy : options_.policies) {
            turns[budget_of.contains(policy) ? 1 : 0].push_back(policy);
        }
        const auto turns_taken = static_cast<size_t>(
            std::ranges::count_if(turns, [](const std::vector<std::string>& turn) { return !turn.empty(); }));
        arena::Progress progress(
            std::vector<double>(turns_taken * groups.size(), options_.seconds + options_.warm_up_s + overhead_s));
        size_t failed = 0;
        unsigned measured_for = 0;
        std::vector<MeasuredCamera> cameras;
        for (const Group& group : groups) {
            if (stop_.requested()) {
                break;
            }
            if (measured_for != group.cameras) {
                Result<std::vector<MeasuredCamera>> looked = measure(group.cameras);
                if (!looked) {
                    return looked.error();
                }
                cameras = std::move(*looked);
                measured_for = group.cameras;
            }
            for (const std::vector<std::string>& turn : turns) {
                if (turn.empty() || stop_.requested()) {
                    continue;
                }
                progress.begin(fmt::format("{} cameras, {}, seed {}{}", group.cameras, group.trace.name,
                                           group.trace.seed,
                                           budget_of.contains(turn.front()) ? ", with the rivals' bytes" : ""));
                Result<size_t> bad = run_group(group.trace, cameras, turn, *results, progress);
                if (!bad) {
                    return bad.error();
                }
                failed += *bad;
                progress.end_group();
            }
        }
        progress.close();
        return failed;
    }

    // What all of this run's cells have in common; after run().
    [[nodiscard]] const Json& settings() const { return settings_; }

private:
    Status set_up() {
        if (geteuid() != 0) {
            return Error{"network namespaces and BPF need root: run it with sudo"};
        }
        for (const std::string& directory : {options_.out, options_.out + "/cells"}) {
            if (Status made = make_directories(directory); !made) {
                return made;
            }
        }
        for (const std::string& path : options_.traces) {
            Result<std::vector<arena::TraceSource>> sources = arena::sources_at(path);
            if (!sources) {
                return sources.error();
            }
            sources_.insert(sources_.end(), sources->begin(), sources->end());
        }
        for (const double mbit : options_.generate_mbit) {
            sources_.push_back(arena::generated_source(mbit));
        }
        for (const std::string& path : options_.clips) {
            // As adapath-camera shares its memory: both have to play the same pictures.
            Result<video::Clip> clip = video::Clip::load(path, {}, (uint64_t{1200} << 20) / options_.clips.size());
            if (!clip) {
                return clip.error();
            }
            if (clip->truncated()) {
                fmt::print(stderr, "video-bench: {}: its first {} pictures, for want of memory (--to takes fewer)\n",
                           path, clip->pictures());
            }
            Result<std::string> hash = arena::sha256_file(path);
            if (!hash) {
                return hash.error();
            }
            contents_["clips"].push_back(hash->substr(0, 16));
            clips_.push_back(std::move(*clip));
        }
        if (Status made =
                make_stage_certificates(options_.certificates, options_.out + "/certificates", options_.policies);
            !made) {
            return made;
        }
        arena::PolicyContext context{.bin = options_.bin,
                                     .checkpoint = options_.cc_checkpoint,
                                     .work = options_.out + "/cells/cc",
                                     .daemon_config = options_.cc_config + "\n",
                                     .stop = &stop_};
        Result<std::unique_ptr<arena::Policy>> cc = arena::make_policy("adapath", context);
        if (!cc) {
            return cc.error();
        }
        cc_ = std::move(*cc);
        if (Status ready = cc_->prepare(); !ready) {
            return ready;
        }
        return make_settings();
    }

    Status make_settings() {
        Result<Json> parts = cc_->parts();
        if (!parts) {
            return parts.error();
        }
        std::vector<std::pair<std::string, std::string>> files;
        for (const std::string name : {"adapath-relay", "adapath-server", "adapath-camera"}) {
            files.emplace_back(name, options_.bin + "/" + name);
        }
        Result<Json> programs = arena::file_hashes(files);
        if (!programs) {
            return programs.error();
        }
        Result<std::string> hash = model_hash(options_.detector);
        if (!hash) {
            return hash.error();
        }
        contents_["detector"] = *hash;
        Result<std::string> checkpoint = arena::sha256_file(options_.checkpoint + "/policy.model");
        if (!checkpoint) {
            return checkpoint.error();
        }
        checkpoint_ = checkpoint->substr(0, 16);
        utsname name{};
        uname(&name);
        settings_ = {{"measurement", measurement},
                     {"load", options_.load},
                     {"seconds", options_.seconds},
                     {"warm_up_s", options_.warm_up_s},
                     {"delay_ms", options_.delay_ms},
                     {"queue_ms", options_.queue_ms},
                     {"video", camera_arguments(options_.clips, options_.video)},
                     {"contents", contents_},
                     {"kernel", name.release},
                     {"cc", *parts},
                     {"cc_config", options_.cc_config},
                     {"programs", *programs}};
        if (!options_.relay_arguments.empty()) {
            settings_["relay_arguments"] = options_.relay_arguments;
        }
        return {};
    }

    Result<std::vector<MeasuredCamera>> measure(unsigned cameras) {
        prepare_process(1);
        Result<std::unique_ptr<Detector>> detector = open_detector(options_.detector);
        if (!detector) {
            return detector.error();
        }
        Result<std::unique_ptr<Detections>> detections = Detections::open(
            {.model = contents_["detector"], .file = options_.out + "/detections.jsonl", .most = 1'000'000});
        if (!detections) {
            return detections.error();
        }
        MeasureOptions video = options_.video;
        video.layout.cameras = cameras;
        auto said = std::chrono::steady_clock::now();
        return measure_cameras(clips_, video, **detector, **detections, [&](uint64_t done, uint64_t all) {
            if (const auto now = std::chrono::steady_clock::now(); now - said >= std::chrono::seconds(5)) {
                said = now;
                fmt::print(stderr, "video-bench: {} cameras: {} of {} pictures looked at\n", cameras, done, all);
            }
            return !stop_.requested();
        });
    }

    Result<std::string> competitor(const FloatModel& model, const std::string& name) {
        return frozen(freezer_, model, name);
    }

    // What a rival took in a cell that was measured before, bytes/s.
    Result<double> rate_of(const std::string& policy, const arena::SeededTrace& trace, const Trace& link,
                           size_t cameras, const arena::ResultFile& results) const {
        Result<std::vector<Json>> lines = arena::read_results(results.path());
        if (!lines) {
            return lines.error();
        }
        const std::string key = key_of(inputs(policy, trace, link, cameras));
        const auto line = std::ranges::find_if(*lines, [&](const Json& of) { return of.value("key", "") == key; });
        if (line == lines->end()) {
            return Error{fmt::format("{} could not be measured on {} with {} cameras, so nobody knows its bytes",
                                     policy, trace.name, cameras)};
        }
        return line->at("figures").at("bytes").get<double>() / options_.seconds;
    }

    // `budget`: bytes/s, of those that have one.
    Result<SelectCell> cell_of(const std::string& policy, const arena::SeededTrace& trace, const Trace& link,
                               const std::vector<MeasuredCamera>& cameras, double budget) {
        SelectCell cell;
        cell.policy = policy;
        VideoStageOptions& stage = cell.stage;
        stage.name = policy;
        stage.bin = options_.bin;
        stage.work = options_.out + "/cells/" + policy;
        stage.certificates = options_.out + "/certificates";
        stage.cameras = static_cast<uint32_t>(cameras.size());
        stage.congestion_control = cc_->congestion_control();
        stage.uplink.delay_ms = options_.delay_ms;
        stage.uplink.queue_bytes =
            std::max<uint64_t>(3000, static_cast<uint64_t>(link.mean_bytes_per_s() * options_.queue_ms / 1000));
        stage.uplink.seed = trace.seed;
        stage.uplink.realtime = true;
        stage.uplink.prefix = "adpvb";
        stage.camera_arguments = camera_arguments(options_.clips, options_.video);
        stage.relay_arguments = options_.relay_arguments;
        if (const auto variant = options_.variants.find(policy); variant != options_.variants.end()) {
            stage.relay_arguments.insert(stage.relay_arguments.end(), variant->second.begin(), variant->second.end());
        }
        stage.server_arguments = {"--without-vision", "--detections", options_.out + "/detections.jsonl", "--queue",
                                  "256"};
        // Bytes cost nothing to those that know no price.
        const std::string free = "objective { accuracy: 1 bytes: 0 }\n";
        OfflineOptions offline;
        offline.begin_s = options_.warm_up_s;
        offline.seconds = options_.seconds;
        offline.delay_s = options_.delay_ms / 1000;
        offline.group = options_.video.encoding.group;
        std::string more;
        const auto decided_by = [&](const FloatModel& model) -> Status {
            Result<std::string> snapshot = competitor(model, policy);
            if (!snapshot) {
                return snapshot.error();
            }
            stage.snapshot = *snapshot;
            stage.daemon_config = free;
            return {};
        };
        Status rival;
        if (policy == sub_policy) {
            rival = decided_by(constant_select(1, 0));
        } else if (policy == "always-main") {
            rival = decided_by(constant_select(0, 1));
        } else if (policy == both_policy) {
            rival = decided_by(constant_select(0.5F, 0.5F));
        } else if (policy == threshold_policy) {
            const TunedThreshold best = best_threshold(cameras, link, offline);
            more = fmt::format("{:.0f} bytes, {}", best.bytes, modelled(best.score));
            rival = decided_by(threshold_select(best.bytes));
        } else if (policy == mix_policy || policy == insured_policy) {
            const TunedMix best = best_mix(cameras, link, offline, policy == insured_policy);
            stage.renditions = best.renditions;
            for (const uint32_t set : stage.renditions) {
                more += "-smb"[set];
            }
            more += ", " + modelled(best.score);
            if (policy == insured_policy) {
                // Of what a camera sends, all: sub beside main as soon as any of main is late.
                rival = decided_by(constant_select(0.5F, 0.5F));
            }
        } else {
            stage.trainer_arguments = {"--app", "select", "--checkpoint", options_.checkpoint};
            stage.trainer_arguments.insert(stage.trainer_arguments.end(), options_.trainer_arguments.begin(),
                                           options_.trainer_arguments.end());
            stage.daemon_config = options_.daemon_config;
            if (budget > 0) {
                const std::string kbps = fmt::format("{:.0f}", budget * 8 / 1000);
                stage.relay_arguments.insert(stage.relay_arguments.end(), {"--budget-kbps", kbps});
                more = kbps + " kbit/s";
            }
            cell.switch_every_s = policy == switched_policy ? options_.switch_every_s : 0;
        }
        if (!rival) {
            return rival.error();
        }
        cell.inputs = inputs(policy, trace, link, cameras.size());
        if (!more.empty()) {
            cell.inputs["tuned_to"] = more;
        }
        return cell;
    }

    static std::string modelled(const OfflineScore& score) {
        return fmt::format("modelled: F1 {:.3f} at {:.0f} kB/s", score.f1, score.rate / 1000);
    }

    Json inputs(const std::string& policy, const arena::SeededTrace& trace, const Trace& link, size_t cameras) const {
        Json json{{"trace", trace.name}, {"trace_sha256", trace.hash},
                  {"seed", trace.seed},  {"mean_mbit", std::round(link.mean_bytes_per_s() * 8 / 1e4) / 100},
                  {"cameras", cameras},  {"policy", policy}};
        json.update(settings_);
        if (policy == switched_policy) {
            json["switch_every_s"] = options_.switch_every_s;
        }
        const auto variant = options_.variants.find(policy);
        if (variant != options_.variants.end()) {
            json["variant"] = variant->second;
        }
        if (budget_of.contains(policy)) {
            json["budget"] = "measured";  // once it was modelled
        }
        if (std::ranges::find(budgets, policy) != budgets.end() || policy == switched_policy ||
            variant != options_.variants.end()) {
            json["checkpoint"] = checkpoint_;
            json["trainer_arguments"] = options_.trainer_arguments;
            json["daemon_config"] = options_.daemon_config;
        }
        return json;
    }

    static std::string key_of(const Json& inputs) { return arena::sha256_text(inputs.dump()).substr(0, 16); }

    // A policy that is to be measured, and under which key.
    struct Wanted {
        std::string policy;
        std::string key;
        double rivals_rate = 0;  // bytes/s: what it may take; 0: what it likes
        double budget = 0;
        unsigned tries = 0;
    };

    Result<size_t> run_group(const arena::SeededTrace& trace, const std::vector<MeasuredCamera>& cameras,
                             const std::vector<std::string>& policies, arena::ResultFile& results,
                             arena::Progress& progress) {
        double main_rate = 0;
        for (const MeasuredCamera& camera : cameras) {
            main_rate += camera.rate(ADP_SELECT_MAIN) * OfflineOptions{}.overhead;
        }
        Result<Trace> link = scaled(trace.trace, main_rate / options_.load / trace.trace.mean_bytes_per_s());
        if (!link) {
            return link.error();
        }
        std::vector<Wanted> wanted;
        size_t failed = 0;
        for (const std::string& policy : policies) {
            Wanted one{.policy = policy, .key = key_of(inputs(policy, trace, *link, cameras.size()))};
            if (results.has(one.key)) {
                continue;
            }
            if (const auto rival = budget_of.find(policy); rival != budget_of.end()) {
                const Result<double> rate = rate_of(rival->second, trace, *link, cameras.size(), results);
                if (!rate) {
                    progress.say(fmt::format("video-bench: {}: {}", policy, rate.error().message));
                    failed++;
                    continue;
                }
                one.rivals_rate = *rate;
                one.budget = *rate * aim_share;
            }
            wanted.push_back(std::move(one));
        }
        while (!wanted.empty() && !stop_.requested()) {
            SelectGroup group{.trace = &*link,
                              .cameras = cameras,
                              .warm_up_s = static_cast<double>(options_.warm_up_s),
                              .seconds = static_cast<double>(options_.seconds),
                              .cells = {}};
            std::erase_if(wanted, [&](const Wanted& one) {
                Result<SelectCell> cell = cell_of(one.policy, trace, *link, cameras, one.budget);
                if (!cell) {
                    progress.say(fmt::format("video-bench: {}: {}", one.policy, cell.error().message));
                    failed++;
                    return true;
                }
                group.cells.push_back(std::move(*cell));
                return false;
            });
            if (wanted.empty()) {
                break;
            }
            Result<std::vector<CellOutcome>> outcomes =
                run_select_group(group, stop_, [&](double second, double all) { progress.at(second, all); });
            if (!outcomes) {
                return outcomes.error();
            }
            std::vector<Wanted> again;
            for (size_t i = 0; i < outcomes->size(); i++) {
                const CellOutcome& outcome = (*outcomes)[i];
                Wanted& one = wanted[i];
                if (!outcome.error.empty()) {
                    progress.say(fmt::format("video-bench: {}: {}", one.policy, outcome.error));
                    failed++;
                    continue;
                }
                // A budget is a mean over more than what is scored: what the warm-up had no room for is spent in it.
                const double took = outcome.figures["bytes"].get<double>() / options_.seconds;
                const double share = one.rivals_rate > 0 ? took / one.rivals_rate : 1;
                if ((share > 1 || share < near_share) && ++one.tries < budget_tries) {
                    one.budget *= aim_share / share;
                    progress.say(
                        fmt::format("video-bench: {} took {:.1f} % of its rival's bytes: again, with {:.0f} kbit/s",
                                    one.policy, 100 * share, one.budget * 8 / 1000));
                    again.push_back(std::move(one));
                    continue;
                }
                Json line{{"key", one.key},
                          {"inputs", group.cells[i].inputs},
                          {"figures", outcome.figures},
                          {"series", outcome.series}};
                if (Status written = results.append(line); !written) {
                    return written.error();
                }
            }
            wanted = std::move(again);
        }
        return failed;
    }

    const Options options_;
    StopToken& stop_;
    std::vector<arena::TraceSource> sources_;
    Json contents_;           // hashes of the clips and of the vision network: other contents are other cells
    Json settings_;           // of every cell's inputs
    std::string checkpoint_;  // its hash
    std::vector<video::Clip> clips_;
    std::unique_ptr<arena::Policy> cc_;
    Freezer freezer_;
};

// `settings`: of the run that has just ended; null: those of the newest result.
int write_report(const std::string& out, const Json& settings) {
    Result<std::vector<arena::Json>> results = arena::read_results(out + "/results.jsonl");
    if (!results) {
        return fail(results.error().message, exit_not_run);
    }
    const std::vector<Comparison> comparisons = compare(*results, settings);
    if (Status written = write_file_durably(out + "/report.html", to_html(comparisons)); !written) {
        return fail(written.error().message, exit_not_run);
    }
    fmt::print("{}\n  {}/report.html\n", to_table(comparisons), out);
    std::fflush(stdout);
    return exit_ok;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app{
        "Live video through the whole path, the learned selector against its rivals, side by side over emulated "
        "uplinks; "
        "judged by what the server's vision network could see in time (F1 against its own boxes in the main stream).\n"
        "Results: OUT/results.jsonl, a line a cell, and OUT/report.html. Run again, it goes on where it was stopped.\n"
        "Exit codes: 0 done, 1 some cells failed, 2 wrong usage, 3 nothing could be measured, 130 interrupted."};
    app.set_version_flag("--version", kVersion);
    Options options;
    options.bin = own_directory();
    options.detector = fetched_file("detector/centernet.json");
    options.video.layout.cameras = 4;
    options.video.encoding.quality[ADP_SELECT_MAIN].qp = 22;
    options.video.encoding.quality[ADP_SELECT_SUB].qp = 38;
    app.add_option("--trace", options.traces,
                   "Trace of the uplink in mahimahi's format, or a directory of them; repeatable")
        ->check(CLI::ExistingPath);
    app.add_option(
           "--generate", options.generate_mbit,
           "Mean rate of a generated LTE-like trace, Mbit/s; repeatable (default: 2, 8 and 20 without --trace). Only "
           "its shape counts: see --load")
        ->check(CLI::Range(0.1, 500.0));
    app.add_option("--seed", options.seeds,
                   "Where in a recorded trace the link begins; what a generated one is made from")
        ->capture_default_str();
    app.add_option("--load", options.load,
                   "Every trace is made as wide as makes all cameras' main streams this many times its mean capacity")
        ->check(CLI::Range(0.1, 100.0))
        ->capture_default_str();
    app.add_option("--cameras", options.cameras, "Cameras on one uplink; repeatable")
        ->check(CLI::Range(1, 64))
        ->capture_default_str();
    app.add_option("--policy", options.policies, "Policy under test; repeatable")
        ->check(CLI::IsMember(policy_names))
        ->capture_default_str();
    app.add_option("--seconds", options.seconds, "Seconds of each cell that count, after --warm-up")
        ->check(CLI::Range(5, 3600))
        ->capture_default_str();
    app.add_option("--warm-up", options.warm_up_s,
                   "Seconds before them: the selectors get to know their cameras, and prices what is asked")
        ->check(CLI::Range(5, 3600))
        ->capture_default_str();
    app.add_option("--switch-every", options.switch_every_s, "Policy switched: seconds between two switches")
        ->check(CLI::Range(0.05, 600.0))
        ->capture_default_str();
    app.add_option("--delay", options.delay_ms, "Propagation delay each way, ms")
        ->check(CLI::Range(0.0, 1000.0))
        ->capture_default_str();
    app.add_option("--queue-ms", options.queue_ms, "Bottleneck's droptail queue, ms at the trace's mean rate")
        ->check(CLI::Range(1.0, 10000.0))
        ->capture_default_str();
    app.add_option("--clip", options.clips,
                   "Video that the cameras are windows of; repeatable (default: the one that 'make deps' fetched)")
        ->check(CLI::ExistingFile);
    app.add_option("--from", options.video.layout.from, "First of the clip's pictures that are played")
        ->capture_default_str();
    app.add_option("--to", options.video.layout.to,
                   "The one after the last; 0: half of the default clip, or all of another");
    app.add_option("--fps", options.video.encoding.fps, "Pictures a second")
        ->check(CLI::Range(1.0, 60.0))
        ->capture_default_str();
    app.add_option("--group", options.video.encoding.group, "Pictures of a chunk")
        ->check(CLI::Range(2, 300))
        ->capture_default_str();
    app.add_option("--main-qp", options.video.encoding.quality[ADP_SELECT_MAIN].qp, "Quantiser of the main rendition")
        ->check(CLI::Range(1, 51))
        ->capture_default_str();
    app.add_option("--sub-qp", options.video.encoding.quality[ADP_SELECT_SUB].qp, "Quantiser of the sub rendition")
        ->check(CLI::Range(1, 51))
        ->capture_default_str();
    app.add_option("--detector", options.detector, "The server's vision network")->capture_default_str();
    app.add_option("--checkpoint", options.checkpoint, "Directory of the selector to start from")
        ->check(CLI::ExistingDirectory)
        ->capture_default_str();
    app.add_option("--cc-config", options.cc_config, "Text for the end of the congestion control's adapathd.conf")
        ->capture_default_str();
    app.add_option("--cc-checkpoint", options.cc_checkpoint, "Directory of the congestion control's policy")
        ->check(CLI::ExistingDirectory)
        ->capture_default_str();
    app.add_option("--trainer-argument", options.trainer_arguments, "Argument for adapath-trainer; repeatable");
    app.add_option("--relay-argument", options.relay_arguments, "Argument for every adapath-relay; repeatable");
    std::vector<std::string> variants;
    app.add_option("--variant", variants,
                   "Another learned policy, with other arguments for its relay: 'NAME: ARGUMENT ARGUMENT'; repeatable");
    app.add_option("--daemon-config", options.daemon_config,
                   "Text for the end of the learned selector's adapathd.conf");
    app.add_option("--certificates", options.certificates, "The script that makes certificates")
        ->check(CLI::ExistingFile)
        ->capture_default_str();
    app.add_option("--out", options.out, "Directory of the results; made if missing")->capture_default_str();
    app.add_option("--bin", options.bin, "Directory of Adapath's other programs (default: this program's own)");
    app.add_flag("--fresh", options.fresh, "Start over: forget the results that are there");
    app.add_flag("--report", options.report_only, "Measure nothing, write the report of what is there");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_ok : exit_usage;
    }
    for (const std::string& text : variants) {
        const size_t colon = text.find(':');
        const std::string name = text.substr(0, colon);
        std::istringstream words(colon == std::string::npos ? "" : text.substr(colon + 1));
        const std::vector<std::string> arguments{std::istream_iterator<std::string>(words), {}};
        if (name.empty() || name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") != std::string::npos ||
            arguments.empty() || std::ranges::count(policy_names, name) != 0 ||
            !options.variants.emplace(name, arguments).second) {
            return fail(fmt::format("--variant '{}': 'NAME: ARGUMENT ARGUMENT', the name of lower case letters, digits "
                                    "and '-', and of nothing else",
                                    text),
                        exit_usage);
        }
        options.policies.push_back(name);
    }
    if (options.report_only) {
        return write_report(options.out, nullptr);
    }
    std::vector<std::string> once;  // a cell's directory is its policy's
    for (const std::string& policy : options.policies) {
        if (std::ranges::find(once, policy) == once.end()) {
            once.push_back(policy);
        }
    }
    options.policies = std::move(once);
    for (const auto& [policy, rival] : budget_of) {
        if (std::ranges::count(options.policies, policy) != 0 && std::ranges::count(options.policies, rival) == 0) {
            fmt::print(stderr, "video-bench: {} has the bytes of {}, which is measured too\n", policy, rival);
            options.policies.push_back(rival);
        }
    }
    if (options.clips.empty()) {
        options.clips = {fetched_file("clip/vtest.avi")};
        if (options.video.layout.to == 0) {
            options.video.layout.to = 397;  // the selector was trained on what comes later
        }
    }
    if (options.traces.empty() && options.generate_mbit.empty()) {
        options.generate_mbit = {2, 8, 20};
    }
    // The daemons take absolute paths only.
    options.out = std::filesystem::absolute(options.out).lexically_normal().string();
    StopToken stop;
    SignalWatcher signals(stop, [](int) {});
    Bench bench(options, stop);
    Result<size_t> failed = bench.run();
    if (stop.requested()) {
        return fail("interrupted; run it again to go on", exit_interrupted);
    }
    if (!failed) {
        return fail(failed.error().message, exit_not_run);
    }
    if (const int code = write_report(options.out, bench.settings()); code != exit_ok) {
        return code;
    }
    return *failed == 0 ? exit_ok : exit_cells_failed;
}
