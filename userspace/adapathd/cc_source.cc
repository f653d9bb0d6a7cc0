// See cc_source.h.
#include "userspace/adapathd/cc_source.h"

#include <algorithm>
#include <cstddef>
#include <unordered_map>

#include <adapath/cc.h>

static_assert(ADP_CC_THROUGHPUT_WEIGHT == 0 && ADP_CC_DELAY_WEIGHT_INDEX == 1 && ADP_CC_LOSS_WEIGHT_INDEX == 2 &&
              ADP_OBJECTIVES == 4);

#include "codegen/trace/trace.h"
#include "models/simulator.h"
#include "userspace/common/clock.h"

namespace adapath {
namespace {

class CcSource final : public DecisionSource {
public:
    CcSource(const CcSourceOptions& options, LinkOptions link, const std::vector<FlowOptions>& flows)
        : speed_(options.speed),
          begin_us_(monotonic_us()),
          flow_base_(begin_us_ * 1000),
          flows_(flows.size()),
          simulator_(std::move(link), flows, options.seed) {
        for (size_t i = 0; i < flows_; i++) {
            inputs_.emplace(simulator_.flow(i).input, simulator_.flow(i).id);
        }
        simulator_.set_samples([this](const adp_cc_sample& sample) { on_sample(sample); });
    }

    void advance(LocalDatapath& datapath, uint64_t now_us) override {
        datapath_ = &datapath;
        // Both for the whole of this call: what one of them is asked and what its sample says is the same snapshot's.
        active_ = datapath.active();
        canary_ = datapath.canary();
        if (active_.model == nullptr) {
            simulator_.set_policy({}, 0, 0);
        } else {
            simulator_.set_policy(
                [this](const uint8_t* input) {
                    return interpret(*decides(inputs_.at(input)).model, {input, ADP_CC_INPUTS})[0];
                },
                active_.generation, active_.explore_q16);
        }
        const auto [throughput, delay, loss, unused] = datapath.objective_q16();
        simulator_.set_objective({throughput, delay, loss});
        more_ = {};
        more_.flows_opened = first_ ? flows_ : 0;
        first_ = false;
        // After a long pause (a stopped process) the lost time is not caught up.
        const double target_s =
            std::min(static_cast<double>(now_us - begin_us_) / 1e6 * speed_, simulator_.now_s() + 1.0 * speed_);
        simulator_.run_until(target_s);
        uint64_t delivered = 0;
        for (size_t i = 0; i < flows_; i++) {
            delivered += simulator_.flow_stats(i).delivered;
        }
        more_.acks = delivered - delivered_;
        delivered_ = delivered;
        datapath.count(more_);
    }

private:
    // `flow`: the simulator's number for it.
    [[nodiscard]] const LocalDatapath::Active& decides(uint64_t flow) const {
        return canary_.decides(flow + flow_base_) ? canary_.snapshot : active_;
    }
    void on_sample(adp_cc_sample sample) {
        const LocalDatapath::Active& snapshot = decides(sample.flow);
        // Into this machine's time and out of the way of an earlier run's flow numbers.
        sample.time_us = begin_us_ + sample.time_us / speed_;
        sample.flow += flow_base_;
        if (sample.flags & ADP_CC_NOT_DECIDED) {
            more_.fallbacks += (sample.flags & ADP_CC_FALLBACK_MADE) != 0 ? 1 : 0;
        } else {
            sample.slot = snapshot.slot;
            sample.generation = snapshot.generation;
            more_.decisions++;
        }
        datapath_->put(std::as_bytes(std::span(&sample, 1)));
    }

    const uint32_t speed_;
    const uint64_t begin_us_;
    const uint64_t flow_base_;
    const size_t flows_;
    Simulator simulator_;
    LocalDatapath* datapath_ = nullptr;
    LocalDatapath::Active active_;
    LocalDatapath::Canary canary_;
    // Which flow asks: the simulator hands over its input, and the flow lives where it does.
    std::unordered_map<const uint8_t*, uint64_t> inputs_;
    BackendStats more_;
    uint64_t delivered_ = 0;
    bool first_ = true;
};

}  // namespace

Result<std::unique_ptr<DecisionSource>> make_cc_source(const CcSourceOptions& options) {
    TraceGenerator generator;
    generator.seed = options.seed;
    generator.mean_mbit = options.mean_mbit;
    Result<Trace> trace = Trace::generate(generator);
    if (!trace) {
        return trace.error();
    }
    LinkOptions link;
    link.queue_bytes = static_cast<uint64_t>(std::max(15000.0, trace->mean_bytes_per_s() * options.queue_ms / 1000));
    link.capacity = Capacity::from_trace(std::make_shared<const Trace>(std::move(*trace)));
    link.rtt_s = options.rtt_ms / 1000;
    std::vector<FlowOptions> flows(options.flows);
    for (size_t i = 0; i < flows.size(); i++) {
        flows[i].start_s = 0.25 * static_cast<double>(i);
    }
    return std::unique_ptr<DecisionSource>(std::make_unique<CcSource>(options, std::move(link), flows));
}

}  // namespace adapath
