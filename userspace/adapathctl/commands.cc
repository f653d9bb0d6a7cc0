// See commands.h.
#include "userspace/adapathctl/commands.h"

#include <errno.h>
#include <fmt/format.h>
#include <fmt/ostream.h>
#include <grpcpp/grpcpp.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>

#include "codegen/codegen.h"
#include "userspace/adapathctl/json.h"
#include "userspace/adapathd/app.h"
#include "userspace/adapathd/verifier.h"
#include "userspace/common/file.h"
#include "userspace/common/text.h"

namespace adapath {
namespace {

constexpr int kMessageLimit = 64 << 20;

void limit_time(grpc::ClientContext& context) {
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
}

void print_json(std::ostream& out, const nlohmann::ordered_json& json) { out << json.dump(2) << "\n"; }

pb::SnapshotSelector select(const std::string& what) {
    pb::SnapshotSelector selector;
    const bool number = !what.empty() && what.size() <= 9 &&
                        std::all_of(what.begin(), what.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (number) {
        selector.set_generation(static_cast<uint32_t>(std::stoul(what)));
    } else {
        selector.set_hash(what);
    }
    return selector;
}

std::string local_time(int64_t unix_s) {
    const time_t seconds = unix_s;
    tm parts{};
    localtime_r(&seconds, &parts);
    char text[32];
    strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &parts);
    return text;
}

std::string duration_text(double seconds) {
    const auto s = static_cast<uint64_t>(seconds);
    return s >= 86400 ? fmt::format("{}d {:02}:{:02}:{:02}", s / 86400, s / 3600 % 24, s / 60 % 60, s % 60)
                      : fmt::format("{:02}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

std::string generation_text(uint32_t generation, const std::string& hash) {
    return generation == 0 ? std::string("the fallback")
                           : fmt::format("generation {} ({})", generation, short_hash(hash));
}

std::string trial_text(double share) { return fmt::format("on trial for {:.0f} % of the flows:", 100 * share); }

// Why there is no trial though one was asked for.
void print_note(std::ostream& out, const std::string& note) {
    if (!note.empty()) {
        fmt::print(out, "no trial: {}\n", note);
    }
}

}  // namespace

Client::Client(std::string socket) : socket_(std::move(socket)) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMessageLimit);
    arguments.SetMaxSendMessageSize(kMessageLimit);
    stub_ = pb::Control::NewStub(
        grpc::CreateCustomChannel("unix:" + socket_, grpc::InsecureChannelCredentials(), arguments));
}

Status Client::reachable() const {
    if (access(socket_.c_str(), R_OK | W_OK) == 0) {
        return {};
    }
    if (errno == EACCES) {
        return Error{
            fmt::format("not allowed to use {}: become a member of group adapath (usermod -aG adapath {}), or use sudo",
                        socket_, getlogin() ? getlogin() : "USER")};
    }
    return Error{fmt::format(
        "adapathd is not running at {}: start it with 'systemctl start adapathd' (or, over simulated flows and without "
        "privileges, 'adapathd --backend=local --state-dir DIR --socket PATH'), or name its socket with --socket",
        socket_)};
}

Error Client::explain(const grpc::Status& status) const {
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
        if (Status status2 = reachable(); !status2) {
            return status2.error();
        }
        return Error{fmt::format("adapathd does not answer at {} ({}): see its log (journalctl -u adapathd)", socket_,
                                 status.error_message())};
    }
    if (status.error_code() == grpc::StatusCode::DEADLINE_EXCEEDED) {
        return Error{fmt::format("adapathd at {} did not answer within 30 s", socket_)};
    }
    return Error{status.error_message()};
}

namespace {

// "avx2 (generic 812 ns, avx2 95 ns)": the choice, and what it was made from.
std::string program_text(const pb::SlotStatus& slot) {
    std::string costs;
    for (const pb::ProgramTime& time : slot.measured()) {
        costs += fmt::format("{}{} {:.0f} ns", costs.empty() ? "" : ", ", time.program(), time.ns());
    }
    return costs.empty() ? slot.program() : fmt::format("{} ({})", slot.program(), costs);
}

}  // namespace

