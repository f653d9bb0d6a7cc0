// See policies.h.
#include "models/select/policies.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "models/float_runner.h"

namespace adapath {

namespace {

int32_t q16(double value) {
    return static_cast<int32_t>(std::lround(std::clamp(value, -30000.0, 30000.0) * ADP_Q16_ONE));
}

SelectOutputs wants(uint32_t choice) {
    if (choice == ADP_SELECT_NONE) return {0, 0};
    return {ADP_Q16_ONE / 2, choice == ADP_SELECT_ONLY_MAIN ? ADP_Q16_ONE / 2 : 0};
}

// With the queue that does best.
SelectScore best_queue(SelectScenario scenario, const SelectPolicy& policy) {
    SelectScore best;
    best.f1 = -1;
    for (const double queue_s : {scenario.queue_s, scenario.queue_s / 2, scenario.queue_s / 4}) {
        scenario.queue_s = queue_s;
        SelectScore score = run_select(scenario, policy);
        if (score.f1 > best.f1) best = std::move(score);
    }
    return best;
}

std::string mix_text(const std::vector<uint32_t>& mix) {
    std::string text;
    for (const uint32_t choice : mix)
        text += choice == ADP_SELECT_NONE ? '-' : choice == ADP_SELECT_ONLY_SUB ? 's' : 'M';
    return text;
}

// Ascent from three corners, one camera changed at a time: the order of worth a byte makes it nearly exact.
Baseline best_mix(const SelectScenario& scenario) {
    SelectScenario short_queue = scenario;
    short_queue.queue_s = scenario.queue_s / 4;
    std::vector<uint32_t> best_assignment;
    double best = -1;
    for (const uint32_t begin : {ADP_SELECT_ONLY_SUB, ADP_SELECT_NONE, ADP_SELECT_ONLY_MAIN}) {
        std::vector<uint32_t> mix(scenario.cameras.size(), begin);
        double here = run_select(short_queue, fixed_policy(mix)).f1;
        for (bool better = true; better;) {
            better = false;
            std::vector<uint32_t> step = mix;
            for (size_t camera = 0; camera < mix.size(); camera++) {
                for (const uint32_t choice : {ADP_SELECT_NONE, ADP_SELECT_ONLY_SUB, ADP_SELECT_ONLY_MAIN}) {
                    if (choice == mix[camera]) continue;
                    std::vector<uint32_t> other = mix;
                    other[camera] = choice;
                    const double f1 = run_select(short_queue, fixed_policy(other)).f1;
                    if (f1 > here) {
                        here = f1;
                        step = std::move(other);
                        better = true;
                    }
                }
            }
            mix = step;
        }
        if (here > best) {
            best = here;
            best_assignment = mix;
        }
    }
    return {"fixed mix", mix_text(best_assignment), best_queue(scenario, fixed_policy(best_assignment))};
}

Baseline best_threshold(const SelectScenario& scenario) {
    Baseline best{"threshold", "", {}};
    best.score.f1 = -1;
    for (const uint32_t code : {64U, 96U, 112U, 120U, 124U, 128U, 132U, 136U, 144U, 160U, 192U}) {
        SelectScore score = best_queue(scenario, threshold_policy(code));
        if (score.f1 > best.score.f1) best = {"threshold", fmt::format("code {}", code), std::move(score)};
    }
    return best;
}

}  // namespace

SelectPolicy network_policy(const FloatModel& model) {
    auto runner = std::make_shared<FloatRunner>(model);
    return {[runner](size_t, const uint8_t* input, const std::array<double, 2>&) {
                const std::span<const float> out = runner->run_all(input);
                return SelectOutputs{q16(out[0]), q16(out[1])};
            },
            true};
}

SelectPolicy oracle_policy() {
    return {[](size_t, const uint8_t*, const std::array<double, 2>& truth) {
                return SelectOutputs{q16(truth[0]), q16(truth[1] - truth[0])};
            },
            true};
}

SelectPolicy fixed_policy(std::vector<uint32_t> renditions) {
    return {[mix = std::move(renditions)](size_t camera, const uint8_t*, const std::array<double, 2>&) {
                return wants(mix[camera]);
            },
            false};
}

SelectPolicy threshold_policy(uint32_t code) {
    return {[code](size_t, const uint8_t* input, const std::array<double, 2>&) {
                return wants(input[ADP_SELECT_MOTION] >= code ? ADP_SELECT_ONLY_MAIN : ADP_SELECT_ONLY_SUB);
            },
            false};
}

std::vector<Baseline> baselines(const SelectScenario& scenario) {
    const auto all = [&](uint32_t choice) {
        return fixed_policy(std::vector<uint32_t>(scenario.cameras.size(), choice));
    };
    std::vector<Baseline> list;
    list.push_back({"always sub", "", best_queue(scenario, all(ADP_SELECT_ONLY_SUB))});
    list.push_back({"always main", "", best_queue(scenario, all(ADP_SELECT_ONLY_MAIN))});
    list.push_back(best_mix(scenario));
    list.push_back(best_threshold(scenario));
    return list;
}

}  // namespace adapath
