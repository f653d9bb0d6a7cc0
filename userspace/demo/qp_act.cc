// See qp_act.h.
#include "userspace/demo/qp_act.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "models/qp/selector.h"
#include "userspace/common/file.h"
#include "userspace/demo/select_section.h"
#include "userspace/detect/draw.h"
#include "userspace/detect/pictures.h"
#include "userspace/harness/child.h"
#include "userspace/harness/daemon_client.h"
#include "userspace/harness/daemon_side.h"
#include "userspace/harness/page.h"
#include "userspace/harness/verify.h"
#include "userspace/video/block_mask.h"
#include "userspace/video/clip.h"

namespace adapath::demo {
namespace {

using nlohmann::json;

constexpr const char* address = "127.0.0.1:0";
constexpr uint64_t map_picture = 100;  // of the clip: people and cars are in it
constexpr unsigned cameras = 2;

class QpAct {
public:
    QpAct(const QpActOptions& options, StopToken& stop) : options_(options), stop_(stop) {}

    QpRecording run() {
        recording_.present = true;
        if (Status status = perform(); !status) {
            recording_.error = stop_.requested() ? "interrupted" : status.error().message;
        }
        return std::move(recording_);
    }

private:
    [[nodiscard]] std::chrono::milliseconds patient(double seconds) const {
        return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000 * options_.patience));
    }
    [[nodiscard]] std::string program(const char* name) const { return options_.bin + "/" + name; }
    [[nodiscard]] std::string log_of(const char* name) const { return options_.out + "/" + name + ".log"; }

    Status perform() {
        std::error_code ignored;
        std::filesystem::remove_all(options_.out, ignored);
        if (Status made = make_directories(options_.out); !made) {
            return made;
        }
        if (Status drawn = draw(); !drawn) {
            return drawn;
        }
        // Two snapshots of one selector: calibrated on more pictures and on fewer, so that there is something to
        // switch.
        for (const auto& [name, pictures] : {std::pair{"first", "48"}, {"second", "64"}}) {
            Result<std::string> frozen =
                run_program({.name = "adapath-qp-snapshot",
                             .argv = {program("adapath-qp-snapshot"), options_.selector, "--clip", options_.clip,
                                      "--size", options_.size, "--pictures", pictures, "--output", snapshot_path(name)},
                             .log = log_of("adapath-qp-snapshot")},
                            patient(120));
            if (!frozen) {
                return frozen.error();
            }
        }
        if (Status started = start_daemon(); !started) {
            return started;
        }
        if (Status video = play(); !video) {
            return video;
        }
        Result<pb::StatusReply> status = client_->status(patient(5));
        if (!status) {
            return status.error();
        }
        recording_.counters.decisions = status->decisions();
        recording_.counters.samples_lost = status->samples_lost();
        recording_.counters.switches_parameter = status->switches_parameter();
        recording_.counters.switches_network = status->switches_network();
        client_.reset();
        daemon_->stop(patient(10));
        return verify();
    }

    [[nodiscard]] std::string snapshot_path(const std::string& name) const {
        return fmt::format("{}/{}.snapshot", options_.out, name);
    }

