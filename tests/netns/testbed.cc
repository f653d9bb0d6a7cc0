// Namespaces, flows and a daemon process for the tests.
#include "tests/netns/testbed.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>
#include <random>

#include "tests/support/models.h"
#include "userspace/adapathd/backend.h"
#include "userspace/kmod_backend/control.h"
#include "userspace/kmod_backend/select_backend.h"

namespace adapath::testing {

std::string why_not(const std::string& backend, const std::string& app) {
    std::string text;
    for (const std::string& obstacle : backend == "kmod" ? kmod_backend_obstacles(app) : bpf_backend_obstacles())
        text += obstacle + "; ";
    if (access("/dev/net/tun", R_OK | W_OK) != 0) text += "no /dev/net/tun";
    return text;
}

Result<std::unique_ptr<TcpFlow>> start_flow(const Uplink& uplink, const std::string& congestion_control) {
    TcpFlowOptions options;
    options.congestion_control = congestion_control;
    options.from = &uplink.gateway();
    options.to = &uplink.server();
    options.address = uplink_server_address;
    options.not_sent_low = 32 * 1024;
    return TcpFlow::start(options);
}

TestDaemon::TestDaemon(const std::string& backend, const std::string& config, const std::string& app)
    : backend_(backend), app_(app) {
    name_ = fmt::format("adpn{:08x}", std::random_device()());
    pins_ = "/sys/fs/bpf/" + name_;
    std::string pattern = (std::filesystem::temp_directory_path() / "adapath-test-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    std::ofstream(directory_ + "/adapathd.conf") << fmt::format(
        "app: \"{}\"\nbackend: \"{}\"\nstate_directory: \"{}\"\nsocket: \"{}\"\npin_directory: "
        "\"{}\"\ncongestion_control: \"{}\"\n"
        "train: false\n{}\n",
        app_, backend_, state(), socket(), pins_, name_, config);
}

TestDaemon::~TestDaemon() {
    stop();
    stub_.reset();
    if (backend_ == "kmod") {
        Status removed = app_ == "select" ? remove_select_kmod_backend() : remove_kmod_backend(app_);
        EXPECT_TRUE(removed.ok()) << removed.error().message;
    } else if (access(pins_.c_str(), F_OK) == 0) {
        (void)remove_bpf_backend(pins_);
    }
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
}

// Asked of the kernel itself, not of the daemon.
uint64_t TestDaemon::lost_in_kernel() const {
    if (backend_ == "kmod") {
        Result<std::unique_ptr<kmod::Control>> control = kmod::Control::open();
        Result<kmod::AppState> app = control ? (*control)->app(app_) : Result<kmod::AppState>(control.error());
        EXPECT_TRUE(app.ok());
        return app ? app->stats.samples_lost : 0;
    }
    const UniqueFd stats(bpf_obj_get((pins_ + "/stats").c_str()));
    std::vector<struct adp_stats> cpus(static_cast<size_t>(libbpf_num_possible_cpus()));
    const uint32_t zero = 0;
    EXPECT_EQ(bpf_map_lookup_elem(stats.get(), &zero, cpus.data()), 0);
    uint64_t sum = 0;
    for (const struct adp_stats& cpu : cpus) sum += cpu.samples_lost;
    return sum;
}

Status TestDaemon::start() {
    Result<Child> child = Child::start({.name = "adapathd",
                                        .argv = {ADAPATHD, "--config", directory_ + "/adapathd.conf"},
                                        .namespace_fd = namespace_fd_,
                                        .log = directory_ + "/adapathd.log"});
    if (!child) return child.error();
    child_ = std::make_unique<Child>(std::move(*child));
    // A channel of its own for every start: gRPC would back off from a socket that was refused before.
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 2000);  // also the limit of one attempt
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
    arguments.SetMaxReceiveMessageSize(-1);
    stub_ = pb::Control::NewStub(
        grpc::CreateCustomChannel("unix:" + socket(), grpc::InsecureChannelCredentials(), arguments));
    const bool serves = wait_until([&] {
        if (!child_->running()) return true;
        return access(socket().c_str(), F_OK) == 0 && status().ok();
    });
    if (!child_->running()) return Error{child_->obituary()};
    if (!serves) return Error{"adapathd does not answer"};
    congestion_control_ = status()->congestion_control();
    return {};
}

