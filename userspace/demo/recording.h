// Everything that one run of the demo saw, as passive data: what summary.h sums up and report.h draws. All times are
// CLOCK_MONOTONIC, microseconds, as the kernel's samples have them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace adapath::demo {

// One decision (or fallback interval) of one flow, from the daemon's sample stream.
struct SamplePoint {
    uint64_t time_us = 0;
    uint64_t flow = 0;
    uint32_t seq = 0;
    uint32_t generation = 0;  // 0 = no network decided
    uint32_t flags = 0;       // of adp_cc_sample
    uint64_t rate = 0;        // bytes/s after the action
    uint32_t interval_us = 0;
    uint32_t rtt_us = 0;
    uint64_t delivered_bytes = 0;  // in the interval
    uint32_t lost = 0;             // packets, in the interval
    float reward = 0;              // of the interval that ended here: earned by decision seq - 1
};

// One statistics line of the link emulator: sums since the line before.
struct LinkPoint {
    uint64_t time_us = 0;
    uint64_t capacity_bytes = 0;
    uint64_t delivered_bytes = 0;
    uint64_t queue_bytes = 0;  // at that time
    uint64_t drops = 0;
};

struct FramePoint {
    uint32_t camera = 0;
    uint64_t frame = 0;
    uint64_t captured_us = 0;
    uint64_t decoded_us = 0;
};

enum class SwitchKind : uint8_t { first, parameter, network, trained, bad, rollback };

struct SwitchPoint {
    uint64_t time_us = 0;
    SwitchKind kind = SwitchKind::parameter;
    uint32_t generation = 0;
    uint32_t from_generation = 0;
    bool network_changed = false;
    bool forced_burst = false;  // one of the 20 a second
    double switch_us = 0;       // the flip
    std::string hash;
    std::string text;
};

struct Phase {
    uint64_t start_us = 0;
    uint64_t end_us = 0;
    std::string name;
};

// What sender and receiver counted, over all cameras.
struct VideoTotals {
    bool present = false;  // the local backend has no video
    uint64_t frames_sent = 0;
    uint64_t frames_received = 0;
    uint64_t frames_decoded = 0;
    uint64_t frames_late = 0;
    uint64_t frames_lost = 0;
    uint64_t frames_skipped = 0;  // not encoded, the socket being full: nothing was lost
    uint64_t stalls = 0;
    uint64_t bytes = 0;
};

// The daemon's counters at the end. Switches include the first, from the fallback to the checkpoint.
struct Counters {
    uint64_t decisions = 0;
    uint64_t fallbacks = 0;
    uint64_t samples = 0;
    uint64_t samples_lost = 0;
    uint64_t sequence_gaps = 0;
    uint64_t decisions_explained = 0;
    uint64_t decisions_unexplained = 0;
    uint64_t switches_parameter = 0;
    uint64_t switches_network = 0;
    uint64_t switches_trained = 0;
    uint64_t rollbacks = 0;
    uint64_t installs_refused = 0;
    uint64_t resident_bytes = 0;
    uint64_t acks = 0;
};

// `adapathctl verify` over the log on disk, at the end.
struct Verification {
    bool ran = false;
    uint64_t decisions = 0;
    uint64_t unexplained = 0;
    std::string error;  // why it did not run
};

// The forced parts of the scenario.
struct Forced {
    uint64_t burst_start_us = 0;
    uint64_t burst_end_us = 0;
    uint32_t burst_wanted = 0;
    uint32_t burst_done = 0;
    uint32_t network_generation = 0;  // 0 = it was never active
    uint64_t bad_us = 0;              // the adversarial snapshot was active from here ..
    uint32_t bad_generation = 0;
    uint64_t rolled_back_us = 0;        // .. to here; 0 = never rolled back
    std::vector<std::string> failures;  // what could not be done, with the reason
};

struct Settings {
    double duration_s = 60;
    uint32_t cameras = 4;
    std::string backend = "bpf";
    std::string link;  // for people: "LTE-like, seed 7, mean 8 Mbit/s"
    std::string clip;
    uint64_t seed = 0;
    std::string congestion_control;
    std::string kernel;
    std::string version;
    std::string date;
    unsigned switch_rate = 20;  // forced parameter switches a second
};

// A picture for the report, as the file's bytes.
struct PngPicture {
    std::string caption;
    std::string bytes;
};

// The app select at work on its own cameras: which rendition of each was let onto the uplink.
struct SelectDecision {
    uint64_t time_us = 0;
    uint32_t camera = 0;  // its place in the configuration
    uint32_t choice = 0;  // set of renditions, as in select.h
    uint32_t flags = 0;   // of adp_select_sample
    uint32_t generation = 0;
    double price = 0;  // accuracy for 1 MiB/s
};
// What the server made of one chunk.
struct SelectChunkPoint {
    uint64_t time_us = 0;
    uint32_t camera = 0;
    uint32_t rendition = 0;
    double sub_worth = -1;  // where both renditions came: F1 of sub against main; else below 0
};
struct SelectRecording {
    bool present = false;
    std::string error;  // why there is nothing, or not all
    uint64_t start_us = 0;
    uint64_t end_us = 0;
    uint32_t cameras = 0;
    std::vector<SelectDecision> decisions;
    std::vector<SelectChunkPoint> chunks;
    std::vector<LinkPoint> link;
    std::vector<PngPicture> pictures;
    Counters counters;
    Verification verification;
    uint64_t pictures_decoded = 0;  // at the server
    uint64_t pictures_undecodable = 0;
    uint64_t pictures_incomplete = 0;
};

// The app qp at work in an encoder's process.
struct QpRecording {
    bool present = false;
    std::string error;  // why there is nothing, or not all
    double share = 0;   // of the drawn picture's macroblocks that get the high quality
    uint64_t frames_sent = 0;
    uint64_t frames_decoded = 0;
    uint64_t bytes = 0;
    Counters counters;
    Verification verification;
    std::vector<PngPicture> pictures;
};

struct Recording {
    Settings settings;
    uint64_t start_us = 0;  // video begins
    uint64_t end_us = 0;    // the sender stops
    bool interrupted = false;
    std::vector<SamplePoint> samples;
    uint64_t samples_dropped = 0;  // the demo's own stream was too slow for (they are in the daemon's log all the same)
    std::vector<LinkPoint> link;
    std::vector<FramePoint> frames;
    std::vector<SwitchPoint> switches;
    std::vector<Phase> phases;
    VideoTotals video;
    Counters counters;
    Verification verification;
    Forced forced;
    SelectRecording select;
    QpRecording qp;
    std::vector<std::string> errors;  // processes that died and the like
};

}  // namespace adapath::demo
