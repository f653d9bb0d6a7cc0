// See select_act.h.
#include "userspace/demo/select_act.h"

#include <adapath/select.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "userspace/adapathd/app.h"
#include "userspace/adapathd/sample_log.h"
#include "userspace/common/clock.h"
#include "userspace/common/file.h"
#include "userspace/harness/verify.h"
#include "userspace/stage/video_stage.h"

namespace adapath::demo {
namespace {

using nlohmann::json;

constexpr auto tick = std::chrono::milliseconds(100);
constexpr uint64_t link_stats_ns = 250'000'000;
constexpr size_t most_pictures = 4;
// The vision network on this machine, for four cameras in real time: every so many pictures.
constexpr const char* look_at_every = "10";

class SelectAct {
public:
    SelectAct(const SelectActOptions& options, StopToken& stop) : options_(options), stop_(stop) {
        recording_.present = true;
        recording_.cameras = options.cameras;
    }

    SelectRecording run() {
        Status status = perform();
        stage_.reset();  // its link goes on telling, where perform() ended early
        if (!status) {
            recording_.error = stop_.requested() ? "interrupted" : status.error().message;
        }
        return std::move(recording_);
    }

private:
    Status perform() {
        std::error_code ignored;
        std::filesystem::remove_all(options_.out, ignored);
        if (Status made = make_directories(options_.out + "/pictures"); !made) {
            return made;
        }
        const std::string certificates = options_.out + "/certificates";
        if (Status made = make_stage_certificates(options_.certificates, certificates, {"demo"}); !made) {
            return made;
        }
        TraceGenerator generator;
        generator.seed = options_.seed;
        generator.mean_mbit = options_.mean_rate;
        Result<Trace> trace = Trace::generate(generator);
        if (!trace) {
            return trace.error();
        }
        VideoStageOptions stage;
        stage.name = "demo";
        stage.bin = options_.bin;
        stage.work = options_.out + "/stage";
        stage.certificates = certificates;
        stage.cameras = options_.cameras;
        stage.congestion_control = options_.congestion_control;
        stage.patience = options_.patience;
        stage.uplink.delay_ms = options_.delay_ms;
        stage.uplink.queue_bytes =
            static_cast<uint64_t>(std::max(3000.0, options_.mean_rate * 1e6 / 8 * options_.queue_ms / 1000));
        stage.uplink.seed = options_.seed;
        stage.uplink.prefix = "adpdm";
        stage.uplink.stats_interval_ns = link_stats_ns;
        stage.uplink.on_stats = [this](const EmulatorStats& stats) { take_link(stats); };
        stage.camera_arguments = {"--clip", options_.clip, "--pictures", "200", "--main-qp", "22", "--sub-qp", "38"};
        stage.relay_arguments = {"--queue-seconds", "0.5"};
        stage.server_arguments = {"--every",         look_at_every,
                                  "--pictures",      options_.out + "/pictures",
                                  "--picture-every", fmt::format("{:.1f}", std::max(2.0, options_.duration_s / 3))};
        stage.trainer_arguments = {"--app", "select", "--checkpoint", options_.checkpoint};
        Result<std::unique_ptr<VideoStage>> created = VideoStage::create(std::move(*trace), stage, stop_);
        if (!created) {
            return created.error();
        }
        stage_ = std::move(*created);
        if (Status launched = stage_->launch_cameras(); !launched) {
            return launched;
        }
        if (Status started = stage_->start(); !started) {
            return started;
        }
        recording_.start_us = stage_->started_us();
        const uint64_t end_us = recording_.start_us + static_cast<uint64_t>(options_.duration_s * 1e6);
        while (monotonic_us() < end_us) {
            if (Status alive = stage_->alive(); !alive) {
                return alive;
            }
            if (stop_.wait_for(tick)) {
                return Error{"interrupted"};
            }
        }
        recording_.end_us = end_us;
        Result<pb::StatusReply> status = stage_->daemon().status(std::chrono::seconds(10));
        if (!status) {
            return status.error();
        }
        count(*status);
        const VideoStageFiles files = stage_->files();
        if (Status ended = stage_->finish(); !ended) {
            return ended;
        }
        stage_.reset();  // the daemon has written its log
        if (Status read = read_decisions(files.state); !read) {
            return read;
        }
        if (Status read = read_server(files.server); !read) {
            return read;
        }
        read_pictures();
        return verify(files.state);
    }

    void take_link(const EmulatorStats& stats) {
        // Called by the link's thread, which ends before anybody reads.
        recording_.link.push_back({monotonic_us(), stats.up.capacity_bytes, stats.up.counters.delivered_bytes,
                                   stats.up.queue_bytes,
                                   stats.up.counters.dropped_packets + stats.up.counters.lost_packets});
    }

