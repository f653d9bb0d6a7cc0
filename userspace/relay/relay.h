// The gateway's end of the video uplink: RTP from the cameras' UDP ports, each camera's on a TCP connection of its own
// to the server, and the uplink's price from how that goes. One thread, which waits for nothing but events; a camera
// whose connection stands still has a full queue of its own, and nothing else.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stop_token>
#include <string>
#include <vector>

#include <sys/socket.h>

#include "codegen/result.h"
#include "userspace/relay/cameras.h"
#include "userspace/relay/chunk_filter.h"
#include "userspace/adapathd/measured_mean.h"
#include "userspace/relay/price.h"
#include "userspace/relay/connection.h"
#include "userspace/video/destination.h"
#include "userspace/video/net.h"
#include "userspace/video/report.h"

namespace adapath::relay {

struct RelayOptions {
    std::vector<RelayCamera> cameras;
    std::string listen;  // address of the cameras' side; empty: all
    video::HostPort server;
    ConnectionOptions connection;
    PriceOptions price;
    // What all sockets together may hold that is not acknowledged yet: as much as the uplink carries in a round trip
    // and so long, s (and two segments for each sub stream). What waits there can't be dropped when it gets late, and
    // sub can't go before main. 0: no limit. Less than 0.05 leaves too little to delayed acknowledgements.
    double in_flight_s = 0.08;
    uint64_t grace_us = 2'000'000;  // for what is queued to go, at the end
};

class Relay {
public:
    // Called from run(), about ten times a second. `cameras`: that share the uplink.
    using MarketSink = std::function<void(const Price& price, unsigned cameras)>;
    // Called from run(), once a second.
    using StatsSink = std::function<void(const video::Json& line)>;

    static Result<std::unique_ptr<Relay>> open(const RelayOptions& options);
    Relay(const Relay&) = delete;
    Relay& operator=(const Relay&) = delete;
    ~Relay();

    void set_market_sink(MarketSink sink) { market_sink_ = std::move(sink); }
    void set_stats_sink(StatsSink sink) { stats_sink_ = std::move(sink); }

    // What the server measured of a camera: its main pictures go before those of cameras that gain less for a byte.
    // From any thread.
    void set_measured(size_t camera, double sub_worth, double gain);
    // Until the token is stopped: then each connection gets what is queued and its END record.
    Status run(const std::stop_token& stop);
    [[nodiscard]] video::Json summary() const;

private:
    // What came from the camera's address to its ports.
    struct CameraCounters {
        std::array<uint64_t, ADP_SELECT_RENDITIONS> packets = {};  // RTP of the payload type
        std::array<uint64_t, ADP_SELECT_RENDITIONS> bytes = {};    // of these
        uint64_t others = 0;                                       // other payload types, RTCP, what is not RTP
        uint64_t malformed = 0;
    };
    struct Camera {
        RelayCamera config;
        std::array<ChunkFilter, ADP_SELECT_RENDITIONS> filters;
        CameraCounters counters;
        std::unique_ptr<Connection> connection;
        uint64_t losses_seen = 0;
        // Of the main stream, at the last step of the price.
        uint64_t main_bytes_seen = 0;
        uint64_t late_bytes_seen = 0;
        uint32_t picture = 0;      // main's newest, its timestamp ...
        double picture_bytes = 0;  // ... and so far its size
        bool picture_idr = false;  // ... and whether a chunk begins with it
        double usual_picture = 0;  // bytes of a main picture, mean of the last dozens; 0: none came
        double usual_rest = 0;     // the same without the IDR pictures
        // Accuracy for a byte, as last measured: of a chunk that is to begin, and of the rest of one that has begun.
        double gain_per_byte = 0;
        double gain_of_rest = 0;
        uint64_t delivered_us = 0;  // when something of it was last acknowledged
        bool stuck = false;         // nothing of it moves: the server does not read, or the connection is dead
        uint64_t in_flight = 0;     // within send()
        uint64_t heard_us = 0;
        uint64_t offered = 0;  // bytes since the last step of the price
        bool touched = false;  // has something to flush
        Connection::Progress last;
        uint64_t second_delivered = 0;
    };
    struct Port {
        video::Fd fd;
        int family = 0;
        uint16_t number = 0;
        uint32_t overflows = 0;  // the kernel's count of what found the socket's buffer full
    };
    struct Destined {
        size_t camera = 0;
        adp_select_rendition rendition = ADP_SELECT_SUB;
    };
    // Family, port, address.
    using SourceKey = std::array<uint8_t, 19>;
    struct Batch;

    explicit Relay(const RelayOptions& options);
    Status open_ports();
    static SourceKey key_of(int family, uint16_t port, const uint8_t* address);
    void receive(Port& port);
    void on_packet(const Port& port, const sockaddr_storage& from, std::span<const uint8_t> packet,
                   uint64_t received_us, uint64_t now_us);
    void notice_losses(Camera& camera);
    void drop_late(Camera& camera, uint64_t now);
    void note_picture(Camera& camera, uint32_t timestamp, uint32_t bytes, bool idr);
    void weigh_gains(uint64_t now_us);
    void sort_by_gain();
    void limit_in_flight(double min_rtt_s, double srtt_s, double seconds);
    void send();
    void step(uint64_t now_us);
    void report(uint64_t now_us);
    void end(uint64_t now_us);
    video::Json camera_json(const Camera& camera, uint64_t now_us) const;

    const RelayOptions options_;
    video::Fd epoll_;
    video::Fd timer_;
    video::Fd pacer_;  // until more may be in flight
    std::vector<Port> ports_;
    std::map<SourceKey, Destined> sources_;
    std::unique_ptr<Destination> destination_;
    std::vector<Camera> cameras_;
    std::unique_ptr<Batch> batch_;
    PriceController controller_;
    Price price_;
    uint64_t in_flight_most_ = 0;  // bytes, of all sockets; 0: as they like
    double path_s_ = 0;            // a round trip without what our own bytes wait in it
    size_t turn_ = 0;              // the camera that sends first
    std::vector<size_t> by_gain_;  // cameras, those first whose main pictures gain most for a byte
    std::mutex measured_mutex_;
    struct Measured {
        MeasuredMean mean;
        uint64_t us = 0;  // when; 0: never
    };
    std::vector<Measured> measured_;  // of each camera
    uint64_t strangers_ = 0;          // packets from addresses that are no camera's
    uint64_t stepped_us_ = 0;
    uint64_t reported_us_ = 0;
    MarketSink market_sink_;
    StatsSink stats_sink_;
};

}  // namespace adapath::relay
