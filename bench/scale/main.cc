// adapath-scale: what congestion control in BPF costs as flows are added to one gateway. At each number of flows the
// same TCP sockets run, one after the other and in turns, under
//
//   adapath    the kernel side of a real adapathd, with the checkpoint active: it decides
//   never due  the same program from the same source in which no monitor interval ends: what an ACK costs by itself
//   cubic      CUBIC in BPF (cubic.bpf.c): the yardstick
//
// and the kernel counts the time that their programs take (bpf_stats).
//
// The flows are held by their window (the same for all, set once by the CUBIC program), not by a pacing rate nor by a
// full queue: a paced flow is not window-limited, so CUBIC would not do its work; a full queue loses packets in a
// different way under each of the three. So all three see the same ACKs. All flows together are asked for the same
// packets per second at every count, so that what grows is the number of flows, not the traffic. The path is the link
// emulator at twice that rate: its queue stays empty and it only adds the round trip, which sets how often a flow
// decides.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "bench/scale/programs.h"
#include "bench/scale/report.h"
#include "codegen/version.h"
#include "tests/netns/testbed.h"
#include "userspace/common/clock.h"
#include "userspace/common/file.h"
#include "userspace/common/stop.h"
#include "userspace/linkem/tcp_crowd.h"

namespace adapath::scale {
namespace {

constexpr int exit_ok = 0;
constexpr int exit_usage = 2;
constexpr int exit_not_run = 3;
constexpr int exit_interrupted = 130;

constexpr int kPacketBytes = 1500;
constexpr double kWindowS = 0.004;

struct Options {
    std::vector<uint64_t> flows = {1, 10, 100, 1000};
    double rtt_ms = 100;
    double packets_per_s = 20000;
    double seconds = 8;
    double settle_s = 3;
    uint32_t rounds = 2;
    uint32_t ring_bytes = 1 << 20;
    uint32_t interval_ms = 100;
    std::string backend = "bpf";
    std::string model = ADAPATH_POLICY;
    std::string out = "out/bench/scale";
};

class Progress {
public:
    void show(const std::string& text) {
        if (isatty(STDERR_FILENO) == 1) {
            fmt::print(stderr, "\r\033[Kscale: {}", text);
        } else if (text != last_) {
            fmt::print(stderr, "scale: {}\n", text);
        }
        last_ = text;
    }
    ~Progress() {
        if (isatty(STDERR_FILENO) == 1) {
            fmt::print(stderr, "\r\033[K");
        }
    }

private:
    std::string last_;
};

std::string first_value(const std::string& path, const std::string& key) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with(key)) {
            const size_t colon = line.find(':');
            return line.substr(line.find_first_not_of(" \t", colon + 1));
        }
    }
    return "";
}