Result<int> Client::status(std::ostream& out, bool json) {
    grpc::ClientContext context;
    limit_time(context);
    pb::StatusReply reply;
    if (Status ok = reachable(); !ok) {
        return ok.error();
    }
    if (grpc::Status status = stub_->GetStatus(&context, {}, &reply); !status.ok()) {
        return explain(status);
    }
    if (json) {
        print_json(out, to_json(reply));
        return 0;
    }
    fmt::print(out, "adapathd {}  pid {}  up {}  {} MB resident{}\n", reply.version(), reply.pid(),
               duration_text(reply.uptime_s()), reply.resident_bytes() >> 20,
               reply.adopted() ? "  (adopted a running kernel side)" : "");
    fmt::print(out, "app {}  backend {}{}  state {}\n", reply.app(), reply.backend(),
               reply.congestion_control().empty() ? "" : "  TCP_CONGESTION \"" + reply.congestion_control() + "\"",
               reply.state_directory());
    fmt::print(out, "deciding   {}\n", generation_text(reply.active_generation(), reply.active_hash()));
    fmt::print(out, "watch      {}\n", reply.watch());
    if (reply.canary_generation() != 0) {
        fmt::print(out, "canary     {} for {:.0f} % of the flows: {}\n",
                   generation_text(reply.canary_generation(), reply.canary_hash()), 100 * reply.canary_share(),
                   reply.canary());
    }
    fmt::print(out, "objective  {} ({})\n", reply.objective(), reply.objective_source());
    fmt::print(out, "training   {}, trainer {}\n", reply.train_mode(),
               reply.trainer_connected() ? "connected" : "not connected");
    fmt::print(out, "decisions  {}  fallback {}  reward {:.2f}\n", reply.decisions(), reply.fallbacks(),
               reply.reward());
    if (reply.has_asking()) {
        const pb::AskingStatus& asking = reply.asking();
        fmt::print(out,
                   "asked      {}  applied {} (p50 {}, p99 {} us after the question)  overtaken {}  unknown {}  thread "
                   "{:.1f} s\n",
                   asking.questions(), asking.applied(), asking.apply().p50_us(), asking.apply().p99_us(),
                   asking.overtaken(), asking.unknown(), asking.cpu_s());
    }
    if (reply.has_feed()) {
        const pb::FeedStatus& feed = reply.feed();
        fmt::print(out,
                   "feed       {}  markets {}  reports {} (seen {}, measured {}, blocks {})  lost {}  refused {}{}\n",
                   feed.connected() ? "connected" : "not connected", feed.markets(), feed.reports(), feed.seen(),
                   feed.measured(), feed.blocks(), feed.lost(), feed.refused(),
                   feed.refused() > 0 ? "; last: " + feed.last_refusal() : "");
    }
    if (reply.has_feed() && reply.app() == "select") {
        const pb::FeedStatus& feed = reply.feed();
        fmt::print(out, "market     {}\n",
                   feed.market_age_s() < 0
                       ? std::string("never told: bytes cost nothing")
                       : fmt::format("price {:.3f} for 1 MiB/s, {:.0f} % of the uplink used, {:.0f} % of main late{}, "
                                     "told {:.1f} s ago",
                                     feed.price(), 100 * feed.used(), 100 * feed.main_late(),
                                     feed.main_limit() > 0 ? ", main up to " + rate_text(feed.main_limit()) : "",
                                     feed.market_age_s()));
    }
    if (reply.program_missing() > 0) {
        fmt::print(out, "MISSING    {} decisions fell back because the active slot had no program: report this\n",
                   reply.program_missing());
    }
    fmt::print(out, "explained  {}  unexplained {}{}\n", reply.decisions_explained(), reply.decisions_unexplained(),
               reply.last_unexplained().empty() ? "" : "  last: " + reply.last_unexplained());
    fmt::print(out, "samples    {}  lost {}  gaps {}  log {} MB\n", reply.samples(), reply.samples_lost(),
               reply.sequence_gaps(), reply.log_bytes() >> 20);
    fmt::print(out, "switches   {} parameters, {} networks, {} of them trained, {} rolled back\n",
               reply.switches_parameter(), reply.switches_network(), reply.switches_trained(), reply.rollbacks());
    if (reply.trials() > 0) {
        fmt::print(out, "trials     {}, {} passed, {} rolled back\n", reply.trials(), reply.trials_passed(),
                   reply.trials_failed());
    }
    if (reply.installs_refused() > 0) {
        fmt::print(out, "refused    {} installs; last: {}\n", reply.installs_refused(), reply.last_refusal());
    }
    fmt::print(out, "\n{:<5} {:<9} {:>10}  {:<16} {:>6} {:>7}  {}\n", "SLOT", "STATE", "GENERATION", "HASH", "BOUND",
               "BYTES", "PROGRAM");
    for (const pb::SlotStatus& slot : reply.slots()) {
        if (slot.state() != "free") {
            fmt::print(out, "{:<5} {:<9} {:>10}  {:<16} {:>6} {:>7}  {}\n", slot.slot(), slot.state(),
                       slot.generation(), slot.hash(), slot.bound_flows(), slot.params_bytes(), program_text(slot));
        }
    }
    if (reply.flows_size() > 0) {
        fmt::print(out, "\n{:<16} {:>13} {:>10} {:>14} {:>9} {:>9} {:>7} {:>7}\n", "FLOW", "PORTS", "DECISIONS", "RATE",
                   "RTT ms", "MIN ms", "REWARD", "AGE s");
        for (const pb::FlowStatus& flow : reply.flows()) {
            fmt::print(out, "{:<16} {:>13} {:>10} {:>14} {:>9.1f} {:>9.1f} {:>7.2f} {:>7.1f}\n", flow.flow(),
                       fmt::format("{}>{}", flow.local_port(), flow.remote_port()), flow.decisions(),
                       rate_text(flow.rate_bytes_per_s()), flow.rtt_ms(), flow.min_rtt_ms(), flow.reward(),
                       flow.age_s());
        }
    }
    return 0;
}

