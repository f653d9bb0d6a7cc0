// See online.h.
#include "models/select/online.h"

#include <spdlog/fmt/fmt.h>
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <unordered_map>

#include "models/float_runner.h"
#include "models/policy.h"
#include "models/select/policies.h"
#include "models/select/scenario.h"
#include "models/select/simulator.h"

namespace adapath {

namespace {

constexpr size_t most_cameras = 65536;  // told apart; forgotten all together beyond
constexpr float most_weight = 10;       // of a label: one seldom one must not drown the others

// How much a label of this decision counts: one over how probable it was that both renditions would be sent, and the
// gain be measured. Both are sent wherever main is insured by sub, so that without this nearly all labels would be of
// chunks whose gain was thought to be large.
float weight_of(const adp_select_sample& sample) {
    adp_select_offer offer = sample.offer;
    offer.explore_q16 = 0;
    uint32_t flags = 0;
    const uint32_t choice = adp_select_choose(sample.output, &offer, &flags);
    // 0: both came by the choice itself, or by a bridge from one to the other.
    const uint32_t share_q16 = adp_select_explore_q16(sample.output, &sample.offer, choice);
    return weight_of_chance(static_cast<float>(share_q16) / ADP_Q16_ONE, most_weight);
}

// Worths of sub and main as the datapath makes them of a model's outputs, one after the other.
std::vector<float> worths_of(const FloatModel& model, const std::deque<SelectCodes>& inputs) {
    FloatRunner runner(model);
    std::vector<float> worths;
    worths.reserve(2 * inputs.size());
    for (const SelectCodes& codes : inputs) {
        const std::span<const float> out = runner.run_all(codes.data());
        const float sub = std::clamp(out[0], 0.0F, 1.0F);
        worths.push_back(sub);
        worths.push_back(std::clamp(sub + std::clamp(out[1], -1.0F, 1.0F), 0.0F, 1.0F));
    }
    return worths;
}

torch::Tensor worths(const torch::Tensor& out) {
    return torch::stack({out.select(1, 0), out.select(1, 0) + out.select(1, 1)}, 1);
}

// A decision's input with what the server measured of its chunk.
struct Label {
    SelectExample example;
    float weight = 1;
};

}  // namespace

struct SelectOnline::State final : SupervisedTraining<SelectOnlineOptions, Label, SelectCodes> {
    State(const FloatModel& model, const SelectOnlineOptions& o)
        : SupervisedTraining(o), checkpoint(model), network(model), anchor(model), random(o.seed) {
        make_optimiser();
    }
    void make_optimiser() {
        optimiser = std::make_unique<torch::optim::Adam>(network.parameters(), torch::optim::AdamOptions(options.rate));
    }

    size_t draw(size_t size) override {
        return std::min(size - 1, static_cast<size_t>(random.uniform() * static_cast<double>(size)));
    }
    double error(const std::vector<const Label*>& fresh) override {
        std::vector<SelectExample> examples;
        for (const Label* label : fresh) examples.push_back(label->example);
        const SelectError e = select_error(network.model(), examples);
        return (e.sub + e.main) / 2;
    }
    double step(const std::vector<const Label*>& chosen) override {
        std::vector<float> truth;
        std::vector<float> weights;
        for (const Label* label : chosen) {
            truth.push_back(label->example.sub);
            truth.push_back(label->example.main);
            weights.push_back(label->weight);
        }
        const auto count = static_cast<int64_t>(chosen.size());
        const torch::Tensor y = torch::from_blob(truth.data(), {count, 2}, torch::kFloat32);
        const torch::Tensor w = torch::from_blob(weights.data(), {count, 1}, torch::kFloat32);
        const torch::Tensor x =
            decode_codes(checkpoint.network, chosen, [](const Label* label) -> auto& { return label->example.codes; });
        torch::Tensor loss = ((worths(network.forward(x)) - y).square() * w / w.mean()).mean();
        if (options.anchor > 0 && !recent().empty()) {
            std::vector<SelectCodes> seen;
            for (uint32_t i = 0; i < options.minibatch; i++) seen.push_back(recent()[draw(recent().size())]);
            const torch::Tensor there = decode_codes(checkpoint.network, seen);
            const torch::Tensor held = worths(anchor.forward(there)).detach();
            loss = loss + options.anchor * (worths(network.forward(there)) - held).square().mean();
        }
        optimiser->zero_grad();
        loss.backward();
        optimiser->step();
        return loss.item<double>();
    }
    [[nodiscard]] std::vector<float> decisions() const override { return worths_of(network.model(), recent()); }

    struct Decision {
        uint64_t time_us = 0;
        SelectCodes codes = {};
        float weight = 1;  // of its label
        bool blind = false;
        bool labelled = false;
    };
    struct Camera {
        std::deque<Decision> decisions;
        bool forgot = false;  // older ones there were
    };

