// Cells whose traffic is a live camera: the real sender and receiver over the link, at a rate that follows the socket.
// The cameras of a group begin within a second of each other, as fast as each has read its clip.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <sstream>

#include "userspace/arena/running.h"
#include "userspace/common/clock.h"
#include "userspace/common/file.h"

namespace adapath::arena {
namespace {

using std::chrono::seconds;

constexpr auto tick = std::chrono::milliseconds(100);
// For reading the clip, connecting, and the last frames' way through a deep queue.
constexpr double start_s = 30;
constexpr auto last_frames = seconds(20);
constexpr unsigned port = 9000;
// Of decoded pictures in each sender: a part of the clip, played in a loop, is enough.
constexpr unsigned clip_megabytes = 150;

struct Files {
    std::string sender, receiver, receiver_seconds, sender_log, receiver_log;
};

// Encoders and decoders go before other work of the machine, so that less of it shows in the frames. Their threads come
// later and inherit it.
void prefer(const Child& child) { (void)setpriority(PRIO_PROCESS, static_cast<id_t>(child.pid()), -10); }

Files files_of(const GroupSettings& settings, const Running& running) {
    const std::string base = settings.work + "/video-" + running.cell->inputs.policy;
    return {base + "-sender.json", base + "-receiver.json", base + "-receiver.jsonl", base + "-sender.log",
            base + "-receiver.log"};
}

Status start_receiver(Running& running, const GroupSettings& settings, const StopToken& stop) {
    const Files files = files_of(settings, running);
    auto receiver = Child::start(
        {.name = "adapath-video-recv",
         .argv = {settings.bin + "/adapath-video-recv", "--listen", fmt::format("{}:{}", uplink_server_address, port),
                  "--stats", files.receiver_seconds, "--summary", files.receiver},
         .namespace_fd = running.uplink->server().fd(),
         .log = files.receiver_log,
         .read_output = true});
    if (!receiver) {
        return receiver.error();
    }
    running.receiver = std::make_unique<Child>(std::move(*receiver));
    prefer(*running.receiver);
    if (auto ready = running.receiver->wait_line(seconds(30), stop); !ready) {
        return ready.error();
    }
    return {};
}

Status start_sender(Running& running, const GroupSettings& settings) {
    const Files files = files_of(settings, running);
    const CellInputs& inputs = running.cell->inputs;
    const VideoSettings& video = *inputs.video;
    auto sender = Child::start({.name = "adapath-video-send",
                                .argv = {settings.bin + "/adapath-video-send",
                                         "--clip",
                                         video.clip,
                                         "--server",
                                         fmt::format("{}:{}", uplink_server_address, port),
                                         "--cc",
                                         running.cell->policies[0]->congestion_control(),
                                         "--duration",
                                         fmt::format("{}", inputs.seconds),
                                         "--fps",
                                         fmt::format("{}", video.fps),
                                         "--size",
                                         video.size,
                                         "--min-kbps",
                                         fmt::format("{}", video.min_kbps),
                                         "--max-kbps",
                                         fmt::format("{}", video.max_kbps),
                                         "--memory-mb",
                                         fmt::format("{}", clip_megabytes),
                                         "--summary",
                                         files.sender},
                                .namespace_fd = running.uplink->gateway().fd(),
                                .log = files.sender_log});
    if (!sender) {
        return sender.error();
    }
    running.sender = std::make_unique<Child>(std::move(*sender));
    prefer(*running.sender);
    return {};
}

Result<Json> read_summary(const std::string& path) {
    Result<std::string> text = read_file(path);
    if (!text) {
        return text.error();
    }
    const Json summary = Json::parse(*text, nullptr, false);
    if (!summary.is_object() || !summary.contains("total") || !summary.contains("cameras") ||
        summary["cameras"].empty()) {
        return Error{fmt::format("{}: no summary of a video tool", path)};
    }
    return summary;
}

// Did the sender's connection break, and the sender end in order?
bool broke(const GroupSettings& settings, const Running& running) {
    const Result<Json> sent = read_summary(files_of(settings, running).sender);
    return sent && (*sent)["cameras"][0].contains("error");
}

// Frame delay and rate of each second, as the receiver wrote them while it ran.
Json seconds_of(const std::string& path) {
    Json series = Json::object();
    Result<std::string> text = read_file(path);
    std::istringstream lines(text ? *text : "");
    double begin_us = 0;
    for (std::string line; std::getline(lines, line);) {
        const Json second = Json::parse(line, nullptr, false);
        if (!second.is_object() || !second.contains("delay_ms")) {
            continue;
        }
        const double time_us = second.value("time_us", 0.0);
        // The first line is written a second after the first frame.
        begin_us = begin_us == 0 ? time_us - 1e6 : begin_us;
        series["video_to_s"].push_back(std::round((time_us - begin_us) / 1e4) / 100);
        series["frame_delay_p50_ms"].push_back(second["delay_ms"].value("p50", 0.0));
        series["frame_delay_p95_ms"].push_back(second["delay_ms"].value("p95", 0.0));
        series["video_kbps"].push_back(second.value("kbps", 0.0));
        series["frames_per_s"].push_back(second.value("fps", 0.0));
    }
    return series;
}

CellOutcome outcome_of(Running& running, const GroupSettings& settings) {
    CellOutcome outcome;
    if (running.error.empty()) {
        const Files files = files_of(settings, running);
        Result<Json> sent = read_summary(files.sender);
        Result<Json> received = read_summary(files.receiver);
        if (!sent || !received) {
            running.fail(sent ? received.error() : sent.error());
        } else {
            outcome.figures = running.recorder->figures();
            outcome.series = running.recorder->series();
            outcome.series.update(seconds_of(files.receiver_seconds));
            const Json& from = (*sent)["total"];
            const Json& to = (*received)["total"];
            outcome.figures["received_bytes"] = to["bytes"];
            outcome.figures["frame_delay_ms"] = to["delay_ms"];
            outcome.figures["video"] = {{"bytes", to["bytes"]},
                                        {"kbps", to["kbps"]},
                                        {"mean_qp", (*sent)["cameras"][0].value("mean_qp", 0.0)},
                                        {"frames_encoded", from["frames_encoded"]},
                                        {"frames_sent", from["frames_sent"]},
                                        {"frames_decoded", to["frames_decoded"]},
                                        {"frames_late", to["frames_late"]},
                                        {"frames_lost", to["frames_lost"]},
                                        {"frames_skipped", from["frames_skipped"]},
                                        // For want of CPU on this machine, whatever the policy.
                                        {"frames_overrun", from["frames_overrun"]},
                                        {"stalls", to["stalls"]},
                                        {"stall_ms", to["stall_ms"]},
                                        {"longest_gap_ms", to["longest_gap_ms"]},
                                        {"retransmits", from["retransmits"]}};
            if (const Json& camera = (*sent)["cameras"][0]; camera.contains("error")) {
                // What the policy did to its flow is a result, not a failure of the measurement.
                outcome.figures["video"]["broke"] = camera["error"];
                outcome.figures["video"]["broke_after_s"] = camera.value("seconds", 0.0);
            }
            add_cost(running, outcome.figures);
        }
    }
    outcome.error = running.error;
    return outcome;
}

}  // namespace

Result<std::vector<CellOutcome>> run_video(const Group& group, const GroupSettings& settings, StopToken& stop,
                                           const std::function<void(double)>& on_progress) {
    const double wanted_s = group.cells.front().inputs.seconds;
    RunningCells cells = set_up(group, settings, static_cast<size_t>(wanted_s + start_s) + last_frames.count());
    for (auto& running : cells) {
        if (!running->error.empty()) {
            continue;
        }
        for (const std::string& old : {files_of(settings, *running).sender, files_of(settings, *running).receiver,
                                       files_of(settings, *running).receiver_seconds}) {
            unlink(old.c_str());
        }
        if (Status started = start_receiver(*running, settings, stop); !started) {
            running->fail(started.error());
        }
    }
    const uint64_t start_ns = monotonic_ns();
    start_links(cells);
    for (auto& running : cells) {
        if (running->error.empty()) {
            if (Status started = start_sender(*running, settings); !started) {
                running->fail(started.error());
            }
        }
    }
    for (;;) {
        const double now_s = static_cast<double>(monotonic_ns() - start_ns) / 1e9;
        on_progress(std::min(now_s, wanted_s));
        check_policies(cells);
        bool done = true;
        for (auto& running : cells) {
            if (!running->error.empty()) {
                continue;
            }
            if (running->sender->running()) {
                done = false;
            } else if (running->sender->exit_code() != 0 && !broke(settings, *running)) {
                running->fail(Error{running->sender->obituary()});
            }
        }
        if (done) {
            break;
        }
        if (now_s > wanted_s + start_s) {
            for (auto& running : cells) {
                if (running->sender && running->sender->running()) {
                    running->fail(Error{fmt::format("adapath-video-send did not end {:g} s after its time", start_s)});
                }
            }
            break;
        }
        if (stop.wait_for(tick)) {
            return Error{"interrupted"};
        }
    }
    const uint64_t patience_ns = monotonic_ns() + static_cast<uint64_t>(last_frames.count()) * 1'000'000'000;
    for (auto& running : cells) {
        if (running->error.empty() && broke(settings, *running)) {
            running->receiver->stop();  // nothing more will come
        }
        while (running->error.empty() && running->receiver->running() && monotonic_ns() < patience_ns) {
            if (stop.wait_for(tick)) {
                return Error{"interrupted"};
            }
        }
        if (running->error.empty() && running->receiver->running()) {
            running->fail(Error{fmt::format("adapath-video-recv still waited for frames {} s after the sender's end",
                                            last_frames.count())});
        }
    }
    if (stop.requested()) {
        return Error{"interrupted"};
    }
    std::vector<CellOutcome> outcomes;
    for (auto& running : cells) {
        outcomes.push_back(outcome_of(*running, settings));
    }
    return outcomes;
}

}  // namespace adapath::arena
