// The server's end of the cameras' connections.
#include "userspace/video/receiver.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace adapath::video {

namespace {

constexpr uint64_t second_ns = 1'000'000'000;
// A connection that has not said which camera it is by then holds a place for nothing.
constexpr uint64_t silent_ns = 30 * second_ns;
// Connections beyond the cameras awaited: strangers, which go away by themselves.
constexpr size_t spare_connections = 16;

}  // namespace

Stream::Stream(Fd socket, Decoder decoder, const ReceiverOptions& options, const std::stop_token& stop,
               std::function<bool(uint16_t)> claim)
    : socket_(std::move(socket)),
      decoder_(std::move(decoder)),
      options_(options),
      stop_(stop),
      wake_(stop),
      claim_(std::move(claim)),
      interval_start_ns_(now_ns()),
      opened_ns_(interval_start_ns_) {
    stats_.peer = peer_of(socket_.get());
}

bool Stream::step() {
    if (over_) {
        return false;
    }
    Result<bool> more = read();
    if (!more) {
        stats_.error = more.error().message;
    }
    if (!more || !*more) {
        over_ = true;
        close_books();
        socket_.reset();
        return false;
    }
    return true;
}

Result<bool> Stream::read() {
    uint64_t now = now_ns();
    if (now >= interval_start_ns_ + second_ns) {
        report(now);
    }
    if (!claimed_ && now >= opened_ns_ + silent_ns) {
        return Error{fmt::format("no frame within {} s of connecting", silent_ns / second_ns)};
    }
    uint64_t wait_ns = interval_start_ns_ + second_ns - now;
    timespec timeout = {static_cast<time_t>(wait_ns / second_ns), static_cast<long>(wait_ns % second_ns)};
    pollfd fds[2] = {{socket_.get(), POLLIN, 0}, {wake_.fd(), POLLIN, 0}};
    int ready = ppoll(fds, 2, &timeout, nullptr);
    if (ready < 0 && errno != EINTR) {
        return Error{fmt::format("poll: {}", errno_text(errno))};
    }
    if (ready <= 0) {
        return true;
    }
    if (fds[1].revents != 0) {
        return Error{"the receiver was stopped"};
    }

    std::span<uint8_t> space = reader_.space();
    ssize_t got = recv(socket_.get(), space.data(), space.size(), MSG_DONTWAIT);
    if (got < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return true;
        }
        return Error{fmt::format("the connection broke: {}", errno_text(errno))};
    }
    if (got == 0) {
        if (reader_.partial_bytes() > 0) {
            return Error{fmt::format("the connection closed in the middle of a record ({} bytes of it arrived)",
                                     reader_.partial_bytes())};
        }
        return Error{"the connection closed without an end record"};
    }
    uint64_t received_ns = now_ns();
    reader_.filled(static_cast<size_t>(got));
    for (;;) {
        Result<FrameReader::State> state = reader_.next();
        if (!state) {
            return state.error();
        }
        if (*state == FrameReader::State::more) {
            return true;
        }
        const adp_video_header& header = reader_.header();
        if (Status taken = take_frame(header, reader_.payload(), received_ns); !taken) {
            return taken.error();
        }
        if ((header.flags & ADP_VIDEO_END) != 0) {
            stats_.ended = true;
            return false;
        }
    }
}