Result<int> Client::snapshots(std::ostream& out, bool json) {
    grpc::ClientContext context;
    limit_time(context);
    pb::ListSnapshotsReply reply;
    if (Status ok = reachable(); !ok) {
        return ok.error();
    }
    if (grpc::Status status = stub_->ListSnapshots(&context, {}, &reply); !status.ok()) {
        return explain(status);
    }
    if (json) {
        print_json(out, to_json(reply));
        return 0;
    }
    fmt::print(out, "{:<12} {:>10} {:<9} {:>10} {:>7}  {:<19} {:<28} {}\n", "HASH", "GENERATION", "STATE", "DECISIONS",
               "REWARD", "CREATED", "NETWORK", "FROM");
    for (const pb::SnapshotInfo& info : reply.snapshots()) {
        fmt::print(out, "{:<12} {:>10} {:<9} {:>10} {:>7} {:<20} {:<28} {}{}\n", short_hash(info.hash()),
                   info.generations_size() > 0 ? std::to_string(info.generations(info.generations_size() - 1)) : "-",
                   info.state(), info.decisions(), info.decisions() > 0 ? fmt::format("{:.2f}", info.reward()) : "-",
                   " " + local_time(info.created_unix_s()), info.network(), info.trainer(),
                   info.rolled_back().empty() ? "" : "  ROLLED BACK: " + info.rolled_back());
    }
    return 0;
}