    void count(const pb::StatusReply& status) {
        Counters& n = recording_.counters;
        n.decisions = status.decisions();
        n.fallbacks = status.fallbacks();
        n.samples = status.samples();
        n.samples_lost = status.samples_lost();
        n.sequence_gaps = status.sequence_gaps();
        n.decisions_explained = status.decisions_explained();
        n.decisions_unexplained = status.decisions_unexplained();
        n.switches_parameter = status.switches_parameter();
        n.switches_network = status.switches_network();
        n.switches_trained = status.switches_trained();
        n.rollbacks = status.rollbacks();
        n.installs_refused = status.installs_refused();
        n.resident_bytes = status.resident_bytes();
    }

    Status read_decisions(const std::string& state) {
        const App* app = find_app("select");
        std::vector<std::pair<uint64_t, SelectDecision>> found;
        std::set<uint64_t> ids;
        Result<LogReadResult> read =
            read_sample_log(state + "/samples", *app, [&](std::span<const std::byte> records, const std::string&) {
                for (size_t at = 0; at + sizeof(adp_select_sample) <= records.size(); at += sizeof(adp_select_sample)) {
                    adp_select_sample sample;
                    std::memcpy(&sample, records.data() + at, sizeof(sample));
                    ids.insert(sample.camera);
                    found.emplace_back(sample.camera,
                                       SelectDecision{sample.time_us, 0, sample.choice, sample.flags, sample.generation,
                                                      sample.offer.price_q16 / 65536.0});
                }
                return true;
            });
        if (!read) {
            return read.error();
        }
        // The kernel numbers cameras in the order of the configuration.
        for (auto& [id, decision] : found) {
            decision.camera = static_cast<uint32_t>(std::distance(ids.begin(), ids.find(id)));
            recording_.decisions.push_back(decision);
        }
        return {};
    }

    Status read_server(const std::string& path) {
        std::ifstream file(path);
        if (!file) {
            return Error{path + ": cannot be read"};
        }
        for (std::string line; std::getline(file, line);) {
            const json parsed = json::parse(line, nullptr, false);
            if (!parsed.is_object()) {
                return Error{path + ": a line is no JSON"};
            }
            if (parsed.contains("summary")) {
                for (const json& camera : parsed["summary"]["cameras"]) {
                    recording_.pictures_decoded += camera.value("decoded", uint64_t{0});
                    recording_.pictures_undecodable += camera.value("undecodable", uint64_t{0});
                    for (const char* rendition : {"sub", "main"}) {
                        recording_.pictures_incomplete += camera[rendition].value("incomplete", uint64_t{0});
                    }
                }
                continue;
            }
            recording_.chunks.push_back(
                {parsed.value("chunk_us", uint64_t{0}), parsed.value("camera", 0U),
                 parsed.value("rendition", "") == "main" ? uint32_t{ADP_SELECT_MAIN} : uint32_t{ADP_SELECT_SUB},
                 parsed.value("sub_worth", -1.0)});
        }
        return {};
    }

    // The newest of each camera; main before sub, since there is more to see.
    void read_pictures() {
        std::vector<std::filesystem::path> files;
        std::error_code ignored;
        for (const auto& entry : std::filesystem::directory_iterator(options_.out + "/pictures", ignored)) {
            if (entry.path().extension() == ".png") {
                files.push_back(entry.path());
            }
        }
        std::ranges::sort(files, std::greater<>());
        std::ranges::stable_sort(files, [](const auto& a, const auto& b) {
            const auto is_main = [](const auto& path) {
                return path.filename().string().find("main") != std::string::npos;
            };
            return is_main(a) && !is_main(b);
        });
        for (const auto& path : files) {
            if (recording_.pictures.size() >= most_pictures) {
                break;
            }
            if (Result<std::string> bytes = read_file(path.string())) {
                recording_.pictures.push_back({path.stem().string(), std::move(*bytes)});
            }
        }
    }

    Status verify(const std::string& state) {
        Result<VerifiedLog> verified =
            verify_log(options_.bin, "select", state, options_.out + "/adapathctl.log", std::chrono::seconds(60));
        if (!verified) {
            return verified.error();
        }
        recording_.verification.ran = true;
        recording_.verification.decisions = verified->decisions;
        recording_.verification.unexplained = verified->unexplained;
        recording_.counters.sequence_gaps = verified->gaps;
        return {};
    }

    const SelectActOptions options_;
    StopToken& stop_;
    SelectRecording recording_;
    std::unique_ptr<VideoStage> stage_;
};

}  // namespace

SelectRecording run_select_act(const SelectActOptions& options, StopToken& stop) {
    return SelectAct(options, stop).run();
}

}  // namespace adapath::demo
