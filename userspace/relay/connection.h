// One camera's TCP connection to the server, and the queue before it (record.h). Nothing here waits: the owner calls in
// when the socket is ready and several times a second.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <vector>

#include <adapath/select.h>

#include "userspace/relay/chunk_filter.h"
#include "userspace/video/destination.h"
#include "userspace/video/net.h"
#include "userspace/video/retry.h"

namespace adapath::relay {

using video::Destination;
using video::SocketAddress;

struct ConnectionOptions {
    std::string gateway;                         // name, as in the hello
    std::string congestion_control = "adapath";  // empty: the kernel's default
    // Bytes. What is in the socket can't be dropped any more when it gets late, and there are as many as cameras: 16
    // KiB each were 2.6 s of a bad uplink's time. Not less than two segments: TCP would take itself to be short of
    // data.
    int notsent_lowat = 4 * 1024;
    size_t queue_bytes = 1 << 20;   // a rendition's, before the socket
    uint64_t queue_us = 1'000'000;  // age of the oldest packet in it; sub_patience times as long for a sub stream
    // A picture that waited so long comes too late for whoever watches: it is dropped from the queue, and the rest of
    // its chunk, which would need it. 0: never. Less what it waits in the socket and on the way, it is the age at which
    // a picture is worth nothing any more.
    uint64_t late_us = 800'000;
    uint64_t retry_least_us = 200'000;  // until the first attempt to connect again
    uint64_t retry_most_us = 5'000'000;
    uint64_t connect_us = 10'000'000;  // an attempt may take
};

class Connection {
public:
    enum class State : uint8_t {
        idle,     // nothing has come yet
        waiting,  // until the next attempt
        connecting,
        open,
    };
    struct Counters {
        uint64_t connections = 0;
        uint64_t failures = 0;         // attempts that failed, and connections that broke
        uint64_t records = 0;          // given to the socket, whole
        uint64_t bytes = 0;            // given to the socket
        uint64_t abandoned = 0;        // records that were in the queue when a connection broke
        uint64_t abandoned_bytes = 0;  // of them
        uint64_t late = 0;             // records that waited too long
        uint64_t late_bytes = 0;       // of them
        uint64_t late_main_bytes = 0;  // of them, the main stream's
    };
    // What the connection did since the last look at it.
    struct Progress {
        uint64_t delivered = 0;  // bytes that the server's kernel acknowledged
        uint64_t backlog = 0;    // bytes: in the queue and in the socket
        bool open = false;
        bool busy = false;     // there was more to send at both ends of the time
        bool stalled = false;  // it is the server that does not read; no fault of the uplink's
        uint32_t min_rtt_us = 0;
        video::TcpState tcp;
    };

    // The destination outlives it. `epoll`: where it registers its socket, with `tag`.
    Connection(uint16_t camera, const ConnectionOptions& options, Destination& destination, int epoll, uint64_t tag);

    // By what waits of the rendition itself: a main stream that waits costs sub nothing.
    [[nodiscard]] Pressure pressure(adp_select_rendition rendition, uint64_t now_us) const;
    // A packet that the pressure allows; connects only after wake(). `begins_chunk`: the first one of a chunk.
    void push(adp_select_rendition rendition, uint8_t flags, uint64_t received_us, std::span<const uint8_t> packet,
              uint64_t now_us, bool begins_chunk);
    // Drops what waited too long, and of its chunk what comes after it. The renditions (a set, as in select.h) whose
    // newest chunk lost its end: nothing more of it may come. Of a picture some packets may be gone already: the rest
    // goes all the same. It would be sent seconds later, when those that gain more leave room, and nobody could use it.
    [[nodiscard]] uint32_t drop_late(uint64_t now_us);
    // The camera lives: connects, should nothing have done so yet.
    void wake(uint64_t now_us);
    // Sends what the socket takes, as long as it holds less than `in_flight_most` bytes that are not acknowledged, and
    // tells how many it then holds.
    enum class Part : uint8_t { all, all_but_main };
    uint64_t flush(uint64_t in_flight_most = ~uint64_t{0}, Part part = Part::all);
    // What waits first of the main stream belongs to a chunk of which something was sent.
    [[nodiscard]] bool main_begun() const { return begun(lane_main); }
    // The last flush() left something in the queue for that limit, not for the socket's.
    [[nodiscard]] bool held() const { return held_; }
    // Not acknowledged yet, by the socket.
    [[nodiscard]] uint64_t in_flight() const;
    void on_events(uint32_t events, uint64_t now_us);
    void tick(uint64_t now_us);
    // Goes up when a connection or an attempt ends, or takes too long: what was queued is lost, and chunks have to
    // begin anew.
    [[nodiscard]] uint64_t losses() const { return losses_; }
    Progress progress(uint64_t since_us);

