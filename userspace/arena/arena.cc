// See arena.h.
#include "userspace/arena/arena.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <thread>

#include "codegen/version.h"
#include "userspace/arena/bpf_time.h"
#include "userspace/arena/group.h"
#include "userspace/arena/hash.h"
#include "userspace/arena/policy.h"
#include "userspace/arena/progress.h"
#include "userspace/arena/results.h"
#include "userspace/arena/traces.h"
#include "userspace/common/file.h"

namespace adapath::arena {
namespace {

// Starting and ending a group's programs, before that was measured.
constexpr double overhead_s = 5;

// The checkpoint as it is, and the same learning.
const std::vector<std::string> regime_policies = {"adapath", "adapath-online"};

std::vector<std::string> split_pair(const std::string& pair) {
    const size_t plus = pair.find('+');
    return plus == std::string::npos ? std::vector<std::string>{pair}
                                     : std::vector<std::string>{pair.substr(0, plus), pair.substr(plus + 1)};
}

double load_average() {
    double load = 0;
    return getloadavg(&load, 1) == 1 ? load : 0;
}

class Arena {
public:
    Arena(const Options& options, StopToken& stop) : options_(options), stop_(stop) {}

    Result<RunSummary> run() {
        if (Status ready = set_up(); !ready) {
            return ready.error();
        }
        Result<ResultFile> results = ResultFile::open(results_path(options_.out), options_.fresh);
        if (!results) {
            return results.error();
        }
        drop_finished(*results);
        std::vector<double> expected_s;
        for (const Group& group : groups_) {
            expected_s.push_back(group.cells.front().inputs.seconds + overhead_s);
        }
        Progress progress(std::move(expected_s));
        progress.say(fmt::format("arena: {} cells to measure in {} groups, {} are there already ({})", cells_left(),
                                 groups_.size(), summary_.there_already, results->path()));
        for (Group& group : groups_) {
            if (stop_.requested()) {
                break;
            }
            if (Status status = measure(group, *results, progress); !status) {
                return status.error();
            }
        }
        progress.close();
        return std::move(summary_);
    }

private:
    Status set_up();
    Status check_machine();
    Status make_policies();
    Status load_traces();
    Status hash_video();
    Result<std::vector<const SeededTrace*>> load(const std::vector<TraceSource>& sources,
                                                 const std::vector<uint64_t>& seeds);
    Group make_group(Traffic traffic, const SeededTrace& trace);
    void drop_finished(const ResultFile& results);
    [[nodiscard]] size_t cells_left() const;
    Status measure(Group& group, ResultFile& results, Progress& progress);
    [[nodiscard]] bool wants(Traffic traffic) const {
        return std::find(options_.traffic.begin(), options_.traffic.end(), name_of(traffic)) != options_.traffic.end();
    }

