// The server's end: accepts one TCP connection a camera, decodes every frame and measures what became of it. Each
// connection has a thread of its own, so a slow or malformed one costs the others nothing.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "codegen/result.h"
#include "userspace/video/decoder.h"
#include "userspace/video/delays.h"
#include "userspace/video/framing.h"
#include "userspace/video/net.h"

namespace adapath::video {

// What became of one frame. All times CLOCK_MONOTONIC.
struct FrameRecord {
    uint16_t camera = 0;
    bool key = false;
    uint32_t picture = 0;  // of the clip
    uint64_t frame = 0;
    uint64_t sent_ns = 0;      // captured at the sender
    uint64_t received_ns = 0;  // last byte read
    uint64_t decoded_ns = 0;   // 0: it could not be decoded
    uint32_t bytes = 0;        // payload
};

// One camera, since its connection began.
struct StreamStats {
    uint16_t camera = 0;
    std::string peer;
    uint64_t frames_sent = 0;  // as the end record says; without one, as far as frames were announced
    uint64_t frames_received = 0;
    uint64_t frames_decoded = 0;
    uint64_t frames_late = 0;     // decoded later than the limit after capture
    uint64_t frames_skipped = 0;  // by the sender, before encoding: not lost
    uint64_t bytes = 0;           // payloads
    Delays delay;                 // capture to decoded
    uint64_t stalls = 0;          // gaps between decoded frames longer than the limit
    uint64_t stall_ns = 0;        // their total length
    uint64_t longest_gap_ns = 0;
    uint64_t first_ns = 0;  // first and last frame decoded
    uint64_t last_ns = 0;
    bool ended = false;  // by the end record
    std::string error;   // why it ended otherwise

    [[nodiscard]] uint64_t frames_lost() const { return frames_sent - frames_received; }
    [[nodiscard]] uint64_t frames_undecoded() const { return frames_received - frames_decoded; }
};

// The last second of one camera.
struct StreamInterval {
    uint64_t now_ns = 0;
    uint64_t ns = 0;  // length
    uint64_t frames_decoded = 0;
    uint64_t bytes = 0;
    Delays delay;
};

struct ReceiverOptions {
    HostPort listen;
    unsigned cameras = 1;  // ends when so many have ended
    uint64_t late_ns = 400'000'000;
    uint64_t stall_ns = 500'000'000;
    // Called on the connections' threads, possibly several at once. `picture` is valid during the call; null if
    // undecodable.
    std::function<void(const FrameRecord& record, const AVFrame* picture)> on_frame;
    std::function<void(const StreamStats& stats, const StreamInterval& interval)> on_second;
};

// One connection.
class Stream {
public:
    // `claim` says whether this connection may be that camera (it is not one already).
    Stream(Fd socket, Decoder decoder, const ReceiverOptions& options, const std::stop_token& stop,
           std::function<bool(uint16_t)> claim);

    // Waits for data, reads once, decodes what it completed. False when the connection is over; stats().error says why
    // if not by the end record.
    bool step();
    [[nodiscard]] const StreamStats& stats() const { return stats_; }
    [[nodiscard]] bool claimed() const { return claimed_; }  // it sent a valid header

private:
    Result<bool> read();
    Status take_frame(const adp_video_header& header, std::span<const uint8_t> payload, uint64_t received_ns);
    void note_gap(uint64_t now);
    void report(uint64_t now);
    void close_books();

    Fd socket_;
    Decoder decoder_;
    const ReceiverOptions& options_;
    std::stop_token stop_;
    StopWake wake_;
    std::function<bool(uint16_t)> claim_;
    FrameReader reader_;
    StreamStats stats_;
    StreamInterval interval_;
    uint64_t interval_start_ns_;
    uint64_t opened_ns_;
    bool claimed_ = false;
    bool over_ = false;
};

class Receiver {
public:
    static Result<std::unique_ptr<Receiver>> listen(const ReceiverOptions& options, const std::stop_token& stop);
    ~Receiver();

    // Waits for a connection or the end of one. False when all cameras have ended or the token is stopped; then every
    // thread is joined.
    Result<bool> step();

    [[nodiscard]] uint16_t port() const { return local_port(socket_.get()); }
    // Complete after step() returned false: cameras in order of their number.
    [[nodiscard]] std::vector<StreamStats> streams() const;
    // Connections that were no camera's: malformed from the start, silent, or of a camera that was here already.
    [[nodiscard]] uint64_t rejected() const { return rejected_; }

private:
    struct Running {
        std::unique_ptr<Stream> stream;
        std::atomic<bool> over = false;
        std::jthread thread;
    };

    Receiver(const ReceiverOptions& options, Fd socket, Fd over, const std::stop_token& stop);
    Status accept_one();
    void reap(bool all);
    bool claim(uint16_t camera);

    ReceiverOptions options_;
    Fd socket_;
    Fd over_event_;  // written by a connection's thread as it ends
    std::stop_token stop_;
    StopWake wake_;
    std::mutex mutex_;
    std::map<uint16_t, bool> claimed_;  // cameras that have or had a connection; under mutex_
    std::list<Running> running_;
    std::vector<StreamStats> finished_;
    uint64_t rejected_ = 0;
};

}  // namespace adapath::video
