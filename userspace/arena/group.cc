// See group.h.
#include "userspace/arena/group.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <chrono>
#include <latch>
#include <thread>

#include "userspace/arena/link_recorder.h"
#include "userspace/arena/statistics.h"
#include "userspace/arena/traces.h"
#include "userspace/common/clock.h"
#include "userspace/linkem/uplink.h"

namespace adapath::arena {
namespace {

using std::chrono::milliseconds;

constexpr auto tick = milliseconds(100);
// How long the links may outlast their time before something is wrong.
constexpr double patience_s = 20;

// One cell while it runs.
struct Running {
    const GroupCell* cell = nullptr;
    std::unique_ptr<LinkRecorder> recorder;
    std::unique_ptr<Uplink> uplink;
    std::vector<std::unique_ptr<TcpFlow>> flows;  // after the link: they end before it
    std::vector<PolicyCost> before;
    std::string error;

    ~Running() {
        if (recorder) {
            recorder->forget();
        }
        for (auto& flow : flows) {
            flow->cancel();
        }
    }
};

Json cost_json(const PolicyCost& before, const PolicyCost& after, uint64_t received_bytes) {
    const double daemon_s = after.daemon_cpu_s - before.daemon_cpu_s;
    const double trainer_s = after.trainer_cpu_s - before.trainer_cpu_s;
    const double bpf_s = after.bpf_cpu_s - before.bpf_cpu_s;
    const uint64_t runs = after.bpf_runs - before.bpf_runs;
    const uint64_t acks = after.acks - before.acks;
    Json json{{"daemon_s", daemon_s},
              {"trainer_s", trainer_s},
              {"decisions", after.decisions - before.decisions},
              {"acks", acks},
              {"switches", after.switches - before.switches},
              {"rollbacks", after.rollbacks - before.rollbacks}};
    double datapath_s = daemon_s;
    if (after.has_bpf) {
        json["bpf_s"] = bpf_s;
        json["bpf_runs"] = runs;
        json["bpf_ns_per_run"] = runs == 0 ? 0 : std::round(bpf_s * 1e9 / static_cast<double>(runs));
        datapath_s += bpf_s;
    }
    if (received_bytes > 0) {
        const double megabytes = static_cast<double>(received_bytes) / 1e6;
        // With and without learning: the trainer may run on another machine.
        json["cpu_us_per_mb"] = datapath_s * 1e6 / megabytes;
        json["cpu_us_per_mb_with_trainer"] = (datapath_s + trainer_s) * 1e6 / megabytes;
    }
    return json;
}

Status set_up(Running& running, const Group& group, const GroupSettings& settings) {
    const CellInputs& inputs = running.cell->inputs;
    running.recorder = std::make_unique<LinkRecorder>(static_cast<size_t>(std::lround(inputs.seconds)));
    UplinkOptions options;
    options.delay_ms = inputs.link.delay_ms;
    options.queue_bytes = inputs.queue_bytes;
    options.loss = inputs.link.loss;
    options.seed = inputs.seed;
    options.down_mbit = inputs.link.down_mbit;
    options.tcp_buffer_bytes = settings.tcp_buffer_bytes;
    options.realtime = true;
    options.paused = true;
    options.prefix = "adparena";
    options.stats_interval_ns = 1'000'000'000;
    options.on_stats = [recorder = running.recorder.get()](const EmulatorStats& stats) { recorder->add(stats); };
    auto uplink = Uplink::create(group.trace->trace, options);
    if (!uplink) {
        return uplink.error();
    }
    running.uplink = std::move(*uplink);
    return {};
}

Status start_flow(Running& running, size_t index, const GroupSettings& settings) {
    TcpFlowOptions options;
    options.congestion_control = running.cell->policies[index]->congestion_control();
    options.from = &running.uplink->gateway();
    options.to = &running.uplink->server();
    options.address = uplink_server_address;
    options.not_sent_low = settings.not_sent_low;
    auto flow = TcpFlow::start(options);
    if (!flow) {
        return flow.error();
    }
    running.recorder->watch(flow->get());
    running.flows.push_back(std::move(*flow));
    return {};
}

// All at once: each takes a round trip, and one after the other would give the first a head start.
void start_flows(std::vector<std::unique_ptr<Running>>& cells, size_t index, const GroupSettings& settings) {
    std::vector<std::jthread> threads;
    for (auto& running : cells) {
        if (!running->error.empty() || index >= running->cell->policies.size()) {
            continue;
        }
        threads.emplace_back([&settings, index, cell = running.get()] {
            if (Status started = start_flow(*cell, index, settings); !started) {
                cell->error = started.error().message;
            }
        });
    }
}

void check_policies(std::vector<std::unique_ptr<Running>>& cells) {
    for (auto& running : cells) {
        for (Policy* policy : running->cell->policies) {
            if (Status alive = policy->alive(); !alive && running->error.empty()) {
                running->error = alive.error().message;
            }
        }
    }
}

CellOutcome outcome_of(Running& running, const Group& group) {
    CellOutcome outcome;
    const CellInputs& inputs = running.cell->inputs;
    if (running.error.empty() && !running.recorder->complete()) {
        running.error = fmt::format("the link gave no figures for {:g} s", inputs.seconds);
    }
    outcome.error = running.error;
    if (!outcome.error.empty()) {
        return outcome;
    }
    outcome.figures = running.recorder->figures();
    outcome.series = running.recorder->series();
    const Bound bound = omniscient_bound(group.trace->trace, inputs.link, inputs.seconds);
    outcome.figures["bound"] = {{"delivered_bytes", bound.delivered_bytes}, {"delay_ms", bound.delay_ms}};
    const std::vector<uint64_t> received = running.recorder->received();
    Json flows = Json::array();
    for (size_t i = 0; i < running.flows.size(); i++) {
        const TcpFlowState state = running.flows[i]->state();
        flows.push_back({{"received_bytes", i < received.size() ? received[i] : 0},
                         {"retransmitted_segments", state.retransmitted_segments},
                         {"retransmitted_bytes", state.retransmitted_bytes},
                         {"min_rtt_ms", state.min_rtt_us / 1000.0}});
    }
    outcome.figures["flows"] = flows;
    if (inputs.traffic == Traffic::fairness) {
        std::vector<double> bytes(received.begin(), received.end());
        outcome.figures["jain"] = jain_index(bytes);
    }
    for (size_t i = 0; i < running.cell->policies.size(); i++) {
        Policy* policy = running.cell->policies[i];
        if (!policy->has_cost() || (i > 0 && policy == running.cell->policies[0])) {
            continue;
        }
        Result<PolicyCost> after = policy->cost();
        if (!after) {
            outcome.error = after.error().message;
            return outcome;
        }
        outcome.figures["cost"] =
            cost_json(running.before[i], *after, outcome.figures["received_bytes"].get<uint64_t>());
    }
    return outcome;
}

}  // namespace

uint64_t queue_bytes_of(const Trace& trace, const LinkSettings& link) {
    constexpr uint64_t two_packets = 3000;
    return std::max(two_packets, static_cast<uint64_t>(trace.mean_bytes_per_s() * link.queue_ms / 1000));
}

Result<std::vector<CellOutcome>> run_group(const Group& group, const GroupSettings& settings, StopToken& stop,
                                           const std::function<void(double)>& on_progress) {
    std::vector<std::unique_ptr<Running>> cells;
    for (const GroupCell& cell : group.cells) {
        auto running = std::make_unique<Running>();
        running->cell = &cell;
        if (Status ready = set_up(*running, group, settings); !ready) {
            running->error = ready.error().message;
        }
        for (Policy* policy : cell.policies) {
            Result<PolicyCost> before = policy->cost();
            if (!before && running->error.empty()) {
                running->error = before.error().message;
            }
            running->before.push_back(before ? *before : PolicyCost{});
        }
        cells.push_back(std::move(running));
    }
    const uint64_t start_ns = monotonic_ns();
    for (auto& running : cells) {
        if (running->uplink) {
            running->uplink->start();
        }
    }
    start_flows(cells, 0, settings);

    const CellInputs& first = group.cells.front().inputs;
    bool second_started = false;
    for (;;) {
        const double now_s = static_cast<double>(monotonic_ns() - start_ns) / 1e9;
        on_progress(std::min(now_s, first.seconds));
        if (group.traffic == Traffic::fairness && !second_started && now_s >= first.second_flow_after_s) {
            second_started = true;
            start_flows(cells, 1, settings);
        }
        check_policies(cells);
        const bool done = std::all_of(cells.begin(), cells.end(), [](const auto& running) {
            return !running->error.empty() || running->recorder->complete();
        });
        if (done || now_s > first.seconds + patience_s) {
            break;
        }
        if (stop.wait_for(tick)) {
            return Error{"interrupted"};
        }
    }
    std::vector<CellOutcome> outcomes;
    for (auto& running : cells) {
        outcomes.push_back(outcome_of(*running, group));
    }
    return outcomes;
}

}  // namespace adapath::arena