    const Options& options_;
    StopToken& stop_;
    RunSummary summary_;
    std::string kernel_;
    std::string run_id_;
    UniqueFd bpf_statistics_;
    std::map<std::string, std::unique_ptr<Policy>> policies_;
    std::map<std::string, Json> parts_;
    VideoSettings video_;
    std::vector<std::unique_ptr<SeededTrace>> traces_;
    std::vector<Group> groups_;
};

Status Arena::check_machine() {
    if (geteuid() != 0) {
        return Error{"network namespaces and congestion controls need root: run it with sudo"};
    }
    if (access("/dev/net/tun", R_OK | W_OK) != 0) {
        return Error{
            fmt::format("/dev/net/tun: {}: the link emulator needs TUN devices (modprobe tun)", strerror(errno))};
    }
    for (const auto& [name, policy] : policies_) {
        if (policy->has_cost()) {
            continue;
        }
        // Asking loads the kernel's module, where there is one.
        const UniqueFd probe(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        if (setsockopt(probe.get(), IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size())) !=
            0) {
            return Error{
                fmt::format("congestion control '{}': {}; leave it out with --policy and --pair, or load its "
                            "module (modprobe tcp_{})",
                            name, strerror(errno), name)};
        }
    }
    return {};
}

Status Arena::make_policies() {
    bpf_statistics_ = count_bpf_run_time();
    std::vector<std::string> wanted;
    if (wants(Traffic::bulk) || wants(Traffic::video) || wants(Traffic::crowd)) {
        wanted = options_.policies;
    }
    if (wants(Traffic::fairness)) {
        for (const std::string& pair : options_.pairs) {
            for (const std::string& name : split_pair(pair)) {
                wanted.push_back(name);
            }
        }
    }
    if (wants(Traffic::regimes)) {
        wanted.insert(wanted.end(), regime_policies.begin(), regime_policies.end());
    }
    for (const std::string& name : wanted) {
        if (policies_.contains(name)) {
            continue;
        }
        PolicyContext context;
        context.bin = options_.bin;
        context.checkpoint = options_.checkpoint;
        context.work = options_.out + "/logs/" + name;
        context.trainer_arguments = options_.trainer_arguments;
        context.daemon_config = options_.daemon_config;
        context.bpf_time_is_counted = bpf_statistics_.valid();
        context.stop = &stop_;
        auto policy = make_policy(name, context);
        if (!policy) {
            return policy.error();
        }
        Result<Json> parts = (*policy)->parts();
        if (!parts) {
            return parts.error();
        }
        parts_[name] = *parts;
        policies_[name] = std::move(*policy);
    }
    return {};
}

Status Arena::hash_video() {
    video_ = options_.video;
    Result<std::string> hash = sha256_file(video_.clip);
    if (!hash) {
        return Error{
            fmt::format("{}; fetch the default clip with 'make deps', name another with --clip, or leave video "
                        "out with --traffic",
                        hash.error().message)};
    }
    video_.clip_hash = hash->substr(0, 16);
    Result<Json> programs = file_hashes({{"adapath-video-send", options_.bin + "/adapath-video-send"},
                                         {"adapath-video-recv", options_.bin + "/adapath-video-recv"}});
    if (!programs) {
        return programs.error();
    }
    video_.programs = std::move(*programs);
    return {};
}

Result<std::vector<const SeededTrace*>> Arena::load(const std::vector<TraceSource>& sources,
                                                    const std::vector<uint64_t>& seeds) {
    std::vector<const SeededTrace*> loaded;
    for (const TraceSource& source : sources) {
        for (const uint64_t seed : seeds) {
            Result<SeededTrace> trace = seeded(source, seed);
            if (!trace) {
                return trace.error();
            }
            for (const SeededTrace* other : loaded) {
                if (other->name == trace->name && other->seed == trace->seed && other->hash != trace->hash) {
                    return Error{
                        fmt::format("{}: another trace is called '{}' too, and in the report they would be one: "
                                    "give one of the files another name",
                                    source.path, trace->name)};
                }
            }
            traces_.push_back(std::make_unique<SeededTrace>(std::move(*trace)));
            loaded.push_back(traces_.back().get());
        }
    }
    return loaded;
}

Group Arena::make_group(Traffic traffic, const SeededTrace& trace) {
    Group group{.traffic = traffic, .trace = &trace, .cells = {}};
    LinkSettings link = options_.link;
    if (traffic == Traffic::fairness && options_.fairness_queue_ms > 0) {
        link.queue_ms = options_.fairness_queue_ms;
    }
    if (traffic == Traffic::crowd) {
        link.queue_ms = options_.crowd.queue_ms;
    }
    const std::vector<std::string>& names = traffic == Traffic::fairness  ? options_.pairs
                                            : traffic == Traffic::regimes ? regime_policies
                                                                          : options_.policies;
    for (const std::string& name : names) {
        GroupCell cell;
        cell.inputs.traffic = traffic;
        cell.inputs.trace = trace.name;
        cell.inputs.trace_hash = trace.hash;
        cell.inputs.seed = trace.seed;
        cell.inputs.policy = name;
        cell.inputs.seconds = options_.seconds;
        cell.inputs.link = link;
        cell.inputs.queue_bytes = queue_bytes_of(trace.trace, link);
        cell.inputs.kernel = kernel_;
        cell.inputs.busy = options_.busy;
        if (traffic == Traffic::bulk) {
            cell.inputs.daemon_stops_s = options_.daemon_stops_s;
            cell.inputs.bulk_flows = options_.bulk_flows;
        }
        if (traffic == Traffic::crowd) {
            cell.inputs.crowd_flows = options_.crowd.flows;
        }
        if (traffic == Traffic::fairness) {
            cell.inputs.second_flow_after_s = options_.second_flow_after_s;
        }
        if (traffic == Traffic::video) {
            cell.inputs.video = video_;
        }
        if (traffic == Traffic::regimes) {
            cell.inputs.regimes = options_.regimes;
            cell.inputs.seconds = 3 * options_.regimes.phase_s;
        }
        for (const std::string& one : split_pair(name)) {
            cell.policies.push_back(policies_.at(one).get());
            if (!parts_.at(one).empty()) {
                cell.inputs.policy_parts[one] = parts_.at(one);
            }
        }
        group.cells.push_back(std::move(cell));
    }
    return group;
}

Status Arena::load_traces() {
    std::vector<TraceSource> sources;
    for (const std::string& path : options_.traces) {
        Result<std::vector<TraceSource>> found = sources_at(path);
        if (!found) {
            return found.error();
        }
        sources.insert(sources.end(), found->begin(), found->end());
    }
    for (const double mbit : options_.generate_mbit) {
        sources.push_back(generated_source(mbit));
    }
    std::vector<TraceSource> shared;
    for (const std::string& path : options_.fairness_traces) {
        Result<std::vector<TraceSource>> found = sources_at(path);
        if (!found) {
            return found.error();
        }
        shared.insert(shared.end(), found->begin(), found->end());
    }
    for (const double mbit : options_.fairness_mbit) {
        shared.push_back(constant_source(mbit));
    }
    // Bulk and video of a trace follow each other, so that a run that is stopped early has whole traces.
    if (wants(Traffic::bulk) || wants(Traffic::video)) {
        auto loaded = load(sources, options_.seeds);
        if (!loaded) {
            return loaded.error();
        }
        for (const SeededTrace* trace : *loaded) {
            for (const Traffic traffic : {Traffic::bulk, Traffic::video}) {
                if (wants(traffic)) {
                    groups_.push_back(make_group(traffic, *trace));
                }
            }
        }
    }
    if (wants(Traffic::fairness) && !options_.pairs.empty()) {
        auto loaded = load(shared, {options_.seeds.front()});
        if (!loaded) {
            return loaded.error();
        }
        for (const SeededTrace* trace : *loaded) {
            groups_.push_back(make_group(Traffic::fairness, *trace));
        }
    }
    if (wants(Traffic::regimes)) {
        Result<SeededTrace> trace = regimes_trace(options_.regimes);
        if (!trace) {
            return trace.error();
        }
        traces_.push_back(std::make_unique<SeededTrace>(std::move(*trace)));
        groups_.push_back(make_group(Traffic::regimes, *traces_.back()));
    }
    if (wants(Traffic::crowd)) {
        std::vector<TraceSource> links;
        for (const double mbit : options_.crowd_mbit) {
            links.push_back(constant_source(mbit));
        }
        auto loaded = load(links, options_.seeds);
        if (!loaded) {
            return loaded.error();
        }
        // One policy after the other: side by side each would take the processors from the others. The seeds are
        // rounds, in turns.
        for (const SeededTrace* trace : *loaded) {
            for (GroupCell& cell : make_group(Traffic::crowd, *trace).cells) {
                groups_.push_back({.traffic = Traffic::crowd, .trace = trace, .cells = {std::move(cell)}});
            }
        }
    }
    return {};
}

Status Arena::set_up() {
    utsname name{};
    uname(&name);
    kernel_ = fmt::format("{} {}", name.sysname, name.release);
    run_id_ = fmt::format("{:08x}", std::random_device{}());
    if (Status made = make_policies(); !made) {
        return made;
    }
    if (Status able = check_machine(); !able) {
        return able;
    }
    if (wants(Traffic::video)) {
        if (Status hashed = hash_video(); !hashed) {
            return hashed;
        }
    }
    if (Status loaded = load_traces(); !loaded) {
        return loaded;
    }
    return make_directories(options_.out + "/work");
}

void Arena::drop_finished(const ResultFile& results) {
    for (Group& group : groups_) {
        summary_.there_already +=
            std::erase_if(group.cells, [&](const GroupCell& cell) { return results.has(cell_key(cell.inputs)); });
    }
    std::erase_if(groups_, [](const Group& group) { return group.cells.empty(); });
}

size_t Arena::cells_left() const {
    size_t cells = 0;
    for (const Group& group : groups_) {
        cells += group.cells.size();
    }
    return cells;
}

Status Arena::measure(Group& group, ResultFile& results, Progress& progress) {
    const std::string what =
        fmt::format("{}, {}, seed {}", name_of(group.traffic), group.trace->name, group.trace->seed);
    const auto failed = [&](const std::string& policy, const std::string& why) {
        summary_.failures.push_back(fmt::format("{}, {}: {}", what, policy, why));
        progress.say(fmt::format("arena: FAILED: {}", summary_.failures.back()));
    };
    progress.begin(what);
    GroupSettings settings;
    settings.bin = options_.bin;
    settings.work = options_.out + "/work";
    const double load = load_average();
    const time_t started = time(nullptr);
    auto outcomes = run_group(group, settings, stop_,
                              [&](double second) { progress.at(second, group.cells.front().inputs.seconds); });
    progress.end_group();
    if (!outcomes) {
        if (!stop_.requested()) {
            failed("all of them", outcomes.error().message);
        }
        return {};
    }
    for (size_t i = 0; i < outcomes->size(); i++) {
        const CellOutcome& outcome = (*outcomes)[i];
        const CellInputs& inputs = group.cells[i].inputs;
        if (!outcome.error.empty()) {
            failed(inputs.policy, outcome.error);
            continue;
        }
        // Cells of one run and start were measured side by side.
        const Json line{{"key", cell_key(inputs)},
                        {"inputs", inputs_json(inputs)},
                        {"run",
                         {{"id", run_id_},
                          {"started_unix_s", started},
                          {"version", kVersion},
                          {"cpus", std::thread::hardware_concurrency()},
                          {"load_before", load}}},
                        {"figures", outcome.figures},
                        {"series", outcome.series}};
        if (Status written = results.append(line); !written) {
            return written;
        }
        summary_.measured++;
    }
    return {};
}

}  // namespace

std::string results_path(const std::string& out) { return out + "/results.jsonl"; }

Result<RunSummary> run_arena(const Options& options, StopToken& stop) {
    Arena arena(options, stop);
    return arena.run();
}

}  // namespace adapath::arena
