// The gateway's end of the video uplink.
#include "userspace/relay/relay.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <functional>
#include <utility>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <adapath/rtp.h>

#include "userspace/relay/record.h"

namespace adapath::relay {

namespace {

constexpr uint64_t step_us = 100'000;
constexpr uint64_t report_us = 1'000'000;
constexpr uint64_t pace_us = 5'000;
// A sub stream may have so much in flight whatever the others have, and all together no less: with nothing under way
// nobody would see the uplink come back.
constexpr uint64_t in_flight_least = 2 * 1448;
constexpr double picture_share = 1.0 / 32;    // of the newest picture, in the mean of their sizes
constexpr uint64_t measured_us = 60'000'000;  // so long a measured gain counts
constexpr uint64_t stuck_us = 1'000'000;
// A path that got longer is believed slowly, since a queue of ours looks alike until it is gone.
constexpr double path_longer_s = 5;
constexpr double path_shorter_s = 0.5;
constexpr double path_most_s = 2;
constexpr double idle_rate = 64e3;  // bytes/s: so much is begun with
// A camera that select gives nothing gets a chunk of its sub stream every ADP_SELECT_STARVED_US: so long it counts.
constexpr uint64_t sharing_us = ADP_SELECT_STARVED_US + 5'000'000;
// A packet can't have waited longer in the socket; else the clocks were set meanwhile.
constexpr uint64_t waited_most_us = 10'000'000;
constexpr int receive_bytes = 4 << 20;  // of a port's buffer, where the kernel allows it
constexpr size_t batch_packets = 32;
// Of one port in a row, before the others have their turn.
constexpr int batches_in_a_row = 8;
constexpr size_t udp_most = 65536;

// What an epoll event is about.
constexpr uint64_t tag_kind_shift = 32;
enum Tag : uint64_t { tag_stop = 0, tag_timer = 1, tag_port = 2, tag_connection = 3, tag_pacer = 4 };
constexpr uint64_t tag(Tag kind, size_t index = 0) { return uint64_t{kind} << tag_kind_shift | index; }

uint64_t now_us() { return video::now_ns() / 1000; }

uint64_t realtime_us() {
    timespec now{};
    clock_gettime(CLOCK_REALTIME, &now);
    return static_cast<uint64_t>(now.tv_sec) * 1'000'000 + static_cast<uint64_t>(now.tv_nsec) / 1000;
}

Error system_error(const std::string& what) { return Error{fmt::format("{}: {}", what, video::errno_text(errno))}; }

}  // namespace

// Room for recvmmsg(), made once.
struct Relay::Batch {
    std::array<std::array<uint8_t, udp_most>, batch_packets> bytes;
    std::array<sockaddr_storage, batch_packets> from;
    std::array<std::array<uint8_t, 128>, batch_packets> control;
    std::array<iovec, batch_packets> pieces;
    std::array<mmsghdr, batch_packets> messages;
};

Relay::Relay(const RelayOptions& options)
    : options_(options), batch_(std::make_unique<Batch>()), controller_(options.price) {}

Relay::~Relay() = default;

Relay::SourceKey Relay::key_of(int family, uint16_t port, const uint8_t* address) {
    SourceKey key{};
    key[0] = family == AF_INET ? 4 : 6;
    key[1] = static_cast<uint8_t>(port >> 8);
    key[2] = static_cast<uint8_t>(port);
    std::memcpy(key.data() + 3, address, family == AF_INET ? 4 : 16);
    return key;
}

Result<std::unique_ptr<Relay>> Relay::open(const RelayOptions& options) {
    std::unique_ptr<Relay> relay(new Relay(options));
    relay->epoll_ = video::Fd(epoll_create1(EPOLL_CLOEXEC));
    relay->timer_ = video::Fd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    relay->pacer_ = video::Fd(timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK));
    if (!relay->epoll_.valid() || !relay->timer_.valid() || !relay->pacer_.valid()) {
        return system_error("epoll or timer");
    }
    itimerspec every{};
    every.it_interval.tv_nsec = every.it_value.tv_nsec = step_us * 1000;
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = tag(tag_timer);
    if (timerfd_settime(relay->timer_.get(), 0, &every, nullptr) != 0 ||
        epoll_ctl(relay->epoll_.get(), EPOLL_CTL_ADD, relay->timer_.get(), &event) != 0) {
        return system_error("timer");
    }
    event.data.u64 = tag(tag_pacer);
    if (epoll_ctl(relay->epoll_.get(), EPOLL_CTL_ADD, relay->pacer_.get(), &event) != 0) {
        return system_error("timer");
    }
    if (Status opened = relay->open_ports(); !opened) {
        return opened.error();
    }
    relay->destination_ = std::make_unique<Destination>(options.server);
    relay->cameras_.reserve(options.cameras.size());
    for (size_t i = 0; i < options.cameras.size(); i++) {
        Camera camera;
        camera.config = options.cameras[i];
        camera.connection =
            std::make_unique<Connection>(static_cast<uint16_t>(i), relay->options_.connection, *relay->destination_,
                                         relay->epoll_.get(), tag(tag_connection, i));
        relay->by_gain_.push_back(i);
        relay->measured_.emplace_back();
        relay->cameras_.push_back(std::move(camera));
    }
    return relay;
}

