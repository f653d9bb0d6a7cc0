// Reads and checks adapathd's configuration (userspace/proto/config.proto).
#pragma once

#include <string>
#include <string_view>

#include "codegen/result.h"
#include "userspace/adapathd/app.h"
#include "userspace/adapathd/switch_policy.h"
#include "userspace/adapathd/trial.h"
#include "userspace/proto/config.pb.h"

namespace adapath {

// Errors name file, line and field. A field that does not exist is an error: a typing mistake must not pass for a
// default.
Result<pb::DaemonConfig> parse_config(std::string_view text, std::string_view name_for_errors);
Result<pb::DaemonConfig> read_config(const std::string& path);
// Ranges and names; parse_config() does it already, so this is for values from the command line.
Status check_config(const pb::DaemonConfig& config, std::string_view name_for_errors);
// The shipped adapathd.conf, which is embedded: every field with its default and what it is for.
std::string_view default_config_text();
WatchOptions watch_options(const pb::WatchConfig& config);
TrialOptions trial_options(const pb::CanaryConfig& config);
// All 0 where the configuration names no weight.
Result<Objective> configured_objective(const pb::DaemonConfig& config, const App& app);

}  // namespace adapath