// User and system time of a process, seconds.
double process_cpu_s(uint32_t pid) {
    std::ifstream file(fmt::format("/proc/{}/stat", pid));
    std::string text((std::istreambuf_iterator<char>(file)), {});
    // The second field is the name in parentheses and may hold anything; user time is the 12th after it.
    std::istringstream rest(text.substr(std::min(text.size(), text.rfind(')') + 1)));
    std::string word;
    for (int i = 0; i < 11; i++) {
        rest >> word;
    }
    double user = 0, system = 0;
    rest >> user >> system;
    return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

uint64_t process_kb(uint32_t pid, const std::string& key) {
    const std::string text = first_value(fmt::format("/proc/{}/status", pid), key);
    return text.empty() ? 0 : std::stoull(text) * 1024;
}

// Time of all cores since boot: that was spent, that there was.
std::pair<double, double> machine_time() {
    std::ifstream file("/proc/stat");
    std::string cpu;
    file >> cpu;
    double busy = 0, all = 0, value = 0;
    for (int field = 0; field < 8 && file >> value; field++) {
        all += value;
        busy += field == 3 || field == 4 ? 0 : value;  // idle, iowait
    }
    return {busy, all};
}

// The kernel side's own counters, not the daemon's word.
Result<adp_stats> kernel_counters(const std::string& pins) {
    const UniqueFd map(bpf_obj_get((pins + "/stats").c_str()));
    std::vector<adp_stats> cpus(static_cast<size_t>(libbpf_num_possible_cpus()));
    const uint32_t zero = 0;
    if (!map.valid() || bpf_map_lookup_elem(map.get(), &zero, cpus.data()) != 0) {
        return Error{errno_text(pins + "/stats")};
    }
    adp_stats sum = {};
    for (const adp_stats& cpu : cpus) {
        sum.decisions += cpu.decisions;
        sum.fallbacks += cpu.fallbacks;
        sum.samples += cpu.samples;
        sum.samples_lost += cpu.samples_lost;
    }
    return sum;
}

// One number of flows.
class Run {
public:
    Run(const Options& options, uint64_t flows, const std::string& snapshot, StopToken& stop, Progress& progress)
        : options_(options), snapshot_(snapshot), stop_(stop), progress_(progress) {
        point_.flows = flows;
        const double each = options.packets_per_s / static_cast<double>(flows);
        window_ = static_cast<uint32_t>(std::max(2.0, std::round(each * options.rtt_ms / 1000)));
        point_.packets_per_s_asked = window_ * 1000.0 / options.rtt_ms * static_cast<double>(flows);
    }

    Result<Point> run() {
        if (Status status = prepare(); !status) {
            return status.error();
        }
        const auto [busy, all] = machine_time();
        for (uint32_t round = 0; round < options_.rounds; round++) {
            if (Status status = measure_adapath(round); !status) {
                return status.error();
            }
            if (Status status = measure_never_due(round); !status) {
                return status.error();
            }
            if (Status status =
                    measure("CUBIC", round, cubic_->name(), cubic_->programs(), "cubic_acked", point_.cubic);
                !status) {
                return status.error();
            }
            // Not CUBIC's.
            if (auto empty = point_.cubic.times.extract("empty_run")) {
                point_.empty.ns += empty.mapped().ns;
                point_.empty.runs += empty.mapped().runs;
            }
        }
        const auto [busy_end, all_end] = machine_time();
        point_.busy_percent = all_end > all ? 100 * (busy_end - busy) / (all_end - all) : 0;
        point_.late_p99_us = static_cast<double>(uplink_->totals().up.late.quantile(0.99));
        return point_;
    }

private:
    void say(const std::string& what) { progress_.show(fmt::format("{} flows: {}", point_.flows, what)); }

    Status wait(double seconds) {
        return stop_.wait_for(std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000))) ? Error{"interrupted"}
                                                                                               : Status();
    }

    Status prepare() {
        say("daemon, link and connections");
        Result<UniqueFd> run_times = enable_run_times();
        if (!run_times) {
            return run_times.error();
        }
        run_times_ = std::move(*run_times);
        daemon_ = std::make_unique<testing::TestDaemon>(
            options_.backend,
            fmt::format("ring_bytes: {}\ninterval_ms: {}\n", options_.ring_bytes, options_.interval_ms));
        if (Status status = daemon_->start(); !status) {
            return status;
        }
        if (Result<pb::InstallReply> installed = daemon_->install(snapshot_); !installed) {
            return installed.error();
        }
        Result<pb::StatusReply> status = daemon_->status();
        if (!status) {
            return status.error();
        }
        pid_ = status->pid();
        pins_ = daemon_->same_kernel_side()[3];
        Result<Programs> programs = Programs::of_daemon(pins_);
        if (!programs) {
            return programs.error();
        }
        programs_ = std::move(*programs);

        const std::string unique = fmt::format("{:08x}", std::random_device()());
        Result<std::unique_ptr<CongestionControl>> cubic = CongestionControl::cubic("adpsc" + unique, window_);
        if (!cubic) {
            return cubic.error();
        }
        cubic_ = std::move(*cubic);
        Result<std::unique_ptr<CongestionControl>> never = CongestionControl::never_due("adpsn" + unique);
        if (!never) {
            return never.error();
        }
        never_due_ = std::move(*never);

        const double mbit = point_.packets_per_s_asked * kPacketBytes * 8 / 1e6;
        Result<Trace> trace = Trace::constant(std::max(2.0, 2 * mbit));
        if (!trace) {
            return trace.error();
        }
        Result<std::unique_ptr<Uplink>> uplink = Uplink::create(
            std::move(*trace), {.delay_ms = options_.rtt_ms / 2, .queue_bytes = uint64_t{64} << 20, .loss = 0});
        if (!uplink) {
            return uplink.error();
        }
        uplink_ = std::move(*uplink);
        Result<std::unique_ptr<TcpCrowd>> flows = TcpCrowd::start(
            uplink_->gateway(), uplink_->server(),
            {.count = point_.flows, .congestion_control = cubic_->name(), .address = "10.77.0.2", .window = window_},
            stop_);
        if (!flows) {
            return flows.error();
        }
        flows_ = std::move(*flows);
        return wait(options_.settle_s);
    }

    Status measure_adapath(uint32_t round) {
        const bool first = round == 0;
        const double option_memory = flows_->option_memory();
        const auto slabs = slab_objects();
        adp_stats before = {};
        double cpu_s = 0;
        const auto begin = [&]() -> Status {
            if (first) {
                look_at_memory(option_memory, slabs);
            }
            Result<adp_stats> counters = kernel_counters(pins_);
            if (!counters) {
                return counters.error();
            }
            before = *counters;
            cpu_s = process_cpu_s(pid_);
            return {};
        };
        const double seconds = point_.adapath.seconds;
        if (Status status = measure("adapath", round, daemon_->congestion_control(), programs_, "adp_cc_control",
                                    point_.adapath, begin, [this] { return watch_windows(); });
            !status) {
            return status;
        }
        cpu_s = process_cpu_s(pid_) - cpu_s;
        Result<adp_stats> after = kernel_counters(pins_);
        if (!after) {
            return after.error();
        }
        point_.decisions += after->decisions - before.decisions;
        point_.fallbacks += after->fallbacks - before.fallbacks;
        point_.samples += after->samples - before.samples;
        point_.samples_lost += after->samples_lost - before.samples_lost;
        point_.due += due(*after) - due(before);
        cpu_sum_s_ += cpu_s;
        point_.daemon_cpu_percent = 100 * cpu_sum_s_ / point_.adapath.seconds;
        if (first) {
            point_.daemon_rss_bytes = process_kb(pid_, "VmRSS");
        }
        point_.daemon_peak_bytes = process_kb(pid_, "VmHWM");
        const uint64_t asked_ns = monotonic_ns();
        Result<pb::StatusReply> status = daemon_->status();
        if (!status) {
            return status.error();
        }
        point_.status_ms = static_cast<double>(monotonic_ns() - asked_ns) / 1e6;
        point_.status_bytes = status->ByteSizeLong();
        point_.sequence_gaps = status->sequence_gaps();
        point_.unexplained = status->decisions_unexplained();
        if (status->has_asking()) {
            (void)google::protobuf::util::MessageToJsonString(status->asking(), &point_.asking);
        }
        return seconds < point_.adapath.seconds ? Status() : Error{"no time was measured"};
    }

    // Intervals that ended. Where userspace is asked, an applied answer is a second sample of the same.
    [[nodiscard]] uint64_t due(const adp_stats& counters) const {
        return counters.samples + counters.samples_lost - (options_.backend == "userspace" ? counters.decisions : 0);
    }

    // Reads the counters again and again, so that most windows hold no decision while there are few flows.
    Status watch_windows() {
        const uint64_t until_ns = monotonic_ns() + static_cast<uint64_t>(options_.seconds * 1e9);
        RunTimes times = programs_.read();
        Result<adp_stats> counters = kernel_counters(pins_);
        while (counters && monotonic_ns() < until_ns) {
            if (Status status = wait(kWindowS); !status) {
                return status;
            }
            const RunTimes now = programs_.read();
            Result<adp_stats> counters_now = kernel_counters(pins_);
            if (!counters_now) {
                return counters_now.error();
            }
            const RunTimes spent = now - times;
            const auto acks = spent.find("adp_cc_control");
            const uint64_t ended = due(*counters_now) - due(*counters);
            if (acks != spent.end()) {
                point_.windows.add(static_cast<double>(total(spent).ns), static_cast<double>(acks->second.runs),
                                   static_cast<double>(ended));
            }
            times = now;
            counters = counters_now;
        }
        return counters ? Status() : Status(counters.error());
    }

    Status measure_never_due(uint32_t round) {
        const uint64_t before = never_due_->samples();
        const auto begin = [&]() -> Status { return wait(options_.settle_s); };
        if (Status status = measure("nothing due", round, never_due_->name(), never_due_->programs(), "adp_cc_control",
                                    point_.never_due, begin);
            !status) {
            return status;
        }
        return never_due_->samples() == before
                   ? Status()
                   : Error{
                         "the program in which nothing is due has decided: look at bench/scale/CMakeLists.txt, which "
                         "changes the interval's bounds in include/adapath/cc.h"};
    }

    // Switches all flows, lets them settle, calls `begin`, and counts while `meanwhile` (or nothing) goes on.
    Status measure(const std::string& what, uint32_t round, const std::string& congestion_control,
                   const Programs& programs, const std::string& per_ack, Measured& measured,
                   const std::function<Status()>& begin = {}, const std::function<Status()>& meanwhile = {}) {
        const std::string title = fmt::format("round {} of {}, {}", round + 1, options_.rounds, what);
        say(title + ", settling");
        if (Status status = flows_->use(congestion_control); !status) {
            return status;
        }
        if (Status status = wait(options_.settle_s); !status) {
            return status;
        }
        if (begin) {
            if (Status status = begin(); !status) {
                return status;
            }
        }
        say(title);
        const RunTimes before = programs.read();
        const uint64_t received = flows_->received_bytes();
        const EmulatorStats link = uplink_->totals();
        const uint64_t begin_ns = monotonic_ns();
        if (Status status = meanwhile ? meanwhile() : wait(options_.seconds); !status) {
            return status;
        }
        const RunTimes spent = programs.read() - before;
        const EmulatorStats link_after = uplink_->totals();
        measured.seconds += static_cast<double>(monotonic_ns() - begin_ns) / 1e9;
        measured.times += spent;
        measured.received_bytes += flows_->received_bytes() - received;
        measured.dropped_packets += link_after.up.counters.dropped_packets - link.up.counters.dropped_packets +
                                    link_after.down.counters.dropped_packets - link.down.counters.dropped_packets;
        const auto acks = spent.find(per_ack);
        if (acks == spent.end() || acks->second.runs == 0) {
            return Error{fmt::format("{} saw no ACK: is another program's run time counted?", what)};
        }
        measured.acks += acks->second.runs;
        return {};
    }

    void look_at_memory(double option_memory, const std::map<std::string, std::pair<uint64_t, uint64_t>>& before) {
        point_.option_memory_bytes = flows_->option_memory() - option_memory;
        point_.maps = map_costs(pins_);
        // With few flows the rest of the machine moves the caches more than they do.
        if (point_.flows < 100) {
            return;
        }
        for (const auto& [name, slab] : slab_objects()) {
            const auto old = before.find(name);
            const double grown =
                static_cast<double>(slab.first) - static_cast<double>(old == before.end() ? 0 : old->second.first);
            if (grown >= 0.5 * static_cast<double>(point_.flows)) {
                point_.slabs.push_back({name, grown / static_cast<double>(point_.flows), slab.second});
            }
        }
    }

    const Options& options_;
    const std::string& snapshot_;
    StopToken& stop_;
    Progress& progress_;
    Point point_;
    uint32_t window_ = 0;
    uint32_t pid_ = 0;
    std::string pins_;
    double cpu_sum_s_ = 0;

    // In this order, so that the flows end first and the daemon's kernel side last.
    UniqueFd run_times_;
    std::unique_ptr<testing::TestDaemon> daemon_;
    Programs programs_;
    std::unique_ptr<CongestionControl> cubic_;
    std::unique_ptr<CongestionControl> never_due_;
    std::unique_ptr<Uplink> uplink_;
    std::unique_ptr<TcpCrowd> flows_;
};

