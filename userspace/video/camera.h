// One camera of the sender: a clip played at its own offset, x264, one TCP connection, and the control that ties the
// encoder's bitrate to what the socket takes. A frame is encoded only when the socket wants data: what would be stale
// is skipped before it costs anything, and what was encoded is always sent, unless the connection breaks.
//
// A connection that breaks ends the stream; or, with a destination, is made again. Until then nothing is encoded, and
// then the video goes on with what the camera sees, from a key frame: nothing old is sent later.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "userspace/video/clip.h"
#include "userspace/video/live_encoder.h"
#include "userspace/video/net.h"
#include "userspace/video/rate_controller.h"
#include "userspace/video/redial.h"
#include "userspace/video/stream_format.h"

namespace adapath::video {

struct CameraOptions {
    uint16_t camera = 0;
    RateOptions rate;             // with the frames per second
    uint64_t first_picture = 0;   // of the clip
    uint64_t start_delay_ns = 0;  // before the first frame: spreads the cameras over a frame time
    uint64_t duration_ns = 0;     // 0: until stopped
    LiveEncoderFactory encoder = open_plain_encoder;
    StreamFormatFactory format = open_framing;
    // The server, where connections are to be made again and again, the first one too; outlives the camera.
    Destination* destination = nullptr;
    RedialOptions redial;
};

// Of connections that are made again. What a socket held when its connection broke is not known to have arrived; it is
// not counted.
struct LinkStats {
    bool connected = false;
    uint64_t connections = 0;
    uint64_t failures = 0;          // attempts that failed, connections that broke
    uint64_t frames_away = 0;       // not encoded, while there was no connection
    uint64_t frames_abandoned = 0;  // encoded, and not whole in the socket when the connection broke
    uint64_t bytes_abandoned = 0;   // of them, not in the socket
};

// Counters since the start; the rest as last seen.
struct CameraStats {
    uint16_t camera = 0;
    uint16_t local_port = 0;
    std::string congestion_control;
    uint64_t frames_encoded = 0;
    uint64_t frames_sent = 0;     // handed to the kernel whole
    uint64_t frames_skipped = 0;  // before encoding: the socket took nothing for a frame time
    uint64_t frames_overrun = 0;  // before encoding: this process was late by a whole frame time (CPU, not network)
    uint64_t bytes = 0;           // handed to the kernel, with headers
    double target_kbps = 0;
    uint64_t qp_sum = 0;                 // over frames_encoded
    uint64_t process_bytes = 0;          // of the last frame, not handed to the kernel yet
    std::optional<RegionStats> regions;  // where the encoder has them
    std::optional<LinkStats> link;       // where connections are made again
    TcpState tcp;                        // of the present one
    uint64_t start_ns = 0;               // of the first step()
    uint64_t end_ns = 0;
    bool ended = false;  // the end record was sent and the receiver closed after it
    std::string error;   // why the stream ended early
};

class Camera {
public:
    // With a destination in the options, it connects in step() only, and to that one.
    // `report` is called once a second and once at the end, on the thread that calls step(). `clip` must outlive the
    // camera.
    static Result<std::unique_ptr<Camera>> connect(const CameraOptions& options, const Clip& clip,
                                                   const HostPort& server, const ConnectOptions& connection,
                                                   const std::stop_token& stop,
                                                   std::function<void(const CameraStats&)> report);

    // One frame: waits until it is due, sends or skips it. False when the stream has ended (duration, stop), the end
    // record is delivered and the connection closed. An error ends the stream too.
    Result<bool> step();
    [[nodiscard]] const CameraStats& stats() const { return stats_; }
    // The encoder's, as long as this camera; null where it heeds none. For any thread.
    [[nodiscard]] EncoderRequests* requests() { return encoder_->requests(); }

private:
    enum class Phase : uint8_t { streaming, draining, done };
    enum class Wake : uint8_t { time, writable, stopped };

    Camera(const CameraOptions& options, const Clip& clip, const ConnectOptions& connection, Fd socket,
           std::unique_ptr<LiveEncoder> encoder, std::unique_ptr<StreamFormat> format, const std::stop_token& stop,
           std::function<void(const CameraStats&)> report);

    Result<bool> step_phase();
    Result<bool> frame();
    Result<bool> drain();
    // Sends what is pending meanwhile.
    Result<Wake> wait(uint64_t until_ns, bool for_writable);
    Status flush();
    void connect_again(uint64_t now);
    // What is pending, when its connection is no more.
    void abandon();
    // An error where no other connection is to follow.
    Status lost(const std::string& why);
    // The end record, or its confirmation, did not get through.
    Result<bool> unconfirmed(const std::string& why);
    void queue(std::vector<uint8_t> record, bool frame);
    void queue_end();
    void observe();
    void report_if_due(uint64_t now);

    CameraOptions options_;
    const Clip& clip_;
    Fd socket_;  // none: the server is away
    std::optional<Redial> redial_;
    std::unique_ptr<LiveEncoder> encoder_;
    std::unique_ptr<StreamFormat> format_;
    RateController rate_;
    std::stop_token stop_;
    StopWake wake_;
    std::function<void(const CameraStats&)> report_;
    CameraStats stats_;
    Phase phase_ = Phase::streaming;
    uint64_t interval_ns_;
    uint64_t next_tick_ns_ = 0;
    uint64_t next_report_ns_ = 0;
    uint64_t ticks_ = 0;
    std::vector<uint8_t> pending_;  // a frame or more, of which pending_at_ bytes are in the socket
    size_t pending_at_ = 0;
    std::vector<size_t> frame_ends_;  // in pending_; the end record has none
    bool ending_ = false;             // the end record is pending or sent
    uint64_t drain_until_ns_ = 0;
};

}  // namespace adapath::video
