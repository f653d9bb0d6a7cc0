// One camera of the sender.
#include "userspace/video/camera.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <poll.h>
#include <sys/socket.h>

#include <fmt/format.h>
#include <spdlog/spdlog.h>

namespace adapath::video {

namespace {

constexpr uint64_t second_ns = 1'000'000'000;
// For the last frame and the end record to reach the receiver, whatever the link's backlog; then the stream counts as
// broken.
constexpr uint64_t drain_ns = 5 * second_ns;

timespec to_timespec(uint64_t ns) { return {static_cast<time_t>(ns / second_ns), static_cast<long>(ns % second_ns)}; }

}  // namespace

Result<std::unique_ptr<Camera>> Camera::connect(const CameraOptions& options, const Clip& clip, const HostPort& server,
                                                const ConnectOptions& connection, const std::stop_token& stop,
                                                std::function<void(const CameraStats&)> report) {
    Result<std::unique_ptr<LiveEncoder>> encoder =
        options.encoder(options.camera, clip.size(), options.rate.fps, RateController(options.rate).kbps());
    if (!encoder) {
        return encoder.error();
    }
    Result<std::unique_ptr<StreamFormat>> format = options.format(options.camera, clip.size());
    if (!format) {
        return format.error();
    }
    Fd socket;
    if (options.destination == nullptr) {
        Result<Fd> connected = connect_tcp(server, connection, stop);
        if (!connected) {
            return Error{fmt::format("camera {}: {}", options.camera, connected.error().message)};
        }
        socket = std::move(*connected);
    } else if (Status known = check_congestion_control(connection.congestion_control); !known) {
        // A mistake, not a server that is away: no later attempt would mend it.
        return known.error();
    }
    return std::unique_ptr<Camera>(new Camera(options, clip, connection, std::move(socket), std::move(*encoder),
                                              std::move(*format), stop, std::move(report)));
}

Camera::Camera(const CameraOptions& options, const Clip& clip, const ConnectOptions& connection, Fd socket,
               std::unique_ptr<LiveEncoder> encoder, std::unique_ptr<StreamFormat> format, const std::stop_token& stop,
               std::function<void(const CameraStats&)> report)
    : options_(options),
      clip_(clip),
      socket_(std::move(socket)),
      encoder_(std::move(encoder)),
      format_(std::move(format)),
      rate_(options.rate),
      stop_(stop),
      wake_(stop),
      report_(std::move(report)),
      interval_ns_(static_cast<uint64_t>(1e9 / options.rate.fps)) {
    stats_.camera = options.camera;
    if (options.destination != nullptr) {
        redial_.emplace(options.camera, *options.destination, connection, options.redial);
        stats_.link.emplace();
    } else {
        stats_.local_port = local_port(socket_.get());
        stats_.congestion_control = congestion_control_of(socket_.get());
    }
    stats_.target_kbps = rate_.kbps();
}

Result<bool> Camera::step() {
    if (phase_ == Phase::done) {
        return false;
    }
    if (stats_.start_ns == 0) {
        // Not when connecting: the other cameras may take their time to connect too.
        stats_.start_ns = now_ns();
        next_tick_ns_ = stats_.start_ns + options_.start_delay_ns;
        next_report_ns_ = stats_.start_ns + second_ns;
        if (!redial_) {
            queue(format_->hello(), false);
        }
    }
    Result<bool> more = step_phase();
    if (!more || !*more) {
        observe();
        if (!more) {
            stats_.error = more.error().message;
        }
        stats_.end_ns = now_ns();
        phase_ = Phase::done;
        socket_.reset();
        if (report_) {
            report_(stats_);
        }
    }
    return more;
}

Result<bool> Camera::step_phase() {
    if (phase_ == Phase::draining) {
        return drain();
    }
    uint64_t end_ns = options_.duration_ns == 0 ? UINT64_MAX : stats_.start_ns + options_.duration_ns;
    if (stop_.stop_requested() || next_tick_ns_ >= end_ns) {
        phase_ = Phase::draining;
        drain_until_ns_ = now_ns() + drain_ns;
        return true;
    }
    return frame();
}

Result<bool> Camera::frame() {
    Result<Wake> woken = wait(next_tick_ns_, false);
    if (!woken) {
        return woken.error();
    }
    if (*woken == Wake::stopped) {
        return true;
    }

    uint64_t capture_ns = now_ns();
    uint64_t picture = options_.first_picture + ticks_;
    ticks_++;
    next_tick_ns_ += interval_ns_;
    observe();
    RateInput input;
    input.now_ns = capture_ns;
    // What the encoder means to wait is no sign of a slow link. While it explains all of the backlog, the picture is
    // encoded and waits behind it, so that a key frame costs no pictures.
    const uint64_t unsent = stats_.process_bytes + stats_.tcp.notsent_bytes;
    const uint64_t planned = encoder_->planned_backlog(stats_.target_kbps, capture_ns);
    const bool may_wait = planned > 0 && unsent <= planned;
    input.unsent_bytes = unsent - std::min(unsent, planned);
    input.delivery_rate = stats_.tcp.delivery_rate;
    input.app_limited = stats_.tcp.app_limited;
    input.srtt_us = stats_.tcp.srtt_us;

    if (socket_.valid() && !may_wait) {
        woken = wait(next_tick_ns_, true);
        if (!woken) {
            return woken.error();
        }
        if (*woken == Wake::stopped) {
            return true;
        }
        input.skipped = *woken == Wake::time;
    }
    if (socket_.valid()) {
        stats_.target_kbps = rate_.update(input);
    }
    if (!socket_.valid()) {
        stats_.link->frames_away++;
    } else if (input.skipped) {
        stats_.frames_skipped++;
    } else {
        Result<EncodedFrame> encoded = encoder_->encode(clip_.picture(picture), stats_.target_kbps, capture_ns);
        if (!encoded) {
            return encoded.error();
        }
        adp_video_header header{};
        header.camera = options_.camera;
        header.frame = stats_.frames_encoded;
        header.capture_ns = capture_ns;
        header.payload = static_cast<uint32_t>(encoded->bytes.size());
        header.skipped = static_cast<uint32_t>(stats_.frames_skipped + stats_.frames_overrun);
        header.picture = static_cast<uint32_t>(picture % clip_.pictures());
        header.flags = encoded->key ? ADP_VIDEO_KEY : 0;
        Result<std::vector<uint8_t>> record = format_->frame(header, encoded->bytes);
        if (!record) {
            return record.error();
        }
        queue(std::move(*record), true);
        stats_.frames_encoded++;
        stats_.qp_sum += static_cast<uint64_t>(std::max(encoded->qp, 0));
        if (Status sent = flush(); !sent) {
            return sent.error();
        }
    }

    uint64_t now = now_ns();
    if (now > next_tick_ns_ + interval_ns_) {
        uint64_t missed = (now - next_tick_ns_) / interval_ns_;
        stats_.frames_overrun += missed;
        ticks_ += missed;
        next_tick_ns_ += missed * interval_ns_;
    }
    report_if_due(now);
    return true;
}

Result<Camera::Wake> Camera::wait(uint64_t until_ns, bool for_writable) {
    for (;;) {
        uint64_t now = now_ns();
        if (redial_) {
            connect_again(now);
        }
        const bool away = !socket_.valid();
        bool sending = pending_at_ < pending_.size();
        short events = static_cast<short>(POLLRDHUP | (sending || for_writable || away ? POLLOUT : 0));
        pollfd fds[2] = {{away ? redial_->fd() : socket_.get(), events, 0}, {wake_.fd(), POLLIN, 0}};
        const uint64_t due_ns = redial_ ? std::min(until_ns, redial_->due_ns()) : until_ns;
        timespec timeout = to_timespec(due_ns > now ? due_ns - now : 0);
        int ready = ppoll(fds, 2, &timeout, nullptr);
        if (ready < 0 && errno != EINTR) {
            return Error{fmt::format("camera {}: poll: {}", options_.camera, errno_text(errno))};
        }
        if (ready > 0 && fds[1].revents != 0) {
            return Wake::stopped;
        }
        if (away) {
            // connect_again() looks at the attempt.
            if (now_ns() >= until_ns) {
                return Wake::time;
            }
            continue;
        }
        if (ready > 0 && (fds[0].revents & (POLLERR | POLLHUP | POLLRDHUP)) != 0) {
            const int error = socket_error(socket_.get());
            if (Status goes_on = lost(error != 0 ? errno_text(error) : "the receiver closed it"); !goes_on) {
                return goes_on.error();
            }
            continue;
        }
        if (ready > 0 && (fds[0].revents & POLLOUT) != 0) {
            if (!sending) {
                return Wake::writable;
            }
            if (Status sent = flush(); !sent) {
                return sent.error();
            }
            continue;
        }
        if (ready == 0 && now_ns() >= until_ns) {
            return Wake::time;
        }
    }
}

// As much as the socket takes now. TCP_NOTSENT_LOWAT cuts a large frame into several calls.
Status Camera::flush() {
    while (pending_at_ < pending_.size()) {
        ssize_t sent = send(socket_.get(), pending_.data() + pending_at_, pending_.size() - pending_at_,
                            MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            if (errno == EINTR) {
                continue;
            }
            if (errno == EAGAIN) {
                return {};
            }
            return lost(errno_text(errno));
        }
        pending_at_ += static_cast<size_t>(sent);
        stats_.bytes += static_cast<uint64_t>(sent);
        const auto unfinished = std::ranges::upper_bound(frame_ends_, pending_at_);
        stats_.frames_sent += static_cast<uint64_t>(unfinished - frame_ends_.begin());
        frame_ends_.erase(frame_ends_.begin(), unfinished);
    }
    return {};
}

void Camera::connect_again(uint64_t now) {
    Fd socket = redial_->step(now);
    if (!socket.valid()) {
        return;
    }
    socket_ = std::move(socket);
    stats_.local_port = local_port(socket_.get());
    stats_.congestion_control = congestion_control_of(socket_.get());
    encoder_->begin_anew();
    queue(format_->hello(), false);
}

Status Camera::lost(const std::string& why) {
    if (!redial_) {
        return Error{fmt::format("camera {}: the connection broke: {}", options_.camera, why)};
    }
    abandon();
    socket_.reset();
    stats_.tcp = {};
    redial_->broke(why, now_ns());
    return {};
}

void Camera::abandon() {
    stats_.link->frames_abandoned += frame_ends_.size();
    stats_.link->bytes_abandoned += pending_.size() - pending_at_;
    pending_.clear();
    pending_at_ = 0;
    frame_ends_.clear();
}

Result<bool> Camera::unconfirmed(const std::string& why) {
    if (!redial_) {
        return Error{fmt::format("camera {}: {}", options_.camera, why)};
    }
    // The server went while we did: nothing that could be mended.
    abandon();
    spdlog::warn("camera {}: {}", options_.camera, why);
    return false;
}

// The frame under way goes first; then the end record. The receiver closes when it has read that.
Result<bool> Camera::drain() {
    if (Status sent = flush(); !sent) {
        return sent.error();
    }
    if (!socket_.valid()) {
        return false;  // nobody is there to be told
    }
    if (pending_at_ == pending_.size() && !ending_) {
        queue_end();
        if (Status sent = flush(); !sent) {
            return sent.error();
        }
        if (!socket_.valid()) {
            return false;
        }
        if (pending_at_ == pending_.size()) {
            shutdown(socket_.get(), SHUT_WR);
        }
    }
    bool sending = pending_at_ < pending_.size();
    uint64_t now = now_ns();
    if (now >= drain_until_ns_) {
        return unconfirmed(fmt::format("the receiver did not confirm the end within {} s", drain_ns / second_ns));
    }
    pollfd fd = {socket_.get(), static_cast<short>(sending ? POLLOUT : POLLIN), 0};
    timespec timeout = to_timespec(drain_until_ns_ - now);
    int ready = ppoll(&fd, 1, &timeout, nullptr);
    if (ready < 0 && errno != EINTR) {
        return Error{fmt::format("camera {}: poll: {}", options_.camera, errno_text(errno))};
    }
    if (ready <= 0) {
        return true;
    }
    if (sending) {
        if (Status sent = flush(); !sent) {
            return sent.error();
        }
        if (socket_.valid() && ending_ && pending_at_ == pending_.size()) {
            shutdown(socket_.get(), SHUT_WR);
        }
        return true;
    }
    char byte = 0;
    ssize_t got = recv(socket_.get(), &byte, sizeof byte, MSG_DONTWAIT);
    if (got < 0 && errno != EAGAIN && errno != EINTR) {
        return unconfirmed(fmt::format("the connection broke before the end was confirmed: {}", errno_text(errno)));
    }
    stats_.ended = got == 0;
    return got != 0;
}

// Behind what is still to be sent.
void Camera::queue(std::vector<uint8_t> record, bool frame) {
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<std::ptrdiff_t>(pending_at_));
    for (size_t& end : frame_ends_) {
        end -= pending_at_;
    }
    pending_at_ = 0;
    pending_.insert(pending_.end(), record.begin(), record.end());
    if (frame) {
        frame_ends_.push_back(pending_.size());
    }
}

void Camera::queue_end() {
    adp_video_header header{};
    header.camera = options_.camera;
    header.frame = stats_.frames_encoded;
    header.capture_ns = now_ns();
    header.skipped = static_cast<uint32_t>(stats_.frames_skipped + stats_.frames_overrun);
    header.flags = ADP_VIDEO_END;
    queue(format_->end(header), false);
    ending_ = true;
}

void Camera::observe() {
    if (socket_.valid()) {
        stats_.tcp = tcp_state(socket_.get());
    }
    stats_.process_bytes = pending_.size() - pending_at_;
    if (redial_) {
        stats_.link->connected = socket_.valid();
        stats_.link->connections = redial_->connections();
        stats_.link->failures = redial_->failures();
    }
    stats_.regions = encoder_->regions();
}

void Camera::report_if_due(uint64_t now) {
    if (now < next_report_ns_) {
        return;
    }
    while (next_report_ns_ <= now) {
        next_report_ns_ += second_ns;
    }
    observe();
    if (report_) {
        report_(stats_);
    }
}

}  // namespace adapath::video
