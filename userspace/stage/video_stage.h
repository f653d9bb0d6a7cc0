// The whole video path of the app select on one machine, every program the real one: cameras in a namespace of their
// own, a gateway with adapathd and adapath-relay, an emulated uplink, and adapath-server behind it. For experiments and
// the demo.
//
//   cameras (adapath-camera) --veth--> gateway (tc: select; adapath-relay) --uplink--> server (adapath-server)
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "codegen/result.h"
#include "codegen/trace/trace.h"
#include "userspace/common/stop.h"
#include "userspace/harness/child.h"
#include "userspace/harness/daemon_client.h"
#include "userspace/harness/daemon_side.h"
#include "userspace/linkem/netns.h"
#include "userspace/linkem/uplink.h"

namespace adapath {

struct VideoStageOptions {
    std::string name = "stage";  // for messages, and of the gateway to the server
    std::string bin;             // directory of Adapath's programs
    std::string work;            // directory for logs, state and results; emptied
    std::string certificates;    // directory of scripts/certificates.sh: for the server, and a gateway of this name
    UplinkOptions uplink;        // its prefix: also of the name of adapathd's pins
    uint32_t cameras = 4;
    std::string congestion_control = "cubic";  // of the relay's connections
    double patience = 1;                       // factor on every wait for a program

    std::vector<std::string> camera_arguments;  // what they play
    // By camera, a set as in select.h: which of its renditions the gateway takes at all. Empty: both of each.
    std::vector<uint32_t> renditions;
    std::vector<std::string> relay_arguments;
    std::vector<std::string> server_arguments;
    std::string daemon_config;                   // more of adapathd's configuration
    std::string snapshot;                        // bytes; decides from the start. Empty: the fallback does
    std::vector<std::string> trainer_arguments;  // of adapath-trainer; empty: none runs
};

// Certificates for stages with these names, by scripts/certificates.sh (`script`), into `directory`: VideoStageOptions
// has it then. What the script says goes to DIRECTORY.log.
Status make_stage_certificates(const std::string& script, const std::string& directory,
                               const std::vector<std::string>& names);

// Where the programs put what they measured.
struct VideoStageFiles {
    std::string relay;   // JSON lines, one a second
    std::string server;  // JSON lines, one a chunk
    std::string camera_log;
    std::string state;  // adapathd's: for `adapathctl verify --app select`
    std::string log;    // directory
};

class VideoStage {
public:
    // Everything but the cameras runs when this returns: the daemon answers, the server listens, the relay is there.
    static Result<std::unique_ptr<VideoStage>> create(Trace up, const VideoStageOptions& options, StopToken& stop);
    // In the opposite order, whatever state it is in.
    ~VideoStage();
    VideoStage(const VideoStage&) = delete;
    VideoStage& operator=(const VideoStage&) = delete;

    // The cameras begin to encode what they play, which takes them a while.
    Status launch_cameras();
    // Waits until they send: then the link's trace begins.
    Status start();
    // An error where a program has ended that should not have.
    Status alive();
    // Cameras first, then relay and server, each given time to hand on what it has; results are whole afterwards.
    Status finish();

    [[nodiscard]] DaemonClient& daemon() { return *client_; }
    [[nodiscard]] const VideoStageFiles& files() const { return files_; }
    [[nodiscard]] Uplink& uplink() { return *uplink_; }
    [[nodiscard]] const std::string& daemon_socket() const { return socket_; }
    // CLOCK_MONOTONIC when the link's trace began; 0 = not yet.
    [[nodiscard]] uint64_t started_us() const { return started_us_; }

private:
    VideoStage(const VideoStageOptions& options, StopToken& stop);
    Status set_up(Trace up);
    Status make_network(Trace up);
    Status start_daemon();
    Status start_trainer();
    Status start_server();
    Status start_relay();
    Result<Child> start(const char* program, std::vector<std::string> arguments, const Namespace& where,
                        bool read_output);
    [[nodiscard]] std::string log_of(const char* program) const { return files_.log + "/" + program + ".log"; }
    [[nodiscard]] std::chrono::milliseconds patient(double seconds) const;
    Status end(std::optional<Child>& child, double seconds);

    const VideoStageOptions options_;
    StopToken& stop_;
    VideoStageFiles files_;
    std::string pins_;
    std::string config_;
    std::string socket_;
    uint64_t started_us_ = 0;

    // In the order in which they are made, so that they go in the opposite one.
    std::optional<ShortDirectory> socket_directory_;
    std::optional<Namespace> lan_;
    std::unique_ptr<Uplink> uplink_;
    std::optional<Child> daemon_;
    std::unique_ptr<DaemonClient> client_;
    std::optional<Child> trainer_;
    std::optional<Child> server_;
    std::optional<Child> relay_;
    std::optional<Child> cameras_;
};

}  // namespace adapath
