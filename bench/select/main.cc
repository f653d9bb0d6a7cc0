// What the app select costs in the kernel: nanoseconds per packet and per decision, as the kernel's own run-time
// statistics have it (BPF_ENABLE_STATS), over hand-made frames (BPF_PROG_TEST_RUN), each run once: 256 cameras in turn,
// so that a camera's state is as cold as on a busy gateway. What the statistics themselves cost is measured on a
// program that does next to nothing, and shown; it is in all other figures too.
//
// And on a veth pair, as tc calls it: cameras that send in real time, 15 pictures/s of 2.3 Mbit/s and 0.4 Mbit/s each.
// There a packet comes alone, long after the last, to caches that others have used since; the mean is over all packets,
// decisions included, and whatever interrupted them.
//
// Of several rounds the median and the least are shown: the rest is what else ran on the machine.
#include <adapath/net_bpf_test.h>
#include <adapath/select_bpf_maps.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <arpa/inet.h>
#include <linux/bpf.h>
#include <sys/socket.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <random>
#include <thread>
#include <vector>

#include "tests/support/models.h"
#include "tests/support/rtp_camera.h"
#include "userspace/bpf_backend/select_backend.h"
#include "userspace/linkem/netns.h"

namespace adapath {
namespace {

using testing::Bytes;

constexpr uint32_t kCameras = ADP_SELECT_CAMERAS;

uint32_t run(int program, const Bytes& frame) {
    bpf_test_run_opts options = {};
    options.sz = sizeof(options);
    options.data_in = frame.data();
    options.data_size_in = static_cast<uint32_t>(frame.size());
    options.repeat = 1;
    return bpf_prog_test_run_opts(program, &options) == 0 ? options.retval : 0;
}

struct RunTime {
    uint64_t ns = 0;
    uint64_t runs = 0;
};
RunTime run_time(int program) {
    bpf_prog_info info = {};
    uint32_t bytes = sizeof(info);
    if (bpf_prog_get_info_by_fd(program, &info, &bytes) != 0) return {};
    return {info.run_time_ns, info.run_cnt};
}

// Mean ns of the runs that the work made.
double cost(int program, const std::function<void()>& work) {
    const RunTime before = run_time(program);
    work();
    const RunTime after = run_time(program);
    return after.runs == before.runs
               ? 0
               : static_cast<double>(after.ns - before.ns) / static_cast<double>(after.runs - before.runs);
}

struct Row {
    std::string name;
    std::vector<double> ns;
};

void print(Row& row) {
    std::ranges::sort(row.ns);
    fmt::print("{:<58} {:>7.0f} {:>7.0f}   {} rounds\n", row.name, row.ns[row.ns.size() / 2], row.ns.front(),
               row.ns.size());
}

// All cameras' streams; frames are made before they are timed.
class Traffic {
public:
    Traffic() {
        std::mt19937_64 random(1);
        for (uint32_t i = 0; i < kCameras * 2; ++i) {
            testing::RtpRendition r;
            r.ssrc = static_cast<uint32_t>(random());
            r.sequence = static_cast<uint16_t>(random());
            r.idr_bytes = 1000;
            r.picture_bytes = 6000;
            r.group = 4;
            streams_.push_back(r);
        }
    }
    // The next picture of every stream, without and with the first packet of each.
    struct Step {
        std::vector<Bytes> first;
        std::vector<Bytes> rest;
    };
    Step step() {
        Step step;
        for (uint32_t i = 0; i < streams_.size(); ++i) {
            const std::vector<Bytes> packets = streams_[i].picture();
            for (size_t k = 0; k < packets.size(); ++k) {
                testing::FrameHeader header;
                header.source_v4 = 0x0a000002 + i / 2;
                header.destination_port = static_cast<uint16_t>(5000 + i % 2);
                (k == 0 ? step.first : step.rest).push_back(testing::frame_of(header, packets[k]));
            }
        }
        return step;
    }
    [[nodiscard]] uint32_t group() const { return streams_[0].group; }

private:
    std::vector<testing::RtpRendition> streams_;
};

// The program of the test glue that does two lookups and returns.
Result<bpf_object*> load_empty() {
    Result<std::string> source = emit_c(testing::random_select_model({16}, 1).network, Target::bpf_test);
    if (!source) return source.error();
    Result<std::vector<uint8_t>> object = compile(*source, Target::bpf_test);
    if (!object) return object.error();
    bpf_object* loaded = bpf_object__open_mem(object->data(), object->size(), nullptr);
    if (loaded == nullptr || bpf_object__load(loaded) != 0) return Error{"loading the empty program"};
    return loaded;
}

int fail(const std::string& message) {
    fmt::print(stderr, "adapath-select-cost: {}\n", message);
    return 1;
}

std::string address_of(uint32_t camera) { return fmt::format("10.0.{}.{}", (camera + 2) / 256, (camera + 2) % 256); }

// Mean ns over all packets of so many cameras in real time, and how many packets those were.
struct Live {
    double ns = 0;
    uint64_t packets = 0;
    uint64_t decisions = 0;
};
Result<Live> live(uint32_t cameras, uint32_t seconds, SelectBackendOptions options) {
    Result<Namespace> lan = Namespace::create(Namespace::unique_name("adpsc-l"));
    Result<Namespace> gateway = Namespace::create(Namespace::unique_name("adpsc-g"));
    if (!lan || !gateway) return (lan ? gateway : lan).error();
    std::vector<UniqueFd> senders;
    Status status = lan->run([&]() -> Status {
        if (Status made = create_veth("cams", *gateway, "lan0"); !made) return made;
        if (Status up = set_link_up("cams"); !up) return up;
        for (uint32_t i = 0; i < cameras; ++i) {
            if (Status added = add_address("cams", address_of(i) + "/16"); !added) return added;
            senders.emplace_back(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
            sockaddr_in from = {};
            from.sin_family = AF_INET;
            from.sin_addr.s_addr = htonl(0x0a000002 + i);
            if (bind(senders.back().get(), reinterpret_cast<const sockaddr*>(&from), sizeof(from)) != 0)
                return Error{fmt::format("binding a camera's socket: {}", std::strerror(errno))};
        }
        return {};
    });
    if (!status) return status.error();
    Backend backend;
    options.cameras.resize(cameras);
    options.interfaces = {"lan0"};
    std::vector<UniqueFd> sinks;
    status = gateway->run([&]() -> Status {
        if (Status up = set_link_up("lan0"); !up) return up;
        if (Status added = add_address("lan0", "10.0.0.1/16"); !added) return added;
        for (const uint16_t port : {uint16_t{5000}, uint16_t{5001}}) {
            sinks.emplace_back(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
            sockaddr_in at = {};
            at.sin_family = AF_INET;
            at.sin_port = htons(port);
            if (bind(sinks.back().get(), reinterpret_cast<const sockaddr*>(&at), sizeof(at)) != 0)
                return Error{fmt::format("binding a sink: {}", std::strerror(errno))};
        }
        Result<Backend> opened = open_select_backend(options);
        if (!opened) return opened.error();
        backend = std::move(*opened);
        return {};
    });
    Live result;
    if (status) {
        const std::vector<InputCodes> codes = testing::random_select_codes(100, 1);
        Result<Snapshot> snapshot = testing::freeze_for_test(testing::random_select_model({32, 16}, 1), codes);
        Result<uint32_t> slot = snapshot ? backend.installer->install(*snapshot, 1, std::span(codes).first(4))
                                         : Result<uint32_t>(snapshot.error());
        status = slot ? backend.installer->switch_to(*slot) : Status(slot.error());
    }
    if (status) {
        const UniqueFd program(bpf_obj_get((options.pin_directory + "/program").c_str()));
        const UniqueFd stats(bpf_enable_stats(BPF_STATS_RUN_TIME));
        std::vector<testing::RtpRendition> streams(size_t{cameras} * 2);
        for (size_t i = 0; i < streams.size(); ++i) {
            streams[i].ssrc = static_cast<uint32_t>(i + 1);
            streams[i].group = 15;
            streams[i].pictures = static_cast<uint32_t>(i / 2 % 15);  // their groups begin at different times
            streams[i].ticks = 6000;
            streams[i].idr_bytes = i % 2 != 0 ? 60000 : 10000;
            streams[i].picture_bytes = i % 2 != 0 ? 16000 : 2800;
        }
        const RunTime before = run_time(program.get());
        const uint64_t decided = backend.collector->stats().decisions;
        const auto begin = std::chrono::steady_clock::now();
        for (uint64_t k = 0; k < uint64_t{seconds} * 15 * cameras; ++k) {
            // One camera after the other, evenly over the time of a picture.
            std::this_thread::sleep_until(begin + std::chrono::microseconds(k * 1000000 / (uint64_t{15} * cameras)));
            for (const size_t i : {k % cameras * 2, k % cameras * 2 + 1}) {
                sockaddr_in to = {};
                to.sin_family = AF_INET;
                to.sin_port = htons(static_cast<uint16_t>(5000 + i % 2));
                to.sin_addr.s_addr = htonl(0x0a000001);
                for (const Bytes& packet : streams[i].picture())
                    (void)sendto(senders[i / 2].get(), packet.data(), packet.size(), 0,
                                 reinterpret_cast<const sockaddr*>(&to), sizeof(to));
            }
            if (k % 100 == 0)
                (void)backend.collector->collect(std::chrono::milliseconds(0), [](std::span<const std::byte>) {});
        }
        const RunTime after = run_time(program.get());
        result.packets = after.runs - before.runs;
        result.ns =
            static_cast<double>(after.ns - before.ns) / static_cast<double>(std::max<uint64_t>(result.packets, 1));
        result.decisions = backend.collector->stats().decisions - decided;
    }
    backend = {};
    (void)gateway->run([&] { return remove_select_backend(options.pin_directory); });
    return status ? Result<Live>(result) : Result<Live>(status.error());
}

int measure(uint32_t rounds, const SelectBackendOptions& options) {
    Result<bpf_object*> empty = load_empty();
    if (!empty) return fail(empty.error().message);
    const int empty_fd = bpf_program__fd(bpf_object__find_program_by_name(*empty, "adp_test_empty"));
    Result<Backend> opened = open_select_backend(options);
    if (!opened) return fail(opened.error().message);
    Backend backend = std::move(*opened);
    const UniqueFd program(bpf_obj_get((options.pin_directory + "/program").c_str()));
    const UniqueFd stats(bpf_enable_stats(BPF_STATS_RUN_TIME));
    if (!stats.valid()) return fail(fmt::format("the kernel's run-time statistics: {}", std::strerror(errno)));
    const int fd = program.get();

    Row nothing{"a program that does two lookups: the statistics' own share", {}};
    Row other{"a UDP packet that is no camera's", {}};
    Row tcp{"a TCP packet", {}};
    Row passes{"a camera's packet, its chunk decided: passes or is dropped", {}};
    Row follows{"the first packet of a chunk that follows its round", {}};
    Row fallback{"a decision, by the fallback", {}};
    Row network32{"a decision, by a network of 24-32-16-2", {}};
    Row network16{"a decision, by a network of 24-16-2", {}};
    Row malformed{"a malformed packet", {}};

    Traffic traffic;
    testing::FrameHeader elsewhere;
    elsewhere.source_v4 = 0x0a000002;
    elsewhere.destination_port = 4000;
    const Bytes other_frame = testing::frame_of(elsewhere, testing::rtp_packet({}, testing::nal_unit(1, 1000)));
    Bytes tcp_frame = other_frame;
    tcp_frame[23] = 6;
    elsewhere.destination_port = 5000;
    const Bytes malformed_frame = testing::frame_of(elsewhere, testing::rtp_packet({}, Bytes{0x7c, 0xc5, 0x88}));

    uint32_t generation = 0;
    const auto activate = [&](const std::vector<uint32_t>& hidden) -> Status {
        const std::vector<InputCodes> codes = testing::random_select_codes(100, 1);
        Result<Snapshot> snapshot = testing::freeze_for_test(testing::random_select_model(hidden, 1), codes);
        if (!snapshot) return snapshot.error();
        Result<uint32_t> slot = backend.installer->install(*snapshot, ++generation, std::span(codes).first(4));
        if (!slot) return slot.error();
        return backend.installer->switch_to(*slot);
    };
    const auto decisions = [&] {
        const BackendStats now = backend.collector->stats();
        return now.decisions + now.fallbacks;
    };
    // Sub and main begin their chunks together, and one of them makes the decision.
    const auto group = [&](Row* decided) {
        for (uint32_t picture = 0; picture < traffic.group(); ++picture) {
            const Traffic::Step step = traffic.step();
            if (picture == 0) {
                std::vector<const Bytes*> sub;
                std::vector<const Bytes*> main;
                for (size_t i = 0; i < step.first.size(); ++i) (i % 2 == 0 ? sub : main).push_back(&step.first[i]);
                // Whose chunk begins the round is the cameras' affair: after a pause it may have changed.
                for (const auto* frames : {&sub, &main}) {
                    const uint64_t before = decisions();
                    const double ns = cost(fd, [&] {
                        for (const Bytes* frame : *frames) (void)run(fd, *frame);
                    });
                    const uint64_t made = decisions() - before;
                    if (decided != nullptr && made == frames->size()) decided->ns.push_back(ns);
                    if (decided != nullptr && made == 0) follows.ns.push_back(ns);
                }
            } else {
                for (const Bytes& frame : step.first) (void)run(fd, frame);
            }
            const double ns = cost(fd, [&] {
                for (const Bytes& frame : step.rest) (void)run(fd, frame);
            });
            if (decided != nullptr && picture > 0) passes.ns.push_back(ns);
        }
        (void)backend.collector->collect(std::chrono::milliseconds(0), [](std::span<const std::byte>) {});
        std::this_thread::sleep_for(std::chrono::microseconds(ADP_SELECT_ROUND_MIN_US));
    };
    for (int i = 0; i < 4; ++i) group(nullptr);  // until each rendition has been measured
    for (uint32_t i = 0; i < rounds; ++i) group(&fallback);
    if (Status status = activate({32, 16}); !status) return fail(status.error().message);
    for (uint32_t i = 0; i < rounds; ++i) group(&network32);
    if (Status status = activate({16}); !status) return fail(status.error().message);
    for (uint32_t i = 0; i < rounds; ++i) group(&network16);
    for (uint32_t i = 0; i < rounds; ++i) {
        const auto many = [](int what, const Bytes& frame) {
            return cost(what, [&] {
                for (int k = 0; k < 1000; ++k) (void)run(what, frame);
            });
        };
        nothing.ns.push_back(many(empty_fd, other_frame));
        other.ns.push_back(many(fd, other_frame));
        tcp.ns.push_back(many(fd, tcp_frame));
        malformed.ns.push_back(many(fd, malformed_frame));
    }

    fmt::print("{:<58} {:>7} {:>7}\n", "ns", "median", "least");
    for (Row* row : {&nothing, &tcp, &other, &passes, &malformed, &follows, &fallback, &network16, &network32}) {
        if (row->ns.empty()) return fail(fmt::format("nothing was measured of '{}'", row->name));
        print(*row);
    }
    bpf_object__close(*empty);
    return 0;
}

}  // namespace
}  // namespace adapath

int main(int argc, char** argv) {
    using namespace adapath;
    CLI::App cli{"What a packet and a decision of the app select cost in the kernel (needs root)",
                 "adapath-select-cost"};
    uint32_t rounds = 40;
    uint32_t seconds = 5;
    cli.add_option("--rounds", rounds, "Rounds of all cameras [40]")->check(CLI::Range(1, 100000));
    cli.add_option("--seconds", seconds, "Of live cameras on a veth pair; 0: none [5]")->check(CLI::Range(0, 3600));
    CLI11_PARSE(cli, argc, argv);
    SelectBackendOptions options;
    options.pin_directory = fmt::format("/sys/fs/bpf/adpsc{:08x}", std::random_device()());
    for (uint32_t i = 0; i < kCameras; ++i)
        options.cameras.push_back({fmt::format("camera{}", i), address_of(i), 5000, 5001});
    int code = measure(rounds, options);
    if (access(options.pin_directory.c_str(), F_OK) == 0) {
        if (Status status = remove_select_backend(options.pin_directory); !status)
            fmt::print(stderr, "{}\n", status.error().message);
    }
    for (const uint32_t cameras : {4U, 64U}) {
        if (code != 0 || seconds == 0) break;
        Result<Live> result = live(cameras, seconds, options);
        if (!result) {
            code = fail(result.error().message);
        } else {
            fmt::print("{:<58} {:>7.0f}           mean of {} packets and {} decisions in {} s\n",
                       fmt::format("tc ingress of a veth pair, {} live cameras", cameras), result->ns, result->packets,
                       result->decisions, seconds);
        }
    }
    return code;
}
