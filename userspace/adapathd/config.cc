// See config.h.
#include "userspace/adapathd/config.h"

#include <fmt/format.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <map>
#include <vector>

#include "userspace/adapathd/app.h"
#include "userspace/adapathd/app_backends.h"
#include "userspace/adapathd/backends.h"
#include "userspace/common/file.h"

namespace adapath {

extern const char kDefaultConfig[];  // generated from adapathd.conf

namespace {

class Errors final : public google::protobuf::io::ErrorCollector {
public:
    explicit Errors(std::string_view name) : name_(name) {}
    void AddError(int line, google::protobuf::io::ColumnNumber column, const std::string& message) override {
        if (text.empty()) {
            std::string plain = message;
            const std::string type = "Message type \"adapath.pb.";
            if (plain.starts_with(type)) {
                plain = "unknown field: " + plain + "; see adapathd --print-default-config";
            }
            text = line < 0 ? fmt::format("{}: {}", name_, plain)
                            : fmt::format("{}:{}:{}: {}", name_, line + 1, column + 1, plain);
        }
    }
    std::string text;

private:
    std::string name_;
};

}  // namespace

std::string_view default_config_text() { return kDefaultConfig; }

Result<pb::DaemonConfig> parse_config(std::string_view text, std::string_view name_for_errors) {
    pb::DaemonConfig config;
    Errors errors(name_for_errors);
    google::protobuf::TextFormat::Parser parser;
    parser.RecordErrorsTo(&errors);
    if (!parser.ParseFromString(std::string(text), &config)) {
        return Error{errors.text.empty() ? fmt::format("{}: not a configuration", name_for_errors) : errors.text};
    }
    if (Status status = check_config(config, name_for_errors); !status) {
        return status.error();
    }
    return config;
}

Result<pb::DaemonConfig> read_config(const std::string& path) {
    Result<std::string> text = read_file(path);
    return text ? parse_config(*text, path) : Result<pb::DaemonConfig>(text.error());
}

Status check_config(const pb::DaemonConfig& config, std::string_view name) {
    const auto wrong = [&](std::string_view field, const auto& value, std::string_view fix) {
        return Error{fmt::format("{}: {} is {}: {}", name, field, value, fix)};
    };
    if (find_app(config.app()) == nullptr) {
        return wrong("app", "'" + config.app() + "'", "this program knows " + app_names());
    }
    if (!is_backend(config.backend())) {
        return wrong("backend", "'" + config.backend() + "'", "use " + backend_names());
    }
    for (const auto& [field, path] :
         {std::pair<const char*, const std::string&>{"state_directory", config.state_directory()},
          {"socket", config.socket()},
          {"pin_directory", config.pin_directory()}}) {
        if (path.empty() || path.front() != '/') {
            return wrong(field, "'" + path + "'", "give an absolute path");
        }
    }
    if (config.socket().size() > 107) {
        return wrong("socket", config.socket().size(),
                     "a Unix socket's path has at most 107 characters: give a shorter one");
    }
    if (config.interval_ms() < 1 || config.interval_ms() > 10000) {
        return wrong("interval_ms", config.interval_ms(), "use 1..10000");
    }
    if (config.congestion_control().empty() || config.congestion_control().size() > 15) {
        return wrong("congestion_control", "'" + config.congestion_control() + "'", "use 1 to 15 characters");
    }
    const uint32_t ring = config.ring_bytes();
    if (ring < 4096 || (ring & (ring - 1)) != 0 || ring > (1U << 30)) {
        return wrong("ring_bytes", ring, "use a power of two from 4096 to 1073741824");
    }
    if (config.wakeup_bytes() > ring / 2) {
        return wrong("wakeup_bytes", config.wakeup_bytes(),
                     fmt::format("use at most half of ring_bytes ({})", ring / 2));
    }
    if (config.consistency() != "decision" && config.consistency() != "flow") {
        return wrong("consistency", "'" + config.consistency() + "'", "use \"decision\" or \"flow\"");
    }
    if (config.sample_log_mb() < 1 || config.sample_log_mb() > 1000000) {
        return wrong("sample_log_mb", config.sample_log_mb(), "use 1..1000000");
    }
    if (config.snapshot_store_mb() < 1 || config.snapshot_store_mb() > 1000000) {
        return wrong("snapshot_store_mb", config.snapshot_store_mb(), "use 1..1000000");
    }
    const pb::WatchConfig& watch = config.watch();
    if (watch.min_decisions() < 1) {
        return wrong("watch.min_decisions", watch.min_decisions(), "use at least 1");
    }
    // Written so that NaN fails too.
    if (!(watch.min_seconds() >= 0) || !(watch.seconds() >= watch.min_seconds())) {
        return wrong("watch.seconds", watch.seconds(), "use at least watch.min_seconds, which is at least 0");
    }
    if (!(watch.window_seconds() >= 0.5) || !(watch.baseline_seconds() >= watch.window_seconds())) {
        return wrong("watch.baseline_seconds", watch.baseline_seconds(),
                     "use at least watch.window_seconds, which is at least 0.5");
    }
    if (!(watch.margin() >= 0) || !(watch.noise_factor() >= 0) || !(watch.refuse_seconds() >= 0)) {
        return wrong("watch", "below 0 somewhere", "margin, noise_factor and refuse_seconds are at least 0");
    }
    const pb::CanaryConfig& canary = config.canary();
    if (canary.mode() != "auto" && canary.mode() != "off") {
        return wrong("canary.mode", "'" + canary.mode() + "'", "use \"auto\" or \"off\"");
    }
    if (canary.min_flows() < 2) {
        return wrong("canary.min_flows", canary.min_flows(), "use at least 2: one on trial, one to hold it against");
    }
    if (!(canary.share() > 0) || !(canary.share() < 1)) {
        return wrong("canary.share", canary.share(), "use more than 0 and less than 1");
    }
    if (!(canary.seconds() >= 1) || !(canary.seconds() <= 3600)) {
        return wrong("canary.seconds", canary.seconds(), "use 1..3600");
    }
    if (canary.min_decisions() < 1) {
        return wrong("canary.min_decisions", canary.min_decisions(), "use at least 1");
    }
    if (!(canary.margin() >= 0) || !(canary.noise_factor() >= 0)) {
        return wrong("canary", "below 0 somewhere", "margin and noise_factor are at least 0");
    }
    if (!(canary.watch_factor() >= 1)) {
        return wrong("canary.watch_factor", canary.watch_factor(), "use at least 1");
    }
    if (Result<Objective> objective = configured_objective(config, *find_app(config.app())); !objective) {
        return Error{fmt::format("{}: objective: {}", name, objective.error().message)};
    }
    if (Status status = app_backends(config.app()).check(config); !status) {
        return Error{fmt::format("{}: {}", name, status.error().message)};
    }
    const pb::LocalConfig& local = config.local();
    if (local.flows() < 1 || local.flows() > 1000) {
        return wrong("local.flows", local.flows(), "use 1..1000");
    }
    if (!(local.mean_mbit() >= 0.1) || !(local.mean_mbit() <= 1000)) {
        return wrong("local.mean_mbit", local.mean_mbit(), "use 0.1..1000");
    }
    if (!(local.rtt_ms() >= 1) || !(local.rtt_ms() <= 1000)) {
        return wrong("local.rtt_ms", local.rtt_ms(), "use 1..1000");
    }
    if (!(local.queue_ms() >= 1) || !(local.queue_ms() <= 10000)) {
        return wrong("local.queue_ms", local.queue_ms(), "use 1..10000");
    }
    if (local.speed() < 1 || local.speed() > 100) {
        return wrong("local.speed", local.speed(), "use 1..100");
    }
    return {};
}

TrialOptions trial_options(const pb::CanaryConfig& config) {
    return {config.mode() != "off", config.min_flows(), config.share(),        config.seconds(),
            config.min_decisions(), config.margin(),    config.noise_factor(), config.watch_factor()};
}

// By the names of the fields: a weight that the app does not have is refused by the app.
Result<Objective> configured_objective(const pb::DaemonConfig& config, const App& app) {
    const pb::ObjectiveConfig& objective = config.objective();
    std::vector<const google::protobuf::FieldDescriptor*> fields;
    pb::ObjectiveConfig::GetReflection()->ListFields(objective, &fields);
    std::map<std::string, double> weights;
    for (const google::protobuf::FieldDescriptor* field : fields) {
        weights[field->name()] = pb::ObjectiveConfig::GetReflection()->GetDouble(objective, field);
    }
    return app.objective_of(weights);
}

WatchOptions watch_options(const pb::WatchConfig& config) {
    return {config.rollback(),       config.min_decisions(),    config.min_seconds(), config.seconds(),
            config.window_seconds(), config.baseline_seconds(), config.margin(),      config.noise_factor()};
}

}  // namespace adapath
