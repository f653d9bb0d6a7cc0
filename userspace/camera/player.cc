// Sends encoded cameras as RTP over UDP in real time.
#include "userspace/camera/player.h"

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <ctime>
#include <memory>
#include <optional>

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <fmt/format.h>

#include "userspace/camera/rtp_muxer.h"
#include "userspace/video/net.h"

namespace adapath::camera {

namespace {

using video::Fd;

// Later than this (a machine that slept, a debugger) the pictures in between are not sent in a burst.
constexpr uint64_t late_ns = 1'000'000'000;
constexpr double rtp_clock = 90000;

using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

Result<Addresses> resolve(const std::string& host, const std::string& port, int flags) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_DGRAM;
    hints.ai_flags = flags;
    addrinfo* found = nullptr;
    if (int error = getaddrinfo(host.c_str(), port.c_str(), &hints, &found); error != 0) {
        return Error{fmt::format("cannot resolve {}: {}", host, gai_strerror(error))};
    }
    return Addresses(found, &freeaddrinfo);
}

Result<Fd> open_socket(const Route& route, uint16_t port) {
    Result<Addresses> to = resolve(route.host, std::to_string(port), 0);
    if (!to) {
        return to.error();
    }
    std::optional<Addresses> from;
    if (!route.source.empty()) {
        Result<Addresses> parsed = resolve(route.source, "0", AI_NUMERICHOST);
        if (!parsed) {
            return parsed.error();
        }
        from = std::move(*parsed);
    }
    std::string last = "no address of the same family as its source";
    for (const addrinfo* at = to->get(); at != nullptr; at = at->ai_next) {
        if (from && (*from)->ai_family != at->ai_family) {
            continue;
        }
        Fd fd(socket(at->ai_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (!fd.valid()) {
            last = video::errno_text(errno);
            continue;
        }
        if (from && bind(fd.get(), (*from)->ai_addr, (*from)->ai_addrlen) != 0) {
            return Error{fmt::format("cannot send from {}: {}: give the address to an interface first", route.source,
                                     video::errno_text(errno))};
        }
        if (connect(fd.get(), at->ai_addr, at->ai_addrlen) == 0) {
            return fd;
        }
        last = video::errno_text(errno);
    }
    return Error{fmt::format("cannot send to {}:{}: {}", route.host, port, last)};
}

// Waits until then; false when stopped.
bool wait_until(uint64_t when_ns, int stop_fd) {
    for (;;) {
        const uint64_t now = video::now_ns();
        if (now >= when_ns) {
            pollfd fd = {stop_fd, POLLIN, 0};
            return poll(&fd, 1, 0) <= 0;
        }
        const uint64_t left = when_ns - now;
        const timespec timeout{static_cast<time_t>(left / 1'000'000'000), static_cast<long>(left % 1'000'000'000)};
        pollfd fd = {stop_fd, POLLIN, 0};
        if (ppoll(&fd, 1, &timeout, nullptr) > 0) {
            return false;
        }
    }
}

// One rendition on its way.
struct Sending {
    const EncodedRendition* rendition = nullptr;
    Fd fd;
    std::optional<RtpMuxer> muxer;
};

struct Playing {
    std::array<Sending, ADP_SELECT_RENDITIONS> renditions;
    uint64_t picture = 0;     // that is under way
    uint64_t picture_ns = 0;  // when it began
    uint64_t next_ns = 0;     // when its next packet is due
    uint64_t gap_ns = 0;      // between its packets
    size_t next = 0;
    std::vector<std::pair<uint32_t, std::vector<uint8_t>>> packets;  // rendition and bytes, in the order of sending
};

class Player {
public:
    Player(const PlayOptions& options, std::vector<Playing> cameras)
        : options_(options), cameras_(std::move(cameras)), totals_(cameras_.size()) {}

    Result<std::vector<PlayTotals>> run(const std::stop_token& stop) {
        video::StopWake wake(stop);
        const uint64_t start = video::now_ns();
        const uint64_t end = options_.duration_s > 0 ? start + static_cast<uint64_t>(options_.duration_s * 1e9) : ~0ULL;
        for (size_t i = 0; i < cameras_.size(); i++) {
            // Real cameras don't take their pictures at the same moment, nor begin their chunks at it.
            cameras_[i].picture_ns = start + static_cast<uint64_t>(static_cast<double>(i) * options_.group * 1e9 /
                                                                   options_.fps / static_cast<double>(cameras_.size()));
            if (Status begun = begin_picture(cameras_[i]); !begun) {
                return begun.error();
            }
        }
        for (;;) {
            const auto due = std::ranges::min_element(cameras_, {}, &Playing::next_ns);
            if (due->next_ns >= end) {
                (void)wait_until(end, wake.fd());
                return totals_;
            }
            if (!wait_until(due->next_ns, wake.fd())) {
                return totals_;
            }
            const uint64_t now = video::now_ns();
            if (now > due->next_ns + late_ns) {
                const uint64_t by = now - due->next_ns;
                for (Playing& camera : cameras_) {
                    camera.picture_ns += by;
                    camera.next_ns += by;
                }
                totals_[static_cast<size_t>(due - cameras_.begin())].resyncs++;
            }
            if (Status sent = send_due(*due, totals_[static_cast<size_t>(due - cameras_.begin())]); !sent) {
                return sent.error();
            }
        }
    }

private:
    [[nodiscard]] uint64_t time_ns(uint64_t pictures) const {
        return static_cast<uint64_t>(static_cast<double>(pictures) * 1e9 / options_.fps);
    }

    // Both renditions' packets, the smaller rendition's among the larger one's, as two encoders that work at once give
    // them.
    Status begin_picture(Playing& camera) {
        camera.packets.clear();
        camera.next = 0;
        std::array<size_t, ADP_SELECT_RENDITIONS> counts{};
        const auto ticks =
            static_cast<int64_t>(std::llround(static_cast<double>(camera.picture) * rtp_clock / options_.fps));
        for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; which++) {
            Sending& sending = camera.renditions[which];
            const auto at = static_cast<uint32_t>(camera.picture % sending.rendition->pictures());
            auto packets = sending.muxer->packets(sending.rendition->access_unit(at), ticks);
            if (!packets) {
                return packets.error();
            }
            counts[which] = packets->size();
            for (const std::vector<uint8_t>& packet : *packets) {
                camera.packets.emplace_back(which, packet);
            }
        }
        std::vector<double> places;
        for (const size_t count : counts) {
            for (size_t i = 0; i < count; i++) {
                places.push_back(static_cast<double>(i) / static_cast<double>(count));
            }
        }
        std::vector<size_t> order(camera.packets.size());
        for (size_t i = 0; i < order.size(); i++) {
            order[i] = i;
        }
        std::ranges::stable_sort(order, {}, [&](size_t i) { return places[i]; });
        std::vector<std::pair<uint32_t, std::vector<uint8_t>>> sorted;
        sorted.reserve(order.size());
        for (const size_t i : order) {
            sorted.push_back(std::move(camera.packets[i]));
        }
        camera.packets = std::move(sorted);
        camera.gap_ns = static_cast<uint64_t>(options_.spread * 1e9 / options_.fps /
                                              static_cast<double>(std::max<size_t>(camera.packets.size(), 1)));
        camera.next_ns = camera.picture_ns;
        return {};
    }

    Status send_due(Playing& camera, PlayTotals& totals) {
        if (camera.next < camera.packets.size()) {
            const auto& [which, packet] = camera.packets[camera.next];
            const int fd = camera.renditions[which].fd.get();
            ssize_t sent = ::send(fd, packet.data(), packet.size(), 0);
            if (sent < 0 && errno == ECONNREFUSED) {  // an answer to an earlier one: nobody listened then
                sent = ::send(fd, packet.data(), packet.size(), 0);
            }
            totals.packets[which]++;
            totals.bytes[which] += packet.size();
            totals.unsent += sent < 0 ? 1 : 0;
            camera.next++;
            camera.next_ns += camera.gap_ns;
        }
        if (camera.next < camera.packets.size()) {
            return {};
        }
        for (uint64_t& pictures : totals.pictures) {
            pictures++;
        }
        camera.picture_ns += time_ns(camera.picture + 1) - time_ns(camera.picture);
        camera.picture++;
        return begin_picture(camera);
    }

    PlayOptions options_;
    std::vector<Playing> cameras_;
    std::vector<PlayTotals> totals_;
};

}  // namespace

Result<std::string> address_plus(const std::string& base, unsigned number) {
    std::array<uint8_t, 16> bytes{};
    size_t length = 0;
    int family = 0;
    if (inet_pton(AF_INET, base.c_str(), bytes.data()) == 1) {
        family = AF_INET;
        length = 4;
    } else if (inet_pton(AF_INET6, base.c_str(), bytes.data()) == 1) {
        family = AF_INET6;
        length = 16;
    } else {
        return Error{fmt::format("'{}' is not an IPv4 or IPv6 address", base)};
    }
    uint64_t carry = number;
    for (size_t i = length; i-- > 0 && carry > 0;) {
        carry += bytes[i];
        bytes[i] = static_cast<uint8_t>(carry);
        carry >>= 8;
    }
    if (carry > 0) {
        return Error{fmt::format("{} plus {} is beyond the last address", base, number)};
    }
    char text[INET6_ADDRSTRLEN] = "";
    inet_ntop(family, bytes.data(), text, sizeof text);
    return std::string(text);
}

Result<std::vector<PlayTotals>> play(const std::vector<EncodedCamera>& cameras, const std::vector<Route>& routes,
                                     const PlayOptions& options, const std::stop_token& stop) {
    if (cameras.empty() || routes.size() != cameras.size()) {
        return Error{fmt::format("{} cameras with {} routes", cameras.size(), routes.size())};
    }
    if (!(options.fps > 0 && options.fps <= 1000) || !(options.spread >= 0 && options.spread <= 1)) {
        return Error{
            fmt::format("{} frames per second (above 0, at most 1000), spread over {} of a picture's time (0 "
                        "to 1)",
                        options.fps, options.spread)};
    }
    std::vector<Playing> playing(cameras.size());
    for (size_t i = 0; i < cameras.size(); i++) {
        for (uint32_t which = 0; which < ADP_SELECT_RENDITIONS; which++) {
            Sending& sending = playing[i].renditions[which];
            sending.rendition = &cameras[i].renditions[which];
            if (sending.rendition->pictures() == 0) {
                return Error{fmt::format("camera {} has no pictures", i)};
            }
            Result<Fd> fd = open_socket(routes[i], routes[i].ports[which]);
            if (!fd) {
                return fd.error();
            }
            sending.fd = std::move(*fd);
            RtpOptions rtp;
            rtp.payload_type = options.payload_type;
            rtp.ssrc = routes[i].ssrcs[which];
            // They may start anywhere, and do, in cameras. Near the end, so that they wrap soon: what can't bear it
            // fails early.
            rtp.sequence = static_cast<uint16_t>(65000 + 97 * i + which);
            rtp.timestamp = 0xfff00000U + static_cast<uint32_t>(i) * 12345U;
            rtp.packet_bytes = options.packet_bytes;
            Result<RtpMuxer> muxer = RtpMuxer::open(rtp, cameras[i].view.sizes[which]);
            if (!muxer) {
                return muxer.error();
            }
            sending.muxer = std::move(*muxer);
        }
    }
    return Player(options, std::move(playing)).run(stop);
}

}  // namespace adapath::camera