void TestDaemon::kill_hard() {
    if (!child_) return;
    kill(child_->pid(), SIGKILL);
    child_->wait_exit(std::chrono::seconds(5));
    child_.reset();
}

void TestDaemon::pause() { kill(child_->pid(), SIGSTOP); }
void TestDaemon::resume() { kill(child_->pid(), SIGCONT); }

void TestDaemon::stop() {
    if (child_) child_->stop();
    child_.reset();
}

Result<pb::StatusReply> TestDaemon::status() {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5) * slowness());
    pb::StatusReply reply;
    grpc::Status answer = stub_->GetStatus(&context, {}, &reply);
    if (!answer.ok()) return Error{answer.error_message()};
    return reply;
}

Result<pb::InstallReply> TestDaemon::install(const std::string& snapshot_bytes, bool activate) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20) * slowness());
    pb::InstallRequest request;
    request.set_snapshot(snapshot_bytes);
    request.set_activate(activate);
    request.set_reason("test");
    pb::InstallReply reply;
    grpc::Status answer = stub_->Install(&context, request, &reply);
    if (!answer.ok()) return Error{answer.error_message()};
    return reply;
}

Result<pb::SwitchReply> TestDaemon::switch_to(const std::string& hash) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20) * slowness());
    pb::SwitchRequest request;
    request.mutable_target()->set_hash(hash);
    request.set_reason("test");
    pb::SwitchReply reply;
    grpc::Status answer = stub_->Switch(&context, request, &reply);
    if (!answer.ok()) return Error{answer.error_message()};
    return reply;
}

nlohmann::json TestDaemon::ctl(std::vector<std::string> arguments, int* code) {
    std::vector<std::string> argv = {ADAPATHCTL, "--json", "--socket", socket()};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    Result<Child> child =
        Child::start({.name = "adapathctl", .argv = argv, .log = directory_ + "/ctl.log", .read_output = true});
    if (!child) return {{"error", child.error().message}};
    child->wait_exit(std::chrono::seconds(120) * slowness());
    std::string text;
    for (const std::string& line : child->read_lines()) text += line + "\n";
    if (code != nullptr) *code = child->exit_code().value_or(-1);
    return nlohmann::json::parse(text, nullptr, false);
}

Result<std::string> freeze_bytes(const FloatModel& model) {
    static const std::vector<InputCodes> codes = flow_like_codes(512, 7);
    FreezeOptions options;
    options.provenance.created_unix_s = 1;  // the same bytes from the same weights
    Result<Snapshot> snapshot = freeze_for_test(model, codes, options);
    if (!snapshot) return snapshot.error();
    return serialise(*snapshot);
}

Result<std::string> frozen_checkpoint(double noise, uint64_t seed) {
    Result<FloatModel> model = read_float_model(ADAPATH_POLICY);
    if (!model) return model.error();
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    for (auto& layer : model->weights)
        for (float& weight : layer) weight *= static_cast<float>(1 + noise * normal(random));
    return freeze_bytes(*model);
}

FloatModel another_network(uint64_t seed) {
    Result<FloatModel> base = read_float_model(ADAPATH_POLICY);
    FloatModel model = base ? *base : FloatModel{};
    // The checkpoint with one more, random but faint, hidden unit in the first layer: another shape, nearly the same
    // policy.
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal(0, 0.02F);
    model.network.layers[0].outputs += 1;
    model.network.layers[1].inputs += 1;
    for (uint32_t i = 0; i < model.network.layers[0].inputs; ++i) model.weights[0].push_back(normal(random));
    model.biases[0].push_back(0);
    std::vector<float> second;
    const uint32_t old_inputs = model.network.layers[1].inputs - 1;
    for (uint32_t r = 0; r < model.network.layers[1].outputs; ++r) {
        second.insert(second.end(), model.weights[1].begin() + r * old_inputs,
                      model.weights[1].begin() + (r + 1) * old_inputs);
        second.push_back(normal(random));
    }
    model.weights[1] = second;
    return model;
}

}  // namespace adapath::testing
