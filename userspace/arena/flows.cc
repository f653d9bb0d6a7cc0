// Cells whose traffic is TCP flows with as much to send as they get through: one or a few (bulk), two (fairness) or
// more (regimes, crowd).
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "userspace/arena/machine.h"
#include "userspace/arena/running.h"
#include "userspace/arena/statistics.h"
#include "userspace/arena/traces.h"
#include "userspace/common/clock.h"

namespace adapath::arena {
namespace {

constexpr auto tick = std::chrono::milliseconds(100);
// How long the links may outlast their time before something is wrong.
constexpr double patience_s = 20;

size_t flows_of(const GroupCell& cell) {
    const CellInputs& inputs = cell.inputs;
    return inputs.regimes                    ? inputs.regimes->flows
           : inputs.traffic == Traffic::bulk ? inputs.bulk_flows
                                             : cell.policies.size();
}

Status start_flow(Running& running, size_t index, const GroupSettings& settings) {
    TcpFlowOptions options;
    // Regimes and bulk: many flows of one policy.
    const std::vector<Policy*>& policies = running.cell->policies;
    options.congestion_control = policies[std::min(index, policies.size() - 1)]->congestion_control();
    options.from = &running.uplink->gateway();
    options.to = &running.uplink->server();
    options.address = uplink_server_address;
    options.not_sent_low = settings.not_sent_low;
    options.realtime = true;
    auto flow = TcpFlow::start(options);
    if (!flow) {
        return flow.error();
    }
    running.recorder->watch([raw = flow->get()] { return raw->received(); });
    running.flows.push_back(std::move(*flow));
    return {};
}

// All at once: each takes a round trip, and one after the other would give the first a head start.
void start_flows(const RunningCells& cells, size_t index, const GroupSettings& settings) {
    std::vector<std::jthread> threads;
    for (const auto& running : cells) {
        if (!running->error.empty() || index >= flows_of(*running->cell)) {
            continue;
        }
        threads.emplace_back([&settings, index, cell = running.get()] {
            if (Status started = start_flow(*cell, index, settings); !started) {
                cell->fail(started.error());
            }
        });
    }
}

Status start_crowd(Running& running, const GroupSettings& settings, StopToken& stop) {
    auto crowd = TcpCrowd::start(running.uplink->gateway(), running.uplink->server(),
                                 {.count = running.cell->inputs.crowd_flows,
                                  .congestion_control = running.cell->policies[0]->congestion_control(),
                                  .address = uplink_server_address,
                                  .not_sent_low = settings.not_sent_low,
                                  .realtime = true},
                                 stop);
    if (!crowd) {
        return crowd.error();
    }
    running.crowd = std::move(*crowd);
    running.recorder->watch([raw = running.crowd.get()] { return raw->received_bytes(); });
    return {};
}

// All of them in one.
Json crowd_json(const TcpCrowd& crowd, uint64_t received_bytes, std::vector<double>& acked) {
    uint64_t segments = 0, bytes = 0;
    uint32_t min_rtt_us = 0;
    for (const TcpFlowState& state : crowd.states()) {
        segments += state.retransmitted_segments;
        bytes += state.retransmitted_bytes;
        min_rtt_us = min_rtt_us == 0 ? state.min_rtt_us : std::min(min_rtt_us, state.min_rtt_us);
        acked.push_back(static_cast<double>(state.acked_bytes));
    }
    return {{"received_bytes", received_bytes},
            {"retransmitted_segments", segments},
            {"retransmitted_bytes", bytes},
            {"min_rtt_ms", min_rtt_us / 1000.0}};
}

double rounded_jain(const std::vector<double>& shares) { return std::round(jain_index(shares) * 1e4) / 1e4; }

void watch_rewards(const RunningCells& cells, uint64_t start_ns) {
    for (const auto& running : cells) {
        const std::string socket = running->cell->policies[0]->daemon_socket();
        if (socket.empty()) {
            running->fail(Error{"no daemon collects what it earns"});
            continue;
        }
        running->rewards = std::make_unique<RewardRecorder>(
            socket, start_ns, static_cast<size_t>(std::lround(running->cell->inputs.seconds)));
    }
}

// Holds the policies' daemons while they are to stand still, and lets them go again whatever happens.
class Holder {
public:
    explicit Holder(const RunningCells& cells) : cells_(cells) {}
    ~Holder() { set(false); }
    Holder(const Holder&) = delete;
    Holder& operator=(const Holder&) = delete;