    FloatModel checkpoint;
    Mlp network;
    Mlp anchor;
    Random random;
    std::unique_ptr<torch::optim::Adam> optimiser;
    std::unordered_map<uint64_t, Camera> cameras;
    SelectOnlineCounters counters;
};

SelectOnline::SelectOnline(const FloatModel& checkpoint, const SelectOnlineOptions& options) {
    torch::manual_seed(options.seed);
    torch::set_num_threads(options.threads);
    state_ = std::make_unique<State>(checkpoint, options);
}

SelectOnline::~SelectOnline() = default;

void SelectOnline::add(std::span<const adp_select_sample> samples, bool learn) {
    State& s = *state_;
    for (const adp_select_sample& sample : samples) {
        s.counters.samples++;
        State::Decision decision;
        decision.time_us = sample.time_us;
        decision.blind = (sample.flags & ADP_SELECT_LEARNING) != 0;
        decision.weight = weight_of(sample);
        std::copy(std::begin(sample.input), std::end(sample.input), decision.codes.begin());
        if (!decision.blind) s.remember(decision.codes);
        if (!learn) continue;
        if (s.cameras.size() > most_cameras) s.cameras.clear();
        State::Camera& camera = s.cameras[sample.camera];
        // Another boot's clock: what came before it is nobody's any more.
        if (!camera.decisions.empty() && decision.time_us < camera.decisions.back().time_us) camera.decisions.clear();
        camera.decisions.push_back(decision);
        if (camera.decisions.size() > std::max(s.options.remember, 1U)) {
            camera.decisions.pop_front();
            camera.forgot = true;
        }
    }
}

void SelectOnline::add(std::span<const std::byte> records, bool learn) {
    std::vector<adp_select_sample> samples(records.size() / sizeof(adp_select_sample));
    std::memcpy(samples.data(), records.data(), samples.size() * sizeof(adp_select_sample));
    add(samples, learn);
}

void SelectOnline::add_measured(uint64_t camera, uint64_t chunk_us, double sub_worth, double gain) {
    State& s = *state_;
    s.counters.reports++;
    const auto known = s.cameras.find(camera);
    if (known == s.cameras.end() || known->second.decisions.empty()) {
        s.counters.unmatched++;
        return;
    }
    std::deque<State::Decision>& decisions = known->second.decisions;
    // The greatest time at or before the chunk's.
    const uint64_t until_us = chunk_us + s.options.match_us;
    const auto after = std::ranges::upper_bound(decisions, until_us, {}, &State::Decision::time_us);
    if (after == decisions.begin()) {
        (known->second.forgot ? s.counters.late : s.counters.unmatched)++;
        return;
    }
    State::Decision& decision = *(after - 1);
    if (chunk_us > decision.time_us + s.options.decision_us) {
        s.counters.unmatched++;
        return;
    }
    if (decision.blind || decision.labelled) {
        (decision.blind ? s.counters.blind : s.counters.repeated)++;
        return;
    }
    decision.labelled = true;
    s.counters.labels++;
    SelectExample example;
    example.codes = decision.codes;
    example.sub = static_cast<float>(std::clamp(sub_worth, 0.0, 1.0));
    example.main = static_cast<float>(std::clamp(sub_worth + gain, 0.0, 1.0));
    s.add({example, decision.weight});
}

SupervisedStats SelectOnline::train() { return state_->train(); }

std::string SelectOnline::step() {
    const SupervisedStats stats = train();
    if (!stats.trained) return {};
    return fmt::format("batch {}: {} labels, error {:.3f} before they were learned from, change {:.4f}", stats.batch,
                       stats.fresh, stats.error, stats.change);
}

SelectOnlineCounters SelectOnline::counters() const { return state_->counters; }

bool SelectOnline::stable() const { return state_->stable(); }

double SelectOnline::fidelity_loss(const LearnedModel& active) const {
    const State& s = *state_;
    // The range of a worth is 1.
    return mean_difference(s.decisions(), worths_of(std::get<FloatModel>(active), s.recent()));
}

bool SelectOnline::necessary(const LearnedModel& active) const { return state_->necessary(fidelity_loss(active)); }

FloatModel SelectOnline::current() const { return state_->network.model(); }

std::vector<InputCodes> SelectOnline::recent_codes() const {
    std::vector<InputCodes> all;
    all.reserve(state_->recent().size());
    for (const SelectCodes& codes : state_->recent()) all.emplace_back(codes.begin(), codes.end());
    return all;
}

std::vector<InputCodes> SelectOnline::simulated_codes(const FloatModel& model, size_t count) const {
    const SelectDataset cameras = made_up_cameras();
    Random random(1);
    std::vector<InputCodes> all;
    while (all.size() < count) {
        SelectEvents events;
        events.sample = [&](size_t, const adp_select_sample& sample, const std::array<double, 2>&) {
            if ((sample.flags & ADP_SELECT_LEARNING) == 0)
                all.emplace_back(std::begin(sample.input), std::end(sample.input));
        };
        (void)run_select(random_select_scenario(cameras, random, 30), network_policy(model), events);
    }
    return all;
}

void SelectOnline::restart_from(const LearnedModel& model) {
    State& s = *state_;
    s.network.assign(std::get<FloatModel>(model));
    s.make_optimiser();
    s.forget();
}

Status SelectOnline::save(const std::string& directory) const {
    return write_float_model(state_->network.model(), directory + "/policy.model");
}

std::string SelectOnline::progress() const {
    const SelectOnlineCounters& n = state_->counters;
    return fmt::format("{} reports, {} labels ({} unmatched, {} late), {} batches, error {:.3f}", n.reports, n.labels,
                       n.unmatched, n.late, state_->last().batch, state_->last().error);
}

}  // namespace adapath
