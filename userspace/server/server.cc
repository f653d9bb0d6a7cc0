// See server.h.
#include "userspace/server/server.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <optional>
#include <system_error>
#include <utility>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "userspace/video/decoder.h"

namespace adapath::server {

using video::errno_text;
using video::Fd;
using video::now_ns;

namespace {

constexpr uint64_t ms = 1'000'000;  // ns

std::string address_of(const std::string& peer) { return peer.substr(0, peer.rfind(':')); }

}  // namespace

class Server::Connection {
public:
    Connection(Server& server, Fd socket)
        : server_(server),
          socket_(std::move(socket)),
          peer_(video::peer_of(socket_.get())),
          opened_ns_(now_ns()),
          heard_ns_(opened_ns_),
          renditions_{Rendition(server.background_room_), Rendition(server.background_room_)} {}

    // Until it is over; on a thread of its own.
    void run(const std::stop_token& stop);

    [[nodiscard]] const std::string& peer() const { return peer_; }
    [[nodiscard]] uint64_t heard_ns() const { return heard_ns_; }
    // From another thread: a new connection takes the camera over.
    void replace() {
        replaced_ = true;
        shutdown(socket_.get(), SHUT_RDWR);
    }

private:
    enum class End { last_record, stopped, refused, malformed, broken };
    struct Ended {
        End how = End::stopped;
        std::string why;
    };
    struct Rendition {
        explicit Rendition(BackgroundRoom& room) : background(room) {}
        Depacketiser depacketiser;
        std::unique_ptr<video::Decoder> decoder;
        RememberedBackground background;
        uint64_t units = 0;
    };

    Ended serve(const video::StopWake& wake);
    std::optional<Ended> take(uint64_t received_ns);
    Status take_record(const Record& record, uint64_t received_ns);
    [[nodiscard]] std::string who() const {
        return camera_ == nullptr ? peer_
                                  : fmt::format("gateway {}, camera {} ({})", hello_.gateway, hello_.camera, peer_);
    }