Status Stream::take_frame(const adp_video_header& header, std::span<const uint8_t> payload, uint64_t received_ns) {
    if (!claimed_) {
        if (!claim_(header.camera)) {
            return Error{
                fmt::format("camera {} is or was connected already: give each camera its own number "
                            "(--first-camera)",
                            header.camera)};
        }
        claimed_ = true;
        stats_.camera = header.camera;
        spdlog::info("camera {}: connected from {}", header.camera, stats_.peer);
    }
    if (header.camera != stats_.camera) {
        return Error{fmt::format("malformed stream: a frame of camera {} on the connection of camera {}", header.camera,
                                 stats_.camera)};
    }
    if (header.frame < stats_.frames_sent) {
        return Error{fmt::format("malformed stream: frame {} after frame {}", header.frame, stats_.frames_sent - 1)};
    }
    stats_.frames_skipped = header.skipped;
    if ((header.flags & ADP_VIDEO_END) != 0) {
        stats_.frames_sent = header.frame;
        return {};
    }
    stats_.frames_sent = header.frame + 1;
    stats_.frames_received++;
    stats_.bytes += payload.size();
    interval_.bytes += payload.size();

    FrameRecord record;
    record.camera = header.camera;
    record.key = (header.flags & ADP_VIDEO_KEY) != 0;
    record.picture = header.picture;
    record.frame = header.frame;
    record.sent_ns = header.capture_ns;
    record.received_ns = received_ns;
    record.bytes = header.payload;
    Result<const AVFrame*> picture = decoder_.decode(payload, header.frame);
    if (!picture) {
        spdlog::warn("camera {}: {}", header.camera, picture.error().message);
        if (options_.on_frame) {
            options_.on_frame(record, nullptr);
        }
        return {};
    }
    record.decoded_ns = now_ns();
    note_gap(record.decoded_ns);
    stats_.frames_decoded++;
    interval_.frames_decoded++;
    if (stats_.first_ns == 0) {
        stats_.first_ns = record.decoded_ns;
    }
    stats_.last_ns = record.decoded_ns;
    // A clock of another machine can lie in the future; a delay can't be negative.
    uint64_t delay_ns = record.decoded_ns > record.sent_ns ? record.decoded_ns - record.sent_ns : 0;
    stats_.delay.add(delay_ns / 1000);
    interval_.delay.add(delay_ns / 1000);
    if (delay_ns > options_.late_ns) {
        stats_.frames_late++;
    }
    if (options_.on_frame) {
        options_.on_frame(record, *picture);
    }
    return {};
}

void Stream::note_gap(uint64_t now) {
    if (stats_.last_ns == 0) {
        return;
    }
    uint64_t gap = now - stats_.last_ns;
    stats_.longest_gap_ns = std::max(stats_.longest_gap_ns, gap);
    if (gap > options_.stall_ns) {
        stats_.stalls++;
        stats_.stall_ns += gap;
    }
}

void Stream::report(uint64_t now) {
    interval_.now_ns = now;
    interval_.ns = now - interval_start_ns_;
    if (claimed_ && options_.on_second) {
        options_.on_second(stats_, interval_);
    }
    interval_ = StreamInterval{};
    interval_start_ns_ = now;
}

void Stream::close_books() {
    uint64_t now = now_ns();
    if (claimed_ && !stats_.ended) {
        // A frame of which only the header arrived was sent, and is lost.
        adp_video_header header{};
        if (reader_.partial_header(header) && header.camera == stats_.camera && header.frame >= stats_.frames_sent) {
            stats_.frames_sent = header.frame + 1;
        }
        note_gap(now);
    }
    if (claimed_ && interval_.frames_decoded > 0) {
        report(now);
    }
}

Result<std::unique_ptr<Receiver>> Receiver::listen(const ReceiverOptions& options, const std::stop_token& stop) {
    Result<Fd> socket = listen_tcp(options.listen);
    if (!socket) {
        return socket.error();
    }
    Fd over(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!over.valid()) {
        return Error{fmt::format("eventfd: {}", errno_text(errno))};
    }
    return std::unique_ptr<Receiver>(new Receiver(options, std::move(*socket), std::move(over), stop));
}

Receiver::Receiver(const ReceiverOptions& options, Fd socket, Fd over, const std::stop_token& stop)
    : options_(options), socket_(std::move(socket)), over_event_(std::move(over)), stop_(stop), wake_(stop) {}

