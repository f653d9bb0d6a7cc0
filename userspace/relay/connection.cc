// One camera's TCP connection to the server.
#include "userspace/relay/connection.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "userspace/relay/record_bytes.h"

namespace adapath::relay {

namespace {

// A connection on which nothing was acknowledged for so long is given up: longer than a handover or a modem's reboot.
constexpr int user_timeout_ms = 30'000;
// A picture goes on to its end, a chunk to its, while the queue has no more than these times what it should have.
constexpr size_t picture_factor = 2;
constexpr size_t packet_factor = 4;
constexpr size_t records_at_once = 64;
constexpr uint64_t segment = 1400;  // bytes, about

// How long the peer's window has kept TCP from sending, us since the connection began; 0 where this kernel does not
// tell.
uint64_t window_limited_us(int fd) {
    tcp_info info{};
    socklen_t length = sizeof info;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 ? info.tcpi_rwnd_limited : 0;
}

}  // namespace

Connection::Connection(uint16_t camera, const ConnectionOptions& options, Destination& destination, int epoll,
                       uint64_t tag)
    : camera_(camera),
      options_(options),
      destination_(destination),
      epoll_(epoll),
      tag_(tag),
      retry_(options.retry_least_us, options.retry_most_us) {}

uint64_t Connection::queue_age_us(uint64_t now_us) const {
    uint64_t oldest = now_us;
    for (const std::deque<Record>& queue : queues_) {
        oldest = queue.empty() ? oldest : std::min(oldest, queue.front().queued_us);
    }
    return now_us - oldest;
}

Pressure Connection::pressure(adp_select_rendition rendition, uint64_t now_us) const {
    // At the very first the server's name may not have been looked up yet: that is worth a moment in the queue.
    const bool first = state_ == State::waiting && counters_.failures == 0 && counters_.connections == 0;
    if (state_ != State::connecting && state_ != State::open && !first) {
        return Pressure::packets;
    }
    const Lane lane = lane_of(rendition);
    const std::deque<Record>& queue = queues_[lane];
    const uint64_t limit = options_.queue_us * patience(lane);
    const uint64_t age = queue.empty() || queue.front().queued_us > now_us ? 0 : now_us - queue.front().queued_us;
    const size_t bytes = lane_bytes_[lane];
    if (bytes > packet_factor * options_.queue_bytes) {
        return Pressure::packets;
    }
    if (bytes > picture_factor * options_.queue_bytes || age > picture_factor * limit) {
        return Pressure::pictures;
    }
    return bytes > options_.queue_bytes || age > limit ? Pressure::chunks : Pressure::none;
}

void Connection::append(Lane lane, Record record) {
    queued_bytes_ += record.bytes.size();
    lane_bytes_[lane] += record.bytes.size();
    queues_[lane].push_back(std::move(record));
}

void Connection::push(adp_select_rendition rendition, uint8_t flags, uint64_t received_us,
                      std::span<const uint8_t> packet, uint64_t now_us, bool begins_chunk) {
    const Lane lane = lane_of(rendition);
    uint64_t& latest_us = latest_us_[lane];
    latest_us = std::max(latest_us, received_us);
    received_us = std::max(received_us, latest_us - std::min<uint64_t>(latest_us, ADP_RELAY_BACKWARDS_US));
    append(lane, {record_bytes(rendition, flags, received_us, packet), now_us, begins_chunk});
}

uint32_t Connection::drop_late(uint64_t now_us) {
    if (options_.late_us == 0) {
        return 0;
    }
    uint32_t cut = 0;
    for (const adp_select_rendition which : {ADP_SELECT_SUB, ADP_SELECT_MAIN}) {
        cut |= drop_late(lane_of(which), now_us) ? 1U << which : 0U;
    }
    return cut;
}

bool Connection::begun(Lane lane) const {
    return queues_[lane].empty() || !queues_[lane].front().begins_chunk || (sent_of_first_ > 0 && under_way_ == lane);
}

uint64_t Connection::late_us(Lane lane, bool begun) const {
    const double share = lane == lane_sub ? sub_late : begun ? 1 : begin_late;
    return static_cast<uint64_t>(static_cast<double>(options_.late_us) * share);
}

bool Connection::drop_late(Lane lane, uint64_t now_us) {
    std::deque<Record>& queue = queues_[lane];
    bool chunk_begun = begun(lane);  // the one that the record looked at belongs to
    const auto late = [&](const Record& record) {
        return now_us > record.queued_us && now_us - record.queued_us > late_us(lane, chunk_begun);
    };
    // It is in the order of age: its head tells whether there is anything to do. Of a record that is half in the socket
    // the rest has to follow.
    const size_t first = sent_of_first_ > 0 && under_way_ == lane ? 1 : 0;
    if (first >= queue.size() || !late(queue[first])) {
        return false;
    }
    bool dropping = false;
    bool gap = false;  // the next chunk comes after a drop
    size_t kept = first;
    for (size_t i = first; i < queue.size(); i++) {
        Record& record = queue[i];
        if (record.begins_chunk) {
            chunk_begun = false;
            dropping = late(record);
        } else if (late(record)) {
            dropping = true;
        }
        if (dropping) {
            counters_.late++;
            counters_.late_bytes += record.bytes.size();
            counters_.late_main_bytes += lane == lane_main ? record.bytes.size() : 0;
            queued_bytes_ -= record.bytes.size();
            lane_bytes_[lane] -= record.bytes.size();
            gap = true;
            continue;
        }
        if (record.begins_chunk && gap) {
            record.bytes[offsetof(adp_relay_wire, flags)] |= ADP_RELAY_AFTER_DROP;
            gap = false;
        }
        if (kept != i) {
            queue[kept] = std::move(record);
        }
        kept++;
    }
    queue.erase(queue.begin() + static_cast<std::ptrdiff_t>(kept), queue.end());
    return dropping;
}

void Connection::wake(uint64_t now_us) {
    if (state_ == State::idle) {
        connect(now_us);
    }
}

void Connection::set_congestion_control() {
    const std::string& name = options_.congestion_control;
    if (name.empty() ||
        setsockopt(fd_.get(), IPPROTO_TCP, TCP_CONGESTION, name.data(), static_cast<socklen_t>(name.size())) == 0) {
        return;
    }
    static bool said = false;  // it is the same for all cameras
    if (!said) {
        said = true;
        spdlog::warn(
            "congestion control '{}': {}; the connections have the kernel's default ({}) until it is there. adapathd "
            "registers its own; unprivileged users need it in net.ipv4.tcp_allowed_congestion_control",
            name, video::errno_text(errno), video::congestion_control_of(fd_.get()));
    }
}

void Connection::connect(uint64_t now_us) {
    const std::vector<SocketAddress> addresses = destination_.addresses();
    if (addresses.empty()) {
        // Not a failure of the server's: the name is being looked up.
        state_ = State::waiting;
        deadline_us_ = now_us + options_.retry_least_us / 4;
        return;
    }
    const SocketAddress& to = addresses[next_address_++ % addresses.size()];
    fd_ = video::Fd(socket(to.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
    if (!fd_.valid()) {
        fail(video::errno_text(errno), now_us);
        return;
    }
    set_congestion_control();
    const int on = 1;
    const int lowat = options_.notsent_lowat;
    setsockopt(fd_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(fd_.get(), IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, sizeof lowat);
    setsockopt(fd_.get(), IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof user_timeout_ms);
    state_ = State::connecting;
    deadline_us_ = now_us + options_.connect_us;
    written_ = 0;
    acknowledged_ = 0;
    stalled_us_ = 0;
    was_busy_ = false;
    sent_of_first_ = 0;
    const auto& address = reinterpret_cast<const sockaddr&>(to.address);
    if (::connect(fd_.get(), &address, to.length) != 0 && errno != EINPROGRESS) {
        fail(video::errno_text(errno), now_us);
        return;
    }
    epoll_event event{};
    event.events = EPOLLOUT | EPOLLRDHUP;
    event.data.u64 = tag_;
    armed_ = true;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd_.get(), &event) != 0) {
        fail(video::errno_text(errno), now_us);
    }
}

void Connection::opened(uint64_t now_us) {
    state_ = State::open;
    retry_.opened(now_us);
    counters_.connections++;
    // After a failure tick() says so, once it has lasted: a server that refuses takes the connection first, too.
    spdlog::log(retry_.down() ? spdlog::level::debug : spdlog::level::info, "camera {}: connected to {} ({})", camera_,
                video::peer_of(fd_.get()), video::congestion_control_of(fd_.get()));
    append(lane_hello, {hello_bytes(camera_, options_.gateway), now_us});
    flush(~uint64_t{0}, Part::all_but_main);
}

void Connection::fail(const std::string& why, uint64_t now_us) {
    const video::HostPort& server = destination_.server();
    if (!retry_.down()) {
        spdlog::warn("camera {}: {}:{}: {}; its video is dropped until the server is back", camera_, server.host,
                     server.port, why);
    }
    if (state_ == State::connecting) {
        destination_.refresh();
    }
    close();
    counters_.failures++;
    state_ = State::waiting;
    deadline_us_ = retry_.failed(now_us);
}

void Connection::abandon_queue() {
    counters_.abandoned_bytes += queued_bytes_ - sent_of_first_;
    for (std::deque<Record>& queue : queues_) {
        counters_.abandoned += queue.size();
        queue.clear();
    }
    queued_bytes_ = 0;
    lane_bytes_ = {};
    sent_of_first_ = 0;
    losses_++;
}

void Connection::close() {
    if (fd_.valid()) {
        epoll_ctl(epoll_, EPOLL_CTL_DEL, fd_.get(), nullptr);
        fd_.reset();
    }
    abandon_queue();
    state_ = State::idle;
}

void Connection::want_write(bool on) {
    if (on == armed_) {
        return;
    }
    epoll_event event{};
    event.events = (on ? EPOLLOUT : 0U) | EPOLLIN | EPOLLRDHUP;
    event.data.u64 = tag_;
    if (epoll_ctl(epoll_, EPOLL_CTL_MOD, fd_.get(), &event) == 0) {
        armed_ = on;
    }
}

Connection::Lane Connection::next_lane() const {
    if (sent_of_first_ > 0) {
        return under_way_;
    }
    uint8_t lane = 0;
    while (lane < lane_end && queues_[lane].empty()) {
        lane++;
    }
    return static_cast<Lane>(lane);
}

uint64_t Connection::in_flight() const {
    int bytes = 0;
    return state_ == State::open && ioctl(fd_.get(), SIOCOUTQ, &bytes) == 0 ? static_cast<uint64_t>(bytes) : 0;
}

uint64_t Connection::flush(uint64_t in_flight_most, Part part) {
    held_ = false;
    if (state_ != State::open) {
        return 0;
    }
    const auto goes = [&](size_t lane) { return part == Part::all || lane < lane_main; };
    uint64_t holds = in_flight();
    while (queued_bytes_ > 0 && (sent_of_first_ > 0 || goes(next_lane()))) {
        // Not in crumbs: each would be a packet.
        uint64_t room = in_flight_most > holds ? in_flight_most - holds : 0;
        const size_t next = queues_[next_lane()].front().bytes.size() - sent_of_first_;
        if (room < std::min<uint64_t>(segment, next)) {
            held_ = true;
            break;
        }
        std::array<iovec, records_at_once> pieces;
        size_t count = 0;
        const auto add = [&](uint8_t* bytes, size_t size) {
            if (count < pieces.size() && room > 0) {
                pieces[count++] = {bytes, std::min<uint64_t>(size, room)};
                room -= std::min<uint64_t>(size, room);
            }
        };
        const bool rest = sent_of_first_ > 0;
        if (rest) {
            Record& record = queues_[under_way_].front();
            add(record.bytes.data() + sent_of_first_, record.bytes.size() - sent_of_first_);
        }
        for (uint8_t lane = 0; lane < lanes && goes(lane); lane++) {
            for (size_t i = rest && lane == under_way_ ? 1 : 0;
                 i < queues_[lane].size() && count < pieces.size() && room > 0; i++) {
                add(queues_[lane][i].bytes.data(), queues_[lane][i].bytes.size());
            }
        }
        msghdr message{};
        message.msg_iov = pieces.data();
        message.msg_iovlen = count;
        const ssize_t sent = sendmsg(fd_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            if (errno == EINTR) {
                continue;
            }
            // Anything else than "not now" comes as an event too, and is dealt with there.
            want_write(true);
            return holds;
        }
        holds += static_cast<uint64_t>(sent);
        written_ += static_cast<uint64_t>(sent);
        counters_.bytes += static_cast<uint64_t>(sent);
        size_t left = static_cast<size_t>(sent) + sent_of_first_;
        while (left > 0) {
            const Lane lane = next_lane();
            Record& record = queues_[lane].front();
            if (left < record.bytes.size()) {
                under_way_ = lane;
                break;
            }
            left -= record.bytes.size();
            queued_bytes_ -= record.bytes.size();
            lane_bytes_[lane] -= record.bytes.size();
            queues_[lane].pop_front();
            sent_of_first_ = 0;
            counters_.records++;
        }
        sent_of_first_ = left;
    }
    want_write(false);
    return holds;
}

void Connection::on_events(uint32_t events, uint64_t now_us) {
    if (state_ == State::connecting) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
        if (error != 0) {
            fail(video::errno_text(error), now_us);
            return;
        }
        if ((events & EPOLLOUT) != 0) {
            opened(now_us);
        }
    }
    if (state_ != State::open) {
        return;
    }
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
        int error = 0;
        socklen_t length = sizeof error;
        getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length);
        fail(error != 0 ? video::errno_text(error) : "the connection is closed", now_us);
        return;
    }
    if ((events & (EPOLLIN | EPOLLRDHUP)) != 0) {
        // The server has nothing to say here but that it goes.
        std::array<uint8_t, 4096> bytes;
        const ssize_t got = recv(fd_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT);
        if (got == 0) {
            fail("the server closed the connection", now_us);
            return;
        }
        if (got < 0 && errno != EAGAIN && errno != EINTR) {
            fail(video::errno_text(errno), now_us);
            return;
        }
    }
}