Status Relay::open_ports() {
    std::array<uint8_t, 16> listen{};
    int listen_family = AF_UNSPEC;
    if (!options_.listen.empty()) {
        listen_family = inet_pton(AF_INET, options_.listen.c_str(), listen.data()) == 1    ? AF_INET
                        : inet_pton(AF_INET6, options_.listen.c_str(), listen.data()) == 1 ? AF_INET6
                                                                                           : AF_UNSPEC;
        if (listen_family == AF_UNSPEC) {
            return Error{fmt::format("'{}' to listen on is neither an IPv4 nor an IPv6 address", options_.listen)};
        }
    }
    for (size_t i = 0; i < options_.cameras.size(); i++) {
        const RelayCamera& camera = options_.cameras[i];
        std::array<uint8_t, 16> address{};
        const int family = inet_pton(AF_INET, camera.address.c_str(), address.data()) == 1    ? AF_INET
                           : inet_pton(AF_INET6, camera.address.c_str(), address.data()) == 1 ? AF_INET6
                                                                                              : AF_UNSPEC;
        if (family == AF_UNSPEC) {
            return Error{
                fmt::format("camera '{}': address '{}' is neither IPv4 nor IPv6", camera.name, camera.address)};
        }
        if (listen_family != AF_UNSPEC && listen_family != family) {
            return Error{fmt::format("camera '{}' sends from {}, which can't reach {}", camera.name, camera.address,
                                     options_.listen)};
        }
        for (const adp_select_rendition which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
            const uint16_t number = camera.ports[which];
            if (!sources_.emplace(key_of(family, number, address.data()), Destined{i, which}).second) {
                return Error{fmt::format("camera '{}': {} to port {} is another rendition's already", camera.name,
                                         camera.address, number)};
            }
            if (std::ranges::any_of(ports_, [&](const Port& p) { return p.family == family && p.number == number; })) {
                continue;  // cameras may share it: they are told apart by their addresses
            }
            Port port;
            port.family = family;
            port.number = number;
            port.fd = video::Fd(socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
            if (!port.fd.valid()) {
                return system_error(fmt::format("UDP port {}", number));
            }
            const int on = 1;
            const int buffer = receive_bytes;
            setsockopt(port.fd.get(), SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
            setsockopt(port.fd.get(), SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
            setsockopt(port.fd.get(), SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
            int bound = -1;
            if (family == AF_INET) {
                sockaddr_in at{};
                at.sin_family = AF_INET;
                at.sin_port = htons(number);
                std::memcpy(&at.sin_addr, listen.data(), sizeof at.sin_addr);
                bound = bind(port.fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at);
            } else {
                setsockopt(port.fd.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
                sockaddr_in6 at{};
                at.sin6_family = AF_INET6;
                at.sin6_port = htons(number);
                std::memcpy(&at.sin6_addr, listen.data(), sizeof at.sin6_addr);
                bound = bind(port.fd.get(), reinterpret_cast<const sockaddr*>(&at), sizeof at);
            }
            if (bound != 0) {
                return system_error(fmt::format("cannot listen on UDP port {}", number));
            }
            epoll_event event{};
            event.events = EPOLLIN;
            event.data.u64 = tag(tag_port, ports_.size());
            if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, port.fd.get(), &event) != 0) {
                return system_error("epoll");
            }
            ports_.push_back(std::move(port));
        }
    }
    return {};
}

void Relay::receive(Port& port) {
    Batch& batch = *batch_;
    for (int round = 0; round < batches_in_a_row; round++) {
        for (size_t i = 0; i < batch_packets; i++) {
            batch.pieces[i] = {batch.bytes[i].data(), batch.bytes[i].size()};
            msghdr& message = batch.messages[i].msg_hdr;
            message = {};
            message.msg_name = &batch.from[i];
            message.msg_namelen = sizeof batch.from[i];
            message.msg_iov = &batch.pieces[i];
            message.msg_iovlen = 1;
            message.msg_control = batch.control[i].data();
            message.msg_controllen = batch.control[i].size();
        }
        const int got = recvmmsg(port.fd.get(), batch.messages.data(), batch_packets, MSG_DONTWAIT, nullptr);
        if (got <= 0) {
            return;
        }
        const uint64_t now = now_us();
        const uint64_t real = realtime_us();
        for (size_t i = 0; i < static_cast<size_t>(got); i++) {
            const msghdr& message = batch.messages[i].msg_hdr;
            uint64_t received = now;
            for (cmsghdr* control = CMSG_FIRSTHDR(&message); control != nullptr;
                 control = CMSG_NXTHDR(const_cast<msghdr*>(&message), control)) {
                if (control->cmsg_level != SOL_SOCKET) {
                    continue;
                }
                if (control->cmsg_type == SCM_TIMESTAMPNS) {
                    // The kernel stamps with the clock of the wall.
                    timespec stamp{};
                    std::memcpy(&stamp, CMSG_DATA(control), sizeof stamp);
                    const uint64_t stamped =
                        static_cast<uint64_t>(stamp.tv_sec) * 1'000'000 + static_cast<uint64_t>(stamp.tv_nsec) / 1000;
                    if (stamped <= real && real - stamped < waited_most_us) {
                        received = now - (real - stamped);
                    }
                } else if (control->cmsg_type == SO_RXQ_OVFL) {
                    std::memcpy(&port.overflows, CMSG_DATA(control), sizeof port.overflows);
                }
            }
            on_packet(port, batch.from[i], {batch.bytes[i].data(), batch.messages[i].msg_len}, received, now);
        }
        if (static_cast<size_t>(got) < batch_packets) {
            return;
        }
    }
}

void Relay::notice_losses(Camera& camera) {
    if (camera.losses_seen != camera.connection->losses()) {
        camera.losses_seen = camera.connection->losses();
        for (ChunkFilter& filter : camera.filters) {
            filter.cut();
        }
    }
}

void Relay::drop_late(Camera& camera, uint64_t now) {
    const uint32_t cut = camera.connection->drop_late(now);
    for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; which++) {
        if ((cut >> which & 1) != 0) {
            camera.filters[which].cut();
        }
    }
}

void Relay::on_packet(const Port& port, const sockaddr_storage& from, std::span<const uint8_t> packet,
                      uint64_t received_us, uint64_t now) {
    const auto* address =
        from.ss_family == AF_INET
            ? reinterpret_cast<const uint8_t*>(&reinterpret_cast<const sockaddr_in&>(from).sin_addr)
            : reinterpret_cast<const uint8_t*>(&reinterpret_cast<const sockaddr_in6&>(from).sin6_addr);
    const auto source = sources_.find(key_of(port.family, port.number, address));
    if (source == sources_.end()) {
        strangers_++;
        return;
    }
    Camera& camera = cameras_[source->second.camera];
    const adp_select_rendition which = source->second.rendition;
    const adp_view view{packet.data(), packet.data() + packet.size()};
    adp_rtp rtp{};
    const auto bytes = static_cast<adp_u32>(packet.size());
    const adp_rtp_found found = adp_rtp_parse(&view, 0, bytes, &rtp);
    if (found == ADP_RTP_NONE || rtp.payload_type != camera.config.payload_type) {
        camera.counters.others++;
        return;
    }
    const adp_u32 contents = found == ADP_RTP_PACKET ? adp_h264_look(&view, rtp.offset, rtp.bytes) : 0;
    if (found == ADP_RTP_MALFORMED || (contents & ADP_H264_MALFORMED) != 0 || bytes > ADP_RELAY_PACKET_MAX) {
        camera.counters.malformed++;
        return;
    }
    camera.counters.packets[which]++;
    camera.counters.bytes[which] += bytes;
    if (which == ADP_SELECT_MAIN) {
        note_picture(camera, rtp.timestamp, bytes, (contents & ADP_H264_IDR) != 0);
    }
    camera.offered += bytes + sizeof(adp_relay_wire);
    camera.heard_us = now;
    camera.connection->wake(now);
    notice_losses(camera);
    drop_late(camera, now);
    const ChunkFilter::Verdict verdict =
        camera.filters[which].on_packet(rtp, contents, bytes, camera.connection->pressure(which, now), now);
    if (!verdict.pass) {
        return;
    }
    const uint8_t flags = verdict.after_drop ? ADP_RELAY_AFTER_DROP : 0;
    camera.connection->push(which, flags, received_us, packet, now, verdict.begins);
    camera.touched = true;
}

void Relay::set_measured(size_t camera, double sub_worth, double gain) {
    const std::lock_guard lock(measured_mutex_);
    if (camera < measured_.size()) {
        measured_[camera].mean.add(1, sub_worth, gain);
        measured_[camera].us = now_us();
    }
}

void Relay::note_picture(Camera& camera, uint32_t timestamp, uint32_t bytes, bool idr) {
    const auto note = [&](double& usual) {
        usual += (camera.picture_bytes - usual) * (usual == 0 ? 1 : picture_share);
    };
    if (timestamp != camera.picture) {
        note(camera.usual_picture);
        if (!camera.picture_idr) {
            note(camera.usual_rest);
        }
        camera.picture = timestamp;
        camera.picture_bytes = 0;
        camera.picture_idr = false;
    }
    camera.picture_bytes += bytes;
    camera.picture_idr = camera.picture_idr || idr;
}

// A camera that nobody has measured lately is as good as the others on average: last of all, it would never be
// measured.
void Relay::weigh_gains(uint64_t now) {
    double sum = 0;
    size_t known = 0;
    {
        const std::lock_guard lock(measured_mutex_);
        for (size_t i = 0; i < cameras_.size(); i++) {
            Camera& camera = cameras_[i];
            const Measured& measured = measured_[i];
            camera.gain_per_byte = -1;
            if (camera.usual_picture > 0 && measured.us != 0 && now < measured.us + measured_us) {
                camera.gain_per_byte = std::max(measured.mean.gain(), 0.0) / camera.usual_picture;
                sum += camera.gain_per_byte;
                known++;
            }
        }
    }
    for (Camera& camera : cameras_) {
        if (camera.gain_per_byte < 0) {
            camera.gain_per_byte = known > 0 ? sum / static_cast<double>(known) : 0;
        }
        camera.gain_of_rest = camera.usual_rest > 0 && camera.usual_rest < camera.usual_picture
                                  ? camera.gain_per_byte * camera.usual_picture / camera.usual_rest
                                  : camera.gain_per_byte;
    }
}

// Of equals the one whose turn it is.
void Relay::sort_by_gain() {
    for (size_t i = 0; i < by_gain_.size(); i++) {
        by_gain_[i] = (turn_ + i) % by_gain_.size();
    }
    std::ranges::stable_sort(by_gain_, std::greater(), [&](size_t i) {
        const Camera& camera = cameras_[i];
        return camera.connection->main_begun() ? camera.gain_of_rest : camera.gain_per_byte;
    });
}

// How much may be in flight: what the capacity carries over the path and a little. The path is what is left of TCP's
// round trip without what our own bytes wait in it, which is that little: it follows a path that gets longer (a
// handover, another host's queue), or less and less would be in flight, and that be taken for the capacity.
void Relay::limit_in_flight(double min_rtt_s, double srtt_s, double seconds) {
    if (options_.in_flight_s <= 0 || controller_.capacity() == 0) {
        in_flight_most_ = 0;
        return;
    }
    const double path = std::clamp(srtt_s - options_.in_flight_s, min_rtt_s, path_most_s);
    const double constant = path > path_s_ ? path_longer_s : path_shorter_s;
    path_s_ = std::max(path_s_ + (path - path_s_) * (1 - std::exp(-seconds / constant)), min_rtt_s);
    // While cameras send less than the uplink carries nobody knows how much that is, and the capacity is only thought
    // to grow: then twice what was delivered is enough for their bursts, and not too much when the uplink drops.
    const double rate = std::min(controller_.capacity(), std::max(2 * controller_.delivered(), idle_rate));
    in_flight_most_ = static_cast<uint64_t>(rate * (path_s_ + options_.in_flight_s)) + in_flight_least;
}

// What may be in flight goes to the sub streams first, each camera's in its turn, and to the main streams by what they
// gain: when the uplink drops, what it has no room for is what is worth least.
void Relay::send() {
    const bool any =
        std::ranges::any_of(cameras_, [](const Camera& camera) { return camera.touched || camera.connection->held(); });
    if (!any) {
        return;
    }
    if (in_flight_most_ == 0) {
        for (Camera& camera : cameras_) {
            if (std::exchange(camera.touched, false) || camera.connection->held()) {
                camera.connection->flush();
            }
        }
        return;
    }
    const uint64_t now = now_us();
    uint64_t all = 0;
    for (Camera& camera : cameras_) {
        drop_late(camera, now);
        camera.in_flight = camera.connection->in_flight();
        all += camera.stuck ? 0 : camera.in_flight;
    }
    const auto flush = [&](Camera& camera, uint64_t least, Connection::Part part) {
        if (!camera.touched && !camera.connection->held()) {
            return;
        }
        const uint64_t room = in_flight_most_ > all ? in_flight_most_ - all : 0;
        const uint64_t before =
            std::exchange(camera.in_flight, camera.connection->flush(std::max(camera.in_flight + room, least), part));
        if (!camera.stuck && camera.in_flight > before) {
            all += camera.in_flight - before;
        }
    };
    const size_t first = turn_++;
    for (size_t i = 0; i < cameras_.size(); i++) {
        Camera& camera = cameras_[(first + i) % cameras_.size()];
        const bool held = camera.connection->held();
        flush(camera, in_flight_least, Connection::Part::all_but_main);
        camera.touched = camera.touched || held;
    }
    bool held = false;
    sort_by_gain();
    for (const size_t i : by_gain_) {
        flush(cameras_[i], 0, Connection::Part::all);
        cameras_[i].touched = false;
        held = held || cameras_[i].connection->held();
    }
    if (held) {
        itimerspec once{};
        once.it_value.tv_nsec = pace_us * 1000;
        timerfd_settime(pacer_.get(), 0, &once, nullptr);
    }
}

void Relay::step(uint64_t now) {
    const double seconds = static_cast<double>(now - stepped_us_) * 1e-6;
    const uint64_t since = now - stepped_us_;
    stepped_us_ = now;
    uint64_t newest_us = 0;  // of the acknowledgements
    for (Camera& camera : cameras_) {
        camera.connection->tick(now);
        notice_losses(camera);
        drop_late(camera, now);
        camera.last = camera.connection->progress(since);
        if (camera.last.delivered > 0 || camera.last.backlog == 0) {
            camera.delivered_us = now;
        }
        newest_us = std::max(newest_us, camera.last.delivered > 0 ? now : 0);
    }
    bool any_open = false;
    double delivered = 0;
    double offered = 0;
    double backlog = 0;
    double main = 0;
    double main_late = 0;
    bool busy = false;
    uint32_t min_rtt_us = 0;
    uint32_t srtt_us = 0;
    unsigned sharing = 0;
    for (Camera& camera : cameras_) {
        const Connection::Progress& progress = camera.last;
        // The uplink carries the others' bytes: it is this connection that is dead, or waits for its timer.
        camera.stuck = progress.stalled || (newest_us == now && now - camera.delivered_us > stuck_us);
        camera.second_delivered += progress.delivered;
        sharing += camera.heard_us != 0 && now - camera.heard_us < sharing_us ? 1 : 0;
        const uint64_t main_bytes = camera.counters.bytes[ADP_SELECT_MAIN];
        const uint64_t late_bytes =
            camera.filters[ADP_SELECT_MAIN].counters().dropped_bytes + camera.connection->counters().late_main_bytes;
        const uint64_t more_main = main_bytes - std::exchange(camera.main_bytes_seen, main_bytes);
        const uint64_t more_late = late_bytes - std::exchange(camera.late_bytes_seen, late_bytes);
        if (progress.open && !camera.stuck) {
            any_open = true;
            delivered += static_cast<double>(progress.delivered);
            backlog += static_cast<double>(progress.backlog);
            offered += static_cast<double>(camera.offered);
            main += static_cast<double>(more_main);
            main_late += static_cast<double>(more_late);
            busy = busy || progress.busy;
            const auto least = [](uint32_t& so_far, uint32_t us) {
                so_far = us != 0 && (so_far == 0 || us < so_far) ? us : so_far;
            };
            least(min_rtt_us, progress.min_rtt_us);
            least(srtt_us, progress.tcp.srtt_us);
        }
        camera.offered = 0;
    }
    // With the server away nothing can be learned of the uplink: the price stays what it was.
    if (any_open && seconds > 0) {
        price_ = controller_.step(
            {
                .backlog_bytes = backlog,
                .delivered_rate = delivered / seconds,
                .offered_rate = offered / seconds,
                .base_rtt_s = static_cast<double>(min_rtt_us) * 1e-6,
                .app_limited = !busy,
                .cameras = sharing,
                .main_rate = main / seconds,
                .main_late_rate = main_late / seconds,
            },
            seconds);
        limit_in_flight(static_cast<double>(min_rtt_us) * 1e-6, static_cast<double>(srtt_us) * 1e-6, seconds);
        weigh_gains(now);
    }
    if (market_sink_) {
        market_sink_(price_, sharing);
    }
    if (now - reported_us_ >= report_us) {
        report(now);
    }
}

video::Json Relay::camera_json(const Camera& camera, uint64_t now) const {
    static constexpr std::array<const char*, 4> states = {"idle", "waiting", "connecting", "open"};
    video::Json json;
    json["name"] = camera.config.name;
    json["state"] = states[static_cast<size_t>(camera.connection->state())];
    for (const adp_select_rendition which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
        const ChunkFilter::Counters& counters = camera.filters[which].counters();
        json[which == ADP_SELECT_SUB ? "sub" : "main"] = {{"packets", camera.counters.packets[which]},
                                                          {"bytes", camera.counters.bytes[which]},
                                                          {"chunks", counters.chunks},
                                                          {"dropped_chunks", counters.dropped_chunks},
                                                          {"cut_chunks", counters.cut_chunks},
                                                          {"dropped_packets", counters.dropped_packets},
                                                          {"dropped_bytes", counters.dropped_bytes},
                                                          {"waiting", counters.waiting},
                                                          {"foreign", counters.foreign}};
    }
    json["others"] = camera.counters.others;
    json["malformed"] = camera.counters.malformed;
    const Connection::Counters& counters = camera.connection->counters();
    json["connections"] = counters.connections;
    json["failures"] = counters.failures;
    json["records"] = counters.records;
    json["sent_bytes"] = counters.bytes;
    json["abandoned_bytes"] = counters.abandoned_bytes;
    json["late_packets"] = counters.late;
    json["late_bytes"] = counters.late_bytes;
    json["queue_bytes"] = camera.connection->queued_bytes();
    json["queue_ms"] = static_cast<double>(camera.connection->queue_age_us(now)) / 1000;
    json["backlog_bytes"] = camera.last.backlog;
    json["tcp_delivery_rate"] = camera.last.tcp.delivery_rate;
    json["srtt_ms"] = static_cast<double>(camera.last.tcp.srtt_us) / 1000;
    json["min_rtt_ms"] = static_cast<double>(camera.last.tcp.min_rtt_us) / 1000;
    json["retransmits"] = camera.last.tcp.retransmits;
    json["stalled"] = camera.last.stalled;
    return json;
}

void Relay::report(uint64_t now) {
    const double seconds = static_cast<double>(now - reported_us_) * 1e-6;
    reported_us_ = now;
    video::Json line;
    line["monotonic_us"] = now;
    line["price"] = price_.price;
    line["main_limit"] = price_.main_limit;
    line["used"] = price_.used;
    line["main_late"] = price_.main_late;
    line["capacity"] = controller_.capacity();
    line["queue_ms"] = controller_.delay_s() * 1000;
    line["in_flight_most"] = in_flight_most_;
    line["strangers"] = strangers_;
    uint64_t overflows = 0;
    for (const Port& port : ports_) {
        overflows += port.overflows;
    }
    line["socket_drops"] = overflows;
    line["cameras"] = video::Json::array();
    for (Camera& camera : cameras_) {
        video::Json json = camera_json(camera, now);
        json["delivered_rate"] = static_cast<double>(camera.second_delivered) / seconds;
        camera.second_delivered = 0;
        line["cameras"].push_back(std::move(json));
    }
    if (stats_sink_) {
        stats_sink_(line);
    }
}

video::Json Relay::summary() const {
    video::Json json;
    json["strangers"] = strangers_;
    uint64_t overflows = 0;
    for (const Port& port : ports_) {
        overflows += port.overflows;
    }
    json["socket_drops"] = overflows;
    json["cameras"] = video::Json::array();
    for (const Camera& camera : cameras_) {
        json["cameras"].push_back(camera_json(camera, now_us()));
    }
    return json;
}

// Ends all connections in good order, as far as they take it in time.
void Relay::end(uint64_t now) {
    for (Camera& camera : cameras_) {
        camera.last = camera.connection->progress(now - stepped_us_);
        camera.connection->finish(now);
    }
    const uint64_t until = now + options_.grace_us;
    const auto waiting = [this] {
        return std::ranges::any_of(cameras_, [](const Camera& camera) { return !camera.connection->drained(); });
    };
    while (waiting() && now < until) {
        std::array<epoll_event, 64> events;
        const int ready = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()),
                                     static_cast<int>((until - now) / 1000) + 1);
        now = now_us();
        for (int i = 0; i < ready; i++) {
            const uint64_t kind = events[static_cast<size_t>(i)].data.u64 >> tag_kind_shift;
            const size_t index = events[static_cast<size_t>(i)].data.u64 & 0xffffffffU;
            if (kind == tag_connection) {
                cameras_[index].connection->on_events(events[static_cast<size_t>(i)].events, now);
                cameras_[index].connection->flush();
            }
        }
    }
    for (Camera& camera : cameras_) {
        camera.connection->close();
    }
}