Result<int> Client::show(const std::string& what, std::ostream& out, bool json) {
    std::string bytes;
    std::string name = what;
    if (!what.empty() && access(what.c_str(), F_OK) == 0) {
        Result<std::string> content = read_file(what);
        if (!content) {
            return content.error();
        }
        bytes = std::move(*content);
    } else {
        if (what.find('/') != std::string::npos || what.ends_with(".snap")) {
            return Error{what + ": " + strerror(ENOENT)};
        }
        grpc::ClientContext context;
        limit_time(context);
        pb::SnapshotFile reply;
        if (Status ok = reachable(); !ok) {
            return ok.error();
        }
        if (grpc::Status status = stub_->GetSnapshot(&context, select(what), &reply); !status.ok()) {
            return explain(status);
        }
        bytes = std::move(*reply.mutable_data());
        name = what.empty() ? "the active snapshot" : "snapshot " + what;
    }
    Result<Snapshot> snapshot = parse_snapshot(bytes, name);
    if (!snapshot) {
        return snapshot.error();
    }
    uint64_t multiplications = 0;
    size_t parameters = 0;
    size_t probes = snapshot->probes.size();
    if (snapshot->image) {
        // For one number of the output, alone: a picture's cost depends on its size.
        const ImageNetwork& network = snapshot->image->model.network;
        multiplications = multiply_accumulates(network, {widest_window(network), widest_window(network)});
        parameters = params_bytes(network);
        probes = snapshot->image->probes.size();
    } else if (Result<NetworkLayout> layout = network_layout(snapshot->model.network)) {
        parameters = layout->bytes;
    }
    for (const LayerShape& layer : snapshot->model.network.layers) {
        multiplications += uint64_t{layer.inputs} * layer.outputs;
    }
    if (json) {
        print_json(out, {{"hash", snapshot->hash},
                         {"program_hash", snapshot->program_hash},
                         {"app", app_of(*snapshot)},
                         {"feature_schema", schema_of(*snapshot)},
                         {"network", describe(*snapshot)},
                         {"multiply_accumulates", multiplications},
                         {"params_bytes", parameters},
                         {"file_bytes", bytes.size()},
                         {"bpf_object_bytes", snapshot->bpf_object.size()},
                         {"explore", snapshot->explore},
                         {"probes", probes},
                         {"fidelity",
                          {{"samples", snapshot->fidelity.samples},
                           {"range", snapshot->fidelity.range},
                           {"mean_error", snapshot->fidelity.mean_error},
                           {"p99_error", snapshot->fidelity.p99_error},
                           {"max_error", snapshot->fidelity.max_error}}},
                         {"trainer", snapshot->provenance.trainer},
                         {"source", snapshot->provenance.source},
                         {"samples", snapshot->provenance.samples},
                         {"created_unix_s", snapshot->provenance.created_unix_s},
                         {"note", snapshot->provenance.note}});
        return 0;
    }
    fmt::print(out,
               "hash        {}\nprogram     {}\napp         {} (feature schema {})\nnetwork     {}: {} "
               "multiply-accumulates, {} bytes of "
               "parameters\n",
               snapshot->hash, snapshot->program_hash, app_of(*snapshot), schema_of(*snapshot), describe(*snapshot),
               multiplications, parameters);
    fmt::print(out, "file        {} bytes, of them {} of BPF object\n", bytes.size(), snapshot->bpf_object.size());
    fmt::print(out, "fidelity    mean {:.5f}, p99 {:.5f}, max {:.5f} of the float output's range over {} samples\n",
               snapshot->fidelity.mean_error, snapshot->fidelity.p99_error, snapshot->fidelity.max_error,
               snapshot->fidelity.samples);
    fmt::print(out, "explore     {} (standard deviation of the noise, in units of the action)\nprobes      {}\n",
               snapshot->explore, probes);
    fmt::print(out, "made        {} by {} from {}, {} samples{}\n", local_time(snapshot->provenance.created_unix_s),
               snapshot->provenance.trainer, snapshot->provenance.source, snapshot->provenance.samples,
               snapshot->provenance.note.empty() ? "" : ": " + snapshot->provenance.note);
    return 0;
}

Result<int> Client::install(const std::string& file, bool activate, const std::string& reason, std::ostream& out,
                            bool json, bool canary) {
    Result<std::string> bytes = read_file(file);
    if (!bytes) {
        return bytes.error();
    }
    // Parsed here too, so that an error names the file.
    if (Result<Snapshot> snapshot = parse_snapshot(*bytes, file); !snapshot) {
        return snapshot.error();
    }
    grpc::ClientContext context;
    limit_time(context);
    pb::InstallRequest request;
    pb::InstallReply reply;
    request.set_snapshot(std::move(*bytes));
    request.set_activate(activate);
    request.set_reason(reason);
    request.set_canary(canary);
    if (Status ok = reachable(); !ok) {
        return ok.error();
    }
    if (grpc::Status status = stub_->Install(&context, request, &reply); !status.ok()) {
        return explain(status);
    }
    if (json) {
        print_json(out, to_json(reply));
        return 0;
    }
    fmt::print(out, "{} {} in slot {}: checked in {:.1f} ms, in place in {:.1f} ms{}{}\n",
               reply.activated()  ? "deciding:"
               : reply.on_trial() ? trial_text(reply.share())
                                  : "installed:",
               generation_text(reply.generation(), reply.hash()), reply.slot(), reply.check_ms(), reply.install_ms(),
               reply.activated() ? fmt::format(", switched in {:.2f} us", reply.switch_us()) : "",
               reply.network_changed() ? " (new network)" : " (same network)");
    print_note(out, reply.note());
    return 0;
}