    // No more packets; the END record goes behind what is queued.
    void finish(uint64_t now_us);
    // All that was queued is in the socket.
    [[nodiscard]] bool drained() const { return state_ != State::open || queued_bytes_ == 0; }
    void close();

    [[nodiscard]] State state() const { return state_; }
    [[nodiscard]] const Counters& counters() const { return counters_; }
    [[nodiscard]] size_t queued_bytes() const { return queued_bytes_; }
    [[nodiscard]] uint64_t queue_age_us(uint64_t now_us) const;

private:
    struct Record {
        std::vector<uint8_t> bytes;
        uint64_t queued_us = 0;
        bool begins_chunk = false;
    };
    // What waits for the socket, in the order in which it goes: a sub stream is small, and the less it waits behind a
    // main stream's pictures the more it is worth where those come too late.
    enum Lane : uint8_t { lane_hello, lane_sub, lane_main, lane_end, lanes };
    [[nodiscard]] uint64_t patience(Lane lane) const { return lane == lane_sub ? sub_patience : 1; }
    // Of the chunk that the lane's first record belongs to something was sent.
    [[nodiscard]] bool begun(Lane lane) const;
    // A record that waited so long is late.
    [[nodiscard]] uint64_t late_us(Lane lane, bool begun) const;
    static Lane lane_of(uint32_t rendition) { return rendition == ADP_SELECT_SUB ? lane_sub : lane_main; }

    void append(Lane lane, Record record);
    // Of one rendition: whether its newest chunk lost its end.
    bool drop_late(Lane lane, uint64_t now_us);
    void connect(uint64_t now_us);
    void opened(uint64_t now_us);
    void abandon_queue();
    void fail(const std::string& why, uint64_t now_us);
    void want_write(bool on);
    // The lane whose first record goes next.
    [[nodiscard]] Lane next_lane() const;
    void set_congestion_control();

    const uint16_t camera_;
    const ConnectionOptions& options_;
    Destination& destination_;
    const int epoll_;
    const uint64_t tag_;

    State state_ = State::idle;
    video::Fd fd_;
    uint64_t deadline_us_ = 0;  // of the attempt, or until the next one
    video::Retry retry_;
    size_t next_address_ = 0;
    uint64_t losses_ = 0;
    bool armed_ = false;  // for EPOLLOUT
    bool held_ = false;

    std::array<std::deque<Record>, lanes> queues_;
    size_t queued_bytes_ = 0;  // of all lanes
    std::array<size_t, lanes> lane_bytes_{};
    // A record that is half in the socket: its lane's first, so many bytes of it. It ends before anything else goes.
    Lane under_way_ = lane_hello;
    size_t sent_of_first_ = 0;
    std::array<uint64_t, lanes> latest_us_{};  // of the records' times

    Counters counters_;
    // For progress(): of the present connection.
    uint64_t written_ = 0;
    uint64_t acknowledged_ = 0;
    uint64_t stalled_us_ = 0;
    bool was_busy_ = false;
};

}  // namespace adapath::relay
