// See uplink.h.
#include "userspace/linkem/uplink.h"

#include <algorithm>

#include "userspace/linkem/endpoint.h"
#include "userspace/linkem/realtime.h"

namespace adapath {
namespace {

constexpr uint32_t mtu = 1500;

Result<std::unique_ptr<Namespace>> make_namespace(const std::string& prefix, uint64_t tcp_buffer_bytes) {
    Result<Namespace> made = Namespace::create(Namespace::unique_name(prefix));
    if (!made) {
        return made.error();
    }
    auto where = std::make_unique<Namespace>(std::move(*made));
    if (tcp_buffer_bytes > 0) {
        const std::string most = std::to_string(tcp_buffer_bytes);
        const Status set = where->run([&]() -> Status {
            if (Status send = set_sysctl("net/ipv4/tcp_wmem", "4096 16384 " + most); !send) {
                return send;
            }
            return set_sysctl("net/ipv4/tcp_rmem", "4096 131072 " + most);
        });
        if (!set) {
            return set.error();
        }
    }
    return where;
}

}  // namespace

Result<std::unique_ptr<Uplink>> Uplink::create(Trace up, const UplinkOptions& options) {
    std::unique_ptr<Uplink> uplink(new Uplink);
    uplink->realtime_ = options.realtime;
    auto gateway = make_namespace(options.prefix + "-gw-", options.tcp_buffer_bytes);
    if (!gateway) {
        return gateway.error();
    }
    uplink->gateway_ = std::move(*gateway);
    auto server = make_namespace(options.prefix + "-sv-", options.tcp_buffer_bytes);
    if (!server) {
        return server.error();
    }
    uplink->server_ = std::move(*server);
    Result<UniqueFd> tun_a =
        open_endpoint(*uplink->gateway_, {"uplink", std::string(uplink_gateway_address) + "/30", {"default"}, mtu});
    if (!tun_a) {
        return tun_a.error();
    }
    Result<UniqueFd> tun_b =
        open_endpoint(*uplink->server_, {"uplink", std::string(uplink_server_address) + "/30", {}, mtu});
    if (!tun_b) {
        return tun_b.error();
    }
    LinkOptions up_link;
    up_link.delay_ns = static_cast<uint64_t>(options.delay_ms * 1e6);
    up_link.queue_bytes = options.queue_bytes;
    up_link.loss = options.loss;
    up_link.seed = options.seed;
    LinkOptions down_link = up_link;
    down_link.seed = options.seed + 0x5eed;
    Result<Trace> down = Trace::constant(options.down_mbit);
    if (!down) {
        return down.error();
    }
    EmulatorOptions emulator_options;
    emulator_options.mtu = mtu;
    emulator_options.stats_interval_ns = options.stats_interval_ns;
    emulator_options.on_stats = options.on_stats;
    Result<std::unique_ptr<Emulator>> emulator =
        Emulator::create(std::move(*tun_a), std::move(*tun_b), Link(std::move(up), up_link),
                         Link(std::move(*down), down_link), uplink->stop_, std::move(emulator_options));
    if (!emulator) {
        return emulator.error();
    }
    uplink->emulator_ = std::move(*emulator);
    if (!options.paused) {
        uplink->start();
    }
    return uplink;
}

void Uplink::start() {
    thread_ = std::thread([this] {
        if (realtime_) {
            (void)become_realtime();
        }
        (void)emulator_->run();
    });
}

void Uplink::stop() {
    stop_.request();
    if (thread_.joinable()) {
        thread_.join();
    }
}

Uplink::~Uplink() { stop(); }

}  // namespace adapath
