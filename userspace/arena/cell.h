// The data of the arena: what one cell of the matrix is made of, and what is measured in it.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "codegen/trace/trace.h"

namespace adapath::arena {

using Json = nlohmann::ordered_json;

// Where the capacity comes from. For a recorded trace the seed moves the beginning; a generated one is made from it.
struct TraceSource {
    enum class Kind { file, generated, constant };
    Kind kind = Kind::file;
    std::string name;      // for people, and of the file without its directory
    std::string path;      // of a file
    double mean_mbit = 0;  // generated and constant ones
};

// A source with a seed: the very trace that a link begins with.
struct SeededTrace {
    std::string name;
    std::string hash;  // hex SHA-256 over its lines
    uint64_t seed = 1;
    Trace trace;
};

struct LinkSettings {
    double delay_ms = 20;    // each way
    double queue_ms = 1000;  // droptail, at the trace's mean rate
    double down_mbit = 50;   // the way back
    double loss = 0;         // on the air, each way
};

struct VideoSettings {
    std::string clip;                // path
    std::string clip_hash;           // hex SHA-256 over the file
    Json programs = Json::object();  // hashes of sender and receiver, by name
    std::string size = "512x384";
    double fps = 25;
    double min_kbps = 300;
    double max_kbps = 6000;
};

// A link that becomes another one and later again the one that it was: what learning is worth. Equal times of each:
// a constant rate; the same mean, but served for a part of each period only, as by a scheduler with many users (the
// checkpoint does badly there); the constant rate again.
struct RegimeSettings {
    double phase_s = 180;
    double mbit = 12;
    double period_ms = 300;
    double served_ms = 100;
    unsigned flows = 4;
};

// Many flows at once on a fast link, as behind a proxy: what deciding for each of them costs.
struct CrowdSettings {
    unsigned flows = 100;
    double queue_ms = 200;  // of the link, for this traffic alone
};

enum class Traffic { bulk, video, fairness, regimes, crowd };
[[nodiscard]] inline const char* name_of(Traffic traffic) {
    switch (traffic) {
        case Traffic::bulk:
            return "bulk";
        case Traffic::video:
            return "video";
        case Traffic::fairness:
            return "fairness";
        case Traffic::regimes:
            return "regimes";
        case Traffic::crowd:
            break;
    }
    return "crowd";
}

// Everything that a cell's figures depend on; the key is made of nothing else.
struct CellInputs {
    Traffic traffic = Traffic::bulk;
    std::string trace;
    std::string trace_hash;
    uint64_t seed = 1;
    std::string policy;  // in fairness both, joined by '+'
    // What a policy is made of besides its name: hashes of checkpoint and programs by name. The kernel's own have none.
    Json policy_parts = Json::object();
    double seconds = 60;
    LinkSettings link;
    uint64_t queue_bytes = 0;        // that queue_ms comes to
    std::string kernel;              // its release
    double second_flow_after_s = 0;  // fairness
    std::optional<VideoSettings> video;
    std::optional<RegimeSettings> regimes;
    unsigned crowd_flows = 0;  // crowd
    unsigned bulk_flows = 1;   // that share the link, as a gateway's cameras do; bulk
    // Threads of normal priority that compute all the while, beside the policies' daemons.
    unsigned busy = 0;
    // For so long the policies' daemons stand still, beginning after a third of the time; bulk. 0 = they do not.
    unsigned daemon_stops_s = 0;
};

// The whole seconds of a cell in which the daemons stand still: [from, to); none where they are equal.
struct Standstill {
    size_t from_s = 0;
    size_t to_s = 0;
};
[[nodiscard]] inline Standstill standstill_of(const CellInputs& inputs) {
    if (inputs.daemon_stops_s == 0) {
        return {};
    }
    const auto from_s = static_cast<size_t>(inputs.seconds / 3);
    return {.from_s = from_s, .to_s = from_s + inputs.daemon_stops_s};
}

// One second of a link, or of a flow where that is said.
struct Second {
    double to_s = 0;
    uint64_t capacity_bytes = 0;
    uint64_t delivered_bytes = 0;            // out of the link, IP
    std::vector<uint64_t> received_bytes{};  // by each flow's receiver, TCP payload
    double delay_p50_ms = 0;
    double delay_p95_ms = 0;
    uint64_t queue_bytes = 0;  // at its end
    uint64_t drops = 0;
};

}  // namespace adapath::arena