Status Relay::run(const std::stop_token& stop) {
    const video::StopWake wake(stop);
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = tag(tag_stop);
    if (epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake.fd(), &event) != 0) {
        return system_error("epoll");
    }
    stepped_us_ = reported_us_ = now_us();
    bool stopped = false;
    while (!stopped) {
        std::array<epoll_event, 64> events;
        const int ready = epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), -1);
        if (ready < 0 && errno != EINTR) {
            return system_error("epoll_wait");
        }
        for (int i = 0; i < ready; i++) {
            const epoll_event& now_ready = events[static_cast<size_t>(i)];
            const size_t index = now_ready.data.u64 & 0xffffffffU;
            switch (now_ready.data.u64 >> tag_kind_shift) {
                case tag_stop:
                    stopped = true;
                    break;
                case tag_timer: {
                    uint64_t ticks = 0;
                    [[maybe_unused]] const ssize_t got = read(timer_.get(), &ticks, sizeof ticks);
                    step(now_us());
                    break;
                }
                case tag_pacer: {
                    uint64_t ticks = 0;
                    [[maybe_unused]] const ssize_t got = read(pacer_.get(), &ticks, sizeof ticks);
                    break;
                }
                case tag_port:
                    receive(ports_[index]);
                    break;
                default:
                    cameras_[index].connection->on_events(now_ready.events, now_us());
                    notice_losses(cameras_[index]);
                    cameras_[index].touched = true;
                    break;
            }
        }
        send();
    }
    // Out of the set, so that end() does not see it over and over.
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, wake.fd(), nullptr);
    for (const Port& port : ports_) {
        epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, port.fd.get(), nullptr);
    }
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, timer_.get(), nullptr);
    epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, pacer_.get(), nullptr);
    end(now_us());
    return {};
}

}  // namespace adapath::relay