    // The selector's quality map over a picture, and the blocks that it comes to.
    Status draw() {
        Result<video::Size> size = video::parse_size(options_.size);
        if (!size) {
            return size.error();
        }
        Result<video::Clip> clip = video::Clip::load(options_.clip, *size, uint64_t{200} << 20);
        if (!clip) {
            return clip.error();
        }
        Result<ImageFloatModel> selector = read_selector(options_.selector);
        if (!selector) {
            return selector.error();
        }
        const auto plane = [&](uint64_t index) {
            return LumaPlane{clip->picture(index).y, static_cast<uint32_t>(size->width),
                             static_cast<uint32_t>(size->height), static_cast<uint32_t>(size->width)};
        };
        const uint64_t index = std::min<uint64_t>(map_picture, clip->pictures() - 1);
        Result<BlockMap> logits = selector_logits(
            *selector, selector_codes(plane(index), plane(index == 0 ? 0 : index - 1)), size->width, size->height);
        if (!logits) {
            return logits.error();
        }
        Result<video::BlockMask> mask = video::choose_blocks(logits->values, *size, {0, 0});
        if (!mask) {
            return mask.error();
        }
        recording_.share = mask->share();
        // A logit of 0 is the threshold: what is below it is not drawn.
        BlockMap map = *logits;
        std::ranges::for_each(map.values, [](float& value) { value = std::max(value, 0.0F); });
        Result<Image> image = to_image(clip->picture(index), *size);
        if (!image) {
            return image.error();
        }
        draw_map(*image, map);
        const std::string path = options_.out + "/map.png";
        if (Status written = write_png(path, *image); !written) {
            return written;
        }
        Result<std::string> bytes = read_file(path);
        if (!bytes) {
            return bytes.error();
        }
        recording_.pictures.push_back({fmt::format("Picture {} of the clip: the redder, the more its quality matters; "
                                                   "{:.0f} % of the macroblocks get the high one",
                                                   index, 100 * recording_.share),
                                       std::move(*bytes)});
        return {};
    }

    Status start_daemon() {
        Result<ShortDirectory> directory = ShortDirectory::create();
        if (!directory) {
            return directory.error();
        }
        socket_directory_.emplace(std::move(*directory));
        const std::string socket = socket_directory_->path() + "/q.sock";
        const std::string config = options_.out + "/adapathd.conf";
        const std::string text = fmt::format(
            "# Made by adapath-demo.\napp: \"qp\"\nbackend: \"host\"\nstate_directory: \"{0}/state\"\nsocket: \"{1}\"\n"
            "host_directory: \"{2}/host\"\n",
            options_.out, socket, socket_directory_->path());
        if (Status written = write_file_durably(config, text); !written) {
            return written;
        }
        Result<Child> daemon = Child::start({.name = "adapathd",
                                             .argv = {program("adapathd"), "--config", config, "--foreground"},
                                             .log = log_of("adapathd")});
        if (!daemon) {
            return daemon.error();
        }
        daemon_.emplace(std::move(*daemon));
        client_ = std::make_unique<DaemonClient>(socket, options_.patience);
        if (Status answers = wait_for_daemon(*daemon_, *client_, static_cast<int>(200 * options_.patience), stop_,
                                             socket, log_of("adapathd"));
            !answers) {
            return answers;
        }
        return install("first");
    }

    Status install(const std::string& name) {
        Result<std::string> bytes = read_file(snapshot_path(name));
        if (!bytes) {
            return bytes.error();
        }
        Result<pb::InstallReply> installed = client_->install(*bytes, true, "the demo's " + name);
        return installed ? Status() : Status(installed.error());
    }