Result<int> Client::switch_to(const std::string& what, const std::string& reason, std::ostream& out, bool json,
                              bool canary) {
    grpc::ClientContext context;
    limit_time(context);
    pb::SwitchRequest request;
    pb::SwitchReply reply;
    *request.mutable_target() = select(what);
    request.set_reason(reason);
    request.set_canary(canary);
    if (Status ok = reachable(); !ok) {
        return ok.error();
    }
    if (grpc::Status status = stub_->Switch(&context, request, &reply); !status.ok()) {
        return explain(status);
    }
    if (json) {
        print_json(out, to_json(reply));
    } else if (reply.on_trial()) {
        fmt::print(out, "{} {}\n", trial_text(reply.share()), generation_text(reply.generation(), reply.hash()));
    } else {
        fmt::print(out, "deciding: {}, switched in {:.2f} us\n", generation_text(reply.generation(), reply.hash()),
                   reply.switch_us());
        print_note(out, reply.note());
    }
    return 0;
}

Result<int> Client::rollback(const std::string& reason, std::ostream& out, bool json) {
    grpc::ClientContext context;
    limit_time(context);
    pb::RollbackRequest request;
    pb::SwitchReply reply;
    request.set_reason(reason);
    if (Status ok = reachable(); !ok) {
        return ok.error();
    }
    if (grpc::Status status = stub_->Rollback(&context, request, &reply); !status.ok()) {
        return explain(status);
    }
    if (json) {
        print_json(out, to_json(reply));
    } else {
        fmt::print(out, "deciding: {}, rolled back in {:.2f} us\n", generation_text(reply.generation(), reply.hash()),
                   reply.switch_us());
    }
    return 0;
}

Result<int> Client::train(const std::string& mode, std::ostream& out, bool json) {
    grpc::ClientContext context;
    limit_time(context);
    pb::TrainRequest request;
    pb::TrainReply reply;
    request.set_mode(mode == "on"    ? pb::TrainRequest::ON
                     : mode == "off" ? pb::TrainRequest::OFF
                                     : pb::TrainRequest::UNCHANGED);
    request.set_now(mode == "now");
    if (Status ok = reachable(); !ok) {
        return ok.error();
    }
    if (grpc::Status status = stub_->Train(&context, request, &reply); !status.ok()) {
        return explain(status);
    }
    if (json) {
        print_json(out, to_json(reply));
    } else {
        fmt::print(out, "training is {}, {}\n", reply.mode(),
                   reply.trainer_connected() ? "a trainer is connected" : "no trainer is connected");
    }
    return 0;
}

Result<int> Client::objective(const std::map<std::string, double>& weights, bool reset, std::ostream& out, bool json) {
    grpc::ClientContext context;
    limit_time(context);
    pb::ObjectiveRequest request;
    pb::ObjectiveReply reply;
    request.set_reset(reset);
    for (const auto& [name, value] : weights) {
        pb::ObjectiveRequest::Weight* weight = request.add_weights();
        weight->set_name(name);
        weight->set_value(value);
    }
    if (Status ok = reachable(); !ok) {
        return ok.error();
    }
    if (grpc::Status status = stub_->Objective(&context, request, &reply); !status.ok()) {
        return explain(status);
    }
    if (json) {
        print_json(out, to_json(reply));
        return 0;
    }
    fmt::print(out, "{:<12} {:>8} {:>9} {:>16}  {}\n", "WEIGHT", "VALUE", "DEFAULT", "TRAINED FOR", "WORTH");
    for (int i = 0; i < reply.weights_size(); i++) {
        const pb::ObjectiveWeight& weight = reply.weights(i);
        fmt::print(
            out, "{:<12} {:>8.4g} {:>9.4g} {:>16}  {}\n", weight.name(), weight.value(), weight.by_default(),
            i == 0 ? "the unit" : fmt::format("{:.4g}..{:.4g}", weight.trained_lowest(), weight.trained_highest()),
            weight.meaning());
    }
    fmt::print(out, "set by: {}\n", reply.source());
    for (const std::string& warning : reply.warnings()) {
        fmt::print(out, "warning: {}\n", warning);
    }
    return 0;
}

