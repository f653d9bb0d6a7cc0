// See demo.h.
#include "userspace/demo/demo.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "userspace/common/clock.h"
#include "userspace/common/file.h"
#include "userspace/demo/plan.h"
#include "userspace/demo/qp_act.h"
#include "userspace/demo/recorder.h"
#include "userspace/demo/scenario.h"
#include "userspace/demo/select_act.h"
#include "userspace/demo/status_line.h"
#include "userspace/harness/child.h"
#include "userspace/harness/daemon_side.h"
#include "userspace/harness/verify.h"
#include "userspace/linkem/netns.h"

namespace adapath::demo {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* server_address = "10.77.0.2";
constexpr unsigned server_port = 9000;
constexpr auto tick = milliseconds(50);

Result<json> read_json(const std::string& path) {
    auto text = read_file(path);
    if (!text) {
        return text.error();
    }
    json parsed = json::parse(*text, nullptr, false);
    if (parsed.is_discarded()) {
        return Error{fmt::format("{}: not JSON", path)};
    }
    return parsed;
}

uint64_t number(const json& object, const char* key) {
    const auto found = object.find(key);
    return found != object.end() && found->is_number() ? found->get<uint64_t>() : 0;
}

std::string date_text() {
    const time_t now = time(nullptr);
    tm local{};
    localtime_r(&now, &local);
    char text[32];
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M", &local);
    return text;
}

// The emulator's statistics lines, brought onto the samples' clock: its times count from its start, and a line never
// comes before the time that it names.
class LinkReader {
public:
    void add(const std::string& line) {
        const json parsed = json::parse(line, nullptr, false);
        if (!parsed.is_object() || parsed.value("event", "") != "stats") {
            return;
        }
        const double to_s = parsed.value("to_s", 0.0);
        const double arrived_s = static_cast<double>(monotonic_us()) / 1e6;
        start_s_ = std::min(start_s_, arrived_s - to_s);
        const json& up = parsed.at("up");
        points_.push_back({to_s, number(up, "capacity_bytes"), number(up, "delivered_bytes"), number(up, "queue_bytes"),
                           number(up, "dropped_packets") + number(up, "lost_packets")});
    }
    // Mbit/s over the last `window_s`.
    [[nodiscard]] std::pair<double, double> rates(double window_s) const {
        double capacity = 0, delivered = 0, from = 0;
        if (points_.empty()) {
            return {0, 0};
        }
        const double end = points_.back().to_s;
        from = end;
        for (auto point = points_.rbegin(); point != points_.rend() && point->to_s > end - window_s + 1e-3; ++point) {
            capacity += static_cast<double>(point->capacity);
            delivered += static_cast<double>(point->delivered);
            const auto before = std::next(point);
            from = before == points_.rend() ? 0 : before->to_s;
        }
        const double us = std::max(1e-3, end - from) * 1e6;
        return {capacity * 8 / us, delivered * 8 / us};
    }
    void take(Recording& recording) const {
        for (const Line& line : points_) {
            recording.link.push_back({static_cast<uint64_t>((start_s_ + line.to_s) * 1e6), line.capacity,
                                      line.delivered, line.queue, line.drops});
        }
    }

private:
    struct Line {
        double to_s;
        uint64_t capacity, delivered, queue, drops;
    };
    std::vector<Line> points_;
    double start_s_ = std::numeric_limits<double>::max();
};

class Demo {
public:
    Demo(const Options& options, StopToken& stop)
        : options_(options),
          stop_(stop),
          local_(options.backend == "local"),
          log_(options.out + "/log"),
          state_(options.out + "/state") {}
    ~Demo() { end_all(); }
    Demo(const Demo&) = delete;
    Demo& operator=(const Demo&) = delete;

