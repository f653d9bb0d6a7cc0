// See cell.h.
#include "bench/video/cell.h"

#include <adapath/select.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>

#include "bench/video/deliveries.h"
#include "bench/video/timeline.h"
#include "codegen/codegen.h"
#include "userspace/arena/link_recorder.h"
#include "userspace/common/clock.h"
#include "userspace/harness/verify.h"

namespace adapath::video_bench {
namespace {

constexpr auto kTick = std::chrono::milliseconds(100);
constexpr uint64_t kLinkStatsNs = 1'000'000'000;
constexpr double kPerturbation = 0.002;

struct Running {
    const SelectCell* cell = nullptr;
    std::unique_ptr<arena::LinkRecorder> recorder;
    std::unique_ptr<VideoStage> stage;
    std::string error;
    uint64_t switches = 0;
    double next_switch_s = 0;

    void fail(const Error& reason) {
        if (error.empty()) {
            error = reason.message;
        }
    }
};

// Snapshots for a switch now and then: the active one's float model with other last digits.
class Switcher {
public:
    Status step(Running& running, double now_s) {
        if (running.cell->switch_every_s <= 0 || now_s < running.next_switch_s) {
            return {};
        }
        running.next_switch_s = now_s + running.cell->switch_every_s;
        DaemonClient& client = running.stage->daemon();
        Result<pb::StatusReply> status = client.status(std::chrono::seconds(5));
        if (!status) {
            return status.error();
        }
        if (status->active_hash().empty()) {
            return {};
        }
        Result<std::string> bytes = client.snapshot(status->active_hash());
        if (!bytes) {
            return bytes.error();
        }
        Result<Snapshot> active = parse_snapshot(*bytes, "active snapshot");
        if (!active) {
            return active.error();
        }
        FloatModel model = active->reference;
        std::normal_distribution<float> noise(0, kPerturbation);
        for (std::vector<float>& layer : model.weights) {
            for (float& weight : layer) {
                weight *= 1 + noise(random_);
            }
        }
        FreezeOptions options;
        options.provenance.trainer = "adapath-video-bench";
        options.provenance.note = "forced";
        options.explore = active->explore;
        options.random_inputs = 100;
        options.fidelity_limit = 0;
        Result<Snapshot> other = freezer_.freeze(model, active->probes, active->probes, options);
        if (!other) {
            return other.error();
        }
        Result<std::string> file = serialise(*other);
        if (!file) {
            return file.error();
        }
        Result<pb::InstallReply> installed = client.install(*file, true, "forced by adapath-video-bench");
        if (!installed) {
            return installed.error();
        }
        running.switches += installed->activated() ? 1 : 0;
        return {};
    }

private:
    Freezer freezer_;
    std::mt19937_64 random_{1};
};

void add_link(const SelectGroup& group, Running& running, CellOutcome& outcome) {
    const Json link = running.recorder->series();
    const auto skip = static_cast<size_t>(group.warm_up_s);
    uint64_t delivered = 0;
    uint64_t capacity = 0;
    for (size_t i = skip;
         link.contains("to_s") && i < link["to_s"].size() && i < skip + static_cast<size_t>(group.seconds); i++) {
        for (const char* name : {"capacity_bytes", "delivered_bytes", "delay_p95_ms"}) {
            outcome.series[name].push_back(link[name][i]);
        }
        delivered += link["delivered_bytes"][i].get<uint64_t>();
        capacity += link["capacity_bytes"][i].get<uint64_t>();
    }
    outcome.figures["bytes"] = delivered;
    outcome.figures["capacity_bytes"] = capacity;
}

Status evaluate(const SelectGroup& group, Running& running, const pb::StatusReply& status, CellOutcome& outcome) {
    const std::vector<MeasuredCamera> cameras(group.cameras.begin(), group.cameras.end());
    Result<ServerResults> results = read_server_results(running.stage->files().server, cameras);
    if (!results) {
        return results.error();
    }
    ScoreOptions options;
    options.begin_us = running.stage->started_us() + static_cast<uint64_t>(group.warm_up_s * 1e6);
    options.end_us = options.begin_us + static_cast<uint64_t>(group.seconds * 1e6);
    options.late_us = static_cast<uint64_t>(group.late_s * 1e6);
    std::vector<CameraScore> scores;
    std::vector<MeanF1> seconds(static_cast<size_t>(group.seconds));
    for (size_t i = 0; i < cameras.size(); i++) {
        Result<CameraScore> scored = score(cameras[i].pictures, results->cameras[i], options);
        if (!scored) {
            return scored.error();
        }
        for (size_t s = 0; s < std::min(seconds.size(), scored->seconds.size()); s++) {
            seconds[s] += scored->seconds[s];
        }
        scores.push_back(std::move(*scored));
    }
    Json& figures = outcome.figures;
    figures["f1"] = mean_f1(scores);
    figures["f1_pooled"] = mean_pooled_f1(scores);
    double least = 1;
    uint64_t pictures = 0, main = 0, sub = 0, late = 0;
    for (const CameraScore& camera : scores) {
        figures["f1_cameras"].push_back(camera.f1.f1());
        least = std::min(least, camera.f1.f1());
        pictures += camera.pictures;
        main += camera.by_main;
        sub += camera.by_sub;
        late += camera.late;
    }
    figures["f1_least"] = least;
    figures["pictures"] = pictures;
    figures["by_main"] = main;
    figures["by_sub"] = sub;
    figures["late"] = late;
    figures["incomplete"] = results->incomplete;
    figures["unknown"] = results->unknown;
    figures["measured_chunks"] = results->measured;
    for (const MeanF1& second : seconds) {
        outcome.series["f1"].push_back(second.f1());
    }
    add_link(group, running, outcome);
    figures["decisions"] = status.decisions();
    figures["fallbacks"] = status.fallbacks();
    figures["samples_lost"] = status.samples_lost();
    figures["switches"] = status.switches_parameter() + status.switches_network();
    figures["forced_switches"] = running.switches;
    figures["rollbacks"] = status.rollbacks();
    Result<VerifiedLog> proof = verify_log(running.cell->stage.bin, "select", running.stage->files().state,
                                           running.stage->files().log + "/adapathctl.log", std::chrono::seconds(60));
    if (!proof) {
        return proof.error();
    }
    figures["verified"] = {{"explained", proof->explained},
                           {"unexplained", proof->unexplained},
                           {"gaps", proof->gaps},
                           {"generations", proof->generations}};
    if (proof->unexplained > 0 || proof->gaps > 0) {
        return Error{fmt::format("{} decisions are unexplained, {} are missing", proof->unexplained, proof->gaps)};
    }
    if (running.cell->switch_every_s > 0 && running.switches == 0) {
        return Error{"no switch happened"};
    }
    return {};
}

}  // namespace

Result<std::vector<CellOutcome>> run_select_group(const SelectGroup& group, StopToken& stop,
                                                  const std::function<void(double, double)>& on_progress) {
    std::vector<Running> cells(group.cells.size());
    const double all_s = group.warm_up_s + group.seconds + 1;
    const auto each = [&](const auto& work) {
        for (Running& running : cells) {
            if (running.error.empty() && !stop.requested()) {
                if (Status status = work(running); !status) {
                    running.fail(status.error());
                }
            }
        }
    };
    for (size_t i = 0; i < cells.size(); i++) {
        cells[i].cell = &group.cells[i];
    }
    each([&](Running& running) -> Status {
        running.recorder = std::make_unique<arena::LinkRecorder>(static_cast<size_t>(all_s));
        VideoStageOptions options = running.cell->stage;
        options.uplink.stats_interval_ns = kLinkStatsNs;
        options.uplink.on_stats = [recorder = running.recorder.get()](const EmulatorStats& stats) {
            recorder->add(stats);
        };
        Result<std::unique_ptr<VideoStage>> stage = VideoStage::create(*group.trace, options, stop);
        if (!stage) {
            return stage.error();
        }
        running.stage = std::move(*stage);
        running.next_switch_s = group.warm_up_s;
        return {};
    });
    each([](Running& running) { return running.stage->launch_cameras(); });
    each([](Running& running) { return running.stage->start(); });
    const uint64_t start_us = monotonic_us();
    Switcher switcher;
    for (;;) {
        const double now_s = static_cast<double>(monotonic_us() - start_us) / 1e6;
        on_progress(std::min(now_s, all_s), all_s);
        each([&](Running& running) -> Status {
            if (Status alive = running.stage->alive(); !alive) {
                return alive;
            }
            return switcher.step(running, now_s);
        });
        if (now_s >= all_s) {
            break;
        }
        if (stop.wait_for(kTick)) {
            return Error{"interrupted"};
        }
    }
    std::vector<CellOutcome> outcomes(cells.size());
    for (size_t i = 0; i < cells.size(); i++) {
        Running& running = cells[i];
        pb::StatusReply status;
        if (running.error.empty()) {
            Result<pb::StatusReply> said = running.stage->daemon().status(std::chrono::seconds(10));
            if (said) {
                status = std::move(*said);
            } else {
                running.fail(said.error());
            }
        }
        if (running.stage) {
            if (Status ended = running.stage->finish(); !ended) {
                running.fail(ended.error());
            }
        }
        if (running.error.empty()) {
            if (Status done = evaluate(group, running, status, outcomes[i]); !done) {
                running.fail(done.error());
            }
        }
        outcomes[i].error = running.error;
    }
    return outcomes;
}

}  // namespace adapath::video_bench
