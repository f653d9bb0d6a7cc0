// The registry of apps, and what is checked of a network for any of them.
#include "userspace/adapathd/app.h"

#include <fmt/format.h>

#include "userspace/adapathd/apps.h"

namespace adapath {

Status App::accepts(const Network& network) const {
    if (network.app != name()) {
        return Error{fmt::format("the snapshot is for app '{}', this daemon serves '{}'", network.app, name())};
    }
    if (network.feature_schema != schema()) {
        return Error{fmt::format(
            "the snapshot was trained for feature schema {} of app {}, this program has schema {}: train it again",
            network.feature_schema, name(), schema())};
    }
    if (network.input_count() != input_count() || network.output_count() != output_count()) {
        return Error{fmt::format("the snapshot's network has {} inputs and {} outputs, app {} has {} and {}",
                                 network.input_count(), network.output_count(), name(), input_count(), output_count())};
    }
    return {};
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