    Result<Recording> run() {
        if (Status ready = set_up(); !ready) {
            return stop_.requested() ? Error{"interrupted"} : ready.error();
        }
        watch_over();
        finish();
        if (options_.select_s > 0 && options_.backend == "bpf" && !stop_.requested()) {
            select();
        }
        if (options_.qp_s > 0 && options_.backend == "bpf" && !stop_.requested()) {
            qp();
        }
        return std::move(recording_);
    }

private:
    // As long as a wait for another program may take here.
    [[nodiscard]] milliseconds patient(milliseconds time) const {
        return milliseconds(static_cast<int64_t>(static_cast<double>(time.count()) * options_.patience));
    }
    [[nodiscard]] std::string program(const char* name) const { return options_.bin + "/" + name; }
    [[nodiscard]] std::string log_of(const char* name) const { return log_ + "/" + name + ".log"; }

    Status set_up();
    Status check_machine();
    Status start_daemon();
    Status start_trainer();
    Status start_link();
    Status start_video();
    void watch_over();
    bool all_alive();
    void print_status(double second);
    void finish();
    void read_video();
    void verify();
    void select();
    void qp();
    void end_all();

    const Options options_;
    StopToken& stop_;
    StopToken quit_;  // of the scenario alone
    const bool local_;
    const std::string log_;
    const std::string state_;
    std::string cc_;
    std::string socket_;
    Recording recording_;
    LinkReader link_;
    StatusLine line_;

