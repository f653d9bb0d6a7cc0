// See cc_learner.h.
#include "userspace/trainer/cc_learner.h"

#include <fmt/format.h>
#include <string.h>

#include <utility>

#include "models/float_runner.h"
#include "models/scenario.h"
#include "models/simulator.h"

namespace adapath {

std::vector<adp_cc_sample> cc_samples_of(std::span<const std::byte> records) {
    std::vector<adp_cc_sample> samples(records.size() / sizeof(adp_cc_sample));
    memcpy(samples.data(), records.data(), samples.size() * sizeof(adp_cc_sample));
    return samples;
}

void CcLearner::add(std::span<const std::byte> records, bool learn) {
    if (learn) {
        online_.add(cc_samples_of(records));
    } else {
        online_.remember(cc_samples_of(records));
    }
}

std::string CcLearner::step() {
    const OnlineStats stats = online_.step();
    if (!stats.trained) {
        return {};
    }
    last_ = stats;
    return fmt::format("batch {}: {} decisions ({} explored), reward {:.2f}, kl {:.4f}, change {:.4f}", stats.batch,
                       stats.samples, stats.explored, stats.mean_reward, stats.kl, stats.change);
}

std::vector<InputCodes> CcLearner::simulated_codes(const FloatModel& model, size_t count) const {
    std::vector<InputCodes> codes;
    FloatRunner runner(model);
    Random random(1);
    for (int link = 0; link < 4; link++) {
        const std::unique_ptr<Simulator> simulator = make_simulator(random_lte_scenario(random));
        simulator->set_policy([&](const uint8_t* input) { return runner.run_q16(input); }, 1, 0);
        simulator->set_samples([&](const adp_cc_sample& sample) {
            if ((sample.flags & ADP_CC_NOT_DECIDED) == 0) {
                codes.emplace_back(sample.input, sample.input + ADP_CC_INPUTS);
            }
        });
        simulator->run_decisions(count / 2, 60);
    }
    return codes;
}

Status CcLearner::save(const std::string& directory) const {
    for (const auto& [model, name] :
         {std::pair<FloatModel, const char*>{online_.current(), "policy.model"}, {online_.value(), "value.model"}}) {
        if (Status status = write_float_model(model, directory + "/" + name); !status) {
            return status;
        }
    }
    return {};
}

std::string CcLearner::progress() const { return fmt::format("reward {:.2f}", last_.mean_reward); }

}  // namespace adapath