Result<int> Client::samples(uint64_t count, bool include_log, std::ostream& out, bool json) {
    pb::StatusReply state;
    {
        grpc::ClientContext context;
        limit_time(context);
        if (Status ok = reachable(); !ok) {
            return ok.error();
        }
        if (grpc::Status status = stub_->GetStatus(&context, {}, &state); !status.ok()) {
            return explain(status);
        }
    }
    const App* app = find_app(state.app());
    if (app == nullptr) {
        return Error{
            fmt::format("the daemon serves app '{}', which this adapathctl does not know: upgrade it", state.app())};
    }
    grpc::ClientContext context;
    pb::SamplesRequest request;
    request.set_include_log(include_log);
    std::unique_ptr<grpc::ClientReader<pb::SampleBatch>> reader = stub_->StreamSamples(&context, request);
    pb::SampleBatch batch;
    uint64_t printed = 0;
    if (!json) {
        fmt::print(out, "{:>14} {:<16} {:>8} {:>10} {:>9} {:>9} {:>9} {:>14} {:>9} {:>8}\n", "TIME us", "FLOW", "SEQ",
                   "GENERATION", "OUTPUT", "NOISE", "ACTION", "RATE", "RTT ms", "REWARD");
    }
    while (reader->Read(&batch)) {
        if (batch.schema() != app->schema() || batch.record_bytes() != app->record_bytes()) {
            context.TryCancel();
            return Error{
                fmt::format("the daemon's records have schema {} ({} bytes), this adapathctl's {} ({}): upgrade it",
                            batch.schema(), batch.record_bytes(), app->schema(), app->record_bytes())};
        }
        const std::span records(reinterpret_cast<const std::byte*>(batch.records().data()), batch.records().size());
        for (size_t at = 0; at + app->record_bytes() <= records.size(); at += app->record_bytes()) {
            const DecodedSample sample = app->decode(records.subspan(at, app->record_bytes()));
            if (json) {
                const nlohmann::ordered_json line = {
                    {"time_us", sample.time_us},
                    {"flow", sample.flow},
                    {"seq", sample.seq},
                    {"generation", sample.generation},
                    {"network", sample.made_by_network},
                    {"output", sample.output[0] / 65536.0},
                    {"noise", sample.noise / 65536.0},
                    {"action", sample.action / 65536.0},
                    {"rate_bytes_per_s", sample.rate},
                    {"rtt_us", sample.rtt_us},
                    {"min_rtt_us", sample.min_rtt_us},
                    {"reward", sample.reward},
                    {"local_port", sample.local_port},
                    {"remote_port", sample.remote_port},
                    {"input", std::vector<unsigned>(sample.input.begin(), sample.input.end())}};
                out << line.dump() << "\n";
            } else {
                fmt::print(out, "{:>14} {:<16} {:>8} {:>10} {:>9.4f} {:>9.4f} {:>9.4f} {:>14} {:>9.1f} {:>8.2f}\n",
                           sample.time_us, sample.flow, sample.seq,
                           sample.made_by_network ? std::to_string(sample.generation) : "fallback",
                           sample.output[0] / 65536.0, sample.noise / 65536.0, sample.action / 65536.0,
                           rate_text(sample.rate), sample.rtt_us / 1e3, sample.reward);
            }
            if (++printed == count) {
                context.TryCancel();
                return 0;
            }
        }
        out.flush();
    }
    return explain(reader->Finish());
}