    Server& server_;
    Fd socket_;
    const std::string peer_;
    const uint64_t opened_ns_;
    std::atomic<uint64_t> heard_ns_;
    std::atomic<bool> replaced_ = false;
    RecordReader reader_;
    Hello hello_;
    std::shared_ptr<Camera> camera_;
    std::array<Rendition, ADP_SELECT_RENDITIONS> renditions_;
    bool silent_ = false;
};

void Server::Connection::run(const std::stop_token& stop) {
    const video::StopWake wake(stop);
    const Ended ended = serve(wake);
    if (camera_ != nullptr) server_.release(hello_, *this);
    {
        std::lock_guard lock(server_.mutex_);
        ServerCounters& counters = server_.counters_;
        if (replaced_) {
            counters.replaced++;
        } else {
            counters.refused += ended.how == End::refused ? 1 : 0;
            counters.malformed += ended.how == End::malformed ? 1 : 0;
            counters.broken += ended.how == End::broken ? 1 : 0;
            counters.ended += ended.how == End::last_record ? 1 : 0;
        }
    }
    LineLimit& limit = camera_ == nullptr ? server_.strangers_ : server_.connections_;
    if (replaced_) {
        server_.tell(limit, spdlog::level::warn, who() + ": silent, and replaced by a new connection");
    } else {
        const bool sound = ended.how == End::last_record || ended.how == End::stopped;
        server_.tell(limit, sound ? spdlog::level::info : spdlog::level::err, fmt::format("{}: {}", who(), ended.why));
    }
    socket_.reset();
}

Server::Connection::Ended Server::Connection::serve(const video::StopWake& wake) {
    const ServerOptions& options = server_.options_;
    for (;;) {
        const uint64_t now = now_ns();
        const uint64_t quiet_ns = now - heard_ns_;
        if (camera_ == nullptr && now - opened_ns_ >= options.hello_ms * ms)
            return {End::malformed, fmt::format("no hello within {} ms", options.hello_ms)};
        if (camera_ != nullptr && quiet_ns >= options.silence_ms * ms && !std::exchange(silent_, true))
            camera_->silence();
        if (camera_ != nullptr && quiet_ns >= options.idle_ms * ms)
            return {End::broken, fmt::format("nothing came for {} s", options.idle_ms / 1000)};
        const uint64_t next_ns = camera_ == nullptr ? opened_ns_ + options.hello_ms * ms
                                                    : heard_ns_ + (silent_ ? options.idle_ms : options.silence_ms) * ms;
        pollfd fds[2] = {{socket_.get(), POLLIN, 0}, {wake.fd(), POLLIN, 0}};
        const int ready = poll(fds, 2, static_cast<int>((next_ns - now) / ms) + 1);
        if (ready < 0 && errno != EINTR) return {End::broken, fmt::format("poll: {}", errno_text(errno))};
        if (ready <= 0) continue;
        if (fds[1].revents != 0) return {End::stopped, "ended, because the server is stopping"};

        const std::span<uint8_t> space = reader_.space();
        const ssize_t got = recv(socket_.get(), space.data(), space.size(), MSG_DONTWAIT);
        if (got < 0) {
            if (errno == EAGAIN || errno == EINTR) continue;
            return {End::broken, fmt::format("the connection broke: {}", errno_text(errno))};
        }
        if (got == 0) {
            if (reader_.partial_bytes() > 0)
                return {End::broken, fmt::format("the connection closed in the middle of a {} ({} bytes of it came)",
                                                 camera_ == nullptr ? "hello" : "record", reader_.partial_bytes())};
            return {End::broken, "the connection closed without a last record"};
        }
        heard_ns_ = now_ns();
        silent_ = false;
        reader_.filled(static_cast<size_t>(got));
        if (std::optional<Ended> ended = take(heard_ns_)) return *ended;
    }
}

// All that is complete.
std::optional<Server::Connection::Ended> Server::Connection::take(uint64_t received_ns) {
    bool last = false;
    for (;;) {
        Result<RecordReader::State> state = reader_.next();
        if (!state) return Ended{End::malformed, state.error().message};
        if (*state == RecordReader::State::more) break;
        if (*state == RecordReader::State::hello) {
            Result<std::shared_ptr<Camera>> camera = server_.claim(reader_.hello(), *this);
            if (!camera)
                return Ended{End::refused, fmt::format("gateway {}, camera {}: {}", reader_.hello().gateway,
                                                       reader_.hello().camera, camera.error().message)};
            hello_ = reader_.hello();
            camera_ = std::move(*camera);
            server_.tell(server_.connections_, spdlog::level::info, who() + ": connected");
            continue;
        }
        if (reader_.record().end) {
            last = true;  // but for what must not come behind it
            continue;
        }
        if (Status taken = take_record(reader_.record(), received_ns); !taken)
            return Ended{End::broken, taken.error().message};
    }
    if (last) return Ended{End::last_record, "ended"};
    return std::nullopt;
}

Status Server::Connection::take_record(const Record& record, uint64_t received_ns) {
    Rendition& rendition = renditions_[record.rendition];
    for (const AccessUnit& unit : rendition.depacketiser.packet(record.packet, record.received_us, record.after_drop)) {
        if (rendition.decoder == nullptr) {
            Result<video::Decoder> decoder = video::Decoder::open();
            if (!decoder) return decoder.error();
            rendition.decoder = std::make_unique<video::Decoder>(std::move(*decoder));
        }
        Result<const AVFrame*> picture = rendition.decoder->decode(unit.bytes, rendition.units++);
        if (!picture) {
            spdlog::debug("{}: {}", who(), picture.error().message);
            rendition.depacketiser.wait_for_idr();
            camera_->undecodable(record.rendition, unit);
            continue;
        }
        if (server_.options_.same_clock) {
            const uint64_t received_us = received_ns / 1000;
            std::lock_guard lock(server_.mutex_);
            server_.delays_.add(received_us > unit.first_us ? received_us - unit.first_us : 0);
        }
        const RememberedBackground::Seen seen = rendition.background.picture(unit, **picture);
        if (rendition.background.counters().any())
            camera_->note_background(record.rendition, rendition.background.counters(), seen.lost, unit.first_us);
        camera_->picture(record.rendition, unit, received_ns, seen.frame != nullptr ? *seen.frame : **picture);
    }
    camera_->note_stream(record.rendition, rendition.depacketiser.counters());
    return {};
}

Result<std::unique_ptr<Server>> Server::listen(const ServerOptions& options, Camera::Shared& shared,
                                               const std::stop_token& stop) {
    Result<Fd> socket = video::listen_tcp(options.listen);
    if (!socket) return socket.error();
    Fd over(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!over.valid()) return Error{fmt::format("eventfd: {}", errno_text(errno))};
    return std::unique_ptr<Server>(new Server(options, shared, std::move(*socket), std::move(over), stop));
}

Server::Server(const ServerOptions& options, Camera::Shared& shared, Fd socket, Fd over, const std::stop_token& stop)
    : options_(options),
      shared_(shared),
      background_room_(options.background_bytes),
      socket_(std::move(socket)),
      over_event_(std::move(over)),
      stop_(stop),
      wake_(stop),
      connections_(options.most_connections) {}

Server::~Server() {
    for (Running& running : running_) running.thread.request_stop();
    reap(true);
}

Status Server::run() {
    Status status;
    while (status && !stop_.stop_requested()) {
        // Without descriptors or memory, new connections wait for a while: those that are here keep their service.
        const bool full = std::exchange(no_room_, false);
        pollfd fds[3] = {
            {full ? -1 : socket_.get(), POLLIN, 0}, {over_event_.get(), POLLIN, 0}, {wake_.fd(), POLLIN, 0}};
        const bool rests = strangers_.has_rest() || connections_.has_rest();
        if (poll(fds, 3, full || rests ? 1000 : -1) < 0 && errno != EINTR)
            status = Error{fmt::format("poll: {}", errno_text(errno))};
        if (fds[1].revents != 0) {
            uint64_t ignored = 0;
            [[maybe_unused]] const ssize_t got = ::read(over_event_.get(), &ignored, sizeof ignored);
            reap(false);
        }
        if (fds[0].revents != 0 && status) status = accept_one();
        tell_rests(false);
    }
    for (Running& running : running_) running.thread.request_stop();
    reap(true);
    tell_rests(true);
    return status;
}

Status Server::accept_one() {
    Fd socket(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) {
        // Those say that the socket is none to accept from. The peer may be gone again.
        if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK || errno == EFAULT)
            return Error{fmt::format("accept: {}", errno_text(errno))};
        // Anything else is the machine's (descriptors, memory) or the network's (accept(2) hands on what it says of the
        // new connection), and goes by. It may come back at once.
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED && errno != EPROTO) wait_for_room("accept");
        return {};
    }
    const std::string address = address_of(video::peer_of(socket.get()));
    const auto of_peer = std::ranges::count_if(
        running_, [&](const Running& running) { return address_of(running.connection->peer()) == address; });
    if (running_.size() >= options_.most_connections ||
        static_cast<size_t>(of_peer) >= options_.most_connections_a_peer) {
        tell(strangers_, spdlog::level::err,
             fmt::format("{}: refused: {} connections already, {} of them from there", address, running_.size(),
                         of_peer));
        std::lock_guard lock(mutex_);
        counters_.refused++;
        return {};
    }
    Running& running = running_.emplace_back();
    running.connection = std::make_unique<Connection>(*this, std::move(socket));
    try {
        // The thread's own token: run() stops them all.
        running.thread = std::jthread([this, &running](const std::stop_token& own) {
            running.connection->run(own);
            running.over = true;
            const uint64_t one = 1;
            [[maybe_unused]] const ssize_t written = write(over_event_.get(), &one, sizeof one);
        });
    } catch (const std::system_error& error) {
        // A unit's TasksMax=, a container's limit: this connection ends, those that are here keep their service.
        errno = error.code().value();
        wait_for_room("a thread for a new connection");
        running_.pop_back();
        std::lock_guard lock(mutex_);
        counters_.refused++;
        return {};
    }
    std::lock_guard lock(mutex_);
    counters_.connections++;
    return {};
}

