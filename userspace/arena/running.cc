// See running.h.
#include "userspace/arena/running.h"

#include <algorithm>
#include <cmath>

#include "userspace/arena/statistics.h"

namespace adapath::arena {
namespace {

double rounded(double value, double scale) { return std::round(value * scale) / scale; }

Json cost_json(const PolicyCost& before, const PolicyCost& after, uint64_t received_bytes) {
    const double daemon_s = after.daemon_cpu_s - before.daemon_cpu_s;
    const double trainer_s = after.trainer_cpu_s - before.trainer_cpu_s;
    const double bpf_s = after.bpf_cpu_s - before.bpf_cpu_s;
    const uint64_t runs = after.bpf_runs - before.bpf_runs;
    const uint64_t acks = after.acks - before.acks;
    Json json{{"daemon_s", rounded(daemon_s, 1e6)},
              {"trainer_s", rounded(trainer_s, 1e6)},
              {"decisions", after.decisions - before.decisions},
              {"acks", acks},
              {"switches", after.switches - before.switches},
              {"rollbacks", after.rollbacks - before.rollbacks}};
    double datapath_s = daemon_s;
    if (after.has_bpf) {
        json["bpf_s"] = rounded(bpf_s, 1e6);
        json["bpf_runs"] = runs;
        json["bpf_ns_per_run"] = runs == 0 ? 0 : std::round(bpf_s * 1e9 / static_cast<double>(runs));
        datapath_s += bpf_s;
    }
    if (after.asking) {
        const PolicyAsking first = before.asking.value_or(PolicyAsking{});
        json["asking"] = {{"questions", after.asking->questions - first.questions},
                          {"applied", after.asking->applied - first.applied},
                          {"overtaken", after.asking->overtaken - first.overtaken},
                          {"answer_p50_us", quantile_since(first.answer_us, after.asking->answer_us, 0.5)},
                          {"answer_p99_us", quantile_since(first.answer_us, after.asking->answer_us, 0.99)},
                          {"apply_p50_us", quantile_since(first.apply_us, after.asking->apply_us, 0.5)},
                          {"apply_p99_us", quantile_since(first.apply_us, after.asking->apply_us, 0.99)}};
    }
    if (received_bytes > 0) {
        const double megabytes = static_cast<double>(received_bytes) / 1e6;
        // With and without learning: the trainer may run on another machine.
        json["cpu_us_per_mb"] = rounded(datapath_s * 1e6 / megabytes, 10);
        json["cpu_us_per_mb_with_trainer"] = rounded((datapath_s + trainer_s) * 1e6 / megabytes, 10);
    }
    return json;
}

Status make_link(Running& running, const Group& group, const GroupSettings& settings) {
    const CellInputs& inputs = running.cell->inputs;
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

}  // namespace

Running::~Running() {
    if (recorder) {
        recorder->forget();
    }
    crowd.reset();
    for (auto& flow : flows) {
        flow->cancel();
    }
}

void Running::fail(const Error& reason) {
    if (error.empty()) {
        error = reason.message;
    }
}

RunningCells set_up(const Group& group, const GroupSettings& settings, size_t seconds) {
    RunningCells cells;
    for (const GroupCell& cell : group.cells) {
        auto running = std::make_unique<Running>();
        running->cell = &cell;
        running->recorder = std::make_unique<LinkRecorder>(seconds, standstill_of(cell.inputs));
        if (Status ready = make_link(*running, group, settings); !ready) {
            running->fail(ready.error());
        }
        for (Policy* policy : cell.policies) {
            Result<PolicyCost> before = policy->cost();
            if (!before) {
                running->fail(before.error());
            }
            running->before.push_back(before ? *before : PolicyCost{});
        }
        cells.push_back(std::move(running));
    }
    return cells;
}

void start_links(const RunningCells& cells) {
    for (const auto& running : cells) {
        if (running->uplink) {
            running->uplink->start();
        }
    }
}

void check_policies(const RunningCells& cells) {
    for (const auto& running : cells) {
        for (Policy* policy : running->cell->policies) {
            if (Status alive = policy->alive(); !alive) {
                running->fail(alive.error());
            }
        }
    }
}

void add_cost(Running& running, Json& figures) {
    const std::vector<Policy*>& policies = running.cell->policies;
    if (policies.size() != 1 || !policies[0]->has_cost()) {
        return;
    }
    Result<PolicyCost> after = policies[0]->cost();
    if (!after) {
        running.fail(after.error());
        return;
    }
    figures["cost"] = cost_json(running.before[0], *after, figures["received_bytes"].get<uint64_t>());
}

}  // namespace adapath::arena
