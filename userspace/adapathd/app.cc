// The registry of apps, and what is checked of a network for any of them.
#include "userspace/adapathd/app.h"

#include <fmt/format.h>

#include <algorithm>

#include "userspace/adapathd/apps.h"

namespace adapath {

Status App::accepts_name(const std::string& app, uint32_t feature_schema) const {
    if (app != name()) {
        return Error{fmt::format("the snapshot is for app '{}', this daemon serves '{}'", app, name())};
    }
    if (feature_schema != schema()) {
        return Error{fmt::format(
            "the snapshot was trained for feature schema {} of app {}, this program has schema {}: train it again",
            feature_schema, name(), schema())};
    }
    return {};
}

Status App::accepts(const ImageNetwork& network) const {
    if (Status status = accepts_name(network.app, network.feature_schema); !status) {
        return status;
    }
    return Error{fmt::format("the snapshot holds an image network, app {} runs dense ones", name())};
}

Status App::accepts(const Snapshot& snapshot) const {
    return snapshot.image ? accepts(snapshot.image->model.network) : accepts(snapshot.model.network);
}

Status App::accepts(const Network& network) const {
    if (Status status = accepts_name(network.app, network.feature_schema); !status) {
        return status;
    }
    if (network.input_count() != input_count() || network.output_count() != output_count()) {
        return Error{fmt::format("the snapshot's network has {} inputs and {} outputs, app {} has {} and {}",
                                 network.input_count(), network.output_count(), name(), input_count(), output_count())};
    }
    return {};
}

Result<Objective> App::objective_of(const std::map<std::string, double>& weights) const {
    const std::span<const ObjectiveWeight> known = objective();
    Objective result{};
    if (weights.empty()) {
        return result;
    }
    std::string names;
    for (size_t i = 0; i < known.size(); i++) {
        result[i] = known[i].by_default;
        names += (i == 0 ? "" : ", ") + std::string(known[i].name);
    }
    for (const auto& [name_given, value] : weights) {
        const auto found = std::ranges::find(known, name_given, &ObjectiveWeight::name);
        if (found == known.end()) {
            return Error{fmt::format("app {} has no weight '{}': it has {}", name(), name_given, names)};
        }
        const auto index = static_cast<size_t>(found - known.begin());
        constexpr double kMost = ADP_OBJECTIVE_MAX_Q16 / 65536.0;
        // Written so that NaN fails too.
        if (!(value >= 0) || !(value <= kMost)) {
            return Error{fmt::format("{} is {}: use 0 to {}", name_given, value, kMost)};
        }
        if (index == 0 && value < 1.0 / 65536) {
            return Error{
                fmt::format("{} is {}: it is what the others are weighed against, use more than 0 (1 is usual)",
                            name_given, value)};
        }
        result[index] = value;
    }
    return result;
}

Objective App::effective(const Objective& weights) const {
    if (std::ranges::any_of(weights, [](double weight) { return weight != 0; })) {
        return weights;
    }
    Objective result{};
    std::ranges::transform(objective(), result.begin(), &ObjectiveWeight::by_default);
    return result;
}

std::vector<std::string> App::objective_warnings(const Objective& weights) const {
    const Objective in_force = effective(weights);
    const std::span<const ObjectiveWeight> known = objective();
    std::vector<std::string> warnings;
    for (size_t i = 1; i < known.size(); i++) {
        const double ratio = in_force[i] / in_force[0];
        if (ratio < known[i].trained_lowest || ratio > known[i].trained_highest) {
            warnings.push_back(fmt::format(
                "{} is {:.4g} times {}: the networks were trained for {:.4g} to {:.4g}, beyond that they guess",
                known[i].name, ratio, known[0].name, known[i].trained_lowest, known[i].trained_highest));
        }
    }
    return warnings;
}

std::string App::objective_text(const Objective& weights) const {
    const Objective in_force = effective(weights);
    std::string text;
    for (size_t i = 0; i < objective().size(); i++) {
        text += fmt::format("{}{} {:.4g}", i == 0 ? "" : ", ", objective()[i].name, in_force[i]);
    }
    return text;
}

const App* find_app(std::string_view name) {
    for (const App* app : all_apps()) {
        if (app->name() == name) {
            return app;
        }
    }
    return nullptr;
}

std::string app_names() {
    std::string names;
    for (const App* app : all_apps()) {
        names += (names.empty() ? "" : ", ") + std::string(app->name());
    }
    return names;
}

}  // namespace adapath