    // In the order in which they are made, so that they go in the opposite one.
    std::optional<ShortDirectory> socket_directory_;
    std::optional<Namespace> gateway_;
    std::optional<Namespace> server_;
    std::unique_ptr<DaemonKernelSide> kernel_side_;
    std::optional<Child> linkem_;
    std::optional<Child> daemon_;
    std::optional<Child> trainer_;
    std::optional<Child> receiver_;
    std::optional<Child> sender_;
    std::unique_ptr<DaemonClient> client_;
    std::unique_ptr<Recorder> recorder_;
    Freezer freezer_;
    std::unique_ptr<Scenario> scenario_;
};

Status Demo::check_machine() {
    if (!local_ && geteuid() != 0) {
        return Error{fmt::format(
            "the {} backend and network namespaces need root: run 'sudo make demo', or the same loop without "
            "privileges: 'make demo BACKEND=local'",
            options_.backend)};
    }
    if (!local_ && access("/dev/net/tun", R_OK | W_OK) != 0) {
        return Error{
            fmt::format("/dev/net/tun: {}: the link emulator needs TUN devices (modprobe tun), or run without a real "
                        "network: 'make demo BACKEND=local'",
                        strerror(errno))};
    }
    if (access((options_.checkpoint + "/policy.model").c_str(), R_OK) != 0) {
        return Error{
            fmt::format("{}/policy.model: {}: make the checkpoint with 'make models', or name its directory with "
                        "--checkpoint",
                        options_.checkpoint, strerror(errno))};
    }
    if (!local_ && access(options_.clip.c_str(), R_OK) != 0) {
        return Error{fmt::format("{}: {}: fetch the default clip with 'make deps', or name another one with CLIP=file",
                                 options_.clip, strerror(errno))};
    }
    return {};
}

Status Demo::set_up() {
    if (Status able = check_machine(); !able) {
        return able;
    }
    std::error_code error;
    // Only what an earlier demo left there.
    std::filesystem::remove_all(state_, error);
    std::filesystem::remove_all(log_, error);
    for (const char* file : {"receiver.json", "receiver.jsonl", "sender.json", "sender.jsonl", "frames.csv",
                             "summary.json", "report.html"}) {
        std::filesystem::remove(options_.out + "/" + file, error);
    }
    for (const std::string& directory : {options_.out, log_, state_}) {
        if (Status made = make_directories(directory); !made) {
            return made;
        }
    }
    auto directory = ShortDirectory::create();
    if (!directory) {
        return directory.error();
    }
    socket_directory_.emplace(std::move(*directory));
    socket_ = socket_directory_->path() + "/d.sock";
    cc_ = unique_cc_name("adp");

    Settings& settings = recording_.settings;
    settings.duration_s = options_.duration_s;
    settings.switch_rate = options_.switch_rate;
    settings.cameras = options_.cameras;
    settings.backend = options_.backend;
    settings.seed = options_.seed;
    settings.clip = local_ ? "" : std::filesystem::path(options_.clip).filename().string();
    settings.link = !options_.trace.empty() && !local_
                        ? fmt::format("{}, {:g} ms each way", std::filesystem::path(options_.trace).filename().string(),
                                      options_.delay_ms)
                        : fmt::format("LTE-like, mean {:g} Mbit/s, seed {}, {:g} ms each way", options_.mean_rate,
                                      options_.seed, options_.delay_ms);
    utsname name{};
    uname(&name);
    settings.kernel = fmt::format("{} {}", name.sysname, name.release);
    settings.date = date_text();

    line_.say("starting the daemon");
    if (Status started = start_daemon(); !started) {
        return started;
    }
    line_.say("starting the trainer");
    if (Status started = start_trainer(); !started) {
        return started;
    }
    line_.say("compiling what will be forced");
    if (Status compiled = compile_ahead(freezer_, options_.checkpoint + "/policy.model"); !compiled) {
        return compiled;
    }
    if (local_) {
        return {};
    }
    line_.say("starting link, receiver and cameras");
    if (Status started = start_link(); !started) {
        return started;
    }
    return start_video();
}

Status Demo::start_daemon() {
    const std::string pins = "/sys/fs/bpf/" + cc_;
    const std::string config = options_.out + "/adapathd.conf";
    std::string text = fmt::format(
        "# Made by adapath-demo.\ntrain: false\ncongestion_control: \"{}\"\npin_directory: \"{}\"\n"
        // The generated uplink falls to a quarter within seconds, which no snapshot is to blame for.
        "watch {{\n  margin: 2.0\n}}\n"
        // Live video on a queue of 200 ms: what fills it costs more than the rate's own ups and downs.
        "objective {{\n  throughput: 1\n  delay: 1\n  loss: 8\n}}\n",
        cc_, pins);
    if (local_) {
        text +=
            fmt::format("local {{\n  flows: {}\n  mean_mbit: {}\n  seed: {}\n  rtt_ms: {}\n  queue_ms: {}\n}}\n",
                        options_.cameras, options_.mean_rate, options_.seed, 2 * options_.delay_ms, options_.queue_ms);
    }
    if (Status written = write_file_durably(config, text); !written) {
        return written;
    }
    const auto take_kernel_side = [&] {
        kernel_side_ =
            std::make_unique<DaemonKernelSide>(program("adapathd"), options_.backend, pins, log_of("adapathd"));
    };
    // Its pins may be there although the daemon never answered.
    if (options_.backend == "bpf") {
        take_kernel_side();
    }
    auto daemon = Child::start({.name = "adapathd",
                                .argv = {program("adapathd"), "--config", config, "--backend", options_.backend,
                                         "--state-dir", state_, "--socket", socket_, "--foreground"},
                                .log = log_of("adapathd")});
    if (!daemon) {
        return daemon.error();
    }
    daemon_.emplace(std::move(*daemon));
    client_ = std::make_unique<DaemonClient>(socket_, options_.patience);
    for (int i = 0; i < 150 * options_.patience && !stop_.requested(); i++) {
        if (!daemon_->running()) {
            return Error{daemon_->obituary()};
        }
        if (auto status = client_->status(milliseconds(500))) {
            if (!local_ && !kernel_side_) {
                take_kernel_side();
            }
            recording_.settings.version = status->version();
            // What was asked for, or what the module is called.
            cc_ = status->congestion_control();
            recording_.settings.congestion_control = cc_;
            recorder_ = std::make_unique<Recorder>(*client_);
            return {};
        }
        stop_.wait_for(milliseconds(100));
    }
    return Error{fmt::format("adapathd does not answer at {} (log: {})", socket_, log_of("adapathd"))};
}

Status Demo::start_trainer() {
    auto trainer =
        Child::start({.name = "adapath-trainer",
                      .argv = {program("adapath-trainer"), "--socket", socket_, "--checkpoint", options_.checkpoint,
                               // A minute is all there is: smaller batches, and a smaller difference is worth a
                               // switch, than in a gateway that runs for days.
                               "--learn", "gradient", "--batch", "48", "--stable-batches", "2", "--stable-change",
                               "0.03", "--necessary-loss", "0.01", "--policy-rate", "0.001", "--min-interval", "4",
                               "--least-explained=-100"},
                      .log = log_of("adapath-trainer"),
                      .environment = {"OMP_NUM_THREADS=1"}});
    if (!trainer) {
        return trainer.error();
    }
    trainer_.emplace(std::move(*trainer));
    // It freezes the checkpoint and installs it, since the daemon has nothing yet.
    for (int i = 0; i < 600 * options_.patience && !stop_.requested(); i++) {
        if (!trainer_->running()) {
            return Error{trainer_->obituary()};
        }
        if (!daemon_->running()) {
            return Error{daemon_->obituary()};
        }
        if (auto status = client_->status(); status && status->active_generation() > 0) {
            return {};
        }
        stop_.wait_for(milliseconds(100));
    }
    return Error{fmt::format("the trainer installed no snapshot of {} within {:.0f} s (log: {})", options_.checkpoint,
                             60 * options_.patience, log_of("adapath-trainer"))};
}

Status Demo::start_link() {
    auto gateway = Namespace::create(Namespace::unique_name("adapath-gw"));
    if (!gateway) {
        return gateway.error();
    }
    gateway_.emplace(std::move(*gateway));
    auto server = Namespace::create(Namespace::unique_name("adapath-srv"));
    if (!server) {
        return server.error();
    }
    server_.emplace(std::move(*server));
    std::vector<std::string> argv = {program("adapath-linkem"),
                                     "--netns-a",
                                     gateway_->name(),
                                     "--netns-b",
                                     server_->name(),
                                     "--addr-a",
                                     "10.77.0.1/30",
                                     "--addr-b",
                                     fmt::format("{}/30", server_address),
                                     "--delay",
                                     fmt::format("{}", options_.delay_ms),
                                     "--queue-ms",
                                     fmt::format("{}", options_.queue_ms),
                                     "--stats-interval",
                                     "0.05",  // an outage is told to 0.1 s: short against the gaps it makes
                                     "--seed",
                                     fmt::format("{}", options_.seed)};
    if (options_.trace.empty()) {
        argv.insert(argv.end(), {"--generate", "lte", "--mean-rate", fmt::format("{}", options_.mean_rate)});
    } else {
        argv.insert(argv.end(), {"--up-trace", options_.trace});
    }
    auto linkem =
        Child::start({.name = "adapath-linkem", .argv = argv, .log = log_of("adapath-linkem"), .read_output = true});
    if (!linkem) {
        return linkem.error();
    }
    linkem_.emplace(std::move(*linkem));
    auto ready = linkem_->wait_line(patient(seconds(20)), stop_);
    if (!ready) {
        return ready.error();
    }
    if (ready->find("\"ready\"") == std::string::npos) {
        return Error{fmt::format("adapath-linkem began with '{}' where its ready line was due", *ready)};
    }
    return {};
}

Status Demo::start_video() {
    auto receiver = Child::start(
        {.name = "adapath-video-recv",
         .argv = {program("adapath-video-recv"), "--listen", fmt::format("{}:{}", server_address, server_port),
                  "--cameras", std::to_string(options_.cameras), "--stats", options_.out + "/receiver.jsonl",
                  "--frames", options_.out + "/frames.csv", "--summary", options_.out + "/receiver.json"},
         .namespace_fd = server_->fd(),
         .log = log_of("adapath-video-recv"),
         .read_output = true});
    if (!receiver) {
        return receiver.error();
    }
    receiver_.emplace(std::move(*receiver));
    if (auto ready = receiver_->wait_line(patient(seconds(10)), stop_); !ready) {
        return ready.error();
    }
    std::vector<std::string> argv = {program("adapath-video-send"),
                                     "--clip",
                                     options_.clip,
                                     "--server",
                                     fmt::format("{}:{}", server_address, server_port),
                                     "--cameras",
                                     std::to_string(options_.cameras),
                                     "--cc",
                                     cc_,
                                     "--saturate",
                                     "--duration",
                                     fmt::format("{}", options_.duration_s),
                                     "--stats",
                                     options_.out + "/sender.jsonl",
                                     "--summary",
                                     options_.out + "/sender.json",
                                     "--fps",
                                     fmt::format("{}", options_.fps)};
    if (!options_.size.empty()) {
        argv.insert(argv.end(), {"--size", options_.size});
    }
    auto sender = Child::start({.name = "adapath-video-send",
                                .argv = argv,
                                .namespace_fd = gateway_->fd(),
                                .log = log_of("adapath-video-send")});
    if (!sender) {
        return sender.error();
    }
    sender_.emplace(std::move(*sender));
    return {};
}

// True while everything that should run does; what died is noted.
bool Demo::all_alive() {
    bool alive = true;
    for (std::optional<Child>* child : {&daemon_, &trainer_, &linkem_, &receiver_}) {
        // The receiver ends by itself once it has seen every camera end.
        if (*child && !(*child)->running() && !(child == &receiver_ && receiver_->exit_code() == 0)) {
            recording_.errors.push_back((*child)->obituary());
            alive = false;
        }
    }
    return alive;
}

void Demo::print_status(double second) {
    auto status = client_->status(milliseconds(500));
    if (!status) {
        return;
    }
    const Recorder::Now now = recorder_->now();
    StatusLine::Figures figures;
    figures.second = second;
    figures.duration = options_.duration_s;
    figures.has_link = linkem_.has_value();
    std::tie(figures.capacity_mbit, figures.delivered_mbit) = link_.rates(1);
    if (!linkem_) {
        figures.delivered_mbit = now.delivered_mbit;
    }
    figures.rtt_ms = now.rtt_ms;
    figures.reward = now.reward;
    figures.generation = status->active_generation();
    figures.switches = status->switches_parameter() + status->switches_network();
    figures.trained = status->switches_trained();
    figures.rollbacks = status->rollbacks();
    figures.unexplained = status->decisions_unexplained();
    figures.lost = status->samples_lost() + status->sequence_gaps();
    figures.phase = scenario_ ? scenario_->phase() : "";
    line_.show(figures);
}

void Demo::watch_over() {
    // The clock starts with the first decision: the sender reads its clip first.
    while (recorder_->first_sample_us() == 0) {
        if (sender_ && !sender_->running()) {
            recording_.errors.push_back(sender_->obituary());
            return;
        }
        if (!all_alive() || stop_.wait_for(tick)) {
            return;
        }
        if (linkem_) {
            for (const std::string& line : linkem_->read_lines()) {
                link_.add(line);
            }
        }
    }
    recording_.start_us = recorder_->first_sample_us();
    const uint64_t end_us = recording_.start_us + static_cast<uint64_t>(options_.duration_s * 1e6);
    const uint64_t patience_us = end_us + static_cast<uint64_t>(20e6 * options_.patience);
    Plan plan = make_plan(options_.duration_s);
    plan.burst_per_s = options_.switch_rate;
    scenario_ =
        std::make_unique<Scenario>(plan, recording_.start_us, options_.seed, freezer_, *client_, *recorder_, quit_);

    uint64_t next_line_us = recording_.start_us + 1000000;
    for (bool running = true; running && !stop_.wait_for(tick);) {
        if (linkem_) {
            for (const std::string& line : linkem_->read_lines()) {
                link_.add(line);
            }
        }
        const uint64_t now_us = monotonic_us();
        if (now_us >= next_line_us) {
            print_status(static_cast<double>(now_us - recording_.start_us) / 1e6);
            next_line_us += 1000000;
        }
        if (local_) {
            running = now_us < end_us;
        } else if (!sender_->running()) {
            running = false;
            if (sender_->exit_code() != 0) {
                recording_.errors.push_back(sender_->obituary());
            }
        } else if (now_us > patience_us) {
            recording_.errors.push_back(fmt::format(
                "adapath-video-send did not end {:.0f} s after its time and was ended", 20 * options_.patience));
            running = false;
        }
        if (running && !all_alive()) {
            running = false;
        }
    }
    line_.end();
    recording_.end_us = std::min(monotonic_us(), end_us);
}

void Demo::finish() {
    recording_.interrupted = stop_.requested();
    quit_.request();
    if (scenario_) {
        scenario_->join();
        scenario_->take(recording_);
    }
    line_.say(recording_.interrupted ? "interrupted: ending everything" : "reading the rest and verifying the log");
    if (sender_) {
        sender_->stop();
    }
    if (receiver_ && !receiver_->wait_exit(recording_.interrupted ? seconds(1) : patient(seconds(15)))) {
        if (!recording_.interrupted) {
            recording_.errors.push_back(fmt::format(
                "adapath-video-recv still waited for frames {:.0f} s after the sender's end", 15 * options_.patience));
        }
        receiver_->stop();
    } else if (receiver_ && !recording_.interrupted && receiver_->exit_code() != 0) {
        recording_.errors.push_back(receiver_->obituary());
    }
    if (linkem_) {
        for (const std::string& line : linkem_->read_lines()) {
            link_.add(line);
        }
    }
    link_.take(recording_);
    if (trainer_) {
        trainer_->stop();
    }
    read_video();
    verify();
    recorder_->stop();
    recorder_->take(recording_);
    end_all();
    line_.clear();
}

void Demo::read_video() {
    if (!receiver_) {
        return;
    }
    VideoTotals& totals = recording_.video;
    totals.present = true;
    auto received = read_json(options_.out + "/receiver.json");
    auto sent = read_json(options_.out + "/sender.json");
    if (!received || !received->contains("total")) {
        recording_.errors.push_back(received ? "receiver.json has no totals" : received.error().message);
        return;
    }
    const json& total = received->at("total");
    totals.frames_sent = number(total, "frames_sent");
    totals.frames_received = number(total, "frames_received");
    totals.frames_decoded = number(total, "frames_decoded");
    totals.frames_late = number(total, "frames_late");
    totals.frames_lost = number(total, "frames_lost");
    totals.stalls = number(total, "stalls");
    totals.bytes = number(total, "bytes");
    // The sender knows what it sent; the receiver only what it was told.
    if (sent && sent->contains("total")) {
        const json& counted = sent->at("total");
        totals.frames_skipped = number(counted, "frames_skipped");
        const uint64_t frames_sent = number(counted, "frames_sent");
        if (frames_sent > totals.frames_sent) {
            totals.frames_lost += frames_sent - totals.frames_sent;
        }
        totals.frames_sent = frames_sent;
    } else if (!sent) {
        recording_.errors.push_back(sent.error().message);
    }

    std::ifstream frames(options_.out + "/frames.csv");
    std::string text;
    std::getline(frames, text);  // column names
    while (std::getline(frames, text)) {
        unsigned camera = 0;
        unsigned long long frame = 0, captured = 0, arrived = 0, decoded = 0;
        // camera,frame,sent_ns,received_ns,decoded_ns,...
        if (sscanf(text.c_str(), "%u,%llu,%llu,%llu,%llu", &camera, &frame, &captured, &arrived, &decoded) == 5 &&
            decoded >= captured && captured > 0) {
            recording_.frames.push_back({camera, frame, captured / 1000, decoded / 1000});
        }
    }
}

void Demo::verify() {
    if (!daemon_ || !daemon_->running()) {
        recording_.verification.error = "adapathd is not running";
        return;
    }
    // The flows have ended; the last batch may still be on its way.
    Result<pb::StatusReply> status = client_->status();
    uint64_t before = 0;
    for (int i = 0; i < 50 * options_.patience && status && !local_; i++) {
        const uint64_t checked = status->decisions_explained() + status->decisions_unexplained();
        if (checked + status->samples_lost() >= status->decisions() && checked == before && checked > 0) {
            break;
        }
        before = checked;
        stop_.wait_for(milliseconds(150));
        status = client_->status();
    }
    if (!status) {
        recording_.verification.error = status.error().message;
        return;
    }
    Counters& n = recording_.counters;
    n.decisions = status->decisions();
    n.fallbacks = status->fallbacks();
    n.samples = status->samples();
    n.samples_lost = status->samples_lost();
    n.sequence_gaps = status->sequence_gaps();
    n.decisions_explained = status->decisions_explained();
    n.decisions_unexplained = status->decisions_unexplained();
    n.switches_parameter = status->switches_parameter();
    n.switches_network = status->switches_network();
    n.switches_trained = status->switches_trained();
    n.rollbacks = status->rollbacks();
    n.installs_refused = status->installs_refused();
    n.resident_bytes = status->resident_bytes();
    n.acks = status->acks();
    // The log on disk, by a program that shares nothing with this daemon but the interpreter. The daemon ends first, so
    // that the log is whole.
    trainer_.reset();
    daemon_->stop(patient(seconds(10)));
    if (daemon_->exit_code() != 0) {
        recording_.errors.push_back(daemon_->obituary());
    }
    Verification& result = recording_.verification;
    Result<VerifiedLog> verified = verify_log(options_.bin, "cc", state_, log_of("adapathctl"), patient(seconds(120)));
    if (!verified) {
        result.error = verified.error().message;
        return;
    }
    result.ran = true;
    result.decisions = verified->decisions;
    result.unexplained = verified->unexplained;
}

// Its relay's connections use the kernel's default: the congestion control's part is over, and its daemon with it.
void Demo::select() {
    line_.say(
        fmt::format("the app select: encoding, then {:.0f} s of {} cameras", options_.select_s, options_.cameras));
    SelectActOptions act;
    act.duration_s = options_.select_s;
    act.cameras = options_.cameras;
    act.clip = options_.clip;
    act.seed = options_.seed;
    act.delay_ms = options_.delay_ms;
    act.out = options_.out + "/select";
    act.bin = options_.bin;
    act.checkpoint = options_.select_checkpoint;
    act.certificates = options_.certificates;
    act.patience = options_.patience;
    // 500 kbit/s a main stream: some three of five fit.
    act.mean_rate = 0.3 * options_.cameras;
    recording_.select = run_select_act(act, stop_);
    recording_.interrupted = recording_.interrupted || stop_.requested();
    line_.clear();
}

void Demo::qp() {
    line_.say(fmt::format("the app qp: freezing, then {:.0f} s of two cameras in one encoder", options_.qp_s));
    QpActOptions act;
    act.duration_s = options_.qp_s;
    act.clip = options_.clip;
    act.selector = options_.qp_selector;
    act.out = options_.out + "/qp";
    act.bin = options_.bin;
    act.patience = options_.patience;
    recording_.qp = run_qp_act(act, stop_);
    recording_.interrupted = recording_.interrupted || stop_.requested();
    line_.clear();
}

void Demo::end_all() {
    quit_.request();
    scenario_.reset();
    if (recorder_) {
        recorder_->stop();
    }
    sender_.reset();
    receiver_.reset();
    trainer_.reset();
    daemon_.reset();
    kernel_side_.reset();
    linkem_.reset();
    server_.reset();
    gateway_.reset();
    socket_directory_.reset();
}

}  // namespace

Result<Recording> run_demo(const Options& options, StopToken& stop) {
    Demo demo(options, stop);
    return demo.run();
}

}  // namespace adapath::demo