Result<int> Client::watch(uint64_t count, std::ostream& out, bool json) {
    if (Status ok = reachable(); !ok) {
        return ok.error();
    }
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<pb::Event>> reader = stub_->WatchEvents(&context, {});
    pb::Event event;
    uint64_t printed = 0;
    while (reader->Read(&event)) {
        if (json) {
            out << to_json(event).dump() << "\n";
        } else {
            fmt::print(out, "{} {:<9} {}\n", local_time(event.unix_us() / 1000000), event.kind(), event.text());
        }
        out.flush();
        if (++printed == count) {
            context.TryCancel();
            return 0;
        }
    }
    return explain(reader->Finish());
}

Result<int> Client::verify(std::ostream& out, bool json) {
    grpc::ClientContext context;
    limit_time(context);
    pb::StatusReply reply;
    if (Status ok = reachable(); !ok) {
        return ok.error();
    }
    if (grpc::Status status = stub_->GetStatus(&context, {}, &reply); !status.ok()) {
        return explain(status);
    }
    const uint64_t wrong = reply.decisions_unexplained();
    if (json) {
        print_json(out, {{"source", "daemon"},
                         {"decisions", reply.decisions_explained() + wrong},
                         {"explained", reply.decisions_explained()},
                         {"unexplained", wrong},
                         {"gaps", reply.sequence_gaps()},
                         {"lost", reply.samples_lost()},
                         {"last_unexplained", reply.last_unexplained()}});
    } else {
        fmt::print(out,
                   "{} decisions since adapathd started: {} explained bit for bit, {} unexplained; {} samples missing "
                   "by number, {} lost in "
                   "the kernel\n",
                   reply.decisions_explained() + wrong, reply.decisions_explained(), wrong, reply.sequence_gaps(),
                   reply.samples_lost());
        if (wrong > 0) {
            fmt::print(out, "last: {}\n", reply.last_unexplained());
        }
        fmt::print(out, "the whole log: adapathctl verify --state-dir {}\n", reply.state_directory());
    }
    return wrong > 0 ? 1 : 0;
}

Result<int> verify_directory(const std::string& state_directory, const std::string& app_name, std::ostream& out,
                             bool json) {
    const App* app = find_app(app_name);
    if (app == nullptr) {
        return Error{fmt::format("app '{}' is unknown: this program knows {}", app_name, app_names())};
    }
    Result<VerifyReport> report = verify_state_directory(state_directory, *app);
    if (!report) {
        return report.error();
    }
    if (json) {
        print_json(out, {{"source", state_directory},
                         {"files", report->files},
                         {"records", report->records},
                         {"decisions", report->decisions},
                         {"explained", report->explained},
                         {"unexplained", report->unexplained},
                         {"fallbacks", report->fallbacks},
                         {"gaps", report->gaps},
                         {"flows", report->flows},
                         {"generations", report->generations},
                         {"switches_seen_by_flows", report->switches},
                         {"truncated_bytes", report->truncated_bytes},
                         {"unreadable_files", report->unreadable},
                         {"seconds", report->seconds},
                         {"details", report->details}});
    } else {
        fmt::print(
            out, "{} records in {} files: {} decisions of {} generations over {} flows, {} fallback or start-up\n",
            report->records, report->files, report->decisions, report->generations, report->flows, report->fallbacks);
        fmt::print(out,
                   "{} explained bit for bit, {} unexplained; {} samples missing by number; flows saw {} switches\n",
                   report->explained, report->unexplained, report->gaps, report->switches);
        if (report->truncated_bytes > 0) {
            fmt::print(out, "{} bytes of cut-off records skipped (a kill or a power cut)\n", report->truncated_bytes);
        }
        for (const std::string& detail : report->details) {
            fmt::print(out, "  {}\n", detail);
        }
        fmt::print(out, "{:.2f} s, {:.0f} records/s\n", report->seconds,
                   static_cast<double>(report->records) / std::max(report->seconds, 1e-9));
    }
    return report->unexplained > 0 || report->unreadable > 0 ? 1 : 0;
}

}  // namespace adapath