    void set(bool held) {
        if (held == held_) {
            return;
        }
        held_ = held;
        for (const auto& running : cells_) {
            for (Policy* policy : running->cell->policies) {
                held ? policy->hold() : policy->resume();
            }
        }
    }

private:
    const RunningCells& cells_;
    bool held_ = false;
};

CellOutcome outcome_of(Running& running, const Group& group) {
    CellOutcome outcome;
    const CellInputs& inputs = running.cell->inputs;
    if (!running.recorder->complete()) {
        running.fail(Error{fmt::format("the link gave no figures for {:g} s", inputs.seconds)});
    }
    if (const size_t wanted = flows_of(*running.cell); !running.crowd && running.flows.size() < wanted) {
        running.fail(Error{fmt::format("{} of {} flows had begun", running.flows.size(), wanted)});
    }
    if (running.error.empty()) {
        outcome.figures = running.recorder->figures();
        outcome.series = running.recorder->series();
        const Bound bound = omniscient_bound(group.trace->trace, inputs.link, inputs.seconds);
        outcome.figures["bound"] = {{"delivered_bytes", bound.delivered_bytes}, {"delay_ms", bound.delay_ms}};
        const std::vector<uint64_t> received = running.recorder->received();
        Json flows = Json::array();
        for (size_t i = 0; i < running.flows.size(); i++) {
            const TcpFlowState state = running.flows[i]->state();
            flows.push_back({{"received_bytes", received[i]},
                             {"retransmitted_segments", state.retransmitted_segments},
                             {"retransmitted_bytes", state.retransmitted_bytes},
                             {"min_rtt_ms", state.min_rtt_us / 1000.0}});
        }
        if (inputs.traffic == Traffic::fairness || inputs.bulk_flows > 1) {
            outcome.figures["jain"] = rounded_jain({received.begin(), received.end()});
        }
        if (running.crowd) {
            std::vector<double> acked;
            flows.push_back(crowd_json(*running.crowd, received[0], acked));
            outcome.figures["jain"] = rounded_jain(acked);
        }
        outcome.figures["flows"] = flows;
        add_cost(running, outcome.figures);
    }
    if (running.rewards && running.error.empty()) {
        running.rewards->stop();
        if (const std::string error = running.rewards->error(); !error.empty()) {
            running.fail(Error{"what it earned could not be read: " + error});
        }
        outcome.series["reward"] = running.rewards->series();
        outcome.figures["reward_samples_missed"] = running.rewards->dropped();
    }
    outcome.error = running.error;
    return outcome;
}

}  // namespace

Result<std::vector<CellOutcome>> run_flows(const Group& group, const GroupSettings& settings, StopToken& stop,
                                           const std::function<void(double)>& on_progress) {
    const CellInputs& first = group.cells.front().inputs;
    RunningCells cells = set_up(group, settings, static_cast<size_t>(std::lround(first.seconds)));
    const uint64_t start_ns = monotonic_ns();
    const MachineTime before = machine_time();
    start_links(cells);
    if (group.traffic == Traffic::regimes) {
        watch_rewards(cells, start_ns);
    }
    if (group.traffic == Traffic::regimes || group.traffic == Traffic::bulk) {
        for (size_t index = 1; index < flows_of(group.cells.front()); index++) {
            start_flows(cells, index, settings);
        }
    }
    if (group.traffic == Traffic::crowd) {
        for (const auto& running : cells) {
            if (Status started = running->error.empty() ? start_crowd(*running, settings, stop) : Status(); !started) {
                running->fail(started.error());
            }
        }
    } else {
        start_flows(cells, 0, settings);
    }
    bool second_started = false;
    const Standstill standstill = standstill_of(first);
    Holder holder(cells);
    for (;;) {
        const double now_s = static_cast<double>(monotonic_ns() - start_ns) / 1e9;
        on_progress(std::min(now_s, first.seconds));
        if (group.traffic == Traffic::fairness && !second_started && now_s >= first.second_flow_after_s) {
            second_started = true;
            start_flows(cells, 1, settings);
        }
        holder.set(now_s >= static_cast<double>(standstill.from_s) && now_s < static_cast<double>(standstill.to_s));
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
    holder.set(false);
    const double busy = std::round(busy_share(before, machine_time()) * 1e4) / 1e4;
    std::vector<CellOutcome> outcomes;
    for (auto& running : cells) {
        outcomes.push_back(outcome_of(*running, group));
        outcomes.back().figures["machine_busy_share"] = busy;
    }
    return outcomes;
}

}  // namespace adapath::arena