int fail(const std::string& message, int code) {
    fmt::print(stderr, "adapath-scale: {}\n", message);
    return code;
}

Status allow_descriptors(uint64_t flows) {
    const rlim_t wanted = 2 * flows + 256;
    rlimit limit = {};
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= wanted) {
        return {};
    }
    limit.rlim_cur = wanted;
    limit.rlim_max = std::max(limit.rlim_max, wanted);
    return setrlimit(RLIMIT_NOFILE, &limit) == 0
               ? Status()
               : Error{errno_text(fmt::format("{} flows need {} descriptors (ulimit -n)", flows, wanted))};
}

int run(const Options& options, StopToken& stop) {
    if (const std::string obstacle = testing::why_not(); !obstacle.empty()) {
        return fail(obstacle, exit_not_run);
    }
    Settings settings;
    utsname system = {};
    uname(&system);
    settings.kernel = system.release;
    settings.machine =
        fmt::format("{} x {}", sysconf(_SC_NPROCESSORS_ONLN), first_value("/proc/cpuinfo", "model name"));
    std::getline(std::ifstream("/proc/loadavg"), settings.load);
    settings.backend = options.backend;
    settings.rtt_ms = options.rtt_ms;
    settings.packets_per_s = options.packets_per_s;
    settings.seconds = options.seconds;
    settings.rounds = options.rounds;
    settings.ring_bytes = options.ring_bytes;
    settings.interval_ms = options.interval_ms;

    Result<FloatModel> model = read_float_model(options.model);
    if (!model) {
        return fail(model.error().message, exit_not_run);
    }
    Result<std::string> snapshot = testing::freeze_bytes(*model);
    if (!snapshot) {
        return fail(fmt::format("{}: {}", options.model, snapshot.error().message), exit_not_run);
    }
    std::vector<Point> points;
    {
        Progress progress;
        for (const uint64_t flows : options.flows) {
            if (Status status = allow_descriptors(flows); !status) {
                return fail(status.error().message, exit_not_run);
            }
            Result<Point> point = Run(options, flows, *snapshot, stop, progress).run();
            if (!point) {
                return fail(fmt::format("{} flows: {}", flows, point.error().message),
                            stop.requested() ? exit_interrupted : exit_not_run);
            }
            points.push_back(*point);
        }
    }
    const std::string json = options.out + "/scale.json";
    const std::string page = options.out + "/scale.html";
    if (Status status = make_directories(options.out); !status) {
        return fail(status.error().message, exit_not_run);
    }
    for (const auto& [path, text] : {std::pair{json, to_json(settings, points)}, {page, to_page(settings, points)}}) {
        if (Status status = write_file_durably(path, text); !status) {
            return fail(status.error().message, exit_not_run);
        }
    }
    fmt::print(
        "{}\nA decision's time comes on top of its ACK's; the ratio is an ACK's at which nothing is due to CUBIC's."
        "\n  {}\n  {}\n",
        to_table(points), json, page);
    return exit_ok;
}

}  // namespace
}  // namespace adapath::scale