// By errno. Said at each time, which is once a second at most.
void Server::wait_for_room(const char* what) {
    spdlog::error("{}: {}: new connections have to wait", what, errno_text(errno));
    no_room_ = true;
}

// Of a connection. Whoever reaches the port could fill the log with it.
void Server::tell(LineLimit& limit, spdlog::level::level_enum level, const std::string& line) {
    if (!spdlog::should_log(level)) return;
    const std::optional<uint64_t> left_out = limit.admit(now_ns());
    if (!left_out) return;
    spdlog::log(level, "{}{}", line, *left_out > 0 ? fmt::format(" ({} lines left out before this)", *left_out) : "");
}

void Server::tell_rests(bool last) {
    for (LineLimit* limit : {&strangers_, &connections_})
        if (const uint64_t rest = last ? limit->last_rest() : limit->rest(now_ns()); rest > 0)
            spdlog::warn("({} lines of connections left out before this)", rest);
}

void Server::reap(bool all) {
    for (auto at = running_.begin(); at != running_.end();) {
        if (!all && !at->over) {
            ++at;
            continue;
        }
        at->thread.join();
        at = running_.erase(at);
    }
}

// The camera is this connection's from now on, or the reason why not.
Result<std::shared_ptr<Camera>> Server::claim(const Hello& hello, Connection& connection) {
    if (!options_.gateways.empty() && !options_.gateways.contains(hello.gateway))
        return Error{"refused: no gateway of that name is let in (--gateway)"};
    if (hello.camera >= options_.most_cameras)
        return Error{fmt::format("refused: a gateway has at most {} cameras (--most-cameras)", options_.most_cameras)};
    std::lock_guard lock(mutex_);
    auto at = gateways_.find(hello.gateway);
    if (at == gateways_.end()) {
        if (gateways_.size() >= options_.most_gateways) {
            // What a gateway's cameras were worth is remembered as long as there is room.
            auto oldest = gateways_.end();
            for (auto one = gateways_.begin(); one != gateways_.end(); ++one)
                if (one->second.connected == 0 &&
                    (oldest == gateways_.end() || one->second.left_ns < oldest->second.left_ns))
                    oldest = one;
            if (oldest == gateways_.end())
                return Error{fmt::format("refused: {} gateways are connected (--most-gateways)", gateways_.size())};
            shared_.worths.forget(oldest->first);
            gateways_.erase(oldest);
        }
        at = gateways_.try_emplace(hello.gateway).first;
    }
    Gateway::Entry& entry = at->second.cameras[hello.camera];
    if (entry.camera == nullptr) entry.camera = std::make_shared<Camera>(shared_, hello.gateway, hello.camera);
    if (entry.holder != nullptr) {
        // In this order: a packet that comes in between must not make it heard in the future.
        const uint64_t heard_ns = entry.holder->heard_ns();
        const uint64_t silent_ns = now_ns() - heard_ns;
        // A gateway whose link went away comes back on a new connection before this end knows that the old one is dead.
        // But one that speaks is alive, and is not to be pushed out by whoever says its name.
        if (silent_ns < options_.dead_ms * ms)
            return Error{
                fmt::format("refused: that camera is connected from {}, and was heard just now", entry.holder->peer())};
        entry.holder->replace();
        at->second.connected--;
        // Before the new one's first picture: the old thread may take a moment to end.
        entry.camera->end();
    }
    entry.holder = &connection;
    at->second.connected++;
    return entry.camera;
}

void Server::release(const Hello& hello, Connection& connection) {
    std::lock_guard lock(mutex_);
    const auto at = gateways_.find(hello.gateway);
    if (at == gateways_.end()) return;
    const auto entry = at->second.cameras.find(hello.camera);
    // Replaced; or the gateway was forgotten after that, and is here again without this camera.
    if (entry == at->second.cameras.end() || entry->second.holder != &connection) return;
    entry->second.camera->end();
    entry->second.holder = nullptr;
    at->second.connected--;
    at->second.left_ns = now_ns();
}

ServerCounters Server::counters() const {
    std::lock_guard lock(mutex_);
    return counters_;
}

std::map<std::string, std::map<uint32_t, CameraCounters>> Server::cameras() const {
    std::map<std::string, std::map<uint32_t, CameraCounters>> all;
    std::lock_guard lock(mutex_);
    for (const auto& [name, gateway] : gateways_)
        for (const auto& [number, entry] : gateway.cameras) all[name][number] = entry.camera->counters();
    return all;
}

video::Delays Server::delays() const {
    std::lock_guard lock(mutex_);
    return delays_;
}

}  // namespace adapath::server