// Without a stopped token this waits for the connections to end by themselves.
Receiver::~Receiver() { reap(true); }

Result<bool> Receiver::step() {
    if (stop_.stop_requested()) {
        reap(true);
        return false;
    }
    pollfd fds[3] = {{socket_.get(), POLLIN, 0}, {over_event_.get(), POLLIN, 0}, {wake_.fd(), POLLIN, 0}};
    if (poll(fds, 3, -1) < 0 && errno != EINTR) {
        return Error{fmt::format("poll: {}", errno_text(errno))};
    }
    if (fds[1].revents != 0) {
        uint64_t ignored = 0;
        [[maybe_unused]] ssize_t got = ::read(over_event_.get(), &ignored, sizeof ignored);
        reap(false);
        if (finished_.size() >= options_.cameras) {
            socket_.reset();
            // What still runs are strangers and surplus cameras; nobody waits for them.
            for (Running& running : running_) {
                running.thread.request_stop();
            }
            reap(true);
            return false;
        }
    }
    if (fds[0].revents != 0) {
        if (Status accepted = accept_one(); !accepted) {
            return accepted.error();
        }
    }
    return true;
}

Status Receiver::accept_one() {
    Fd socket(accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket.valid()) {
        // The peer may be gone again; anything else (no descriptors left) would come back at once, for ever.
        bool transient = errno == EAGAIN || errno == EINTR || errno == ECONNABORTED || errno == EPROTO;
        return transient ? Status{} : Error{fmt::format("accept: {}", errno_text(errno))};
    }
    if (running_.size() >= options_.cameras + spare_connections) {
        spdlog::warn("refused {}: {} connections already, for {} cameras", peer_of(socket.get()), running_.size(),
                     options_.cameras);
        rejected_++;
        return {};
    }
    Result<Decoder> decoder = Decoder::open();
    if (!decoder) {
        return decoder.error();
    }
    Running& running = running_.emplace_back();
    // The thread's own token ends one connection; the receiver's ends all.
    running.thread = std::jthread(
        [this, &running, taken = std::move(socket), codec = std::move(*decoder)](const std::stop_token& own) mutable {
            std::stop_source either;
            std::stop_callback on_own(own, [&either] { either.request_stop(); });
            std::stop_callback on_all(stop_, [&either] { either.request_stop(); });
            running.stream = std::make_unique<Stream>(std::move(taken), std::move(codec), options_, either.get_token(),
                                                      [this](uint16_t camera) { return claim(camera); });
            while (running.stream->step()) {
            }
            running.over = true;
            uint64_t one = 1;
            [[maybe_unused]] ssize_t written = write(over_event_.get(), &one, sizeof one);
        });
    return {};
}

bool Receiver::claim(uint16_t camera) {
    std::lock_guard lock(mutex_);
    return claimed_.emplace(camera, true).second;
}

// Joins connections that are over, or all.
void Receiver::reap(bool all) {
    for (auto at = running_.begin(); at != running_.end();) {
        if (!all && !at->over) {
            ++at;
            continue;
        }
        at->thread.join();
        const Stream& stream = *at->stream;
        const StreamStats& stats = stream.stats();
        if (stream.claimed()) {
            if (!stats.error.empty()) {
                spdlog::log(stop_.stop_requested() ? spdlog::level::info : spdlog::level::err,
                            "camera {}: {}; {} frames lost", stats.camera, stats.error, stats.frames_lost());
            }
            finished_.push_back(stats);
        } else {
            spdlog::error("refused {}: {}", stats.peer, stats.error);
            rejected_++;
        }
        at = running_.erase(at);
    }
}

std::vector<StreamStats> Receiver::streams() const {
    std::vector<StreamStats> sorted = finished_;
    std::sort(sorted.begin(), sorted.end(),
              [](const StreamStats& a, const StreamStats& b) { return a.camera < b.camera; });
    return sorted;
}

}  // namespace adapath::video