    // Two cameras to a receiver on this machine; the snapshots take turns, twice a second.
    Status play() {
        Result<Child> receiver =
            Child::start({.name = "adapath-video-recv",
                          .argv = {program("adapath-video-recv"), "--listen", address, "--cameras",
                                   fmt::format("{}", cameras), "--summary", options_.out + "/receiver.json"},
                          .log = log_of("adapath-video-recv"),
                          .read_output = true});
        if (!receiver) {
            return receiver.error();
        }
        Result<std::string> ready = receiver->wait_line(patient(10), stop_);
        if (!ready) {
            return ready.error();
        }
        const std::string where = ready->substr(ready->rfind(' ') + 1);
        Result<Child> sender = Child::start({.name = "adapath-video-send",
                                             .argv = {program("adapath-video-send"),
                                                      "--clip",
                                                      options_.clip,
                                                      "--size",
                                                      options_.size,
                                                      "--server",
                                                      where,
                                                      "--cameras",
                                                      fmt::format("{}", cameras),
                                                      "--fps",
                                                      "10",
                                                      "--min-kbps",
                                                      "400",
                                                      "--max-kbps",
                                                      "400",
                                                      "--duration",
                                                      fmt::format("{}", options_.duration_s),
                                                      "--qp",
                                                      socket_directory_->path() + "/host",
                                                      "--summary",
                                                      options_.out + "/sender.json"},
                                             .log = log_of("adapath-video-send")});
        if (!sender) {
            return sender.error();
        }
        const auto turns = static_cast<int>(options_.duration_s * 2);
        for (int i = 0; sender->running(); i++) {
            if (i >= turns + static_cast<int>(40 * options_.patience)) {
                return Error{"adapath-video-send does not end"};
            }
            if (i < turns) {
                if (Status installed = install(i % 2 == 0 ? "second" : "first"); !installed) {
                    return installed;
                }
            }
            if (stop_.wait_for(std::chrono::milliseconds(500))) {
                return Error{"interrupted"};
            }
        }
        if (sender->exit_code() != 0) {
            return Error{sender->obituary()};
        }
        if (!receiver->wait_exit(patient(15))) {
            return Error{"adapath-video-recv does not end"};
        }
        Result<std::string> text = read_file(options_.out + "/receiver.json");
        if (!text) {
            return text.error();
        }
        const json total = json::parse(*text, nullptr, false).value("total", json::object());
        recording_.frames_sent = total.value("frames_sent", uint64_t{0});
        recording_.frames_decoded = total.value("frames_decoded", uint64_t{0});
        recording_.bytes = total.value("bytes", uint64_t{0});
        return {};
    }

    Status verify() {
        Result<VerifiedLog> verified =
            verify_log(options_.bin, "qp", options_.out + "/state", log_of("adapathctl"), patient(60));
        if (!verified) {
            return verified.error();
        }
        recording_.verification.ran = true;
        recording_.verification.decisions = verified->decisions;
        recording_.verification.unexplained = verified->unexplained;
        recording_.counters.sequence_gaps = verified->gaps;
        return {};
    }

    const QpActOptions options_;
    StopToken& stop_;
    QpRecording recording_;
    std::optional<ShortDirectory> socket_directory_;
    std::optional<Child> daemon_;
    std::unique_ptr<DaemonClient> client_;
};

}  // namespace

QpRecording run_qp_act(const QpActOptions& options, StopToken& stop) { return QpAct(options, stop).run(); }

std::string qp_section(const QpRecording& r) {
    if (!r.present) {
        return {};
    }
    std::string out = "<h2>qp: which macroblocks get the high quality</h2>\n";
    if (!r.error.empty()) {
        out +=
            fmt::format("<section class='panel'><p>It did not come to its end: {}</p></section>", escape_html(r.error));
    }
    out += "<section class='cards'>";
    out += card(grouped(r.frames_sent - std::min(r.frames_sent, r.frames_decoded)), "frames lost",
                grouped(r.frames_sent) + " sent by two cameras of one encoder",
                r.frames_sent > 0 && r.frames_decoded == r.frames_sent);
    out += card(r.verification.ran ? grouped(r.verification.unexplained) : "?", "decisions unexplained",
                grouped(r.verification.decisions) + " blocks of chunks decided in the encoder's process",
                r.verification.ran && r.verification.unexplained == 0);
    out += card(grouped(r.counters.switches_parameter + r.counters.switches_network), "switches under the encoder",
                "forced, two a second", std::nullopt);
    out += card(fmt::format("{:.0f} %", 100 * r.share), "of the macroblocks",
                "get the high quality in the picture below", std::nullopt);
    out += "</section>\n";
    if (!r.pictures.empty()) {
        out += "<section class='panel frames'>";
        for (const PngPicture& picture : r.pictures) {
            out += embedded(picture);
        }
        out += "</section>\n";
    }
    return out;
}

}  // namespace adapath::demo
