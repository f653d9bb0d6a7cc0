// Namespaces, flows and a daemon process for the tests.
#include "tests/netns/testbed.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <random>

#include "userspace/adapathd/backend.h"
#include "userspace/linkem/endpoint.h"

namespace adapath::testing {
namespace {

constexpr const char* kGatewayAddress = "10.77.0.1";
constexpr const char* kServerAddress = "10.77.0.2";

// Random walks over histories of intervals: enough to calibrate on, the same in every run.
std::vector<InputCodes> walks(size_t count) {
    std::mt19937_64 random(7);
    std::vector<InputCodes> all;
    InputCodes codes(ADP_CC_INPUTS, 128);
    for (size_t n = 0; n < count; ++n) {
        for (size_t i = 0; i + 3 < codes.size(); ++i) codes[i] = codes[i + 3];
        codes[27] = static_cast<uint8_t>(std::clamp<int>(codes[27] + static_cast<int>(random() % 41) - 20, 60, 200));
        codes[28] = static_cast<uint8_t>(std::clamp<int>(codes[28] + static_cast<int>(random() % 41) - 20, 0, 160));
        codes[29] = static_cast<uint8_t>(std::clamp<int>(codes[29] + static_cast<int>(random() % 31) - 15, 90, 180));
        all.push_back(codes);
    }
    return all;
}

}  // namespace

std::string why_not() {
    std::string text;
    for (const std::string& obstacle : bpf_backend_obstacles()) text += obstacle + "; ";
    if (access("/dev/net/tun", R_OK | W_OK) != 0) text += "no /dev/net/tun";
    return text;
}

Result<std::unique_ptr<Uplink>> Uplink::create(Trace up, const LinkSettingsForTest& settings) {
    std::unique_ptr<Uplink> uplink(new Uplink);
    Result<Namespace> gateway = Namespace::create(Namespace::unique_name("adpt-gw-"));
    if (!gateway) return gateway.error();
    uplink->gateway_ = std::make_unique<Namespace>(std::move(*gateway));
    Result<Namespace> server = Namespace::create(Namespace::unique_name("adpt-sv-"));
    if (!server) return server.error();
    uplink->server_ = std::make_unique<Namespace>(std::move(*server));
    Result<UniqueFd> tun_a =
        open_endpoint(*uplink->gateway_, {"uplink", std::string(kGatewayAddress) + "/30", {"default"}, 1500});
    if (!tun_a) return tun_a.error();
    Result<UniqueFd> tun_b = open_endpoint(*uplink->server_, {"uplink", std::string(kServerAddress) + "/30", {}, 1500});
    if (!tun_b) return tun_b.error();
    LinkOptions options;
    options.delay_ns = static_cast<uint64_t>(settings.delay_ms * 1e6);
    options.queue_bytes = settings.queue_bytes;
    options.loss = settings.loss;
    Result<Trace> down = Trace::constant(50);
    if (!down) return down.error();
    Result<std::unique_ptr<Emulator>> emulator =
        Emulator::create(std::move(*tun_a), std::move(*tun_b), Link(std::move(up), options), Link(std::move(*down), options),
                         uplink->stop_, {});
    if (!emulator) return emulator.error();
    uplink->emulator_ = std::move(*emulator);
    uplink->thread_ = std::thread([raw = uplink.get()] { (void)raw->emulator_->run(); });
    return uplink;
}

Uplink::~Uplink() {
    stop_.request();
    if (thread_.joinable()) thread_.join();
}

Result<std::unique_ptr<Flow>> Flow::start(const Uplink& uplink, const std::string& congestion_control) {
    std::unique_ptr<Flow> flow(new Flow);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    inet_pton(AF_INET, kServerAddress, &address.sin_addr);
    Status status = uplink.server().run([&]() -> Status {
        flow->listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        socklen_t length = sizeof(address);
        if (bind(flow->listener_, reinterpret_cast<sockaddr*>(&address), length) != 0 || listen(flow->listener_, 1) != 0)
            return Error{"listen in the server namespace"};
        getsockname(flow->listener_, reinterpret_cast<sockaddr*>(&address), &length);
        return {};
    });
    if (!status) return status.error();
    status = uplink.gateway().run([&]() -> Status {
        flow->sender_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (setsockopt(flow->sender_, IPPROTO_TCP, TCP_CONGESTION, congestion_control.data(),
                       static_cast<socklen_t>(congestion_control.size())) != 0)
            return Error{"no congestion control " + congestion_control};
        const int lowat = 32 * 1024;
        setsockopt(flow->sender_, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof(lowat));
        if (connect(flow->sender_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
            return Error{"connect over the uplink"};
        return {};
    });
    if (!status) return status.error();
    flow->receiver_ = accept4(flow->listener_, nullptr, nullptr, SOCK_CLOEXEC);
    if (flow->receiver_ < 0) return Error{"accept"};
    Flow* raw = flow.get();
    flow->read_thread_ = std::thread([raw] {
        std::vector<char> buffer(65536);
        ssize_t got = 0;
        while ((got = read(raw->receiver_, buffer.data(), buffer.size())) > 0)
            raw->received_ += static_cast<uint64_t>(got);
    });
    flow->write_thread_ = std::thread([raw] {
        std::vector<char> buffer(16384);
        while (!raw->stop_) {
            const ssize_t put = send(raw->sender_, buffer.data(), buffer.size(), MSG_NOSIGNAL);
            if (put <= 0) break;
            raw->sent_ += static_cast<uint64_t>(put);
        }
        shutdown(raw->sender_, SHUT_WR);
    });
    return flow;
}

bool Flow::finish() {
    stop_ = true;
    if (write_thread_.joinable()) write_thread_.join();
    if (read_thread_.joinable()) read_thread_.join();
    for (int* fd : {&listener_, &sender_, &receiver_}) {
        if (*fd >= 0) close(*fd);
        *fd = -1;
    }
    return sent_ == received_;
}

Flow::~Flow() { finish(); }

TestDaemon::TestDaemon(const std::string& config) {
    name_ = fmt::format("adpn{:08x}", std::random_device()());
    std::string pattern = (std::filesystem::temp_directory_path() / "adapath-test-XXXXXX").string();
    directory_ = mkdtemp(pattern.data());
    std::ofstream(directory_ + "/adapathd.conf") << fmt::format(
        "state_directory: \"{}\"\nsocket: \"{}\"\npin_directory: \"/sys/fs/bpf/{}\"\ncongestion_control: \"{}\"\ntrain: false\n{}\n",
        state(), socket(), name_, name_, config);
}

TestDaemon::~TestDaemon() {
    stop();
    stub_.reset();
    const std::string pins = "/sys/fs/bpf/" + name_;
    if (access(pins.c_str(), F_OK) == 0) (void)remove_bpf_backend(pins);
    std::error_code ignored;
    std::filesystem::remove_all(directory_, ignored);
}

Status TestDaemon::start() {
    Result<demo::Child> child = demo::Child::start({.name = "adapathd",
                                                    .argv = {ADAPATHD, "--config", directory_ + "/adapathd.conf"},
                                                    .log = directory_ + "/adapathd.log"});
    if (!child) return child.error();
    child_ = std::make_unique<demo::Child>(std::move(*child));
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
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(5));
    pb::StatusReply reply;
    grpc::Status answer = stub_->GetStatus(&context, {}, &reply);
    if (!answer.ok()) return Error{answer.error_message()};
    return reply;
}

Result<pb::InstallReply> TestDaemon::install(const std::string& snapshot_bytes, bool activate) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    pb::InstallRequest request;
    request.set_snapshot(snapshot_bytes);
    request.set_activate(activate);
    request.set_reason("test");
    pb::InstallReply reply;
    grpc::Status answer = stub_->Install(&context, request, &reply);
    if (!answer.ok()) return Error{answer.error_message()};
    return reply;
}

nlohmann::json TestDaemon::ctl(std::vector<std::string> arguments, int* code) {
    std::vector<std::string> argv = {ADAPATHCTL, "--json", "--socket", socket()};
    argv.insert(argv.end(), arguments.begin(), arguments.end());
    Result<demo::Child> child =
        demo::Child::start({.name = "adapathctl", .argv = argv, .log = directory_ + "/ctl.log", .read_output = true});
    if (!child) return {{"error", child.error().message}};
    child->wait_exit(std::chrono::seconds(120));
    std::string text;
    for (const std::string& line : child->read_lines()) text += line + "\n";
    if (code != nullptr) *code = child->exit_code().value_or(-1);
    return nlohmann::json::parse(text, nullptr, false);
}

Result<std::string> freeze_bytes(const FloatModel& model) {
    static Freezer freezer;
    static const std::vector<InputCodes> codes = walks(512);
    FreezeOptions options;
    options.fidelity_limit = 0;
    options.random_inputs = 100;
    options.provenance.created_unix_s = 1;  // the same bytes from the same weights
    Result<Snapshot> snapshot = freezer.freeze(model, codes, std::span(codes).first(100), options);
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
    // The checkpoint with one more, random but faint, hidden unit in the first layer: another shape, nearly the same policy.
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal(0, 0.02F);
    model.network.layers[0].outputs += 1;
    model.network.layers[1].inputs += 1;
    for (uint32_t i = 0; i < model.network.layers[0].inputs; ++i) model.weights[0].push_back(normal(random));
    model.biases[0].push_back(0);
    std::vector<float> second;
    const uint32_t old_inputs = model.network.layers[1].inputs - 1;
    for (uint32_t r = 0; r < model.network.layers[1].outputs; ++r) {
        second.insert(second.end(), model.weights[1].begin() + r * old_inputs, model.weights[1].begin() + (r + 1) * old_inputs);
        second.push_back(normal(random));
    }
    model.weights[1] = second;
    return model;
}

}  // namespace adapath::testing