void Connection::tick(uint64_t now_us) {
    // Nobody wants to see it any more when the server answers at last.
    if (state_ != State::open && queue_age_us(now_us) > picture_factor * options_.queue_us) {
        abandon_queue();
    }
    if (state_ == State::open && retry_.back(now_us)) {
        spdlog::info("camera {}: connected again to {}", camera_, video::peer_of(fd_.get()));
    }
    if (state_ == State::waiting && now_us >= deadline_us_) {
        connect(now_us);
    } else if (state_ == State::connecting && now_us >= deadline_us_) {
        fail("it does not answer", now_us);
    }
}

Connection::Progress Connection::progress(uint64_t since_us) {
    Progress progress;
    if (state_ != State::open) {
        return progress;
    }
    progress.open = true;
    progress.tcp = video::tcp_state(fd_.get());
    progress.min_rtt_us = progress.tcp.min_rtt_us;
    progress.backlog = queued_bytes_ - sent_of_first_ + progress.tcp.backlog_bytes;
    const uint64_t acknowledged = written_ > progress.tcp.backlog_bytes ? written_ - progress.tcp.backlog_bytes : 0;
    if (acknowledged > acknowledged_) {
        progress.delivered = acknowledged - acknowledged_;
        acknowledged_ = acknowledged;
    }
    const uint64_t stalled_us = window_limited_us(fd_.get());
    progress.stalled = stalled_us - stalled_us_ > since_us / 2;
    stalled_us_ = stalled_us;
    const bool busy = queued_bytes_ > 0 || progress.tcp.notsent_bytes > 0;
    progress.busy = busy && was_busy_;
    was_busy_ = busy;
    return progress;
}

void Connection::finish(uint64_t now_us) {
    if (state_ == State::open) {
        append(lane_end, {record_bytes(ADP_SELECT_SUB, ADP_RELAY_END, now_us, {}), now_us});
        flush();
    }
}

}  // namespace adapath::relay