int main(int argc, char** argv) {
    using namespace adapath;
    using namespace adapath::scale;
    scale::Options options;
    CLI::App app{
        "Measures what congestion control in BPF costs as flows are added: ns per ACK and per decision against CUBIC "
        "in "
        "BPF on the same flows,\nmemory of a flow, samples lost, the daemon's processor time and memory. Needs root."};
    app.set_version_flag("--version", kVersion);
    app.name("adapath-scale");
    app.add_option("--flows", options.flows, "Numbers of flows, one measurement each")
        ->capture_default_str()
        ->delimiter(',')
        ->check(CLI::Range(1, 20000));
    app.add_option("--rtt", options.rtt_ms, "Round trip, ms; a flow decides once in it (at least 10, at most 200 ms)")
        ->capture_default_str()
        ->check(CLI::Range(1.0, 1000.0));
    app.add_option("--packets", options.packets_per_s,
                   "Packets a second of all flows together; at least two a round trip and flow are sent")
        ->capture_default_str()
        ->check(CLI::Range(10.0, 1e6));
    app.add_option("--seconds", options.seconds, "Seconds of each measurement")
        ->capture_default_str()
        ->check(CLI::Range(0.5, 600.0));
    app.add_option("--settle", options.settle_s, "Seconds before each, for the flows to find their rate")
        ->capture_default_str()
        ->check(CLI::Range(0.5, 600.0));
    app.add_option("--rounds", options.rounds, "How often the three congestion controls take turns")
        ->capture_default_str()
        ->check(CLI::Range(1, 100));
    app.add_option("--ring-bytes", options.ring_bytes, "The daemon's ring_bytes; a power of two")
        ->capture_default_str();
    app.add_option("--interval-ms", options.interval_ms, "The daemon's interval_ms")->capture_default_str();
    app.add_option("--backend", options.backend,
                   "Who decides: bpf, the kernel; userspace, the daemon, asked for each decision")
        ->capture_default_str()
        ->check(CLI::IsMember({"bpf", "userspace"}));
    app.add_option("--model", options.model, "Model file of the policy that decides")->capture_default_str();
    app.add_option("--out", options.out, "Directory of scale.json and scale.html; made if missing")
        ->capture_default_str();
    app.footer(
        "Ctrl-C ends everything cleanly. Figures of a busy machine are worth little: the last column says how busy it "
        "was.\n"
        "Exit codes: 0 measured, 2 bad options, 3 could not run, 130 interrupted.");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? exit_ok : exit_usage;
    }
    options.out = std::filesystem::absolute(options.out).lexically_normal().string();
    signal(SIGPIPE, SIG_IGN);
    StopToken stop;
    const SignalWatcher watcher(stop);
    return run(options, stop);
}
